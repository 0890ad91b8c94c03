//! What the tests need where systemd is init.
#![forbid(unsafe_code)]

use std::future::Future;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(future)
}

/// What a command prints.
pub(crate) fn stdout(command: &mut Command) -> String {
    let output = command.output().expect("start");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
}

/// A property of a unit, as `systemctl show` has it.
pub(crate) fn show(more: &[&str], unit: &str, property: &str) -> String {
    stdout(Command::new("systemctl").args(more).args(["show", "--value", "--property", property, "--", unit]))
}

pub(crate) fn escape_by_program(text: &str) -> String {
    stdout(Command::new("systemd-escape").args(["--", text]))
}

/// A child that sleeps. It is killed in the end.
pub(crate) struct Sleeper(Mutex<Child>);

impl Sleeper {
    pub(crate) fn start() -> Self {
        Self::sh("exec sleep 1000")
    }

    /// One that does not listen to SIGTERM.
    pub(crate) fn deaf() -> Self {
        Self::sh("trap '' TERM; echo; exec sleep 1000")
    }

    fn sh(script: &str) -> Self {
        let mut child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().expect("sh");
        if script.contains("echo") {
            std::io::Read::read_exact(child.stdout.as_mut().expect("pipe"), &mut [0]).expect("it has begun");
        }
        Self(Mutex::new(child))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.lock().expect("child").id()
    }

    /// Its group, as the kernel has it.
    pub(crate) fn group(&self) -> String {
        let text = stdout(Command::new("cat").arg(format!("/proc/{}/cgroup", self.pid())));
        text.strip_prefix("0::").expect("unified").to_owned()
    }

    /// Whether it ends by a signal, which is waited for.
    pub(crate) fn ended(&self) -> bool {
        use std::os::unix::process::ExitStatusExt;
        self.0.lock().expect("child").wait().expect("wait").signal().is_some()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let child = self.0.get_mut().expect("child");
        let _ = child.kill();
        let _ = child.wait();
    }
}
