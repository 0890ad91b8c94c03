//! The developer's commands, run as `cargo xtask ...`.
#![forbid(unsafe_code)]

mod bench;
mod install;
mod lint;
mod suite;
mod tally;
mod test;
mod vm;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};

/// What a command answers: nothing here is worth a type of its own, it is printed.
type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

#[derive(Parser)]
#[command(about = "The developer's commands of this workspace", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Everything a change must pass: format, lints, documentation, all tests as root and as an ordinary user, and those
    /// this kernel cannot run in a virtual machine. Without root, the part that needs none
    Test(test::Options),
    /// Boot a Debian kernel with every cgroup v2 controller under emulation and run the root tests, or a command, in it
    Vm(vm::Options),
    /// Compare with other programs on this machine
    Bench(bench::Options),
    /// The house rules that clippy does not know: where `unsafe` may stand, /proc by path, joins on a root file system
    Lint,
    /// Install the Debian packages that the tests check with (root); otherwise name them
    Install,
}

fn main() -> ExitCode {
    let answer = match Arguments::parse().task {
        Task::Test(options) => test::run(&options),
        Task::Vm(options) => vm::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Lint => lint::run(),
        Task::Install => install::install(),
    };
    match answer {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace.
fn workspace() -> PathBuf {
    // This crate is two folders below it.
    let mut dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    dir.pop();
    dir.pop();
    dir
}

/// The cargo that runs this program, in the workspace.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// Where cargo puts what it builds.
fn target_dir() -> PathBuf {
    // Relative to where cargo was started, which for the alias is anywhere in the workspace: this program is in
    // `<target>/<profile>/xtask`.
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.to_owned()));
    beside.unwrap_or_else(|| workspace().join("target"))
}

/// Whether this process may do everything.
fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uid.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}
