//! Messages about neighbours: what is asked, and what the answers say.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use cellkit_core::{Result, Subject};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage};

use super::{Neighbour, NeighbourState};
use crate::attr::attributes;
use crate::exchange::Request;
use crate::fields::{INET, INET6, address, byte, family, number16, number32, split};
use crate::link::{LinkRef, bytes};
use crate::mac::MacAddr;
use crate::route::RouteProtocol;

pub(crate) const RTM_NEWNEIGH: u16 = 28;
pub(crate) const RTM_DELNEIGH: u16 = 29;
pub(crate) const RTM_GETNEIGH: u16 = 30;
pub(crate) const CREATE: u16 = 0x400 | 0x200;
pub(crate) const REPLACE: u16 = 0x400 | 0x100;

/// `struct ndmsg`
pub(crate) const HEADER: usize = 12;
pub(crate) const NDA_DST: u16 = 1;
pub(crate) const NDA_LLADDR: u16 = 2;
const NDA_PROTOCOL: u16 = 12;
pub(crate) const NTF_SELF: u8 = 0x02;
pub(crate) const NTF_MASTER: u8 = 0x04;
const NTF_PROXY: u8 = 0x08;
pub(crate) const NTF_EXT_LEARNED: u8 = 0x10;
pub(crate) const NTF_STICKY: u8 = 0x40;
const NTF_ROUTER: u8 = 0x80;

pub(crate) fn destination(address: IpAddr) -> NeighbourAttribute {
    NeighbourAttribute::Destination(match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    })
}

fn named(index: u32, neighbour: &Neighbour) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(neighbour.address);
    message.header.ifindex = index;
    message.header.flags = NeighbourFlags::from_bits_retain(if neighbour.is_proxy { NTF_PROXY } else { 0 });
    message.attributes.push(destination(neighbour.address));
    message
}

/// `ip neighbour add`, or `replace`
pub(crate) fn new(link: &LinkRef, index: u32, neighbour: &Neighbour, flags: u16) -> Request {
    let mut message = named(index, neighbour);
    message.header.state = neighbour.state.number().into();
    for (is_set, flag) in [(neighbour.is_router, NTF_ROUTER), (neighbour.is_externally_learned, NTF_EXT_LEARNED)] {
        message.header.flags |= NeighbourFlags::from_bits_retain(if is_set { flag } else { 0 });
    }
    let attributes = &mut message.attributes;
    attributes.extend(neighbour.mac.map(|mac| NeighbourAttribute::LinkLayerAddress(mac.bytes().to_vec())));
    attributes.extend(neighbour.protocol.map(|protocol| NeighbourAttribute::Protocol(protocol.number().into())));
    let subject = Some(neighbour.subject(link));
    Request { operation: "RTM_NEWNEIGH", subject, kind: RTM_NEWNEIGH, flags, body: bytes(&message) }
}

/// `ip neighbour delete`
pub(super) fn delete(link: &LinkRef, index: u32, neighbour: &Neighbour) -> Request {
    let (body, subject) = (bytes(&named(index, neighbour)), Some(neighbour.subject(link)));
    Request { operation: "RTM_DELNEIGH", subject, kind: RTM_DELNEIGH, flags: 0, body }
}

/// `ip neighbour get`
pub(super) fn get(link: &LinkRef, index: u32, neighbour: &Neighbour) -> Request {
    let (body, subject) = (bytes(&named(index, neighbour)), Some(neighbour.subject(link)));
    Request { operation: "RTM_GETNEIGH", subject, kind: RTM_GETNEIGH, flags: 0, body }
}

/// `ip neighbour show`, or `show proxy`, of one interface or of all
pub(super) fn list(link: Option<(&LinkRef, u32)>, proxies: bool) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Unspec;
    message.header.flags = NeighbourFlags::from_bits_retain(if proxies { NTF_PROXY } else { 0 });
    if let Some((_, index)) = link {
        message.attributes.push(NeighbourAttribute::IfIndex(index));
    }
    let subject: Option<Subject> = link.map(|(link, _)| link.subject());
    Request { operation: "RTM_GETNEIGH", subject, kind: RTM_GETNEIGH, flags: 0, body: bytes(&message) }
}

/// The neighbour of one answer, if it is of IPv4 or IPv6.
pub(crate) fn parse(body: &[u8]) -> Result<Option<Neighbour>> {
    let (header, rest) = split("RTM_GETNEIGH", body, HEADER)?;
    let (mut own, mut mac, mut protocol) = (None, None, None);
    for (kind, value) in attributes(rest) {
        match kind {
            NDA_DST => own = address(value),
            NDA_LLADDR => mac = <[u8; 6]>::try_from(value).ok().and_then(|bytes| MacAddr::new(bytes).ok()),
            NDA_PROTOCOL => protocol = byte(value, 0).map(RouteProtocol::of_number),
            _ => {}
        }
    }
    let family = byte(header, 0);
    let Some(address) =
        own.filter(|own| matches!((family, own), (Some(INET), IpAddr::V4(_)) | (Some(INET6), IpAddr::V6(_))))
    else {
        return Ok(None);
    };
    let flags = byte(header, 10).unwrap_or(0);
    Ok(Some(Neighbour {
        address,
        mac,
        state: NeighbourState::of_number(number16(header, 8).unwrap_or(0)),
        is_proxy: flags & NTF_PROXY != 0,
        is_router: flags & NTF_ROUTER != 0,
        is_externally_learned: flags & NTF_EXT_LEARNED != 0,
        protocol: protocol.filter(|protocol| *protocol != RouteProtocol::UNSPEC),
        index: number32(header, 4),
    }))
}
