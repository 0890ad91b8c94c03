//! The nf_tables tables of a network: what is in them, and the transactions that make, fill and empty them.
//!
//! Theory of operation. One table of family `inet`, named after the network, holds all that concerns it, for IPv4 and
//! IPv6; `nft list table inet cellkit0` shows it. Its comment says who made it, and with which settings: a table of the
//! same name without that comment is somebody else's, and an error. Nothing of ours is in tables of others, and nothing
//! of others is ever touched.
//!
//! ```text
//! set links         { type ifname }                       # the bridge, or without one each container's link
//! set subnets4      { type ipv4_addr; flags interval }    # the network's addresses
//! set masquerade4   { type ipv4_addr; flags interval }    # those of them that leave as the host's
//! map published4    { type inet_proto . inet_service : ipv4_addr . inet_service }
//! map published4_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service }
//! chain guard { type filter hook prerouting priority raw
//!     iifname != @links accept
//!     ip saddr 127.0.0.0/8 drop
//!     ip daddr 127.0.0.0/8 drop
//!     ip6 saddr :: accept
//!     fib saddr . iif oif missing drop }
//! chain prerouting { type nat hook prerouting priority dstnat
//!     meta nfproto ipv4 fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @published4_at
//!     meta nfproto ipv4 fib daddr type local dnat ip to meta l4proto . th dport map @published4 }
//! chain output { type nat hook output priority -100
//!     the same, each with: ip daddr != 127.0.0.0/8 }
//! chain postrouting { type nat hook postrouting priority srcnat
//!     ip saddr @masquerade4 oifname != @links masquerade
//!     ip saddr @subnets4 oifname @links ct status dnat masquerade }
//! chain forward { type filter hook forward priority filter
//!     ct state established,related accept
//!     iifname @links oifname != @links ct status dnat drop
//!     oifname != @links accept
//!     ct status dnat accept
//!     iifname != @links drop }
//! chain leave { type filter hook postrouting priority filter
//!     oifname @links accept
//!     oifname "lo" accept
//!     ip daddr @subnets4 drop }
//! ```
//!
//! and the same for IPv6 wherever an address is looked at.
//!
//! * The rules never change. A container is elements of maps, so that no rule can stand before another's, its cost does
//!   not grow with the number of the others, and the kernel's EEXIST is the check that a port is free. A range of ports is
//!   as many elements: so what overlaps a range is refused as well, and the container's ports may be others than the
//!   host's, which nf_tables has no other way to say (it has no NF_NAT_RANGE_PROTO_OFFSET).
//! * `fib daddr type local` takes only traffic to the machine itself: a published port 53 does not capture what the
//!   containers ask a name server elsewhere.
//! * A container that reaches another (or itself) through a published port is masqueraded as well, or the answer would
//!   go straight to it and be foreign.
//! * Into the network come answers, published ports, and nothing else ([`forward`](chains)); not from containers of
//!   other networks, by their published ports as little as by their addresses, unless that is wanted: it is the network they
//!   come from whose table keeps them, for only it knows them. Packets for a container leave by the network's links or not at
//!   all, also when the container has gone ([`leave`](chains)).
//! * 127.0.0.1: what a program of the host sends to itself can only leave by a link whose `route_localnet` is on, and then
//!   the link's neighbours could reach what the host serves to itself alone (CVE-2020-8558). So published ports are
//!   reached on 127.0.0.1 only where that was asked for, and `guard` drops what containers send to 127.0.0.0/8 or from it:
//!   before the kernel turns the addresses of answers back, so that these pass. There is nothing like it for ::1.
//! * What comes from the network's links has an address to which the host's routes lead back there. It is what rp_filter
//!   says of IPv4, unless the machine's own `conf/all/rp_filter` is 2, which wins; of IPv6 there is none, and a container
//!   would send to the world as anybody, also one of a network that has no IPv6.
//! * A `guard` for the sender's addresses among neighbours: see [`guard`].
#![forbid(unsafe_code)]

mod chains;
mod expr;
mod guard;
mod message;
mod published;
mod set;

use cellkit_core::{Error, Result, Subject};

