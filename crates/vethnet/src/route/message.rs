//! Messages about routes: what is asked, and what the answers say.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::Duration;

use cellkit_core::{Result, Subject};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteNextHop, RouteNextHopFlags,
    RoutePreference as WirePreference, RouteVia,
};

use super::{NextHop, Route, RouteFilter, RouteKind, RouteLookup, RoutePreference, RouteProtocol, RouteTable, Scope};
use crate::attr::attributes;
use crate::exchange::Request;
use crate::fields::{INET, INET6, address, bits, byte, family, number16, number32, split};
use crate::link::{LinkRef, bytes};
use crate::subnet::Subnet;

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
pub(crate) const CREATE: u16 = 0x400 | 0x200;
pub(crate) const REPLACE: u16 = 0x400 | 0x100;

/// `struct rtmsg`
const HEADER: usize = 12;
/// `struct rtnexthop`
const HOP_HEADER: usize = 8;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_CACHEINFO: u16 = 12;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_PREF: u16 = 20;
const RTA_NH_ID: u16 = 30;
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;
const RTNH_F_DEAD: u8 = 1;
const RTNH_F_ONLINK: u8 = 4;
const RTNH_F_LINKDOWN: u8 = 16;
/// The answer's table is the one the route was found in, and not the one that was asked.
const RTM_F_LOOKUP_TABLE: u32 = 0x1000;
/// What the kernel shows of its clock: USER_HZ, 100 on every architecture but Alpha.
const TICKS_A_SECOND: u64 = 100;

fn same_family(address: IpAddr) -> RouteAddress {
    RouteAddress::from(address)
}

fn basic(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(route.destination.address());
    message.header.destination_prefix_length = route.destination.prefix();
    message.header.kind = route.kind.number().into();
    // Tables over 255 have room in the attribute only; RT_TABLE_COMPAT stands for them.
    message.header.table = u8::try_from(route.table.number()).unwrap_or(252);
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Table(route.table.number()));
    if !route.is_default() {
        attributes.push(RouteAttribute::Destination(same_family(route.destination.address())));
    }
    if let Some(from) = route.from {
        message.header.source_prefix_length = from.prefix();
        attributes.push(RouteAttribute::Source(same_family(from.address())));
    }
    attributes.extend(route.metric.map(RouteAttribute::Priority));
    message
}

/// The gateway, as one of the route's own family or of the other.
fn gateway(route: &Route, hop: &NextHop) -> Option<RouteAttribute> {
    hop.via.map(|via| {
        if via.is_ipv4() == route.destination.is_ipv4() {
            RouteAttribute::Gateway(same_family(via))
        } else {
            RouteAttribute::Via(RouteVia::from(via))
        }
    })
}

/// The number of the hop's interface: names were looked up before.
fn index(hop: &NextHop) -> Option<u32> {
    hop.dev.as_ref().and_then(LinkRef::index)
}

fn add_hops(message: &mut RouteMessage, route: &Route) {
    match route.hops.as_slice() {
        [] => {}
        [hop] => {
            message.attributes.extend(gateway(route, hop));
            message.attributes.extend(index(hop).map(RouteAttribute::Oif));
            if hop.is_onlink {
                message.header.flags |= RouteFlags::from_bits_retain(RTNH_F_ONLINK.into());
            }
        }
        hops => {
            let list = hops.iter().map(|hop| {
                let mut way = RouteNextHop::default();
                way.interface_index = index(hop).unwrap_or(0);
                way.hops = hop.weight.saturating_sub(1);
                way.flags = RouteNextHopFlags::from_bits_retain(if hop.is_onlink { RTNH_F_ONLINK } else { 0 });
                way.attributes.extend(gateway(route, hop));
                way
            });
            message.attributes.push(RouteAttribute::MultiPath(list.collect()));
        }
    }
}

