//! Network namespaces as files: what is asked of them, and the mounts that give them names.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use cellkit_core::Errno;
use cellkit_core::sys::syscall;

/// NS_GET_NSTYPE of `linux/nsfs.h`: which CLONE_NEW* flag makes such a namespace. ENOTTY for what is none.
pub(crate) fn namespace_type(fd: BorrowedFd<'_>) -> Result<i32, Errno> {
    const NS_GET_NSTYPE: usize = 0xb703;
    // SAFETY: this request takes no argument.
    unsafe { syscall(libc::SYS_ioctl, [fd.as_raw_fd() as usize, NS_GET_NSTYPE, 0, 0, 0, 0]) }.map(|flag| flag as i32)
}

/// PIDFD_GET_NET_NAMESPACE of `linux/pidfd.h`: the network namespace of a process. Linux 6.11.
pub(crate) fn of_pidfd(pidfd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    const PIDFD_GET_NET_NAMESPACE: usize = 0xff04;
    let args = [pidfd.as_raw_fd() as usize, PIDFD_GET_NET_NAMESPACE, 0, 0, 0, 0];
    // SAFETY: this request takes no argument.
    let fd = unsafe { syscall(libc::SYS_ioctl, args) }?;
    // SAFETY: just returned by the kernel, close-on-exec, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// open_tree(2): a mount of the file that `fd` is open on, attached nowhere.
pub(crate) fn clone_mount(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as u32;
    let args = [fd.as_raw_fd() as usize, c"".as_ptr() as usize, flags as usize, 0, 0, 0];
    // SAFETY: the path is an empty C string; the kernel only reads it.
    let tree = unsafe { syscall(libc::SYS_open_tree, args) }?;
    // SAFETY: just returned by the kernel, close-on-exec, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(tree as RawFd) })
}

/// move_mount(2): attaches a mount that is attached nowhere, over what `target` is open on.
pub(crate) fn attach_mount(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    let empty = c"".as_ptr() as usize;
    let args = [tree.as_raw_fd() as usize, empty, target.as_raw_fd() as usize, empty, flags as usize, 0];
    // SAFETY: both paths are empty C strings; the kernel only reads them.
    unsafe { syscall(libc::SYS_move_mount, args) }.map(drop)
}

/// umount2(2) of what is on top at `path`, in this and, as far as the mount is shared, other mount namespaces.
pub(crate) fn unmount(path: &CStr) -> Result<(), Errno> {
    let flags = libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW;
    // SAFETY: the path is a C string; the kernel only reads it.
    unsafe { syscall(libc::SYS_umount2, [path.as_ptr() as usize, flags as usize, 0, 0, 0, 0]) }.map(drop)
}

/// mount(2): binds a directory on itself, with all that is mounted below it.
pub(crate) fn bind_on_itself(path: &CStr) -> Result<(), Errno> {
    let flags = libc::MS_BIND | libc::MS_REC;
    let path = path.as_ptr() as usize;
    // SAFETY: the path, given twice, is a C string; the kernel only reads it. There are no type and no data.
    unsafe { syscall(libc::SYS_mount, [path, path, 0, flags as usize, 0, 0]) }.map(drop)
}

/// mount(2): makes the mount at `path` shared, and all below it. EINVAL where there is no mount.
pub(crate) fn make_shared(path: &CStr) -> Result<(), Errno> {
    let flags = libc::MS_SHARED | libc::MS_REC;
    // SAFETY: the path is a C string; the kernel only reads it. There are no source, type and data.
    unsafe { syscall(libc::SYS_mount, [0, path.as_ptr() as usize, 0, flags as usize, 0, 0]) }.map(drop)
}
