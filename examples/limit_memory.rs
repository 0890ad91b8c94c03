//! `systemd-run --scope -p MemoryMax=16M -p MemorySwapMax=0 COMMAND`: a command with so much memory, and what comes of it.
//! The out-of-memory killer ends it alone: a neighbour in a group of its own lives, and the group's `memory.events` tell.
//!
//! `cargo run --example limit_memory -- 16m tail /dev/zero`, as root: exit status 137, for SIGKILL
use std::time::Duration;

use cgroupfs::{Bytes, Cgroup, CgroupName, ErrorKind, Hierarchy, Limits, Max, Place, Result, SwapOnly};
use ns_core::Command;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(limit), Some(program)) = (args.next(), args.next()) else {
        eprintln!("usage: limit_memory BYTES COMMAND [ARGUMENT]...");
        std::process::exit(2)
    };
    let limits = Limits::new().memory_max(limit.parse::<Bytes>()?).memory_swap_max(SwapOnly(Max::Value(Bytes(0))));
    let place = Hierarchy::detect()?.place()?;
    // Says who has the controller when it is not to be had, before anything is made.
    limits.check(&place)?;

    let victim = group(&place, "victim", &limits)?;
    let ran = group(&place, "neighbour", &Limits::new()).and_then(|neighbour| {
        let ran = beside(&victim, &neighbour, Command::new(program).args(args));
        neighbour.remove(Duration::from_secs(10)).and(ran)
    });
    let removed = victim.remove(Duration::from_secs(10));
    let code = ran?;
    removed?;
    std::process::exit(code)
}

/// A name of one's own: another of these may run at the same time.
fn group(place: &Place, name: &str, limits: &Limits) -> Result<Cgroup> {
    place.create(&CgroupName::new(format!("limit_memory-{}-{name}", std::process::id()))?, limits, &mut ())
}

fn beside(victim: &Cgroup, neighbour: &Cgroup, command: Command) -> Result<i32> {
    // Born in their groups, so that not even the first page is somebody else's.
    let mut sleeper = Command::new("sleep").arg("1000").kill_with_parent().cgroup(neighbour).spawn()?;
    let code = command.kill_with_parent().cgroup(victim).status()?.shell_code();

    let memory = victim.memory();
    let events = memory.events()?; // before the group is removed
    println!("status {code}, oom_kill {}, max {}", events.oom_kill, events.max);
    match memory.peak() {
        Ok(peak) => println!("the most was {peak} of {}", memory.max()?),
        Err(error) if error.kind() == ErrorKind::Unsupported => {} // before Linux 5.19
        Err(error) => return Err(error),
    }
    let lives = neighbour.events()?.populated;
    println!("the neighbour {}", if lives { "lives" } else { "is dead" });
    sleeper.kill()?;
    sleeper.wait()?;
    Ok(code)
}
