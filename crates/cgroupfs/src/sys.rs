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

/// `struct pidfd_info` of linux/pidfd.h, in its first size; what is not looked at here is left in one piece.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    thread: i32,
    process: i32,
    rest: [u32; 10],
}

/// ioctl(2) PIDFD_GET_INFO (Linux 6.13): the numbers of thread and process, as the calling process sees them.
pub(crate) fn pidfd_numbers(pidfd: BorrowedFd<'_>) -> Result<(i32, i32), Errno> {
    const PIDFD_GET_INFO: libc::Ioctl = libc::_IOWR::<PidfdInfo>(0xff, 11);
    let mut info = PidfdInfo { mask: 1, ..PidfdInfo::default() };
    let args = [pidfd.as_raw_fd() as usize, PIDFD_GET_INFO as usize, std::ptr::from_mut(&mut info) as usize, 0, 0, 0];
    // SAFETY: the number of the request tells the kernel the size of the struct, which it reads and writes.
    unsafe { cellkit_core::sys::syscall(libc::SYS_ioctl, args) }?;
    match (info.thread, info.process) {
        (thread, process) if thread > 0 && process > 0 => Ok((thread, process)),
        _ => Err(Errno(libc::ESRCH)),
    }
}
