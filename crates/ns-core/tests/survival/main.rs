//! What a start survives: faults at every system call, signals, limits, hostile surroundings, numbers.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use faultkit::Failure;
use ns_core::{Command, Error, ExitStatus, Result, Stdio};

mod limits;
mod numbers;
mod signals;
mod surroundings;
mod sweep;
mod sweep_handles;
mod sweep_looking;
mod sweep_more;
mod sweep_moving;
mod sweep_pins;
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

/// Runs `command` with its output in a pipe, and answers how it ended and what it wrote.
fn output(command: Command) -> Result<(ExitStatus, String)> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("pipe");
    let plan = command.stdout(Stdio::Fd(writer)).plan()?;
    let mut child = plan.spawn()?;
    // The plan holds the writing end.
    drop(plan);
    let mut text = String::new();
    File::from(reader).read_to_string(&mut text).expect("output");
    Ok((child.wait()?, text))
}

/// How often: less where the processor is emulated.
fn times(native: usize) -> usize {
    if std::env::var_os("CELLKIT_VM").is_some() { native / 25 } else { native }
}
