//! The system calls on what a directory holds: on one name below one descriptor, which no call here follows.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{OwnedFd, RawFd};

use cellkit_core::Errno;
use cellkit_core::sys::{own, syscall};

/// fchmodat2(2), Linux 6.6. Since 5.1 a new call has the same number on every machine we know.
const SYS_FCHMODAT2: libc::c_long = 452;

/// openat(2) with O_CLOEXEC and O_NOFOLLOW. Child-safe.
pub(crate) fn openat(dir: RawFd, name: &CStr, flags: i32, mode: u32) -> Result<RawFd, Errno> {
    let flags = flags | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    let args = [dir as usize, name.as_ptr() as usize, flags as usize, mode as usize, 0, 0];
    loop {
        // SAFETY: name ends in NUL; the kernel only reads it.
        match unsafe { syscall(libc::SYS_openat, args) } {
            Err(Errno(libc::EINTR)) => {}
            answer => return answer.map(|fd| fd as RawFd),
        }
    }
}

/// [`openat`] for the parent, which owns what it gets.
pub(crate) fn open_name(dir: RawFd, name: &CStr, flags: i32, mode: u32) -> Result<OwnedFd, Errno> {
    let fd = openat(dir, name, flags, mode)?;
    // SAFETY: just returned by openat.
    Ok(unsafe { own(fd) })
}

/// unlinkat(2); `flags` is 0 or AT_REMOVEDIR.
pub(crate) fn unlinkat(dir: RawFd, name: &CStr, flags: i32) -> Result<(), Errno> {
    // SAFETY: name ends in NUL; the kernel only reads it.
    unsafe { syscall(libc::SYS_unlinkat, [dir as usize, name.as_ptr() as usize, flags as usize, 0, 0, 0]) }.map(drop)
}

/// linkat(2), which links a symbolic link itself.
pub(crate) fn linkat(from: RawFd, old: &CStr, to: RawFd, new: &CStr) -> Result<(), Errno> {
    let args = [from as usize, old.as_ptr() as usize, to as usize, new.as_ptr() as usize, 0, 0];
    // SAFETY: both names end in NUL; the kernel only reads them.
    unsafe { syscall(libc::SYS_linkat, args) }.map(drop)
}

/// renameat2(2).
pub(crate) fn renameat2(from: RawFd, old: &CStr, to: RawFd, new: &CStr, flags: u32) -> Result<(), Errno> {
    let args = [from as usize, old.as_ptr() as usize, to as usize, new.as_ptr() as usize, flags as usize, 0];
    // SAFETY: both names end in NUL; the kernel only reads them.
    unsafe { syscall(libc::SYS_renameat2, args) }.map(drop)
}

/// fchmodat2(2) with AT_SYMLINK_NOFOLLOW.
pub(crate) fn fchmodat2(dir: RawFd, name: &CStr, mode: u32) -> Result<(), Errno> {
    let flags = libc::AT_SYMLINK_NOFOLLOW as usize;
    // SAFETY: name ends in NUL; the kernel only reads it.
    unsafe { syscall(SYS_FCHMODAT2, [dir as usize, name.as_ptr() as usize, mode as usize, flags, 0, 0]) }.map(drop)
}

/// fchmodat(2), which follows a last link: for the magic links of a trusted procfs only.
pub(crate) fn fchmodat_following(dir: RawFd, path: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: path ends in NUL; the kernel only reads it.
    unsafe { syscall(libc::SYS_fchmodat, [dir as usize, path.as_ptr() as usize, mode as usize, 0, 0, 0]) }.map(drop)
}

/// utimensat(2) with AT_SYMLINK_NOFOLLOW. The nanoseconds may be UTIME_NOW or UTIME_OMIT.
pub(crate) fn utimensat(dir: RawFd, name: &CStr, times: [(i64, i64); 2]) -> Result<(), Errno> {
    #[allow(clippy::unnecessary_cast, reason = "the types differ between machines")]
    let times = times.map(|(seconds, nanoseconds)| libc::timespec {
        tv_sec: seconds as libc::time_t,
        tv_nsec: nanoseconds as libc::c_long,
    });
    // SAFETY: name ends in NUL and times is two timespecs, all of which the C library only reads.
    let answer = unsafe { libc::utimensat(dir, name.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) };
    if answer == -1 { Err(Errno::last()) } else { Ok(()) }
}

/// readlinkat(2): how many bytes of `buffer` the body of the link fills. Child-safe.
pub(crate) fn readlinkat(dir: RawFd, name: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
    let args = [dir as usize, name.as_ptr() as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0];
    // SAFETY: name ends in NUL, and the kernel writes at most buffer.len() bytes into buffer.
    unsafe { syscall(libc::SYS_readlinkat, args) }
}

/// getdents64(2): how many bytes of `buffer` are records. None are left when it is 0.
pub(crate) fn getdents(dir: RawFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let args = [dir as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0];
    // SAFETY: the kernel writes at most buffer.len() bytes into buffer.
    unsafe { syscall(libc::SYS_getdents64, args) }
}

/// lseek(2) of a directory to a position that [`getdents`] told.
pub(crate) fn seek_dir(dir: RawFd, position: i64) -> Result<(), Errno> {
    // SAFETY: no pointers.
    let answer = unsafe { libc::lseek64(dir, position, libc::SEEK_SET) };
    if answer == -1 { Err(Errno::last()) } else { Ok(()) }
}
