//! The ioctl(2)s of pidfds and namespace files that are about user namespaces.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use cellkit_core::Errno;
use cellkit_core::sys::{own, syscall};

/// `_IO(PIDFS_IOCTL_MAGIC, 9)` of linux/pidfd.h.
const PIDFD_GET_USER_NAMESPACE: usize = 0xff09;
/// `_IO(NSIO, 3)` and `_IO(NSIO, 4)` of linux/nsfs.h.
const NS_GET_NSTYPE: usize = 0xb703;
const NS_GET_OWNER_UID: usize = 0xb704;

/// The user namespace of the process of a pidfd. ENOTTY before Linux 6.11.
pub(crate) fn of_pidfd(pidfd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let args = [pidfd.as_raw_fd() as usize, PIDFD_GET_USER_NAMESPACE, 0, 0, 0, 0];
    // SAFETY: this request takes no argument.
    let fd = unsafe { syscall(libc::SYS_ioctl, args) }?;
    // SAFETY: just returned by the ioctl.
    Ok(unsafe { own(fd as RawFd) })
}

/// The CLONE_NEW* flag of a namespace. ENOTTY for what is none.
pub(crate) fn kind(fd: BorrowedFd<'_>) -> Result<i32, Errno> {
    // SAFETY: this request takes no argument.
    unsafe { syscall(libc::SYS_ioctl, [fd.as_raw_fd() as usize, NS_GET_NSTYPE, 0, 0, 0, 0]) }.map(|flag| flag as i32)
}

/// The uid that owns a user namespace, as the caller's user namespace has it.
pub(crate) fn owner_uid(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut uid = 0u32;
    let args = [fd.as_raw_fd() as usize, NS_GET_OWNER_UID, &raw mut uid as usize, 0, 0, 0];
    // SAFETY: the kernel writes one uid_t.
    unsafe { syscall(libc::SYS_ioctl, args) }?;
    Ok(uid)
}

/// fstat(2): device and inode number.
pub(crate) fn id(fd: BorrowedFd<'_>) -> Result<(u64, u64), Errno> {
    let mut answer = std::mem::MaybeUninit::<libc::stat>::zeroed();
    // SAFETY: fstat writes one struct stat.
    if unsafe { libc::fstat(fd.as_raw_fd(), answer.as_mut_ptr()) } == -1 {
        return Err(Errno::last());
    }
    // SAFETY: zeroed, then filled; every bit pattern is a struct stat.
    let answer = unsafe { answer.assume_init() };
    #[allow(clippy::unnecessary_cast, reason = "the types differ between machines")]
    Ok((answer.st_dev as u64, answer.st_ino as u64))
}
