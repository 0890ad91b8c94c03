//! What needs root.

mod bridge;
mod bridge_vlan;
mod change;
mod kinds;
mod read;
mod tun;
mod veth;
mod watch;
#[path = "../../root/world.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod world;

use serde_json::Value;
use vethnet::IfName;

use world::Ns;

pub fn name(text: &str) -> IfName {
    IfName::new(text).expect("name")
}

/// `ip -j -d link show dev NAME`
pub fn shown(ns: &Ns, name: &str) -> Value {
    ns.ip(&format!("link show dev {name}"))[0].clone()
}

/// What its kind says there.
pub fn data(ns: &Ns, name: &str) -> Value {
    shown(ns, name)["linkinfo"]["info_data"].clone()
}

/// What its bridge says of the port there.
pub fn port(ns: &Ns, name: &str) -> Value {
    shown(ns, name)["linkinfo"]["info_slave_data"].clone()
}
