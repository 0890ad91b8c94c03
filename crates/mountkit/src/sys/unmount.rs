//! umount2(2) by descriptor, which the kernel does not have.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use cellkit_core::Errno;
use cellkit_core::sys::syscall;

/// readlinkat(2). A path longer than PATH_MAX is ENAMETOOLONG.
pub(crate) fn read_link(dir: BorrowedFd<'_>, path: &CStr) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0_u8; libc::PATH_MAX as usize];
    let args = [dir.as_raw_fd() as usize, path.as_ptr() as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0];
    // SAFETY: path ends in NUL, and the kernel writes at most buffer.len() bytes into buffer.
    let length = unsafe { syscall(libc::SYS_readlinkat, args) }?;
    buffer.truncate(length);
    Ok(buffer)
}

/// umount2(2) of what is mounted on `name` in the directory `parent`, following no link.
///
/// The call takes a path only, and one from `/` could lead elsewhere by now. So a thread is made whose working directory is
/// its own, and goes there: the caller's stays as it is.
pub(crate) fn unmount_at(parent: BorrowedFd<'_>, name: &CStr, flags: i32) -> Result<(), (&'static str, Errno)> {
    let work = || {
        // SAFETY: no pointers. Only this thread's own working directory, root and umask are no longer shared.
        unsafe { syscall(libc::SYS_unshare, [libc::CLONE_FS as usize, 0, 0, 0, 0, 0]) }
            .map_err(|errno| ("unshare", errno))?;
        super::fchdir(parent.as_raw_fd()).map_err(|errno| ("fchdir", errno))?;
        let flags = (flags | libc::UMOUNT_NOFOLLOW) as usize;
        // SAFETY: name ends in NUL; the kernel only reads it.
        unsafe { syscall(libc::SYS_umount2, [name.as_ptr() as usize, flags, 0, 0, 0, 0]) }
            .map(drop)
            .map_err(|errno| ("umount2", errno))
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, work);
        let thread = thread.map_err(|error| ("clone", Errno(error.raw_os_error().unwrap_or(libc::EAGAIN))))?;
        // It does not panic; if it did, nothing is known.
        thread.join().unwrap_or(Err(("umount2", Errno(libc::EIO))))
    })
}
