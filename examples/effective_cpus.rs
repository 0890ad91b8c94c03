//! `nproc`: how many threads a program should have, with what bounds them, and how much memory it may have.
//!
//! nproc(1) counts the processors one may run on. Under `docker run --cpus 1.5`, or in a systemd unit with CPUQuota=150%,
//! that is still all of them: this says 2.
//!
//! `cargo run --example effective_cpus`, as anybody
use std::path::PathBuf;

use cgroupfs::{Bytes, Result, effective_cpus, effective_memory};

fn main() -> Result<()> {
    let cpus = effective_cpus()?;
    println!("{}", cpus.count());
    println!("processors {}", cpus.runnable);
    match &cpus.quota {
        Some((quota, group)) => println!("cpu.max {quota} of {}", group.display()),
        None => println!("cpu.max none that can be seen"),
    }

    let memory = effective_memory()?;
    println!("memory {} of {} bytes", memory.bytes(), memory.machine);
    let limit = |name: &str, limit: &Option<(Bytes, PathBuf)>| {
        if let Some((bytes, group)) = limit {
            println!("{name} {bytes} of {}", group.display());
        }
    };
    limit("memory.max", &memory.max);
    limit("memory.high", &memory.high);
    Ok(())
}