/// `ip route add`, or `replace`
pub(crate) fn new(route: &Route, subject: Subject, flags: u16) -> Request {
    let mut message = basic(route);
    message.header.protocol = route.protocol.unwrap_or(RouteProtocol::VETHNET).number().into();
    message.header.scope = route.scope_or_default().number().into();
    add_hops(&mut message, route);
    let attributes = &mut message.attributes;
    attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(same_family(source))));
    let metrics: Vec<_> =
        route.mtu.map(RouteMetric::Mtu).into_iter().chain(route.advmss.map(RouteMetric::Advmss)).collect();
    if !metrics.is_empty() {
        attributes.push(RouteAttribute::Metrics(metrics));
    }
    attributes.extend(
        route.preference.map(|preference| RouteAttribute::Preference(WirePreference::from(preference.number()))),
    );
    attributes.extend(route.expires.map(|after| RouteAttribute::Expires(seconds(after))));
    let body = bytes(&message);
    Request { operation: "RTM_NEWROUTE", subject: Some(subject), kind: RTM_NEWROUTE, flags, body }
}

/// A whole second more for a part of one.
fn seconds(time: Duration) -> u32 {
    let whole = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    u32::try_from(whole).unwrap_or(u32::MAX)
}

/// `ip route delete`
pub(crate) fn delete(route: &Route, subject: Subject) -> Request {
    let mut message = basic(route);
    message.header.protocol = route.protocol.unwrap_or(RouteProtocol::UNSPEC).number().into();
    // RT_SCOPE_NOWHERE: of whatever scope.
    message.header.scope = route.scope.unwrap_or(Scope::NOWHERE).number().into();
    add_hops(&mut message, route);
    message.attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(same_family(source))));
    let body = bytes(&message);
    Request { operation: "RTM_DELROUTE", subject: Some(subject), kind: RTM_DELROUTE, flags: 0, body }
}

/// `ip route show`, of one family. The kernel leaves out what `filter` does.
pub(crate) fn list(family: AddressFamily, filter: &RouteFilter, dev: u32) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.protocol = filter.protocol.map_or(0, RouteProtocol::number).into();
    message.header.kind = filter.kind.map_or(0, RouteKind::number).into();
    message.attributes.extend(filter.table.map(|table| RouteAttribute::Table(table.number())));
    if dev != 0 {
        message.attributes.push(RouteAttribute::Oif(dev));
    }
    let subject = filter.table.map(|table| Subject::Thing(format!("table {table}")));
    Request { operation: "RTM_GETROUTE", subject, kind: RTM_GETROUTE, flags: 0, body: bytes(&message) }
}

/// `ip route get`
pub(super) fn get(lookup: &RouteLookup, oif: Option<u32>, iif: Option<u32>) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = family(lookup.to);
    message.header.destination_prefix_length = bits(lookup.to);
    // IPv6 always says the table, and refuses the flag.
    if lookup.to.is_ipv4() {
        message.header.flags = RouteFlags::from_bits_retain(RTM_F_LOOKUP_TABLE);
    }
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Destination(same_family(lookup.to)));
    if let Some(from) = lookup.from {
        message.header.source_prefix_length = bits(from);
        attributes.push(RouteAttribute::Source(same_family(from)));
    }
    attributes.extend(oif.map(RouteAttribute::Oif));
    attributes.extend(iif.map(RouteAttribute::Iif));
    attributes.extend(lookup.mark.map(RouteAttribute::Mark));
    attributes.extend(lookup.uid.map(RouteAttribute::Uid));
    let subject = Some(Subject::Thing(format!("route to {}", lookup.to)));
    Request { operation: "RTM_GETROUTE", subject, kind: RTM_GETROUTE, flags: 0, body: bytes(&message) }
}

