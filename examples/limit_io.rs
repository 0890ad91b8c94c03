//! `systemd-run --scope -p 'IOReadBandwidthMax=/dev/loop0 2M' dd if=/dev/loop0 of=/dev/null iflag=direct bs=64k`: how long
//! reading takes before there is a limit on the disk, and after.
//!
//! `cargo run --example limit_io -- /dev/loop0 2m`, as root; `losetup --find --show FILE` makes such a disk
use std::time::{Duration, Instant};

use cgroupfs::{Bytes, Cgroup, CgroupName, DevNum, Hierarchy, IoMax, Limits, Max, Result};
use ns_core::{Command, Error};

const BLOCK: u64 = 64 << 10;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [disk, limit] = args.as_slice() else {
        eprintln!("usage: limit_io DISK BYTES_A_SECOND");
        std::process::exit(2)
    };
    let limit: Bytes = limit.parse()?;
    // The kernel limits whole disks: of a partition, it is the disk that this one is part of.
    let device = DevNum::of_path(disk)?.whole_disk()?;
    let reads = |limit| IoMax { rbps: Some(limit), ..IoMax::default() };
    let limits = Limits::new().io_max(device, reads(Max::Value(limit)));
    let place = Hierarchy::detect()?.place()?;
    // Says who has the controller when it is not to be had, before anything is made.
    limits.check(&place)?;

    let name = CgroupName::new(format!("limit_io-{}", std::process::id()))?;
    let group = place.create(&name, &limits, &mut ())?;
    let measured = (|| {
        group.io().set_max(device, reads(Max::Max))?;
        let free = read(&group, disk, limit)?;
        group.io().set_max(device, reads(Max::Value(limit)))?;
        let limited = read(&group, disk, limit)?;
        let stat = group.io().stat()?.get(device).cloned().unwrap_or_default();
        println!(
            "{:.3} s without a limit, {:.3} s at {limit} bytes a second",
            free.as_secs_f64(),
            limited.as_secs_f64()
        );
        println!("{} bytes in {} reads", stat.rbytes, stat.rios);
        Ok(())
    })();
    group.remove(Duration::from_secs(10)).and(measured)
}

/// How long a process of the group takes for what the limit allows in two seconds, past the page cache.
fn read(group: &Cgroup, disk: &str, limit: Bytes) -> Result<Duration> {
    let count = (2 * limit.0).div_ceil(BLOCK);
    let started = Instant::now();
    let status = Command::new("dd")
        .args([format!("if={disk}"), "of=/dev/null".into(), "iflag=direct".into(), "status=none".into()])
        .args([format!("bs={BLOCK}"), format!("count={count}")])
        .kill_with_parent()
        .cgroup(group)
        .status()?;
    if status.success() { Ok(started.elapsed()) } else { Err(Error::other("dd", format!("{status}"))) }
}
