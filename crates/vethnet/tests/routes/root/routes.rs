//! Routes, as `ip route` sees them, and packets that take them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use vethnet::{
    ErrorKind, LinkRef, NextHop, Route, RouteFilter, RouteKind, RouteLookup, RoutePreference, RouteProtocol,
    RouteTable, Scope, Subnet,
};

use crate::world::{Ns, address, name};

fn subnet(text: &str) -> Subnet {
    text.parse().expect(text)
}

fn table(number: u32) -> RouteTable {
    RouteTable::new(number).expect("a table")
}

/// A namespace with `eth0` (10.1.0.2/24, fd00::2/64) and `eth1` (10.9.0.2/24, fd09::2/64).
fn wired() -> (Ns, Ns) {
    let (ns, other) = (Ns::new(), Ns::new());
    for (link, four, six) in [("eth0", "10.1.0", "fd00"), ("eth1", "10.9.0", "fd09")] {
        ns.wire(link, &other, link);
        for (ns, host) in [(&ns, 2), (&other, 1)] {
            ns.ip(&format!("link set {link} addrgenmode none"));
            ns.ip(&format!("-6 address flush dev {link}"));
            ns.ip(&format!("address add {four}.{host}/24 dev {link}"));
            ns.ip(&format!("address add {six}::{host}/64 dev {link} nodad"));
        }
    }
    (ns, other)
}

/// What was asked for, with what ip(8) wants to hear for the same.
fn cases() -> Vec<(Route, &'static str)> {
    let (eth0, eth1) = (name("eth0"), name("eth1"));
    let v6 = |text: &str| address(text);
    vec![
        (Route::default_v4().via([10, 1, 0, 1]), "default via 10.1.0.1"),
        (
            Route::to(subnet("10.2.0.0/16")).via([10, 1, 0, 1]).dev(&eth0).metric(50),
            "10.2.0.0/16 via 10.1.0.1 dev eth0 metric 50",
        ),
        (Route::to(subnet("10.3.0.0/16")).dev(&eth0), "10.3.0.0/16 dev eth0"),
        (Route::to(subnet("10.4.0.0/16")).dev(&eth0).source([10, 1, 0, 2]), "10.4.0.0/16 dev eth0 src 10.1.0.2"),
        (
            Route::to(subnet("10.5.0.0/16")).via([192, 0, 2, 1]).dev(&eth0).onlink(),
            "10.5.0.0/16 via 192.0.2.1 dev eth0 onlink",
        ),
        (Route::to(subnet("10.6.0.0/16")).via(v6("fd00::1")).dev(&eth0), "10.6.0.0/16 via inet6 fd00::1 dev eth0"),
        (
            Route::to(subnet("10.7.0.0/16")).via([10, 1, 0, 1]).mtu(1400).advmss(1300).table(table(1000)),
            "10.7.0.0/16 via 10.1.0.1 mtu 1400 advmss 1300 table 1000",
        ),
        (
            Route::to(subnet("10.8.0.0/16"))
                .hop(NextHop::via([10, 1, 0, 1]).weight(2))
                .hop(NextHop::via([10, 9, 0, 1]).dev(&eth1)),
            "10.8.0.0/16 nexthop via 10.1.0.1 weight 2 nexthop via 10.9.0.1 dev eth1 weight 1",
        ),
        (Route::blackhole(subnet("10.10.0.0/16")), "blackhole 10.10.0.0/16"),
        (Route::unreachable(subnet("10.11.0.0/16")).metric(9), "unreachable 10.11.0.0/16 metric 9"),
        (Route::prohibit(subnet("10.12.0.0/16")), "prohibit 10.12.0.0/16"),
        (Route::throw(subnet("10.13.0.0/16")).table(table(100)), "throw 10.13.0.0/16 table 100"),
        (Route::local(subnet("10.14.0.0/16")).dev(name("lo")), "local 10.14.0.0/16 dev lo"),
        (
            Route::to(subnet("10.15.0.0/16")).dev(&eth0).scope(Scope::GLOBAL).protocol(RouteProtocol::STATIC),
            "10.15.0.0/16 dev eth0 scope global proto static",
        ),
        (Route::default_v6().via(v6("fd00::1")), "-6 default via fd00::1"),
        (Route::to(subnet("fd20::/64")).dev(&eth0).metric(50), "-6 fd20::/64 dev eth0 metric 50"),
        (
            Route::to(subnet("fd21::/64")).via(v6("fd00::1")).preference(RoutePreference::High).mtu(1400),
            "-6 fd21::/64 via fd00::1 pref high mtu 1400",
        ),
        (
            Route::to(subnet("fd22::/64")).hop(NextHop::via(v6("fd00::1")).weight(3)).hop(NextHop::via(v6("fd09::1"))),
            "-6 fd22::/64 nexthop via fd00::1 weight 3 nexthop via fd09::1 weight 1",
        ),
        (
            Route::to(subnet("fd23::/64")).via(v6("fe80::1")).dev(&eth1).onlink().table(table(100)),
            "-6 fd23::/64 via fe80::1 dev eth1 onlink table 100",
        ),
        (Route::unreachable(subnet("fd24::/64")), "-6 unreachable fd24::/64"),
        (Route::blackhole(subnet("fd25::/64")), "-6 blackhole fd25::/64"),
        (Route::to(subnet("fd26::/64")).dev(&eth0).source(v6("fd00::2")), "-6 fd26::/64 dev eth0 src fd00::2"),
        (
            Route::to(subnet("fd28::/64")).dev(&eth0).expires(Duration::from_secs(600)),
            "-6 fd28::/64 dev eth0 expires 600",
        ),
    ]
}

