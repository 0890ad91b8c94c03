//! A body of a test, run as somebody else.
#![allow(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What the child of [`as_user`] ends with when the body panicked.
const FAILED: i32 = 101;

/// Runs `body` in a fork of this process as `uid` and `gid`, without supplementary groups. Only inside `isolated!`,
/// whose process has one thread.
#[track_caller]
pub(super) fn as_user(uid: u32, gid: u32, body: impl FnOnce()) {
    // SAFETY: the process has one thread, so the child may do whatever the parent may.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        become_user(uid, gid);
        let status = if catch_unwind(AssertUnwindSafe(body)).is_ok() { 0 } else { FAILED };
        // SAFETY: ends the fork without running what belongs to the parent.
        unsafe { libc::_exit(status) };
    }
    let mut status = 0;
    // SAFETY: status is one int.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid, "waitpid");
    assert_eq!(status, 0, "the part that runs as uid {uid} failed: its output is above");
}

fn become_user(uid: u32, gid: u32) {
    // SAFETY: an empty list is not read.
    assert_eq!(unsafe { libc::setgroups(0, std::ptr::null()) }, 0, "setgroups");
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::setresgid(gid, gid, gid) }, 0, "setresgid");
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::setresuid(uid, uid, uid) }, 0, "setresuid");
}

/// prctl(2) PR_SET_NO_NEW_PRIVS on this process: only in [`as_user`].
pub(super) fn set_no_new_privs() {
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0, "prctl");
}
