//! Containers that send what they should not.

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::process::Command;
use std::time::Duration;

use vethnet::Attach;

use super::world::{Ns, StateDir, Uplink, WORLD, network, wait};

/// A router advertisement to all nodes, of a default route and of the prefix fd66::/64.
const ADVERTISE: &str = r#"
import socket, struct, sys
raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xc0, 3600, 3600, 0) + socket.inet_pton(socket.AF_INET6, "fd66::")
for _ in range(3):
    raw.sendto(struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix, ("ff02::1", 0, 0, socket.if_nametoindex("eth0")))
"#;

fn advertise(netns: &Ns) {
    netns.run(|| {
        let status = Command::new("python3").args(["-c", ADVERTISE]).status().expect("python3");
        assert!(status.success());
    });
    std::thread::sleep(Duration::from_millis(200));
}

fn learned(netns: &Ns) -> bool {
    let seen = netns.output("ip", "-6 address") + &netns.output("ip", "-6 route");
    seen.contains("fd66") || seen.contains("proto ra")
}

/// CVE-2020-10749 and its like.
#[test]
fn a_rogue_router_advertisement_gives_nobody_anything() {
    faultkit::require!(root, program("ip"), program("python3"));
    isolated!(|| {
        let state = StateDir::new();
        let network = state.network().subnet("fd09::/64".parse().expect("range"));
        let (rogue, sibling) = (Ns::new(), Ns::new());
        // Or it would be a second before it may send.
        rogue.run(|| std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").expect("accept_dad"));
        wait(async {
            let first = network.attach(&rogue, &Attach::new("rogue"), &mut ()).await.expect("rogue");
            let second = network.attach(&sibling, &Attach::new("sibling"), &mut ()).await.expect("sibling");
            advertise(&rogue);
            assert!(!learned(&sibling) && !learned(&Ns::host()));
            // It is a good one: who listens, learns.
            sibling.run(|| {
                for file in ["accept_ra", "autoconf"] {
                    std::fs::write(format!("/proc/sys/net/ipv6/conf/eth0/{file}"), "1").expect("sysctl");
                }
            });
            advertise(&rogue);
            assert!(learned(&sibling), "nothing was advertised");
            assert!(!learned(&Ns::host()));
            first.detach().await.expect("detach");
            second.detach().await.expect("detach");

            // With the guard it does not even arrive.
            let network = network.guard();
            let first = network.attach(&rogue, &Attach::new("rogue"), &mut ()).await.expect("rogue");
            let second = network.attach(&sibling, &Attach::new("sibling"), &mut ()).await.expect("sibling");
            sibling.run(|| std::fs::write("/proc/sys/net/ipv6/conf/eth0/accept_ra", "1").expect("sysctl"));
            advertise(&rogue);
            assert!(!learned(&sibling));
            first.detach().await.expect("detach");
            second.detach().await.expect("detach");
        });
    });
}

/// CVE-2020-8558: what is sent to 127.0.0.1 at the host's hardware address.
#[test]
fn the_hosts_own_loopback_is_not_reached() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let state = StateDir::new();
        let service = TcpListener::bind("127.0.0.1:81").expect("bind");
        for network in [state.network(), state.network().localhost()] {
            let netns = Ns::new();
            wait(async {
                let attachment = network.attach(&netns, &Attach::new("a"), &mut ()).await.expect("attach");
                // In the container 127.0.0.0/8 is no loopback any more, but behind the host.
                netns.output("ip", "address del 127.0.0.1/8 dev lo");
                netns.run(|| std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").expect("sysctl"));
                netns.output("ip", "route add 127.0.0.0/8 via 10.209.0.1 dev eth0");
                netns.seen_at(Ipv4Addr::LOCALHOST, 81).expect_err("the host's own service");
                let sent = netns.ip("-s link show eth0")[0]["stats64"]["tx"]["packets"].as_u64().expect("packets");
                assert!(sent > 0, "nothing was sent");
                attachment.detach().await.expect("detach");
            });
        }
        service.set_nonblocking(true).expect("nonblocking");
        assert!(service.accept().is_err(), "somebody came");
    });
}

