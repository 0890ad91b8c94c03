//! What starting a program in new namespaces costs: as a whole program, from inside small and large ones, and many at once.
//!
//! Every round does each start once, in turn, so that a busy moment of the machine strikes all. What times a start from
//! inside is a worker of its own (`benches/spawn`, the floor in C, `benches/peers`), for the size of the program that starts
//! matters.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::Duration;

use super::build;
use super::plot::{self, Chart};
use super::start::{Scratch, compile_empty, compile_floor, time};
use super::table::{Row, markdown};
use super::worker::Worker;
use crate::install::{self, has};
use crate::{Result, cargo, is_root, target_dir};

/// What the large program holds, in MiB, and its threads.
const LARGE: usize = 4096;
const THREADS: usize = 64;
/// Other crates, by the worker's names.
const PEERS: [(&str, &str); 2] = [("the unshare crate", "unshare"), ("hakoniwa (binds a root)", "hakoniwa")];

/// What `cargo xtask bench spawn` may be told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How often each start is made
    #[arg(long, default_value_t = 100)]
    rounds: u32,
    /// How many starts in a row are watched for growth
    #[arg(long, default_value_t = 10_000)]
    many: usize,
    /// Install the programs to compare with
    #[arg(long)]
    install: bool,
    /// Write the medians as a picture
    #[arg(long)]
    svg: Option<PathBuf>,
}

/// # Errors
/// When it cannot be done at all: no root, no C compiler.
pub fn run(options: &Options) -> Result<ExitCode> {
    if !is_root() {
        return Err("the comparison needs root: these namespaces do".into());
    }
    if options.install {
        install::ensure(install::PEERS)?;
    }
    let programs = Programs::build()?;
    println!("{}\n", super::machine());
    let charts =
        [whole(&programs, options.rounds)?, inside(&programs, options.rounds)?, large(&programs, options.rounds)?];
    many(&programs, options.many)?;
    if let Some(file) = &options.svg {
        plot::write(file, &charts)?;
    }
    Ok(ExitCode::SUCCESS)
}

struct Programs {
    /// Holds the floor.
    _scratch: Scratch,
    floor: PathBuf,
    empty_c: PathBuf,
    worker: PathBuf,
    unshare: PathBuf,
    /// Other crates, where they can be built.
    peers: Option<PathBuf>,
}

impl Programs {
    fn build() -> Result<Self> {
        let scratch = Scratch::new()?;
        let floor = compile_floor(scratch.path())?;
        let empty_c = compile_empty(scratch.path())?;
        let worker = build::worker("spawn")?;
        let built = cargo().args(["build", "--release", "--example", "unshare", "--quiet"]).status()?.success();
        if !built {
            return Err("examples/unshare.rs does not build".into());
        }
        let peers = build::peers("cellkit-bench-peers")?;
        let unshare = target_dir().join("release/examples/unshare");
        Ok(Self { _scratch: scratch, floor, empty_c, worker, unshare, peers })
    }

    fn worker(&self, mebibytes: usize, threads: usize) -> Result<Worker> {
        let mut command = Command::new(&self.worker);
        command.args(["--mib", &mebibytes.to_string(), "--threads", &threads.to_string()]);
        Worker::start("benches/spawn", &mut command)
    }

    fn floor(&self) -> Result<Worker> {
        Worker::start("floor", Command::new(&self.floor).args(["-w", "/bin/true"]))
    }

    fn peers(&self, mebibytes: usize) -> Result<Option<Worker>> {
        let Some(program) = &self.peers else { return Ok(None) };
        Worker::start("benches/peers", Command::new(program).args(["--mib", &mebibytes.to_string()])).map(Some)
    }
}

/// Fills `rows`, each by its own of `starts`.
fn fill(rows: &mut [Row], rounds: u32, mut starts: impl FnMut(u32) -> Result<Vec<Duration>>) -> Result<()> {
    // The first round fills caches.
    starts(0)?;
    for round in 1..=rounds {
        for (row, time) in rows.iter_mut().zip(starts(round)?) {
            row.times.push(time);
        }
    }
    Ok(())
}

