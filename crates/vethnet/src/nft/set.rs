//! The sets and maps of the tables, and how their keys are put together.
//!
//! A key of several parts (a concatenation) is held in registers of four bytes, so each part takes a multiple of four.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use crate::mac::MacAddr;
use crate::name::IfName;
use crate::subnet::Subnet;

/// The kernel keeps the types for nft(8), by its numbers; a concatenation has six bits a part.
const IPV4: u32 = 7;
const IPV6: u32 = 8;
const ETHER: u32 = 9;
const PROTO: u32 = 12;
const PORT: u32 = 13;
pub(super) const IFNAME: u32 = 41;

const fn concat(mut parts: &[u32]) -> u32 {
    let mut all = 0;
    while let [first, rest @ ..] = parts {
        all = all << 6 | *first;
        parts = rest;
    }
    all
}

/// A set, or a map when it has data.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) name: &'static str,
    /// Which it is among those of one transaction.
    pub(super) id: u32,
    pub(super) key: u32,
    pub(super) key_bytes: u32,
    /// Type and length of what the keys lead to.
    pub(super) data: Option<(u32, u32)>,
    /// Whether the elements are ranges.
    pub(super) ranges: bool,
}

const fn set(id: u32, name: &'static str, key: u32, key_bytes: u32) -> Set {
    Set { name, id, key, key_bytes, data: None, ranges: false }
}

const fn ranges(id: u32, name: &'static str, key: u32, key_bytes: u32) -> Set {
    Set { name, id, key, key_bytes, data: None, ranges: true }
}

const fn map(id: u32, name: &'static str, key: u32, key_bytes: u32, data: u32, data_bytes: u32) -> Set {
    Set { name, id, key, key_bytes, data: Some((data, data_bytes)), ranges: false }
}

pub(super) static LINKS: Set = set(1, "links", IFNAME, 16);
pub(super) static SUBNETS_4: Set = ranges(2, "subnets4", IPV4, 4);
pub(super) static SUBNETS_6: Set = ranges(3, "subnets6", IPV6, 16);
pub(super) static MASQUERADE_4: Set = ranges(4, "masquerade4", IPV4, 4);
pub(super) static MASQUERADE_6: Set = ranges(5, "masquerade6", IPV6, 16);
pub(super) static PUBLISHED_4: Set = map(6, "published4", concat(&[PROTO, PORT]), 8, concat(&[IPV4, PORT]), 8);
pub(super) static PUBLISHED_4_AT: Set =
    map(7, "published4_at", concat(&[IPV4, PROTO, PORT]), 12, concat(&[IPV4, PORT]), 8);
pub(super) static PUBLISHED_6: Set = map(8, "published6", concat(&[PROTO, PORT]), 8, concat(&[IPV6, PORT]), 20);
pub(super) static PUBLISHED_6_AT: Set =
    map(9, "published6_at", concat(&[IPV6, PROTO, PORT]), 24, concat(&[IPV6, PORT]), 20);

/// All of the table `inet`, in the order they are made in.
pub(super) static INET: [&Set; 9] = [
    &LINKS,
    &SUBNETS_4,
    &SUBNETS_6,
    &MASQUERADE_4,
    &MASQUERADE_6,
    &PUBLISHED_4,
    &PUBLISHED_4_AT,
    &PUBLISHED_6,
    &PUBLISHED_6_AT,
];

pub(super) static PORTS: Set = set(1, "ports", IFNAME, 16);
pub(super) static SENDERS_4: Set = set(2, "senders4", concat(&[IFNAME, ETHER, IPV4]), 28);
pub(super) static SENDERS_6: Set = set(3, "senders6", concat(&[IFNAME, ETHER, IPV6]), 40);

/// All of the table `bridge`.
pub(super) static BRIDGE: [&Set; 3] = [&PORTS, &SENDERS_4, &SENDERS_6];

/// One element, or one end of a range.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) key: Vec<u8>,
    /// Empty in a set.
    pub(super) data: Vec<u8>,
    /// The first key behind a range.
    pub(super) range_end: bool,
}

