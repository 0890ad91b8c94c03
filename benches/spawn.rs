//! A start seen from inside: `cargo bench --bench spawn [-- MIB]`, as root for the rows with namespaces.
//!
//! Each round starts /bin/true once in each way and waits for it, so that a busy moment of the machine strikes all. With
//! MIB the program first touches that much memory: what shares memory with its child does not get slower by it.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use ns_core::{Command, Namespaces, Plan};

const ROUNDS: usize = 200;

fn main() -> ns_core::Result<()> {
    let mebibytes = std::env::args().filter_map(|arg| arg.parse::<usize>().ok()).next().unwrap_or(0);
    let mut ballast = vec![0u8; mebibytes << 20];
    for page in ballast.chunks_mut(4096) {
        page[0] = 1;
    }
    let six = Namespaces::CONTAINER.difference(Namespaces::USER);
    let mut ways: Vec<(&str, Plan)> = vec![("ns-core", Command::new("/bin/true").plan()?)];
    if std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0) {
        ways.push(("ns-core, six namespaces", Command::new("/bin/true").namespaces(six).plan()?));
        ways.push((
            "ns-core, six namespaces, memory copied",
            Command::new("/bin/true").namespaces(six).copy_memory().plan()?,
        ));
    } else {
        println!("not root: no rows with namespaces");
    }
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); ways.len() + 1];
    for round in 0..=ROUNDS {
        let mut taken = vec![time(|| {
            let status = std::process::Command::new("/bin/true").status();
            assert!(status.is_ok_and(|status| status.success()));
            Ok(())
        })?];
        for (_, plan) in &ways {
            taken.push(time(|| plan.spawn()?.wait().map(|status| assert!(status.success())))?);
        }
        // The first round fills caches.
        if round > 0 {
            for (all, time) in times.iter_mut().zip(taken) {
                all.push(time);
            }
        }
    }
    std::hint::black_box(&ballast);
    let names = std::iter::once("std::process::Command").chain(ways.iter().map(|(name, _)| *name));
    let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
    println!("/bin/true from a program holding {mebibytes} MiB, {ROUNDS} interleaved rounds\n");
    println!("| way | median, µs | times std |\n|---|---:|---:|");
    for (name, median) in names.zip(&medians) {
        println!("| {name} | {median:.0} | {:.2} |", median / medians[0]);
    }
    Ok(())
}

fn time(start: impl FnOnce() -> ns_core::Result<()>) -> ns_core::Result<Duration> {
    let begun = Instant::now();
    start()?;
    Ok(begun.elapsed())
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}
