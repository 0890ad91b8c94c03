//! Whose child a process is.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use cellkit_core::{Errno, sys};

/// waitid(2) P_PIDFD, without waiting and without taking the status: whether the process is a child of this one that has
/// not been waited for. Such a child's number is nobody else's.
pub(crate) fn is_own_child(pidfd: BorrowedFd<'_>) -> Result<bool, Errno> {
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    let args = [libc::P_PIDFD as usize, pidfd.as_raw_fd() as usize, 0, options as usize, 0, 0];
    // SAFETY: neither the information nor the usage is asked for: both pointers are null.
    match unsafe { sys::syscall(libc::SYS_waitid, args) } {
        Ok(_) => Ok(true),
        Err(Errno(libc::ECHILD)) => Ok(false),
        Err(errno) => Err(errno),
    }
}
