//! Published ports.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use vethnet::{Attach, ErrorKind, PublishedPort};

use super::world::{HOST, Ns, StateDir, Uplink, WORLD, wait};

fn port(text: &str) -> PublishedPort {
    text.parse().expect(text)
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let network = state.network();
        let uplink = Uplink::new();
        let host = Ns::host();
        let (web, other) = (Ns::new(), Ns::new());
        wait(async {
            let spec = Attach::new("web").publish(port("8080:80"));
            network.check(&spec).await.expect("check");
            let first = network.attach(&web, &spec, &mut ()).await.expect("web");
            let second = network.attach(&other, &Attach::new("other"), &mut ()).await.expect("other");
            let _server = web.serve(80);
            let gateway = first.gateway();

            assert_eq!(uplink.0.reaches(HOST, 8080).expect("from the world"), WORLD, "with its own address");
            assert_eq!(host.reaches(HOST, 8080).expect("from the host"), HOST);
            assert_eq!(host.reaches(gateway, 8080).expect("from the host, by the bridge's address"), gateway);
            assert_eq!(other.reaches(HOST, 8080).expect("from another container"), gateway);
            assert_eq!(other.reaches(gateway, 8080).expect("the same, by the gateway"), gateway);
            assert_eq!(web.reaches(HOST, 8080).expect("from itself"), gateway);
            let refused = host.seen_at(Ipv4Addr::LOCALHOST, 8080).expect_err("not on 127.0.0.1");
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
            host.seen_at(HOST, 8081).expect_err("another port");

            first.detach().await.expect("detach");
            uplink.0.seen_at(HOST, 8080).expect_err("after detaching");
            second.detach().await.expect("detach");
        });
        uplink.remove();
    });
}

#[test]
fn a_published_port_takes_only_traffic_to_the_host() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let network = state.network();
        let uplink = Uplink::new();
        let (dns, other) = (Ns::new(), Ns::new());
        wait(async {
            let first = network.attach(&dns, &Attach::new("dns").publish(port("53:53")), &mut ()).await.expect("dns");
            let second = network.attach(&other, &Attach::new("other"), &mut ()).await.expect("other");
            let _ours = dns.serve(53);
            let _theirs = uplink.0.serve(53);
            // The server in the world sees the host, the one in the container would see the gateway.
            assert_eq!(other.reaches(WORLD, 53).expect("a name server elsewhere"), HOST);
            assert_eq!(other.reaches(HOST, 53).expect("the published one"), first.gateway());
            first.detach().await.expect("detach");
            second.detach().await.expect("detach");
        });
        uplink.remove();
    });
}

#[test]
fn one_address_of_the_host_and_udp() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let network = state.network();
        let uplink = Uplink::new();
        let host = Ns::host();
        host.output("ip", "address add 192.0.2.10/24 dev up0");
        let (one, two) = (Ns::new(), Ns::new());
        wait(async {
            let first = Attach::new("one").publish(port("192.0.2.1:80:80")).publish(port("5353:53/udp"));
            let first = network.attach(&one, &first, &mut ()).await.expect("one");
            let second = Attach::new("two").publish(port("192.0.2.10:80:80"));
            let second = network.attach(&two, &second, &mut ()).await.expect("two");
            // Only one of them answers, so which is reached can be told.
            let server = one.serve(80);
            assert_eq!(uplink.0.reaches(HOST, 80).expect("one"), WORLD);
            uplink.0.seen_at(Ipv4Addr::new(192, 0, 2, 10), 80).expect_err("two has no server");
            drop(server);
            let _server = two.serve(80);
            assert_eq!(uplink.0.reaches(Ipv4Addr::new(192, 0, 2, 10), 80).expect("two"), WORLD);

            let inside = one.run(|| UdpSocket::bind("0.0.0.0:53").expect("bind"));
            let outside = uplink.0.run(|| UdpSocket::bind("0.0.0.0:0").expect("bind"));
            inside.set_read_timeout(Some(Duration::from_secs(2))).expect("timeout");
            outside.send_to(b"ping", (HOST, 5353)).expect("send");
            let mut buffer = [0; 8];
            let (length, peer) = inside.recv_from(&mut buffer).expect("receive");
            assert_eq!((&buffer[..length], peer.ip()), (&b"ping"[..], WORLD));

            // As nft shows it.
            let maps: Vec<_> = host.ruleset().into_iter().filter_map(|item| item.get("map").cloned()).collect();
            let published = maps.iter().find(|map| map["name"] == "published4").expect("map");
            assert_eq!(published["type"], serde_json::json!(["inet_proto", "inet_service"]));
            let (key, target) = (&published["elem"][0][0]["elem"], &published["elem"][0][1]);
            assert_eq!(key["comment"], "one");
            assert_eq!(key["val"]["concat"], serde_json::json!(["udp", 5353]));
            assert_eq!(target["concat"], serde_json::json!([first.address().to_string(), 53]));
            let at = maps.iter().find(|map| map["name"] == "published4_at").expect("map");
            assert_eq!(at["elem"].as_array().expect("elements").len(), 2);
            assert_eq!(at["type"], serde_json::json!(["ipv4_addr", "inet_proto", "inet_service"]));

            first.detach().await.expect("detach");
            second.detach().await.expect("detach");
        });
        uplink.remove();
    });
}

