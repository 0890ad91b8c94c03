//! Messages about rules: what is asked, and what the answers say.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::ops::RangeInclusive;

use cellkit_core::{Result, Subject};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::rule::{RuleAttribute, RuleFlags, RuleMessage, RulePortRange, RuleUidRange};

use super::{Rule, RuleAction};
use crate::attr::{as_text, attributes};
use crate::exchange::Request;
use crate::fields::{INET, INET6, address, bits, byte, family, number16, number32, split};
use crate::link::bytes;
use crate::route::{RouteProtocol, RouteTable};
use crate::subnet::Subnet;

const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;
pub(super) const CREATE: u16 = 0x400 | 0x200;
/// NLM_F_CREATE alone: also beside one that is like it.
pub(super) const CREATE_BESIDE: u16 = 0x400;

/// `struct fib_rule_hdr`
const HEADER: usize = 12;
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_GOTO: u16 = 4;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_OIFNAME: u16 = 17;
const FRA_L3MDEV: u16 = 19;
const FRA_UID_RANGE: u16 = 20;
const FRA_PROTOCOL: u16 = 21;
const FRA_IP_PROTO: u16 = 22;
const FRA_SPORT_RANGE: u16 = 23;
const FRA_DPORT_RANGE: u16 = 24;
const FR_ACT_TO_TBL: u8 = 1;
const FR_ACT_GOTO: u8 = 2;
const FR_ACT_NOP: u8 = 3;
const FR_ACT_BLACKHOLE: u8 = 6;
const FR_ACT_UNREACHABLE: u8 = 7;
const FR_ACT_PROHIBIT: u8 = 8;
const FIB_RULE_INVERT: u32 = 2;

fn message(rule: &Rule, protocol: Option<RouteProtocol>) -> RuleMessage {
    let mut message = RuleMessage::default();
    let header = &mut message.header;
    header.family = family(rule.unspecified());
    header.dst_len = rule.to.map_or(0, |subnet| subnet.prefix());
    header.src_len = rule.from.map_or(0, |subnet| subnet.prefix());
    header.tos = rule.tos;
    header.flags = RuleFlags::from_bits_retain(if rule.is_inverted { FIB_RULE_INVERT } else { 0 });
    let attributes = &mut message.attributes;
    let prefix = |subnet: &Subnet| subnet.prefix() > 0;
    attributes.extend(rule.to.filter(prefix).map(|subnet| RuleAttribute::Destination(subnet.address())));
    attributes.extend(rule.from.filter(prefix).map(|subnet| RuleAttribute::Source(subnet.address())));
    attributes.extend(rule.priority.map(RuleAttribute::Priority));
    attributes.extend(rule.iif.clone().map(RuleAttribute::Iifname));
    attributes.extend(rule.oif.clone().map(RuleAttribute::Oifname));
    attributes.extend(rule.mark.map(RuleAttribute::FwMark));
    attributes.extend(rule.mask.map(RuleAttribute::FwMask));
    let users = rule.uids.as_ref();
    attributes
        .extend(users.map(|uids| RuleAttribute::UidRange(RuleUidRange { start: *uids.start(), end: *uids.end() })));
    attributes.extend(rule.ip_protocol.map(|number| RuleAttribute::IpProtocol(number.into())));
    let ports = |ports: &RangeInclusive<u16>| RulePortRange { start: *ports.start(), end: *ports.end() };
    attributes.extend(rule.source_ports.as_ref().map(ports).map(RuleAttribute::SourcePortRange));
    attributes.extend(rule.destination_ports.as_ref().map(ports).map(RuleAttribute::DestinationPortRange));
    let suppressed = rule.suppress_prefix_length;
    attributes.extend(suppressed.map(|length| RuleAttribute::SuppressPrefixLen(length.into())));
    attributes.extend(protocol.map(|protocol| RuleAttribute::Protocol(protocol.number().into())));
    header.action = match rule.action {
        RuleAction::Lookup(table) => {
            // Tables over 255 have room in the attribute only.
            header.table = u8::try_from(table.number()).unwrap_or(0);
            attributes.push(RuleAttribute::Table(table.number()));
            FR_ACT_TO_TBL
        }
        RuleAction::LookupL3mdev => {
            attributes.push(RuleAttribute::L3MDev(true));
            FR_ACT_TO_TBL
        }
        RuleAction::Goto(priority) => {
            attributes.push(RuleAttribute::Goto(priority));
            FR_ACT_GOTO
        }
        RuleAction::Nop => FR_ACT_NOP,
        RuleAction::Blackhole => FR_ACT_BLACKHOLE,
        RuleAction::Unreachable => FR_ACT_UNREACHABLE,
        RuleAction::Prohibit => FR_ACT_PROHIBIT,
        RuleAction::Other(number) => number,
    }
    .into();
    message
}

