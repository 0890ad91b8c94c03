//! `systemd-run --scope -p TasksMax=16 sh -c 'while :; do sleep 1000 & done'`: a loop of forks that ends at the limit.
//!
//! As root, or below a delegated group: `cargo run --example limit_pids -- 16`
use std::time::Duration;

use cgroupfs::{Cgroup, CgroupName, ErrorKind, Hierarchy, Limits, PidsMax, Result};
use ns_core::{Command, Stdio};

/// Forks until that is refused, which ends a shell. What it made stays.
const LOOP: &str = "while :; do sleep 1000 & done";

fn main() -> Result<()> {
    let limit: PidsMax = std::env::args().nth(1).as_deref().unwrap_or("16").parse()?;
    let place = Hierarchy::detect()?.place()?;
    let name = CgroupName::new(format!("limit_pids-{}", std::process::id()))?;
    // Says who has the pids controller and what to do, where it cannot be had.
    let group = place.create(&name, &Limits::new().pids_max(limit), &mut ())?;
    let shown = fork_in(&group);
    // Also after an error: all that runs in it is killed, waited for, and the group removed.
    let removed = group.remove(Duration::from_secs(10));
    shown.and(removed)
}

fn fork_in(group: &Cgroup) -> Result<()> {
    let status = Command::new("sh").args(["-c", LOOP]).cgroup(group).stderr(Stdio::Null).status()?;
    let pids = group.pids();
    println!("the shell ended with {}", status.shell_code());
    println!("{} tasks of at most {}, {} forks refused", pids.current()?, pids.max()?, pids.events()?.max);
    match pids.peak() {
        Ok(peak) => println!("{peak} at most at once"),
        Err(error) if error.kind() == ErrorKind::Unsupported => println!("{error}"),
        Err(error) => return Err(error),
    }
    Ok(())
}
