//! Traffic between a container and the world, wired by the library and by hand, a second each in turn.
//!
//! Two machines with the same three namespaces: a container, the machine, and a world behind its uplink. iperf3(1) in the world
//! and in the container measures streams out, streams to the published port, and small datagrams out.
#![forbid(unsafe_code)]

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::place::{BY_HAND, GATEWAY, Machine, Place};
use crate::Result;
use crate::bench::worker::Worker;
use crate::install::{has, output};

const WORLD: &str = "192.0.2.2";
const MACHINE: &str = "192.0.2.1";
/// What the container 0 publishes, and what a server has to listen at in it.
const PUBLISHED: &str = "20000";
const INSIDE: &str = "80";

/// What is measured.
const WAYS: [(&str, &str); 3] = [
    ("a TCP stream out, Gbit/s", "out"),
    ("a TCP stream to the published port, Gbit/s", "in"),
    ("datagrams of 64 bytes out, thousands a second", "small"),
];

/// A container, its machine, a world.
struct Wiring {
    container: Machine,
    world: Machine,
    /// They end when they are dropped.
    _servers: [Server; 2],
    _worker: Option<Worker>,
}

pub fn run(place: &Place, rounds: u32) -> Result<()> {
    println!("## Traffic\n");
    if !has("iperf3") {
        println!("Not measured: iperf3 is missing; `--install`, or apt-get install iperf3.\n");
        return Ok(());
    }
    let (ours, by_hand) = (ours(place)?, by_hand()?);
    println!(
        "Between a container and a world behind the machine's uplink, with masquerading, wired by vethnet and by ip(8) and nft(8): \
         medians of {rounds} seconds each, in turn, {}.\n",
        crate::bench::machine()
    );
    println!("| | vethnet | ip and nft | quotient of each turn | 10 % | 90 % |");
    println!("|---|---:|---:|---:|---:|---:|");
    for (name, way) in WAYS {
        let (mut one, mut other, mut quotients) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=rounds {
            let (ours, theirs) = if round % 2 == 0 {
                let first = measure(&ours, way)?;
                (first, measure(&by_hand, way)?)
            } else {
                let first = measure(&by_hand, way)?;
                (measure(&ours, way)?, first)
            };
            if round > 0 {
                one.push(ours);
                other.push(theirs);
                quotients.push(ours / theirs);
            }
        }
        println!(
            "| {name} | {:.2} | {:.2} | {:.3} | {:.3} | {:.3} |",
            quantile(&mut one, 0.5),
            quantile(&mut other, 0.5),
            quantile(&mut quotients, 0.5),
            quantile(&mut quotients, 0.1),
            quantile(&mut quotients, 0.9)
        );
    }
    println!();
    Ok(())
}

fn ours(place: &Place) -> Result<Wiring> {
    let machine = Machine::new("traffic-ours")?;
    let container = Machine::container(0)?;
    let world = uplink(&machine, "world-ours")?;
    let mut worker = place.ours(&machine, &Place::state("traffic")?, "bridge")?;
    worker.time("attach 0")?;
    Wiring::new(container, world, Some(worker))
}

fn by_hand() -> Result<Wiring> {
    let machine = Machine::new("traffic-hand")?;
    let container = Machine::new("container-hand")?;
    let world = uplink(&machine, "world-hand")?;
    machine.wire_by_hand()?;
    machine.ip(&format!("link add veth0 master {BY_HAND} type veth peer name eth0 netns container-hand"))?;
    machine.ip("link set veth0 up")?;
    container.ip("address add 10.77.0.2/16 dev eth0")?;
    container.ip("link set eth0 up")?;
    container.ip(&format!("route add default via {GATEWAY}"))?;
    machine.nft(&format!("add element ip {BY_HAND} published {{ tcp . {PUBLISHED} : 10.77.0.2 . {INSIDE} }}\n"))?;
    Wiring::new(container, world, None)
}

/// A world that knows nothing but the machine's address.
fn uplink(machine: &Machine, name: &str) -> Result<Machine> {
    let world = Machine::new(name)?;
    machine.ip(&format!("link add up0 type veth peer name eth0 netns {name}"))?;
    machine.ip(&format!("address add {MACHINE}/24 dev up0"))?;
    machine.ip("link set up0 up")?;
    world.ip(&format!("address add {WORLD}/24 dev eth0"))?;
    world.ip("link set eth0 up")?;
    Ok(world)
}

impl Wiring {
    fn new(container: Machine, world: Machine, worker: Option<Worker>) -> Result<Self> {
        let servers = [Server::start(&world, "5201")?, Server::start(&container, INSIDE)?];
        Ok(Self { container, world, _servers: servers, _worker: worker })
    }
}

/// One second of it.
fn measure(wiring: &Wiring, way: &str) -> Result<f64> {
    let mut command = match way {
        "in" => wiring.world.command("iperf3"),
        _ => wiring.container.command("iperf3"),
    };
    command.args(["--json", "--time", "1", "--client"]);
    match way {
        "in" => command.args([MACHINE, "--port", PUBLISHED]),
        "small" => command.args([WORLD, "--udp", "--length", "64", "--bitrate", "0"]),
        _ => command.arg(WORLD),
    };
    let said: Value = serde_json::from_str(&output(&mut command)?)?;
    let end = said.get("end").ok_or("iperf3 without an end")?;
    let number = |sum: &str, name: &str| end.get(sum)?.get(name)?.as_f64();
    let value = if way == "small" {
        let (sent, lost) = (number("sum", "packets"), number("sum", "lost_packets"));
        sent.zip(lost).map(|(sent, lost)| (sent - lost) / 1e3)
    } else {
        number("sum_received", "bits_per_second").map(|bits| bits / 1e9)
    };
    value.ok_or_else(|| format!("iperf3 without a result: {said}").into())
}

/// `iperf3 --server`, until dropped.
struct Server(Child);

impl Server {
    fn start(machine: &Machine, port: &str) -> Result<Self> {
        let mut command = machine.command("iperf3");
        command.args(["--server", "--port", port]).stdin(Stdio::null()).stdout(Stdio::null());
        let server = Self(command.spawn()?);
        let until = Instant::now() + Duration::from_secs(5);
        let listens = || -> Result<bool> {
            Ok(output(machine.command("ss").args(["--tcp", "--listening", "--numeric", "--no-header"]))?.contains(port))
        };
        while !listens()? {
            if Instant::now() > until {
                return Err("iperf3 does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get((values.len().saturating_sub(1) as f64 * part).round() as usize).copied().unwrap_or(0.0)
}
