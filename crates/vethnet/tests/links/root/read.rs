//! What is read of links, against `ip -j -d link` and `ip -s`.

use serde_json::{Value, json};
use vethnet::{LinkChange, Net, OperState};

use super::name;
use super::world::{Ns, wait};

/// Every link of a namespace with many kinds, field by field.
#[test]
fn every_field_is_what_ip_shows() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let (host, a) = (Ns::host(), Ns::new());
        for make in [
            "add br0 type bridge",
            "add v0 mtu 1400 txqueuelen 9 numtxqueues 2 type veth peer name v1",
            "add m0 link v0 type macvlan mode bridge",
            "add i0 type ifb",
            "add x0 type vxlan id 7 dstport 4789 remote 192.0.2.1",
            "set v1 master br0 group 4 alias this-is-v1",
            "property add dev v1 altname another altname and-another",
            "set v1 up",
            "set br0 up",
            "set br0 addrgenmode none",
        ] {
            host.output("ip", &format!("link {make}"));
        }
        host.output("ip", "tuntap add t0 mode tap");
        wait(async {
            let net = Net::here().await.expect("net");
            net.create_link(&vethnet::Veth::new(name("w0"), name("w1")).peer_netns(&a).up()).await.expect("w0");
            // What changes by itself, the state of the carrier, has settled when two looks agree.
            let (read, shown) = loop {
                let (before, read, after) = (host.ip("link"), net.links().await.expect("links"), host.ip("link"));
                let state = |all: &Value| {
                    all.as_array().expect("list").iter().map(|link| link["operstate"].clone()).collect::<Vec<_>>()
                };
                if state(&before) == state(&after) {
                    break (read, after);
                }
            };
            let shown = shown.as_array().expect("list");
            assert_eq!(read.len(), shown.len());
            for (ours, theirs) in read.iter().zip(shown) {
                let of = |index: Option<u32>| {
                    index.map(|index| {
                        read.iter()
                            .find(|link| link.index == index)
                            .map_or_else(|| json!(index), |link| json!(link.name))
                    })
                };
                let text = &ours.name;
                assert_eq!(json!(ours.index), theirs["ifindex"], "{text}");
                assert_eq!(json!(ours.name), theirs["ifname"], "{text}");
                assert_eq!(json!(ours.mtu), theirs["mtu"], "{text}");
                assert_eq!(json!(ours.mtu_range.0), theirs["min_mtu"], "{text}");
                assert_eq!(json!(ours.mtu_range.1), theirs["max_mtu"], "{text}");
                assert_eq!(json!(ours.tx_queues), theirs["num_tx_queues"], "{text}");
                assert_eq!(json!(ours.rx_queues), theirs["num_rx_queues"], "{text}");
                assert_eq!(json!(ours.promiscuity), theirs["promiscuity"], "{text}");
                assert_eq!(json!(ours.alias), theirs["ifalias"], "{text}");
                assert_eq!(json!(of(ours.master)), theirs["master"], "{text}");
                assert_eq!(json!(ours.kind), theirs["linkinfo"]["info_kind"], "{text}");
                assert_eq!(ours.port.is_some(), theirs["linkinfo"]["info_slave_kind"] == "bridge", "{text}");
                assert_eq!(json!(ours.parent_netns_id), theirs["link_netnsid"], "{text}");
                let parent = if theirs["link_index"].is_null() {
                    of(ours.parent)
                } else {
                    ours.parent.map(|index| json!(index))
                };
                let their_parent = if theirs["link_index"].is_null() { &theirs["link"] } else { &theirs["link_index"] };
                assert_eq!(&json!(parent), their_parent, "{text}");
                assert_eq!(
                    if ours.group == 0 { json!("default") } else { json!(ours.group.to_string()) },
                    theirs["group"],
                    "{text}"
                );
                if ours.txqueuelen != 0 {
                    assert_eq!(json!(ours.txqueuelen), theirs["txqlen"], "{text}");
                }
                if let Some(mac) = ours.mac {
                    assert_eq!(json!(mac.to_string()), theirs["address"], "{text}");
                }
                let altnames = if ours.altnames.is_empty() { json!(null) } else { json!(ours.altnames) };
                assert_eq!(altnames, theirs["altnames"], "{text}");
                let state = match ours.oper_state {
                    OperState::Unknown => "UNKNOWN",
                    OperState::Up => "UP",
                    OperState::Down => "DOWN",
                    OperState::LowerLayerDown => "LOWERLAYERDOWN",
                    other => panic!("{other:?}"),
                };
                assert_eq!(state, theirs["operstate"], "{text}");
                let flags = theirs["flags"].as_array().expect("flags");
                for (flag, word) in [
                    (vethnet::LinkFlag::Up, "UP"),
                    (vethnet::LinkFlag::LowerUp, "LOWER_UP"),
                    (vethnet::LinkFlag::Loopback, "LOOPBACK"),
                    (vethnet::LinkFlag::Broadcast, "BROADCAST"),
                    (vethnet::LinkFlag::Multicast, "MULTICAST"),
                ] {
                    assert_eq!(ours.has(flag), flags.contains(&json!(word)), "{text} {word}");
                }
                let mode =
                    ours.addr_gen_mode.map(|mode| if mode == vethnet::AddrGenMode::None { "none" } else { "eui64" });
                assert_eq!(json!(mode), theirs["inet6_addr_gen_mode"], "{text}");
            }
            assert!(read.iter().all(|link| link.is_up == link.has(vethnet::LinkFlag::Up)));
        });
        for link in ["br0", "v0", "i0", "x0", "t0", "w0"] {
            host.output("ip", &format!("link delete {link}"));
        }
    });
}

