//! Masquerading and published ports.

use std::os::fd::AsRawFd;
use std::time::Instant;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrIn, bind, listen, socket};
use vethnet::ErrorKind;

use super::world::{Bridge, HOST, Ns, Server, WORLD, World, ask, ip, port, silence, told, wait};

/// Of each property, IPv4 first and IPv6 second.
#[test]
fn the_world_and_containers_reach_what_they_should_in_both_families() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let (world, bridge, host) = (World::new(), Bridge::new(1), Ns::host());
        let (web, other) = (bridge.container(2), bridge.container(3));
        let nat = bridge.nat();
        wait(async {
            assert!(nat.ensure().await.expect("ensure"), "made");
            assert!(!nat.ensure().await.expect("again"), "there already");
            nat.publish("web", &bridge.addresses(2), &[port("8080:80")]).await.expect("publish");
        });
        let _web = Server::everywhere(&web, 80, "web");
        let _world = Server::everywhere(&world.0, 81, "world");
        let _host = Server::everywhere(&host, 82, "host");
        // From the world there is a way in, for whoever names the container.
        world.0.output("ip", "route add 10.1.0.0/24 via 192.0.2.1");
        world.0.output("ip", "-6 route add fd00:1::/64 via 2001:db8::1");
        for family in 0..2 {
            let (there, here) = (ip(WORLD[family]), ip(HOST[family]));
            let (gateway, web_at, other_at) =
                (bridge.addresses(1)[family], bridge.addresses(2)[family], bridge.addresses(3)[family]);
            assert_eq!(told(&other, there, 81).expect("the world"), format!("world {here}"), "masqueraded");
            assert_eq!(told(&other, gateway, 82).expect("the host"), format!("host {other_at}"));
            assert_eq!(told(&other, web_at, 80).expect("a neighbour"), format!("web {other_at}"));
            assert_eq!(told(&world.0, here, 8080).expect("published"), format!("web {there}"), "with its own address");
            assert_eq!(told(&host, here, 8080).expect("from the host"), format!("web {here}"));
            assert_eq!(told(&other, here, 8080).expect("from a neighbour"), format!("web {gateway}"));
            assert_eq!(told(&web, here, 8080).expect("from itself"), format!("web {gateway}"));
            silence(&world.0, web_at, 80);
        }
        for localhost in ["127.0.0.1", "::1"] {
            ask(&host, ip(localhost), 8080).expect_err("not on localhost");
        }
        wait(nat.unpublish(&bridge.addresses(2), &[port("8080:80")])).expect("unpublish");
        wait(nat.unpublish(&bridge.addresses(2), &[port("8080:80")])).expect("again");
        for address in HOST {
            let error = ask(&world.0, ip(address), 8080).expect_err("unpublished");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        }
        wait(nat.remove()).expect("remove");
        wait(nat.remove()).expect("again");
        assert!(host.ruleset().is_empty());
        bridge.remove();
        world.remove();
    });
}

#[test]
fn two_containers_have_the_same_port_and_one_family_is_one_family() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let (world, bridge) = (World::new(), Bridge::new(1));
        let (one, two) = (bridge.container(2), bridge.container(3));
        let _servers = [Server::everywhere(&one, 80, "one"), Server::everywhere(&two, 80, "two")];
        let nat = bridge.nat();
        wait(async {
            nat.ensure().await.expect("ensure");
            let ports = [port("0.0.0.0:8080:80"), port("[::]:8081:80"), port("[2001:db8::1]:8082:80")];
            nat.publish("one", &bridge.addresses(2), &ports).await.expect("one");
            let ports = [port("8083:80"), port("[::]:8080:80"), port("[2001:db8::1]:8081:80")];
            nat.publish("two", &bridge.addresses(3), &ports).await.expect("two");
        });
        let who = |address: &str, port| ask(&world.0, ip(address), port).map(|text| text[..3].to_owned());
        for (address, port, expected) in [
            (HOST[0], 8080, Some("one")),
            (HOST[1], 8080, Some("two")),
            (HOST[0], 8081, None),
            // One address goes before every address.
            (HOST[1], 8081, Some("two")),
            (HOST[1], 8082, Some("one")),
            (HOST[0], 8083, Some("two")),
            (HOST[1], 8083, Some("two")),
        ] {
            assert_eq!(who(address, port).ok().as_deref(), expected, "{address} {port}");
        }
        wait(async {
            for (addresses, text) in [
                (&bridge.addresses(2)[..1], "[::]:9000:80"),
                (&bridge.addresses(2)[1..], "192.0.2.1:9000:80"),
                (&bridge.addresses(2)[..], "[::1]:9000:80"),
                (&bridge.addresses(2)[..], "127.0.0.1:9000:80"),
                (&[bridge.addresses(2)[0], bridge.addresses(3)[0]], "9000:80"),
                (&bridge.addresses(2)[..], "192.0.2.77:9000:80"),
            ] {
                let error = nat.publish("x", addresses, &[port("9001:80"), port(text)]).await.expect_err(text);
                assert_eq!(error.kind(), ErrorKind::Invalid, "{text}: {error:#}");
                assert_eq!(error.to_string().lines().count(), 1);
            }
            nat.remove().await.expect("remove");
        });
        bridge.remove();
        world.remove();
    });
}

