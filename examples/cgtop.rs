//! `systemd-cgtop`: the groups below one that use the most, again and again.
//!
//! `cargo run --example cgtop -- --order memory --delay 2`; `--once` prints one table and ends.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cgroupfs::{Hierarchy, Result, Stats, StatsParts, StatsTree};

const USAGE: &str = "usage: cgtop [--order cpu|memory|io|tasks] [--delay SECONDS] [--count N | --once] [GROUP]";

/// One line: processor in percent of one, memory in bytes, disk in bytes a second, tasks. None is what nobody counts.
#[derive(Clone, Copy)]
struct Line([Option<u64>; 4]);

fn main() -> Result<()> {
    let (mut order, mut delay, mut count, mut top) = (0, Duration::from_secs(1), u64::MAX, "/".to_owned());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(usage);
        match &*arg {
            "--order" => {
                let by = value();
                order = ["cpu", "memory", "io", "tasks"].iter().position(|known| *known == by).unwrap_or_else(usage);
            }
            "--delay" => {
                delay = Duration::try_from_secs_f64(value().parse().unwrap_or(-1.0)).unwrap_or_else(|_| usage())
            }
            "--count" => count = value().parse().unwrap_or_else(|_| usage()),
            "--once" => count = 1,
            group if !group.starts_with('-') => top = group.to_owned(),
            _ => usage(),
        }
    }
    let parts = StatsParts::CPU | StatsParts::MEMORY | StatsParts::IO | StatsParts::PIDS;
    let mut tree = StatsTree::new(&Hierarchy::detect()?.open(&top)?, parts)?;
    let mut before = read(&mut tree)?;
    for _ in 0..count {
        let since = Instant::now();
        std::thread::sleep(delay);
        let now = read(&mut tree)?;
        let seconds = since.elapsed().as_secs_f64();
        let mut lines: Vec<_> = now.iter().map(|(below, now)| (below, line(before.get(below), now, seconds))).collect();
        lines.sort_by_key(|(_, Line(values))| std::cmp::Reverse(values[order]));
        // At a terminal the table stays where it is.
        if count > 1 && std::io::IsTerminal::is_terminal(&std::io::stdout()) {
            print!("\x1b[H\x1b[2J");
        }
        println!("{:>6} {:>12} {:>12} {:>6} GROUP", "CPU%", "MEMORY", "IO/S", "TASKS");
        for (below, Line(values)) in lines {
            let [cpu, memory, io, tasks] = values.map(|value| value.map_or("-".to_owned(), |value| value.to_string()));
            println!("{cpu:>6} {memory:>12} {io:>12} {tasks:>6} /{}", below.display());
        }
        before = now;
    }
    Ok(())
}

fn read(tree: &mut StatsTree) -> Result<BTreeMap<PathBuf, Stats>> {
    Ok(tree.read()?.map(|group| (group.below.clone(), group.stats.clone())).collect())
}

fn line(before: Option<&Stats>, now: &Stats, seconds: f64) -> Line {
    let rate = |count: fn(&Stats) -> Option<u64>| {
        let risen = count(now)?.saturating_sub(before.and_then(count)?);
        Some((risen as f64 / seconds) as u64)
    };
    let cpu = rate(|stats| stats.cpu_stat.as_ref().map(|stat| stat.usage_usec)).map(|usec| usec / 10_000);
    let io = rate(|stats| Some(stats.io_stat.as_ref()?.devices.values().map(|disk| disk.rbytes + disk.wbytes).sum()));
    Line([cpu, now.memory_current.map(|bytes| bytes.0), io, now.pids_current])
}

fn usage<T>() -> T {
    eprintln!("{USAGE}");
    std::process::exit(2)
}
