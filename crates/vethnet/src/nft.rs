//! The network's nf_tables table: what is in it, and the transactions that make, fill and remove it.
//!
//! Theory of operation. One table of family `ip`, named after the bridge, holds all that concerns the network, and
//! nothing of anybody else's is touched; `nft list table ip cellkit0` shows it. Its comment says who made it: a table of
//! the same name without that comment is somebody else's, and an error.
//!
//! ```text
//! map published    { type inet_proto . inet_service : ipv4_addr . inet_service }
//! map published_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service }
//! chain prerouting { type nat hook prerouting priority dstnat
//!     fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @published_at
//!     fib daddr type local dnat ip to meta l4proto . th dport map @published }
//! chain output { type nat hook output priority -100
//!     the same two, each with: ip daddr & 255.0.0.0 != 127.0.0.0 }
//! chain postrouting { type nat hook postrouting priority srcnat
//!     ip saddr SUBNET oifname != BRIDGE masquerade
//!     ip saddr SUBNET oifname BRIDGE ct status dnat masquerade }
//! chain forward { type filter hook forward priority filter
//!     oifname BRIDGE ct state established,related accept
//!     oifname BRIDGE ct status dnat accept
//!     oifname BRIDGE iifname != BRIDGE drop
//!     ip daddr SUBNET oifname != BRIDGE drop }
//! ```
//!
//! * The rules never change. A container is an element of a map, so that no rule can stand before another's.
//! * `fib daddr type local` takes only traffic to the machine itself: a published port 53 does not capture what the
//!   containers ask a name server elsewhere. 127.0.0.0/8 is left alone: its packets cannot leave by a bridge unless
//!   `route_localnet` is on, which would show the machine's own local services to its neighbours.
//! * A container that reaches another (or itself) through a published port is masqueraded as well, or the answer would
//!   go straight to it and be foreign.
//! * Into the network come answers, published ports, and nothing else; packets for a container leave by the bridge or
//!   not at all.
#![forbid(unsafe_code)]

mod expr;
mod message;

use std::net::Ipv4Addr;

use cellkit_core::Result;

use crate::attr::as_text;
use crate::exchange::Request;
use crate::name::{IfName, Owner};
use crate::port::PublishedPort;
use crate::subnet::Subnet;
use expr::{Rule, Test};
use message::{Chain, Map, Message};

const COMMENT: &str = "made by vethnet";
const NF_INET_PRE_ROUTING: u32 = 0;
const NF_INET_FORWARD: u32 = 2;
const NF_INET_LOCAL_OUT: u32 = 3;
const NF_INET_POST_ROUTING: u32 = 4;
const DSTNAT: i32 = -100;
const SRCNAT: i32 = 100;
const FILTER: i32 = 0;

/// `inet_proto . inet_service`: the kernel keeps the numbers for nft(8), which keeps six bits a part.
const PROTO_PORT: u32 = (12 << 6) | 13;
const ADDRESS_PORT: u32 = (7 << 6) | 13;
const ADDRESS_PROTO_PORT: u32 = (7 << 12) | PROTO_PORT;

static PUBLISHED: Map = Map { name: "published", id: 1, key: PROTO_PORT, key_bytes: 8, data: ADDRESS_PORT };
static PUBLISHED_AT: Map =
    Map { name: "published_at", id: 2, key: ADDRESS_PROTO_PORT, key_bytes: 12, data: ADDRESS_PORT };

/// Asks whether the table is there; the answer is judged by [`is_ours`].
pub(crate) fn get_table(bridge: &IfName) -> Result<Request> {
    Message::get_table(bridge.as_str())
}

/// Whether the table that the kernel told of was made by this crate.
pub(crate) fn is_ours(answer: &[u8]) -> bool {
    message::table_comment(answer).as_deref() == Some(COMMENT)
}

/// One transaction that makes the whole table.
pub(crate) fn new_table(bridge: &IfName, subnet: Subnet) -> Result<Vec<Request>> {
    let table = bridge.as_str();
    let nat = |name, hook, priority| Chain { name, kind: "nat", hook, priority };
    let prerouting = nat("prerouting", NF_INET_PRE_ROUTING, DSTNAT);
    let output = nat("output", NF_INET_LOCAL_OUT, DSTNAT);
    let postrouting = nat("postrouting", NF_INET_POST_ROUTING, SRCNAT);
    let forward = Chain { name: "forward", kind: "filter", hook: NF_INET_FORWARD, priority: FILTER };

    let to_bridge = || Rule::new().output_link(Test::Is, bridge);
    let mut requests = vec![
        Message::new_table(table, COMMENT)?,
        Message::new_map(table, &PUBLISHED)?,
        Message::new_map(table, &PUBLISHED_AT)?,
    ];
    for (chain, rules) in [
        (
            prerouting,
            vec![
                Rule::new().for_this_machine().redirect_by_address_and_port(PUBLISHED_AT.name),
                Rule::new().for_this_machine().redirect_by_port(PUBLISHED.name),
            ],
        ),
        (
            output,
            vec![
                Rule::new().not_to_loopback().for_this_machine().redirect_by_address_and_port(PUBLISHED_AT.name),
                Rule::new().not_to_loopback().for_this_machine().redirect_by_port(PUBLISHED.name),
            ],
        ),
        (
            postrouting,
            vec![
                Rule::new().from(subnet).output_link(Test::IsNot, bridge).masquerade(),
                Rule::new().from(subnet).output_link(Test::Is, bridge).redirected().masquerade(),
            ],
        ),
        (
            forward,
            vec![
                to_bridge().established().accept(),
                to_bridge().redirected().accept(),
                to_bridge().input_link(Test::IsNot, bridge).drop(),
                Rule::new().to(subnet).output_link(Test::IsNot, bridge).drop(),
            ],
        ),
    ] {
        requests.push(Message::new_chain(table, &chain)?);
        for rule in rules {
            requests.push(Message::new_rule(table, chain.name, rule)?);
        }
    }
    Ok(requests)
}