fn routes(ns: &Ns) -> Vec<Value> {
    let mut list = ns.ask("-4 route show table all");
    list.extend(ns.ask("-6 route show table all"));
    for route in &mut list {
        // Not at the same moment.
        if let Some(time) = route["expires"].as_u64() {
            assert!(time <= 600 && time > 540, "{route:#}");
            route["expires"] = Value::from(600);
        }
    }
    list
}

#[test]
fn made_as_ip_makes_them_read_and_removed() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let ((ours, _a), (theirs, _b)) = (wired(), wired());
        let before = routes(&ours);
        assert_eq!(before, routes(&theirs));
        for (route, words) in cases() {
            ours.with_net(async |net| net.add_route(&route).await.unwrap_or_else(|error| panic!("{words}: {error:#}")));
            let (family, words) = words.strip_prefix("-6 ").map_or(("-4", words), |words| ("-6", words));
            let proto = if words.contains("proto") { "" } else { " proto 107" };
            let nexthop = words.find(" nexthop").unwrap_or(words.len());
            let (start, hops) = words.split_at(nexthop);
            theirs.ip(&format!("{family} route add {start}{proto}{hops}"));
        }
        assert_eq!(routes(&ours), routes(&theirs));
        // Each is read as what it was made from.
        ours.with_net(async |net| {
            let list = net.routes(&RouteFilter::default()).await.expect("list");
            for (route, words) in cases() {
                let found =
                    list.iter().find(|found| found.destination == route.destination && found.table == route.table);
                let found = found.unwrap_or_else(|| panic!("{words} is not in {list:#?}"));
                assert_eq!(found.kind, route.kind, "{words}");
                assert_eq!(found.protocol, Some(route.protocol.unwrap_or(RouteProtocol::VETHNET)), "{words}");
                assert_eq!((found.mtu, found.advmss, found.source), (route.mtu, route.advmss, route.source), "{words}");
                let default = if route.destination.is_ipv4() { None } else { Some(1024) };
                assert_eq!(found.metric, route.metric.or(default), "{words}");
                assert_eq!(found.hops.len(), route.hops.len(), "{words}: {found}");
                for wish in &route.hops {
                    let same = |hop: &&NextHop| {
                        hop.via == wish.via && hop.is_onlink == wish.is_onlink && hop.weight == wish.weight
                    };
                    assert!(found.hops.iter().any(|hop| same(&hop)), "{words}: {found:#?}");
                }
                assert_eq!(found.expires.is_some(), route.expires.is_some(), "{words}");
            }
            // And removed as read.
            for route in list.iter().filter(|route| route.protocol != Some(RouteProtocol::KERNEL)) {
                assert!(net.remove_route(route).await.expect("remove"), "{route}");
                assert!(!net.remove_route(route).await.expect("again"), "{route}");
            }
        });
        assert_eq!(routes(&ours), before);
    });
}

