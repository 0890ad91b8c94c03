//! What a container on a bridge may send, frame by frame, and what spoofing gains it.

use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use vethnet::{ErrorKind, MacAddr, Nat};

use super::world::{Bridge, HOST, Ns, Server, World, ip, port, settle, silence, told, wait};

/// A packet socket on `eth0`.
fn eth0(ns: &Ns) -> OwnedFd {
    ns.run(|| {
        let all = nix::ifaddrs::getifaddrs().expect("getifaddrs");
        let mut links = all.filter(|link| link.interface_name == "eth0").filter_map(|link| link.address);
        let link: LinkAddr = *links.find_map(|address| address.as_link_addr().copied()).as_ref().expect("eth0");
        let socket =
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll).expect("socket");
        bind(socket.as_raw_fd(), &link).expect("bind");
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(50)).expect("timeout");
        socket
    })
}

/// Those of the frames that arrive, by their names.
fn arrive<'a>(from: &Ns, to: &Ns, frames: &[(&'a str, Vec<u8>)]) -> Vec<&'a str> {
    let (sender, receiver) = (eth0(from), eth0(to));
    for (name, frame) in frames {
        send(sender.as_raw_fd(), frame, MsgFlags::empty()).unwrap_or_else(|errno| panic!("{name}: {errno}"));
    }
    let mut arrived = Vec::new();
    let (start, mut buffer) = (Instant::now(), [0; 2048]);
    while start.elapsed() < Duration::from_millis(200) {
        let Ok(length) = recv(receiver.as_raw_fd(), &mut buffer, MsgFlags::empty()) else { continue };
        // Where frames on bridges pass nf_tables, the padding is cut off.
        // And a virtual LAN is told beside the frame.
        let is = |frame: &[u8]| {
            let frame = if frame[12..14] == [0x81, 0] { [&frame[..12], &frame[16..]].concat() } else { frame.to_vec() };
            length >= 42 && frame.starts_with(&buffer[..length])
        };
        arrived.extend(frames.iter().filter(|(_, frame)| is(frame)).map(|(name, _)| *name));
    }
    frames.iter().map(|(name, _)| *name).filter(|name| arrived.contains(name)).collect()
}

fn mac_of(ns: &Ns) -> MacAddr {
    ns.ip("link show dev eth0")[0]["address"].as_str().expect("address").parse().expect("address")
}

/// To everybody on the link, so that the bridge sends it to each port.
fn frame(source: MacAddr, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &source.bytes(), &ether_type.to_be_bytes(), payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

fn arp(sender: MacAddr, inside: MacAddr, address: IpAddr) -> Vec<u8> {
    let IpAddr::V4(address) = address else { panic!("ARP is of IPv4") };
    let payload =
        [&[0, 1, 8, 0, 6, 4, 0, 2][..], &inside.bytes(), &address.octets(), &[0xff; 6], &address.octets()].concat();
    frame(sender, 0x0806, &payload)
}

/// An IPv4 packet of UDP, or an IPv6 one of ICMPv6 with this message.
fn packet(sender: MacAddr, address: IpAddr, message: &[u8]) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => {
            let mut header =
                [&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0][..], &address.octets(), &[10, 1, 0, 2]].concat();
            // Where frames on bridges pass nf_tables, one with a wrong sum is dropped.
            let sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
            let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            frame(sender, 0x0800, &[&header[..], &[0; 8]].concat())
        }
        IpAddr::V6(address) => {
            let length = u16::try_from(message.len()).expect("short").to_be_bytes();
            let header = [&[0x60, 0, 0, 0][..], &length, &[58, 255], &address.octets()].concat();
            let everybody = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets();
            frame(sender, 0x86dd, &[&header[..], &everybody, message].concat())
        }
    }
}

/// A neighbour's message about this address.
fn neighbour(kind: u8, target: IpAddr) -> Vec<u8> {
    let IpAddr::V6(target) = target else { panic!("ND is of IPv6") };
    [&[kind, 0, 0, 0, 0x20, 0, 0, 0][..], &target.octets()].concat()
}

