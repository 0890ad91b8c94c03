//! The container's side: interfaces, addresses, routes, the gateway, listeners.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use super::super::Published;
use super::super::facts::{Facts, LinkFacts, NUD_FAILED, NUD_INCOMPLETE, NUD_PERMANENT};
use super::super::finding::{Fault, Finding};
use super::super::path::{Path, Paths};

pub(crate) fn no_interface(facts: &Facts, paths: &Paths<'_>, found: &mut Vec<Finding>) {
    // Without any link nothing was seen at all, which is told elsewhere.
    if paths.list.is_empty() && !facts.container.links.is_empty() {
        found.push(Finding::new(
            Fault::NoInterface,
            "the container has no interface but its loopback: it was not attached, or what was its other end is gone",
            "attach it to its network (again)",
        ));
    }
}

pub(crate) fn links(facts: &Facts, path: &Path<'_>, found: &mut Vec<Finding>) {
    let mut down = |link: &LinkFacts, whose: &str, command: &str| {
        if !link.up {
            let sentence = format!("interface {:?} of {whose} is down", link.name);
            found.push(Finding::new(Fault::LinkDown, sentence, format!("{command}ip link set {} up", link.name)));
        }
    };
    down(path.inside, "the container", "in its network namespace: ");
    for link in [path.host_end, path.bridge].into_iter().flatten() {
        down(link, "the host", "");
    }
    let ends = [Some(path.inside), path.host_end];
    // With one end down the other has no carrier either, which is no fault of its own.
    if ends.into_iter().flatten().all(|link| link.up) && !path.inside.carrier {
        found.push(Finding::new(
            Fault::NoCarrier,
            format!("interface {:?} of the container is up and has no carrier", path.inside.name),
            "bring up what it is connected to: its other end, or the interface it is made from",
        ));
    }
    let Some(host_end) = path.host_end else { return };
    let routed = path
        .addresses(facts)
        .any(|address| facts.host.route_to(address.address).is_some_and(|route| route.index == host_end.index));
    if path.bridge.is_none() && !routed && path.addresses(facts).next().is_some() {
        found.push(Finding::new(
            Fault::NotConnected,
            format!(
                "interface {:?} of the host, the other end of {:?}, is in no bridge, and no route leads to the container by it",
                host_end.name, path.inside.name
            ),
            format!("ip link set {} master BRIDGE, or attach the container again", host_end.name),
        ));
    }
}

pub(crate) fn addresses(facts: &Facts, path: &Path<'_>, found: &mut Vec<Finding>) {
    let name = &path.inside.name;
    if path.inside.master.is_none() && path.addresses(facts).next().is_none() {
        found.push(Finding::new(
            Fault::NoAddress,
            format!("interface {name:?} of the container has no address"),
            format!(
                "in its network namespace: ip address add ADDRESS/PREFIX dev {name}, or attach the container again"
            ),
        ));
    }
    for address in path.addresses(facts) {
        let (why, fix) = if address.dad_failed {
            (
                "is in use by somebody else on the link (duplicate address detection failed)",
                "give one of the two another address",
            )
        } else if address.tentative {
            (
                "is tentative: whether it is free is not known yet",
                "wait some seconds; if it stays so, the interface has no carrier or is not up",
            )
        } else {
            continue;
        };
        let sentence = format!("address {} of interface {name:?} of the container {why}", address.address);
        found.push(Finding::new(Fault::AddressNotUsable, sentence, fix));
    }
    // What the network has is what the bridge has.
    let Some(bridge) = path.bridge else { return };
    let offered = facts
        .host
        .addresses
        .iter()
        .any(|address| address.index == bridge.index && address.global && address.address.is_ipv6());
    let off = |file: &str| facts.container.sysctl(&format!("net/ipv6/conf/{file}/disable_ipv6")) == Some("1");
    if offered && path.address(facts, true).is_none() && off(name) {
        found.push(Finding::new(
            Fault::Ipv6Disabled,
            format!("net.ipv6.conf.{name}.disable_ipv6 is 1 in the container, and its network has IPv6"),
            format!("in its network namespace: sysctl net.ipv6.conf.{name}.disable_ipv6=0, and attach it again"),
        ));
    }
}

