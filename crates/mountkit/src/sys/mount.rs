//! Mounts for the parent: calls that give and take owned descriptors.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use cellkit_core::Errno;
use cellkit_core::sys::own;

use super::RawMountAttr;

/// A detached copy of what `path` below `dir` (the working directory without one) is mounted from: open_tree(2) with
/// OPEN_TREE_CLONE. `flags` may add AT_RECURSIVE and AT_EMPTY_PATH.
pub(crate) fn clone_tree(dir: Option<BorrowedFd<'_>>, path: &CStr, flags: u32) -> Result<OwnedFd, Errno> {
    let dir = dir.map_or(libc::AT_FDCWD, |dir| dir.as_raw_fd());
    let fd = super::open_tree(dir, path, flags | libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC)?;
    // SAFETY: just returned by open_tree.
    Ok(unsafe { own(fd) })
}

/// mount_setattr(2) of the mount that `mount` is the root of, with `flags` (AT_EMPTY_PATH, AT_RECURSIVE).
pub(crate) fn set_attr(mount: &impl AsFd, flags: u32, attr: &RawMountAttr) -> Result<(), Errno> {
    super::mount_setattr(mount.as_fd().as_raw_fd(), c"", flags, attr)
}
