//! Messages about addresses: what is asked, and what the answers say.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::Duration;

use cellkit_core::{Result, Subject};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags as WireFlags, AddressMessage, AddressScope, CacheInfo,
};

use super::{Address, AddressFlags, Lifetime};
use crate::attr::{as_text, attributes};
use crate::exchange::Request;
use crate::fields::{INET, INET6, address, byte, family, number32, split};
use crate::ip_net::IpNet;
use crate::link::{LinkRef, bytes};
use crate::route::Scope;

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
pub(crate) const CREATE: u16 = 0x400 | 0x200;
pub(super) const REPLACE: u16 = 0x400 | 0x100;

/// `struct ifaddrmsg`
const HEADER: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_BROADCAST: u16 = 4;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;
const FOREVER: u32 = u32::MAX;

fn subject(link: &LinkRef, address: &Address) -> Option<Subject> {
    Some(Subject::Thing(format!("{} on {link}", address.address)))
}

fn named(index: u32, spec: &Address) -> AddressMessage {
    let own = spec.address.address();
    let mut message = AddressMessage::default();
    message.header.family = family(own);
    message.header.prefix_len = spec.address.prefix();
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(own));
    // Without a peer the two are one; the prefix is counted from this.
    message.attributes.push(AddressAttribute::Address(spec.peer.unwrap_or(own)));
    message
}

/// `ip address add`, or `replace`
pub(crate) fn new(link: &LinkRef, index: u32, spec: &Address, flags: u16) -> Request {
    let mut message = named(index, spec);
    message.header.scope = AddressScope::from(spec.scope.number());
    let attributes = &mut message.attributes;
    attributes.extend(spec.broadcast.map(AddressAttribute::Broadcast));
    attributes.extend(spec.label.clone().map(AddressAttribute::Label));
    attributes.extend(spec.metric.map(AddressAttribute::RoutePriority));
    let wished = spec.wishes().bits();
    if wished != 0 {
        attributes.push(AddressAttribute::Flags(WireFlags::from_bits_retain(wished)));
    }
    if spec.valid != Lifetime::Forever || spec.preferred != Lifetime::Forever {
        let mut times = CacheInfo::default();
        times.ifa_valid = seconds(spec.valid);
        times.ifa_preferred = seconds(spec.preferred.min(spec.valid));
        attributes.push(AddressAttribute::CacheInfo(times));
    }
    let body = bytes(&message);
    Request { operation: "RTM_NEWADDR", subject: subject(link, spec), kind: RTM_NEWADDR, flags, body }
}

/// `ip address delete`
pub(crate) fn delete(link: &LinkRef, index: u32, spec: &Address) -> Request {
    let body = bytes(&named(index, spec));
    Request { operation: "RTM_DELADDR", subject: subject(link, spec), kind: RTM_DELADDR, flags: 0, body }
}

/// `ip address show`, of one interface or of all
pub(super) fn list(link: Option<(&LinkRef, u32)>) -> Request {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Unspec;
    message.header.index = link.map_or(0, |(_, index)| index);
    let subject = link.map(|(link, _)| link.subject());
    Request { operation: "RTM_GETADDR", subject, kind: RTM_GETADDR, flags: 0, body: bytes(&message) }
}

/// A whole second more for a part of one: what was asked for is not cut short.
fn seconds(time: Lifetime) -> u32 {
    match time {
        Lifetime::Forever => FOREVER,
        Lifetime::For(time) => {
            let whole = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
            u32::try_from(whole).unwrap_or(FOREVER).min(FOREVER - 1)
        }
    }
}

fn lifetime(seconds: u32) -> Lifetime {
    if seconds == FOREVER { Lifetime::Forever } else { Lifetime::For(Duration::from_secs(seconds.into())) }
}

/// The address of one answer, if it is of IPv4 or IPv6.
pub(crate) fn parse(body: &[u8]) -> Result<Option<Address>> {
    let (header, rest) = split("RTM_GETADDR", body, HEADER)?;
    let prefix = byte(header, 1).unwrap_or(0);
    let mut flags = byte(header, 2).map_or(0, u32::from);
    let (mut local, mut remote): (Option<IpAddr>, Option<IpAddr>) = (None, None);
    let (mut broadcast, mut label, mut metric) = (None, None, None);
    let (mut valid, mut preferred) = (Lifetime::Forever, Lifetime::Forever);
    for (kind, value) in attributes(rest) {
        match kind {
            IFA_LOCAL => local = address(value),
            IFA_ADDRESS => remote = address(value),
            IFA_LABEL => label = Some(as_text(value)),
            IFA_BROADCAST => {
                broadcast = address(value).and_then(|address| match address {
                    IpAddr::V4(address) => Some(address),
                    IpAddr::V6(_) => None,
                });
            }
            IFA_CACHEINFO => {
                preferred = number32(value, 0).map_or(preferred, lifetime);
                valid = number32(value, 4).map_or(valid, lifetime);
            }
            IFA_FLAGS => flags = number32(value, 0).unwrap_or(flags),
            IFA_RT_PRIORITY => metric = number32(value, 0).filter(|metric| *metric != 0),
            _ => {}
        }
    }
    // IPv6 says IFA_LOCAL only where there is a peer.
    let Some(own) = local.or(remote) else { return Ok(None) };
    if !matches!((byte(header, 0), own), (Some(INET), IpAddr::V4(_)) | (Some(INET6), IpAddr::V6(_))) {
        return Ok(None);
    }
    Ok(Some(Address {
        address: IpNet::as_read(own, prefix),
        peer: remote.filter(|remote| local.is_some() && *remote != own),
        broadcast,
        scope: Scope::of_number(byte(header, 3).unwrap_or(0)),
        label,
        metric,
        valid,
        preferred,
        flags: AddressFlags::of_bits(flags),
        index: number32(header, 4),
    }))
}

#[cfg(test)]
mod tests;
