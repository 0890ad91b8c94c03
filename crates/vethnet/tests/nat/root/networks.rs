//! Networks beside each other, and one without a bridge.

use std::os::fd::{AsFd, AsRawFd};

use vethnet::{IfName, Nat};

use super::world::{
    Bridge, HOST, Ns, Server, WORLD, World, ask, ip, name, namespace, port, settle, silence, sysctl, told, wait,
};

/// Neither by their addresses nor by the ports that they publish, in neither direction; but for one that is open.
#[test]
fn containers_of_one_network_do_not_reach_those_of_another() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let (world, one, two) = (World::new(), Bridge::new(1), Bridge::new(2));
        let (a, b) = (one.container(2), two.container(2));
        let _servers = [Server::everywhere(&a, 80, "a"), Server::everywhere(&b, 80, "b")];
        let (first, second) = (one.nat(), two.nat());
        wait(async {
            first.ensure().await.expect("first");
            second.ensure().await.expect("second");
            first.publish("a", &one.addresses(2), &[port("8081:80")]).await.expect("a");
            second.publish("b", &two.addresses(2), &[port("8082:80")]).await.expect("b");
        });
        for family in 0..2 {
            let host = ip(HOST[family]);
            for (from, bridge, port) in [(&a, &two, 8082), (&b, &one, 8081)] {
                silence(from, bridge.addresses(2)[family], 80);
                silence(from, host, port);
                silence(from, bridge.addresses(1)[family], port);
            }
            for port in [8081, 8082] {
                told(&world.0, host, port).expect("the world reaches both");
            }
            assert!(told(&a, host, 8081).expect("its own network's").starts_with("a "));
        }
        // It is for each network to say.
        wait(first.remove()).expect("remove");
        let first = one.nat().open();
        wait(async {
            first.ensure().await.expect("ensure");
            first.publish("a", &one.addresses(2), &[port("8081:80")]).await.expect("a");
        });
        for family in 0..2 {
            let host = ip(HOST[family]);
            assert!(told(&a, host, 8082).expect("the other's port, like the world").starts_with("b "));
            silence(&a, two.addresses(2)[family], 80);
            silence(&b, host, 8081);
        }
        wait(async {
            first.remove().await.expect("remove");
            second.remove().await.expect("remove");
        });
        one.remove();
        two.remove();
        world.remove();
    });
}

/// A container behind a link of its own: 10.9.0.N and fd00:9::N.
fn routed(number: u8) -> (Ns, IfName) {
    let (netns, host) = (namespace(), Ns::host());
    let link = name(&format!("r{number}"));
    let path = format!("/proc/{}/fd/{}", std::process::id(), netns.as_fd().as_raw_fd());
    host.output("ip", &format!("link add {link} type veth peer name eth0 netns {path}"));
    host.output("ip", &format!("address add fe80::1/64 dev {link} nodad"));
    host.output("ip", &format!("address add 169.254.1.1/32 dev {link}"));
    host.output("ip", &format!("link set {link} up"));
    host.output("ip", &format!("route add 10.9.0.{number}/32 dev {link}"));
    host.output("ip", &format!("-6 route add fd00:9::{number}/128 dev {link}"));
    netns.output("ip", &format!("address add 10.9.0.{number}/32 dev eth0"));
    netns.output("ip", &format!("address add fd00:9::{number}/128 dev eth0 nodad"));
    netns.output("ip", "link set eth0 up");
    netns.output("ip", "route add default via 169.254.1.1 dev eth0 onlink");
    netns.output("ip", "-6 route add default via fe80::1 dev eth0");
    settle(&netns, ip("192.0.2.1"));
    settle(&netns, ip("2001:db8::1"));
    (netns, link)
}

fn routed_nat() -> Nat {
    let subnets = ["10.9.0.0/24", "fd00:9::/64"].map(|text| text.parse().expect(text));
    Nat::new(name("routed")).subnet(subnets[0]).subnet(subnets[1])
}

