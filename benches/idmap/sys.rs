//! The ways of others that need `unsafe`.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Command, Stdio};

/// fork(2), unshare(2) in the child, its maps written, its namespace opened, and its end: as runc, crun and
/// containers/storage do it.
pub(crate) fn fork_and_open(map: &str) -> File {
    let (said, told) = (pipe(), pipe());
    // SAFETY: the child makes nothing but the system calls below.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: no memory is involved.
        unsafe { libc::unshare(libc::CLONE_NEWUSER) };
        // SAFETY: one byte, to the pipe.
        unsafe { libc::write(said.1, c"x".as_ptr().cast(), 1) };
        let mut byte = 0u8;
        // SAFETY: one byte, of which there will never be one: the parent kills.
        unsafe { libc::read(told.0, (&raw mut byte).cast(), 1) };
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    assert!(pid > 0, "fork");
    // SAFETY: made by `pipe`, and used by nobody else in this process.
    let [said_in, _said_out, _told_in, _told_out] =
        [said.0, said.1, told.0, told.1].map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    File::from(said_in).read_exact(&mut [0]).expect("the child");
    let namespace = open(pid as u32, map);
    // SAFETY: our own child, not yet waited for.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    // SAFETY: no status is asked for.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    namespace
}

fn pipe() -> (i32, i32) {
    let mut ends = [0; 2];
    // SAFETY: the kernel writes two numbers.
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0, "pipe2");
    (ends[0], ends[1])
}

/// The same with unshare(1).
pub(crate) fn unshare_and_open(map: &str) -> File {
    let mut command = Command::new("unshare");
    let mut child = command
        .args(["--user", "sh", "-c", "echo; exec sleep 1000"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare");
    child.stdout.take().expect("piped").read_exact(&mut [0]).expect("the child");
    let namespace = open(child.id(), map);
    child.kill().expect("kill");
    child.wait().expect("wait");
    namespace
}

fn open(pid: u32, map: &str) -> File {
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{pid}/{file}"), map).expect(file);
    }
    File::open(format!("/proc/{pid}/ns/user")).expect("namespace")
}
