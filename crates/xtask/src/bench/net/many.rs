//! Many containers attached at the same time, and detached again: what the last costs beside the first.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::place::{Machine, Place};
use crate::Result;
use crate::bench::table::quantile;
use crate::bench::worker::Worker;

/// How many of the first and of the last are looked at.
const PART: usize = 100;

pub fn run(place: &Place, containers: u32) -> Result<()> {
    Machine::containers(containers)?;
    println!("## Many containers\n");
    println!(
        "{containers} containers attached one after the other, each with a published port, then detached in the same order, {}: \
         medians of {PART} of them, in milliseconds.\n",
        crate::bench::machine()
    );
    println!("| | the first {PART} | the middle | the last {PART} | last / first |");
    println!("|---|---:|---:|---:|---:|");
    // The kernel's own share: a namespace with many interfaces is slower to change for everybody.
    let by_hand = Machine::new("many-c")?;
    by_hand.wire_by_hand()?;
    through("floor, in C", place.floor(&by_hand, None)?, containers)?;
    let machine = Machine::new("many-bridge")?;
    through("vethnet, bridge", place.ours(&machine, &Place::state("many-bridge")?, "bridge")?, containers)?;
    let machine = Machine::new("many-routed")?;
    through("vethnet, routed", place.ours(&machine, &Place::state("many-routed")?, "routed")?, containers)?;
    println!();
    Ok(())
}

fn through(name: &str, mut worker: Worker, containers: u32) -> Result<()> {
    for verb in ["attach", "detach"] {
        let times =
            (0..containers).map(|number| worker.time(&format!("{verb} {number}"))).collect::<Result<Vec<_>>>()?;
        let median = |times: &[Duration]| quantile(times, 0.5);
        let part = PART.min(times.len() / 2);
        let half = times.len() / 2;
        let first = median(times.get(..part).unwrap_or_default());
        let middle = median(times.get(half - part / 2..half + part / 2).unwrap_or_default());
        let last = median(times.get(times.len() - part..).unwrap_or_default());
        println!("| {name}, {verb} | {first:.2} | {middle:.2} | {last:.2} | {:.2} |", last / first);
    }
    Ok(())
}