#[test]
fn a_range_leads_each_port_to_its_own() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let (world, bridge, host) = (World::new(), Bridge::new(1), Ns::host());
        let web = bridge.container(2);
        let nat = bridge.nat();
        let _servers = [Server::everywhere(&web, 9000, "first"), Server::everywhere(&web, 9010, "last")];
        wait(async {
            nat.ensure().await.expect("ensure");
            let range = port("8000-8010:9000-9010");
            nat.publish("web", &bridge.addresses(2), &[range]).await.expect("publish");
            for address in HOST.map(ip) {
                assert!(told(&world.0, address, 8000).expect("the first").starts_with("first "));
                assert!(told(&world.0, address, 8010).expect("the last").starts_with("last "));
                ask(&world.0, address, 8005).expect_err("nobody listens there");
            }
            // Whatever overlaps it is refused by the kernel, and all that was asked for with it.
            let before = host.output("nft", "list ruleset");
            for text in ["8010:80", "7990-8000:1-11", "8003-8004:1-2", "1-65535:1-65535"] {
                let error =
                    nat.publish("x", &bridge.addresses(3), &[port("7000:80"), port(text)]).await.expect_err(text);
                assert_eq!(
                    (error.kind(), error.operation()),
                    (ErrorKind::AlreadyExists, "NFT_MSG_NEWSETELEM"),
                    "{text}"
                );
                assert_eq!(error.subject().expect("subject").to_string(), format!("published port {}", port(text)));
                assert_eq!(host.output("nft", "list ruleset"), before);
            }
            // One that somebody took away does not keep the others.
            host.output("nft", "delete element inet nat1 published4 { tcp . 8004 }");
            nat.unpublish(&bridge.addresses(2), &[range]).await.expect("unpublish");
            assert!(!host.output("nft", "list ruleset").contains("tcp ."), "nothing of it is left");

            let range = port("10000-29999:10000-29999/udp");
            let start = Instant::now();
            nat.publish("media", &bridge.addresses(2), &[range]).await.expect("a long one");
            let (published, start) = (start.elapsed(), Instant::now());
            nat.unpublish(&bridge.addresses(2), &[range]).await.expect("unpublish");
            println!("20,000 ports of two families: published in {published:?}, unpublished in {:?}", start.elapsed());
            nat.remove().await.expect("remove");
        });
        bridge.remove();
        world.remove();
    });
}

/// Published, a port of the host is taken from its programs: so one that is in use is refused.
#[test]
fn a_port_that_a_program_uses_is_refused() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let (world, bridge, host) = (World::new(), Bridge::new(1), Ns::host());
        let nat = bridge.nat();
        wait(nat.ensure()).expect("ensure");
        for (address, texts) in [
            ("2001:db8::1", ["8080:80", "[::]:8080:80", "[2001:db8::1]:8079-8080:1-2"]),
            ("192.0.2.1", ["8080:80", "0.0.0.0:8080:80", "192.0.2.1:8080:80"]),
        ] {
            let _server = Server::new(&host, ip(address), 8080, "program");
            for text in texts {
                let error = wait(nat.publish("web", &bridge.addresses(2), &[port(text)])).expect_err(text);
                assert_eq!((error.kind(), error.operation()), (ErrorKind::AlreadyExists, "bind"), "{text}: {error:#}");
            }
        }
        wait(nat.remove()).expect("remove");
        bridge.remove();
        world.remove();
    });
}

/// The same of SCTP, which not every kernel has sockets of.
#[test]
fn a_port_that_a_program_of_sctp_uses_is_refused() {
    faultkit::require!(root, vm, program("nft"));
    isolated!(|| {
        let (world, bridge) = (World::new(), Bridge::new(1));
        let nat = bridge.nat();
        wait(nat.ensure()).expect("ensure");
        let server = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, SockProtocol::Sctp);
        let server = server.expect("a socket of SCTP");
        bind(server.as_raw_fd(), &SockaddrIn::new(192, 0, 2, 1, 8080)).expect("bind");
        listen(&server, Backlog::new(1).expect("one")).expect("listen");
        for text in ["8080:80/sctp", "192.0.2.1:8079-8080:1-2/sctp"] {
            let error = wait(nat.publish("web", &bridge.addresses(2), &[port(text)])).expect_err(text);
            assert_eq!((error.kind(), error.operation()), (ErrorKind::AlreadyExists, "bind"), "{text}: {error:#}");
            assert!(error.to_string().contains(":8080/sctp"), "{error}");
        }
        wait(nat.publish("web", &bridge.addresses(2), &[port("8080:80")])).expect("of TCP it is free");
        drop(server);
        wait(nat.remove()).expect("remove");
        bridge.remove();
        world.remove();
    });
}