/// The rules are those that nft(8) makes from their text, bit by bit.
#[test]
fn the_table_is_what_its_documentation_says() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let netns = Ns::new();
        let written = r#"table inet cellkit0 {
    comment "made by vethnet"
    set links { type ifname; elements = { "cellkit0" }; }
    set subnets4 { type ipv4_addr; flags interval; elements = { 10.209.0.0/22 }; }
    set subnets6 { type ipv6_addr; flags interval; }
    set masquerade4 { type ipv4_addr; flags interval; elements = { 10.209.0.0/22 }; }
    set masquerade6 { type ipv6_addr; flags interval; }
    map published4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
    map published4_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
    map published6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
    map published6_at { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
    chain guard {
        type filter hook prerouting priority raw; policy accept;
        iifname != @links accept
        ip saddr 127.0.0.0/8 drop
        ip daddr 127.0.0.0/8 drop
        ip6 saddr :: accept
        fib saddr . iif oif missing drop
    }
    chain prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        meta nfproto ipv4 fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @published4_at
        meta nfproto ipv4 fib daddr type local dnat ip to meta l4proto . th dport map @published4
        meta nfproto ipv6 fib daddr type local dnat ip6 to ip6 daddr . meta l4proto . th dport map @published6_at
        meta nfproto ipv6 fib daddr type local dnat ip6 to meta l4proto . th dport map @published6
    }
    chain output {
        type nat hook output priority -100; policy accept;
        ip daddr != 127.0.0.0/8 fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @published4_at
        ip daddr != 127.0.0.0/8 fib daddr type local dnat ip to meta l4proto . th dport map @published4
        ip6 daddr != ::1 fib daddr type local dnat ip6 to ip6 daddr . meta l4proto . th dport map @published6_at
        ip6 daddr != ::1 fib daddr type local dnat ip6 to meta l4proto . th dport map @published6
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr @masquerade4 oifname != @links masquerade
        ip saddr @subnets4 oifname @links ct status dnat masquerade
        ip6 saddr @masquerade6 oifname != @links masquerade
        ip6 saddr @subnets6 oifname @links ct status dnat masquerade
    }
    chain forward {
        type filter hook forward priority filter; policy accept;
        ct state established,related accept
        iifname @links oifname != @links ct status dnat drop
        oifname != @links accept
        ct status dnat accept
        iifname != @links drop
    }
    chain leave {
        type filter hook postrouting priority filter; policy accept;
        oifname @links accept
        oifname "lo" accept
        ip daddr @subnets4 drop
        ip6 daddr @subnets6 drop
    }
}
"#;
        let reference = Ns::new();
        let dir = faultkit::TempDir::new();
        let file = dir.path().join("table.nft");
        std::fs::write(&file, written).expect("write");
        reference.output("nft", &format!("-f {}", file.display()));
        wait(async {
            let attachment = state.network().attach(&netns, &Attach::new("a"), &mut ()).await.expect("attach");
            assert_eq!(Ns::host().output("nft", "list ruleset"), reference.output("nft", "list ruleset"));
            attachment.detach().await.expect("detach");
        });
    });
}