use crate::attr::as_text;
use crate::exchange::Request;
use crate::name::{IfName, Owner};
use crate::subnet::Subnet;
pub(crate) use guard::{Sender, delete_sender, new_sender};
pub(crate) use message::Pack;
use message::{Family, Table};
pub(crate) use published::{check_localhost, delete_elements, new_elements};
use set::{Element, INET, Key, LINKS, MASQUERADE_4, MASQUERADE_6, SUBNETS_4, SUBNETS_6, Set};

const COMMENT: &str = "made by vethnet";

/// Which links are the network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links<'a> {
    /// This bridge.
    Bridge(&'a IfName),
    /// Those that [`new_link`] adds.
    Added,
}

/// What a network's tables are made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableSpec<'a> {
    /// The tables' name.
    pub(crate) name: &'a IfName,
    pub(crate) links: Links<'a>,
    /// The containers' addresses. More can be added by [`new_subnet`].
    pub(crate) subnets: &'a [Subnet],
    pub(crate) settings: Settings,
}

/// How the rules are. All are fixed as long as the table is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Whether the containers' addresses are kept when they reach the world.
    pub(crate) unmasked: bool,
    /// Whether published ports are reached on 127.0.0.1. The links' `route_localnet` is to be on, after the table is there.
    pub(crate) localhost: bool,
    /// Whether containers may use ports that other networks publish.
    pub(crate) open: bool,
    /// Whether containers may not reach each other where that goes by the host: without a bridge.
    pub(crate) apart: bool,
    /// Whether containers are kept from sending as somebody else. With a bridge each needs [`new_sender`].
    pub(crate) guard: bool,
}

impl Settings {
    fn comment(self) -> String {
        let mut text = COMMENT.to_owned();
        for (on, word) in [
            (self.unmasked, "not masqueraded"),
            (self.localhost, "on localhost"),
            (self.open, "open to other networks"),
            (self.apart, "containers apart"),
            (self.guard, "guarded"),
        ] {
            if on {
                text.push_str(", ");
                text.push_str(word);
            }
        }
        text
    }
}

fn inet(name: &IfName) -> Table<'_> {
    Table { family: Family::Inet, name }
}

/// Asks whether the table is there; the answer is judged by [`is_ours`].
pub(crate) fn get_table(name: &IfName) -> Result<Request> {
    inet(name).get()
}

/// Whether the table that the kernel told of was made by this crate.
pub(crate) fn is_ours(answer: &[u8]) -> bool {
    message::table_comment(answer).is_some_and(|comment| comment.starts_with(COMMENT))
}

/// Refuses a table of ours that was made with other settings.
pub(crate) fn check_settings(answer: &[u8], name: &IfName, settings: Settings) -> Result<()> {
    match message::table_comment(answer) {
        Some(comment) if comment == settings.comment() => Ok(()),
        comment => Err(Error::invalid(
            "network",
            format!(
                "its table was made with other settings: {:?}, and not {:?}",
                comment.unwrap_or_default(),
                settings.comment()
            ),
        )
        .on(Subject::Thing(inet(name).to_string()))
        .with_hint("detach its containers first, or name another network")),
    }
}

/// One transaction that makes the tables whole.
pub(crate) fn new_table(spec: &TableSpec<'_>) -> Result<Vec<Request>> {
    let table = inet(spec.name);
    let mut requests = vec![table.create(&spec.settings.comment())?];
    for set in INET {
        requests.push(table.new_set(set)?);
    }
    for (chain, rules) in chains::all(spec) {
        requests.push(table.new_chain(&chain)?);
        for rule in rules {
            requests.push(table.new_rule(chain.name, &rule)?);
        }
    }
    if let Links::Bridge(bridge) = spec.links {
        requests.extend(link_elements(spec.name, bridge, None)?);
        if spec.settings.guard {
            requests.extend(guard::new_table(spec.name)?);
        }
    }
    for subnet in spec.subnets {
        requests.extend(new_subnet(spec.name, *subnet, spec.settings)?);
    }
    Ok(requests)
}

/// One transaction that removes those of the tables that are there, and all in them.
pub(crate) fn delete_table(name: &IfName, is_there: bool, guard_is_there: bool) -> Result<Vec<Request>> {
    let tables = [(is_there, inet(name)), (guard_is_there, guard::table(name))];
    tables.into_iter().filter(|(there, _)| *there).map(|(_, table)| table.delete()).collect()
}

