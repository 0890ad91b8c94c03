//! Single requests beside ip(8) and the program in C: a list of many links, and a pair of them made and removed.
#![forbid(unsafe_code)]

use std::process::Command;
use std::time::{Duration, Instant};

use super::place::{Machine, Place, feed};
use crate::Result;
use crate::bench::table::{Row, markdown, quotients};
use crate::install::output;

const PAIRS: u32 = 500;
const FLOOR: &str = "floor, in C";

pub fn run(place: &Place, rounds: u32) -> Result<()> {
    let machine = Machine::new("links")?;
    machine.wire_by_hand()?;
    let batch: String =
        (0..PAIRS).map(|number| format!("link add a{number} type veth peer name b{number}\n")).collect();
    feed(Command::new("ip").args(["-n", "links", "-batch", "-"]), &batch)?;
    let mut floor = place.floor(&machine, None)?;
    let mut ours = place.ours(&machine, &Place::state("links")?, "bridge")?;
    let list = [FLOOR, "vethnet, a new connection", "vethnet, an open connection", "ip -j link"];
    let mut rows = list.map(Row::new);
    for round in 0..=rounds {
        let begun = Instant::now();
        output(machine.command("ip").args(["-j", "link"]))?;
        let program = begun.elapsed();
        let times = [floor.time("list")?, ours.time("list")?, ours.time("list-open")?, program];
        if round > 0 {
            rows.iter_mut().zip(times).for_each(|(row, time): (_, Duration)| row.times.push(time));
        }
    }
    println!("## Single requests\n");
    println!("### A list of {} links\n\n{rounds} interleaved rounds, {}.\n", 2 * PAIRS, crate::bench::machine());
    println!("{}", markdown(&rows, &[FLOOR]));
    println!("{}", quotients(&rows, "vethnet, a new connection", &[FLOOR, "ip -j link"]));

    let machine = Machine::new("pair")?;
    machine.wire_by_hand()?;
    let (mut floor, mut ours) = (place.floor(&machine, None)?, place.ours(&machine, &Place::state("pair")?, "bridge")?);
    let mut rows = [FLOOR, "vethnet", "ip link add, ip link delete"].map(Row::new);
    for round in 0..=rounds {
        let begun = Instant::now();
        output(machine.command("ip").args(["link", "add", "ip0", "type", "veth", "peer", "name", "ip1"]))?;
        output(machine.command("ip").args(["link", "delete", "ip0"]))?;
        let programs = begun.elapsed();
        let times = [floor.time("veth")?, ours.time("veth")?, programs];
        if round > 0 {
            rows.iter_mut().zip(times).for_each(|(row, time): (_, Duration)| row.times.push(time));
        }
    }
    println!("### A veth pair made and removed\n\n{rounds} interleaved rounds.\n");
    println!("{}", markdown(&rows, &[FLOOR]));
    println!("{}", quotients(&rows, "vethnet", &[FLOOR, "ip link add, ip link delete"]));
    Ok(())
}
