//! Forwarding databases, as `bridge fdb` sees them, and frames that follow them.

use serde_json::Value;
use vethnet::{ErrorKind, FdbEntry, FdbList, FdbState, MacAddr};

use crate::world::{Ns, address, name};

fn mac(last: u8) -> MacAddr {
    MacAddr::new([2, 0, 0, 0, 0, last]).expect("an address")
}

/// A bridge with the ports `a` and `b`, whose other ends are `ao` and `bo`.
fn bridged() -> Ns {
    let ns = Ns::new();
    ns.ip("link add br0 address 02:00:00:00:00:f0 type bridge");
    for (port, other, last) in [("port1", "end1", 1), ("port2", "end2", 2)] {
        ns.ip(&format!(
            "link add {port} address 02:00:00:00:00:a{last} type veth peer name {other} address 02:00:00:00:00:b{last}"
        ));
        ns.ip(&format!("link set {port} master br0"));
        for link in [port, other] {
            ns.ip(&format!("link set {link} addrgenmode none"));
            ns.ip(&format!("link set {link} up"));
        }
    }
    ns.ip("link set br0 addrgenmode none");
    ns.ip("link set br0 up");
    ns
}

fn fdb(ns: &Ns) -> Vec<Value> {
    let mut list = ns.json("bridge", "-j fdb show");
    list.sort_by_key(|item| (item["ifname"].to_string(), item["mac"].to_string(), item.to_string()));
    list
}

#[test]
fn made_as_bridge_makes_them_read_and_removed() {
    faultkit::require!(root, program("ip"), program("bridge"));
    isolated!(|| {
        let (ours, theirs) = (bridged(), bridged());
        let before = fdb(&ours);
        assert_eq!(before, fdb(&theirs));
        let cases = [
            (FdbEntry::in_bridge(mac(1)), "02:00:00:00:00:01 dev port1 master static"),
            (FdbEntry::in_bridge(mac(2)).sticky(), "02:00:00:00:00:02 dev port1 master static sticky"),
            (FdbEntry::in_bridge(mac(3)).permanent(), "02:00:00:00:00:03 dev port1 master permanent"),
            (FdbEntry::in_bridge(mac(4)).dynamic(), "02:00:00:00:00:04 dev port1 master dynamic"),
            (
                FdbEntry::in_bridge(mac(5)).externally_learned(),
                "02:00:00:00:00:05 dev port1 master static extern_learn",
            ),
            (FdbEntry::in_device(mac(6)), "02:00:00:00:00:06 dev port1 self permanent"),
        ];
        for (entry, words) in &cases {
            ours.with_net(async |net| {
                net.add_fdb_entry(name("port1"), entry).await.unwrap_or_else(|error| panic!("{words}: {error:#}"));
                // One that a program keeps up to date is set anew.
                if !entry.is_externally_learned {
                    let error = net.add_fdb_entry(name("port1"), entry).await.expect_err("twice");
                    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
                }
            });
            theirs.output("bridge", &format!("fdb add {words}"));
        }
        assert_eq!(fdb(&ours), fdb(&theirs));
        ours.with_net(async |net| {
            let list = net.fdb_entries_on(name("port1")).await.expect("list");
            let all = net.fdb_entries().await.expect("all");
            assert_eq!(all.len(), fdb(&ours).len());
            let on_a = fdb(&ours).iter().filter(|item| item["ifname"] == "port1").count();
            assert_eq!(list.len(), on_a, "{list:#?}");
            for (entry, words) in &cases {
                let same =
                    |found: &&FdbEntry| found.mac == entry.mac && found.vlan.is_none() && found.list == entry.list;
                let found = list.iter().find(same).unwrap_or_else(|| panic!("{words}: {list:#?}"));
                let mut want = entry.clone();
                (want.index, want.bridge) = (found.index, found.bridge);
                if entry.is_externally_learned {
                    // Kept by a program, it is neither static nor ages; it is shown as what it was last seen as.
                    want.state = found.state;
                }
                assert_eq!(*found, want, "{words}");
                assert_eq!(found.bridge.is_some(), found.list == FdbList::Bridge, "{words}");
                assert!(net.remove_fdb_entry(name("port1"), found).await.expect("remove"), "{words}");
                assert!(!net.remove_fdb_entry(name("port1"), found).await.expect("again"), "{words}");
            }
        });
        assert_eq!(fdb(&ours), before);
    });
}