/// Asks whether the table of the guard is there; the answer is judged by [`is_ours`].
pub(crate) fn get_guard(name: &IfName) -> Result<Request> {
    guard::table(name).get()
}

/// Adds a range of containers' addresses. One that is there already, also in part, is EEXIST.
pub(crate) fn new_subnet(name: &IfName, subnet: Subnet, settings: Settings) -> Result<Vec<Request>> {
    let mut requests = Vec::new();
    for set in subnet_sets(subnet, settings) {
        let subject = format!("range {subnet}");
        requests.extend(inet(name).new_elements(set, &Element::subnet(subnet), None, &subject)?);
    }
    Ok(requests)
}

/// Removes it.
pub(crate) fn delete_subnet(name: &IfName, subnet: Subnet, settings: Settings) -> Result<Vec<Request>> {
    let mut requests = Vec::new();
    for set in subnet_sets(subnet, settings) {
        let subject = format!("range {subnet}");
        requests.extend(inet(name).delete_elements(set, &Element::subnet(subnet), Pack::Together, &subject)?);
    }
    Ok(requests)
}

fn subnet_sets(subnet: Subnet, settings: Settings) -> impl Iterator<Item = &'static Set> {
    let (all, masked) = if subnet.is_ipv4() { (&SUBNETS_4, &MASQUERADE_4) } else { (&SUBNETS_6, &MASQUERADE_6) };
    std::iter::once(all).chain((!settings.unmasked).then_some(masked))
}

/// Makes a link the network's: for a container that is not on a bridge.
pub(crate) fn new_link(name: &IfName, link: &IfName, owner: &Owner) -> Result<Vec<Request>> {
    link_elements(name, link, Some(owner))
}

fn link_elements(name: &IfName, link: &IfName, owner: Option<&Owner>) -> Result<Vec<Request>> {
    inet(name).new_elements(&LINKS, &[Element::new(Key::new().link(link))], owner, &format!("link {link}"))
}

/// Undoes [`new_link`].
pub(crate) fn delete_link(name: &IfName, link: &IfName) -> Result<Vec<Request>> {
    let element = Element::new(Key::new().link(link));
    inet(name).delete_elements(&LINKS, &[element], Pack::Together, &format!("link {link}"))
}

/// A set whose elements have owners.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    family: Family,
    set: &'static Set,
}

/// Elements of one set, each with its owner.
#[derive(Debug)]
pub(crate) struct Owned {
    place: Place,
    elements: Vec<(Vec<u8>, Owner)>,
}

/// Asks for the elements of each set that has owned ones. A set that is not there is ENOENT: the guard's, where there
/// is none.
pub(crate) fn list_elements(name: &IfName) -> Result<Vec<(Request, Place)>> {
    let inet = [&LINKS].into_iter().chain(published::MAPS).map(|set| Place { family: Family::Inet, set });
    let bridge = set::BRIDGE.into_iter().map(|set| Place { family: Family::Bridge, set });
    inet.chain(bridge).map(|place| Ok((place.table(name).list_elements(place.set)?, place))).collect()
}

impl Place {
    fn table(self, name: &IfName) -> Table<'_> {
        Table { family: self.family, name }
    }

    /// The elements in the answers. What has no owner, or one that is none of ours, is left out.
    pub(crate) fn owned(self, answers: &[Vec<u8>]) -> Owned {
        let all = answers.iter().flat_map(|answer| message::elements(answer));
        let elements = all.filter_map(|(key, comment)| Some((key, Owner::new(&comment?).ok()?))).collect();
        Owned { place: self, elements }
    }
}

impl Owned {
    /// Whose they are, each as often as it has one.
    pub(crate) fn owners(&self) -> impl Iterator<Item = &Owner> {
        self.elements.iter().map(|(_, owner)| owner)
    }

    /// Removes those whose owner is `dead`.
    pub(crate) fn delete(&self, name: &IfName, dead: impl Fn(&Owner) -> bool) -> Result<Vec<Request>> {
        let element = |(key, _): &(Vec<u8>, Owner)| Element { key: key.clone(), data: Vec::new(), range_end: false };
        let elements: Vec<_> = self.elements.iter().filter(|(_, owner)| dead(owner)).map(element).collect();
        let table = self.place.table(name);
        table.delete_elements(
            self.place.set,
            &elements,
            Pack::Together,
            &format!("set {} of {table}", self.place.set.name),
        )
    }
}