#[test]
fn with_the_guard_nobody_sends_as_somebody_else() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let state = StateDir::new();
        for guarded in [false, true] {
            let network = if guarded { state.network().guard() } else { state.network() };
            let (a, b) = (Ns::new(), Ns::new());
            wait(async {
                let first = network.attach(&a, &Attach::new("a"), &mut ()).await.expect("a");
                let second = network.attach(&b, &Attach::new("b"), &mut ()).await.expect("b");
                let host = UdpSocket::bind((first.gateway(), 83)).expect("bind");
                let send = |from: IpAddr, arrives: bool| {
                    let wait = Duration::from_millis(if arrives { 5000 } else { 200 });
                    host.set_read_timeout(Some(wait)).expect("timeout");
                    b.run(|| UdpSocket::bind((from, 0)).and_then(|socket| socket.send_to(b"x", (first.gateway(), 83))))
                        .expect("send");
                    assert_eq!(host.recv(&mut [0; 8]).is_ok(), arrives, "from {from}, guarded: {guarded}");
                };
                send(second.address(), true);
                // As its neighbour; and with another hardware address.
                b.output("ip", &format!("address add {}/22 dev eth0", first.address()));
                send(first.address(), !guarded);
                b.output("ip", &format!("address del {}/22 dev eth0", first.address()));
                b.output("ip", "link set eth0 address 02:00:00:00:00:99");
                send(second.address(), !guarded);
                first.detach().await.expect("detach");
                second.detach().await.expect("detach");
            });
        }
        assert!(Ns::host().ruleset().is_empty());
    });
}

/// What is beyond the host sees no address that is not the network's, whatever the machine's own settings are: of IPv6 there
/// is no rp_filter, and of IPv4 that of `all` may be the looser one and wins.
#[test]
fn a_forged_source_does_not_leave_the_machine() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let host = Ns::host();
        std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").expect("accept_dad");
        let uplink = Uplink::new();
        host.output("ip", "address add 2001:db8::1/64 dev up0 nodad");
        uplink.0.output("ip", "address add 2001:db8::2/64 dev wan0 nodad");
        host.output("ip", "route add default via 192.0.2.2");
        host.output("ip", "-6 route add default via 2001:db8::2");
        for (file, value) in
            [("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1"), ("ipv4/conf/all/rp_filter", "2")]
        {
            std::fs::write(format!("/proc/sys/net/{file}"), value).expect(file);
        }
        uplink.0.output("nft", "add table netdev sniff");
        uplink.0.output("nft", "add chain netdev sniff in { type filter hook ingress device wan0 priority 0 ; }");
        for what in ["udp dport 98", "ip protocol udp udp dport 99", "ip6 nexthdr udp udp dport 99"] {
            uplink.0.output("nft", &format!("add rule netdev sniff in {what} counter"));
        }
        let seen = || {
            let rules = uplink.0.output("nft", "list chain netdev sniff in");
            let counts = rules.lines().filter_map(|line| line.split_once("packets ")?.1.split(' ').next());
            counts.map(|count| count.parse().expect("a number")).collect::<Vec<u64>>()
        };
        let both = |network: vethnet::Network| network.subnet("fd09::/64".parse().expect("range"));
        let routed = vethnet::Network::routed("pods".parse().expect("name"), "10.40.0.0/16".parse().expect("range"));
        let plain = network("cellkit0", "10.209.0.0/22", &state.path());
        for (index, network) in
            [plain.clone(), both(plain.clone()), both(plain).guard(), both(routed).state_dir(state.path())]
                .into_iter()
                .enumerate()
        {
            let netns = Ns::new();
            wait(async {
                let attachment = network.attach(&netns, &Attach::new("a"), &mut ()).await.expect("attach");
                netns.output("ip", "address add 198.51.100.7/32 dev eth0");
                netns.output("ip", "-6 address add 2001:db8:66::7/64 dev eth0 nodad");
                if attachment.ipv6().is_none() {
                    // Nobody tells it the way, but it knows the host's hardware address.
                    let mac = host.ip("link show cellkit0")[0]["address"].as_str().expect("mac").to_owned();
                    netns.output("ip", &format!("-6 neigh add fe80::1 lladdr {mac} dev eth0 nud permanent"));
                    netns.output("ip", "-6 route add default via fe80::1 dev eth0");
                }
                let send = |from: IpAddr, to: IpAddr, port: u16| {
                    let sent = || UdpSocket::bind((from, 0)).and_then(|socket| socket.send_to(b"x", (to, port)));
                    netns.run(sent).expect("send");
                };
                for _ in 0..3 {
                    send(attachment.address(), WORLD, 98);
                    send([198, 51, 100, 7].into(), WORLD, 99);
                    send("2001:db8:66::7".parse().expect("address"), "2001:db8::2".parse().expect("address"), 99);
                    std::thread::sleep(Duration::from_millis(50));
                }
                attachment.detach().await.expect("detach");
            });
            assert_eq!(
                seen(),
                [3 * (index as u64 + 1), 0, 0],
                "as itself, and of IPv4 and IPv6 from another's: {index}"
            );
        }
        uplink.remove();
        for (file, value) in
            [("ipv4/ip_forward", "0"), ("ipv6/conf/all/forwarding", "0"), ("ipv4/conf/all/rp_filter", "0")]
        {
            std::fs::write(format!("/proc/sys/net/{file}"), value).expect(file);
        }
    });
}
