//! Neighbours, as `ip neighbour` sees them, and addresses that are answered for.

use serde_json::Value;
use vethnet::{ErrorKind, MacAddr, Neighbour, NeighbourState, Route, RouteProtocol};

use crate::world::{Ns, address, name};

fn mac(last: u8) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 0, last]).expect("an address")
}

fn cases() -> Vec<(Neighbour, &'static str)> {
    vec![
        (Neighbour::permanent([10, 1, 0, 9], mac(9)), "10.1.0.9 lladdr 02:00:00:00:00:09 nud permanent"),
        (Neighbour::reachable([10, 1, 0, 10], mac(10)), "10.1.0.10 lladdr 02:00:00:00:00:0a nud reachable"),
        (Neighbour::stale([10, 1, 0, 11], mac(11)), "10.1.0.11 lladdr 02:00:00:00:00:0b nud stale"),
        (
            Neighbour::permanent([10, 1, 0, 12], mac(12)).protocol(RouteProtocol::VETHNET),
            "10.1.0.12 lladdr 02:00:00:00:00:0c nud permanent protocol 107",
        ),
        (
            Neighbour::reachable([10, 1, 0, 13], mac(13)).externally_learned(),
            "10.1.0.13 lladdr 02:00:00:00:00:0d nud reachable extern_learn",
        ),
        (Neighbour::permanent(address("fd00::9"), mac(9)), "fd00::9 lladdr 02:00:00:00:00:09 nud permanent"),
        (Neighbour::stale(address("fe80::7"), mac(7)).router(), "fe80::7 lladdr 02:00:00:00:00:07 nud stale router"),
        (Neighbour::proxy([10, 1, 0, 20]), "proxy 10.1.0.20"),
        (Neighbour::proxy(address("fd00::20")), "proxy fd00::20"),
    ]
}

fn table(ns: &Ns, what: &str) -> Vec<Value> {
    let mut list = ns.json("ip", &format!("-j neighbour show {what}"));
    list.sort_by_key(|item| item["dst"].as_str().map(str::to_owned));
    list
}

fn prepared() -> Ns {
    let ns = Ns::new();
    ns.ip("link add br0 type bridge");
    ns.ip("link set br0 addrgenmode none");
    ns.ip("link set br0 up");
    ns.ip("link add br1 type bridge");
    ns.ip("link set br1 addrgenmode none");
    ns.ip("link set br1 up");
    ns
}

#[test]
fn made_as_ip_makes_them_read_and_removed() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let (ours, theirs) = (prepared(), prepared());
        for (neighbour, words) in cases() {
            ours.with_net(async |net| {
                net.add_neighbour(name("br0"), &neighbour).await.unwrap_or_else(|error| panic!("{words}: {error:#}"));
                let error = net.add_neighbour(name("br0"), &neighbour).await.expect_err("twice");
                assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
                assert!(error.hint().is_some_and(|hint| hint.contains("ip neighbour")), "{error:#}");
            });
            theirs.ip(&format!("neighbour add {words} dev br0"));
        }
        ours.ip("neighbour add 10.9.0.1 lladdr 02:00:00:00:00:01 nud permanent dev br1");
        theirs.ip("neighbour add 10.9.0.1 lladdr 02:00:00:00:00:01 nud permanent dev br1");
        let is_of_multicast =
            |item: &Value| item["dst"].as_str().is_some_and(|dst| dst.starts_with("ff02") || dst.starts_with("224."));
        for what in ["nud all", "proxy"] {
            // What there is of multicast comes with the interfaces' own reports, whose order is nobody's.
            let listed =
                |ns: &Ns| table(ns, what).into_iter().filter(|item| !is_of_multicast(item)).collect::<Vec<_>>();
            assert_eq!(listed(&ours), listed(&theirs), "{what}");
            assert!(listed(&ours).len() >= 2);
        }
        ours.with_net(async |net| {
            let mut list = net.neighbours_on(name("br0")).await.expect("list");
            assert!(list.iter().all(|found| found.address != address("10.9.0.1")), "another interface's");
            assert!(net.neighbours().await.expect("all").iter().any(|found| found.address == address("10.9.0.1")));
            list.extend(net.proxies().await.expect("proxies"));
            for (neighbour, words) in cases() {
                let found =
                    list.iter().find(|found| found.address == neighbour.address).unwrap_or_else(|| panic!("{words}"));
                let mut want = neighbour.clone();
                want.index = found.index;
                assert_eq!(*found, want, "{words}");
                assert!(net.remove_neighbour(name("br0"), found).await.expect("remove"), "{words}");
                if neighbour.is_proxy {
                    assert!(!net.remove_neighbour(name("br0"), found).await.expect("again"), "{words}");
                }
            }
            assert!(!net.remove_neighbour(name("none"), Neighbour::proxy([10, 1, 0, 1])).await.expect("no interface"));
        });
        let left: Vec<_> =
            table(&ours, "dev br0").into_iter().filter(|item| item["state"] != Value::from(vec!["FAILED"])).collect();
        assert!(left.is_empty(), "{left:#?}");
        assert!(table(&ours, "proxy").is_empty());
    });
}

