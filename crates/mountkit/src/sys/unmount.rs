//! umount2(2) by descriptor, which the kernel does not have.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use cellkit_core::Errno;
use cellkit_core::sys::syscall;

use super::own_dir::in_dir;

/// umount2(2) of what is mounted on `name` in the directory `parent`, following no link.
///
/// The call takes a path only, and one from `/` could lead elsewhere by now. So a thread is made whose working directory is
/// its own, and goes there: the caller's stays as it is.
pub(crate) fn unmount_at(parent: BorrowedFd<'_>, name: &CStr, flags: i32) -> Result<(), (&'static str, Errno)> {
    in_dir(parent.as_raw_fd(), || {
        let flags = (flags | libc::UMOUNT_NOFOLLOW) as usize;
        // SAFETY: name ends in NUL; the kernel only reads it.
        unsafe { syscall(libc::SYS_umount2, [name.as_ptr() as usize, flags, 0, 0, 0, 0]) }
            .map(drop)
            .map_err(|errno| ("umount2", errno))
    })
}
