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

/// How many processors the calling thread may run on: unlike the standard library's question, this reads no file.
pub(crate) fn processors() -> usize {
    let mut mask = [0u64; 128];
    match super::affinity(&mut mask) {
        Ok(()) => mask.iter().map(|word| word.count_ones() as usize).sum(),
        Err(_) => 1,
    }
}
