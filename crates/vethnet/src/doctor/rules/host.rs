//! The host's side: forwarding, the way out, reverse paths, ranges, tables of the kernel that are full.
#![forbid(unsafe_code)]

use super::super::facts::{Facts, LinkFacts};
use super::super::finding::{Fault, Finding};
use super::super::forward::HOOK_PREROUTING;
use super::super::path::{Path, Paths};
use crate::subnet::Subnet;

/// A table is called full when this little is left: it is emptied and filled again all the time.
const NEARLY_FULL_PERCENT: u64 = 95;

pub(crate) fn forwarding(facts: &Facts, paths: &Paths<'_>, found: &mut Vec<Finding>) {
    let host = &facts.host;
    for (ipv6, switch, conf) in
        [(false, "net/ipv4/ip_forward", "net/ipv4/conf"), (true, "net/ipv6/conf/all/forwarding", "net/ipv6/conf")]
    {
        let through = paths.list.iter().filter(|path| path.address(facts, ipv6).is_some());
        let gates: Vec<&LinkFacts> = through.filter_map(Path::gate).collect();
        if gates.is_empty() {
            continue;
        }
        let off = |path: &str| host.sysctl(path) == Some("0");
        let mut say = |path: &str, what: String| {
            let name = path.replace('/', ".");
            found.push(Finding::new(
                Fault::ForwardingOff,
                format!("{name} is 0: the host passes {what} on"),
                format!("sysctl -w {name}=1"),
            ));
        };
        let family = if ipv6 { "IPv6" } else { "IPv4" };
        if off(switch) {
            say(switch, format!("no {family} packets"));
            continue;
        }
        for link in gates.into_iter().chain(paths.uplink(ipv6)) {
            let path = format!("{conf}/{}/forwarding", link.name);
            if off(&path) {
                say(&path, format!("no {family} packets that come from interface {:?}", link.name));
            }
        }
    }
}

pub(crate) fn uplink(facts: &Facts, paths: &Paths<'_>, found: &mut Vec<Finding>) {
    let seen = !facts.host.links.is_empty();
    for (ipv6, family, option) in [(false, "IPv4", ""), (true, "IPv6", "-6 ")] {
        let mut connected = paths.list.iter().filter(|path| path.gate().is_some());
        if seen && connected.any(|path| path.address(facts, ipv6).is_some()) {
            match facts.host.default_route(ipv6) {
                None => found.push(Finding::new(
                    Fault::NoUplink,
                    format!("the host itself has no default route for {family}: containers reach this machine only"),
                    format!("connect the machine: ip {option}route add default via GATEWAY"),
                )),
                Some(route) => {
                    let down = facts.host.link(route.index).filter(|link| !link.up || !link.carrier);
                    found.extend(down.map(|link| {
                        let (fault, state) =
                            if link.up { (Fault::NoCarrier, "has no carrier") } else { (Fault::LinkDown, "is down") };
                        let sentence = format!(
                            "interface {:?} of the host, its way to the world for {family}, {state}",
                            link.name
                        );
                        Finding::new(
                            fault,
                            sentence,
                            format!("ip link set {} up, and look at what it is connected to", link.name),
                        )
                    }));
                }
            }
        }
    }
}

pub(crate) fn reverse_path(facts: &Facts, path: &Path<'_>, found: &mut Vec<Finding>) {
    let (Some(gate), Some(address)) = (path.gate(), path.address(facts, false)) else { return };
    let filter = |name: &str| facts.host.number(&format!("net/ipv4/conf/{name}/rp_filter")).unwrap_or(0);
    // The kernel takes the larger of the two.
    let (all, own) = (filter("all"), filter(&gate.name));
    let strictness = all.max(own);
    let back = facts.host.route_to(address);
    let asymmetric = match strictness {
        1 => back.is_none_or(|route| route.index != gate.index),
        // Loose: there only has to be a way back.
        2 => back.is_none(),
        _ => false,
    };
    if !asymmetric {
        return;
    }
    let way = match back.and_then(|route| facts.host.link(route.index)) {
        Some(link) => format!("the way back to {address} is by {:?}", link.name),
        None => format!("there is no way back to {address}"),
    };
    let which = if all >= own { "all" } else { gate.name.as_str() };
    found.push(Finding::new(
        Fault::ReversePathFilter,
        format!(
            "net.ipv4.conf.{which}.rp_filter is {strictness}, and packets from {address} come by {:?}, whereas {way}: they are dropped as forged",
            gate.name
        ),
        format!("remove the other route to {address} (ip route get {address})"),
    ));
}

