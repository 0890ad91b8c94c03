//! Containers of somebody else's making: by unshare(1).

use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A process in namespaces of its own, killed and reaped when dropped.
pub(crate) struct Container {
    unshare: Child,
    pub(crate) pid: i32,
}

impl Container {
    /// `unshare ARGUMENTS --fork --kill-child`, and in it `script`, which must go on with `ready` once it is set up.
    pub(crate) fn new(arguments: &[&str], script: &str) -> Self {
        let mut unshare = Command::new("unshare")
            .args(arguments)
            .args([
                "--fork",
                "--kill-child",
                "sh",
                "-c",
                &format!("ready() {{ echo ready; }}; {script}; exec sleep 1000"),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut line = String::new();
        let stdout = unshare.stdout.as_mut().expect("stdout");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("ready");
        assert_eq!(line, "ready\n", "the container did not start");
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let pid = std::fs::read_to_string(children).expect("children").trim().parse().expect("one child");
        Self { unshare, pid }
    }

    pub(crate) fn pidfd(&self) -> OwnedFd {
        cellkit_core::sys::pidfd_open(self.pid).expect("pidfd_open")
    }

    /// `KIND:[INODE]` of each kind, in order, as /proc shows it.
    pub(crate) fn links(&self) -> Vec<String> {
        links(&format!("/proc/{}/ns", self.pid))
    }
}

pub(crate) const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

pub(crate) fn links(dir: &str) -> Vec<String> {
    let link = |kind| std::fs::read_link(format!("{dir}/{kind}")).expect(kind).to_string_lossy().into_owned();
    KINDS.into_iter().map(link).collect()
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        // The process inside is this one's now, which is a subreaper, or PID 1's.
        for _ in 0..200 {
            faultkit::reap_orphans();
            if !std::path::Path::new(&format!("/proc/{}", self.pid)).exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
