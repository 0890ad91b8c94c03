//! CNI's plugins `bridge`, with `host-local`, and `portmap`: run as an engine runs them, a process each.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::place::{Machine, Place, SUBNET, container, converse};
use crate::Result;

const PLUGINS: &str = "/usr/lib/cni";

#[derive(Debug)]
pub struct Cni {
    machine: Machine,
    bridge: Value,
    /// What `bridge` said of each container that is attached, for `portmap` to take it away by.
    results: Vec<(u32, Value)>,
}

impl Cni {
    /// `None` where the plugins are not installed.
    ///
    /// # Errors
    /// When the namespace cannot be made.
    pub fn new() -> Result<Option<Self>> {
        if !["bridge", "host-local", "portmap"].iter().all(|plugin| Path::new(PLUGINS).join(plugin).exists()) {
            return Ok(None);
        }
        let bridge = json!({
            "cniVersion": "1.0.0", "name": "bench", "type": "bridge", "bridge": "cni0", "isGateway": true,
            "ipMasq": true, "hairpinMode": true,
            "ipam": {
                "type": "host-local", "dataDir": Place::state("cni")?, "ranges": [[{ "subnet": SUBNET }]],
                "routes": [{ "dst": "0.0.0.0/0" }]
            }
        });
        Ok(Some(Self { machine: Machine::new("machine-cni")?, bridge, results: Vec::new() }))
    }

    /// # Errors
    /// What a plugin says.
    pub fn attach(&mut self, number: u32) -> Result<Duration> {
        let begun = Instant::now();
        let result: Value = serde_json::from_str(&self.plugin("bridge", "ADD", number, &self.bridge)?)?;
        self.plugin("portmap", "ADD", number, &ports(number, &result))?;
        let took = begun.elapsed();
        self.results.push((number, result));
        Ok(took)
    }

    /// # Errors
    /// What a plugin says.
    pub fn detach(&mut self, number: u32) -> Result<Duration> {
        let at = self.results.iter().position(|(other, _)| *other == number).ok_or("it is not attached")?;
        let (_, result) = self.results.swap_remove(at);
        let begun = Instant::now();
        self.plugin("portmap", "DEL", number, &ports(number, &result))?;
        self.plugin("bridge", "DEL", number, &self.bridge)?;
        Ok(begun.elapsed())
    }

    fn plugin(&self, plugin: &str, verb: &str, number: u32, configuration: &Value) -> Result<String> {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.machine.path().display()))
            .arg("--")
            .arg(Path::new(PLUGINS).join(plugin))
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", format!("c{number}"))
            .env("CNI_NETNS", container(number))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", PLUGINS);
        converse(&mut command, &configuration.to_string())
    }
}

fn ports(number: u32, result: &Value) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "bench", "type": "portmap", "prevResult": result,
        "runtimeConfig": { "portMappings": [{ "hostPort": 20_000 + number, "containerPort": 80, "protocol": "tcp" }] }
    })
}
