//! A body of a test, run as somebody else.
#![allow(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a fork ends with when its body panicked.
const FAILED: i32 = 101;

/// Runs `body` in a fork of this process as `uid` and `gid`, with these supplementary groups. Only inside `isolated!`,
/// whose process has one thread.
#[track_caller]
pub(super) fn as_user(uid: u32, gid: u32, groups: &[u32], body: impl FnOnce()) {
    let pid = fork(|| {
        set_groups(groups);
        set_ids(uid, gid);
        body();
    });
    let status = wait(pid, 0);
    assert_eq!(status, 0, "the part that runs as uid {uid} failed: its output is above");
}

/// Runs `body` in a fork of this process as root of a new user namespace with this uid map and gid map, and with this
/// in its setgroups file. Only inside `isolated!`.
#[track_caller]
pub(super) fn in_user_namespace(map: &str, setgroups: &str, body: impl FnOnce()) {
    let pid = fork(|| {
        // SAFETY: the fork has one thread.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWUSER) }, 0, "unshare");
        // SAFETY: no pointers; the parent lets us go on.
        assert_eq!(unsafe { libc::raise(libc::SIGSTOP) }, 0, "raise");
        if setgroups == "allow" {
            set_groups(&[]);
        }
        set_ids(0, 0);
        body();
    });
    assert!(libc::WIFSTOPPED(wait(pid, libc::WUNTRACED)), "unshare failed: the output is above");
    for (file, text) in [("setgroups", setgroups), ("uid_map", map), ("gid_map", map)] {
        std::fs::write(format!("/proc/{pid}/{file}"), text).expect(file);
    }
    // SAFETY: our own child, which has not been waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGCONT) }, 0, "kill");
    assert_eq!(wait(pid, 0), 0, "the part in a user namespace failed: its output is above");
}

#[track_caller]
fn fork(body: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the process has one thread, so the child may do whatever the parent may.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        let status = if catch_unwind(AssertUnwindSafe(body)).is_ok() { 0 } else { FAILED };
        // SAFETY: ends the fork without running what belongs to the parent.
        unsafe { libc::_exit(status) };
    }
    pid
}

#[track_caller]
fn wait(pid: libc::pid_t, options: i32) -> i32 {
    let mut status = 0;
    // SAFETY: status is one int.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, options) };
    assert_eq!(waited, pid, "waitpid");
    status
}

fn set_groups(groups: &[u32]) {
    // SAFETY: the list is as long as said.
    assert_eq!(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) }, 0, "setgroups");
}

fn set_ids(uid: u32, gid: u32) {
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

/// signal(2) SIGCHLD SIG_IGN, so that the kernel reaps the children of this process: only in [`as_user`].
pub(super) fn ignore_sigchld() {
    // SAFETY: no handler is installed.
    assert_ne!(unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) }, libc::SIG_ERR, "signal");
}

/// unshare(2) of a user namespace in which this process is root: only in [`as_user`].
pub(super) fn nest() {
    // SAFETY: the process has one thread.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWUSER) }, 0, "unshare");
    for (file, text) in [("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")] {
        std::fs::write(format!("/proc/self/{file}"), text).expect(file);
    }
}

/// prctl(2) PR_SET_DUMPABLE, which changing ids has taken away: only in [`as_user`] and [`in_user_namespace`].
pub(super) fn set_dumpable() {
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, 0, "prctl");
}
