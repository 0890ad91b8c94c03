//! The raw calls that `list` makes in great numbers.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use cellkit_core::Errno;
use cellkit_core::sys::syscall;

/// getdents64(2): as many records as fit; none at the end of the directory.
pub(crate) fn directory_records<'b>(dir: BorrowedFd<'_>, buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
    let args = [dir.as_raw_fd() as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0];
    // SAFETY: the kernel writes at most buffer.len() bytes into buffer.
    let length = unsafe { syscall(libc::SYS_getdents64, args) }?;
    Ok(buffer.get(..length).unwrap_or_default())
}

/// readlinkat(2). What is longer than the buffer is cut off.
pub(crate) fn read_link<'b>(dir: BorrowedFd<'_>, name: &CStr, buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
    let args = [dir.as_raw_fd() as usize, name.as_ptr() as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0];
    // SAFETY: name ends in NUL; the kernel writes at most buffer.len() bytes into buffer.
    let length = unsafe { syscall(libc::SYS_readlinkat, args) }?;
    Ok(buffer.get(..length).unwrap_or_default())
}

/// fstat(2): the owner of a file.
pub(crate) fn owner(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    // SAFETY: every field of a struct stat may be zero.
    let mut answer: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: fstat writes one struct stat.
    if unsafe { libc::fstat(fd.as_raw_fd(), &raw mut answer) } == -1 {
        return Err(Errno::last());
    }
    Ok(answer.st_uid)
}

/// How many processors the calling thread may run on: sched_getaffinity(2), which unlike the standard library's question
/// reads no file.
pub(crate) fn processors() -> usize {
    let mut mask = [0u64; 128];
    let args = [0, size_of_val(&mask), mask.as_mut_ptr() as usize, 0, 0, 0];
    // SAFETY: the kernel writes at most as many bytes as the mask has.
    match unsafe { syscall(libc::SYS_sched_getaffinity, args) } {
        Ok(_) => mask.iter().map(|word| word.count_ones() as usize).sum(),
        Err(_) => 1,
    }
}
