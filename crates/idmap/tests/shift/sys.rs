//! The system calls that these tests need beside std.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("path")
}

/// renameat2(2) with RENAME_EXCHANGE. Whether it was done.
pub fn exchange(a: &Path, b: &Path) -> bool {
    let (a, b) = (c(a), c(b));
    // SAFETY: both end in NUL.
    unsafe { libc::renameat2(libc::AT_FDCWD, a.as_ptr(), libc::AT_FDCWD, b.as_ptr(), libc::RENAME_EXCHANGE) == 0 }
}

/// setrlimit(2) RLIMIT_NOFILE, the soft one.
pub fn limit_files(most: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes one struct rlimit.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    limit.rlim_cur = most;
    // SAFETY: reads one struct rlimit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

/// unshare(2) CLONE_NEWUSER.
pub fn new_user_namespace() {
    // SAFETY: no pointers; the process has one thread.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWUSER) }, 0, "{}", std::io::Error::last_os_error());
}

/// setresgid(2) and setresuid(2), without supplementary groups.
pub fn become_id(id: u32) {
    // SAFETY: no pointer is read for a length of 0.
    assert_eq!(unsafe { libc::setgroups(0, std::ptr::null()) }, 0);
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::setresgid(id, id, id) }, 0);
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::setresuid(id, id, id) }, 0);
}

/// Runs `work` in a fork, and panics when that did.
pub fn in_fork(work: impl FnOnce()) {
    // SAFETY: the process has one thread, so that the child may do anything.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok();
            // SAFETY: ends the process without unwinding into the test harness.
            unsafe { libc::_exit(i32::from(!done)) }
        }
        child => {
            let mut status = 0;
            // SAFETY: writes one int.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0, "the fork failed: wait status {status:#x}");
        }
    }
}

/// memfd_create(2): a file of its own.
pub fn memfd() -> std::fs::File {
    use std::os::fd::FromRawFd;
    // SAFETY: the name ends in NUL.
    let fd = unsafe { libc::memfd_create(c"journal".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: just returned by memfd_create.
    unsafe { std::fs::File::from_raw_fd(fd) }
}
