//! Whether a range is in use on this machine already.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use cellkit_core::{Error, ErrorKind, Result, Subject};
use netlink_packet_core::Parseable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};

use crate::exchange::{Mode, Request};
use crate::link::{self, Link, bytes};
use crate::name::IfName;
use crate::socket::{Family, Socket};
use crate::subnet::{Subnet, width};

const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;
const RT_TABLE_LOCAL: u32 = 255;

/// Something of this machine that has addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Use {
    range: Subnet,
    /// The interface, where there is just one.
    index: Option<u32>,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Route,
    Address,
}

/// Refuses ranges with addresses that this machine has, or has a route to, but by `own`, which may not be there yet. In the
/// network namespace of the calling thread.
pub(crate) fn check(subnets: &[Subnet], own: Option<&IfName>) -> Result<()> {
    let socket = Socket::open(Family::Route)?;
    let own = match own.map(|name| socket.talk(&[link::get(&name.into())?], Mode::Ack)) {
        Some(Ok(answers)) => answers.first().map(|body| Link::parse(body)).transpose()?.map(|link| link.index),
        Some(Err(error)) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => None,
    };
    check_with(subnets, own, |request| socket.talk(&[request], Mode::Dump))
}

/// The same, with the index of the network's own interface, over a socket that is there.
pub(crate) fn check_with(
    subnets: &[Subnet],
    own: Option<u32>,
    mut list: impl FnMut(Request) -> Result<Vec<Vec<u8>>>,
) -> Result<()> {
    for subnet in subnets {
        let ipv6 = subnet.is_ipv6();
        let (routes, addresses) = (answers(list(list_routes(ipv6)))?, answers(list(list_addresses(ipv6)))?);
        let mut uses = Vec::new();
        for body in &routes {
            uses.extend(route(body)?);
        }
        for body in &addresses {
            uses.extend(address(body)?);
        }
        let foreign = |one: &&Use| one.range.overlaps(subnet) && (own.is_none() || one.index != own);
        let Some(found) = uses.iter().find(foreign) else { continue };
        let mut by = String::new();
        for body in list(link::list())? {
            let link = Link::parse(&body)?;
            if Some(link.index) == found.index {
                by = link.name;
            }
        }
        let why = match found.what {
            What::Route => {
                let by = if by.is_empty() { by } else { format!(" by {by}") };
                format!("this machine has a route to {}{by}, whose addresses are in it", found.range)
            }
            What::Address => format!("this machine has the address {} on {by}, which is in it", found.range.address()),
        };
        return Err(Error::invalid("network", why)
            .on(Subject::Value(subnet.to_string()))
            .with_hint("give the network a range that nothing else uses: see ip route and ip address"));
    }
    Ok(())
}

/// A kernel without IPv6 has none of its routes and addresses.
fn answers(result: Result<Vec<Vec<u8>>>) -> Result<Vec<Vec<u8>>> {
    match result {
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(Vec::new()),
        other => other,
    }
}

fn family(ipv6: bool) -> AddressFamily {
    if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet }
}

fn list_routes(ipv6: bool) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = family(ipv6);
    Request { operation: "RTM_GETROUTE", subject: None, kind: RTM_GETROUTE, flags: 0, body: bytes(&message) }
}

fn list_addresses(ipv6: bool) -> Request {
    let mut message = AddressMessage::default();
    message.header.family = family(ipv6);
    Request { operation: "RTM_GETADDR", subject: None, kind: RTM_GETADDR, flags: 0, body: bytes(&message) }
}

/// A route of the machine to some of its neighbours: neither a default route nor one to its own addresses, which are
/// listed for themselves.
fn route(body: &[u8]) -> Result<Option<Use>> {
    let message = RouteMessage::parse(body)
        .map_err(|error| Error::parse("RTM_GETROUTE", format!("the kernel's answer: {error}")))?;
    let prefix = message.header.destination_prefix_length;
    let (mut destination, mut index, mut table) = (None, None, u32::from(message.header.table));
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = Some(IpAddr::V4(*address)),
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => destination = Some(IpAddr::V6(*address)),
            RouteAttribute::Oif(number) => index = Some(*number),
            RouteAttribute::Table(number) => table = *number,
            _ => {}
        }
    }
    let counts = |destination: &IpAddr| prefix > 0 && prefix <= width(*destination) && table != RT_TABLE_LOCAL;
    let destination = destination.filter(counts);
    Ok(destination.map(|destination| Use { range: Subnet::around(destination, prefix), index, what: What::Route }))
}

