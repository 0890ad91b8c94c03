//! For calls that take a path only: a thread whose working directory is a descriptor's, so that a name is path enough.
#![allow(unsafe_code)]

use std::os::fd::RawFd;

use cellkit_core::Errno;
use cellkit_core::sys::syscall;

/// Does `work` on a thread whose working directory is `dir`: the caller's stays as it is. An error has the call that failed.
pub(crate) fn in_dir<T: Send>(
    dir: RawFd,
    work: impl FnOnce() -> Result<T, (&'static str, Errno)> + Send,
) -> Result<T, (&'static str, Errno)> {
    let work = move || {
        // SAFETY: no pointers. From here on this thread's working directory, root and umask are its own, and it ends with
        // this function.
        unsafe { syscall(libc::SYS_unshare, [libc::CLONE_FS as usize, 0, 0, 0, 0, 0]) }
            .map_err(|errno| ("unshare", errno))?;
        super::fchdir(dir).map_err(|errno| ("fchdir", errno))?;
        work()
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mountkit-own-dir".to_owned()).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| ("clone", Errno(error.raw_os_error().unwrap_or(libc::EAGAIN))))?;
        // It does not panic; if it did, nothing is known.
        thread.join().unwrap_or(Err(("clone", Errno(libc::EIO))))
    })
}
