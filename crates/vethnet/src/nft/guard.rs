//! The guard: what a container on a bridge may send.
//!
//! Theory of operation. On a bridge containers are neighbours, and whoever answers first has an address. So each port is
//! bound to the hardware address and the addresses that its container was given, in a table of family `bridge` with the
//! network's name, which sees frames before the bridge does anything with them:
//!
//! ```text
//! set ports    { type ifname }
//! set senders4 { type ifname . ether_addr . ipv4_addr }
//! set senders6 { type ifname . ether_addr . ipv6_addr }
//! chain guard { type filter hook prerouting priority -300
//!     iifname != @ports accept
//!     ether type arp iifname . ether saddr . arp saddr ip @senders4 iifname . arp saddr ether . arp saddr ip @senders4 accept
//!     ether type ip iifname . ether saddr . ip saddr @senders4 accept
//!     ether type ip6 icmpv6 type nd-router-advert drop
//!     ether type ip6 icmpv6 type nd-redirect drop
//!     ether type ip6 icmpv6 type nd-neighbor-advert iifname . ether saddr . (its target) != @senders6 drop
//!     ether type ip6 iifname . ether saddr . ip6 saddr @senders6 accept
//!     drop }
//! ```
//!
//! * What passes is IPv4, ARP and IPv6 from its own addresses; everything else (other protocols, spanning tree, frames for
//!   virtual LANs) is dropped. A container without IPv6 sends none.
//! * An IPv6 container has two more: its link-local address, where it is made from the hardware address, and `::`, from
//!   which it asks whether an address is free.
//! * A port is told by its name, which is in `meta iifname` on every kernel. The bridge's own (`meta ibrname`) would need
//!   the module nft_meta_bridge, and the flag of a port that locks it to known hardware addresses (IFLA_BRPORT_LOCKED)
//!   Linux 5.18 and would know nothing of addresses.
//! * nft(8) has a word for the target since its version 1.0.8 (`icmpv6 taddr`). An older one shows where it is in the packet,
//!   and cannot load that rule again from what it has listed.
//! * Neighbour discovery in fragments, which this would not see into, is refused by whoever gets it (RFC 6980).
//!
//! Without a bridge a container has no neighbours but the host. There `fib saddr . iif oif missing drop` in the table
//! `inet`, which every network has, is enough: the host's route to each container says which addresses are behind its link.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv6Addr};

use cellkit_core::Result;

use super::chains::{ND_REDIRECT, ND_ROUTER_ADVERT};
use super::expr::{Ip, Rule, Test};
use super::message::{Chain, Family, Table};
use super::set::{BRIDGE, Element, Key, PORTS, SENDERS_4, SENDERS_6, Set};
use super::{COMMENT, Pack};
use crate::exchange::Request;
use crate::mac::MacAddr;
use crate::name::{IfName, Owner};

const NF_BR_PRE_ROUTING: u32 = 0;
/// NF_BR_PRI_NAT_DST_BRIDGED: before all that others usually do.
const PRIORITY: i32 = -300;
const ND_NEIGHBOR_ADVERT: u8 = 136;

pub(super) fn table(name: &IfName) -> Table<'_> {
    Table { family: Family::Bridge, name }
}

/// Makes the table.
pub(super) fn new_table(name: &IfName) -> Result<Vec<Request>> {
    let table = table(name);
    let chain = Chain { name: "guard", kind: "filter", hook: NF_BR_PRE_ROUTING, priority: PRIORITY };
    let mut requests = vec![table.create(COMMENT)?];
    for set in BRIDGE {
        requests.push(table.new_set(set)?);
    }
    requests.push(table.new_chain(&chain)?);
    for rule in rules() {
        requests.push(table.new_rule(chain.name, &rule)?);
    }
    Ok(requests)
}

