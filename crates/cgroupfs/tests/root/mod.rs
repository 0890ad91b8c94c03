#![forbid(unsafe_code)]

mod apply;
mod attaching;
mod children;
mod cpu;
mod cpuset;
mod delegation;
mod devices;
mod enabling;
mod files;
mod finding;
mod freezing;
mod giving;
mod gone;
mod groups;
mod hostile;
mod hugetlb;
mod io;
mod limits;
mod loop_disk;
mod memory;
mod pids;
mod pressure_trigger;
mod removal;
mod stats;
#[cfg(feature = "tokio")]
mod streams;
mod survival;
#[cfg(feature = "systemd")]
mod systemd;
mod watch;
mod watch_counts;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cgroupfs::{Cgroup, CgroupName, Hierarchy, Limits, Place};

/// More than any of this takes, even in an emulated machine that does other things too.
const LIMIT: Duration = Duration::from_secs(60);

fn place() -> Place {
    Hierarchy::detect().expect("hierarchy").place().expect("place")
}

fn name(name: &str) -> CgroupName {
    CgroupName::new(name).expect("name")
}

fn group(place: &Place, wanted: &str) -> Cgroup {
    place.create(&name(wanted), &Limits::new(), &mut ()).expect("create")
}

/// What `cat` shows of a file of the group.
fn cat(group: impl AsRef<Path>, file: &str) -> String {
    let output = Command::new("cat").arg(group.as_ref().join(file)).output().expect("cat");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim_end().to_owned()
}

/// A shell script that runs in the group.
fn command_in(group: impl AsRef<Path>, script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("echo $$ > \"$0/cgroup.procs\" && {script}")]).arg(group.as_ref());
    command.stdin(Stdio::null());
    command
}

/// The same, started, and waited for until it is in the group.
fn start_in(group: impl AsRef<Path>, script: &str) -> Child {
    let child = command_in(group.as_ref(), script).spawn().expect("sh");
    let pid = child.id().to_string();
    until("the process is in its group", || cat(group.as_ref(), "cgroup.procs").lines().any(|line| line == pid));
    child
}

/// A process that only sleeps, in the group. It is waited for until it has its last name: a sweep counts processes by name.
fn start_sleep_in(group: impl AsRef<Path>) -> Child {
    let child = start_in(group, "exec sleep 1000");
    let name = format!("/proc/{}/comm", child.id());
    until("it sleeps", || std::fs::read_to_string(&name).is_ok_and(|name| name.trim() == "sleep"));
    child
}

fn until(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn killed(mut child: Child) -> bool {
    use std::os::unix::process::ExitStatusExt;
    child.wait().expect("wait").signal() == Some(9)
}
