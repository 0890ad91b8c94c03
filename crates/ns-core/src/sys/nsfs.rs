//! The ioctl(2)s of namespace files.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use cellkit_core::Errno;
use cellkit_core::sys::{own, syscall};

/// `_IO(NSIO, nr)` and `_IOR(NSIO, nr, T)` of linux/nsfs.h.
const fn io(nr: usize, size: usize) -> usize {
    const NSIO: usize = 0xb7;
    let reads = if size == 0 { 0 } else { 2 << 30 };
    reads | size << 16 | NSIO << 8 | nr
}

const NS_GET_NSTYPE: usize = io(3, 0);
const NS_GET_OWNER_UID: usize = io(4, 0);
const NS_GET_MNTNS_ID: usize = io(5, size_of::<u64>());
const NS_MNT_GET_INFO: usize = io(10, size_of::<MountNsInfo>());

const NS_GET_USERNS: usize = io(1, 0);
const NS_GET_PARENT: usize = io(2, 0);
const NS_MNT_GET_NEXT: usize = io(11, size_of::<MountNsInfo>());
const NS_MNT_GET_PREV: usize = io(12, size_of::<MountNsInfo>());

/// A request that turns the number of a process or thread in one pid namespace into that in another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Translation(usize);

impl Translation {
    /// NS_GET_PID_FROM_PIDNS
    pub(crate) const PID_FROM: Self = Self(io(6, size_of::<i32>()));
    /// NS_GET_TGID_FROM_PIDNS
    pub(crate) const TGID_FROM: Self = Self(io(7, size_of::<i32>()));
    /// NS_GET_PID_IN_PIDNS
    pub(crate) const PID_IN: Self = Self(io(8, size_of::<i32>()));
    /// NS_GET_TGID_IN_PIDNS
    pub(crate) const TGID_IN: Self = Self(io(9, size_of::<i32>()));
}

/// `struct mnt_ns_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MountNsInfo {
    size: u32,
    pub(crate) mounts: u32,
    pub(crate) id: u64,
}

/// The CLONE_NEW* flag of a namespace.
pub(crate) fn namespace_type(fd: BorrowedFd<'_>) -> Result<i32, Errno> {
    // SAFETY: this request takes no argument.
    unsafe { syscall(libc::SYS_ioctl, [fd.as_raw_fd() as usize, NS_GET_NSTYPE, 0, 0, 0, 0]) }.map(|flag| flag as i32)
}

/// The user namespace that owns this one; of a user namespace, its parent. EPERM when the caller's is not above it.
pub(crate) fn owner(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    related(fd, NS_GET_USERNS)
}

/// The parent of a pid or user namespace. EPERM at the top and out of sight, EINVAL for other kinds.
pub(crate) fn parent(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    related(fd, NS_GET_PARENT)
}

/// The mount namespace that was made after this one. ENOENT for the last.
pub(crate) fn next_mount_ns(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    related(fd, NS_MNT_GET_NEXT)
}

/// The mount namespace that was made before this one. ENOENT for the first.
pub(crate) fn previous_mount_ns(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    related(fd, NS_MNT_GET_PREV)
}

fn related(fd: BorrowedFd<'_>, request: usize) -> Result<OwnedFd, Errno> {
    // The two about mount namespaces also tell about what they found.
    let mut info = MountNsInfo::default();
    let args = [fd.as_raw_fd() as usize, request, &raw mut info as usize, 0, 0, 0];
    // SAFETY: the first two requests take no argument, and the kernel writes one struct mnt_ns_info for the others.
    let fd = unsafe { syscall(libc::SYS_ioctl, args) }?;
    // SAFETY: just returned by the ioctl.
    Ok(unsafe { own(fd as RawFd) })
}

/// The uid that owns a user namespace, as the caller's user namespace has it.
pub(crate) fn owner_uid(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut uid = 0u32;
    let args = [fd.as_raw_fd() as usize, NS_GET_OWNER_UID, &raw mut uid as usize, 0, 0, 0];
    // SAFETY: the kernel writes one uid_t.
    unsafe { syscall(libc::SYS_ioctl, args) }?;
    Ok(uid)
}

/// The number of a mount namespace that is never given again.
pub(crate) fn mount_ns_id(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut id = 0u64;
    let args = [fd.as_raw_fd() as usize, NS_GET_MNTNS_ID, &raw mut id as usize, 0, 0, 0];
    // SAFETY: the kernel writes one u64.
    unsafe { syscall(libc::SYS_ioctl, args) }?;
    Ok(id)
}

pub(crate) fn mount_ns_info(fd: BorrowedFd<'_>) -> Result<MountNsInfo, Errno> {
    let mut info = MountNsInfo::default();
    let args = [fd.as_raw_fd() as usize, NS_MNT_GET_INFO, &raw mut info as usize, 0, 0, 0];
    // SAFETY: the kernel writes one struct mnt_ns_info, whose size is part of the request.
    unsafe { syscall(libc::SYS_ioctl, args) }?;
    Ok(info)
}

/// The number of a process or thread, translated.
pub(crate) fn translate(fd: BorrowedFd<'_>, translation: Translation, pid: i32) -> Result<i32, Errno> {
    let args = [fd.as_raw_fd() as usize, translation.0, pid as usize, 0, 0, 0];
    // SAFETY: the argument is a number, whatever the encoding of these requests says.
    unsafe { syscall(libc::SYS_ioctl, args) }.map(|pid| pid as i32)
}
