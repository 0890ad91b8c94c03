//! The system calls of this crate that have no safe wrapper, or one that is too small for large machines.
#![allow(unsafe_code)]

pub(crate) mod bpf;

use std::os::fd::{AsRawFd, BorrowedFd};

use cellkit_core::Errno;

use crate::CpuList;

/// pidfd_send_signal(2): SIGKILL to the process, safe against the reuse of its number.
pub(crate) fn kill_by_pidfd(pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
    let args = [pidfd.as_raw_fd() as usize, libc::SIGKILL as usize, 0, 0, 0, 0];
    // SAFETY: the descriptor is borrowed for the call, and the pointer to signal information is null.
    unsafe { cellkit_core::sys::syscall(libc::SYS_pidfd_send_signal, args) }.map(drop)
}

/// sched_getaffinity(2): the processors that the calling thread may run on.
pub(crate) fn affinity() -> Result<CpuList, Errno> {
    // The kernel refuses a mask that is shorter than its own, whose length it does not tell.
    let mut words = vec![0usize; 1024 / usize::BITS as usize];
    loop {
        let args = [0, size_of_val(words.as_slice()), words.as_mut_ptr() as usize, 0, 0, 0];
        // SAFETY: the kernel writes no more bytes than the mask has, and the mask is borrowed for the call.
        match unsafe { cellkit_core::sys::syscall(libc::SYS_sched_getaffinity, args) } {
            Err(Errno(libc::EINVAL)) if words.len() < (1 << 16) => words.resize(words.len() * 2, 0),
            Err(errno) => return Err(errno),
            Ok(_) => break,
        }
    }
    let numbers = (0u32..).zip(words).flat_map(|(index, word)| {
        (0..usize::BITS).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index * usize::BITS + bit)
    });
    Ok(numbers.collect())
}
