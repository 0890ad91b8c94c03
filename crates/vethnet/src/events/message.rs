//! What the kernel tells of links, addresses, routes and neighbours, by itself and when asked.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use cellkit_core::{Error, Result};

use crate::exchange::Request;
use crate::ip_address::Address;
use crate::link::Link;
use crate::neighbour::Neighbour;
use crate::route::Route;
use crate::{ip_address, neighbour, route};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
/// A route that the kernel keeps for a connection, of IPv6.
const RTM_F_CLONED: u32 = 0x200;
const NTF_PROXY: u8 = 8;

/// What tells addresses apart: the interface, the address with its prefix, the peer.
pub(super) type AddressKey = (u32, String, Option<IpAddr>);
/// What tells routes apart, mostly: the table, the destination, the type of service, the metric, the source.
pub(super) type RouteKey = (u32, String, u8, Option<u32>, Option<String>);
/// What tells neighbours apart: the interface, the address, whether it is answered for.
pub(super) type NeighbourKey = (u32, IpAddr, bool);

/// One message, understood.
#[derive(Debug)]
pub(super) enum Told {
    Link(Link),
    LinkGone(u32),
    Address(AddressKey, Address),
    AddressGone(AddressKey),
    Route(RouteKey, Route),
    RouteGone(RouteKey, Route),
    Neighbour(NeighbourKey, Neighbour),
    NeighbourGone(NeighbourKey),
}

/// What a message of this kind says, if it is of what is told of here: bridges tell of their ports and forwarding databases
/// in messages of the same kinds.
pub(super) fn told(kind: u16, body: &[u8]) -> Result<Option<Told>> {
    Ok(match kind {
        RTM_NEWLINK => link(body)?.map(Told::Link),
        RTM_DELLINK => link(body)?.map(|link| Told::LinkGone(link.index)),
        RTM_NEWADDR => address(body)?.map(|(key, address)| Told::Address(key, address)),
        RTM_DELADDR => address(body)?.map(|(key, _)| Told::AddressGone(key)),
        RTM_NEWROUTE => route(body)?.map(|(key, route)| Told::Route(key, route)),
        RTM_DELROUTE => route(body)?.map(|(key, route)| Told::RouteGone(key, route)),
        RTM_NEWNEIGH => neighbour(body)?.map(|(key, neighbour)| Told::Neighbour(key, neighbour)),
        RTM_DELNEIGH => neighbour(body)?.map(|(key, _)| Told::NeighbourGone(key)),
        _ => None,
    })
}

pub(super) fn link(body: &[u8]) -> Result<Option<Link>> {
    match body.first() {
        Some(&family) if i32::from(family) != libc::AF_UNSPEC => Ok(None),
        Some(_) => Link::parse(body).map(Some),
        None => Err(Error::parse("RTM_NEWLINK", "the kernel's message is empty")),
    }
}

pub(super) fn address(body: &[u8]) -> Result<Option<(AddressKey, Address)>> {
    Ok(ip_address::message::parse(body)?.map(|address| {
        let key = (address.index.unwrap_or(0), address.address.to_string(), address.peer);
        (key, address)
    }))
}

pub(super) fn route(body: &[u8]) -> Result<Option<(RouteKey, Route)>> {
    let flags = body.get(8..).and_then(|rest| rest.first_chunk().copied()).map_or(0, u32::from_ne_bytes);
    if flags & RTM_F_CLONED != 0 {
        return Ok(None);
    }
    let service = body.get(3).copied().unwrap_or(0);
    Ok(route::message::parse(body)?.map(|route| {
        let from = route.from.map(|from| from.to_string());
        let key = (route.table.number(), route.destination.to_string(), service, route.metric, from);
        (key, route)
    }))
}

pub(super) fn neighbour(body: &[u8]) -> Result<Option<(NeighbourKey, Neighbour)>> {
    Ok(neighbour::message::parse(body)?.map(|neighbour| {
        let key = (neighbour.index.unwrap_or(0), neighbour.address, neighbour.is_proxy);
        (key, neighbour)
    }))
}

fn list(operation: &'static str, kind: u16, header: Vec<u8>) -> Request {
    Request { operation, subject: None, kind, flags: 0, body: header }
}

/// `struct ifinfomsg`
pub(super) fn links() -> Request {
    list("RTM_GETLINK", RTM_GETLINK, vec![0; 16])
}

/// `struct ifaddrmsg`
pub(super) fn addresses() -> Request {
    list("RTM_GETADDR", RTM_GETADDR, vec![0; 8])
}

/// `struct rtmsg`, of both families
pub(super) fn routes() -> [Request; 2] {
    [libc::AF_INET, libc::AF_INET6]
        .map(|family| list("RTM_GETROUTE", RTM_GETROUTE, [&[family as u8][..], &[0; 11]].concat()))
}

/// `struct ndmsg`, of neighbours and of those that are answered for
pub(super) fn neighbours() -> [Request; 2] {
    [0, NTF_PROXY].map(|flags| list("RTM_GETNEIGH", RTM_GETNEIGH, [&[0; 10][..], &[flags, 0]].concat()))
}
