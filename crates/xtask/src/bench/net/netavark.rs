//! netavark, as podman runs it: a process for each container that comes, and for each that goes. podman, which chooses the
//! addresses, is not there: they are given, and that is not timed.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::place::{GATEWAY, Machine, Place, SUBNET, container, converse};
use crate::Result;

const PROGRAMS: [&str; 2] = ["/usr/lib/podman/netavark", "/usr/libexec/podman/netavark"];

#[derive(Debug)]
pub struct Netavark {
    machine: Machine,
    program: &'static Path,
    state: PathBuf,
}

impl Netavark {
    /// `None` where it is not installed.
    ///
    /// # Errors
    /// When the namespace cannot be made.
    pub fn new() -> Result<Option<Self>> {
        let Some(program) = PROGRAMS.iter().map(Path::new).find(|program| program.exists()) else { return Ok(None) };
        Ok(Some(Self { machine: Machine::new("machine-netavark")?, program, state: Place::state("netavark")? }))
    }

    /// # Errors
    /// What it says.
    pub fn attach(&self, number: u32) -> Result<Duration> {
        self.time("setup", number)
    }

    /// # Errors
    /// What it says.
    pub fn detach(&self, number: u32) -> Result<Duration> {
        self.time("teardown", number)
    }

    fn time(&self, verb: &str, number: u32) -> Result<Duration> {
        let options = options(number).to_string();
        let mut command = self.machine.command(self.program);
        command.arg("--config").arg(&self.state).arg(verb).arg(container(number));
        let begun = Instant::now();
        converse(&mut command, &options)?;
        Ok(begun.elapsed())
    }
}

fn options(number: u32) -> Value {
    json!({
        "container_id": format!("{number:012}"),
        "container_name": format!("c{number}"),
        "port_mappings": [
            { "container_port": 80, "host_ip": "", "host_port": 20_000 + number, "protocol": "tcp", "range": 1 }
        ],
        "networks": { "bench": { "interface_name": "eth0", "static_ips": [format!("10.77.0.{}", number + 2)] } },
        "network_info": { "bench": {
            "dns_enabled": false, "driver": "bridge", "id": "0".repeat(64), "internal": false, "ipv6_enabled": false,
            "name": "bench", "network_interface": "podman0", "options": {}, "ipam_options": { "driver": "host-local" },
            "subnets": [{ "gateway": GATEWAY, "subnet": SUBNET }]
        } }
    })
}
