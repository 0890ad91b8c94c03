//! flock(2): a lock that the kernel gives back when its last descriptor is closed, also by SIGKILL.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use cellkit_core::Errno;
use cellkit_core::sys::syscall;

/// Waits for the lock: LOCK_SH or LOCK_EX.
pub(crate) fn lock(fd: BorrowedFd<'_>, kind: i32) -> Result<(), Errno> {
    loop {
        match flock(fd, kind) {
            Err(Errno(libc::EINTR)) => {}
            answer => return answer,
        }
    }
}

/// Takes the lock, or answers that somebody else has it.
pub(crate) fn try_lock(fd: BorrowedFd<'_>, kind: i32) -> Result<bool, Errno> {
    match flock(fd, kind | libc::LOCK_NB) {
        Ok(()) => Ok(true),
        Err(Errno(libc::EWOULDBLOCK)) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn flock(fd: BorrowedFd<'_>, operation: i32) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { syscall(libc::SYS_flock, [fd.as_raw_fd() as usize, operation as usize, 0, 0, 0, 0]) }.map(drop)
}

/// syncfs(2): all that is written to the file system of `fd` is on its disk.
pub(crate) fn sync_file_system(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: no pointers.
    unsafe { syscall(libc::SYS_syncfs, [fd.as_raw_fd() as usize, 0, 0, 0, 0, 0]) }.map(drop)
}
