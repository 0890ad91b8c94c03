//! What no library offers safely: the size of a terminal's window, and a signal's usual way.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use cellkit_core::Errno;

/// ioctl(2) TIOCGWINSZ: rows and columns.
pub(crate) fn window_size(terminal: BorrowedFd<'_>) -> Result<(u16, u16), Errno> {
    get(terminal).map(|size| (size.ws_row, size.ws_col))
}

fn get(terminal: BorrowedFd<'_>) -> Result<libc::winsize, Errno> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes one struct winsize.
    if unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) } == -1 {
        return Err(Errno::last());
    }
    Ok(size)
}

/// ioctl(2) TIOCGWINSZ on one terminal, TIOCSWINSZ on the other.
pub(crate) fn copy_window_size(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let size = get(from)?;
    // SAFETY: the kernel reads one struct winsize.
    if unsafe { libc::ioctl(to.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) } == -1 {
        return Err(Errno::last());
    }
    Ok(())
}

/// sigaction(2) of SIGCHLD to its default: children of a process that ignores it are reaped by the kernel, and their
/// exit statuses are lost. And SIGXFSZ is ignored: a limit on file sizes is an error of write(2), not the end.
pub(crate) fn settle_signals() -> Result<(), Errno> {
    // SAFETY: as below; nothing runs.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    // SAFETY: the default disposition runs no code of ours, and this is a program, not a library: nobody else's it is.
    if unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) } == libc::SIG_ERR { Err(Errno::last()) } else { Ok(()) }
}
