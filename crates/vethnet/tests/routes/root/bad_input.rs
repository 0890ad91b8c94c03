//! What cannot be: typed errors with a subject and a hint, and nothing left.

use nix::unistd::{Uid, seteuid};
use vethnet::{
    Address, ErrorKind, FdbEntry, IpNet, LinkRef, Neighbour, Net, NextHop, Route, RouteKind, RouteTable, Rule, Subnet,
};

use crate::world::{Ns, address, name, wait};

fn net(text: &str) -> IpNet {
    text.parse().expect(text)
}

fn subnet(text: &str) -> Subnet {
    text.parse().expect(text)
}

/// The kind, that a hint has this word, and that the error says what it is about.
#[track_caller]
fn expect<T: std::fmt::Debug>(result: vethnet::Result<T>, kind: ErrorKind, hint: &str) {
    let error = result.expect_err(hint);
    assert_eq!(error.kind(), kind, "{error:#}");
    assert!(error.hint().is_some_and(|text| text.contains(hint)), "{error:#}");
    assert!(error.subject().is_some(), "{error:#}");
}

#[test]
fn a_gateway_that_is_not_on_link() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let ns = Ns::new();
        ns.ip("link add br0 type bridge");
        ns.with_net(async |n| {
            let four = Route::default_v4().via([10, 1, 0, 1]);
            expect(n.add_route(&four).await, ErrorKind::Other, "first give an interface an address");
            expect(n.ensure_route(&four).await, ErrorKind::Other, "onlink");
            expect(n.replace_route(four.clone().dev(name("br0"))).await, ErrorKind::Other, "bring it up");
            let six = Route::default_v6().via(address("fd00::1"));
            expect(n.add_route(&six).await, ErrorKind::Other, "first give an interface an address");
            let down = Route::to(subnet("10.2.0.0/16")).dev(name("br0"));
            expect(n.add_route(&down).await, ErrorKind::Other, "is down");
            expect(n.add_route(down.clone().source([10, 1, 0, 2])).await, ErrorKind::Other, "is down");
            expect(n.route_to([198, 51, 100, 7]).await, ErrorKind::Other, "no route leads there");
            let to = n.route_to(address("2001:db8::7")).await;
            expect(to, ErrorKind::Other, "no route leads there");
        });
        ns.ip("link set br0 up");
        ns.with_net(async |n| {
            let source = Route::to(subnet("10.2.0.0/16")).dev(name("br0")).source([10, 1, 0, 2]);
            expect(n.add_route(source).await, ErrorKind::Invalid, "an address of this machine");
        });
        assert!(ns.ask("-4 route").is_empty());
        ns.ip("route add unreachable 10.3.0.0/16");
        ns.ip("-6 route add unreachable fd03::/16");
        ns.with_net(async |n| {
            expect(n.route_to([10, 3, 0, 1]).await, ErrorKind::Other, "unreachable");
            let route = n.route_to(address("fd03::1")).await;
            assert!(route.is_err(), "{route:?}");
        });
    });
}

#[test]
fn an_interface_that_is_gone() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let ns = Ns::new();
        let gone = name("gone0");
        ns.with_net(async |n| {
            let hint = "no such interface";
            let neighbour = Neighbour::proxy([10, 1, 0, 1]);
            let entry = FdbEntry::in_bridge("02:00:00:00:00:01".parse().expect("mac"));
            let route = Route::default_v4().dev(&gone);
            expect(n.add_address(&gone, net("10.1.0.2/24")).await, ErrorKind::NotFound, hint);
            expect(n.ensure_address(&gone, net("10.1.0.2/24")).await, ErrorKind::NotFound, hint);
            expect(n.addresses_on(&gone).await, ErrorKind::NotFound, hint);
            expect(n.add_route(&route).await, ErrorKind::NotFound, hint);
            expect(n.add_neighbour(&gone, &neighbour).await, ErrorKind::NotFound, hint);
            expect(n.ensure_neighbour(&gone, &neighbour).await, ErrorKind::NotFound, hint);
            expect(n.add_fdb_entry(&gone, &entry).await, ErrorKind::NotFound, hint);
            // What was to be removed is gone with it.
            assert!(!n.remove_address(&gone, net("10.1.0.2/24")).await.expect("address"));
            assert!(!n.remove_route(&route).await.expect("route"));
            assert!(!n.remove_neighbour(&gone, &neighbour).await.expect("neighbour"));
            assert!(!n.remove_fdb_entry(&gone, &entry).await.expect("entry"));
            // By a number that was an interface's.
            let number = || LinkRef::Index(4711);
            expect(n.add_address(number(), net("10.1.0.2/24")).await, ErrorKind::NotFound, "vanished");
            expect(n.add_address(number(), net("fd00::2/64")).await, ErrorKind::NotFound, "vanished");
            expect(n.add_route(Route::default_v4().dev(number())).await, ErrorKind::NotFound, "vanished");
            expect(
                n.add_neighbour(
                    number(),
                    Neighbour::permanent([10, 1, 0, 1], "02:00:00:00:00:01".parse().expect("mac")),
                )
                .await,
                ErrorKind::NotFound,
                "vanished",
            );
            assert!(!n.remove_address(number(), net("10.1.0.2/24")).await.expect("address"));
            assert!(!n.remove_route(Route::default_v4().dev(number())).await.expect("route"));
            assert!(!n.remove_neighbour(number(), &neighbour).await.expect("neighbour"));
            assert!(!n.remove_fdb_entry(number(), &entry).await.expect("entry"));
            let error = n.add_address(LinkRef::Index(0), net("10.1.0.2/24")).await.expect_err("0");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
        });
    });
}