pub(crate) fn duplicate_subnet(facts: &Facts, path: &Path<'_>, found: &mut Vec<Finding>) {
    let Some(gate) = path.gate() else { return };
    for own in path.addresses(facts) {
        let range = Subnet::around(own.address, own.prefix);
        let mine = |index: u32| Some(index) == path.host_end.map(|link| link.index) || index == gate.index;
        let name = |index: u32| facts.host.link(index).map_or("an interface that vanished", |link| link.name.as_str());
        let mut say = |what: String, fix: String| {
            let sentence = format!("{what}, which is in the container's range {range}");
            found.push(Finding::new(Fault::DuplicateSubnet, sentence, fix));
        };
        for route in facts.host.routes.iter().filter(|route| !mine(route.index) && overlaps(&route.to, &range)) {
            say(
                format!("the host has a route to {} by {:?}", route.to, name(route.index)),
                format!("give the network another range, or remove the route: ip route delete {}", route.to),
            );
        }
        for other in facts.host.addresses.iter().filter(|other| !mine(other.index) && range.contains(other.address)) {
            // A routed container has no range but its own address.
            say(
                format!("interface {:?} of the host has the address {}", name(other.index), other.address),
                "give the network another range, or the interface another address".into(),
            );
        }
    }
}

/// A default route, or one to half of everything (a VPN's), is no claim to a range; a link-local one is everybody's.
fn overlaps(route: &Subnet, range: &Subnet) -> bool {
    let link_local = match range.address() {
        std::net::IpAddr::V4(address) => address.is_link_local(),
        std::net::IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    route.prefix() > 1 && !link_local && route.is_ipv4() == range.is_ipv4() && route.overlaps(range)
        // A shorter one is the way to others, as 10.0.0.0/8 may be; the container's own route is the better one.
        && route.prefix() >= range.prefix()
}

pub(crate) fn route_localnet(facts: &Facts, path: &Path<'_>, found: &mut Vec<Finding>) {
    let Some(gate) = path.gate() else { return };
    // A network that publishes on 127.0.0.1 turns it on, and its own table drops what containers send there.
    let guarded = facts.ruleset.as_ref().is_some_and(|ruleset| {
        let mut tables = ruleset.tables.iter().filter(|table| table.name == gate.name);
        tables.any(|table| ruleset.has_base_chain(table, "filter", HOOK_PREROUTING) && ruleset.rules_in(table) > 0)
    });
    if guarded {
        return;
    }
    for name in ["all", gate.name.as_str()] {
        if facts.host.sysctl(&format!("net/ipv4/conf/{name}/route_localnet")) == Some("1") {
            found.push(Finding::new(
                Fault::RouteLocalnet,
                format!(
                    "net.ipv4.conf.{name}.route_localnet is 1: the container reaches the host's services on 127.0.0.1"
                ),
                format!(
                    "sysctl -w net.ipv4.conf.{name}.route_localnet=0, or drop what comes by {:?} for 127.0.0.0/8",
                    gate.name
                ),
            ));
        }
    }
}

pub(crate) fn full_tables(facts: &Facts, found: &mut Vec<Finding>) {
    let nearly =
        |count: u64, most: u64| most > 0 && count.saturating_mul(100) >= most.saturating_mul(NEARLY_FULL_PERCENT);
    for &(family, count) in &facts.neighbour_entries {
        let path = format!("net/ipv{family}/neigh/default/gc_thresh3");
        if let Some(most) = facts.host.number(&path).filter(|&most| nearly(count, most)) {
            let name = path.replace('/', ".");
            found.push(Finding::new(
                Fault::NeighbourTableFull,
                format!("the machine's table of IPv{family} neighbours has {count} of {most} entries: new ones are not found"),
                format!("sysctl -w {name}={}", most.saturating_mul(4)),
            ));
        }
    }
    let count = facts.host.number("net/netfilter/nf_conntrack_count");
    if let (Some(count), Some(most)) = (count, facts.host.number("net/netfilter/nf_conntrack_max")) {
        if nearly(count, most) {
            found.push(Finding::new(
                Fault::ConntrackFull,
                format!("the kernel tracks {count} of {most} connections: packets of new ones are dropped"),
                format!("sysctl -w net.netfilter.nf_conntrack_max={}", most.saturating_mul(2)),
            ));
        }
    }
}
