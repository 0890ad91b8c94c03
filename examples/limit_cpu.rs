//! `systemd-run --scope -p CPUQuota=50% COMMAND`: half a processor, and what that does to a task that should be in time.
//!
//! The task does a little each 20 ms, and much more once in a while: less than half a processor in all, but more at once
//! than the quota of one period. It is throttled then, and late. With burst, quota that was not used before serves for it.
//!
//! As root, or below a delegated group: `cargo run --example limit_cpu`
use std::hint::black_box;
use std::time::{Duration, Instant};

use cgroupfs::{Cgroup, CgroupName, CpuBurst, Error, Hierarchy, Limits, Quota, Result};
use ns_core::{Command, Stdio};

const ROUNDS: u32 = 120;
const TURN: Duration = Duration::from_millis(20);

fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("task") {
        task();
        return Ok(());
    }
    let place = Hierarchy::detect()?.place()?;
    let name = CgroupName::new(format!("limit_cpu-{}", std::process::id()))?;
    let quota = Quota::parse_cpus("0.5")?;
    for (words, burst) in [("without burst", Duration::ZERO), ("with burst", Duration::from_millis(50))] {
        // Says who has the cpu controller and what to do, where it cannot be had.
        let group = place.create(&name, &Limits::new().cpu_max(quota), &mut ())?;
        let shown = measure(&group, words, CpuBurst::try_from(burst)?);
        // Also after an error: all that runs in it is killed, waited for, and the group removed.
        shown.and(group.remove(Duration::from_secs(10)))?;
    }
    Ok(())
}

fn measure(group: &Cgroup, words: &str, burst: CpuBurst) -> Result<()> {
    group.cpu().set_max_burst(burst)?;
    let own = std::env::current_exe().map_err(|error| Error::from_io("readlink /proc/self/exe", &error))?;
    let output = Command::new(own).arg("task").cgroup(group).stdout(Stdio::Pipe).output()?;
    let stat = group.cpu().stat()?;
    println!("{words}: cpu.max {}, cpu.max.burst {}", group.cpu().max()?, group.cpu().max_burst()?);
    println!("  {}", String::from_utf8_lossy(&output.stdout).trim());
    let number = |value: Option<u64>| value.unwrap_or_default();
    println!("  usage_usec {}", stat.usage_usec);
    println!("  nr_throttled {} throttled_usec {}", number(stat.nr_throttled), number(stat.throttled_usec));
    println!("  nr_bursts {} burst_usec {}", number(stat.nr_bursts), number(stat.burst_usec));
    Ok(())
}

/// Prints how late the end of a turn's work was, at the median and at the 99th percentile.
fn task() {
    // How much work a millisecond is: the best of many tries, each too short to be throttled or put aside for long.
    let tries = (0..20).map(|_| Instant::now()).map(|started| (work(20_000), started.elapsed()).1);
    let best = tries.min().unwrap_or_default().subsec_nanos().max(1);
    let per_ms = 20_000 * 1_000_000 / u64::from(best);
    let started = Instant::now();
    let mut took: Vec<Duration> = (1..=ROUNDS)
        .map(|round| {
            let due = TURN * round;
            std::thread::sleep(due.saturating_sub(started.elapsed()));
            // 1 ms of each 20; and each half a second 90, more than two periods have left of their 50.
            work(per_ms * if round % 25 == 0 { 90 } else { 1 });
            started.elapsed().saturating_sub(due)
        })
        .collect();
    took.sort();
    let at = |percent: usize| took[took.len() * percent / 100].as_millis();
    println!("latency_ms p50 {} p99 {}", at(50), at(99));
}

fn work(steps: u64) {
    for step in 0..steps {
        black_box(step);
    }
}