#[test]
fn what_is_there_already() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let ns = Ns::new();
        ns.ip("link add br0 type bridge");
        ns.ip("link set br0 up");
        ns.with_net(async |n| {
            for text in ["10.1.0.2/24", "fd00::2/64"] {
                n.add_address(name("br0"), net(text)).await.expect(text);
                expect(n.add_address(name("br0"), net(text)).await, ErrorKind::AlreadyExists, "ip address");
            }
            for route in [Route::default_v4().dev(name("br0")), Route::default_v6().dev(name("br0"))] {
                n.add_route(&route).await.expect("route");
                expect(n.add_route(&route).await, ErrorKind::AlreadyExists, "another metric");
            }
            let error = n.add_address(name("br0"), net("::1/128")).await;
            expect(error, ErrorKind::Invalid, "loopback");
        });
    });
}

#[test]
fn ipv6_that_is_disabled() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let ns = Ns::new();
        ns.ip("link add br0 type bridge");
        ns.ip("link set br0 up");
        ns.sysctl("ipv6.conf.br0.disable_ipv6", "1");
        ns.with_net(async |n| {
            let hint = "disable_ipv6 to 0";
            expect(n.add_address(name("br0"), net("fd00::2/64")).await, ErrorKind::Permission, hint);
            expect(
                n.ensure_address(name("br0"), Address::new(net("fd00::2/64")).no_dad()).await,
                ErrorKind::Permission,
                hint,
            );
            expect(n.add_route(Route::to(subnet("fd01::/64")).dev(name("br0"))).await, ErrorKind::Permission, hint);
        });
        assert!(ns.addresses("br0").is_empty());
        assert!(ns.ask("-6 route show dev br0").is_empty());
    });
}

/// An ordinary user: what reads works, what changes says what it needs.
#[test]
fn without_cap_net_admin() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let ns = Ns::new();
        ns.ip("link add br0 type bridge");
        let before = (ns.ask("address"), ns.ask("route show table all"), ns.ask("rule"));
        ns.run(|| {
            // Without the user id the effective capabilities go as well, and with it they come back.
            seteuid(Uid::from_raw(65534)).expect("seteuid");
            wait(async {
                let n = Net::here().await.expect("a connection");
                let br0 = || name("br0");
                let hint = "CAP_NET_ADMIN";
                let mac = "02:00:00:00:00:01".parse().expect("mac");
                let entry = FdbEntry::in_bridge(mac);
                let rule = Rule::ipv4().mark(5).lookup(RouteTable::new(100).expect("table"));
                expect(n.add_address(br0(), net("10.1.0.2/24")).await, ErrorKind::Permission, hint);
                expect(n.ensure_address(br0(), net("fd00::2/64")).await, ErrorKind::Permission, hint);
                expect(n.remove_address(br0(), net("10.1.0.2/24")).await, ErrorKind::Permission, hint);
                expect(n.add_route(Route::default_v4().dev(br0())).await, ErrorKind::Permission, hint);
                expect(n.remove_route(Route::default_v4()).await, ErrorKind::Permission, hint);
                expect(n.ensure_rule(&rule).await, ErrorKind::Permission, hint);
                expect(n.remove_rule(&rule).await, ErrorKind::Permission, hint);
                expect(
                    n.ensure_neighbour(br0(), Neighbour::permanent([10, 1, 0, 1], mac)).await,
                    ErrorKind::Permission,
                    hint,
                );
                expect(n.remove_neighbour(br0(), Neighbour::proxy([10, 1, 0, 1])).await, ErrorKind::Permission, hint);
                expect(n.add_fdb_entry(br0(), &entry).await, ErrorKind::Permission, hint);
                expect(n.remove_fdb_entry(br0(), &entry).await, ErrorKind::Permission, hint);
                assert!(!n.addresses().await.expect("addresses").is_empty());
                assert!(!n.routes(&vethnet::RouteFilter::default()).await.expect("routes").is_empty());
                assert!(!n.rules().await.expect("rules").is_empty());
                n.neighbours().await.expect("neighbours");
                n.proxies().await.expect("proxies");
                n.fdb_entries().await.expect("fdb");
                assert_eq!(n.route_to([127, 0, 0, 1]).await.expect("route").kind, RouteKind::Local);
            });
            seteuid(Uid::from_raw(0)).expect("seteuid");
        });
        assert_eq!((ns.ask("address"), ns.ask("route show table all"), ns.ask("rule")), before);
    });
}

