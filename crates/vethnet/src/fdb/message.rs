//! Messages about forwarding databases: neighbours of the family AF_BRIDGE.
#![forbid(unsafe_code)]

use cellkit_core::Result;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage};

use super::{FdbEntry, FdbList, FdbState};
use crate::attr::attributes;
use crate::exchange::Request;
use crate::fields::{address, byte, number16, number32, split};
use crate::link::{LinkRef, bytes};
use crate::neighbour::message::{
    HEADER, NDA_DST, NDA_LLADDR, NTF_EXT_LEARNED, NTF_MASTER, NTF_SELF, NTF_STICKY, RTM_DELNEIGH, RTM_GETNEIGH,
    RTM_NEWNEIGH, destination,
};

pub(super) use crate::neighbour::message::{CREATE, REPLACE};

pub(super) const APPEND: u16 = 0x400 | 0x800;
const NDA_VLAN: u16 = 5;
const NDA_PORT: u16 = 6;
const NDA_VNI: u16 = 7;
const NDA_MASTER: u16 = 9;
const AF_BRIDGE: u8 = libc::AF_BRIDGE as u8;

fn message(index: u32, entry: &FdbEntry) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    let mut flags = match entry.list {
        FdbList::Bridge => NTF_MASTER,
        FdbList::Device => NTF_SELF,
    };
    for (is_set, flag) in [(entry.is_sticky, NTF_STICKY), (entry.is_externally_learned, NTF_EXT_LEARNED)] {
        flags |= if is_set { flag } else { 0 };
    }
    message.header.flags = NeighbourFlags::from_bits_retain(flags);
    let attributes = &mut message.attributes;
    attributes.push(NeighbourAttribute::LinkLayerAddress(entry.mac.to_vec()));
    attributes.extend(entry.vlan.map(NeighbourAttribute::Vlan));
    attributes.extend(entry.destination.map(destination));
    attributes.extend(entry.port.map(NeighbourAttribute::Port));
    attributes.extend(entry.vni.map(NeighbourAttribute::Vni));
    message
}

/// `bridge fdb add`, `append` or `replace`
pub(super) fn new(link: &LinkRef, index: u32, entry: &FdbEntry, flags: u16) -> Request {
    let mut message = message(index, entry);
    message.header.state = entry.state.number().into();
    let subject = Some(entry.subject(link));
    Request { operation: "RTM_NEWNEIGH", subject, kind: RTM_NEWNEIGH, flags, body: bytes(&message) }
}

/// `bridge fdb delete`
pub(super) fn delete(link: &LinkRef, index: u32, entry: &FdbEntry) -> Request {
    let mut message = message(index, entry);
    // An interface's own list is asked for permanent entries only.
    message.header.state = entry.state.number().into();
    let body = bytes(&message);
    Request { operation: "RTM_DELNEIGH", subject: Some(entry.subject(link)), kind: RTM_DELNEIGH, flags: 0, body }
}

/// `bridge fdb show`, of one interface or of all
pub(super) fn list(link: Option<(&LinkRef, u32)>) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = link.map_or(0, |(_, index)| index);
    let subject = link.map(|(link, _)| link.subject());
    Request { operation: "RTM_GETNEIGH", subject, kind: RTM_GETNEIGH, flags: 0, body: bytes(&message) }
}

/// The entry of one answer, if it is of a hardware address of Ethernet.
pub(crate) fn parse(body: &[u8]) -> Result<Option<FdbEntry>> {
    let (header, rest) = split("RTM_GETNEIGH", body, HEADER)?;
    if byte(header, 0) != Some(AF_BRIDGE) {
        return Ok(None);
    }
    let flags = byte(header, 10).unwrap_or(0);
    let mut entry = FdbEntry::new([0; 6], FdbState::of_number(number16(header, 8).unwrap_or(0)), FdbList::Device);
    entry.is_sticky = flags & NTF_STICKY != 0;
    entry.is_externally_learned = flags & NTF_EXT_LEARNED != 0;
    entry.index = number32(header, 4);
    let mut mac = None;
    for (kind, value) in attributes(rest) {
        match kind {
            NDA_LLADDR => mac = <[u8; 6]>::try_from(value).ok(),
            NDA_DST => entry.destination = address(value),
            NDA_VLAN => entry.vlan = number16(value, 0),
            NDA_PORT => entry.port = number16(value, 0).map(u16::from_be),
            NDA_VNI => entry.vni = number32(value, 0),
            NDA_MASTER => entry.bridge = number32(value, 0),
            _ => {}
        }
    }
    // A bridge says in NDA_MASTER which one it is, and NTF_SELF of what only the device knows.
    if flags & NTF_MASTER != 0 || (entry.bridge.is_some() && flags & NTF_SELF == 0) {
        entry.list = FdbList::Bridge;
    }
    Ok(mac.map(|mac| FdbEntry { mac, ..entry }))
}
