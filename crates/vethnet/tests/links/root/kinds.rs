//! Links of the other kinds: each option as `ip` shows it, and packets that pass.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Value, json};
use vethnet::{
    Dummy, ErrorKind, Ifb, Ipvlan, IpvlanFlow, IpvlanMode, LinkData, LinkSpec, Macvlan, MacvlanMode, Net, Veth, Vlan,
    VlanProtocol, Vxlan,
};

use super::world::{Ns, wait};
use super::{data, name, shown};

/// Makes each, compares, ensures it, and removes it. Then the same of a plain one that was there: either it becomes what was
/// asked for, or the error says that this cannot be changed. Those are returned.
async fn compare<S: LinkSpec>(net: &Net, plain: &S, table: Vec<(S, &'static str, Value)>) -> Vec<&'static str> {
    let host = Ns::host();
    let mut fixed = Vec::new();
    for (spec, option, value) in table {
        let made = net.create_link(&spec).await.unwrap_or_else(|error| panic!("{option}: {error:#}"));
        assert_eq!(data(&host, "x0")[option], value, "{option}: {}", data(&host, "x0"));
        let same = net.ensure_link(&spec).await.unwrap_or_else(|error| panic!("{option}: {error:#}"));
        assert_eq!(same, made, "{option}");
        net.remove_link(&made).await.expect("remove");

        let before = net.create_link(plain).await.expect("plain");
        match net.ensure_link(&spec).await {
            Ok(after) => {
                assert_eq!(after.index, before.index);
                assert_eq!(data(&host, "x0")[option], value, "{option}: {}", data(&host, "x0"));
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{option}: {error:#}");
                fixed.push(option);
            }
        }
        net.remove_link(&before).await.expect("remove");
    }
    fixed
}

/// A pair: `lower` here, `upper` in the other namespace, both up.
async fn wire(net: &Net, there: &Ns) {
    net.create_link(&Veth::new(name("lower"), name("upper")).peer_netns(there).up()).await.expect("wire");
    there.output("ip", "link set upper up");
}

#[test]
fn macvlans() {
    faultkit::require!(root, program("ip"), program("ping"));
    isolated!(|| {
        let (host, a, b) = (Ns::host(), Ns::new(), Ns::new());
        wait(async {
            let net = Net::here().await.expect("net");
            wire(&net, &a).await;
            let lower = net.link(name("lower")).await.expect("read").expect("lower");
            let new = || Macvlan::new(name("x0"), &lower);
            let fixed = compare(
                &net,
                &new(),
                vec![
                    (new(), "mode", json!("bridge")),
                    (new().mode(MacvlanMode::Private), "mode", json!("private")),
                    (new().mode(MacvlanMode::Vepa), "mode", json!("vepa")),
                    (new().mode(MacvlanMode::Source), "mode", json!("source")),
                    (new().mode(MacvlanMode::Passthru), "mode", json!("passthru")),
                    (new().mode(MacvlanMode::Passthru).no_promisc(), "nopromisc", json!(true)),
                    (new().bc_queue_len(77), "bcqueuelen", json!(77)),
                ],
            )
            .await;
            assert_eq!(fixed, ["mode", "nopromisc"], "passthru, for one");
            let made = net.ensure_link(&new()).await.expect("bridge");
            assert_eq!(
                (made.parent, &made.data),
                (Some(lower.index), &Some(LinkData::Macvlan(Some(MacvlanMode::Bridge))))
            );
            let adapted = net.ensure_link(&new().mode(MacvlanMode::Private)).await.expect("the mode changes");
            assert_eq!(adapted.index, made.index);
            assert_eq!(data(&host, "x0")["mode"], "private");
            let error =
                net.ensure_link(&Macvlan::new(name("x0"), vethnet::LinkRef::Index(1))).await.expect_err("other parent");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            assert!(error.hint().expect("hint").contains("on top of another"), "{error:#}");
            let error = net.create_link(&Macvlan::new(name("x1"), name("lo"))).await.expect_err("the loopback");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
            let error = net.create_link(&Macvlan::new(name("x1"), name("none"))).await.expect_err("no parent");
            assert_eq!((error.kind(), error.to_string().contains("none")), (ErrorKind::NotFound, true), "{error:#}");
            net.remove_link(&made).await.expect("remove");

            // Born in a container, it speaks with what is behind the wire; it was never on the host.
            let spec = Macvlan::new(name("eth0"), &lower).mac("02:00:00:00:00:05".parse().expect("mac"));
            net.create_link_inside(&b, &spec).await.expect("inside");
            assert!(!host.links().contains(&"eth0".to_owned()));
            assert_eq!(shown(&b, "eth0")["address"], "02:00:00:00:00:05");
            b.output("ip", "address add 10.0.0.5/24 dev eth0");
            b.output("ip", "link set eth0 up");
            a.output("ip", "address add 10.0.0.1/24 dev upper");
            b.output("ping", "-c 1 -W 5 10.0.0.1");
            let error = net.create_link_inside(&b, &spec.clone().alias("x")).await.expect_err("two messages");
            assert_eq!(error.kind(), ErrorKind::Invalid);
            let error = net.create_link_inside(&b, &spec).await.expect_err("taken");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
            net.remove_link(&lower).await.expect("remove");
        });
        assert_eq!((host.links(), b.links()), (vec!["lo".to_owned()], vec!["lo".to_owned()]));
    });
}

#[test]
fn macvtaps() {
    faultkit::require!(root, vm, program("ip"));
    isolated!(|| {
        let host = Ns::host();
        host.output("ip", "link add lower type veth peer name upper");
        wait(async {
            let net = Net::here().await.expect("net");
            let spec = Macvlan::new(name("x0"), name("lower")).tap().mode(MacvlanMode::Vepa);
            let made = net.create_link(&spec).await.expect("make");
            assert_eq!(shown(&host, "x0")["linkinfo"]["info_kind"], "macvtap");
            assert_eq!(data(&host, "x0")["mode"], "vepa");
            assert_eq!(made.data, Some(LinkData::Macvlan(Some(MacvlanMode::Vepa))));
            assert_eq!(net.ensure_link(&spec).await.expect("again"), made);
            let plain = Macvlan::new(name("x0"), name("lower"));
            let error = net.ensure_link(&plain).await.expect_err("no device file");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
            net.remove_link(&made).await.expect("remove");
        });
        host.output("ip", "link delete lower");
        assert_eq!(host.links(), ["lo"]);
    });
}

#[test]
fn vxlans() {
    faultkit::require!(root, program("ip"), program("ping"));
    isolated!(|| {
        let (host, a) = (Ns::host(), Ns::new());
        let address = |text: &str| text.parse::<IpAddr>().expect("address");
        wait(async {
            let net = Net::here().await.expect("net");
            wire(&net, &a).await;
            let new = || Vxlan::new(name("x0"), 42);
            let fixed = compare(
                &net,
                &new(),
                vec![
                    (new(), "id", json!(42)),
                    (new(), "port", json!(4789)),
                    (new().dst_port(8472), "port", json!(8472)),
                    (new().remote(address("192.0.2.7")), "remote", json!("192.0.2.7")),
                    (new().remote(address("2001:db8::7")), "remote6", json!("2001:db8::7")),
                    (new().lower(name("lower")).remote(address("239.1.1.1")), "group", json!("239.1.1.1")),
                    (new().lower(name("lower")), "link", json!("lower")),
                    (new().local(address("192.0.2.1")), "local", json!("192.0.2.1")),
                    (new().local(address("2001:db8::1")), "local6", json!("2001:db8::1")),
                    (new().src_ports(40_000..50_000), "port_range", json!({"low": 40_000, "high": 50_000})),
                    (new().no_learning(), "learning", json!(false)),
                    (new().no_learning().learning(), "learning", json!(true)),
                    (new().ageing(Duration::from_secs(77)), "ageing", json!(77)),
                    (new().max_addresses(9), "limit", json!(9)),
                    (new().ttl(7), "ttl", json!(7)),
                    (new().tos(0x10), "tos", json!("0x10")),
                    (new().proxy(), "proxy", json!(true)),
                    (new().l2miss(), "l2miss", json!(true)),
                    (new().l3miss(), "l3miss", json!(true)),
                    (new().no_udp_csum(), "udp_csum", json!(false)),
                    (new().udp6_zero_csum_tx(), "udp_zero_csum6_tx", json!(true)),
                    (new().udp6_zero_csum_rx(), "udp_zero_csum6_rx", json!(true)),
                    (Vxlan::new(name("x0"), 0).external(), "external", json!(true)),
                ],
            )
            .await;
            assert!(
                fixed.contains(&"port") && fixed.contains(&"external") && !fixed.contains(&"learning"),
                "{fixed:?}"
            );
            for wrong in [
                Vxlan::new(name("x0"), 1 << 24),
                new().remote(address("239.1.1.1")),
                new().remote(address("192.0.2.7")).local(address("::1")),
                new().local(address("239.1.1.1")),
                new().external(),
            ] {
                let error = net.create_link(&wrong).await.expect_err("wrong");
                assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Invalid, None), "{error:#}");
            }
            let made = net.ensure_link(&new().remote(address("192.0.2.7"))).await.expect("make");
            for other in [Vxlan::new(name("x0"), 43), new().dst_port(9)] {
                let error = net.ensure_link(&other).await.expect_err("fixed");
                assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
            }
            let adapted = net.ensure_link(&new().remote(address("192.0.2.8")).ttl(9)).await.expect("adapt");
            assert_eq!(adapted.index, made.index);
            let LinkData::Vxlan(read) = adapted.data.expect("data") else { panic!("no vxlan") };
            assert_eq!((read.id, read.remote, read.ttl, read.dst_port), (42, Some(address("192.0.2.8")), 9, 4789));
            net.remove_link(name("x0")).await.expect("remove");
            let inherits = net.create_link(&new().ttl(7).ttl_inherit()).await.expect("make");
            assert!(host.output("ip", "-d link show dev x0").contains("ttl inherit"));
            assert_eq!(net.ensure_link(&new().ttl_inherit()).await.expect("again"), inherits);
            net.remove_link(&inherits).await.expect("remove");

            // Two machines.
            host.output("ip", "address add 192.0.2.1/24 dev lower");
            a.output("ip", "address add 192.0.2.2/24 dev upper");
            net.create_link(&new().remote(address("192.0.2.2")).up()).await.expect("here");
            let there = Net::inside(&a).await.expect("net");
            there.create_link(&Vxlan::new(name("y0"), 42).remote(address("192.0.2.1")).up()).await.expect("there");
            host.output("ip", "address add 10.0.0.1/24 dev x0");
            a.output("ip", "address add 10.0.0.2/24 dev y0");
            host.output("ping", "-c 1 -W 5 10.0.0.2");
            for link in ["x0", "lower"] {
                net.remove_link(name(link)).await.expect("remove");
            }
        });
        assert_eq!(host.links(), ["lo"]);
    });
}

#[test]
fn functional_blocks() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let host = Ns::host();
        wait(async {
            let net = Net::here().await.expect("net");
            let made = net.ensure_link(&Ifb::new(name("x0")).tx_queues(3).rx_queues(2).up()).await.expect("ifb");
            let seen = shown(&host, "x0");
            assert_eq!(seen["linkinfo"]["info_kind"], "ifb");
            assert_eq!((&seen["num_tx_queues"], &seen["num_rx_queues"]), (&json!(3), &json!(2)));
            assert_eq!((made.tx_queues, made.rx_queues), (3, 2));
            net.remove_link(&made).await.expect("remove");
        });
        assert_eq!(host.links(), ["lo"]);
    });
}