#[test]
fn ensured_and_replaced() {
    faultkit::require!(root, program("ip"), program("bridge"));
    isolated!(|| {
        let ns = bridged();
        let find = || fdb(&ns).into_iter().find(|item| item["mac"] == "02:00:00:00:00:01").expect("there");
        ns.with_net(async |net| {
            let entry = FdbEntry::in_bridge(mac(1));
            net.ensure_fdb_entry(name("port1"), &entry).await.expect("made");
            let before = find();
            net.ensure_fdb_entry(name("port1"), &entry).await.expect("there");
            assert_eq!(find(), before);
            net.ensure_fdb_entry(name("port1"), entry.clone().sticky()).await.expect("adapted");
            assert_eq!(find()["flags"], Value::from(vec!["sticky"]), "{:#}", find());
            let error = net.add_fdb_entry(name("port2"), &entry).await.expect_err("on another port");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
            net.replace_fdb_entry(name("port2"), &entry).await.expect("moved");
            assert_eq!(find()["ifname"], "port2");
            let error = net.add_fdb_entry(name("end1"), &entry).await.expect_err("no port");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}");
            assert!(error.hint().is_some_and(|hint| hint.contains("no port")), "{error:#}");
        });
        let events = ns.events("neigh", || {
            ns.with_net(async |net| {
                net.ensure_fdb_entry(name("port2"), FdbEntry::in_bridge(mac(1))).await.expect("there")
            });
        });
        assert!(events.iter().all(|event| !event.contains("02:00:00:00:00:01")), "{events:#?}");
    });
}

#[test]
fn what_a_bridge_has_learnt_and_where_frames_go() {
    faultkit::require!(root, program("ip"), program("bridge"), program("ping"));
    isolated!(|| {
        let (host, left, right) = (Ns::new(), Ns::new(), Ns::new());
        host.ip("link add br0 type bridge");
        host.ip("link set br0 up");
        host.wire("port1", &left, "eth0");
        host.wire("port2", &right, "eth0");
        for (port, end, last) in [("port1", &left, 1), ("port2", &right, 2)] {
            host.ip(&format!("link set {port} master br0"));
            end.ip(&format!("link set eth0 address 02:00:00:00:00:0{last}"));
            end.ip(&format!("address add 10.1.0.{last}/24 dev eth0"));
        }
        assert!(left.pings("10.1.0.2"));
        host.with_net(async |net| {
            let list = net.fdb_entries_on(name("port2")).await.expect("list");
            let learnt = list.iter().find(|found| found.mac == mac(2).bytes()).expect("learnt");
            assert!(matches!(learnt.state, FdbState::Dynamic | FdbState::Stale), "{learnt}");
            // A sticky entry on the wrong port: frames for the right end go the other way, and it is not learnt anew.
            net.ensure_fdb_entry(name("port1"), FdbEntry::in_bridge(mac(2)).sticky()).await.expect("moved");
        });
        assert!(!left.pings("10.1.0.2"));
        host.with_net(async |net| {
            assert!(net.remove_fdb_entry(name("port1"), FdbEntry::in_bridge(mac(2))).await.expect("remove"));
        });
        assert!(left.pings("10.1.0.2"));
    });
}

