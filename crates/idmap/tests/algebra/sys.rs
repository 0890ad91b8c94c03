//! Processes in new user namespaces, by the hundred: forks of the test, whose bodies assert for themselves.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a fork ends with when its body panicked.
const FAILED: i32 = 101;

/// A fork of this process in a new user namespace without maps. It waits for [`go`](Self::go), and is killed when this is
/// dropped instead. Only inside `isolated!`, whose process has one thread.
pub(crate) struct Waiting {
    pid: libc::pid_t,
    pidfd: OwnedFd,
    gate: Option<File>,
}

impl Waiting {
    /// `body` runs once the maps have been written.
    pub(crate) fn new(body: impl FnOnce()) -> Self {
        let (mut inside, outside) = pipe();
        // SAFETY: without CLONE_VM and a stack this is fork(2); the process has one thread, so that the child may do
        // whatever the parent may.
        let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0, 0, 0) };
        let pid = libc::pid_t::try_from(pid).expect("a process number");
        assert!(pid >= 0, "clone: {}", std::io::Error::last_os_error());
        if pid == 0 {
            drop(outside);
            let body = || {
                inside.read_exact(&mut [0]).expect("read");
                body();
            };
            let status = if catch_unwind(AssertUnwindSafe(body)).is_ok() { 0 } else { FAILED };
            // SAFETY: ends the fork without running what belongs to the parent.
            unsafe { libc::_exit(status) };
        }
        let pidfd = cellkit_core::sys::pidfd_open(pid).expect("pidfd_open");
        Self { pid, pidfd, gate: Some(outside) }
    }

    /// Writes one of its maps: with one write(2), as the kernel wants it, an empty one too.
    #[track_caller]
    pub(crate) fn write(&self, file: &str, text: &str) -> std::io::Result<()> {
        let path = format!("/proc/{}/{file}", self.pid);
        let mut file = OpenOptions::new().write(true).open(path).expect("one's own child");
        file.write(text.as_bytes()).map(|count| assert_eq!(count, text.len()))
    }

    /// Lets it run, and waits until it has ended well.
    #[track_caller]
    pub(crate) fn go(mut self) {
        self.start();
        self.end();
    }

    /// Lets it run.
    pub(crate) fn start(&mut self) {
        let mut gate = self.gate.take().expect("once");
        gate.write_all(&[1]).expect("it waits");
    }

    /// Waits until it has ended well.
    #[track_caller]
    pub(crate) fn end(&mut self) {
        assert_eq!(self.wait(), 0, "the part in a user namespace failed: its output is above");
    }

    fn wait(&mut self) -> i32 {
        let mut status = 0;
        // SAFETY: status is one int.
        let waited = unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
        assert_eq!(waited, self.pid, "waitpid");
        self.pid = 0;
        status
    }
}

impl Waiting {
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }
}

impl AsFd for Waiting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.pid != 0 {
            // Closing the gate would not do: forks that were made later hold it open as well.
            let _ = cellkit_core::sys::pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL);
            let _ = self.wait();
        }
    }
}

/// pipe(2): the end to read from, and the one to write to.
pub(crate) fn pipe() -> (File, File) {
    let mut ends = [-1; 2];
    // SAFETY: two descriptors are written.
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0, "pipe2");
    ends.map(|end| {
        // SAFETY: a new descriptor that nobody else has.
        unsafe { File::from_raw_fd(end) }
    })
    .into()
}

/// Takes these ids in the calling process's own user namespace, and keeps all capabilities there. Without this a process
/// of a new namespace may have an id that is not mapped, and then can make none below.
pub(crate) fn become_user(uid: u32, gid: u32) {
    const SECBIT_NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;
    // SAFETY: no pointers.
    let fixed = unsafe { libc::prctl(libc::PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) };
    assert_eq!(fixed, 0, "PR_SET_SECUREBITS");
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::setresgid(gid, gid, gid) }, 0, "setresgid to {gid}");
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::setresuid(uid, uid, uid) }, 0, "setresuid to {uid}");
    // What changed its ids has files of root's in /proc, and so have its children.
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, 0, "PR_SET_DUMPABLE");
}

/// fchown(2), with the errno.
pub(crate) fn fchown(file: &File, uid: u32, gid: u32) -> Result<(), i32> {
    // SAFETY: no pointers.
    match unsafe { libc::fchown(file.as_raw_fd(), uid, gid) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().raw_os_error().expect("an errno")),
    }
}