fn guarded(bridge: &Bridge) -> Nat {
    bridge.nat().guard()
}

async fn guard(nat: &Nat, bridge: &Bridge, host: u8, container: &Ns) {
    let owner = format!("c{host}");
    nat.guard_port(&owner, &bridge.port(host), mac_of(container), &bridge.addresses(host)).await.expect("guard");
}

#[test]
fn a_container_sends_as_itself_and_as_nobody_else() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let bridge = Bridge::new(1);
        let (web, evil) = (bridge.container(2), bridge.container(3));
        let (mac, other) = (mac_of(&evil), mac_of(&web));
        let [four, six] = bridge.addresses(3);
        let [web_four, web_six] = bridge.addresses(2);
        let [gateway, gateway_six] = bridge.addresses(1);
        let none = ip("::");
        let text = evil.output("ip", "-o -6 address show dev eth0 scope link");
        let link_local = text.split_whitespace().find_map(|word| word.strip_suffix("/64")).map(ip).expect("fe80::");
        let good = [
            ("its own ARP", arp(mac, mac, four)),
            ("its own IPv4", packet(mac, four, &[])),
            ("its own IPv6", packet(mac, six, &[128, 0, 0, 0, 0, 0, 0, 1])),
            ("an advertisement of its own address", packet(mac, six, &neighbour(136, six))),
            ("the same from its link-local address", packet(mac, link_local, &neighbour(136, link_local))),
            ("a question for a neighbour", packet(mac, six, &neighbour(135, web_six))),
            ("whether an address is free", packet(mac, none, &neighbour(135, six))),
        ];
        let advertisement = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        let with_header = {
            // The same behind a hop-by-hop header (RFC 8200, 4.3).
            let mut inside = packet(mac, link_local, &[&[58, 0, 1, 4, 0, 0, 0, 0][..], &advertisement].concat());
            inside[20] = 0;
            inside
        };
        let bad = [
            ("ARP for the gateway", arp(mac, mac, gateway)),
            ("ARP for a neighbour", arp(mac, mac, web_four)),
            ("ARP that has another's hardware address inside", arp(mac, other, four)),
            ("ARP from another's hardware address", arp(other, mac, four)),
            ("ARP of no address", arp(mac, mac, ip("0.0.0.0"))),
            ("IPv4 of a neighbour", packet(mac, web_four, &[])),
            ("IPv4 of the gateway", packet(mac, gateway, &[])),
            ("its own IPv4 from another's hardware address", packet(other, four, &[])),
            ("IPv6 of a neighbour", packet(mac, web_six, &[128, 0, 0, 0, 0, 0, 0, 2])),
            ("IPv6 of any link-local address", packet(mac, ip("fe80::1"), &[128, 0, 0, 0, 0, 0, 0, 3])),
            ("its own IPv6 from another's hardware address", packet(other, six, &[128, 0, 0, 0, 0, 0, 0, 4])),
            ("an advertisement of a neighbour's address", packet(mac, six, &neighbour(136, web_six))),
            ("an advertisement of the gateway's address", packet(mac, link_local, &neighbour(136, gateway_six))),
            ("a router advertisement", packet(mac, link_local, &advertisement)),
            ("a router advertisement behind another header", with_header),
            ("a redirect", packet(mac, link_local, &neighbour(137, web_six))),
            ("spanning tree", frame(mac, 0x0026, &[0x42, 0x42, 3, 0, 0, 0])),
            (
                "a frame of a virtual LAN",
                frame(mac, 0x8100, &[&[0, 5, 8, 0][..], &packet(mac, ip("10.1.0.77"), &[])[14..]].concat()),
            ),
            (
                "a frame of a virtual LAN from its own address",
                frame(mac, 0x8100, &[&[0, 5, 8, 0][..], &packet(mac, four, &[])[14..]].concat()),
            ),
            ("another protocol", frame(mac, 0x88b5, b"?")),
        ];
        let names = |frames: &[(&'static str, Vec<u8>)]| frames.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        assert_eq!(arrive(&evil, &web, &good), names(&good));
        assert_eq!(arrive(&evil, &web, &bad), names(&bad), "without a guard everything arrives");
        let nat = guarded(&bridge);
        wait(async {
            nat.ensure().await.expect("ensure");
            guard(&nat, &bridge, 3, &evil).await;
            let mac = mac_of(&evil);
            let error = nat.guard_port("x", &bridge.port(3), mac, &bridge.addresses(4)).await.expect_err("guarded");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
        });
        assert_eq!(arrive(&evil, &web, &good), names(&good));
        assert_eq!(arrive(&evil, &web, &bad), [""; 0]);
        assert_eq!(arrive(&web, &evil, &[("a port without a guard", packet(other, four, &[]))]).len(), 1);
        wait(async {
            nat.unguard_port(&bridge.port(3), mac_of(&evil), &bridge.addresses(3)).await.expect("unguard");
            nat.unguard_port(&bridge.port(3), mac_of(&evil), &bridge.addresses(3)).await.expect("again");
            // Where frames on bridges pass the table `inet`, that drops the host's own address in any case.
            let mut arrived = arrive(&evil, &web, &bad);
            arrived.retain(|name| *name != "IPv4 of the gateway");
            assert_eq!(arrived.len(), bad.len() - 1, "{arrived:?}");
            nat.remove().await.expect("remove");
        });
        assert!(Ns::host().ruleset().is_empty(), "both tables");
        bridge.remove();
    });
}