#[test]
fn read_as_ip_reads_them() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let (ns, _other) = wired();
        ns.ip("route add 10.20.0.0/16 nexthop via 10.1.0.1 weight 5 nexthop via 10.9.0.1 onlink dev eth1");
        ns.ip("route add 10.21.0.0/16 via 10.1.0.1 proto bird realm 5 quickack 1 mtu lock 1300");
        ns.ip("route add default via 10.1.0.1 metric 7");
        ns.ip("route add default via 10.9.0.1 metric 8 table 5000");
        ns.ip("route add 10.22.0.0/16 encap ip id 5 dst 192.0.2.9 via 10.1.0.1 dev eth0");
        ns.ip("nexthop add id 7 via 10.1.0.1 dev eth0");
        ns.ip("route add 10.23.0.0/16 nhid 7");
        ns.ip("-6 route add fd33::/64 via fd00::1 pref low metric 3");
        ns.ip("link set eth1 down");
        let (list, indices) = ns.with_net(async |net| {
            let links = net.links().await.expect("links");
            let indices: BTreeMap<u32, String> = links.into_iter().map(|link| (link.index, link.name)).collect();
            (net.routes(&RouteFilter::default()).await.expect("list"), indices)
        });
        let listed = routes(&ns);
        let ours: Vec<_> = list.iter().map(|route| format!("{} {route}", route.destination)).collect();
        let theirs: Vec<_> = listed.iter().map(|item| item["dst"].to_string()).collect();
        assert_eq!(list.len(), listed.len(), "{ours:#?} {theirs:#?}");
        let dev = |hop: &NextHop| match &hop.dev {
            Some(LinkRef::Index(index)) => indices.get(index).cloned(),
            _ => None,
        };
        for (found, item) in list.iter().zip(&listed) {
            let destination = if found.is_default() { "default".into() } else { found.destination.to_string() };
            let destination = destination.trim_end_matches("/32").trim_end_matches("/128");
            // The tunnel's end has the same name in ip's words.
            if item["encap"].is_null() {
                assert_eq!(Some(destination), item["dst"].as_str(), "{item:#}");
            }
            assert_eq!(Some(found.kind.to_string().as_str()), item["type"].as_str(), "{item:#}");
            let table = item["table"].as_str().unwrap_or("main");
            assert_eq!(found.table.to_string(), table, "{item:#}");
            let protocol = found.protocol.expect("protocol");
            let bird = if protocol.number() == 12 { "bird".into() } else { protocol.to_string() };
            assert_eq!(Some(bird.as_str()), item["protocol"].as_str(), "{item:#}");
            assert_eq!(found.metric.map(u64::from), item["metric"].as_u64(), "{item:#}");
            assert_eq!(found.source.map(|a| a.to_string()).as_deref(), item["prefsrc"].as_str(), "{item:#}");
            if found.destination.is_ipv4() {
                assert_eq!(found.scope.map(|scope| scope.to_string()).as_deref(), item["scope"].as_str(), "{item:#}");
            }
            assert_eq!(found.nexthop_id.map(u64::from), item["nhid"].as_u64(), "{item:#}");
            let mtu = item["metrics"][0]["mtu"].as_u64();
            assert_eq!(found.mtu.map(u64::from), mtu, "{item:#}");
            match (found.hops.as_slice(), item["nexthops"].as_array()) {
                (hops, Some(nexthops)) => {
                    assert_eq!(hops.len(), nexthops.len());
                    for (hop, item) in hops.iter().zip(nexthops) {
                        assert_eq!(hop.via.map(|a| a.to_string()).as_deref(), item["gateway"].as_str());
                        assert_eq!(dev(hop).as_deref(), item["dev"].as_str());
                        assert_eq!(u64::from(hop.weight), item["weight"].as_u64().expect("weight"));
                        let flags = item["flags"].as_array().expect("flags");
                        assert_eq!(hop.is_onlink, flags.contains(&"onlink".into()));
                        assert_eq!(hop.is_dead, flags.contains(&"dead".into()));
                    }
                }
                ([hop], None) => {
                    assert_eq!(hop.via.map(|a| a.to_string()).as_deref(), item["gateway"].as_str(), "{item:#}");
                    assert_eq!(dev(hop).as_deref(), item["dev"].as_str(), "{item:#}");
                    let flags = item["flags"].as_array().expect("flags");
                    assert_eq!(hop.is_dead, flags.contains(&"dead".into()), "{item:#}");
                    assert_eq!(hop.is_link_down, flags.contains(&"linkdown".into()), "{item:#}");
                }
                (hops, None) => assert!(hops.is_empty() && found.kind != RouteKind::Unicast, "{item:#}"),
            }
        }
    });
}