fn rules() -> Vec<Rule> {
    let six = || Rule::new().ether_type_of(Ip::V6);
    vec![
        Rule::new().input_link(Test::IsNot, &PORTS).accept(),
        Rule::new().arp().arp_of(&SENDERS_4).accept(),
        Rule::new().ether_type_of(Ip::V4).sent_as(Ip::V4, &SENDERS_4).accept(),
        six().icmpv6(ND_ROUTER_ADVERT).drop(),
        six().icmpv6(ND_REDIRECT).drop(),
        six().icmpv6(ND_NEIGHBOR_ADVERT).neighbour_not_of(&SENDERS_6).drop(),
        six().sent_as(Ip::V6, &SENDERS_6).accept(),
        Rule::new().drop(),
    ]
}

/// Who sends at a port of the bridge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender<'a> {
    /// The bridge's port: the host's end of the pair.
    pub(crate) port: &'a IfName,
    pub(crate) mac: MacAddr,
    pub(crate) addresses: &'a [IpAddr],
}

/// Binds the port to the sender. Until then, it may send as anybody: do it before the port is up.
pub(crate) fn new_sender(name: &IfName, owner: &Owner, sender: &Sender<'_>) -> Result<Vec<Request>> {
    let mut requests = Vec::new();
    for (set, elements) in elements(sender) {
        requests.extend(table(name).new_elements(set, &elements, Some(owner), &subject(sender))?);
    }
    Ok(requests)
}

/// Undoes [`new_sender`].
pub(crate) fn delete_sender(name: &IfName, sender: &Sender<'_>, pack: Pack) -> Result<Vec<Request>> {
    let mut requests = Vec::new();
    for (set, elements) in elements(sender) {
        requests.extend(table(name).delete_elements(set, &elements, pack, &subject(sender))?);
    }
    Ok(requests)
}

fn subject(sender: &Sender<'_>) -> String {
    format!("port {}", sender.port)
}

/// The sender first: a port without one may send nothing.
fn elements(sender: &Sender<'_>) -> Vec<(&'static Set, Vec<Element>)> {
    let element = |address| Element::new(Key::new().link(sender.port).mac(sender.mac).address(address));
    let (four, mut six): (Vec<_>, Vec<_>) = sender.addresses.iter().copied().partition(IpAddr::is_ipv4);
    if !six.is_empty() {
        six.extend([link_local(sender.mac).into(), IpAddr::from(Ipv6Addr::UNSPECIFIED)]);
        six.sort_unstable();
        six.dedup();
    }
    let mut all = Vec::new();
    for (set, addresses) in [(&SENDERS_4, four), (&SENDERS_6, six)] {
        if !addresses.is_empty() {
            all.push((set, addresses.into_iter().map(element).collect()));
        }
    }
    all.push((&PORTS, vec![Element::new(Key::new().link(sender.port))]));
    all
}

/// The address that the kernel makes from a hardware address (RFC 4291, appendix A).
fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.bytes();
    let part = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, part(a ^ 2, b), part(c, 0xff), part(0xfe, d), part(e, f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_local_address_is_the_kernels() {
        let mac = MacAddr::new([0x02, 0x6b, 0x0a, 0xd1, 0x00, 0x02]).unwrap();
        assert_eq!(link_local(mac).to_string(), "fe80::6b:aff:fed1:2");
    }

    #[test]
    fn a_container_without_ipv6_sends_none() {
        let port = IfName::new("vh0").unwrap();
        let mac = MacAddr::of_bridge(&port);
        let sets = |addresses: &[IpAddr]| {
            let sender = Sender { port: &port, mac, addresses };
            elements(&sender).iter().map(|(set, elements)| (set.name, elements.len())).collect::<Vec<_>>()
        };
        let (four, six) = ("10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap());
        assert_eq!(sets(&[four]), [("senders4", 1), ("ports", 1)]);
        assert_eq!(sets(&[four, six]), [("senders4", 1), ("senders6", 3), ("ports", 1)]);
        assert_eq!(sets(&[]), [("ports", 1)]);
    }
}
