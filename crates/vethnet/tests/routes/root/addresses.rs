//! Addresses, as `ip address` sees them.

use std::time::Duration;

use serde_json::Value;
use vethnet::{Address, AddressFlags, ErrorKind, IpNet, Lifetime, Scope};

use crate::world::{Ns, name, wait};

fn find<'a>(list: &'a [Value], local: &str) -> &'a Value {
    list.iter().find(|item| item["local"] == local).unwrap_or_else(|| panic!("no {local} in {list:#?}"))
}

fn net(text: &str) -> IpNet {
    text.parse().expect(text)
}

#[test]
fn made_as_ip_makes_them() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let (ours, theirs) = (Ns::new(), Ns::new());
        for ns in [&ours, &theirs] {
            ns.ip("link add br0 type bridge");
            ns.ip("link set br0 addrgenmode none");
            ns.ip("link set br0 up");
        }
        let hour = Lifetime::For(Duration::from_secs(3600));
        let cases: [(Address, &str); 9] = [
            (net("10.1.0.2/24").into(), "10.1.0.2/24"),
            (Address::new(net("10.2.0.2/24")).broadcast([10, 2, 0, 255].into()), "10.2.0.2/24 brd 10.2.0.255"),
            (Address::new(net("10.3.0.1/32")).peer([10, 3, 0, 2]), "10.3.0.1 peer 10.3.0.2/32"),
            (
                Address::new(net("10.4.0.1/24")).label("br0:web").scope(Scope::LINK),
                "10.4.0.1/24 label br0:web scope link",
            ),
            (Address::new(net("10.5.0.1/24")).metric(77).no_prefix_route(), "10.5.0.1/24 metric 77 noprefixroute"),
            (
                Address::new(net("10.6.0.1/24")).valid(hour).preferred(Lifetime::For(Duration::from_secs(1800))),
                "10.6.0.1/24 valid_lft 3600 preferred_lft 1800",
            ),
            (Address::new(net("fd00::2/64")).no_dad(), "fd00::2/64 nodad"),
            (
                Address::new(net("fd01::1/128")).peer([0xfd01, 0, 0, 0, 0, 0, 0, 2]).no_dad(),
                "fd01::1 peer fd01::2/128 nodad",
            ),
            (
                Address::new(net("fd02::2/64")).no_dad().no_prefix_route().metric(99).valid(hour),
                "fd02::2/64 nodad noprefixroute metric 99 valid_lft 3600 preferred_lft 3600",
            ),
        ];
        for (spec, words) in &cases {
            ours.with_net(async |net| net.add_address(name("br0"), spec).await.expect(words));
            theirs.ip(&format!("address add {words} dev br0"));
        }
        let stripped = |ns: &Ns, what: &str| {
            let mut list = if what == "address" { ns.addresses("br0") } else { ns.ask(what) };
            for item in &mut list {
                for (field, within) in [("valid_life_time", 3600), ("preferred_life_time", 3600)] {
                    // Not on the same second.
                    if let Some(time) = item[field].as_u64().filter(|time| *time != u64::from(u32::MAX)) {
                        assert!(time <= within && time + 60 > within || time <= 1800, "{item:#}");
                        item[field] = Value::from(time / 1000);
                    }
                }
            }
            list
        };
        for what in ["address", "route show table all", "-6 route show table all"] {
            assert_eq!(stripped(&ours, what), stripped(&theirs, what), "{what}");
        }
        // And read, beside ip's own words.
        let read = ours.with_net(async |net| net.addresses_on(name("br0")).await.expect("list"));
        let listed = ours.addresses("br0");
        assert_eq!(read.len(), listed.len());
        for (found, item) in read.iter().zip(&listed) {
            assert_eq!(found.address.address().to_string(), item["local"].as_str().expect("local"));
            assert_eq!(u64::from(found.address.prefix()), item["prefixlen"].as_u64().expect("prefixlen"));
            assert_eq!(found.peer.map(|peer| peer.to_string()).as_deref(), item["address"].as_str(), "{item:#}");
            assert_eq!(found.broadcast.map(|b| b.to_string()).as_deref(), item["broadcast"].as_str());
            assert_eq!(found.label.as_deref(), item["label"].as_str());
            assert_eq!(found.scope.to_string(), item["scope"].as_str().expect("scope"));
            assert_eq!(found.metric.map(u64::from), item["metric"].as_u64());
            assert_eq!(found.flags.contains(AddressFlags::NOPREFIXROUTE), item["noprefixroute"] == true);
            assert_eq!(found.flags.contains(AddressFlags::NODAD), item["nodad"] == true);
            assert_eq!(found.flags.contains(AddressFlags::PERMANENT), item["dynamic"] != true);
            let seconds = |time| match time {
                Lifetime::Forever => u64::from(u32::MAX),
                Lifetime::For(time) => time.as_secs(),
            };
            assert!(seconds(found.valid).abs_diff(item["valid_life_time"].as_u64().expect("valid")) < 30, "{item:#}");
        }
        // What was read can be removed as it is.
        ours.with_net(async |net| {
            for address in &read {
                assert!(net.remove_address(name("br0"), address).await.expect("remove"), "{address}");
                assert!(!net.remove_address(name("br0"), address).await.expect("again"), "{address}");
            }
        });
        assert!(ours.addresses("br0").is_empty());
    });
}

