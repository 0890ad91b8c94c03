//! The way of a packet: the container's interface, the host's end of it, the bridge, the way out.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use super::facts::{AddressFacts, Facts, LinkFacts};

/// One interface of the container and where it leads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path<'f> {
    pub(crate) inside: &'f LinkFacts,
    /// The other end of the veth pair, if it is in the host's namespace.
    pub(crate) host_end: Option<&'f LinkFacts>,
    /// The bridge that the host's end is a port of.
    pub(crate) bridge: Option<&'f LinkFacts>,
}

/// All of them.
#[derive(Clone, Debug)]
pub(crate) struct Paths<'f> {
    facts: &'f Facts,
    pub(crate) list: Vec<Path<'f>>,
}

impl<'f> Paths<'f> {
    pub(crate) fn of(facts: &'f Facts) -> Self {
        // What a kernel puts into every namespace by itself is no way out of it.
        let by_itself =
            ["lo", "sit0", "tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6tnl0", "ip6gre0"];
        let links = facts.container.links.iter().filter(|link| !by_itself.contains(&link.name.as_str()));
        let list = links.map(|inside| {
            let host_end = facts.host.links.iter().find(|link| is_other_end(facts, inside, link));
            let bridge = host_end.and_then(|link| facts.host.link(link.master?));
            Path { inside, host_end, bridge }
        });
        Self { facts, list: list.collect() }
    }

    /// The host's interface by which packets of a family leave the machine.
    pub(crate) fn uplink(&self, ipv6: bool) -> Option<&'f LinkFacts> {
        self.facts.host.default_route(ipv6).and_then(|route| self.facts.host.link(route.index))
    }

    /// The host's interfaces on the way.
    pub(crate) fn host_interfaces(&self) -> impl Iterator<Item = &'f LinkFacts> {
        let mut all: Vec<_> = self.list.iter().flat_map(|path| [path.host_end, path.bridge]).flatten().collect();
        all.extend([false, true].into_iter().filter_map(|ipv6| self.uplink(ipv6)));
        all.sort_by_key(|link| link.index);
        all.dedup_by_key(|link| link.index);
        all.into_iter()
    }
}

impl<'f> Path<'f> {
    /// The host's interface that the packets come from: the bridge, or without one the host's end.
    pub(crate) fn gate(&self) -> Option<&'f LinkFacts> {
        self.bridge.or(self.host_end)
    }

    /// The addresses of the container's interface that others can reach.
    pub(crate) fn addresses(&self, facts: &'f Facts) -> impl Iterator<Item = &'f AddressFacts> + use<'f> {
        let index = self.inside.index;
        facts.container.addresses.iter().filter(move |address| address.index == index && address.global)
    }

    /// The first of them of a family.
    pub(crate) fn address(&self, facts: &'f Facts, ipv6: bool) -> Option<IpAddr> {
        self.addresses(facts).map(|address| address.address).find(|address| address.is_ipv6() == ipv6)
    }
}

/// Two veths are a pair if each names the other. Other pairs may have the same two numbers, so the container's has to say
/// that its other end is in the host's namespace, where the kernel tells how it numbers that.
fn is_other_end(facts: &Facts, inside: &LinkFacts, link: &LinkFacts) -> bool {
    let pair = inside.kind == "veth" && link.kind == "veth";
    let each_other = inside.peer == Some(link.index) && link.peer == Some(inside.index);
    let there = facts.host_netns.is_none() || facts.host_netns == inside.peer_netns;
    pair && each_other && there
}
