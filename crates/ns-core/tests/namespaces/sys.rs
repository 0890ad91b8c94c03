//! What the tests do to themselves that no library offers safely.
#![allow(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work` in a fork, which may go where it cannot come back from, and fails if it panics.
#[track_caller]
pub(crate) fn in_a_fork(work: impl FnOnce()) {
    // SAFETY: the test runs alone in its process, whose other threads, if it has any, only sleep.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid == 0 {
        let status = i32::from(catch_unwind(AssertUnwindSafe(work)).is_err());
        // SAFETY: ends this process without the clean-up of the one it is a copy of.
        unsafe { libc::_exit(status) };
    }
    let mut status = 0;
    // SAFETY: the kernel writes one status.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!((waited, status), (pid, 0), "it failed in the fork");
}

/// Takes CAP_SYS_ADMIN out of the calling thread's effective set.
pub(crate) fn drop_sys_admin() {
    const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
    const CAP_SYS_ADMIN: u32 = 21;
    let header = [CAPABILITY_VERSION_3, 0];
    let mut data = [0u32; 6];
    // SAFETY: version 3 reads a header of two words and writes two structs of three words.
    let answer = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) };
    assert_eq!(answer, 0, "capget");
    data[0] &= !(1 << CAP_SYS_ADMIN);
    // SAFETY: version 3 reads a header of two words and two structs of three words.
    let answer = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    assert_eq!(answer, 0, "capset");
}

/// kcmp(2): whether the process of this number has its memory in common with this one.
pub(crate) fn share_memory(pid: i32) -> bool {
    const KCMP_VM: i32 = 1;
    // SAFETY: no pointers.
    let answer = unsafe { libc::syscall(libc::SYS_kcmp, std::process::id() as i32, pid, KCMP_VM, 0, 0) };
    assert!(answer >= 0, "kcmp");
    answer == 0
}
