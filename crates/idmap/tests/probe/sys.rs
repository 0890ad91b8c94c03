//! Parts of a test that run with less than the rest: in forks, which no library of the tests offers.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a fork ends with when its body panicked.
const FAILED: i32 = 101;

/// Runs `body` in a fork of this process. Only inside `isolated!`, whose process has one thread.
#[track_caller]
pub(crate) fn in_fork(body: impl FnOnce()) {
    let pid = fork(body);
    assert_eq!(wait(pid, 0), 0, "the part in a fork failed: its output is above");
}

/// As [`in_fork`], as `uid` with the same gid and no other groups.
#[track_caller]
pub(crate) fn as_user(uid: u32, body: impl FnOnce()) {
    in_fork(|| {
        become_user(uid);
        body();
    });
}

/// Gives root's rights away for good. Only in a fork.
pub(crate) fn become_user(uid: u32) {
    // SAFETY: an empty list.
    assert_eq!(unsafe { libc::setgroups(0, std::ptr::null()) }, 0, "setgroups");
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::setresgid(uid, uid, uid) }, 0, "setresgid");
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::setresuid(uid, uid, uid) }, 0, "setresuid");
    // The files of this process in /proc are its own again.
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, 0, "prctl");
}

/// As [`in_fork`], as root of a new user namespace with these maps; with an empty one, of no map at all.
#[track_caller]
pub(crate) fn in_user_namespace(map: &str, body: impl FnOnce()) {
    let pid = fork(|| {
        // SAFETY: the fork has one thread.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWUSER) }, 0, "unshare");
        // SAFETY: no pointers; the parent lets us go on.
        assert_eq!(unsafe { libc::raise(libc::SIGSTOP) }, 0, "raise");
        body();
    });
    assert!(libc::WIFSTOPPED(wait(pid, libc::WUNTRACED)), "unshare failed: the output is above");
    if !map.is_empty() {
        for (file, text) in [("setgroups", "deny"), ("uid_map", map), ("gid_map", map)] {
            std::fs::write(format!("/proc/{pid}/{file}"), text).expect(file);
        }
    }
    // SAFETY: our own child, which has not been waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGCONT) }, 0, "kill");
    assert_eq!(wait(pid, 0), 0, "the part in a user namespace failed: its output is above");
}

/// One more user namespace around this fork, with its own ids as root. False when there can be none.
pub(crate) fn nest() -> bool {
    // SAFETY: no pointers.
    let ids = unsafe { libc::geteuid() };
    // SAFETY: the fork has one thread.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER) } != 0 {
        return false;
    }
    for (file, text) in
        [("setgroups", "deny".into()), ("uid_map", format!("0 {ids} 1")), ("gid_map", format!("0 {ids} 1"))]
    {
        std::fs::write(format!("/proc/self/{file}"), text).expect(file);
    }
    true
}

/// chroot(2) of this fork, and into it.
pub(crate) fn chroot(dir: &std::path::Path) {
    let path = CString::new(dir.to_str().expect("a path")).expect("no NUL");
    // SAFETY: path ends in NUL.
    assert_eq!(unsafe { libc::chroot(path.as_ptr()) }, 0, "chroot");
    std::env::set_current_dir("/").expect("chdir");
}

/// unshare(2) CLONE_NEWNS of this fork, in which its mounts are its own.
pub(crate) fn own_mounts() {
    // SAFETY: the fork has one thread.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0, "unshare");
}

/// prctl(2) PR_SET_NO_NEW_PRIVS on this fork.
pub(crate) fn set_no_new_privs() {
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0, "prctl");
}

/// prctl(2) PR_CAPBSET_DROP and capset of all but the others would take more than this: without CAP_SETFCAP.
pub(crate) fn drop_setfcap() {
    const SETFCAP: u32 = 31;
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    let mut header = Header { version: 0x2008_0522, pid: 0 };
    let mut sets = [[0u32; 3]; 2];
    // SAFETY: version 3 writes two sets of three words.
    assert_eq!(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) }, 0, "capget");
    for set in &mut sets[0] {
        *set &= !(1 << SETFCAP);
    }
    // SAFETY: version 3 reads two sets of three words.
    assert_eq!(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) }, 0, "capset");
}

/// A seccomp filter that answers to clone3 with ENOSYS, and to clone and unshare with CLONE_NEWUSER among their flags
/// with `action`, as container engines' do.
pub(crate) fn filter_user_namespaces(action: u32) {
    const LOAD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const JUMP_IF_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const FIRST_ARGUMENT: u32 = 16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut steps = [
        step(LOAD, 0, 0, 0),
        step(JUMP_IF_EQUAL, 5, 0, libc::SYS_clone3 as u32),
        step(JUMP_IF_EQUAL, 1, 0, libc::SYS_clone as u32),
        step(JUMP_IF_EQUAL, 0, 4, libc::SYS_unshare as u32),
        step(LOAD, 0, 0, FIRST_ARGUMENT),
        step(JUMP_IF_SET, 0, 2, libc::CLONE_NEWUSER as u32),
        step(RETURN, 0, 0, action),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    set_no_new_privs();
    // SAFETY: the program outlives the call, which copies it.
    let installed = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(installed, 0, "seccomp");
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
