//! The ways of others that need `unsafe`.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::unix::process::CommandExt;

const NAMESPACES: i32 =
    libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP;

/// unshare(2) between fork and exec.
pub(crate) fn unshare_before_exec(command: &mut std::process::Command) {
    let unshare = || {
        // SAFETY: no memory is involved.
        match unsafe { libc::unshare(NAMESPACES) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure makes one system call and neither allocates nor locks.
    unsafe { command.pre_exec(unshare) };
}

/// fork(2), execv(3), waitpid(2).
pub(crate) fn fork_and_run(program: &CStr) -> i32 {
    let argv = [program.as_ptr(), std::ptr::null()];
    // SAFETY: the child makes nothing but the system calls below.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: argv is an array of C strings that ends in null.
        unsafe { libc::execv(program.as_ptr(), argv.as_ptr()) };
        // SAFETY: ends the child.
        unsafe { libc::_exit(127) };
    }
    assert!(pid > 0, "fork");
    let mut status = 0;
    // SAFETY: the kernel writes one integer.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid, "waitpid");
    status
}
