//! Messages about addresses and routes.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr};

use cellkit_core::{Error, Result, Subject};
use netlink_packet_core::Parseable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use crate::exchange::Request;
use crate::link::{CREATE, bytes};
use crate::name::IfName;
use crate::subnet::Subnet;

const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RT_TABLE_LOCAL: u32 = 255;

/// `ip address add ADDRESS/PREFIX broadcast BROADCAST dev NAME`
pub(crate) fn new_address(name: &IfName, index: u32, address: Ipv4Addr, subnet: Subnet) -> Request {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = subnet.prefix();
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message.attributes =
        vec![AddressAttribute::Local(IpAddr::V4(address)), AddressAttribute::Address(IpAddr::V4(address))];
    message.attributes.extend(subnet.broadcast().map(AddressAttribute::Broadcast));
    let subject = Some(Subject::Interface(name.to_string()));
    Request { operation: "RTM_NEWADDR", subject, kind: RTM_NEWADDR, flags: CREATE, body: bytes(&message) }
}

/// `ip route add default via GATEWAY`
pub(crate) fn new_default_route(gateway: Ipv4Addr, index: u32) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway)), RouteAttribute::Oif(index)];
    let subject = Some(Subject::Thing(format!("default via {gateway}")));
    Request { operation: "RTM_NEWROUTE", subject, kind: RTM_NEWROUTE, flags: CREATE, body: bytes(&message) }
}

/// All IPv4 routes.
pub(crate) fn list() -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    Request { operation: "RTM_GETROUTE", subject: None, kind: RTM_GETROUTE, flags: 0, body: bytes(&message) }
}

/// An IPv4 route of the machine to some of its neighbours: neither the default route nor one to its own addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) destination: Ipv4Addr,
    pub(crate) prefix: u8,
    /// The interface it leaves by, where there is just one.
    pub(crate) index: Option<u32>,
}

impl Route {
    /// The route of one answer, if it is of that sort.
    pub(crate) fn parse(body: &[u8]) -> Result<Option<Self>> {
        let message = RouteMessage::parse(body)
            .map_err(|error| Error::parse("RTM_GETROUTE", format!("the kernel's answer: {error}")))?;
        let mut route =
            Self { destination: Ipv4Addr::UNSPECIFIED, prefix: message.header.destination_prefix_length, index: None };
        let mut table = u32::from(message.header.table);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => route.destination = *address,
                RouteAttribute::Oif(index) => route.index = Some(*index),
                RouteAttribute::Table(number) => table = *number,
                _ => {}
            }
        }
        let counts = route.prefix > 0 && table != RT_TABLE_LOCAL;
        Ok(counts.then_some(route))
    }
}