/// The addresses of one answer: its own, and the other end's where there is one.
fn address(body: &[u8]) -> Result<Vec<Use>> {
    let message = AddressMessage::parse(body)
        .map_err(|error| Error::parse("RTM_GETADDR", format!("the kernel's answer: {error}")))?;
    let index = Some(message.header.index);
    let single = |address: IpAddr| Use { range: Subnet::around(address, width(address)), index, what: What::Address };
    let addresses = message.attributes.iter().filter_map(|attribute| match attribute {
        AddressAttribute::Local(address) | AddressAttribute::Address(address) => Some(single(*address)),
        _ => None,
    });
    Ok(addresses.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::route::RouteHeader;
    use proptest::prelude::*;

    fn route_message(destination: IpAddr, prefix: u8, table: u8, index: u32) -> Vec<u8> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination.is_ipv6());
        message.header.destination_prefix_length = prefix;
        message.header.table = table;
        let destination = match destination {
            IpAddr::V4(address) => RouteAddress::Inet(address),
            IpAddr::V6(address) => RouteAddress::Inet6(address),
        };
        message.attributes = vec![RouteAttribute::Destination(destination), RouteAttribute::Oif(index)];
        bytes(&message)
    }

    fn address_message(address: IpAddr, index: u32) -> Vec<u8> {
        let mut message = AddressMessage::default();
        message.header.family = family(address.is_ipv6());
        message.header.index = index;
        message.attributes = vec![AddressAttribute::Local(address)];
        bytes(&message)
    }

    fn verdict(subnet: &str, own: Option<u32>, routes: &[Vec<u8>], addresses: &[Vec<u8>]) -> Result<()> {
        check_with(&[subnet.parse().unwrap()], own, |request| match request.kind {
            RTM_GETROUTE => Ok(routes.to_vec()),
            RTM_GETADDR => Ok(addresses.to_vec()),
            _ => Ok(Vec::new()),
        })
    }

    #[test]
    fn routes_and_addresses_of_others_count() {
        let main = RouteHeader::RT_TABLE_MAIN;
        let v4 = [route_message([10, 0, 0, 0].into(), 8, main, 2)];
        let v6 = [route_message("fd00:1::".parse().unwrap(), 48, main, 2)];
        assert!(verdict("10.209.0.0/22", None, &v4, &[]).is_err());
        assert!(verdict("10.209.0.0/22", Some(3), &v4, &[]).is_err());
        assert!(verdict("10.209.0.0/22", Some(2), &v4, &[]).is_ok(), "its own bridge's");
        assert!(verdict("192.168.0.0/16", None, &v4, &[]).is_ok());
        assert!(verdict("fd00:1:0:5::/64", None, &v6, &[]).is_err());
        assert!(verdict("fd00:2::/64", None, &v6, &[]).is_ok());
        for free in [route_message([0, 0, 0, 0].into(), 0, main, 2), route_message([10, 209, 0, 1].into(), 32, 255, 2)]
        {
            assert!(verdict("10.209.0.0/22", None, &[free], &[]).is_ok());
        }
        let own = [address_message([10, 209, 3, 255].into(), 7), address_message("fd00:2::9".parse().unwrap(), 7)];
        let error = verdict("10.209.0.0/22", None, &[], &own).unwrap_err();
        assert!(error.to_string().contains("the address 10.209.3.255"), "{error}");
        assert!(verdict("10.209.0.0/22", Some(7), &[], &own).is_ok());
        assert!(verdict("fd00:2::/112", None, &[], &own).is_err());
    }

    proptest! {
        #[test]
        fn any_answer_is_taken_without_panic(body in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = route(&body);
            let _ = address(&body);
        }
    }
}