/// The route of one answer, if it is of IPv4 or IPv6.
pub(crate) fn parse(body: &[u8]) -> Result<Option<Route>> {
    let (header, rest) = split("RTM_GETROUTE", body, HEADER)?;
    let field = |place| byte(header, place).unwrap_or(0);
    let unspecified = match field(0) {
        INET => IpAddr::from([0; 4]),
        INET6 => IpAddr::from([0u16; 8]),
        _ => return Ok(None),
    };
    let subnet = |address: IpAddr, prefix: u8| Subnet::around(address, prefix.min(bits(address)));
    let of_family = |address: &IpAddr| address.is_ipv4() == unspecified.is_ipv4();
    let mut route = Route::of_kind(RouteKind::of_number(field(7)), subnet(unspecified, field(1)));
    route.protocol = Some(RouteProtocol::of_number(field(5)));
    route.scope = Some(Scope::of_number(field(6)));
    let mut table = u32::from(field(4));
    let mut hop = NextHop::default();
    let flags = field(8);
    let mut ways = Vec::new();
    for (kind, value) in attributes(rest) {
        match kind {
            RTA_DST => {
                if let Some(address) = address(value).filter(of_family) {
                    route.destination = subnet(address, field(1));
                }
            }
            RTA_SRC => route.from = address(value).filter(of_family).map(|address| subnet(address, field(2))),
            RTA_OIF => hop.dev = number32(value, 0).map(LinkRef::Index),
            RTA_GATEWAY => hop.via = address(value),
            RTA_VIA => hop.via = value.get(2..).and_then(address),
            RTA_PRIORITY => route.metric = number32(value, 0),
            RTA_PREFSRC => route.source = address(value),
            RTA_METRICS => metrics(&mut route, value),
            RTA_MULTIPATH => ways = hops(value),
            RTA_CACHEINFO => route.expires = expiry(value),
            RTA_TABLE => table = number32(value, 0).unwrap_or(table),
            RTA_PREF => route.preference = byte(value, 0).map(RoutePreference::of_number),
            RTA_NH_ID => route.nexthop_id = number32(value, 0),
            _ => {}
        }
    }
    route.table = RouteTable::of_number(table).unwrap_or(RouteTable::MAIN);
    if ways.is_empty() && (hop.via.is_some() || hop.dev.is_some()) {
        set_flags(&mut hop, flags);
        ways.push(hop);
    }
    // IPv6 says that what ends here does so on the loopback interface.
    if !route.kind.ends_here() {
        route.hops = ways;
    }
    Ok(Some(route))
}

fn set_flags(hop: &mut NextHop, flags: u8) {
    hop.is_onlink = flags & RTNH_F_ONLINK != 0;
    hop.is_dead = flags & RTNH_F_DEAD != 0;
    hop.is_link_down = flags & RTNH_F_LINKDOWN != 0;
}

fn metrics(route: &mut Route, list: &[u8]) {
    for (kind, value) in attributes(list) {
        match kind {
            RTAX_MTU => route.mtu = number32(value, 0),
            RTAX_ADVMSS => route.advmss = number32(value, 0),
            _ => {}
        }
    }
}

/// `rta_expires` of `struct rta_cacheinfo`, a signed count of ticks; 0 and less: never, or gone at any moment.
fn expiry(value: &[u8]) -> Option<Duration> {
    let ticks = number32(value, 8).and_then(|ticks| i32::try_from(ticks).ok()).filter(|ticks| *ticks > 0)?;
    Some(Duration::from_millis(u64::from(ticks.unsigned_abs()) * 1000 / TICKS_A_SECOND))
}

fn hops(mut list: &[u8]) -> Vec<NextHop> {
    let mut ways = Vec::new();
    while let Some(length) = number16(list, 0).map(usize::from) {
        let Some(whole) = list.get(..length).filter(|whole| whole.len() >= HOP_HEADER) else { break };
        let mut hop = NextHop {
            dev: number32(whole, 4).filter(|index| *index != 0).map(LinkRef::Index),
            weight: byte(whole, 3).unwrap_or(0).saturating_add(1),
            ..NextHop::default()
        };
        set_flags(&mut hop, byte(whole, 2).unwrap_or(0));
        for (kind, value) in attributes(whole.get(HOP_HEADER..).unwrap_or_default()) {
            match kind {
                RTA_GATEWAY => hop.via = address(value),
                RTA_VIA => hop.via = value.get(2..).and_then(address),
                _ => {}
            }
        }
        ways.push(hop);
        list = list.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    ways
}