fn chart(title: impl Into<String>, rows: Vec<Row>, references: &[&str]) -> Chart {
    let title = title.into();
    println!("### {title}\n\n{}", markdown(&rows, references));
    Chart { title, rows }
}

fn whole(programs: &Programs, count: u32) -> Result<Chart> {
    let six = "--pid --net --ipc --uts --mount --cgroup";
    let bwrap = "--unshare-pid --unshare-net --unshare-ipc --unshare-uts --unshare-cgroup --bind / / /bin/true";
    let mut contenders: Vec<(&str, &Path, String)> = vec![
        ("floor, in C", &programs.floor, "-c /bin/true".into()),
        ("ns-core's example unshare", &programs.unshare, format!("--fork {six} /bin/true")),
        ("unshare(1)", Path::new("unshare"), format!("--fork {six} /bin/true")),
    ];
    if has("bwrap") {
        contenders.push(("bwrap (binds a root)", Path::new("bwrap"), bwrap.into()));
    }
    contenders.push(("no start: an empty program in C", &programs.empty_c, String::new()));
    contenders.push(("no start: an empty program in Rust", &programs.worker, String::new()));
    let mut rows: Vec<Row> = contenders.iter().map(|(name, ..)| Row::new(name)).collect();
    fill(&mut rows, count, |_| {
        let times = contenders
            .iter()
            .map(|(name, program, arguments)| time(Command::new(program).args(arguments.split_whitespace()), name));
        times.collect()
    })?;
    Ok(chart("A whole program: /bin/true in six new namespaces, no mounts", rows, &["floor, in C"]))
}

fn inside(programs: &Programs, count: u32) -> Result<Chart> {
    let (mut floor, mut worker, mut peers) = (programs.floor()?, programs.worker(0, 0)?, programs.peers(0)?);
    let ways = [
        ("ns-core", "ns-core"),
        ("ns-core, memory copied", "ns-core-copied"),
        ("std, unshare(2) before exec", "std-unshare"),
        ("std, which runs unshare(1)", "unshare"),
        ("std, no namespaces", "std"),
        ("ns-core, no namespaces", "ns-core-none"),
    ];
    let mut rows = vec![Row::new("floor, in C")];
    rows.extend(ways.iter().map(|(name, _)| Row::new(name)));
    if peers.is_some() {
        rows.extend(PEERS.iter().map(|(name, _)| Row::new(name)));
    }
    fill(&mut rows, count, |_| {
        let mut times = vec![floor.time("start")?];
        for (_, way) in ways {
            times.push(worker.time(&format!("start {way}"))?);
        }
        if let Some(peers) = &mut peers {
            for (_, way) in PEERS {
                times.push(peers.time(&format!("start {way}"))?);
            }
        }
        Ok(times)
    })?;
    Ok(chart("From inside a small program, six namespaces", rows, &["floor, in C"]))
}

