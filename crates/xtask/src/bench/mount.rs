//! What a container's root costs: beside a program in C that makes the same system calls, with few mounts and with many
//! on the host, and with ten starting at once.
//!
//! Both sides are workers that time a start from inside, so that no program's own start is in it, and they take turns, so that a
//! busy moment of the machine strikes both. All of it runs in a private mount namespace.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use super::build;
use super::start::{Scratch, compile_true};
use super::table::{Row, markdown};
use super::worker::Worker;
use crate::install::output;
use crate::{Result, is_root};

/// Set in the private mount namespace: the worker that was built outside of it.
const INSIDE: &str = "CELLKIT_BENCH_MOUNT";
const FLOOR: &str = include_str!("../../../../benches/mount/floor.c");
/// Lower directories of the overlay.
const LAYERS: usize = 8;
/// Files in each of them.
const FILES: usize = 200;
/// How many start at once.
const AT_ONCE: usize = 10;

/// What `cargo xtask bench mount` may be told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How often each is done
    #[arg(long, default_value_t = 100)]
    rounds: u32,
    /// How many mounts the host has, where it has many
    #[arg(long, default_value_t = 5000)]
    mounts: u32,
}

/// # Errors
/// When it cannot be done at all: no root, no C compiler.
pub fn run(options: &Options) -> Result<ExitCode> {
    if !is_root() {
        return Err("the comparison needs root: it mounts".into());
    }
    let Some(worker) = std::env::var_os(INSIDE) else { return outside(options) };
    let host = Host::new(worker.into())?;
    println!("{}\n", super::machine());
    root(&host, options.rounds)?;
    many_mounts(&host, options)?;
    at_once(&host, options.rounds)?;
    Ok(ExitCode::SUCCESS)
}

