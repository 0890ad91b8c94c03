//! The one thing here that no library offers safely: the size of a terminal's window.
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