/// `ip rule add`
pub(super) fn new(rule: &Rule, flags: u16) -> Request {
    let body = bytes(&message(rule, Some(rule.protocol.unwrap_or(RouteProtocol::VETHNET))));
    Request { operation: "RTM_NEWRULE", subject: Some(rule.subject()), kind: RTM_NEWRULE, flags, body }
}

/// `ip rule delete`
pub(super) fn delete(rule: &Rule) -> Request {
    let body = bytes(&message(rule, rule.protocol));
    Request { operation: "RTM_DELRULE", subject: Some(rule.subject()), kind: RTM_DELRULE, flags: 0, body }
}

/// `ip rule show`, of one family
pub(super) fn list(family: AddressFamily) -> Request {
    let mut message = RuleMessage::default();
    message.header.family = family;
    let subject: Option<Subject> = None;
    Request { operation: "RTM_GETRULE", subject, kind: RTM_GETRULE, flags: 0, body: bytes(&message) }
}

/// The rule of one answer, if it is of IPv4 or IPv6.
pub(crate) fn parse(body: &[u8]) -> Result<Option<Rule>> {
    let (header, rest) = split("RTM_GETRULE", body, HEADER)?;
    let field = |place| byte(header, place).unwrap_or(0);
    let mut rule = match field(0) {
        INET => Rule::ipv4(),
        INET6 => Rule::ipv6(),
        _ => return Ok(None),
    };
    let is_ipv4 = rule.is_ipv4;
    let subnet = |value: &[u8], prefix: u8| {
        let address = address(value).filter(|address: &IpAddr| address.is_ipv4() == is_ipv4)?;
        Some(Subnet::around(address, prefix.min(bits(address)))).filter(|subnet| subnet.prefix() > 0)
    };
    rule.tos = field(3);
    rule.is_inverted = number32(header, 8).unwrap_or(0) & FIB_RULE_INVERT != 0;
    // The kernel does not say the priority 0 of its first rule.
    rule.priority = Some(0);
    let mut table = u32::from(field(4));
    let (mut goto, mut l3mdev) = (None, false);
    for (kind, value) in attributes(rest) {
        match kind {
            FRA_DST => rule.to = subnet(value, field(1)),
            FRA_SRC => rule.from = subnet(value, field(2)),
            FRA_IIFNAME => rule.iif = Some(as_text(value)),
            FRA_OIFNAME => rule.oif = Some(as_text(value)),
            FRA_GOTO => goto = number32(value, 0),
            FRA_PRIORITY => rule.priority = number32(value, 0),
            FRA_FWMARK => rule.mark = number32(value, 0),
            FRA_FWMASK => rule.mask = number32(value, 0),
            // All ones: nothing is passed over.
            FRA_SUPPRESS_PREFIXLEN => {
                rule.suppress_prefix_length = number32(value, 0).and_then(|length| u8::try_from(length).ok());
            }
            FRA_TABLE => table = number32(value, 0).unwrap_or(table),
            FRA_L3MDEV => l3mdev = byte(value, 0) == Some(1),
            FRA_UID_RANGE => rule.uids = number32(value, 0).zip(number32(value, 4)).map(|(from, to)| from..=to),
            FRA_PROTOCOL => rule.protocol = byte(value, 0).map(RouteProtocol::of_number),
            FRA_IP_PROTO => rule.ip_protocol = byte(value, 0).filter(|number| *number != 0),
            FRA_SPORT_RANGE => rule.source_ports = ports(value),
            FRA_DPORT_RANGE => rule.destination_ports = ports(value),
            _ => {}
        }
    }
    // A mark of 0 under a mask is one that is looked for; without one it is none.
    if rule.mask.is_none_or(|mask| mask == 0) {
        rule.mask = rule.mark.map(|_| u32::MAX);
    } else {
        rule.mark = Some(rule.mark.unwrap_or(0));
    }
    rule.action = match (field(7), goto, RouteTable::of_number(table)) {
        (FR_ACT_TO_TBL, _, _) if l3mdev => RuleAction::LookupL3mdev,
        (FR_ACT_TO_TBL, _, Some(table)) => RuleAction::Lookup(table),
        (FR_ACT_GOTO, Some(priority), _) => RuleAction::Goto(priority),
        (FR_ACT_NOP, ..) => RuleAction::Nop,
        (FR_ACT_BLACKHOLE, ..) => RuleAction::Blackhole,
        (FR_ACT_UNREACHABLE, ..) => RuleAction::Unreachable,
        (FR_ACT_PROHIBIT, ..) => RuleAction::Prohibit,
        (other, ..) => RuleAction::Other(other),
    };
    Ok(Some(rule))
}

fn ports(value: &[u8]) -> Option<RangeInclusive<u16>> {
    let (from, to) = number16(value, 0).zip(number16(value, 2))?;
    (to != 0).then_some(from..=to)
}