/// Builds, then runs this program again in the private mount namespace.
fn outside(options: &Options) -> Result<ExitCode> {
    let worker = build::worker("mount")?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe()?);
    command.args(["bench", "mount", "--rounds", &options.rounds.to_string(), "--mounts", &options.mounts.to_string()]);
    let status = command.env(INSIDE, worker).status().map_err(|e| format!("unshare: {e}"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A place with layers, and the two programs.
struct Host {
    scratch: Scratch,
    floor: PathBuf,
    worker: PathBuf,
    layers: Vec<PathBuf>,
    /// How many were started.
    workers: Cell<u32>,
}

impl Host {
    fn new(worker: PathBuf) -> Result<Self> {
        let scratch = Scratch::new()?;
        let dir = scratch.path();
        let (source, floor) = (dir.join("floor.c"), dir.join("floor"));
        fs::write(&source, FLOOR)?;
        output(Command::new("cc").args(["-O2", "-Wall", "-o"]).args([&floor, &source]))?;
        let program = compile_true(dir)?;
        let mut layers = Vec::new();
        for number in 0..LAYERS {
            let layer = dir.join(format!("layer{number}"));
            for name in ["proc", "sys", "dev", "etc", "usr"] {
                fs::create_dir_all(layer.join(name))?;
            }
            for file in 0..FILES {
                fs::write(layer.join(format!("usr/{number}-{file}")), "a file\n")?;
            }
            layers.push(layer);
        }
        // In the lowest, so that the others are looked through for it.
        let lowest = layers.last().ok_or("no layer")?;
        fs::copy(program, lowest.join("true"))?;
        fs::set_permissions(lowest.join("true"), fs::Permissions::from_mode(0o755))?;
        Ok(Self { scratch, floor, worker, layers, workers: Cell::new(0) })
    }

    /// Both workers, each in a copy of the mount namespace as it is now.
    fn workers(&self) -> Result<[Worker; 2]> {
        Ok([self.floor()?, self.ours(None)?])
    }

    fn floor(&self) -> Result<Worker> {
        Worker::start("floor", apart(&self.floor).arg(self.writes()?).args(&self.layers))
    }

    /// `without`: what is mounted there is left behind once.
    fn ours(&self, without: Option<&Path>) -> Result<Worker> {
        let mut command = apart(&self.worker);
        if let Some(dir) = without {
            command.arg("--apart").arg(dir);
        }
        Worker::start("benches/mount", command.arg("--writes").arg(self.writes()?).args(&self.layers))
    }

    /// A directory for what the containers of one worker write.
    fn writes(&self) -> Result<PathBuf> {
        let number = self.workers.get();
        self.workers.set(number + 1);
        let dir = self.scratch.path().join(format!("writes{number}"));
        fs::create_dir(&dir)?;
        Ok(dir)
    }
}

/// Runs `program` in a copy of the mount namespace.
fn apart(program: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(program);
    command
}

/// Asks each of `workers` in turn, `rounds` times and once before that does not count.
fn fill(rows: &mut [Row], workers: &mut [&mut Worker], rounds: u32, request: &str) -> Result<()> {
    for round in 0..=rounds {
        for (worker, row) in workers.iter_mut().zip(rows.iter_mut()) {
            let time = worker.time(request)?;
            if round > 0 {
                row.times.push(time);
            }
        }
    }
    Ok(())
}

fn root(host: &Host, rounds: u32) -> Result<()> {
    let [mut floor, mut ours] = host.workers()?;
    let steps = ours.ask("steps")?;
    let mut rows = [Row::new("floor, in C"), Row::new("mountkit and ns-core")];
    fill(&mut rows, &mut [&mut floor, &mut ours], rounds, "start")?;
    println!(
        "A whole root (overlay of {LAYERS} layers, proc, sysfs, dev, pts, shm, mqueue, masks, pivot_root: {steps} steps), in six \
         new namespaces, until its program has ended. Medians of {rounds} interleaved rounds.\n"
    );
    println!("{}", markdown(&rows, &["floor, in C"]));
    Ok(())
}

fn many_mounts(host: &Host, options: &Options) -> Result<()> {
    let [mut floor_few, mut ours_few] = host.workers()?;
    let full = host.scratch.path().join("full");
    fs::create_dir(&full)?;
    mount(&["-t", "tmpfs", "full"], &full)?;
    let _full = Unmount(&full);
    multiply(&full, options.mounts)?;
    // These have them all; those above began before, each in a namespace of its own.
    let [mut floor_many, mut ours_many] = host.workers()?;
    let mut ours_apart = host.ours(Some(&full))?;
    let names = [
        "floor, few mounts",
        "mountkit, few mounts",
        "floor, many mounts",
        "mountkit, many mounts",
        "mountkit, many mounts, left behind once",
    ];
    let mut rows = names.map(Row::new);
    let mut workers = [&mut floor_few, &mut ours_few, &mut floor_many, &mut ours_many, &mut ours_apart];
    fill(&mut rows, &mut workers, options.rounds, "start")?;
    println!("The same where the host has {} mounts more, and where it has them not.\n", options.mounts);
    println!("{}", markdown(&rows, &["floor, few mounts", "mountkit, few mounts", "floor, many mounts"]));
    Ok(())
}

fn at_once(host: &Host, rounds: u32) -> Result<()> {
    let [mut floor, mut ours] = host.workers()?;
    let mut rows =
        ["floor, one by one", "floor, ten at once", "mountkit, one by one", "mountkit, ten at once"].map(Row::new);
    for round in 0..=rounds.div_ceil(5) {
        for (worker, pair) in [&mut floor, &mut ours].into_iter().zip(rows.chunks_mut(2)) {
            let mut one_by_one = Duration::ZERO;
            for _ in 0..AT_ONCE {
                one_by_one += worker.time("start")?;
            }
            let at_once = worker.time(&format!("many {AT_ONCE}"))?;
            if round > 0 {
                for (row, time) in pair.iter_mut().zip([one_by_one, at_once]) {
                    row.times.push(time / AT_ONCE as u32);
                }
            }
        }
    }
    println!("Ten starts, one by one and at once: the time of all, divided by ten.\n");
    println!("{}", markdown(&rows, &["floor, one by one", "mountkit, one by one"]));
    Ok(())
}

fn mount(arguments: &[&str], target: &Path) -> Result<()> {
    output(Command::new("mount").args(arguments).arg(target)).map(drop)
}

/// Makes `count` mounts of the one on `dir`: by copies of the whole tree, and then of parts of it.
fn multiply(dir: &Path, count: u32) -> Result<()> {
    let bind = |from: &Path, name: String| {
        let target = dir.join(name);
        fs::create_dir(&target)?;
        output(Command::new("mount").arg("--rbind").args([from, &target])).map(drop)
    };
    let mut there = 1;
    let mut doubled = 0;
    while there * 2 <= count {
        bind(dir, format!("copy{doubled}"))?;
        (there, doubled) = (there * 2, doubled + 1);
    }
    for number in (0..doubled).rev().filter(|number| (count - there) >> number & 1 == 1) {
        bind(&dir.join(format!("copy{number}")), format!("again{number}"))?;
    }
    Ok(())
}

/// Unmounts a whole tree.
struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = output(Command::new("umount").arg("--lazy").arg(self.0));
    }
}
