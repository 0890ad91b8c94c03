#![forbid(unsafe_code)]

use super::*;
use crate::neighbour::message::HEADER;
use proptest::prelude::*;

fn entry() -> impl Strategy<Value = FdbEntry> {
    let host = prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::from(std::net::Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::from(std::net::Ipv6Addr::from_bits(bits))),
    ];
    let some = (proptest::option::of(1u16..4095), proptest::option::of(host), proptest::option::of(1u16..));
    let vni = proptest::option::of(0u32..1 << 24);
    (any::<[u8; 6]>(), any::<u16>(), any::<[bool; 3]>(), some, vni, 1u32..).prop_map(
        |(mac, state, [in_bridge, is_sticky, is_externally_learned], (vlan, destination, port), vni, index)| FdbEntry {
            vlan,
            is_sticky,
            is_externally_learned,
            destination,
            port,
            vni,
            index: Some(index),
            ..FdbEntry::new(mac, FdbState::of_number(state), if in_bridge { FdbList::Bridge } else { FdbList::Device })
        },
    )
}

proptest! {
    /// Written by netlink-packet-route, read by our own reader.
    #[test]
    fn what_is_sent_is_what_is_read(entry in entry()) {
        let index = entry.index.unwrap();
        let body = message::new(&LinkRef::Index(index), index, &entry, message::CREATE).body;
        let found = message::parse(&body).unwrap().unwrap();
        prop_assert_eq!(&found, &entry);
        prop_assert!(entry.is_met_by(&found));
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut body = vec![libc::AF_BRIDGE as u8];
        body.extend(bytes);
        let _ = message::parse(&body);
    }

    #[test]
    fn any_attributes_are_read_without_panic(
        header in any::<[u8; HEADER - 1]>(),
        list in prop::collection::vec((0u16..60, prop::collection::vec(any::<u8>(), 0..20)), 0..12),
    ) {
        let mut start = vec![libc::AF_BRIDGE as u8];
        start.extend(header);
        let mut writer = crate::attr::Writer::new(&start);
        for (kind, value) in &list {
            writer.put(*kind, value);
        }
        prop_assert!(message::parse(&writer.finish().unwrap()).is_ok());
    }
}

#[test]
fn what_a_vxlan_is_made_with_is_permanent() {
    assert_eq!(FdbState::of_number(0x82), FdbState::Permanent);
    assert_eq!(FdbState::of_number(0x80), FdbState::Permanent);
    assert_eq!(FdbState::of_number(0x02), FdbState::Dynamic);
}