/// One transaction that removes the table and all in it.
pub(crate) fn delete_table(bridge: &IfName) -> Result<Vec<Request>> {
    Ok(vec![Message::delete_table(bridge.as_str())?])
}

/// The elements that lead `ports` to `address`. A port that is taken is EEXIST.
pub(crate) fn new_elements(
    bridge: &IfName,
    owner: &Owner,
    address: Ipv4Addr,
    ports: &[PublishedPort],
) -> Result<Vec<Request>> {
    ports
        .iter()
        .map(|port| {
            let mut target = address.octets().to_vec();
            target.extend_from_slice(&padded(port.container_port()));
            let (map, key) = key(port);
            Message::new_element(bridge.as_str(), map, &key, &target, owner.as_str(), port)
        })
        .collect()
}

/// Removes what [`new_elements`] made. One that is not there is ENOENT, and nothing is done.
pub(crate) fn delete_elements(bridge: &IfName, ports: &[PublishedPort]) -> Result<Vec<Request>> {
    ports
        .iter()
        .map(|port| {
            let (map, key) = key(port);
            Message::delete_element(bridge.as_str(), map, &key, &port.to_string())
        })
        .collect()
}

/// A question for all elements of one map.
#[derive(Debug)]
pub(crate) struct ElementList {
    pub(crate) request: Request,
    map: &'static Map,
}

/// Asks for the elements of each map; the answers are judged by [`delete_elements_of`].
pub(crate) fn list_elements(bridge: &IfName) -> Result<Vec<ElementList>> {
    let list = |map| Ok(ElementList { request: Message::list_elements(bridge.as_str(), map)?, map });
    [&PUBLISHED, &PUBLISHED_AT].into_iter().map(list).collect()
}

/// Removes those elements among the answers that say they are of `owner`.
pub(crate) fn delete_elements_of(
    list: &ElementList,
    bridge: &IfName,
    owner: &Owner,
    answers: &[Vec<u8>],
) -> Result<Vec<Request>> {
    answers
        .iter()
        .flat_map(|answer| message::elements(answer))
        .filter(|(_, comment)| comment.as_deref() == Some(owner.as_str()))
        .map(|(key, _)| Message::delete_element(bridge.as_str(), list.map, &key, owner.as_str()))
        .collect()
}

/// Each part of a concatenation takes a multiple of four bytes.
fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

fn key(port: &PublishedPort) -> (&'static Map, Vec<u8>) {
    let mut key = Vec::with_capacity(12);
    let map = match port.host_address() {
        Some(address) => {
            key.extend_from_slice(&address.octets());
            &PUBLISHED_AT
        }
        None => &PUBLISHED,
    };
    key.extend_from_slice(&[port.protocol().number(), 0, 0, 0]);
    key.extend_from_slice(&padded(port.host_port()));
    (map, key)
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
    use proptest::prelude::*;

    fn bridge() -> IfName {
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
    fn keys() {
        let (map, key) = key(&"8080:80".parse().unwrap());
        assert_eq!((map.name, key.as_slice()), ("published", &[6, 0, 0, 0, 0x1f, 0x90, 0, 0][..]));
        let (map, key) = super::key(&"1.2.3.4:53:53/udp".parse().unwrap());
        assert_eq!((map.name, key.len()), ("published_at", map.key_bytes as usize));
        assert_eq!(key, [1, 2, 3, 4, 17, 0, 0, 0, 0, 53, 0, 0]);
    }

    #[test]
    fn the_longest_owner_fits_a_comment() {
        let owner = Owner::new(&"x".repeat(128)).unwrap();
        assert_eq!(comment_of(&comment(owner.as_str())).as_deref(), Some(owner.as_str()));
    }

    proptest! {
        #[test]
        fn batches_are_whole_messages_of_the_length_they_say(ports in prop::collection::vec((1u16.., 1u16.., any::<u32>()), 0..40)) {
            let ports: Vec<_> = ports
                .iter()
                .map(|&(host, container, bits)| {
                    PublishedPort::new(host, container, crate::Protocol::Udp).unwrap().at(Ipv4Addr::from_bits(bits))
                })
                .collect();
            let mut requests = new_table(&bridge(), Subnet::default()).unwrap();
            let owner = Owner::new("web").unwrap();
            requests.extend(new_elements(&bridge(), &owner, Ipv4Addr::LOCALHOST, &ports).unwrap());
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
