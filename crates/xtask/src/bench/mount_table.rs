//! Reading a table of very many mounts, beside the kernel's own text, findmnt and another crate.
//!
//! All of it is in a mount namespace of its own, which ends with everything in it. The rounds are interleaved, so that a
//! busy moment of the machine strikes everybody. Workers time themselves; findmnt is timed from exec to exit, and what it
//! takes to start and to end, `findmnt --version`, is subtracted.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use super::build;
use super::table::{Row, markdown};
use super::worker::Worker;
use crate::install::has;
use crate::{Result, is_root};

/// Set in the mount namespace: where the workers are, `:` between them.
const INSIDE: &str = "CELLKIT_BENCH_INSIDE";
/// Where the mounts are.
const DIR: &str = "/mnt";

/// What `cargo xtask bench table` may be told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How often each is read
    #[arg(long, default_value_t = 40)]
    rounds: u32,
    /// How many mounts there are
    #[arg(long, default_value_t = 10_000)]
    mounts: u32,
}

/// Measures.
///
/// # Errors
/// When it cannot be done at all: no root, no findmnt.
pub fn run(options: &Options) -> Result<ExitCode> {
    if !is_root() || !has("findmnt") || !has("unshare") {
        return Err("the comparison needs root, findmnt and unshare".into());
    }
    match std::env::var_os(INSIDE) {
        None => outside(options),
        Some(workers) => {
            let workers: Vec<PathBuf> = std::env::split_paths(&workers).collect();
            inside(options, workers.first().ok_or("no worker")?, workers.get(1))
        }
    }
}

/// Builds, then runs this program again in the mount namespace.
fn outside(options: &Options) -> Result<ExitCode> {
    let ours = build::worker("mount_table")?;
    let workers = std::env::join_paths(std::iter::once(ours).chain(build::peers("cellkit-bench-mount-peers")?))?;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private"])
        .arg(std::env::current_exe()?)
        .args(["bench", "table"])
        .args(["--rounds", &options.rounds.to_string()])
        .args(["--mounts", &options.mounts.to_string()])
        .env(INSIDE, workers);
    let status = command.status().map_err(|e| format!("unshare: {e}"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn inside(options: &Options, ours: &PathBuf, peers: Option<&PathBuf>) -> Result<ExitCode> {
    let mut ours = Worker::start("mounts", Command::new(ours).arg("--worker"))?;
    let mut peers = peers.map(|peers| Worker::start("peers", &mut Command::new(peers))).transpose()?;
    ours.ask(&format!("fill {DIR} {}", options.mounts))?;
    let count = ours.ask("count")?;
    if let Some(peers) = &mut peers {
        let theirs = peers.ask("count")?;
        if theirs != count {
            return Err(format!("{count} mounts, but {theirs} by the other crate").into());
        }
    }
    let requests = [
        ("mountinfo, read and thrown away", "raw".to_owned()),
        ("MountTable", "table".to_owned()),
        ("MountTable from mountinfo alone", "mountinfo".to_owned()),
        ("MountTable from statmount alone", "statmount".to_owned()),
        ("MountTable::of_tree of ten", format!("tree {DIR}/few")),
        ("MountTable::of_mount", format!("mount {DIR}/few")),
    ];
    let mut rows: Vec<Row> = requests.iter().map(|(name, _)| Row::new(name)).collect();
    let mut procfs = Row::new("procfs");
    let mut list = Row::new("findmnt --list");
    let mut tree = Row::new("findmnt");
    let mut start = Row::new("findmnt --version");
    for round in 0..options.rounds {
        for ((_, request), row) in requests.iter().zip(&mut rows) {
            row.times.push(ours.time(request)?);
        }
        if let Some(peers) = &mut peers {
            procfs.times.push(peers.time("procfs")?);
        }
        start.times.push(time(&["--version"])?);
        list.times.push(time(&["--list"])?);
        // More than a second each.
        if round % 8 == 0 {
            tree.times.push(time(&[])?);
        }
    }
    let begin = Duration::from_secs_f64(start.median() / 1000.0);
    for row in [&mut list, &mut tree] {
        row.times.iter_mut().for_each(|time| *time = time.saturating_sub(begin));
    }
    rows.extend(peers.is_some().then_some(procfs));
    rows.extend([list, tree, start]);
    println!("Read a table of {count} mounts: {} interleaved rounds, {}.\n", options.rounds, super::machine());
    print!("{}", markdown(&rows, &["mountinfo, read and thrown away", "MountTable"]));
    Ok(ExitCode::SUCCESS)
}

fn time(arguments: &[&str]) -> Result<Duration> {
    let mut command = Command::new("findmnt");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    let begun = Instant::now();
    let status = command.status().map_err(|e| format!("findmnt: {e}"))?;
    let time = begun.elapsed();
    if status.success() { Ok(time) } else { Err(format!("findmnt: {status}").into()) }
}
