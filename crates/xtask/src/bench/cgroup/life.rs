//! The life of a group: made, limited, a process put into it; and, when that has ended, removed.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

use super::super::plot::Chart;
use super::super::table::Row;
use super::super::worker::Worker;
use super::{Programs, chart};
use crate::Result;

/// As the workers' limits read in the kernel's files: 512 MiB of memory, 256 MiB of swap, half a processor, 64 tasks.
const LIMITS: [(&str, &str); 4] =
    [("memory.max", "536870912"), ("memory.swap.max", "268435456"), ("cpu.max", "50000 100000"), ("pids.max", "64")];
/// What the machine itself may have: two huge pages.
const HUGETLB: [(&str, &str); 1] = [("hugetlb.2MB.max", "4194304")];
const FLOOR: &str = "floor: mkdir, writes, rmdir";
const THEIRS: [(&str, &str); 3] = [
    ("cgroups-rs, its builder", "cgroups-rs-builder"),
    ("cgroups-rs, its manager", "cgroups-rs"),
    ("libcgroups", "libcgroups"),
];

/// A process that is there already is moved into the group.
pub fn measure_moved(programs: &Programs, top: &Path, rounds: u32) -> Result<Chart> {
    let ours = [(FLOOR, "floor"), ("cgroupfs", "cgroupfs"), ("cgroupfs, hierarchy found anew", "cgroupfs-detect")];
    let workers = (programs.worker()?, programs.peers()?);
    let rows = compare(workers, &ours, rounds, |worker, way| moved(worker, way, top))?;
    Ok(chart("Create, four limits, move a process in, remove".to_owned(), rows, &[FLOOR, "cgroupfs"]))
}

/// A process is started for the group.
pub fn measure_started(programs: &Programs, top: &Path, rounds: u32) -> Result<Chart> {
    let ours = [("cgroupfs and ns-core", "cgroupfs")];
    let workers = (programs.worker()?, programs.peers()?);
    let rows = compare(workers, &ours, rounds, |worker, way| started(worker, way, top, &LIMITS))?;
    Ok(chart("Create, four limits, start a process in it, remove".to_owned(), rows, &["cgroupfs and ns-core"]))
}

/// The same on this machine, with the one limit that it is most likely to have.
pub fn measure_started_here(programs: &Programs, top: &Path, rounds: u32) -> Result<()> {
    let controllers = fs::read_to_string(top.join("cgroup.subtree_control"))?;
    if !controllers.split_whitespace().any(|controller| controller == "hugetlb") {
        println!("The life of a group is left out: no hugetlb controller is passed down here.\n");
        return Ok(());
    }
    let ours = [("cgroupfs and ns-core", "cgroupfs")];
    let mut workers = (programs.worker()?, programs.peers_seeing(top)?);
    for worker in std::iter::once(&mut workers.0).chain(&mut workers.1) {
        worker.ask("limits hugetlb")?;
    }
    let rows = compare(workers, &ours, rounds, |worker, way| started(worker, way, top, &HUGETLB))?;
    chart("Create, one limit, start a process in it, remove".to_owned(), rows, &["cgroupfs and ns-core"]);
    Ok(())
}

fn compare(
    (mut worker, mut peers): (Worker, Option<Worker>),
    ours: &[(&str, &str)],
    rounds: u32,
    live: impl Fn(&mut Worker, &str) -> Result<Duration>,
) -> Result<Vec<Row>> {
    let theirs: &[_] = if peers.is_some() { &THEIRS } else { &[] };
    let ways: Vec<(&str, &str)> = ours.iter().chain(theirs).copied().collect();
    let mut rows: Vec<Row> = ways.iter().map(|(name, _)| Row::new(name)).collect();
    // The first round fills caches.
    for round in 0..=rounds {
        for turn in 0..ways.len() {
            // Nobody always follows the same other.
            let which = (turn + round as usize) % ways.len();
            let worker = if which < ours.len() { Some(&mut worker) } else { peers.as_mut() };
            let time = live(worker.ok_or("no other crates")?, ways[which].1)?;
            if round > 0 {
                rows[which].times.push(time);
            }
        }
    }
    Ok(rows)
}

fn moved(worker: &mut Worker, way: &str, top: &Path) -> Result<Duration> {
    settle(top)?;
    let mut process = Sleeper(Command::new("sleep").arg("1000").spawn()?);
    let pid = process.0.id().to_string();
    let making = worker.time(&format!("make {way} bench-{way} {pid}"))?;
    verify(way, top, &pid, &LIMITS)?;
    process.end()?;
    Ok(making + remove(worker, way, top)?)
}

fn started(worker: &mut Worker, way: &str, top: &Path, limits: &[(&str, &str)]) -> Result<Duration> {
    settle(top)?;
    let answer = worker.ask(&format!("begin {way} bench-{way}"))?;
    let (making, pid) = answer.split_once(' ').ok_or_else(|| format!("{way}: {answer}"))?;
    verify(way, top, pid, limits)?;
    worker.ask("end")?;
    Ok(Duration::from_nanos(making.parse()?) + remove(worker, way, top)?)
}

/// Whether the kernel has what was asked for.
fn verify(way: &str, top: &Path, pid: &str, limits: &[(&str, &str)]) -> Result<()> {
    for (file, expected) in limits.iter().chain([&("cgroup.procs", pid)]) {
        let found = fs::read_to_string(top.join(format!("bench-{way}")).join(file))?;
        if found.trim() != *expected {
            return Err(format!("{way}: {file} is {found:?}, not {expected:?}").into());
        }
    }
    Ok(())
}

fn remove(worker: &mut Worker, way: &str, top: &Path) -> Result<Duration> {
    settle(top)?;
    let time = worker.time("remove")?;
    if top.join(format!("bench-{way}")).exists() {
        return Err(format!("{way}: the group is still there").into());
    }
    Ok(time)
}

/// Waits until the kernel has taken apart what was removed before, as far as it can: it does so behind the back of whoever
/// removed it, and keeps the next one waiting.
fn settle(top: &Path) -> Result<()> {
    let mut before = String::new();
    for _ in 0..20 {
        sleep(Duration::from_millis(20));
        let now = fs::read_to_string(top.join("cgroup.stat"))?;
        if now == before {
            break;
        }
        before = now;
    }
    Ok(())
}

struct Sleeper(Child);

impl Sleeper {
    fn end(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
