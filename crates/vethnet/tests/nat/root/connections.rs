//! Connections that the kernel tracks, of UDP, TCP and SCTP.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::world::{Bridge, HOST, Ns, Server, WORLD, World, ip, port, told, wait};

/// How many connections of the protocol the kernel tracks that have one of the addresses in them.
fn tracked(protocol: &str, addresses: &[IpAddr]) -> usize {
    let list = std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").expect("nf_conntrack");
    // As that file has it: all digits of an IPv6 address.
    let words: Vec<_> = addresses
        .iter()
        .map(|address| match address {
            IpAddr::V4(address) => format!("={address} "),
            IpAddr::V6(address) => {
                let parts: Vec<_> = address.segments().iter().map(|part| format!("{part:04x}")).collect();
                format!("={} ", parts.join(":"))
            }
        })
        .collect();
    let of =
        |line: &str| line.split_whitespace().nth(2) == Some(protocol) && words.iter().any(|word| line.contains(word));
    list.lines().filter(|line| of(line)).count()
}

fn udp(ns: &Ns, address: IpAddr, port: u16) -> UdpSocket {
    let socket = ns.run(|| UdpSocket::bind((address, port)).expect("bind"));
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("timeout");
    socket
}

#[test]
fn connections_end_with_their_container_in_both_directions() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let (world, bridge) = (World::new(), Bridge::new(1));
        let (web, other) = (bridge.container(2), bridge.container(3));
        let nat = bridge.nat();
        let ports = [port("8080:80"), port("5353:53/udp")];
        wait(async {
            nat.ensure().await.expect("ensure");
            nat.publish("web", &bridge.addresses(2), &ports).await.expect("publish");
        });
        let _servers = [Server::everywhere(&web, 80, "web"), Server::everywhere(&world.0, 81, "world")];
        let mut sockets = Vec::new();
        for family in 0..2 {
            let (there, here) = (ip(WORLD[family]), ip(HOST[family]));
            told(&world.0, here, 8080).expect("to it");
            told(&web, there, 81).expect("by it");
            told(&other, there, 81).expect("by another");
            let inside = udp(&web, bridge.addresses(2)[family], 53);
            let outside = udp(&world.0, there, 40_000);
            outside.send_to(b"ping", (here, 5353)).expect("send");
            let (_, peer) = inside.recv_from(&mut [0; 8]).expect("to it");
            assert_eq!(peer.ip(), there);
            inside.send_to(b"ping", (there, 40_000)).expect("by it");
            sockets.push((inside, outside));
        }
        let (mine, others) = (bridge.addresses(2), bridge.addresses(3));
        assert_eq!(tracked("tcp", &mine), 4, "one each way and family");
        assert!(tracked("udp", &mine) >= 2);
        assert_eq!(tracked("tcp", &others), 2);
        wait(nat.unpublish(&mine, &ports)).expect("unpublish");
        assert_eq!((tracked("tcp", &mine), tracked("udp", &mine)), (0, 0));
        assert_eq!(tracked("tcp", &others), 2, "those of others stay");
        // A client that goes on is none of the container's any more.
        for (family, (inside, outside)) in sockets.iter().enumerate() {
            outside.send_to(b"ping", (ip(HOST[family]), 5353)).expect("send");
            inside.recv_from(&mut [0; 8]).expect_err("unpublished");
        }
        wait(nat.remove()).expect("remove");
        drop(sockets);
        bridge.remove();
        world.remove();
    });
}

/// CRC-32C (RFC 9260, appendix A), without which the kernel tracks no SCTP.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

/// The first packet of an association: an INIT chunk (RFC 9260, 3.3.2).
fn init(source: u16, destination: u16) -> Vec<u8> {
    let chunk = [1, 0, 0, 20, 0, 0, 0, 9, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1];
    let mut packet = [&source.to_be_bytes()[..], &destination.to_be_bytes(), &[0; 8], &chunk].concat();
    let sum = crc32c(&packet);
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
    packet
}

/// With packets made by hand: the kernel need not have sockets for it.
#[test]
fn sctp_is_led_to_the_container() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let (world, bridge) = (World::new(), Bridge::new(1));
        let web = bridge.container(2);
        let nat = bridge.nat();
        let (addresses, ports) = (bridge.addresses(2), [port("5000-5009:6000-6009/sctp")]);
        wait(async {
            nat.ensure().await.expect("ensure");
            nat.publish("web", &addresses, &ports).await.expect("publish");
        });
        let raw =
            || socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Sctp).expect("socket");
        let (inside, outside) = (web.run(raw), world.0.run(raw));
        setsockopt(&inside, sockopt::ReceiveTimeout, &TimeVal::milliseconds(800)).expect("timeout");
        let host = SockaddrIn::from(std::net::SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 0));
        sendto(outside.as_raw_fd(), &init(3000, 5007), &host, MsgFlags::empty()).expect("send");
        let mut buffer = [0; 256];
        let length = recv(inside.as_raw_fd(), &mut buffer, MsgFlags::empty()).expect("it arrives");
        let packet = &mut buffer[20..length];
        assert_eq!(packet[..4], [&3000u16.to_be_bytes()[..], &6007u16.to_be_bytes()].concat());
        let sum = packet[8..12].to_vec();
        packet[8..12].fill(0);
        assert_eq!(crc32c(packet).to_le_bytes().to_vec(), sum, "the sum is that of the new port");
        assert_eq!(tracked("sctp", &addresses), 1);
        wait(nat.unpublish(&addresses, &ports)).expect("unpublish");
        assert_eq!(tracked("sctp", &addresses), 0);
        wait(nat.remove()).expect("remove");
        bridge.remove();
        world.remove();
    });
}