/// Numbers that no VLAN has, and parents that are not there: on every kernel.
#[test]
fn vlans_that_cannot_be() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        wait(async {
            let net = Net::here().await.expect("net");
            for wrong in [
                Vlan::new(name("x0"), name("lo"), 0),
                Vlan::new(name("x0"), name("lo"), 4095),
                Vlan::new(name("x0"), name("lo"), 4096),
                Vlan::new(name("x0"), name("lo"), 7).egress_qos(1, 8),
                Vlan::new(name("x0"), name("lo"), 7).ingress_qos(8, 1),
            ] {
                let error = net.create_link(&wrong).await.expect_err("wrong");
                assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Invalid, None), "{error:#}");
            }
            let error = net.create_link(&Vlan::new(name("x0"), name("none"), 7)).await.expect_err("no parent");
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error:#}");
        });
        assert_eq!(Ns::host().links(), ["lo"]);
    });
}

#[test]
fn vlans() {
    faultkit::require!(root, vm, program("ip"), program("ping"));
    isolated!(|| {
        let (host, a) = (Ns::host(), Ns::new());
        wait(async {
            let net = Net::here().await.expect("net");
            wire(&net, &a).await;
            let new = || Vlan::new(name("x0"), name("lower"), 7);
            let fixed = compare(
                &net,
                &new(),
                vec![
                    (new(), "id", json!(7)),
                    (new(), "protocol", json!("802.1Q")),
                    (new().protocol(VlanProtocol::Ieee8021ad), "protocol", json!("802.1ad")),
                    (new(), "flags", json!(["REORDER_HDR"])),
                    (new().no_reorder_hdr(), "flags", json!(null)),
                    (new().loose_binding(), "flags", json!(["REORDER_HDR", "LOOSE_BINDING"])),
                    (new().bridge_binding(), "flags", json!(["REORDER_HDR", "BRIDGE_BINDING"])),
                    (new().egress_qos(3, 5), "egress_qos", json!([{"from": 3, "to": 5}])),
                    (new().ingress_qos(2, 6), "ingress_qos", json!([{"from": 2, "to": 6}])),
                ],
            )
            .await;
            assert_eq!(fixed, ["protocol"]);
            let made = net.ensure_link(&new().up()).await.expect("make");
            let LinkData::Vlan(read) = made.data.clone().expect("data") else { panic!("no vlan") };
            assert_eq!((read.id, read.protocol), (7, Some(VlanProtocol::Ieee8021q)));
            for other in [Vlan::new(name("x0"), name("lower"), 8), new().protocol(VlanProtocol::Ieee8021ad)] {
                let error = net.ensure_link(&other).await.expect_err("fixed");
                assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
            }
            let adapted = net.ensure_link(&new().loose_binding().egress_qos(1, 2).mtu(1400)).await.expect("adapt");
            assert_eq!((adapted.index, adapted.mtu), (made.index, 1400));
            assert_eq!(data(&host, "x0")["flags"], json!(["REORDER_HDR", "LOOSE_BINDING"]));
            let error = net.create_link(&Vlan::new(name("x1"), name("lower"), 7)).await.expect_err("the VLAN is taken");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
            let error = net.create_link(&Vlan::new(name("x1"), name("lo"), 7)).await.expect_err("the loopback");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}");

            // Only the same VLAN at the other side is heard.
            a.output("ip", "link add link upper name y7 type vlan id 7");
            a.output("ip", "address add 10.0.0.2/24 dev y7");
            a.output("ip", "link set y7 up");
            host.output("ip", "address add 10.0.0.1/24 dev x0");
            host.output("ping", "-c 1 -W 5 10.0.0.2");
            net.remove_link(name("lower")).await.expect("remove");
        });
        assert_eq!(host.links(), ["lo"]);
    });
}

