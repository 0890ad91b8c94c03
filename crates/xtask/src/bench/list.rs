//! Listing the namespaces of a machine with many processes: the whole program, from exec to exit.
//!
//! All of it runs in a pid namespace of its own with its own /proc, which ends with everything in it. The rounds are
//! interleaved, so that a busy moment of the machine strikes everybody.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use super::table::{Row, markdown};
use crate::install::{has, output};
use crate::{Result, cargo, is_root, target_dir};

/// Set in the pid namespace.
const INSIDE: &str = "CELLKIT_BENCH_INSIDE";
const APART: [&str; 5] = ["--uts", "--ipc", "--net", "--cgroup", "--mount"];

/// What `cargo xtask bench list` may be told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How often each program is run
    #[arg(long, default_value_t = 40)]
    rounds: u32,
    /// How many processes sleep meanwhile
    #[arg(long, default_value_t = 2000)]
    processes: usize,
    /// How many of them are in five namespaces of their own
    #[arg(long, default_value_t = 60)]
    apart: usize,
}

/// Measures.
///
/// # Errors
/// When it cannot be done at all: no root, no lsns.
pub fn run(options: &Options) -> Result<ExitCode> {
    if !is_root() || !has("lsns") || !has("unshare") {
        return Err("the comparison needs root, lsns and unshare".into());
    }
    if std::env::var_os(INSIDE).is_none() {
        return outside(options);
    }
    let sleepers = sleepers(options)?;
    let lister = target_dir().join("release/examples/lsns");
    let lister = lister.to_string_lossy();
    let contenders: [(&str, &[&str]); 4] = [
        ("lsns", &["lsns"]),
        ("list", &[&lister]),
        ("list on one processor", &["taskset", "--cpu-list", "0", &lister]),
        ("list, with threads, descriptors and mounts", &[&lister, "-a"]),
    ];
    // Once unmeasured: files are read, and the first two must say the same.
    let (theirs, ours) = (rows(contenders[0].1)?, rows(contenders[1].1)?);
    if theirs != ours {
        return Err(format!("not the same rows: {:?}", theirs.symmetric_difference(&ours).collect::<Vec<_>>()).into());
    }
    let mut times: Vec<Row> = contenders.iter().map(|(name, _)| Row::new(name)).collect();
    for _ in 0..options.rounds {
        for ((name, command), row) in contenders.iter().zip(&mut times) {
            row.times.push(time(command, name)?);
        }
    }
    println!(
        "List {} namespaces that {} processes are in: {} interleaved rounds, {}.\n",
        ours.len(),
        sleepers.0.len(),
        options.rounds,
        super::machine(),
    );
    print!("{}", markdown(&times, &["list"]));
    Ok(ExitCode::SUCCESS)
}

/// Builds, then runs this program again in the pid namespace.
fn outside(options: &Options) -> Result<ExitCode> {
    let built = cargo().args(["build", "--release", "--example", "lsns", "--quiet"]).status()?;
    if !built.success() {
        return Err("the example lsns does not build".into());
    }
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe()?)
        .args(["bench", "list"])
        .args(["--rounds", &options.rounds.to_string()])
        .args(["--processes", &options.processes.to_string()])
        .args(["--apart", &options.apart.to_string()])
        .env(INSIDE, "1");
    let status = command.status().map_err(|e| format!("unshare: {e}"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Processes that sleep until this is dropped.
struct Sleepers(Vec<Child>);

impl Drop for Sleepers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn sleepers(options: &Options) -> Result<Sleepers> {
    let mut sleepers = Sleepers(Vec::new());
    for number in 0..options.processes {
        let mut command = Command::new(if number < options.apart { "unshare" } else { "sleep" });
        if number < options.apart {
            command.args(APART).arg("sleep");
        }
        command.arg("infinity").stdin(Stdio::null());
        sleepers.0.push(command.spawn().map_err(|e| format!("process {number}: {e}"))?);
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    for child in &sleepers.0 {
        let comm = Path::new("/proc").join(child.id().to_string()).join("comm");
        while fs::read_to_string(&comm).unwrap_or_default() != "sleep\n" {
            if Instant::now() > deadline {
                return Err("the processes do not get to sleep".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(sleepers)
}

fn command(words: &[&str]) -> Command {
    let (program, arguments) = words.split_first().unwrap_or((&"", &[]));
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Number, kind, count of processes and user of each namespace that a lister shows.
fn rows(words: &[&str]) -> Result<BTreeSet<Vec<String>>> {
    let text = output(&mut command(words))?;
    let fields = text.lines().map(|line| line.split_whitespace().map(String::from).collect::<Vec<_>>());
    Ok(fields
        .filter_map(|row| Some([row.first()?, row.get(1)?, row.get(2)?, row.get(4)?].map(Clone::clone).to_vec()))
        .collect())
}

fn time(words: &[&str], name: &str) -> Result<Duration> {
    let mut command = command(words);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let begun = Instant::now();
    let status = command.status().map_err(|e| format!("{name}: {e}"))?;
    let time = begun.elapsed();
    if status.success() { Ok(time) } else { Err(format!("{name}: {status}").into()) }
}
