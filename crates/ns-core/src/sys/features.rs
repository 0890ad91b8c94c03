//! Questions to the kernel about what it has. None of these calls has an effect.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use cellkit_core::Errno;
use cellkit_core::sys::syscall;

/// clone3(2) without arguments, which no kernel accepts: EINVAL where it is there.
pub(crate) fn clone3() -> Result<(), Errno> {
    // SAFETY: no arguments of size zero: the kernel reads nothing and makes nothing.
    expect(libc::EINVAL, unsafe { syscall(libc::SYS_clone3, [0; 6]) })
}

/// clone3(2) into a cgroup that is none: EBADF where the flag is known.
pub(crate) fn clone_into_cgroup() -> Result<(), Errno> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    // flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup.
    let arguments: [u64; 11] = [CLONE_INTO_CGROUP, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0, 0, 0, i32::MAX as u64];
    let args = [arguments.as_ptr() as usize, size_of_val(&arguments), 0, 0, 0, 0];
    // SAFETY: a valid clone_args, whose descriptor no process can have: no kernel makes a process of it.
    expect(libc::EBADF, unsafe { syscall(libc::SYS_clone3, args) })
}

/// close_range(2) of the one number that no descriptor has.
pub(crate) fn close_range() -> Result<(), Errno> {
    // SAFETY: no pointers; no descriptor has this number.
    unsafe { syscall(libc::SYS_close_range, [u32::MAX as usize, u32::MAX as usize, 0, 0, 0, 0]) }.map(drop)
}

/// ioctl(2) PIDFD_GET_INFO on a pidfd, Linux 6.13.
pub(crate) fn pidfd_info(pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
    const PIDFD_GET_INFO: usize = 0xc040_ff0b;
    // The first version of struct pidfd_info has 64 bytes, the first eight of which say what is wanted.
    let mut info = [1u64, 0, 0, 0, 0, 0, 0, 0];
    let args = [pidfd.as_raw_fd() as usize, PIDFD_GET_INFO, info.as_mut_ptr() as usize, 0, 0, 0];
    // SAFETY: the kernel writes at most the 64 bytes that the request's number says.
    unsafe { syscall(libc::SYS_ioctl, args) }.map(drop)
}

/// The version of Landlock: landlock_create_ruleset(2).
pub(crate) fn landlock_abi() -> Result<usize, Errno> {
    const LANDLOCK_CREATE_RULESET_VERSION: usize = 1;
    // SAFETY: no attributes of size zero, as this flag wants it.
    unsafe { syscall(libc::SYS_landlock_create_ruleset, [0, 0, LANDLOCK_CREATE_RULESET_VERSION, 0, 0, 0]) }
}

/// Whether a seccomp filter may answer with this action: seccomp(2) SECCOMP_GET_ACTION_AVAIL.
pub(crate) fn seccomp_action(action: u32) -> Result<(), Errno> {
    const SECCOMP_GET_ACTION_AVAIL: usize = 2;
    let args = [SECCOMP_GET_ACTION_AVAIL, 0, ptr::from_ref(&action) as usize, 0, 0, 0];
    // SAFETY: the kernel reads one u32.
    unsafe { syscall(libc::SYS_seccomp, args) }.map(drop)
}

/// getrlimit(2): the soft and the hard limit.
pub(crate) fn limit(resource: i32) -> Result<(u64, u64), Errno> {
    let mut limits = [0u64; 2];
    let args = [0, resource as usize, 0, limits.as_mut_ptr() as usize, 0, 0];
    // SAFETY: the kernel writes one struct rlimit64; no new limit is given.
    unsafe { syscall(libc::SYS_prlimit64, args) }?;
    Ok((limits[0], limits[1]))
}

/// The caller's effective user and group.
pub(crate) fn effective_ids() -> (u32, u32) {
    // SAFETY: no arguments.
    let uid = unsafe { libc::geteuid() };
    // SAFETY: no arguments.
    (uid, unsafe { libc::getegid() })
}

/// uname(2): the release, as it is written.
pub(crate) fn release() -> String {
    // SAFETY: every field of a utsname may be zero.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one utsname.
    if unsafe { libc::uname(&raw mut name) } == -1 {
        return String::new();
    }
    let text = name.release.iter().map(|&byte| byte as u8).take_while(|&byte| byte != 0).collect();
    String::from_utf8(text).unwrap_or_default()
}

fn expect(wanted: i32, answer: Result<usize, Errno>) -> Result<(), Errno> {
    match answer {
        Err(Errno(errno)) if errno == wanted => Ok(()),
        Err(errno) => Err(errno),
        Ok(_) => Ok(()),
    }
}
