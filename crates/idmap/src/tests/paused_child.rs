//! A process that waits in a new user namespace without maps.
#![forbid(unsafe_code)]

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Killed and reaped when dropped.
pub(super) struct PausedChild {
    child: Child,
    pidfd: OwnedFd,
}

impl PausedChild {
    /// One in a new user namespace of the caller.
    pub(super) fn new() -> Self {
        Self::run(&["unshare", "--user", "sleep", "1000"])
    }

    /// One in the caller's own user namespace.
    pub(super) fn in_no_namespace() -> Self {
        Self::run(&["sleep", "1000"])
    }

    /// One that this program becomes. It ends in sleep(1).
    pub(super) fn run(words: &[&str]) -> Self {
        let mut command = Command::new(words[0]);
        let child = command.args(&words[1..]).stdin(Stdio::null()).spawn().expect("util-linux and coreutils");
        let pidfd = cellkit_core::sys::pidfd_open(child.id() as i32).expect("pidfd_open");
        let this = Self { child, pidfd };
        // Generous: an emulated machine that is busy takes its time.
        let deadline = Instant::now() + Duration::from_secs(60);
        // From sleep on, nothing changes any more.
        while this.file("comm") != "sleep\n" {
            assert!(Instant::now() < deadline, "{words:?} did not start");
            std::thread::sleep(Duration::from_millis(1));
        }
        this
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A file of /proc/PID by path: not by the code under test.
    pub(super) fn file(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.pid())).expect(name)
    }

    /// A map as the kernel shows it, with single blanks.
    pub(super) fn map(&self, name: &str) -> String {
        let lines = self.file(name);
        lines.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
    }

    /// Runs a program in the namespace and answers with what it prints. `options` are those of nsenter(1): without
    /// `--preserve-credentials` the program is root there.
    pub(super) fn inside(&self, options: &[&str], words: &[&str]) -> String {
        let output = self.try_inside(options, words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// The same, which may fail.
    pub(super) fn try_inside(&self, options: &[&str], words: &[&str]) -> Output {
        let pid = self.pid().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--user", "--target", &pid]).args(options).args(words);
        command.output().expect("nsenter")
    }

    pub(super) fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl AsFd for PausedChild {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for PausedChild {
    fn drop(&mut self) {
        self.end();
    }
}
