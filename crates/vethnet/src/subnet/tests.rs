//! Ranges: which are refused, and which of their addresses are for containers.
#![forbid(unsafe_code)]

use super::*;
use proptest::prelude::*;

fn subnet(text: &str) -> Subnet {
    text.parse().expect(text)
}

fn hosts(text: &str) -> Vec<String> {
    subnet(text).hosts_after(None).map(|host| host.to_string()).collect()
}

#[test]
fn what_is_refused() {
    for text in [
        "",
        "/",
        "10.0.0.0",
        "10.0.0.0/",
        "/8",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0/8",
        "10.0.0.0/+8",
        "10.0.0.0/08",
        "10.0.0.0/256",
        "10.0.0.1/24",
        "10.0.0.0/8 ",
        "10.0.0.0/8\0",
        "fd00::/129",
        "fd00::1/64",
        "fd00::%1/64",
        "[fd00::]/64",
        "fd00::/64/64",
    ] {
        let error = text.parse::<Subnet>().expect_err(text);
        assert_eq!(error.kind(), crate::ErrorKind::Invalid);
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
}

#[test]
fn what_is_not_for_hosts() {
    for text in [
        "127.0.0.0/8",
        "127.0.0.1/32",
        "224.0.0.0/8",
        "0.0.0.0/8",
        "0.0.0.0/0",
        "255.255.255.252/30",
        "96.0.0.0/3",
        "::/0",
        "::1/128",
        "::10.0.0.0/120",
        "::ffff:10.0.0.0/120",
        "fe80::/64",
        "ff02::/16",
        "8000::/1",
    ] {
        let error = subnet(text).for_hosts().expect_err(text);
        assert_eq!(error.kind(), crate::ErrorKind::Invalid);
        assert!(error.to_string().contains("not for hosts"), "{error}");
    }
    for text in ["10.0.0.0/8", "169.254.0.0/16", "192.0.2.1/32", "64.0.0.0/4", "fd00::/8", "2001:db8::/32"] {
        assert_eq!(subnet(text).for_hosts().expect(text), subnet(text));
    }
}

#[test]
fn the_default_has_room_for_a_bridge() {
    let default = Subnet::default();
    assert_eq!(default, subnet("10.209.0.0/22"));
    assert_eq!(default.hosts_after(None).count(), 1021);
    assert_eq!(default.hosts_after(None).next(), Some(Ipv4Addr::new(10, 209, 0, 2).into()));
    assert_eq!(default.broadcast(), Some(Ipv4Addr::new(10, 209, 3, 255)));
}

#[test]
fn small_ranges() {
    assert_eq!(hosts("10.0.0.0/30"), ["10.0.0.2"]);
    assert_eq!(hosts("10.0.0.4/31"), ["10.0.0.5"]);
    assert_eq!(hosts("10.0.0.7/32"), ["10.0.0.7"]);
    assert_eq!(hosts("255.255.255.254/31"), ["255.255.255.255"], "nothing is counted past the end");
    assert_eq!(hosts("fd00::4/126"), ["fd00::6", "fd00::7"], "there is no broadcast");
    assert_eq!(hosts("fd00::4/127"), ["fd00::5"]);
    assert_eq!(hosts("fd00::7/128"), ["fd00::7"]);
    assert_eq!(hosts("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126").len(), 2);
    let gateway = |text: &str| subnet(text).gateway().map(|address| address.to_string()).unwrap_or_default();
    for (text, want) in [
        ("10.0.0.0/30", "10.0.0.1"),
        ("10.0.0.4/31", "10.0.0.4"),
        ("10.0.0.7/32", ""),
        ("fd00::/64", "fd00::1"),
        ("fd00::4/127", "fd00::4"),
        ("fd00::7/128", ""),
    ] {
        assert_eq!(gateway(text), want, "{text}");
    }
    for (text, want) in [("10.0.0.4/30", Some("10.0.0.7")), ("10.0.0.4/31", None), ("fd00::/64", None)] {
        assert_eq!(subnet(text).broadcast(), want.map(|address| address.parse().unwrap()), "{text}");
    }
    assert_eq!(subnet("::/0").capacity(), u128::MAX - 1);
    assert_eq!(subnet("0.0.0.0/0").capacity(), (1 << 32) - 3);
}

#[test]
fn around_the_range() {
    for text in ["10.7.0.0/29", "fd00:7::/125", "10.7.0.0/30", "fd00::/127", "10.0.0.7/32"] {
        let subnet = subnet(text);
        let all: Vec<_> = subnet.hosts_after(None).collect();
        for (index, last) in all.iter().enumerate() {
            let mut want = all.clone();
            want.rotate_left((index + 1) % all.len());
            assert_eq!(subnet.hosts_after(Some(*last)).collect::<Vec<_>>(), want, "{text} after {last}");
        }
        for elsewhere in ["0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] {
            let after: Vec<_> = subnet.hosts_after(elsewhere.parse().ok()).collect();
            assert_eq!(after, all, "{text} after {elsewhere}");
        }
        for inside in [subnet.address(), subnet.last()] {
            assert_eq!(subnet.hosts_after(Some(inside)).count(), all.len());
        }
    }
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
        (0u32..4).prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(u32::MAX - bits))),
        (0u128..4).prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(u128::MAX - bits))),
    ]
}

fn any_subnet() -> impl Strategy<Value = Subnet> {
    (any_address(), 0u8..=128).prop_map(|(address, prefix)| Subnet::around(address, prefix % (width(address) + 1)))
}

proptest! {
    #[test]
    fn text_and_value(subnet in any_subnet()) {
        prop_assert_eq!(subnet.to_string().parse::<Subnet>().unwrap(), subnet);
        prop_assert_eq!(Subnet::new(subnet.address(), subnet.prefix()).unwrap(), subnet);
        let json = serde_json::to_string(&subnet).unwrap();
        prop_assert_eq!(serde_json::from_str::<Subnet>(&json).unwrap(), subnet);
        prop_assert!(subnet.contains(subnet.address()) && subnet.contains(subnet.last()));
    }

    #[test]
    fn hosts_are_in_the_range_and_nobody_elses(subnet in any_subnet()) {
        prop_assert!(subnet.capacity() > 0);
        prop_assert!(subnet.hosts_after(None).take(2000).count() as u128 == subnet.capacity().min(2000));
        for host in subnet.hosts_after(None).take(10).chain(subnet.hosts_after(Some(subnet.last())).take(10)) {
            prop_assert!(subnet.contains(host));
            prop_assert_ne!(Some(host), subnet.gateway());
            prop_assert_ne!(Some(host), subnet.broadcast().map(IpAddr::V4));
        }
    }

    #[test]
    fn overlap_is_a_common_address(a in any_subnet(), b in any_subnet()) {
        let common = a.is_ipv4() == b.is_ipv4() && a.address() <= b.last() && b.address() <= a.last();
        prop_assert_eq!(a.overlaps(&b), common);
        prop_assert_eq!(b.overlaps(&a), common);
    }

    #[test]
    fn any_text_is_taken_without_panic(text in ".{0,60}") {
        let _ = text.parse::<Subnet>();
    }
}
