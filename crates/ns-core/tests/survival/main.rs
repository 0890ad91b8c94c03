//! What a start survives: faults at every system call, signals, limits, hostile surroundings, numbers.

use std::path::PathBuf;

use faultkit::Failure;
use ns_core::Error;

mod sweep;
mod sys;

/// An error as a judge gets to see it.
fn failure(error: &Error) -> Failure {
    Failure::new(error.operation(), error.raw_os_error(), format!("{error:#}"))
}

/// Where the cgroup2 hierarchy is mounted.
fn cgroup2() -> PathBuf {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let mount = table.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
    mount.expect("cgroup2").into()
}
