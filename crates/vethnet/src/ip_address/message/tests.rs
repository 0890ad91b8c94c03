#![forbid(unsafe_code)]

use super::*;
use crate::link::LinkRef;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

fn lifetimes() -> impl Strategy<Value = (Lifetime, Lifetime)> {
    let time =
        prop_oneof![Just(Lifetime::Forever), (1u64..1 << 31).prop_map(|s| Lifetime::For(Duration::from_secs(s)))];
    (time.clone(), time).prop_map(|(valid, preferred)| (valid, preferred.min(valid)))
}

fn spec() -> impl Strategy<Value = Address> {
    let ip = |is_ipv4: bool, bits: u128| match is_ipv4 {
        true => IpAddr::from(Ipv4Addr::from_bits(bits as u32)),
        false => IpAddr::from(Ipv6Addr::from_bits(bits)),
    };
    let words = (any::<bool>(), any::<u128>(), any::<u8>(), proptest::option::of(any::<u128>()));
    let more = (proptest::option::of(any::<u32>()), any::<u32>(), proptest::option::of("[a-z:]{1,15}"), any::<u8>());
    (words, more, proptest::option::of(1u32..), lifetimes(), 1u32..).prop_map(
        move |((is_ipv4, bits, prefix, peer), (broadcast, flags, label, scope), metric, (valid, preferred), index)| {
            let own = ip(is_ipv4, bits);
            let mut spec = Address::new(IpNet::as_read(own, prefix));
            spec.peer = peer.map(|bits| ip(is_ipv4, bits)).filter(|peer| *peer != own);
            spec.broadcast = broadcast.filter(|_| is_ipv4).map(Ipv4Addr::from_bits);
            spec.label = label.filter(|_| is_ipv4);
            spec.scope = Scope::of_number(scope);
            spec.metric = metric;
            (spec.valid, spec.preferred) = (valid, preferred);
            spec.flags = AddressFlags::of_bits(flags).settable(is_ipv4);
            spec.index = Some(index);
            spec
        },
    )
}

proptest! {
    /// Written by netlink-packet-route, read by our own reader.
    #[test]
    fn what_is_sent_is_what_is_read(spec in spec()) {
        let index = spec.index.unwrap();
        let body = new(&LinkRef::Index(index), index, &spec, CREATE).body;
        prop_assert_eq!(parse(&body).unwrap(), Some(spec));
    }

    #[test]
    fn unknown_attributes_are_passed_over(spec in spec(), kind in 20u16..0x3fff, value in prop::collection::vec(any::<u8>(), 0..30)) {
        let index = spec.index.unwrap();
        let body = new(&LinkRef::Index(index), index, &spec, CREATE).body;
        let unknown = |start: &[u8]| {
            let mut writer = crate::attr::Writer::new(start);
            writer.put(kind, &value);
            writer.finish().unwrap()
        };
        let mut bytes = unknown(&body[..HEADER]);
        bytes.extend_from_slice(&body[HEADER..]);
        prop_assert_eq!(parse(&unknown(&bytes)).unwrap(), Some(spec));
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn any_attributes_are_read_without_panic(
        header in any::<[u8; HEADER]>(),
        list in prop::collection::vec((0u16..12, prop::collection::vec(any::<u8>(), 0..20)), 0..12),
    ) {
        let mut writer = crate::attr::Writer::new(&header);
        for (kind, value) in &list {
            writer.put(*kind, value);
        }
        prop_assert!(parse(&writer.finish().unwrap()).is_ok());
    }

    /// Never cut short, and never taken for "forever".
    #[test]
    fn a_lifetime_is_at_least_as_long(nanos: u64) {
        let time = Duration::from_nanos(nanos);
        let sent = seconds(Lifetime::For(time));
        prop_assert!(sent != FOREVER && Duration::from_secs(sent.into()) >= time.min(Duration::from_secs(u64::from(FOREVER) - 1)));
    }
}

#[test]
fn the_longest_times() {
    assert_eq!(seconds(Lifetime::Forever), FOREVER);
    assert_eq!(seconds(Lifetime::For(Duration::MAX)), FOREVER - 1);
    assert_eq!(seconds(Lifetime::For(Duration::from_millis(1))), 1);
}

/// The longer structures of kernels to come, which netlink-packet-route may refuse.
#[test]
fn what_grew_is_read() {
    let mut writer = crate::attr::Writer::new(&[INET, 24, 0x80, 0, 2, 0, 0, 0]);
    writer.put(IFA_LOCAL, &[10, 1, 0, 2]).put(IFA_CACHEINFO, &[7; 64]).put(IFA_FLAGS, &[0, 2, 0, 0, 9, 9, 9, 9]);
    let found = parse(&writer.finish().unwrap()).unwrap().unwrap();
    assert_eq!(found.address.to_string(), "10.1.0.2/24");
    assert!(found.flags.contains(AddressFlags::NOPREFIXROUTE));
}
