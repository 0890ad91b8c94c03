#![forbid(unsafe_code)]

use super::*;
use proptest::prelude::*;

fn neighbour() -> impl Strategy<Value = Neighbour> {
    let address = prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::from(std::net::Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::from(std::net::Ipv6Addr::from_bits(bits))),
    ];
    let mac = proptest::option::of(any::<[u8; 6]>().prop_filter_map("a group's", |bytes| MacAddr::new(bytes).ok()));
    (address, mac, any::<u16>(), any::<[bool; 3]>(), proptest::option::of(1u8..), 1u32..).prop_map(
        |(address, mac, state, [is_proxy, is_router, is_externally_learned], protocol, index)| Neighbour {
            is_proxy,
            is_router,
            is_externally_learned,
            protocol: protocol.map(RouteProtocol::of_number),
            index: Some(index),
            ..Neighbour::new(address, mac, NeighbourState::of_number(state))
        },
    )
}

proptest! {
    /// Written by netlink-packet-route, read by our own reader.
    #[test]
    fn what_is_sent_is_what_is_read(neighbour in neighbour()) {
        let index = neighbour.index.unwrap();
        let body = message::new(&LinkRef::Index(index), index, &neighbour, message::CREATE).body;
        let found = message::parse(&body).unwrap().unwrap();
        prop_assert_eq!(&found, &neighbour);
        prop_assert!(neighbour.is_met_by(&found));
    }

    #[test]
    fn unknown_attributes_are_passed_over(neighbour in neighbour(), kind in 20u16..0x3fff, value in prop::collection::vec(any::<u8>(), 0..30)) {
        let index = neighbour.index.unwrap();
        let body = message::new(&LinkRef::Index(index), index, &neighbour, message::CREATE).body;
        let mut writer = crate::attr::Writer::new(&body[..message::HEADER]);
        writer.put(kind, &value);
        let mut bytes = writer.finish().unwrap();
        bytes.extend_from_slice(&body[message::HEADER..]);
        prop_assert_eq!(message::parse(&bytes).unwrap(), Some(neighbour));
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = message::parse(&bytes);
    }

    #[test]
    fn any_attributes_are_read_without_panic(
        header in any::<[u8; message::HEADER]>(),
        list in prop::collection::vec((0u16..16, prop::collection::vec(any::<u8>(), 0..20)), 0..12),
    ) {
        let mut writer = crate::attr::Writer::new(&header);
        for (kind, value) in &list {
            writer.put(*kind, value);
        }
        prop_assert!(message::parse(&writer.finish().unwrap()).is_ok());
    }
}

/// The state of what is not permanent is the kernel's.
#[test]
fn a_stale_wish_is_met_by_what_is_better_known() {
    let mac = "02:00:00:00:00:01".parse().unwrap();
    let (stale, permanent) = (Neighbour::stale([10, 0, 0, 1], mac), Neighbour::permanent([10, 0, 0, 1], mac));
    let mut found = Neighbour::reachable([10, 0, 0, 1], mac);
    assert!(stale.is_met_by(&found) && !permanent.is_met_by(&found));
    found.state = NeighbourState::Failed;
    assert!(!stale.is_met_by(&found));
}