#[test]
fn ipvlans() {
    faultkit::require!(root, vm, program("ip"), program("ping"));
    isolated!(|| {
        let (host, a, b) = (Ns::host(), Ns::new(), Ns::new());
        wait(async {
            let net = Net::here().await.expect("net");
            wire(&net, &a).await;
            let new = || Ipvlan::new(name("x0"), name("lower"));
            let fixed = compare(
                &net,
                &new(),
                vec![
                    (new(), "mode", json!("l2")),
                    (new().mode(IpvlanMode::L3), "mode", json!("l3")),
                    (new().mode(IpvlanMode::L3s), "mode", json!("l3s")),
                    (new().flow(IpvlanFlow::Bridge), "flags", json!(null)),
                ],
            )
            .await;
            assert_eq!(fixed, [""; 0]);
            let made = net.create_link(&new().flow(IpvlanFlow::Private)).await.expect("make");
            assert_eq!(made.data, Some(LinkData::Ipvlan(Some(IpvlanMode::L2), Some(IpvlanFlow::Private))));
            assert!(host.output("ip", "-d link show dev x0").contains("ipvlan  mode l2 private"));
            let adapted = net.ensure_link(&new().mode(IpvlanMode::L3).flow(IpvlanFlow::Vepa)).await.expect("adapt");
            assert_eq!(adapted.index, made.index);
            assert_eq!(adapted.data, Some(LinkData::Ipvlan(Some(IpvlanMode::L3), Some(IpvlanFlow::Vepa))));
            let error = net.create_link(&Macvlan::new(name("x1"), name("lower"))).await.expect_err("both");
            assert_eq!(error.kind(), ErrorKind::Busy, "{error:#}");
            assert!(error.hint().is_some(), "{error:#}");
            net.remove_link(&made).await.expect("remove");
            net.create_link_inside(&b, &Ipvlan::new(name("eth0"), name("lower"))).await.expect("inside");
            b.output("ip", "address add 10.0.0.5/24 dev eth0");
            b.output("ip", "link set eth0 up");
            a.output("ip", "address add 10.0.0.1/24 dev upper");
            b.output("ping", "-c 1 -W 5 10.0.0.1");
            net.remove_link(name("lower")).await.expect("remove");
        });
        assert_eq!(host.links(), ["lo"]);
    });
}

#[test]
fn dummies() {
    faultkit::require!(root, vm, program("ip"));
    isolated!(|| {
        let host = Ns::host();
        wait(async {
            let net = Net::here().await.expect("net");
            let spec = Dummy::new(name("x0")).mtu(9000).alias("of a test").up();
            let made = net.ensure_link(&spec).await.expect("make");
            assert_eq!(net.ensure_link(&spec).await.expect("again"), made);
            let seen = shown(&host, "x0");
            assert_eq!((&seen["mtu"], &seen["ifalias"]), (&json!(9000), &json!("of a test")));
            assert_eq!(seen["linkinfo"]["info_kind"], "dummy");
            let error = net.ensure_link(&Ifb::new(name("x0"))).await.expect_err("another kind");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            assert!(error.hint().expect("hint").contains("dummy"), "{error:#}");
            net.remove_link(&made).await.expect("remove");
        });
        assert_eq!(host.links(), ["lo"]);
    });
}