impl Element {
    pub(super) fn new(key: Key) -> Self {
        Self { key: key.0, data: Vec::new(), range_end: false }
    }

    pub(super) fn leading_to(mut self, data: Key) -> Self {
        self.data = data.0;
        self
    }

    /// The two ends of a range of addresses. The last range of all has no end.
    pub(super) fn subnet(subnet: Subnet) -> Vec<Self> {
        let mut ends = vec![Self::new(Key::new().address(subnet.address()))];
        let behind = match subnet.last() {
            IpAddr::V4(last) => last.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
            IpAddr::V6(last) => last.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
        };
        ends.extend(behind.map(|address| Self { range_end: true, ..Self::new(Key::new().address(address)) }));
        ends
    }
}

/// A key under construction.
#[derive(Debug)]
pub(super) struct Key(Vec<u8>);

impl Key {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(40))
    }

    fn part(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.part(&address.octets()),
            IpAddr::V6(address) => self.part(&address.octets()),
        }
    }

    pub(super) fn protocol(self, number: u8) -> Self {
        self.part(&[number])
    }

    pub(super) fn port(self, port: u16) -> Self {
        self.part(&port.to_be_bytes())
    }

    pub(super) fn mac(self, mac: MacAddr) -> Self {
        self.part(&mac.bytes())
    }

    pub(super) fn link(self, name: &IfName) -> Self {
        // The kernel compares the whole field, zeros included: a longer name with this beginning is another one.
        let mut field = [0; libc::IFNAMSIZ];
        field.iter_mut().zip(name.as_str().bytes()).for_each(|(place, byte)| *place = byte);
        self.part(&field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_ends_of_a_range() {
        let ends = |text: &str| {
            let ends = Element::subnet(text.parse().unwrap());
            ends.into_iter().map(|end| (end.key, end.range_end)).collect::<Vec<_>>()
        };
        assert_eq!(ends("10.209.0.0/22"), [(vec![10, 209, 0, 0], false), (vec![10, 209, 4, 0], true)]);
        assert_eq!(ends("255.255.255.0/24"), [(vec![255, 255, 255, 0], false)], "nothing is behind it");
        let [first, behind] = ends("fd00:1::/64").try_into().unwrap();
        assert_eq!(
            (&first.0[..8], &behind.0[..8]),
            (&[0xfd, 0, 0, 1, 0, 0, 0, 0][..], &[0xfd, 0, 0, 1, 0, 0, 0, 1][..])
        );
    }

    #[test]
    fn keys_have_the_length_that_the_sets_say() {
        let (four, six) = ("1.2.3.4".parse().unwrap(), "fd00::1".parse().unwrap());
        let eth0 = IfName::new("eth0").unwrap();
        let mac = MacAddr::of_bridge(&eth0);
        for (set, key) in [
            (&LINKS, Key::new().link(&eth0)),
            (&SUBNETS_4, Key::new().address(four)),
            (&MASQUERADE_6, Key::new().address(six)),
            (&PUBLISHED_4, Key::new().protocol(6).port(80)),
            (&PUBLISHED_4_AT, Key::new().address(four).protocol(6).port(80)),
            (&PUBLISHED_6_AT, Key::new().address(six).protocol(6).port(80)),
            (&SENDERS_4, Key::new().link(&eth0).mac(mac).address(four)),
            (&SENDERS_6, Key::new().link(&eth0).mac(mac).address(six)),
        ] {
            assert_eq!(key.0.len(), set.key_bytes as usize, "{}", set.name);
        }
        let key = Key::new().address(four).protocol(17).port(53);
        assert_eq!(key.0, [1, 2, 3, 4, 17, 0, 0, 0, 0, 53, 0, 0]);
    }

    #[test]
    fn no_two_sets_of_a_table_share_a_number() {
        for table in [&INET[..], &BRIDGE] {
            for (index, set) in table.iter().enumerate() {
                assert_eq!(set.id as usize, index + 1, "{}", set.name);
            }
        }
    }
}