#[test]
fn the_kernel_filters() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let (ns, _other) = wired();
        for index in 0..20 {
            ns.ip(&format!("route add 10.30.{index}.0/24 via 10.1.0.1 table 77 proto static"));
        }
        ns.ip("route add 10.31.0.0/24 dev eth1 table 77 proto 107");
        ns.ip("route add blackhole 10.32.0.0/24 table 77");
        ns.ip("-6 route add fd40::/64 dev eth1 table 77 proto 107");
        ns.with_net(async |net| {
            let count = async |filter: RouteFilter| net.routes(&filter).await.expect("list").len();
            let all = || RouteFilter::default().table(table(77));
            assert_eq!(count(all()).await, 23);
            assert_eq!(count(all().ipv4()).await, 22);
            assert_eq!(count(all().ipv6()).await, 1);
            assert_eq!(count(all().dev(name("eth1"))).await, 2);
            assert_eq!(count(all().protocol(RouteProtocol::VETHNET)).await, 2);
            assert_eq!(count(all().kind(RouteKind::Blackhole)).await, 1);
            assert_eq!(count(RouteFilter::default().table(table(78))).await, 0, "a table that is not there");
            let error = net.routes(&all().dev(name("none"))).await.expect_err("no interface");
            assert_eq!(error.kind(), ErrorKind::NotFound);
        });
    });
}

#[test]
fn ensured_twice_is_one_event() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let (ns, _other) = wired();
        let mut cases = cases();
        // What runs out is set anew each time.
        cases.retain(|(route, _)| route.expires.is_none());
        let ensure = || {
            ns.with_net(async |net| {
                for (route, words) in &cases {
                    net.ensure_route(route).await.unwrap_or_else(|error| panic!("{words}: {error:#}"));
                }
            });
        };
        let first = ns.events("route", ensure);
        assert!(first.len() >= cases.len(), "{first:#?}");
        let before = routes(&ns);
        let second = ns.events("route", ensure);
        assert!(second.is_empty(), "{second:#?}");
        assert_eq!(routes(&ns), before);
    });
}