#[test]
fn hosts_of_a_vxlan() {
    faultkit::require!(root, program("ip"), program("bridge"));
    isolated!(|| {
        let (ours, theirs) = (Ns::new(), Ns::new());
        for ns in [&ours, &theirs] {
            ns.ip("link add vx0 type vxlan id 7 dstport 4789");
            ns.ip("link set vx0 addrgenmode none");
            ns.ip("link set vx0 up");
        }
        ours.with_net(async |net| {
            let add = async |entry: FdbEntry| net.append_fdb_entry(name("vx0"), entry).await.expect("append");
            add(FdbEntry::flood([192, 0, 2, 7])).await;
            add(FdbEntry::flood([192, 0, 2, 8])).await;
            add(FdbEntry::flood([192, 0, 2, 8])).await;
            let behind = FdbEntry::in_device(mac(9)).destination([192, 0, 2, 9]).port(8472).vni(70);
            net.ensure_fdb_entry(name("vx0"), &behind).await.expect("made");
            net.ensure_fdb_entry(name("vx0"), &behind).await.expect("there");
        });
        for words in [
            "append 00:00:00:00:00:00 dev vx0 dst 192.0.2.7 self permanent",
            "append 00:00:00:00:00:00 dev vx0 dst 192.0.2.8 self permanent",
            "add 02:00:00:00:00:09 dev vx0 dst 192.0.2.9 port 8472 vni 70 self permanent",
        ] {
            theirs.output("bridge", &format!("fdb {words}"));
        }
        assert_eq!(fdb(&ours), fdb(&theirs));
        ours.with_net(async |net| {
            let list = net.fdb_entries_on(name("vx0")).await.expect("list");
            let hosts: Vec<_> = list.iter().filter_map(|found| found.destination).collect();
            for host in ["192.0.2.7", "192.0.2.8", "192.0.2.9"] {
                assert!(hosts.contains(&address(host)), "{list:#?}");
            }
            let far = list.iter().find(|found| found.mac == mac(9).bytes()).expect("there");
            assert_eq!((far.port, far.vni), (Some(8472), Some(70)));
            assert!(net.remove_fdb_entry(name("vx0"), FdbEntry::flood([192, 0, 2, 7])).await.expect("remove"));
            assert!(!net.remove_fdb_entry(name("vx0"), FdbEntry::flood([192, 0, 2, 7])).await.expect("again"));
        });
        let left: Vec<_> = fdb(&ours).iter().filter_map(|item| item["dst"].as_str().map(str::to_owned)).collect();
        assert_eq!(left, ["192.0.2.8", "192.0.2.9"]);
    });
}

#[test]
fn entries_of_a_vlan() {
    faultkit::require!(root, vm, program("ip"), program("bridge"));
    isolated!(|| {
        let ns = bridged();
        ns.ip("link set br0 type bridge vlan_filtering 1");
        ns.output("bridge", "vlan add vid 5 dev port1");
        ns.with_net(async |net| {
            let entry = FdbEntry::in_bridge(mac(7)).vlan(5);
            net.ensure_fdb_entry(name("port1"), &entry).await.expect("made");
            net.ensure_fdb_entry(name("port1"), &entry).await.expect("there");
            let list = net.fdb_entries_on(name("port1")).await.expect("list");
            assert!(list.iter().any(|found| found.mac == entry.mac && found.vlan == Some(5)), "{list:#?}");
        });
        let items: Vec<_> = fdb(&ns).into_iter().filter(|item| item["mac"] == "02:00:00:00:00:07").collect();
        assert_eq!((items.len(), items[0]["vlan"].as_u64()), (1, Some(5)), "{items:#?}");
        ns.with_net(async |net| {
            assert!(net.remove_fdb_entry(name("port1"), FdbEntry::in_bridge(mac(7)).vlan(5)).await.expect("remove"));
            let error =
                net.add_fdb_entry(name("port1"), FdbEntry::in_bridge(mac(7)).vlan(6)).await.expect_err("not in it");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
            assert!(error.hint().is_some_and(|hint| hint.contains("bridge vlan")), "{error:#}");
        });
    });
}
