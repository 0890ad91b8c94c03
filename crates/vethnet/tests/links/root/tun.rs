//! Tuns and taps: what a program writes comes in, and what is sent is what it reads.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use serde_json::json;
use vethnet::{ErrorKind, LinkChange, LinkData, Net, Tun};

use super::world::{Ns, wait};
use super::{data, name};

/// In another namespace than that of the thread: an ARP request that a program writes is answered by the kernel.
#[test]
fn frames_pass_in_both_directions() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let (host, a) = (Ns::host(), Ns::new());
        wait(async {
            let net = Net::inside(&a).await.expect("net");
            let queue = net.create_tun(&Tun::tap(name("tap0"))).await.expect("tap");
            assert_eq!((host.links(), a.links()), (vec!["lo".to_owned()], vec!["lo".to_owned(), "tap0".to_owned()]));
            assert_eq!(data(&a, "tap0")["type"], "tap");
            let flags = nix::fcntl::fcntl(&queue, nix::fcntl::FcntlArg::F_GETFD).expect("flags");
            assert_eq!(flags, libc::FD_CLOEXEC);
            a.run(|| std::fs::write("/proc/sys/net/ipv6/conf/tap0/disable_ipv6", "1").expect("no other frames"));
            net.change_link(name("tap0"), &LinkChange::new().mac("02:00:00:00:00:01".parse().expect("mac")).up())
                .await
                .expect("up");
            a.output("ip", "address add 10.0.0.1/24 dev tap0");
            let mut tap = File::from(OwnedFd::from(queue));
            let ask: [u8; 42] = [
                0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 8, 6, // to all, from 02::9, ARP
                0, 1, 8, 0, 6, 4, 0, 1, // Ethernet, IPv4, a request
                2, 0, 0, 0, 0, 9, 10, 0, 0, 9, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1, // 10.0.0.9 asks for 10.0.0.1
            ];
            assert_eq!(tap.write(&ask).expect("write"), ask.len());
            let mut frame = [0; 1514];
            let length = tap.read(&mut frame).expect("read");
            assert_eq!((length, &frame[..14]), (42, &[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 8, 6][..]));
            assert_eq!(frame[20..32], [0, 2, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1], "it is at 02::1");
            let counted = net.link_statistics(name("tap0")).await.expect("statistics");
            assert_eq!((counted.rx_packets, counted.rx_bytes, counted.tx_packets), (1, 42, 1));
            drop(tap);
            assert_eq!(a.links(), ["lo"], "it goes with its last descriptor");
        });
    });
}

#[test]
fn each_option_is_what_ip_shows() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let host = Ns::host();
        wait(async {
            let net = Net::here().await.expect("net");
            let spec =
                Tun::new(name("tun0")).multi_queue().vnet_hdr().persistent().owner(1234).group(2345).nonblocking();
            let first = net.create_tun(&spec).await.expect("create");
            let flags = nix::fcntl::fcntl(&first, nix::fcntl::FcntlArg::F_GETFL).expect("flags");
            assert!(flags & libc::O_NONBLOCK != 0);
            let second = net.open_tun(&spec).await.expect("one queue more");
            let seen = data(&host, "tun0");
            for (option, value) in [
                ("type", json!("tun")),
                ("pi", json!(false)),
                ("vnet_hdr", json!(true)),
                ("multi_queue", json!(true)),
                ("persist", json!(true)),
                ("numqueues", json!(2)),
                ("user", json!(1234)),
                ("group", json!(2345)),
            ] {
                assert_eq!(seen[option], value, "{option}: {seen}");
            }
            let LinkData::Tun(read) = net.link(name("tun0")).await.expect("read").expect("tun0").data.expect("data")
            else {
                panic!("no tun")
            };
            assert!(!read.is_tap && read.persistent && read.multi_queue && read.vnet_hdr);
            assert_eq!((read.owner, read.group), (Some(1234), Some(2345)));
            drop((first, second));
            assert!(host.links().contains(&"tun0".to_owned()), "it stays");
            let again = net.open_tun(&spec).await.expect("open");
            let _ = again.as_fd();

            for (result, kind) in [
                (net.create_tun(&spec).await, ErrorKind::AlreadyExists),
                (net.create_tun(&Tun::tap(name("lo"))).await, ErrorKind::AlreadyExists),
                (net.open_tun(&Tun::tap(name("tun0"))).await, ErrorKind::Invalid),
                (net.open_tun(&Tun::tap(name("lo"))).await, ErrorKind::Invalid),
                (net.open_tun(&Tun::tap(name("none"))).await, ErrorKind::NotFound),
            ] {
                let error = result.expect_err("wrong");
                assert_eq!(error.kind(), kind, "{error:#}");
                assert!(error.hint().is_some(), "{error:#}");
            }
            net.remove_link(name("tun0")).await.expect("remove");
            let single = net.create_tun(&Tun::tap(name("tap0"))).await.expect("tap");
            let error = net.open_tun(&Tun::tap(name("tap0"))).await.expect_err("it has one queue");
            assert_eq!(error.kind(), ErrorKind::Busy, "{error:#}");
            drop(single);
        });
        assert_eq!(host.links(), ["lo"]);
    });
}
