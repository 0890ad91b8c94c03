//! Extended attributes of one name, by each of the ways that the kernel has.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::RawFd;

use cellkit_core::Errno;
use cellkit_core::sys::syscall;

// Linux 6.13. Since 5.1 a new call has the same number on every machine we know.
const SYS_SETXATTRAT: libc::c_long = 463;
const SYS_GETXATTRAT: libc::c_long = 464;
const SYS_LISTXATTRAT: libc::c_long = 465;
const SYS_REMOVEXATTRAT: libc::c_long = 466;

/// What is done to the attributes. What is read fills the buffer; the answer is how many bytes.
#[derive(Debug)]
pub(crate) enum Action<'a> {
    Get(&'a CStr, &'a mut [u8]),
    Set(&'a CStr, &'a [u8]),
    List(&'a mut [u8]),
    Remove(&'a CStr),
}

/// struct xattr_args.
#[repr(C, align(8))]
struct Args {
    value: u64,
    size: u32,
    flags: u32,
}

/// setxattrat(2) and its like, with AT_SYMLINK_NOFOLLOW: of `name` below `dir`.
pub(crate) fn at(dir: RawFd, name: &CStr, action: &mut Action<'_>) -> Result<usize, Errno> {
    let (dir, name) = (dir as usize, name.as_ptr() as usize);
    let flags = libc::AT_SYMLINK_NOFOLLOW as usize;
    let args = |value: *const u8, length: usize| Args {
        value: value as u64,
        size: u32::try_from(length).unwrap_or(u32::MAX),
        flags: 0,
    };
    match action {
        Action::Get(key, buffer) => {
            let args = args(buffer.as_mut_ptr(), buffer.len());
            let all = [dir, name, flags, key.as_ptr() as usize, std::ptr::from_ref(&args) as usize, size_of::<Args>()];
            // SAFETY: name and key end in NUL, args is as large as said, and the kernel writes at most as many bytes into
            // buffer as args says it has.
            unsafe { syscall(SYS_GETXATTRAT, all) }
        }
        Action::Set(key, value) => {
            let args = args(value.as_ptr(), value.len());
            let all = [dir, name, flags, key.as_ptr() as usize, std::ptr::from_ref(&args) as usize, size_of::<Args>()];
            // SAFETY: name and key end in NUL, args is as large as said and value as long as it says; the kernel only
            // reads them.
            unsafe { syscall(SYS_SETXATTRAT, all) }
        }
        Action::List(buffer) => {
            let all = [dir, name, flags, buffer.as_mut_ptr() as usize, buffer.len(), 0];
            // SAFETY: name ends in NUL, and the kernel writes at most buffer.len() bytes into buffer.
            unsafe { syscall(SYS_LISTXATTRAT, all) }
        }
        Action::Remove(key) => {
            // SAFETY: name and key end in NUL; the kernel only reads them.
            unsafe { syscall(SYS_REMOVEXATTRAT, [dir, name, flags, key.as_ptr() as usize, 0, 0]) }
        }
    }
}

/// fsetxattr(2) and its like: of an open file.
pub(crate) fn of_file(fd: RawFd, action: &mut Action<'_>) -> Result<usize, Errno> {
    let fd = fd as usize;
    match action {
        Action::Get(key, buffer) => {
            let all = [fd, key.as_ptr() as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0];
            // SAFETY: key ends in NUL, and the kernel writes at most buffer.len() bytes into buffer.
            unsafe { syscall(libc::SYS_fgetxattr, all) }
        }
        Action::Set(key, value) => {
            let all = [fd, key.as_ptr() as usize, value.as_ptr() as usize, value.len(), 0, 0];
            // SAFETY: key ends in NUL and value is as long as said; the kernel only reads them.
            unsafe { syscall(libc::SYS_fsetxattr, all) }
        }
        Action::List(buffer) => {
            // SAFETY: the kernel writes at most buffer.len() bytes into buffer.
            unsafe { syscall(libc::SYS_flistxattr, [fd, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0]) }
        }
        Action::Remove(key) => {
            // SAFETY: key ends in NUL; the kernel only reads it.
            unsafe { syscall(libc::SYS_fremovexattr, [fd, key.as_ptr() as usize, 0, 0, 0, 0]) }
        }
    }
}

/// lsetxattr(2) and its like, of `name` below `dir`: on a thread whose working directory is its own (CLONE_FS) and is
/// made `dir`. They take paths only, and a name is a path from there.
pub(crate) fn from_own_dir(dir: RawFd, name: &CStr, action: &mut Action<'_>) -> Result<usize, Errno> {
    super::own_dir::in_dir(dir, || of_path(name, action).map_err(|errno| ("lsetxattr", errno)))
        .map_err(|(_, errno)| errno)
}

fn of_path(path: &CStr, action: &mut Action<'_>) -> Result<usize, Errno> {
    let path = path.as_ptr() as usize;
    match action {
        Action::Get(key, buffer) => {
            let all = [path, key.as_ptr() as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0];
            // SAFETY: path and key end in NUL, and the kernel writes at most buffer.len() bytes into buffer.
            unsafe { syscall(libc::SYS_lgetxattr, all) }
        }
        Action::Set(key, value) => {
            let all = [path, key.as_ptr() as usize, value.as_ptr() as usize, value.len(), 0, 0];
            // SAFETY: path and key end in NUL and value is as long as said; the kernel only reads them.
            unsafe { syscall(libc::SYS_lsetxattr, all) }
        }
        Action::List(buffer) => {
            // SAFETY: path ends in NUL, and the kernel writes at most buffer.len() bytes into buffer.
            unsafe { syscall(libc::SYS_llistxattr, [path, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0]) }
        }
        Action::Remove(key) => {
            // SAFETY: path and key end in NUL; the kernel only reads them.
            unsafe { syscall(libc::SYS_lremovexattr, [path, key.as_ptr() as usize, 0, 0, 0, 0]) }
        }
    }
}