#[test]
fn ensured_twice_is_one_event_and_what_differs_is_replaced() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let ns = prepared();
        let ensure = || {
            ns.with_net(async |net| {
                for (neighbour, words) in cases() {
                    net.ensure_neighbour(name("br0"), &neighbour)
                        .await
                        .unwrap_or_else(|error| panic!("{words}: {error:#}"));
                }
            });
        };
        let first = ns.events("neigh", ensure);
        assert!(first.len() >= 7, "{first:#?}");
        let second = ns.events("neigh", ensure);
        assert!(second.is_empty(), "{second:#?}");
        ns.with_net(async |net| {
            net.ensure_neighbour(name("br0"), Neighbour::permanent([10, 1, 0, 9], mac(99))).await.expect("replaced");
            net.replace_neighbour(name("br0"), Neighbour::permanent([10, 1, 0, 10], mac(98))).await.expect("replaced");
        });
        let list = table(&ns, "dev br0");
        for (dst, lladdr) in [("10.1.0.9", "02:00:00:00:00:63"), ("10.1.0.10", "02:00:00:00:00:62")] {
            let item = list.iter().find(|item| item["dst"] == dst).expect(dst);
            assert_eq!((&item["lladdr"], &item["state"]), (&lladdr.into(), &vec!["PERMANENT"].into()), "{item:#}");
        }
    });
}

/// A permanent entry with a wrong address: packets go to nobody, until it is the right one. And what the kernel has learnt
/// is read.
#[test]
fn packets_go_where_they_say() {
    faultkit::require!(root, program("ip"), program("ping"));
    isolated!(|| {
        let (a, b) = (Ns::new(), Ns::new());
        a.wire("eth0", &b, "eth0");
        a.ip("address add 10.1.0.2/24 dev eth0");
        b.ip("address add 10.1.0.1/24 dev eth0");
        assert!(a.pings("10.1.0.1"));
        let learnt = a.with_net(async |net| {
            let list = net.neighbours_on(name("eth0")).await.expect("list");
            let learnt = list.into_iter().find(|found| found.address == address("10.1.0.1")).expect("learnt");
            let wrong = Neighbour::permanent([10, 1, 0, 1], mac(66));
            let error = net.add_neighbour(name("eth0"), &wrong).await.expect_err("learnt");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            net.ensure_neighbour(name("eth0"), wrong).await.expect("replaced");
            learnt
        });
        let link = b.ask("link show dev eth0");
        assert_eq!(learnt.mac.map(|mac| mac.to_string()).as_deref(), link[0]["address"].as_str());
        assert!(matches!(learnt.state, NeighbourState::Reachable | NeighbourState::Delay | NeighbourState::Stale));
        assert!(!a.pings("10.1.0.1"), "nobody has that address");
        let right = Neighbour::permanent([10, 1, 0, 1], learnt.mac.expect("an address"));
        a.with_net(async |net| net.ensure_neighbour(name("eth0"), right).await.expect("replaced"));
        assert!(a.pings("10.1.0.1"));
    });
}

/// The middle answers on one link for a host that is on the other: the two ends take each other for neighbours.
#[test]
fn what_is_answered_for_is_reached() {
    faultkit::require!(root, program("ip"), program("ping"));
    isolated!(|| {
        let (left, middle, right) = (Ns::new(), Ns::new(), Ns::new());
        middle.wire("left", &left, "eth0");
        middle.wire("right", &right, "eth0");
        left.ip("address add 10.1.0.2/24 dev eth0");
        right.ip("address add 10.1.0.9/24 dev eth0");
        left.ip("address add fd00::2/64 dev eth0 nodad");
        right.ip("address add fd00::9/64 dev eth0 nodad");
        middle.sysctl("ipv4.ip_forward", "1");
        middle.sysctl("ipv6.conf.all.forwarding", "1");
        for link in ["left", "right"] {
            middle.sysctl(&format!("ipv6.conf.{link}.proxy_ndp"), "1");
            // Answered at once, and not after up to 0.8 s.
            middle.sysctl(&format!("ipv4.neigh.{link}.proxy_delay"), "0");
            middle.sysctl(&format!("ipv6.neigh.{link}.proxy_delay"), "0");
        }
        let ends = [("left", "10.1.0.2/32", "fd00::2/128"), ("right", "10.1.0.9/32", "fd00::9/128")];
        middle.with_net(async |net| {
            for (link, four, six) in ends {
                for subnet in [four, six] {
                    net.add_route(Route::to(subnet.parse().expect("subnet")).dev(name(link))).await.expect("route");
                }
                // What answers is the middle's own address on the link.
                let list = net.addresses_on(name(link)).await.expect("list");
                for own in list.iter().filter(|own| own.address.is_ipv6()) {
                    net.address_is_usable(name(link), own, std::time::Duration::from_secs(20)).await.expect("usable");
                }
            }
        });
        assert!(!left.pings("10.1.0.9"), "nobody answers for it");
        middle.with_net(async |net| {
            for (link, answered) in [("left", ["10.1.0.9", "fd00::9"]), ("right", ["10.1.0.2", "fd00::2"])] {
                for text in answered {
                    net.ensure_neighbour(name(link), Neighbour::proxy(address(text))).await.expect("proxy");
                }
            }
        });
        left.ip("neighbour flush dev eth0");
        assert!(left.pings("10.1.0.9"));
        assert!(left.pings("fd00::9"));
    });
}
