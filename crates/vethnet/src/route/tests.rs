#![forbid(unsafe_code)]

use super::*;
use proptest::prelude::*;

fn subnet() -> impl Strategy<Value = Subnet> {
    prop_oneof![
        (any::<u32>(), 0u8..=32).prop_map(|(bits, prefix)| Subnet::around(Ipv4Addr::from_bits(bits).into(), prefix)),
        (any::<u128>(), 0u8..=128).prop_map(|(bits, prefix)| Subnet::around(Ipv6Addr::from_bits(bits).into(), prefix)),
    ]
}

fn address(is_ipv4: bool) -> impl Strategy<Value = IpAddr> {
    any::<u128>().prop_map(move |bits| match is_ipv4 {
        true => Ipv4Addr::from_bits(bits as u32).into(),
        false => Ipv6Addr::from_bits(bits).into(),
    })
}

fn hop(is_ipv4: bool) -> impl Strategy<Value = NextHop> {
    let via = prop_oneof![address(is_ipv4), address(false)];
    (proptest::option::of(via), 1u32.., any::<bool>(), 1u8..).prop_map(|(via, index, is_onlink, weight)| NextHop {
        via,
        dev: Some(LinkRef::Index(index)),
        is_onlink,
        weight,
        ..NextHop::default()
    })
}

/// Routes as they can be sent: with numbers for interfaces.
fn route() -> impl Strategy<Value = Route> {
    subnet().prop_flat_map(|destination| {
        let is_ipv4 = destination.is_ipv4();
        let hops = prop::collection::vec(hop(is_ipv4), 0..4);
        let numbers = (proptest::option::of(any::<u32>()), 1u32.., any::<u8>(), any::<u8>(), 1u8..10);
        let sizes = (proptest::option::of(any::<u32>()), proptest::option::of(any::<u32>()));
        (hops, proptest::option::of(address(is_ipv4)), numbers, sizes).prop_map(
            move |(mut hops, source, (metric, table, protocol, scope, kind), (mtu, advmss))| {
                let kind = RouteKind::of_number(kind);
                if kind.ends_here() {
                    hops.clear();
                }
                // Of an only way the weight is not sent.
                if let [hop] = hops.as_mut_slice() {
                    hop.weight = 1;
                }
                let preference = (!is_ipv4).then_some(RoutePreference::High);
                Route {
                    hops,
                    source,
                    metric,
                    table: RouteTable::new(table).unwrap(),
                    scope: Some(Scope::of_number(scope)),
                    protocol: Some(RouteProtocol::of_number(protocol)),
                    mtu,
                    advmss,
                    preference,
                    ..Route::of_kind(kind, destination)
                }
            },
        )
    })
}

proptest! {
    /// Written by netlink-packet-route, read by our own reader.
    #[test]
    fn what_is_sent_is_what_is_read(route in route()) {
        let request = message::new(&route, route.subject(), message::CREATE);
        prop_assert_eq!(message::parse(&request.body).unwrap(), Some(route.clone()));
        prop_assert!(!route.to_string().contains('\n'));
        // In its own words it is the same for the kernel.
        prop_assert!(route.is_same(&message::parse(&request.body).unwrap().unwrap()));
    }

    /// What is new to us, before and after what is not.
    #[test]
    fn unknown_attributes_are_passed_over(route in route(), kind in 60u16..0x3fff, value in prop::collection::vec(any::<u8>(), 0..30)) {
        let body = message::new(&route, route.subject(), message::CREATE).body;
        let unknown = |start: &[u8]| {
            let mut writer = crate::attr::Writer::new(start);
            writer.put(kind, &value);
            writer.finish().unwrap()
        };
        let mut bytes = unknown(&body[..12]);
        bytes.extend_from_slice(&body[12..]);
        prop_assert_eq!(message::parse(&unknown(&bytes)).unwrap(), Some(route));
    }

    #[test]
    fn any_bytes_are_read_without_panic(family in prop_oneof![Just(2u8), Just(10), any::<u8>()], bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut body = vec![family];
        body.extend(bytes);
        let _ = message::parse(&body);
    }

    /// Attributes of the right kinds with whatever in them.
    #[test]
    fn any_attributes_are_read_without_panic(
        family in prop_oneof![Just(2u8), Just(10)],
        header in any::<[u8; 11]>(),
        list in prop::collection::vec((0u16..32, prop::collection::vec(any::<u8>(), 0..40)), 0..12),
    ) {
        let mut start = vec![family];
        start.extend(header);
        let mut writer = crate::attr::Writer::new(&start);
        for (kind, value) in &list {
            writer.put(*kind, value);
        }
        prop_assert!(message::parse(&writer.finish().unwrap()).unwrap().is_some());
    }
}

#[test]
fn a_torn_header_is_an_error() {
    for length in 0..12 {
        assert_eq!(message::parse(&vec![2; length]).unwrap_err().kind(), crate::ErrorKind::Parse);
    }
    assert_eq!(message::parse(&[28; 12]).unwrap(), None, "MPLS");
}

#[test]
fn the_kernels_expiry() {
    let mut info = [0u8; 32];
    let read = |info: &[u8]| {
        let mut writer = crate::attr::Writer::new(&[10, 64, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0]);
        writer.put(12, info);
        message::parse(&writer.finish().unwrap()).unwrap().unwrap().expires
    };
    assert_eq!(read(&info), None, "never");
    info[8..12].copy_from_slice(&1234i32.to_ne_bytes());
    assert_eq!(read(&info), Some(Duration::from_millis(12_340)));
    info[8..12].copy_from_slice(&(-5i32).to_ne_bytes());
    assert_eq!(read(&info), None);
    assert_eq!(read(&info[..10]), None);
}

/// `struct rtnexthop` as the kernel writes it, with a gateway of the other family.
#[test]
fn ways_that_lie_about_their_length() {
    let mut way = vec![28, 0, 4, 6, 3, 0, 0, 0, 20, 0, 18, 0, 10, 0];
    way.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let read = |way: &[u8]| {
        let mut writer = crate::attr::Writer::new(&[2, 24, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0]);
        writer.put(9, way);
        message::parse(&writer.finish().unwrap()).unwrap().unwrap().hops
    };
    let hops = read(&way);
    assert_eq!((hops.len(), hops[0].weight, hops[0].is_onlink), (1, 7, true));
    assert_eq!(hops[0].dev, Some(LinkRef::Index(3)));
    for length in [0u8, 1, 7, 29, 255] {
        way[0] = length;
        assert!(read(&way).is_empty(), "{length}");
    }
}