/// The large program beside the small one, both at rest, and both while the large one's threads are busy.
fn large(programs: &Programs, count: u32) -> Result<Chart> {
    let (mut small, mut large, mut peers) =
        (programs.worker(0, 0)?, programs.worker(LARGE, THREADS)?, programs.peers(LARGE)?);
    let slow = [
        ("ns-core, large, memory copied", "ns-core-copied"),
        ("fork and exec, large, no namespaces", "fork"),
        ("std, unshare(2) before exec, large", "std-unshare"),
    ];
    let names = [
        "ns-core, small",
        "ns-core, large",
        "ns-core, small, beside busy",
        "ns-core, large and busy",
        "std, large, no namespaces",
    ];
    let mut rows: Vec<Row> = names.iter().map(|name| Row::new(name)).collect();
    rows.extend(slow.iter().map(|(name, _)| Row::new(name)));
    if peers.is_some() {
        rows.extend(PEERS.iter().map(|(name, _)| Row::new(&format!("{name}, large"))));
    }
    fill(&mut rows, count, |round| {
        let mut times = vec![small.time("start ns-core")?, large.time("start ns-core")?];
        large.ask("busy")?;
        // Long enough for every thread to wake.
        sleep(Duration::from_millis(20));
        let mut busy = [Duration::ZERO; 2];
        // Neither always follows the other.
        for turn in 0..2 {
            let which = (turn + round as usize) % 2;
            busy[which] = if which == 0 { &mut small } else { &mut large }.time("start ns-core")?;
        }
        times.extend(busy);
        large.ask("rest")?;
        sleep(Duration::from_millis(20));
        times.push(large.time("start std")?);
        // These are a hundred times as slow: fewer will do.
        if round <= count.div_ceil(4) {
            for (_, way) in slow {
                times.push(large.time(&format!("start {way}"))?);
            }
            if let Some(peers) = &mut peers {
                for (_, way) in PEERS {
                    times.push(peers.time(&format!("start {way}"))?);
                }
            }
        }
        Ok(times)
    })?;
    let title = format!("From inside a program that holds {} GiB and has {THREADS} threads", LARGE / 1024);
    Ok(chart(title, rows, &["ns-core, small", "ns-core, small, beside busy"]))
}

/// Many in a row, and from sixteen threads at once beside sixteen floors at once.
fn many(programs: &Programs, count: usize) -> Result<()> {
    println!("### Many starts\n");
    let mut worker = programs.worker(0, 0)?;
    // What is made once, by the first starts, is not growth.
    worker.time("many ns-core 1600 16")?;
    let before = worker.ask("size")?;
    let took = worker.time(&format!("many ns-core {count} 1"))?;
    let after = worker.ask("size")?;
    println!("{count} starts in a row, one thread: {:.0} a second.", count as f64 / took.as_secs_f64());
    println!("Descriptors, mappings, resident KiB before: {before}; after: {after}.\n");

    let each = count / 20;
    let mut ratios = Vec::new();
    let mut floors: Vec<Worker> = (0..16).map(|_| programs.floor()).collect::<Result<_>>()?;
    for _ in 0..5 {
        let one = worker.time(&format!("many ns-core {each} 1"))?;
        let all = worker.time(&format!("many ns-core {each} 16"))?;
        let floor_one = floors_take(&mut floors[..1], each)?;
        let floor_all = floors_take(&mut floors, each)?;
        ratios.push([one.as_secs_f64() / all.as_secs_f64(), floor_one / floor_all, floor_all / all.as_secs_f64()]);
    }
    let middle = |at: usize| {
        let mut sorted: Vec<f64> = ratios.iter().map(|ratio| ratio[at]).collect();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    println!("| {each} starts, six namespaces, medians of 5 | times |\n|---|---:|");
    println!("| ns-core, 16 threads of one program: rate to that of 1 thread | {:.2} |", middle(0));
    println!("| floor in C, 16 programs: rate to that of 1 program | {:.2} |", middle(1));
    println!("| ns-core, 16 threads: rate to that of 16 floors | {:.2} |\n", middle(2));
    Ok(())
}

/// Seconds until the floors have made `count` starts between them.
fn floors_take(floors: &mut [Worker], count: usize) -> Result<f64> {
    let begun = std::time::Instant::now();
    let share = count / floors.len();
    std::thread::scope(|scope| {
        let threads: Vec<_> = floors
            .iter_mut()
            .map(|floor| {
                scope.spawn(move || {
                    (0..share).try_for_each(|_| floor.time("start").map(drop).map_err(|e| e.to_string()))
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| "a thread panicked".to_owned())??;
        }
        Ok::<(), String>(())
    })?;
    Ok(begun.elapsed().as_secs_f64() * count as f64 / (share * floors.len()) as f64)
}
