//! What is looked at, as data: of one network namespace, and of both. Parsers of the kernel's answers.
//!
//! Only what the rules need is read, straight from the attributes. What cannot be understood is left out: the doctor is
//! for machines that are not as they should be.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::attr;
use crate::doctor::forward::Ruleset;
use crate::subnet::Subnet;

const IFF_UP: u32 = 1;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_TABLE_MAIN: u32 = 254;
const RTN_UNICAST: u8 = 1;
pub(crate) const NUD_INCOMPLETE: u16 = 0x01;
pub(crate) const NUD_FAILED: u16 = 0x20;
pub(crate) const NUD_PERMANENT: u16 = 0x80;

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkFacts {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) mac: Vec<u8>,
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    /// IFLA_CARRIER; a kernel that says nothing has one.
    pub(crate) carrier: bool,
    pub(crate) master: Option<u32>,
    /// The other end of a veth pair, in whatever namespace it is.
    pub(crate) peer: Option<u32>,
    /// The namespace of the other end, as this one numbers namespaces; `None` for its own.
    pub(crate) peer_netns: Option<i32>,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AddressFacts {
    pub(crate) index: u32,
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
    /// Of the whole world, not of the link or the machine.
    pub(crate) global: bool,
    pub(crate) tentative: bool,
    pub(crate) dad_failed: bool,
}

/// A unicast route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteFacts {
    pub(crate) to: Subnet,
    pub(crate) index: u32,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) metric: u32,
}

/// A neighbour that is known, or that does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NeighbourFacts {
    pub(crate) index: u32,
    pub(crate) address: IpAddr,
    pub(crate) state: u16,
}

/// What there is in one network namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Side {
    pub(crate) links: Vec<LinkFacts>,
    pub(crate) addresses: Vec<AddressFacts>,
    pub(crate) routes: Vec<RouteFacts>,
    pub(crate) neighbours: Vec<NeighbourFacts>,
    /// Files below /proc/sys, and what is in them. One that is not there has no entry.
    pub(crate) sysctls: BTreeMap<String, String>,
    /// Ports with a socket that takes connections or packets.
    pub(crate) listening: Vec<Listening>,
    /// What could not be looked at, and why.
    pub(crate) unseen: Vec<(String, String)>,
}

/// A socket that takes connections (TCP) or packets (UDP).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listening {
    /// The protocol's number.
    pub(crate) protocol: u8,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
}

/// What there is of both.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) container: Side,
    pub(crate) host: Side,
    /// The host's namespace, as the container's numbers namespaces.
    pub(crate) host_netns: Option<i32>,
    /// The host's; `None` where it could not be looked at.
    pub(crate) ruleset: Option<Ruleset>,
    /// Whether the kernel says that it has no nf_tables.
    pub(crate) no_nf_tables: bool,
    /// Tables of legacy iptables: `filter`, `nat`.
    pub(crate) legacy_tables: Vec<String>,
    /// How many neighbours there are, of each family, whosever.
    pub(crate) neighbour_entries: Vec<(u8, u64)>,
}

impl Side {
    pub(crate) fn link(&self, index: u32) -> Option<&LinkFacts> {
        self.links.iter().find(|link| link.index == index)
    }

    pub(crate) fn sysctl(&self, path: &str) -> Option<&str> {
        self.sysctls.get(path).map(String::as_str)
    }

    pub(crate) fn number(&self, path: &str) -> Option<u64> {
        self.sysctl(path)?.split_whitespace().next()?.parse().ok()
    }

    /// The route to an address, as the kernel chooses it in the main table.
    pub(crate) fn route_to(&self, address: IpAddr) -> Option<&RouteFacts> {
        let fits = self.routes.iter().filter(|route| route.to.contains(address));
        fits.min_by_key(|route| (std::cmp::Reverse(route.to.prefix()), route.metric))
    }

    /// The default route of a family.
    pub(crate) fn default_route(&self, ipv6: bool) -> Option<&RouteFacts> {
        let fits = self.routes.iter().filter(|route| route.to.prefix() == 0 && route.to.is_ipv6() == ipv6);
        fits.min_by_key(|route| route.metric)
    }
}