/// The netns of a connection that outlives it: what was in it is gone, and the connection is all that holds it.
#[test]
fn a_network_namespace_that_nobody_else_has() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let ns = Ns::new();
        wait(async {
            let n = Net::inside(&ns).await.expect("a connection");
            drop(ns);
            n.add_address(name("lo"), net("10.1.0.2/24")).await.expect("still there");
            assert!(n.addresses().await.expect("list").iter().any(|found| found.address == net("10.1.0.2/24")));
        });
        // What is no network namespace.
        let error = wait(Net::inside(std::fs::File::open("/proc/self/ns/uts").expect("uts"))).expect_err("uts");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
        assert!(error.hint().is_some_and(|hint| hint.contains("ns/net")), "{error:#}");
    });
}

#[test]
fn wrong_routes_and_neighbours_are_refused_before_any_effect() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let ns = Ns::new();
        let before = ns.ask("route show table all");
        let lo = || name("lo");
        let to = || Route::to(subnet("10.2.0.0/16"));
        let six = || Route::to(subnet("fd02::/16"));
        ns.with_net(async |n| {
            for (route, why) in [
                (to(), "say where it leads"),
                (Route::blackhole(subnet("10.2.0.0/16")).dev(lo()), "no next hop"),
                (to().dev(lo()).preference(vethnet::RoutePreference::High), "only IPv6"),
                (to().dev(lo()).from(subnet("10.0.0.0/8")), "only IPv6"),
                (to().dev(lo()).source(address("fd00::1")), "other family"),
                (six().dev(lo()).scope(vethnet::Scope::LINK), "only IPv4"),
                (six().via([10, 0, 0, 1]), "IPv4 gateway"),
                (six().dev(lo()).expires(std::time::Duration::ZERO), "gone before"),
                (to().via([10, 0, 0, 1]).onlink(), "onlink needs"),
                (to().dev(lo()).onlink(), "onlink is about"),
                (to().via([0, 0, 0, 0]), "no host's"),
                (to().via([224, 0, 0, 1]), "no host's"),
                (to().hop(NextHop::via([10, 0, 0, 1]).weight(0)).hop(NextHop::on(lo())), "weight"),
                (to().hop(NextHop::default()).hop(NextHop::on(lo())), "a gateway, an interface"),
            ] {
                for error in [n.add_route(&route).await, n.ensure_route(&route).await, n.replace_route(&route).await] {
                    let error = error.expect_err(why);
                    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
                    assert!(error.to_string().contains(why), "{error}");
                }
            }
            let mut bare = Neighbour::stale([10, 0, 0, 1], "02:00:00:00:00:01".parse().expect("mac"));
            bare.mac = None;
            for (neighbour, why) in [
                (bare, "has a hardware address"),
                (Neighbour::proxy([10, 0, 0, 1]).router(), "only IPv6"),
                (Neighbour::proxy([0, 0, 0, 0]), "no host's"),
            ] {
                let error = n.ensure_neighbour(lo(), &neighbour).await.expect_err(why);
                assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
                assert!(error.to_string().contains(why), "{error}");
            }
            let entry = || FdbEntry::in_bridge("02:00:00:00:00:01".parse().expect("mac"));
            for (entry, why) in [
                (entry().vlan(0), "VLANs"),
                (entry().vlan(4095), "VLANs"),
                (entry().destination([10, 0, 0, 1]), "only a VXLAN's"),
                (FdbEntry::flood([10, 0, 0, 1]).port(0), "a port is"),
                (FdbEntry::flood([10, 0, 0, 1]).vni(1 << 24), "24 bits"),
                (entry().dynamic().sticky(), "sticky"),
            ] {
                let error = n.ensure_fdb_entry(lo(), &entry).await.expect_err(why);
                assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
                assert!(error.to_string().contains(why), "{error}");
            }
            let other = Route::to(subnet("10.2.0.0/16")).dev(lo());
            let mut other = other;
            other.kind = RouteKind::Other(77);
            expect(n.add_route(&other).await, ErrorKind::Invalid, "");
        });
        assert_eq!(ns.ask("route show table all"), before);
    });
}
