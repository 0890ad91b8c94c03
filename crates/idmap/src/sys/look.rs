//! Questions about the caller's surroundings. None has an effect.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use cellkit_core::Errno;
use cellkit_core::sys::syscall;

/// What the root directory of the calling thread is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RootDirectory {
    /// The number of its mount, as in mountinfo.
    pub(crate) mount: u64,
    /// Whether it is where that mount begins; `None` from a kernel that does not say (before 5.8).
    pub(crate) is_mount_root: Option<bool>,
}

/// statx(2) of `/`.
pub(crate) fn root_directory() -> Result<RootDirectory, Errno> {
    const MOUNT_ROOT: u64 = 0x2000;
    let mut answer = MaybeUninit::<libc::statx>::zeroed();
    let (dir, path) = (libc::AT_FDCWD as usize, c"/".as_ptr() as usize);
    let args = [dir, path, 0, libc::STATX_MNT_ID as usize, answer.as_mut_ptr() as usize, 0];
    // SAFETY: the path ends in NUL; the kernel writes one struct statx.
    unsafe { syscall(libc::SYS_statx, args) }?;
    // SAFETY: zeroed, then filled; every bit pattern is a struct statx.
    let answer = unsafe { answer.assume_init() };
    if answer.stx_mask & libc::STATX_MNT_ID == 0 {
        return Err(Errno(libc::EOPNOTSUPP));
    }
    let is_mount_root =
        (answer.stx_attributes_mask & MOUNT_ROOT != 0).then_some(answer.stx_attributes & MOUNT_ROOT != 0);
    Ok(RootDirectory { mount: answer.stx_mnt_id, is_mount_root })
}

/// mount_setattr(2) without attributes, which no kernel accepts: EINVAL where it is there.
pub(crate) fn mount_setattr() -> Result<(), Errno> {
    // SAFETY: an empty path and no attributes of size zero: the kernel changes nothing.
    match unsafe { syscall(libc::SYS_mount_setattr, [usize::MAX, c"".as_ptr() as usize, 0, 0, 0, 0]) } {
        Ok(_) | Err(Errno(libc::EINVAL)) => Ok(()),
        Err(errno) => Err(errno),
    }
}