fn u32_of(value: &[u8]) -> Option<u32> {
    value.first_chunk().copied().map(u32::from_ne_bytes)
}

fn address_of(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => value.first_chunk::<4>().copied().map(|octets| Ipv4Addr::from(octets).into()),
        16 => value.first_chunk::<16>().copied().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

/// An answer to RTM_GETLINK.
pub(crate) fn link(body: &[u8]) -> Option<LinkFacts> {
    const IFLA_ADDRESS: u16 = 1;
    const IFLA_IFNAME: u16 = 3;
    const IFLA_MTU: u16 = 4;
    const IFLA_LINK: u16 = 5;
    const IFLA_MASTER: u16 = 10;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_CARRIER: u16 = 33;
    const IFLA_LINK_NETNSID: u16 = 37;
    const IFLA_INFO_KIND: u16 = 1;
    // struct ifinfomsg: family, type, index, flags, change.
    let mut link = LinkFacts {
        index: u32_of(body.get(4..)?)?,
        up: u32_of(body.get(8..)?)? & IFF_UP != 0,
        carrier: true,
        ..LinkFacts::default()
    };
    for (kind, value) in attr::attributes(body.get(16..)?) {
        match kind {
            IFLA_ADDRESS => link.mac = value.to_vec(),
            IFLA_IFNAME => link.name = attr::as_text(value),
            IFLA_MTU => link.mtu = u32_of(value)?,
            IFLA_LINK => link.peer = u32_of(value),
            IFLA_LINK_NETNSID => link.peer_netns = value.first_chunk().copied().map(i32::from_ne_bytes),
            IFLA_MASTER => link.master = u32_of(value),
            IFLA_CARRIER => link.carrier = value.first() != Some(&0),
            IFLA_LINKINFO => link.kind = attr::find(value, IFLA_INFO_KIND).map(attr::as_text).unwrap_or_default(),
            _ => {}
        }
    }
    Some(link)
}

/// An answer to RTM_GETADDR.
pub(crate) fn address(body: &[u8]) -> Option<AddressFacts> {
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    const IFA_FLAGS: u16 = 8;
    // struct ifaddrmsg: family, prefixlen, flags, scope, index.
    let &[_, prefix, short, scope] = body.first_chunk()?;
    let attributes = body.get(8..)?;
    let find = |kind| attr::find(attributes, kind);
    let flags = find(IFA_FLAGS).and_then(u32_of).unwrap_or(u32::from(short));
    Some(AddressFacts {
        index: u32_of(body.get(4..)?)?,
        address: find(IFA_LOCAL).or_else(|| find(IFA_ADDRESS)).and_then(address_of)?,
        prefix,
        global: scope == RT_SCOPE_UNIVERSE,
        tentative: flags & IFA_F_TENTATIVE != 0,
        dad_failed: flags & IFA_F_DADFAILED != 0,
    })
}

/// An answer to RTM_GETROUTE: a unicast route of the main table, with the first of several ways.
pub(crate) fn route(body: &[u8]) -> Option<RouteFacts> {
    const RTA_DST: u16 = 1;
    const RTA_OIF: u16 = 4;
    const RTA_GATEWAY: u16 = 5;
    const RTA_PRIORITY: u16 = 6;
    const RTA_MULTIPATH: u16 = 9;
    const RTA_TABLE: u16 = 15;
    // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags.
    let &[family, prefix, _, _, table, _, _, kind] = body.first_chunk()?;
    let attributes = body.get(12..)?;
    let find = |kind| attr::find(attributes, kind);
    let table = find(RTA_TABLE).and_then(u32_of).unwrap_or(u32::from(table));
    if table != RT_TABLE_MAIN || kind != RTN_UNICAST {
        return None;
    }
    let any = match i32::from(family) {
        libc::AF_INET => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        libc::AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let to = find(RTA_DST).map_or(Some(any), address_of)?;
    if prefix > if to.is_ipv4() { 32 } else { 128 } {
        return None;
    }
    let (mut index, mut gateway) = (find(RTA_OIF).and_then(u32_of), find(RTA_GATEWAY).and_then(address_of));
    if let Some(hop) = find(RTA_MULTIPATH) {
        // struct rtnexthop: len, flags, hops, ifindex, and attributes.
        let length = usize::from(u16::from_ne_bytes(hop.first_chunk().copied()?));
        index = u32_of(hop.get(4..)?);
        gateway = hop.get(8..length).and_then(|list| attr::find(list, RTA_GATEWAY)).and_then(address_of);
    }
    let metric = find(RTA_PRIORITY).and_then(u32_of).unwrap_or(0);
    Some(RouteFacts { to: Subnet::around(to, prefix), index: index?, gateway, metric })
}

/// An answer to RTM_GETNEIGH.
pub(crate) fn neighbour(body: &[u8]) -> Option<NeighbourFacts> {
    const NDA_DST: u16 = 1;
    // struct ndmsg: family, padding, ifindex, state, flags, type.
    Some(NeighbourFacts {
        index: u32_of(body.get(4..)?)?,
        state: u16::from_ne_bytes(body.get(8..)?.first_chunk().copied()?),
        address: attr::find(body.get(12..)?, NDA_DST).and_then(address_of)?,
    })
}

/// `/proc/net/tcp`, `tcp6`, `udp`, `udp6`: the sockets that take connections or packets.
pub(crate) fn listening(text: &str, protocol: u8) -> Vec<Listening> {
    const TCP_LISTEN: &str = "0A";
    const UDP_UNCONNECTED: &str = "07";
    let state = if protocol == 6 { TCP_LISTEN } else { UDP_UNCONNECTED };
    let line = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (address, port) = words.next()?.split_once(':')?;
        if words.nth(1)? != state {
            return None;
        }
        Some(Listening { protocol, address: hex_address(address)?, port: u16::from_str_radix(port, 16).ok()? })
    };
    text.lines().skip(1).filter_map(line).collect()
}

/// Words of 32 bits, each in the machine's own byte order.
fn hex_address(text: &str) -> Option<IpAddr> {
    let mut octets = Vec::with_capacity(16);
    for at in (0..text.len()).step_by(8) {
        octets.extend_from_slice(&u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    address_of(&octets)
}

/// `/proc/net/stat/arp_cache` or `ndisc_cache`: how many entries there are. The number is the same in each line.
pub(crate) fn cache_entries(text: &str) -> Option<u64> {
    u64::from_str_radix(text.lines().nth(1)?.split_whitespace().next()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sockets() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n\
             1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n\
             2: 0200D10A:0050 0100D10A:A000 01 00000000:00000000 00:00000000 00000000     0\n";
        let found = listening(text, 6);
        assert_eq!(found.len(), 2, "the third is a connection");
        assert_eq!((found[0].address, found[0].port), (Ipv4Addr::LOCALHOST.into(), 8080));
        assert_eq!((found[1].address, found[1].port), (Ipv4Addr::UNSPECIFIED.into(), 80));
        let v6 = "h\n 0: 00000000000000000000000000000000:0050 0:0 0A\n 1: 000000000000000000000000010000:0050 x 0A\n";
        assert_eq!(listening(v6, 6).len(), 1);
    }

    #[test]
    fn counters() {
        assert_eq!(cache_entries("entries  allocs\n0000000a 00000001\n0000000a 00000000\n"), Some(10));
        assert_eq!(cache_entries("entries\n"), None);
    }

    #[test]
    fn the_route_with_the_longest_prefix_and_then_the_least_metric() {
        let route = |to: &str, index, metric| RouteFacts { to: to.parse().unwrap(), index, gateway: None, metric };
        let side = Side {
            routes: vec![route("0.0.0.0/0", 1, 5), route("0.0.0.0/0", 2, 1), route("10.0.0.0/8", 3, 9)],
            ..Side::default()
        };
        assert_eq!(side.route_to([10, 1, 1, 1].into()).map(|route| route.index), Some(3));
        assert_eq!(side.route_to([11, 1, 1, 1].into()).map(|route| route.index), Some(2));
        assert_eq!(side.default_route(true), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = (link(&bytes), address(&bytes), route(&bytes), neighbour(&bytes));
        }

        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,80}\n[ 0-9A-F:]{0,120}\n.{0,80}") {
            let _ = (listening(&text, 6), listening(&text, 17), cache_entries(&text));
        }
    }
}
