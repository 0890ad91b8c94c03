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

/// FSCONFIG_CMD_CREATE_EXCL, Linux 6.6.
pub(crate) const FSCONFIG_CMD_CREATE_EXCL: u32 = 8;

/// fsopen(2).
pub(crate) fn open_context(fs: &CStr) -> Result<OwnedFd, Errno> {
    let fd = cellkit_core::sys::fsopen(fs, libc::FSOPEN_CLOEXEC)?;
    // SAFETY: just returned by fsopen.
    Ok(unsafe { own(fd) })
}

/// fsmount(2) with MOUNT_ATTR_*, which are all in the lower half.
pub(crate) fn mount_context(context: &OwnedFd, attributes: u64) -> Result<OwnedFd, Errno> {
    let fd = cellkit_core::sys::fsmount(context.as_raw_fd(), libc::FSMOUNT_CLOEXEC, attributes as u32)?;
    // SAFETY: just returned by fsmount.
    Ok(unsafe { own(fd) })
}

/// What the kernel said in a file system context, and has not been asked for yet.
pub(crate) fn context_text(context: &OwnedFd) -> String {
    let mut text = [0; 1024];
    let length = super::context_log(context.as_raw_fd(), &mut text);
    String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned()
}

/// The first two numbers of uname(2)'s release.
pub(crate) fn kernel_release() -> Option<(u32, u32)> {
    let mut answer = std::mem::MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: the kernel writes one struct utsname.
    unsafe { cellkit_core::sys::syscall(libc::SYS_uname, [answer.as_mut_ptr() as usize, 0, 0, 0, 0, 0]) }.ok()?;
    // SAFETY: zeroed, then filled; every bit pattern is a struct utsname.
    let answer = unsafe { answer.assume_init() };
    let release: Vec<u8> = answer.release.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0).collect();
    version(std::str::from_utf8(&release).ok()?)
}

/// The first two numbers of `6.12.3-rc1`.
pub(crate) fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// FSPICK_CLOEXEC and FSPICK_EMPTY_PATH.
const PICK: u32 = 1 | 8;

/// fspick(2) of the file system that `root` is the root of a mount of.
pub(crate) fn pick(root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let args = [root.as_raw_fd() as usize, c"".as_ptr() as usize, PICK as usize, 0, 0, 0];
    // SAFETY: the path is a static empty string, which the kernel only reads.
    let fd = unsafe { cellkit_core::sys::syscall(libc::SYS_fspick, args) }?;
    // SAFETY: just returned by fspick.
    Ok(unsafe { own(fd as std::os::fd::RawFd) })
}

/// MOVE_MOUNT_BENEATH, Linux 6.5.
pub(crate) const MOVE_MOUNT_BENEATH: u32 = 0x200;

/// move_mount(2) of the mount that `from` is the root of, onto `to` itself; `flags` may add MOVE_MOUNT_BENEATH.
pub(crate) fn move_to(from: BorrowedFd<'_>, to: BorrowedFd<'_>, flags: u32) -> Result<(), Errno> {
    let empty = c"".as_ptr() as usize;
    let flags = flags | libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    let args = [from.as_raw_fd() as usize, empty, to.as_raw_fd() as usize, empty, flags as usize, 0];
    // SAFETY: both paths are a static empty string, which the kernel only reads.
    unsafe { cellkit_core::sys::syscall(libc::SYS_move_mount, args) }.map(drop)
}

/// Whether the kernel has MOVE_MOUNT_BENEATH: it looks at the flags before the descriptors.
pub(crate) fn knows_beneath() -> bool {
    let empty = c"".as_ptr() as usize;
    let flags = MOVE_MOUNT_BENEATH | libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are a static empty string, and no descriptor has this number.
    let answer = unsafe {
        cellkit_core::sys::syscall(libc::SYS_move_mount, [usize::MAX, empty, usize::MAX, empty, flags as usize, 0])
    };
    answer == Err(Errno(libc::EBADF))
}

/// All architectures number the calls since Linux 5.12 alike, from where their own tables ended.
const SYS_OPEN_TREE_ATTR: libc::c_long = libc::SYS_mount_setattr + 25;

/// As [`clone_tree`], with attributes from the beginning: open_tree_attr(2), Linux 6.15.
pub(crate) fn clone_tree_attr(
    dir: Option<BorrowedFd<'_>>,
    path: &CStr,
    flags: u32,
    attr: &RawMountAttr,
) -> Result<OwnedFd, Errno> {
    let dir = dir.map_or(libc::AT_FDCWD, |dir| dir.as_raw_fd());
    let flags = flags | libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    let (attr, size) = (std::ptr::from_ref(attr) as usize, size_of::<RawMountAttr>());
    let args = [dir as usize, path.as_ptr() as usize, flags as usize, attr, size, 0];
    // SAFETY: path ends in NUL and attr is as large as said; the kernel only reads them.
    let fd = unsafe { cellkit_core::sys::syscall(SYS_OPEN_TREE_ATTR, args) }?;
    // SAFETY: just returned by open_tree_attr.
    Ok(unsafe { own(fd as std::os::fd::RawFd) })
}

/// _IO(0xb7, 3): which kind of namespace a descriptor is of, as its CLONE_NEW* flag.
const NS_GET_NSTYPE: usize = 0xb703;

/// ioctl_nsfs(2) NS_GET_NSTYPE.
pub(crate) fn namespace_kind(namespace: BorrowedFd<'_>) -> Result<i32, Errno> {
    let args = [namespace.as_raw_fd() as usize, NS_GET_NSTYPE, 0, 0, 0, 0];
    // SAFETY: the request takes no argument.
    unsafe { cellkit_core::sys::syscall(libc::SYS_ioctl, args) }.map(|kind| kind as i32)
}