pub(crate) fn default_route(facts: &Facts, paths: &Paths<'_>, found: &mut Vec<Finding>) {
    for (ipv6, family, option) in [(false, "IPv4", ""), (true, "IPv6", "-6 ")] {
        let addressed = paths.list.iter().find(|path| path.address(facts, ipv6).is_some());
        if let (Some(path), None) = (addressed, facts.container.default_route(ipv6)) {
            found.push(Finding::new(
                Fault::NoDefaultRoute,
                format!("the container has no default route for {family}: it reaches its own range only"),
                format!("in its network namespace: ip {option}route add default via GATEWAY dev {}", path.inside.name),
            ));
        }
    }
}

pub(crate) fn gateway(facts: &Facts, path: &Path<'_>, found: &mut Vec<Finding>) {
    for ipv6 in [false, true] {
        let Some(route) = facts.container.default_route(ipv6).filter(|route| route.index == path.inside.index) else {
            continue;
        };
        let Some(gateway) = route.gateway else { continue };
        let known = facts
            .container
            .neighbours
            .iter()
            .find(|neighbour| (neighbour.index, neighbour.address) == (path.inside.index, gateway));
        let state = known.map_or(0, |neighbour| neighbour.state);
        if state & NUD_PERMANENT != 0 {
            continue;
        }
        // On the host's side of a veth pair one can see who has it; elsewhere it may be a machine far away.
        let owner = facts.host.addresses.iter().find(|address| address.address == gateway);
        if let (Some(gate), None) = (path.gate(), owner) {
            found.push(Finding::new(
                Fault::NoGateway,
                format!("nobody on this machine has {gateway}, the container's gateway"),
                format!("give it to the host's interface: ip address add {gateway}/PREFIX dev {}", gate.name),
            ));
        } else if state & (NUD_FAILED | NUD_INCOMPLETE) != 0 {
            let word = if state & NUD_FAILED != 0 { "FAILED" } else { "INCOMPLETE" };
            found.push(Finding::new(
                Fault::GatewayDoesNotAnswer,
                format!("the container's gateway {gateway} does not answer: its neighbour entry is {word}"),
                "look at what is between the two: the bridge, its filters, and whose address it is",
            ));
        }
    }
}

pub(crate) fn mtu(path: &Path<'_>, found: &mut Vec<Finding>) {
    let mut before = path.inside;
    for link in [path.host_end, path.bridge].into_iter().flatten() {
        if before.mtu > link.mtu {
            found.push(Finding::new(
                Fault::MtuMismatch,
                format!(
                    "interface {:?} sends packets of up to {} bytes, and {:?} behind it takes no more than {}: larger ones vanish",
                    before.name, before.mtu, link.name, link.mtu
                ),
                format!("ip link set {} mtu {}, on whichever side it is", before.name, link.mtu),
            ));
        }
        before = link;
    }
}

pub(crate) fn not_listening(facts: &Facts, paths: &Paths<'_>, published: &[Published], found: &mut Vec<Finding>) {
    if published.is_empty() || facts.container.links.is_empty() {
        return;
    }
    let mine: Vec<IpAddr> =
        paths.list.iter().flat_map(|path| path.addresses(facts)).map(|address| address.address).collect();
    for port in published {
        let sockets = facts
            .container
            .listening
            .iter()
            .filter(|socket| socket.protocol == port.protocol && port.ports.contains(&socket.port));
        let mut elsewhere = None;
        let mut reachable = false;
        for socket in sockets {
            reachable |= socket.address.is_unspecified() || mine.contains(&socket.address);
            elsewhere = Some(socket.address);
        }
        if reachable {
            continue;
        }
        // Of a range it is enough that one is listened to: the others may be for later.
        let ports = match (port.ports.start(), port.ports.end()) {
            (first, last) if first == last => format!("its port {first}"),
            (first, last) => format!("any of its ports {first}-{last}"),
        };
        let (why, fix) = match elsewhere {
            Some(address) => (
                format!("the container listens to {ports} on {address} only"),
                "let the program listen on 0.0.0.0 or on the container's address".to_owned(),
            ),
            None => (
                format!("nothing in the container listens to {ports}"),
                "start the program, or publish the port it listens to: in the container's network namespace, ss -lntu"
                    .to_owned(),
            ),
        };
        found.push(Finding::new(Fault::NotListening, format!("{} is published, and {why}", port.text), fix));
    }
}
