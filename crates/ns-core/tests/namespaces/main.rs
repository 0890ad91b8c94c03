//! Namespaces looked at, kept and entered; checked through /proc and with `lsns`, `nsenter` and `ip netns`.

use std::process::Command as Program;

use ns_core::{Child, Command, Namespaces};

mod root;
mod rootless;
mod sys;

/// The names of all kinds in `/proc/PID/ns`.
const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// What `/proc/PID/ns` says: `net:[4026531833]`.
fn link(pid: impl std::fmt::Display, name: &str) -> String {
    let path = format!("/proc/{pid}/ns/{name}");
    std::fs::read_link(&path).unwrap_or_else(|error| panic!("{path}: {error}")).to_string_lossy().into_owned()
}

/// A process that sleeps in new namespaces.
fn sleeper(kinds: Namespaces) -> Child {
    Command::new("/bin/sleep").arg("100").namespaces(kinds).spawn().expect("sleep")
}

fn end(mut child: Child) {
    child.kill().expect("kill");
    child.wait().expect("wait");
}

/// Runs another program, which must succeed, and answers what it wrote.
#[track_caller]
fn run(program: &str, args: &[&str]) -> String {
    let output = Program::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {}: {errors}", output.status);
    String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
}

/// The release of the running kernel, such as 6.18.
fn kernel() -> (u32, u32) {
    let release = run("uname", &["-r"]);
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok());
    (numbers.next().expect("major"), numbers.next().expect("minor"))
}
