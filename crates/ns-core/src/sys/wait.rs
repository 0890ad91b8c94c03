//! How a process ends, and what the kernel knows about it, by pidfd.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use cellkit_core::Errno;
use cellkit_core::sys::syscall;

/// How a child ended: waitid's `si_code` and `si_status`, and what it used.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) status: i32,
    pub(crate) usage: libc::rusage,
}

/// waitid(2) on a pidfd: `None` when WNOHANG was given and the child still runs. The system call itself, unlike the C
/// library's function, also tells what the child used.
pub(crate) fn wait(pidfd: BorrowedFd<'_>, options: i32) -> Result<Option<Ended>, Errno> {
    wait_for(libc::P_PIDFD, pidfd.as_raw_fd() as usize, options)
}

/// waitid(2) on the number of a child of this process that nobody has reaped.
pub(crate) fn reap(child: i32) {
    let _ = wait_for(libc::P_PID, child as usize, 0);
}

/// Waits for the end of a process that need not be a child: poll(2) on its pidfd. Whether it has ended is not known when
/// that cannot be asked.
pub(crate) fn await_end(pidfd: BorrowedFd<'_>) -> bool {
    loop {
        match super::poll([Some((pidfd, libc::POLLIN))], None) {
            Ok([false]) => {}
            Ok([true]) => return true,
            Err(_) => return false,
        }
    }
}

/// Whether a child has been stopped since this was last asked: waitid(2) with WSTOPPED.
pub(crate) fn was_stopped(pidfd: BorrowedFd<'_>) -> bool {
    // SAFETY: every field of a siginfo_t may be zero.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WSTOPPED | libc::WNOHANG;
    let args =
        [libc::P_PIDFD as usize, pidfd.as_raw_fd() as usize, ptr::from_mut(&mut info) as usize, options as usize, 0, 0];
    // SAFETY: the kernel writes one siginfo_t; no resource usage is asked for.
    let answer = unsafe { syscall(libc::SYS_waitid, args) };
    // SAFETY: waitid filled the variant that holds a pid, or left it zero.
    answer.is_ok() && unsafe { info.si_pid() } != 0
}

fn wait_for(kind: libc::idtype_t, id: usize, options: i32) -> Result<Option<Ended>, Errno> {
    loop {
        // SAFETY: every field of a siginfo_t may be zero.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: every field of a rusage may be zero.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        let args = [
            kind as usize,
            id,
            ptr::from_mut(&mut info) as usize,
            (options | libc::WEXITED) as usize,
            ptr::from_mut(&mut usage) as usize,
            0,
        ];
        // SAFETY: the kernel writes one siginfo_t and one struct rusage.
        match unsafe { syscall(libc::SYS_waitid, args) } {
            Ok(_) => {}
            Err(Errno(libc::EINTR)) => continue,
            Err(errno) => return Err(errno),
        }
        // SAFETY: waitid filled the variant that holds a pid, or left it zero.
        if unsafe { info.si_pid() } == 0 {
            return Ok(None);
        }
        // SAFETY: waitid filled the variant that holds a status.
        let status = unsafe { info.si_status() };
        return Ok(Some(Ended { code: info.si_code, status, usage }));
    }
}

/// `struct pidfd_info` of linux/pidfd.h, in its first size.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PidfdInfo {
    pub(crate) mask: u64,
    pub(crate) cgroup: u64,
    pub(crate) pid: u32,
    pub(crate) process: u32,
    pub(crate) parent: u32,
    /// Real, effective, saved and file system: uid and gid of each.
    pub(crate) ids: [u32; 8],
    pub(crate) exit_code: i32,
}

pub(crate) const PIDFD_INFO_CREDS: u64 = 1 << 1;
pub(crate) const PIDFD_INFO_CGROUP: u64 = 1 << 2;
pub(crate) const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// ioctl(2) PIDFD_GET_INFO (Linux 6.13). What the answer holds of what `mask` asked for is in its own `mask`.
pub(crate) fn pidfd_info(pidfd: BorrowedFd<'_>, mask: u64) -> Result<PidfdInfo, Errno> {
    const PIDFD_GET_INFO: libc::Ioctl = libc::_IOWR::<PidfdInfo>(0xff, 11);
    let mut info = PidfdInfo { mask, ..PidfdInfo::default() };
    let args = [pidfd.as_raw_fd() as usize, PIDFD_GET_INFO as usize, ptr::from_mut(&mut info) as usize, 0, 0, 0];
    // SAFETY: the number of the request tells the kernel the size of the struct, which it reads and writes.
    unsafe { syscall(libc::SYS_ioctl, args) }?;
    Ok(info)
}