#[test]
fn ensured_is_adapted_or_refused() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let (ns, _other) = wired();
        ns.with_net(async |net| {
            for (first, then, want) in [
                (Route::default_v4().via([10, 1, 0, 1]), Route::default_v4().via([10, 9, 0, 1]), "10.9.0.1"),
                (Route::default_v6().via(address("fd00::1")), Route::default_v6().via(address("fd09::1")), "fd09::1"),
            ] {
                net.ensure_route(&first).await.expect("made");
                net.ensure_route(&then).await.expect("adapted");
                let family = if first.destination.is_ipv4() { "-4" } else { "-6" };
                let list = ns.ask(&format!("{family} route show default"));
                assert_eq!((list.len(), list[0]["gateway"].as_str()), (1, Some(want)), "{list:#?}");
            }
            ns.ip("route add 10.50.0.0/16 via 10.1.0.1 proto static");
            let ours = Route::to(subnet("10.50.0.0/16")).via([10, 9, 0, 1]);
            let error = net.ensure_route(&ours).await.expect_err("another's");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
            assert!(
                error.hint().is_some_and(|hint| hint.contains("proto static") && hint.contains("10.1.0.1")),
                "{error:#}"
            );
            let error = net.add_route(&ours).await.expect_err("there");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
            assert!(!net.remove_route(ours.clone().protocol(RouteProtocol::VETHNET)).await.expect("not ours"));
            net.replace_route(&ours).await.expect("replaced");
            let list = ns.ask("route show 10.50.0.0/16");
            assert_eq!((list.len(), list[0]["gateway"].as_str()), (1, Some("10.9.0.1")), "{list:#?}");
            assert!(net.remove_route(Route::to(subnet("10.50.0.0/16"))).await.expect("removed"));
        });
        assert!(ns.ask("route show 10.50.0.0/16").is_empty());
    });
}

#[test]
fn looked_up_as_ip_route_get() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let (ns, _other) = wired();
        ns.ip("route add default via 10.1.0.1");
        ns.ip("-6 route add default via fd00::1");
        ns.ip("route add default via 10.9.0.1 table 100");
        ns.ip("rule add fwmark 5 lookup 100");
        ns.ip("rule add uidrange 4242-4242 lookup 100");
        ns.sysctl("ipv4.ip_forward", "1");
        ns.with_net(async |net| {
            let world = [198, 51, 100, 7];
            for (lookup, args) in [
                (RouteLookup::to(world), "198.51.100.7"),
                (RouteLookup::to(world).mark(5), "198.51.100.7 mark 5"),
                (RouteLookup::to(world).uid(4242), "198.51.100.7 uid 4242"),
                (RouteLookup::to([10, 9, 0, 1]), "10.9.0.1"),
                (RouteLookup::to([10, 9, 0, 1]).from([10, 1, 0, 2]), "10.9.0.1 from 10.1.0.2"),
                (RouteLookup::to([10, 9, 0, 1]).oif(name("eth0")), "10.9.0.1 oif eth0"),
                (
                    RouteLookup::to([10, 9, 0, 1]).from([10, 1, 0, 1]).iif(name("eth0")),
                    "10.9.0.1 from 10.1.0.1 iif eth0",
                ),
                (RouteLookup::to([127, 0, 0, 1]), "127.0.0.1"),
                (RouteLookup::to([0xfd00, 0, 0, 0, 0, 0, 0, 2]), "fd00::2"),
                (RouteLookup::to(address("2001:db8::7")), "2001:db8::7"),
            ] {
                let route = net.route_to(lookup).await.unwrap_or_else(|error| panic!("{args}: {error:#}"));
                let list = ns.ask(&format!("route get {args}"));
                let item = list.first().expect("a route");
                let [hop] = route.hops.as_slice() else { panic!("{args}: {route:#?}") };
                assert_eq!(hop.via.map(|a| a.to_string()).as_deref(), item["gateway"].as_str(), "{args}");
                assert_eq!(route.source.map(|a| a.to_string()).as_deref(), item["prefsrc"].as_str(), "{args}");
                assert_eq!(Some(route.kind.to_string().as_str()), item["type"].as_str().or(Some("unicast")), "{args}");
                assert_eq!(route.table.to_string(), item["table"].as_str().unwrap_or("main"), "{args}");
            }
        });
    });
}

