//! The statistics of many groups, read again and again.
//!
//! The floor is a program that makes one pread(2) for each file, by descriptors that it keeps open: those files that the
//! worker of cgroupfs has open after it has read once, which /proc shows.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::super::plot::Chart;
use super::super::table::Row;
use super::super::worker::Worker;
use super::{Parent, Programs, chart};
use crate::Result;

const FLOOR: &str = "floor: pread(2) of the same files";
const THEIRS: [&str; 2] = ["cgroups-rs", "libcgroups"];

/// With every crate.
pub fn measure(programs: &Programs, top: &Path, groups: usize, rounds: u32) -> Result<Chart> {
    let parent = Parent::make(top, "stats")?;
    parent.fill(groups)?;
    let mut peers = Vec::new();
    for way in THEIRS {
        if let Some(mut worker) = programs.peers()? {
            let below = parent.0.strip_prefix(top)?;
            worker.ask(&format!("open {way} {} {groups}", below.display()))?;
            peers.push((way, worker));
        }
    }
    compare(programs, &parent, groups, rounds, peers)
}

/// Without other crates: some of them fail where a controller is missing.
pub fn measure_alone(programs: &Programs, top: &Path, groups: usize, rounds: u32) -> Result<Chart> {
    let parent = Parent::make(top, "stats")?;
    parent.fill(groups)?;
    compare(programs, &parent, groups, rounds, Vec::new())
}

fn compare(
    programs: &Programs,
    parent: &Parent,
    groups: usize,
    rounds: u32,
    peers: Vec<(&str, Worker)>,
) -> Result<Chart> {
    let mut ours = programs.worker()?;
    ours.ask(&format!("open cgroupfs {} {groups}", parent.0.display()))?;
    ours.time("stats")?;
    let files = open_files(&ours, &parent.0)?;
    let list = std::env::temp_dir().join(format!("cellkit-bench-files-{}", std::process::id()));
    fs::write(&list, files.iter().map(|file| format!("{file}\n")).collect::<String>())?;
    let mut floor = programs.worker()?;
    floor.ask(&format!("open floor {}", list.display()))?;
    fs::remove_file(&list)?;

    let mut workers = vec![(FLOOR, floor), ("cgroupfs", ours)];
    workers.extend(peers);
    let mut rows: Vec<Row> = workers.iter().map(|(name, _)| Row::new(name)).collect();
    // The first round fills caches.
    for round in 0..=rounds {
        for ((_, worker), row) in workers.iter_mut().zip(&mut rows) {
            let time = worker.time("stats")?;
            if round > 0 {
                row.times.push(time);
            }
        }
    }
    let title = format!("Statistics of {groups} groups, {} files each", files.len() / groups.max(1));
    Ok(chart(title, rows, &[FLOOR, "cgroupfs"]))
}

/// The files of groups that a worker has open.
fn open_files(worker: &Worker, parent: &Path) -> Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{}/fd", worker.pid()))? {
        let Ok(target) = fs::read_link(entry?.path()) else { continue };
        if target.starts_with(parent) && target.is_file() {
            files.insert(target.to_string_lossy().into_owned());
        }
    }
    Ok(files)
}
