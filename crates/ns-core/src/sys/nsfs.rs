//! The requests that nsfs answers: who owns a namespace, and what is above it.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use cellkit_core::Errno;
use cellkit_core::sys::{own, syscall};

const NS_GET_USERNS: usize = 0xb701;
const NS_GET_PARENT: usize = 0xb702;
const NS_GET_OWNER_UID: usize = 0xb704;

/// The user namespace that owns this one; of a user namespace, its parent. EPERM when the caller's is not above it.
pub(crate) fn owner(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    related(fd, NS_GET_USERNS)
}

/// The parent of a pid or user namespace. EPERM at the top and out of sight, EINVAL for other kinds.
pub(crate) fn parent(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    related(fd, NS_GET_PARENT)
}

fn related(fd: BorrowedFd<'_>, request: usize) -> Result<OwnedFd, Errno> {
    // SAFETY: these requests take no argument.
    let fd = unsafe { syscall(libc::SYS_ioctl, [fd.as_raw_fd() as usize, request, 0, 0, 0, 0]) }?;
    // SAFETY: just returned by the ioctl.
    Ok(unsafe { own(fd as RawFd) })
}

/// The user who made a user namespace, in the caller's numbers. EINVAL for other kinds.
pub(crate) fn owner_uid(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut uid = 0u32;
    let args = [fd.as_raw_fd() as usize, NS_GET_OWNER_UID, std::ptr::from_mut(&mut uid) as usize, 0, 0, 0];
    // SAFETY: the kernel writes one uid_t.
    unsafe { syscall(libc::SYS_ioctl, args) }?;
    Ok(uid)
}
