//! Real starts, looked at through /proc and other programs.

use std::fs::File;
use std::io::Read;

use ns_core::{Command, ExitStatus, Result, Stdio};

#[cfg(feature = "tokio")]
mod asynchronous;
mod backend;
mod confinement;
mod container;
mod contract;
mod credentials;
mod errors;
mod from_fd;
mod output_timeout;
mod parent;
mod reaper;
mod resources;
mod root;
mod rootless;
mod stdio;
mod sys;
mod terminal;
mod waiting;

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

/// A shell script in a child.
fn sh(script: &str) -> Command {
    Command::new("/bin/sh").args(["-c", script])
}

/// How often something is done that is to be done very often: a twentieth of it where the processor is emulated.
fn fewer_where_emulated(count: usize) -> usize {
    if std::env::var_os("CELLKIT_VM").is_some() { count.div_ceil(20) } else { count }
}