/// Where packets of many flows come out: through both ways, in about the shares that were asked for.
#[test]
fn packets_share_the_ways() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let (ns, other) = wired();
        // By ports as well: one address sends to one.
        ns.sysctl("ipv4.fib_multipath_hash_policy", "1");
        for setting in ["all", "eth0", "eth1"] {
            other.sysctl(&format!("ipv4.conf.{setting}.rp_filter"), "0");
        }
        other.ip("address add 192.0.2.1/32 dev lo");
        ns.with_net(async |net| {
            let route = Route::to(subnet("192.0.2.1/32"))
                .hop(NextHop::via([10, 1, 0, 1]).weight(3))
                .hop(NextHop::via([10, 9, 0, 1]));
            net.add_route(route).await.expect("add");
        });
        let server = other.udp("192.0.2.1:7000");
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..200 {
            let client = ns.udp("0.0.0.0:0");
            client.send_to(b"x", "192.0.2.1:7000").expect("send");
            let (_, from) = server.recv_from(&mut [0; 4]).expect("a packet");
            *seen.entry(from.ip().to_string()).or_default() += 1;
        }
        // The address a packet was sent from is that of the way it took.
        let (three, one) = (seen["10.1.0.2"], seen["10.9.0.2"]);
        assert_eq!(three + one, 200);
        assert!((110..190).contains(&three) && one > 10, "{seen:?}");
    });
}

/// A container with one address and a gateway that is in no range of its own, as clouds and routed networks have it; and an
/// IPv4 destination behind an IPv6 gateway.
#[test]
fn packets_through_gateways_that_no_route_leads_to() {
    faultkit::require!(root, program("ip"), program("ping"));
    isolated!(|| {
        let (ns, other) = (Ns::new(), Ns::new());
        ns.wire("eth0", &other, "eth0");
        ns.with_net(async |net| {
            net.add_address(name("eth0"), "10.77.0.2/32".parse::<vethnet::IpNet>().expect("net"))
                .await
                .expect("address");
            let error = net.add_route(Route::default_v4().via([169, 254, 1, 1])).await.expect_err("not on link");
            assert_eq!(error.raw_os_error(), Some(libc::ENETUNREACH), "{error:#}");
            assert!(error.hint().is_some_and(|hint| hint.contains("onlink")), "{error:#}");
            let route = Route::default_v4().via([169, 254, 1, 1]).dev(name("eth0")).onlink();
            net.add_route(route).await.expect("onlink");
        });
        other.with_net(async |net| {
            net.add_address(name("eth0"), "169.254.1.1/32".parse::<vethnet::IpNet>().expect("net"))
                .await
                .expect("address");
            net.add_route(Route::to(subnet("10.77.0.2/32")).dev(name("eth0"))).await.expect("route back");
        });
        other.ip("address add 198.51.100.1/32 dev lo");
        assert!(ns.pings("198.51.100.1"));

        other.ip("address add fd00::1/64 dev eth0 nodad");
        ns.ip("address add fd00::2/64 dev eth0 nodad");
        other.ip("address add 203.0.113.9/32 dev lo");
        ns.with_net(async |net| {
            // The gateway is looked for from the interface's link-local address.
            let list = net.addresses_on(name("eth0")).await.expect("list");
            let own = list.iter().find(|found| found.scope == Scope::LINK).expect("a link-local address");
            net.address_is_usable(name("eth0"), own, Duration::from_secs(20)).await.expect("usable");
            let route = Route::to(subnet("203.0.113.0/24")).via(address("fd00::1")).dev(name("eth0"));
            net.add_route(route).await.expect("by IPv6");
            assert!(net.remove_route(Route::default_v4()).await.expect("remove"));
        });
        assert!(ns.pings("203.0.113.9"));
        assert!(!ns.pings("198.51.100.1"), "the default route is gone");
    });
}
