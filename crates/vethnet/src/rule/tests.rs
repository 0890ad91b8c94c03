#![forbid(unsafe_code)]

use super::*;
use proptest::prelude::*;

fn subnet(is_ipv4: bool) -> impl Strategy<Value = Option<Subnet>> {
    proptest::option::of((any::<u128>(), 1u8..=128).prop_map(move |(bits, prefix)| match is_ipv4 {
        true => Subnet::around(Ipv4Addr::from_bits(bits as u32).into(), prefix.min(32)),
        false => Subnet::around(Ipv6Addr::from_bits(bits).into(), prefix),
    }))
}

fn action() -> impl Strategy<Value = RuleAction> {
    prop_oneof![
        (1u32..).prop_map(|table| RuleAction::Lookup(RouteTable::new(table).unwrap())),
        Just(RuleAction::LookupL3mdev),
        any::<u32>().prop_map(RuleAction::Goto),
        Just(RuleAction::Nop),
        Just(RuleAction::Blackhole),
        Just(RuleAction::Unreachable),
        Just(RuleAction::Prohibit),
    ]
}

fn ports() -> impl Strategy<Value = Option<RangeInclusive<u16>>> {
    proptest::option::of((1u16.., 1u16..).prop_map(|(a, b)| a.min(b)..=a.max(b)))
}

fn rule() -> impl Strategy<Value = Rule> {
    any::<bool>().prop_flat_map(|is_ipv4| {
        let names = (proptest::option::of("[a-z]{1,15}"), proptest::option::of("[a-z]{1,15}"));
        let mark = proptest::option::of((any::<u32>(), 1u32..));
        let users = proptest::option::of((any::<u32>(), any::<u32>()));
        let numbers =
            (any::<u32>(), any::<u8>(), proptest::option::of(1u8..), proptest::option::of(any::<u8>()), any::<u8>());
        let ways = (action(), ports(), ports(), any::<bool>());
        (subnet(is_ipv4), subnet(is_ipv4), names, mark, users, numbers, ways).prop_map(
            move |(from, to, (iif, oif), mark, users, (priority, tos, ip_protocol, length, protocol), ways)| {
                let (action, source_ports, destination_ports, is_inverted) = ways;
                Rule {
                    priority: Some(priority),
                    from,
                    to,
                    iif,
                    oif,
                    mark: mark.map(|(mark, _)| mark),
                    mask: mark.map(|(_, mask)| mask),
                    tos,
                    uids: users.map(|(a, b)| a.min(b)..=a.max(b)),
                    ip_protocol,
                    source_ports,
                    destination_ports,
                    is_inverted,
                    action,
                    suppress_prefix_length: length,
                    protocol: Some(RouteProtocol::of_number(protocol)),
                    ..Rule::new(is_ipv4)
                }
            },
        )
    })
}

proptest! {
    /// Written by netlink-packet-route, read by our own reader.
    #[test]
    fn what_is_sent_is_what_is_read(rule in rule()) {
        let body = message::new(&rule, 0).body;
        let found = message::parse(&body).unwrap().unwrap();
        prop_assert_eq!(&found, &rule);
        prop_assert!(rule.is_met_by(&found));
        prop_assert_eq!(rule.to_string().lines().count(), 1);
    }

    #[test]
    fn unknown_attributes_are_passed_over(rule in rule(), kind in 40u16..0x3fff, value in prop::collection::vec(any::<u8>(), 0..30)) {
        let body = message::new(&rule, 0).body;
        let mut writer = crate::attr::Writer::new(&body[..12]);
        writer.put(kind, &value);
        let mut bytes = writer.finish().unwrap();
        bytes.extend_from_slice(&body[12..]);
        prop_assert_eq!(message::parse(&bytes).unwrap(), Some(rule));
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = message::parse(&bytes);
    }

    #[test]
    fn any_attributes_are_read_without_panic(
        header in any::<[u8; 11]>(),
        list in prop::collection::vec((0u16..26, prop::collection::vec(any::<u8>(), 0..20)), 0..12),
    ) {
        let mut start = vec![2];
        start.extend(header);
        let mut writer = crate::attr::Writer::new(&start);
        for (kind, value) in &list {
            writer.put(*kind, value);
        }
        prop_assert!(message::parse(&writer.finish().unwrap()).unwrap().is_some());
    }
}

#[test]
fn what_is_not_said_is_whatever_the_kernel_made_of_it() {
    let wish = Rule::ipv4().from("0.0.0.0/0".parse().unwrap()).mark(5);
    let mut found = Rule::ipv4().mark(5).mask(u32::MAX).priority(32765).protocol(RouteProtocol::VETHNET);
    assert!(wish.is_met_by(&found));
    found.tos = 4;
    assert!(!wish.is_met_by(&found));
}