#[test]
fn without_a_bridge_each_link_is_the_networks() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let world = World::new();
        let (web, web_link) = routed(2);
        let (other, other_link) = routed(3);
        let addresses = [ip("10.9.0.2"), ip("fd00:9::2")];
        let _servers = [Server::everywhere(&web, 80, "web"), Server::everywhere(&world.0, 81, "world")];
        let nat = routed_nat().guard();
        wait(async {
            nat.ensure().await.expect("ensure");
            nat.add_link("web", &web_link).await.expect("web");
            nat.add_link("other", &other_link).await.expect("other");
            nat.publish("web", &addresses, &[port("8080:80")]).await.expect("publish");
        });
        world.0.output("ip", "route add 10.9.0.0/24 via 192.0.2.1");
        world.0.output("ip", "-6 route add fd00:9::/64 via 2001:db8::1");
        for family in 0..2 {
            let (host, there) = (ip(HOST[family]), ip(WORLD[family]));
            assert_eq!(told(&web, there, 81).expect("the world"), format!("world {host}"), "masqueraded");
            assert_eq!(told(&world.0, host, 8080).expect("published"), format!("web {there}"));
            told(&other, addresses[family], 80).expect("one of the network");
            told(&other, host, 8080).expect("by its published port");
            told(&web, host, 8080).expect("from itself");
            silence(&world.0, addresses[family], 80);
        }
        // Whoever takes another's address sends to nobody.
        other.output("ip", "address add 10.9.0.2/32 dev eth0");
        other.output("ip", "address add fd00:9::2/128 dev eth0 nodad");
        other.output("ip", "route replace default via 169.254.1.1 dev eth0 onlink src 10.9.0.2");
        other.output("ip", "-6 route replace default via fe80::1 dev eth0 src fd00:9::2");
        for there in WORLD {
            silence(&other, ip(there), 81);
        }
        // A link that is taken away is closed, and what is for its container does not leave by another.
        wait(nat.remove_link(&web_link)).expect("remove");
        wait(nat.remove_link(&web_link)).expect("again");
        for family in 0..2 {
            silence(&world.0, ip(HOST[family]), 8080);
        }
        wait(nat.remove()).expect("remove");
        for link in [web_link, other_link] {
            Ns::host().output("ip", &format!("link delete {link}"));
        }
        world.remove();
    });
}

#[test]
fn containers_may_be_apart_and_keep_their_addresses() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let world = World::new();
        let (web, web_link) = routed(2);
        let (other, other_link) = routed(3);
        let addresses = [ip("10.9.0.2"), ip("fd00:9::2")];
        let _servers = [Server::everywhere(&web, 80, "web"), Server::everywhere(&world.0, 81, "world")];
        world.0.output("ip", "route add 10.9.0.0/24 via 192.0.2.1");
        world.0.output("ip", "-6 route add fd00:9::/64 via 2001:db8::1");
        let nat = routed_nat().apart().keep_addresses();
        wait(async {
            nat.ensure().await.expect("ensure");
            nat.add_link("web", &web_link).await.expect("web");
            nat.add_link("other", &other_link).await.expect("other");
            nat.publish("web", &addresses, &[port("8080:80")]).await.expect("publish");
        });
        for family in 0..2 {
            silence(&other, addresses[family], 80);
            told(&other, ip(HOST[family]), 8080).expect("what is published is for everybody");
            assert_eq!(told(&web, ip(WORLD[family]), 81).expect("the world"), format!("world {}", addresses[family]));
        }
        wait(nat.remove()).expect("remove");
        for link in [web_link, other_link] {
            Ns::host().output("ip", &format!("link delete {link}"));
        }
        world.remove();
    });
}

/// Packets for a container that has gone do not leave by the default route.
#[test]
fn nothing_for_a_container_leaves_by_the_uplink() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let (world, bridge, host) = (World::new(), Bridge::new(1), Ns::host());
        let nat = bridge.nat();
        wait(nat.ensure()).expect("ensure");
        host.output("ip", "route add default via 192.0.2.2");
        host.output("ip", "-6 route add default via 2001:db8::2");
        sysctl("ipv4/conf/all/send_redirects", "0");
        world.0.output("ip", "route add 10.1.0.0/24 via 192.0.2.1");
        world.0.output("ip", "-6 route add fd00:1::/64 via 2001:db8::1");
        // With the bridge its routes are gone.
        let addresses = bridge.addresses(2);
        bridge.remove();
        world.0.output("nft", "add table inet count");
        world.0.output("nft", "add chain inet count in { type filter hook prerouting priority 0; }");
        world.0.output("nft", "add rule inet count in ip daddr 10.1.0.0/24 counter");
        world.0.output("nft", "add rule inet count in ip6 daddr fd00:1::/64 counter");
        let seen = || world.0.output("nft", "list table inet count").matches("counter packets 0 ").count();
        for address in addresses {
            ask(&host, address, 80).expect_err("nobody");
            ask(&world.0, address, 80).expect_err("nobody");
        }
        assert_eq!(seen(), 2, "none came");
        wait(nat.remove()).expect("remove");
        for address in addresses {
            ask(&host, address, 80).expect_err("nobody");
        }
        assert_eq!(seen(), 0, "without the table they do");
        host.output("ip", "route delete default via 192.0.2.2");
        host.output("ip", "-6 route delete default via 2001:db8::2");
        sysctl("ipv4/conf/all/send_redirects", "1");
        world.remove();
    });
}