/// Of one link and of all, after packets that were counted.
#[test]
fn statistics_are_what_ip_shows() {
    faultkit::require!(root, program("ip"), program("ping"));
    isolated!(|| {
        let (host, a) = (Ns::host(), Ns::new());
        wait(async {
            let net = Net::here().await.expect("net");
            net.create_link(&vethnet::Veth::new(name("v0"), name("v1")).peer_netns(&a).up()).await.expect("v0");
            host.output("ip", "address add 10.0.0.1/24 dev v0");
            a.output("ip", "address add 10.0.0.2/24 dev v1");
            a.output("ip", "link set v1 up");
            host.output("ping", "-c 3 -i 0.01 -W 5 10.0.0.2");
            net.change_link(name("v0"), &LinkChange::new().down()).await.expect("nothing more passes");
            let counted = net.link_statistics(name("v0")).await.expect("statistics");
            let seen = &host.ip("-s -s link show dev v0")[0]["stats64"];
            for (ours, direction, word) in [
                (counted.rx_packets, "rx", "packets"),
                (counted.tx_packets, "tx", "packets"),
                (counted.rx_bytes, "rx", "bytes"),
                (counted.tx_bytes, "tx", "bytes"),
                (counted.rx_dropped, "rx", "dropped"),
                (counted.tx_dropped, "tx", "dropped"),
                (counted.rx_errors, "rx", "errors"),
                (counted.tx_errors, "tx", "errors"),
                (counted.multicast, "rx", "multicast"),
                (counted.collisions, "tx", "collisions"),
                (counted.rx_crc_errors, "rx", "crc_errors"),
                (counted.rx_frame_errors, "rx", "frame_errors"),
                (counted.rx_fifo_errors, "rx", "fifo_errors"),
                (counted.rx_missed_errors, "rx", "missed_errors"),
                (counted.tx_aborted_errors, "tx", "aborted_errors"),
                (counted.tx_window_errors, "tx", "window_errors"),
            ] {
                assert_eq!(json!(ours), seen[direction][word], "{direction} {word}");
            }
            assert!(counted.tx_packets >= 3 && counted.rx_packets >= 3, "{counted:?}");
            let all = net.statistics().await.expect("all");
            let v0 = net.link(name("v0")).await.expect("read").expect("v0");
            assert_eq!(all.len(), 2, "the loopback and this");
            assert!(all.contains(&(v0.index, counted)));
            let error = net.link_statistics(vethnet::LinkRef::Index(4711)).await.expect_err("none");
            assert_eq!(error.kind(), vethnet::ErrorKind::NotFound, "{error:#}");
            net.remove_link(&v0).await.expect("remove");
        });
    });
}