#[test]
fn ensured_twice_is_one_event() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let ns = Ns::new();
        ns.ip("link add br0 type bridge");
        ns.ip("link set br0 addrgenmode none");
        let specs = [
            Address::new(net("10.1.0.2/24")).broadcast([10, 1, 0, 255].into()),
            Address::new(net("10.3.0.1/32")).peer([10, 3, 0, 2]),
            Address::new(net("fd00::2/64")).no_dad().metric(7),
        ];
        let ensure = || {
            ns.with_net(async |net| {
                for spec in &specs {
                    net.ensure_address(name("br0"), spec).await.expect("ensure");
                }
            });
        };
        let events = ns.events("address", ensure);
        assert_eq!(events.len(), 3, "{events:#?}");
        let events = ns.events("address", ensure);
        assert!(events.is_empty(), "{events:#?}");
    });
}

#[test]
fn ensured_is_adapted_or_refused() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let ns = Ns::new();
        ns.ip("link add br0 type bridge");
        ns.ip("link set br0 addrgenmode none");
        ns.with_net(async |netns| {
            let hour = Lifetime::For(Duration::from_secs(3600));
            for (text, first, then) in [("10.1.0.2/24", 5, 6), ("fd00::2/64", 5, 6)] {
                let spec = || Address::new(net(text)).no_dad();
                netns.ensure_address(name("br0"), spec().metric(first)).await.expect("made");
                netns.ensure_address(name("br0"), spec().metric(then).valid(hour)).await.expect("adapted");
            }
            for local in ["10.1.0.2", "fd00::2"] {
                let list = ns.addresses("br0");
                let item = find(&list, local);
                assert_eq!(item["metric"], 6, "{item:#}");
                assert!(item["valid_life_time"].as_u64().is_some_and(|time| time <= 3600), "{item:#}");
            }
            let cases = [
                (Address::new(net("10.1.0.2/24")).no_dad().label("br0:x"), "10.1.0.2/24"),
                (Address::new(net("10.1.0.2/24")).no_dad().scope(Scope::HOST), "10.1.0.2/24"),
                (Address::new(net("fd00::2/96")).no_dad(), "fd00::2/64"),
            ];
            for (spec, there) in cases {
                let error = netns.ensure_address(name("br0"), &spec).await.expect_err("differs");
                assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
                assert!(
                    error.hint().is_some_and(|hint| hint.contains(there) && hint.contains("cannot be changed")),
                    "{error:#}"
                );
            }
            // In IPv4 the same address with another prefix is another one.
            netns.ensure_address(name("br0"), net("10.1.0.2/16")).await.expect("beside");
        });
        assert_eq!(ns.addresses("br0").len(), 3);
    });
}

#[test]
fn usable_when_detection_has_ended() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let (a, b) = (Ns::new(), Ns::new());
        a.wire("eth0", &b, "eth0");
        let limit = Duration::from_secs(20);
        let taken = net("fd00::2/64");
        a.with_net(async |netns| {
            netns.add_address(name("eth0"), taken).await.expect("add");
            let list = netns.addresses_on(name("eth0")).await.expect("list");
            let ours = list.iter().find(|found| found.address == taken).expect("there");
            assert!(ours.flags.contains(AddressFlags::TENTATIVE), "{ours}");
            netns.address_is_usable(name("eth0"), taken, limit).await.expect("usable");
        });
        let list = a.addresses("eth0");
        assert_ne!(find(&list, "fd00::2")["tentative"], true, "{list:#?}");
        b.with_net(async |netns| {
            netns.add_address(name("eth0"), taken).await.expect("add");
            let error = netns.address_is_usable(name("eth0"), taken, limit).await.expect_err("taken");
            assert_eq!((error.kind(), error.operation()), (ErrorKind::AlreadyExists, "IFA_F_DADFAILED"), "{error:#}");
            assert!(error.hint().is_some_and(|hint| hint.contains("another host")), "{error:#}");
            let error = netns.address_is_usable(name("eth0"), net("fd00::3/64"), limit).await.expect_err("none");
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error:#}");
        });
        let list = b.addresses("eth0");
        assert_eq!(find(&list, "fd00::2")["dadfailed"], true, "{list:#?}");
        // Without a carrier it does not begin.
        a.ip("link set eth0 down");
        b.with_net(async |netns| {
            netns.add_address(name("eth0"), net("fd00::4/64")).await.expect("add");
            let short = Duration::from_millis(100);
            let error = netns.address_is_usable(name("eth0"), net("fd00::4/64"), short).await.expect_err("no carrier");
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:#}");
            assert!(error.hint().is_some_and(|hint| hint.contains("carrier")), "{error:#}");
        });
    });
}

#[test]
fn wrong_wishes_are_refused_before_any_effect() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let ns = Ns::new();
        ns.with_net(async |netns| {
            let second = Duration::from_secs(1);
            for (spec, why) in [
                (Address::new(net("10.1.0.2/24")).peer([0xfd00, 0, 0, 0, 0, 0, 0, 1]), "other family"),
                (Address::new(net("fd00::2/64")).broadcast([10, 0, 0, 1].into()), "only IPv4"),
                (Address::new(net("fd00::2/64")).label("lo:x"), "only IPv4"),
                (Address::new(net("10.1.0.2/24")).label("lo:0123456789abcdef"), "15 bytes"),
                (Address::new(net("10.1.0.2/24")).valid(Lifetime::For(Duration::ZERO)), "gone before"),
                (
                    Address::new(net("10.1.0.2/24")).valid(Lifetime::For(second)).preferred(Lifetime::For(second * 2)),
                    "longer than",
                ),
            ] {
                for error in [
                    netns.add_address(name("lo"), &spec).await.expect_err(why),
                    netns.ensure_address(name("lo"), &spec).await.expect_err(why),
                ] {
                    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
                    assert!(error.to_string().contains(why), "{error}");
                }
            }
        });
        wait(async {});
        assert_eq!(ns.addresses("lo").len(), 2, "127.0.0.1 and ::1");
    });
}
