//! Mounts of single files and directories: what pins a namespace, and what seals a program.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use cellkit_core::Errno;
use cellkit_core::sys::{own, syscall};

/// open_tree(2): a mount of the file that `fd` is open on, attached nowhere.
pub(crate) fn clone_mount(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let tree = clone_raw(fd.as_raw_fd())?;
    // SAFETY: just returned by open_tree.
    Ok(unsafe { own(tree) })
}

/// As [`clone_mount`]. Child-safe.
pub(super) fn clone_raw(fd: RawFd) -> Result<RawFd, Errno> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as u32;
    let args = [fd as usize, c"".as_ptr() as usize, flags as usize, 0, 0, 0];
    // SAFETY: the path is an empty C string; the kernel only reads it.
    unsafe { syscall(libc::SYS_open_tree, args) }.map(|tree| tree as RawFd)
}

/// Attaches a mount that is attached nowhere, over what `target` is open on.
pub(crate) fn attach_mount(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    let empty = c"".as_ptr() as usize;
    let args = [tree.as_raw_fd() as usize, empty, target.as_raw_fd() as usize, empty, flags as usize, 0];
    // SAFETY: both paths are empty C strings; the kernel only reads them.
    unsafe { syscall(libc::SYS_move_mount, args) }.map(drop)
}

/// umount2(2) of what is on top at `path`, which is not followed if it is a link.
pub(crate) fn unmount(path: &CStr) -> Result<(), Errno> {
    let flags = libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW;
    // SAFETY: the path is a C string; the kernel only reads it.
    unsafe { syscall(libc::SYS_umount2, [path.as_ptr() as usize, flags as usize, 0, 0, 0, 0]) }.map(drop)
}

/// mount(2): binds `path` on itself, with all that is mounted below it.
pub(crate) fn bind_on_itself(path: &CStr) -> Result<(), Errno> {
    let flags = libc::MS_BIND | libc::MS_REC;
    let path = path.as_ptr() as usize;
    // SAFETY: the path, given twice, is a C string; the kernel only reads it. There are no type and no data.
    unsafe { syscall(libc::SYS_mount, [path, path, 0, flags as usize, 0, 0]) }.map(drop)
}

/// mount(2): makes the mount at `path` shared, and all below it.
pub(crate) fn make_shared(path: &CStr) -> Result<(), Errno> {
    let flags = libc::MS_SHARED | libc::MS_REC;
    // SAFETY: the path is a C string; the kernel only reads it. There are no source, type and data.
    unsafe { syscall(libc::SYS_mount, [0, path.as_ptr() as usize, 0, flags as usize, 0, 0]) }.map(drop)
}

/// mount_setattr(2) with MOUNT_ATTR_RDONLY.
pub(crate) fn make_read_only(mount: BorrowedFd<'_>) -> Result<(), Errno> {
    // struct mount_attr: what to set, what to clear, propagation, a user namespace.
    let attributes = [libc::MOUNT_ATTR_RDONLY, 0, 0, 0];
    let args = [
        mount.as_raw_fd() as usize,
        c"".as_ptr() as usize,
        libc::AT_EMPTY_PATH as usize,
        attributes.as_ptr() as usize,
        size_of_val(&attributes),
        0,
    ];
    // SAFETY: an empty C string, and a struct mount_attr as large as said; the kernel only reads them.
    unsafe { syscall(libc::SYS_mount_setattr, args) }.map(drop)
}

/// fstatfs(2): whether ST_RDONLY is among the flags, which are those of the mount too.
pub(crate) fn is_on_read_only_mount(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    // SAFETY: every field of a struct statvfs may be zero.
    let mut answer: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: fstatvfs writes one struct statvfs.
    if unsafe { libc::fstatvfs(fd.as_raw_fd(), &raw mut answer) } == -1 {
        return Err(Errno::last());
    }
    Ok(answer.f_flag & libc::ST_RDONLY != 0)
}