/// Asks for the number of the whole ruleset, which every change of anybody's counts up: [`generation`].
pub(crate) fn get_generation() -> Result<Request> {
    message::get_generation()
}

/// The number in an answer to [`get_generation`].
pub(crate) fn generation(answers: &[Vec<u8>]) -> Option<u32> {
    answers.iter().find_map(|answer| message::generation(answer))
}

/// A comment in the form that nft(8) reads: type 0, length, text with NUL.
fn comment(text: &str) -> Vec<u8> {
    let mut bytes = vec![0, u8::try_from(text.len() + 1).unwrap_or(0)];
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}

fn comment_of(user_data: &[u8]) -> Option<String> {
    match user_data {
        [0, length, text @ ..] => text.get(..usize::from(*length)).map(as_text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr;
    use crate::exchange::{Exchange, Mode};
    use crate::port::{Protocol, PublishedPort};
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn name() -> IfName {
        IfName::new("cellkit0").unwrap()
    }

    #[test]
    fn comments() {
        assert_eq!(comment("ab"), [0, 3, b'a', b'b', 0]);
        assert_eq!(comment_of(&comment(COMMENT)).as_deref(), Some(COMMENT));
        for bytes in [&[][..], &[0], &[0, 9, b'a'], &[1, 1, 0]] {
            assert_eq!(comment_of(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn the_longest_comments_fit() {
        let owner = Owner::new(&"x".repeat(128)).unwrap();
        assert_eq!(comment_of(&comment(owner.as_str())).as_deref(), Some(owner.as_str()));
        let all = Settings { unmasked: true, localhost: true, open: true, apart: true, guard: true };
        assert!(all.comment().len() <= 128, "nft(8) reads no longer ones: {}", all.comment().len());
        assert_eq!(Settings::default().comment(), COMMENT);
    }

    fn requests(ports: &[PublishedPort], settings: Settings) -> Vec<Request> {
        let (name, owner) = (name(), Owner::new("web").unwrap());
        let subnets = ["10.209.0.0/22".parse().unwrap(), "fd00::/64".parse().unwrap()];
        let addresses: [IpAddr; 2] = ["10.209.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let spec = TableSpec { name: &name, links: Links::Bridge(&name), subnets: &subnets, settings };
        let mut requests = new_table(&spec).unwrap();
        requests.extend(new_elements(&name, &owner, &addresses, ports, settings).unwrap());
        requests.extend(delete_elements(&name, &addresses, ports, Pack::Together).unwrap());
        requests.extend(delete_table(&name, true, settings.guard).unwrap());
        requests
    }

    proptest! {
        #[test]
        fn batches_are_whole_messages_of_the_length_they_say(
            ports in prop::collection::vec((1u16.., 1u16.., 0u16..700, any::<Option<u32>>()), 0..20),
            bits in 0u8..32,
        ) {
            let ports: Vec<_> = ports
                .iter()
                .map(|&(host, container, more, address)| {
                    let more = more.min(u16::MAX - host).min(u16::MAX - container);
                    let port = PublishedPort::range(host..=host + more, container..=container + more, Protocol::Udp);
                    match address {
                        Some(bits) => port.unwrap().at(std::net::Ipv4Addr::from_bits(bits >> 2 | 0x8000_0000)),
                        None => port.unwrap(),
                    }
                })
                .collect();
            let bit = |index: u8| bits >> index & 1 == 1;
            let settings =
                Settings { unmasked: bit(0), localhost: bit(1), open: bit(2), apart: bit(3), guard: bit(4) };
            let requests = requests(&ports, settings);
            let bytes = Exchange::new(&requests, Mode::Batch, 1).datagram().unwrap();
            let mut rest = bytes.as_slice();
            let mut count = 0;
            while !rest.is_empty() {
                let length = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
                if count != 0 && count != requests.len() + 1 {
                    // After the header and the family, attributes to the last byte.
                    let body = &rest[20..length];
                    let used: usize = attr::attributes(body).map(|(_, value)| (value.len() + 4).next_multiple_of(4)).sum();
                    prop_assert_eq!(used, body.len());
                }
                rest = &rest[length..];
                count += 1;
            }
            prop_assert_eq!(count, requests.len() + 2);
        }
    }
}
