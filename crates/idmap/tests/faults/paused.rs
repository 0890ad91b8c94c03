//! A process that waits in a new user namespace for whoever made it, and dies with it.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};

/// It reads from a pipe of ours, as a child of a container runtime does: without us it comes to its end.
pub struct Paused {
    child: Child,
    pidfd: OwnedFd,
}

impl Paused {
    pub fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--user", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let child = command.spawn().expect("unshare");
        let pidfd = cellkit_core::sys::pidfd_open(child.id() as i32).expect("pidfd_open");
        let this = Self { child, pidfd };
        while this.file("comm") != "cat" {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        this
    }

    /// A file of /proc/PID, its blanks made single, by path: not by the code under test.
    pub fn file(&self, name: &str) -> String {
        let text = std::fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).expect(name);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl AsFd for Paused {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().expect("wait");
    }
}
