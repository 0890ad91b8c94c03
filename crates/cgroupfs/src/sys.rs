//! The one system call this crate makes that has no safe wrapper.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use cellkit_core::Errno;

/// pidfd_send_signal(2): SIGKILL to the process, safe against the reuse of its number.
pub(crate) fn kill_by_pidfd(pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
    let args = [pidfd.as_raw_fd() as usize, libc::SIGKILL as usize, 0, 0, 0, 0];
    // SAFETY: the descriptor is borrowed for the call, and the pointer to signal information is null.
    unsafe { cellkit_core::sys::syscall(libc::SYS_pidfd_send_signal, args) }.map(drop)
}