#[test]
fn ports_that_are_taken() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let network = state.network();
        let host = Ns::host();
        let (one, two) = (Ns::new(), Ns::new());
        wait(async {
            let attachment =
                network.attach(&one, &Attach::new("one").publish(port("8080:80")), &mut ()).await.expect("one");
            // By another container.
            let spec = Attach::new("two").publish(port("8080:81"));
            for error in [
                network.check(&spec).await.expect_err("check"),
                network.attach(&two, &spec, &mut ()).await.expect_err("attach"),
            ] {
                assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::AlreadyExists, Some(libc::EADDRINUSE)));
                assert!(error.hint().expect("hint").contains("\"one\""), "{error:#}");
            }
            // By a program.
            let server = host.serve(8081);
            let spec = Attach::new("two").publish(port("8081:80"));
            for error in [
                network.check(&spec).await.expect_err("check"),
                network.attach(&two, &spec, &mut ()).await.expect_err("attach"),
            ] {
                assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::AlreadyExists, Some(libc::EADDRINUSE)));
                assert_eq!(error.to_string(), r#"bind "0.0.0.0:8081/tcp": address already in use (EADDRINUSE)"#);
            }
            drop(server);
            let socket = UdpSocket::bind("0.0.0.0:8082").expect("bind");
            let spec = Attach::new("two").publish(port("8082:80/udp"));
            assert_eq!(network.check(&spec).await.expect_err("udp").kind(), ErrorKind::AlreadyExists);
            drop(socket);
            // An address that the host has not.
            let spec = Attach::new("two").publish(port("203.0.113.1:80:80"));
            assert_eq!(network.check(&spec).await.expect_err("address").kind(), ErrorKind::Invalid);
            // The element of somebody who did not ask: it stays.
            host.output("nft", "add element inet cellkit0 published4 { tcp . 99 : 10.209.0.77 . 99 }");
            let spec = Attach::new("two").publish(port("98:98")).publish(port("99:99"));
            let error = network.attach(&two, &spec, &mut ()).await.expect_err("taken");
            assert_eq!((error.kind(), error.operation()), (ErrorKind::AlreadyExists, "NFT_MSG_NEWSETELEM"));
            assert_eq!(error.subject().expect("subject").to_string(), "published port 99:99/tcp");
            assert!(error.kernel_text().is_some(), "the kernel says where: {error:#}");
            let text = host.output("nft", "list map inet cellkit0 published4");
            assert!(text.contains("tcp . 99 : 10.209.0.77 . 99") && !text.contains("tcp . 98"), "{text}");
            attachment.detach().await.expect("detach");
        });
        assert_eq!(state.files(), [""; 0]);
    });
}

/// A socket in the container that answers each datagram with a word.
fn answer(netns: &Ns, word: &'static str, rounds: usize) -> std::thread::JoinHandle<()> {
    let socket = netns.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).expect("bind"));
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        for _ in 0..rounds {
            let (_, from) = socket.recv_from(&mut buffer).expect("asked");
            socket.send_to(word.as_bytes(), from).expect("answer");
        }
    })
}

/// The kernel's list of connections of the host.
fn flows_with(address: std::net::IpAddr) -> usize {
    let list = std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").expect("nf_conntrack");
    list.lines().filter(|line| line.contains(&format!("={address} "))).count()
}

/// A client that goes on with the same port is one connection to the kernel, however long it rests.
#[test]
fn a_connection_does_not_outlive_its_container() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let network = state.network();
        let uplink = Uplink::new();
        let (first, second, other) = (Ns::new(), Ns::new(), Ns::new());
        wait(async {
            let spec = |owner: &str| Attach::new(owner).publish(port("5353:53/udp"));
            let stays = network.attach(&other, &Attach::new("stays"), &mut ()).await.expect("stays");
            let client = uplink.0.run(|| UdpSocket::bind((WORLD, 40_000)).expect("bind"));
            client.set_read_timeout(Some(Duration::from_millis(1500))).expect("timeout");
            let ask = || {
                let mut buffer = [0; 64];
                client.send_to(b"who", (HOST, 5353)).expect("send");
                let length = client.recv(&mut buffer)?;
                Ok::<_, std::io::Error>(String::from_utf8_lossy(&buffer[..length]).into_owned())
            };
            let _world = uplink.0.serve(82);
            other.reaches(WORLD, 82).expect("a connection of the one that stays");
            let others = flows_with(stays.address());
            assert_eq!(others, 1);

            let one = network.attach(&first, &spec("one"), &mut ()).await.expect("one");
            let server = answer(&first, "one", 1);
            assert_eq!(ask().expect("answered"), "one");
            server.join().expect("server");
            first.reaches(WORLD, 82).expect("a connection to the world");
            assert_eq!(flows_with(one.address()), 2, "in and out");
            one.detach().await.expect("detach");
            assert_eq!(flows_with(one.address()), 0, "those of both directions are forgotten");

            let two = network.attach(&second, &spec("two"), &mut ()).await.expect("two");
            assert_ne!(two.address(), one.address());
            let server = answer(&second, "two", 1);
            assert_eq!(ask().expect("answered by the one that is there"), "two");
            server.join().expect("server");
            two.detach().await.expect("detach");
            assert_eq!(flows_with(stays.address()), others, "those of others stay");
            stays.detach().await.expect("detach");
        });
        uplink.remove();
    });
}
