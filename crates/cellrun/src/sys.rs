//! What no library offers safely: the size of a terminal's window, and a signal's usual way.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use cellkit_core::Errno;

/// ioctl(2) TIOCGWINSZ on one terminal, TIOCSWINSZ on the other.
pub(crate) fn copy_window_size(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes one struct winsize.
    if unsafe { libc::ioctl(from.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) } == -1 {
        return Err(Errno::last());
    }
    // SAFETY: the kernel reads one struct winsize.
    if unsafe { libc::ioctl(to.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) } == -1 {
        return Err(Errno::last());
    }
    Ok(())
}

/// sigaction(2) of SIGCHLD to its default: children of a process that ignores it are reaped by the kernel, and their
/// exit statuses are lost.
pub(crate) fn watch_children() -> Result<(), Errno> {
    // SAFETY: the default disposition runs no code of ours, and this is a program, not a library: nobody else's it is.
    if unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) } == libc::SIG_ERR { Err(Errno::last()) } else { Ok(()) }
}
