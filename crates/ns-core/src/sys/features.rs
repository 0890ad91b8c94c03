//! Questions to the kernel about what it has. None of these calls has an effect.
#![allow(unsafe_code)]

use std::ptr;

use cellkit_core::Errno;
use cellkit_core::sys::syscall;

use super::clone::{CLONE_INTO_CGROUP, CloneArgs};

/// clone3(2) without arguments, which no kernel accepts: EINVAL where it is there.
pub(crate) fn clone3() -> Result<(), Errno> {
    // SAFETY: no arguments of size zero: the kernel reads nothing and makes nothing.
    expect(libc::EINVAL, unsafe { syscall(libc::SYS_clone3, [0; 6]) })
}

/// clone3(2) into a cgroup that is none: EBADF where the flag is known.
pub(crate) fn clone_into_cgroup() -> Result<(), Errno> {
    let arguments = CloneArgs {
        flags: CLONE_INTO_CGROUP,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: i32::MAX as u64,
        ..CloneArgs::default()
    };
    let args = [ptr::from_ref(&arguments) as usize, size_of::<CloneArgs>(), 0, 0, 0, 0];
    // SAFETY: a valid clone_args, whose descriptor no process can have: no kernel makes a process of it.
    expect(libc::EBADF, unsafe { syscall(libc::SYS_clone3, args) })
}

/// close_range(2) of the one number that no descriptor has.
pub(crate) fn close_range() -> Result<(), Errno> {
    // SAFETY: no pointers; no descriptor has this number.
    unsafe { syscall(libc::SYS_close_range, [u32::MAX as usize, u32::MAX as usize, 0, 0, 0, 0]) }.map(drop)
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

/// The caller's effective user and group.
pub(crate) fn effective_ids() -> (u32, u32) {
    // SAFETY: no arguments.
    let uid = unsafe { libc::geteuid() };
    // SAFETY: no arguments.
    (uid, unsafe { libc::getegid() })
}

fn expect(wanted: i32, answer: Result<usize, Errno>) -> Result<(), Errno> {
    match answer {
        Err(Errno(errno)) if errno == wanted => Ok(()),
        Err(errno) => Err(errno),
        Ok(_) => Ok(()),
    }
}
