//! One container that comes and goes on a network where another one stays.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::cni::Cni;
use super::netavark::Netavark;
use super::place::{Machine, Place};
use crate::Result;
use crate::bench::table::{Row, markdown, quotients};
use crate::bench::worker::Worker;
use crate::install::{self, output};

const OURS: &str = "vethnet";
const FLOOR: &str = "floor, in C";
const CNI: &str = "CNI bridge and portmap";
const NETAVARK: &str = "netavark";

/// Attaches or detaches a container.
type Act = Box<dyn FnMut(bool, u32) -> Result<Duration>>;

pub fn run(place: &Place, rounds: u32) -> Result<()> {
    let mut contenders: Vec<(&str, Act)> = Vec::new();
    let (by_hand, durable) = (Machine::new("machine-c")?, Machine::new("machine-durable")?);
    by_hand.wire_by_hand()?;
    durable.wire_by_hand()?;
    contenders.push((FLOOR, worker(place.floor(&by_hand, None)?)));
    contenders.push(("floor, with a lease on tmpfs", worker(place.floor(&durable, Some(&Place::state("floor")?))?)));
    let (ours, on_disk) = (Machine::new("machine-vethnet")?, Machine::new("machine-disk")?);
    contenders.push((OURS, worker(place.ours(&ours, &Place::state("vethnet")?, "bridge")?)));
    contenders.push(("vethnet, leases on the disk", worker(place.ours(&on_disk, &place.disk("vethnet")?, "bridge")?)));
    let mut missing = Vec::new();
    match Cni::new()? {
        Some(mut cni) => contenders
            .push((CNI, Box::new(move |attach, number| if attach { cni.attach(number) } else { cni.detach(number) }))),
        None => missing.push("CNI's plugins"),
    }
    match Netavark::new()? {
        Some(netavark) => contenders.push((
            NETAVARK,
            Box::new(move |attach, number| if attach { netavark.attach(number) } else { netavark.detach(number) }),
        )),
        None => missing.push("netavark"),
    }

    let names: Vec<&str> = contenders.iter().map(|(name, _)| *name).collect();
    let [mut attach, mut detach, mut both] =
        [(); 3].map(|()| names.iter().map(|name| Row::new(name)).collect::<Vec<_>>());
    let count = contenders.len();
    // Two containers each: one that stays, so that the network does, and one that comes and goes.
    Machine::containers(2 * count as u32)?;
    let mut bare = Row::new("nsenter");
    let nothing = Machine::new("machine-nothing")?;
    for (number, (_, act)) in contenders.iter_mut().enumerate() {
        act(true, 2 * number as u32)?;
    }
    for round in 0..=rounds {
        for step in 0..count {
            // Who begins changes from round to round.
            let number = (step + round as usize) % count;
            let Some((_, act)) = contenders.get_mut(number) else { continue };
            let container = 2 * number as u32 + 1;
            let (came, went) = (act(true, container)?, act(false, container)?);
            if round > 0 {
                for (rows, time) in [(&mut attach, came), (&mut detach, went), (&mut both, came + went)] {
                    rows.get_mut(number).into_iter().for_each(|row| row.times.push(time));
                }
            }
        }
        let begun = Instant::now();
        output(&mut nothing.command("true"))?;
        bare.times.push(begun.elapsed());
    }
    for (number, (_, act)) in contenders.iter_mut().enumerate() {
        act(false, 2 * number as u32)?;
    }
    println!("## A container on a bridge\n");
    println!(
        "An interface, an address, a default route, masquerading and a published port for one container, while another one \
         is on the network: {rounds} interleaved rounds, {}. The plugins (four processes a container that comes and goes) and \
         netavark (two) are timed from exec to exit, in which nsenter(1) has {:.2} ms a process.\n",
        crate::bench::machine(),
        bare.median()
    );
    for (what, rows) in [("Attach", &attach), ("Detach", &detach), ("Attach and detach", &both)] {
        println!("### {what}\n\n{}", markdown(rows, &[FLOOR]));
        println!("{}", quotients(rows, OURS, &[FLOOR, CNI, NETAVARK]));
    }
    if !missing.is_empty() {
        println!(
            "Not here, so not compared: {}; `--install`, or apt-get install {}.\n",
            missing.join(", "),
            install::missing(install::PEERS).join(" ")
        );
    }
    Ok(())
}

fn worker(mut worker: Worker) -> Act {
    Box::new(move |attach, number| worker.time(&format!("{} {number}", if attach { "attach" } else { "detach" })))
}