/// What the kernels on both sides make of it, and not only frames.
#[test]
fn whoever_changes_its_addresses_reaches_nobody_and_takes_nothing_over() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let (world, bridge, host) = (World::new(), Bridge::new(1), Ns::host());
        let (web, evil) = (bridge.container(2), bridge.container(3));
        let nat = guarded(&bridge);
        wait(async {
            nat.ensure().await.expect("ensure");
            guard(&nat, &bridge, 2, &web).await;
            guard(&nat, &bridge, 3, &evil).await;
            nat.publish("web", &bridge.addresses(2), &[port("8080:80")]).await.expect("publish");
        });
        let (_web, _evil) = (Server::everywhere(&web, 80, "web"), Server::everywhere(&evil, 80, "evil"));
        let reached = |text: &str| {
            for (family, address) in bridge.addresses(2).into_iter().enumerate() {
                assert!(told(&host, address, 80).expect(text).starts_with("web "), "{text}");
                assert!(told(&world.0, ip(HOST[family]), 8080).expect(text).starts_with("web "), "{text}");
            }
        };
        reached("guarded");
        told(&evil, bridge.addresses(2)[0], 80).expect("as itself");
        told(&evil, bridge.addresses(2)[1], 80).expect("as itself");

        // It takes the neighbour's addresses and says so to everybody.
        evil.run(|| super::world::sysctl("ipv4/conf/eth0/arp_notify", "1"));
        evil.output("ip", "address add 10.1.0.2/24 dev eth0");
        evil.output("ip", "link set eth0 down");
        evil.output("ip", "link set eth0 up");
        evil.output("ip", "address add fd00:1::2/64 dev eth0 nodad");
        reached("while another has its addresses");
        let neighbours = host.output("ip", "neigh show dev br1");
        let spoofed = neighbours.lines().filter(|line| line.starts_with("10.1.0.2 ") || line.starts_with("fd00:1::2 "));
        for line in spoofed {
            assert!(line.contains(&mac_of(&web).to_string()), "{line}");
        }
        evil.output("ip", "address delete 10.1.0.2/24 dev eth0");
        evil.output("ip", "address delete fd00:1::2/64 dev eth0");

        // And its hardware address: the bridge would send it what is for the other.
        evil.output("ip", "link set eth0 down");
        evil.output("ip", &format!("link set eth0 address {}", mac_of(&web)));
        evil.output("ip", "link set eth0 up");
        evil.output("ip", "route replace default via 10.1.0.1");
        silence(&evil, bridge.addresses(1)[0], 22);
        reached("while another has its hardware address");
        settle(&web, bridge.addresses(1)[0]);
        wait(nat.remove()).expect("remove");
        bridge.remove();
        world.remove();
    });
}
