//! Bridges and their ports.

use std::time::Duration;

use serde_json::{Value, json};
use vethnet::{Bridge, BridgePort, Dummy, ErrorKind, LinkChange, LinkData, McastRouter, Net, Veth, VlanProtocol};

use super::watch::Watch;
use super::world::{Ns, wait};
use super::{data, name, port, shown};

fn br0() -> Bridge {
    Bridge::new(name("br0"))
}

/// Each option alone, as `ip -d link` shows it.
#[test]
fn each_option_is_what_ip_shows() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let host = Ns::host();
        let seconds = Duration::from_secs;
        let table: Vec<(Bridge, &str, Value)> = vec![
            (br0().ageing_time(seconds(30)), "ageing_time", json!(3000)),
            (br0().ageing_time(Duration::from_millis(1249)), "ageing_time", json!(124)),
            (br0().forward_delay(seconds(4)), "forward_delay", json!(400)),
            (br0().hello_time(seconds(3)), "hello_time", json!(300)),
            (br0().max_age(seconds(12)), "max_age", json!(1200)),
            (br0().stp(), "stp_state", json!(1)),
            (br0().stp().no_stp(), "stp_state", json!(0)),
            (br0().priority(4096), "priority", json!(4096)),
            (br0().mcast_router(McastRouter::Always), "mcast_router", json!(2)),
            (br0().mcast_router(McastRouter::Never), "mcast_router", json!(0)),
            (br0().no_mcast_snooping(), "mcast_snooping", json!(0)),
            (br0().mcast_querier(), "mcast_querier", json!(1)),
            (br0().mcast_query_use_ifaddr(), "mcast_query_use_ifaddr", json!(1)),
            (br0().mcast_stats(), "mcast_stats_enabled", json!(1)),
            (br0().mcast_hash_max(512), "mcast_hash_max", json!(512)),
            (br0().group_fwd_mask(0x4008), "group_fwd_mask", json!("0x4008")),
            (br0().nf_call_iptables(), "nf_call_iptables", json!(1)),
            (br0().nf_call_ip6tables(), "nf_call_ip6tables", json!(1)),
            (br0().nf_call_arptables(), "nf_call_arptables", json!(1)),
            (br0().no_linklocal_learn(), "no_linklocal_learn", json!(1)),
            (br0().no_linklocal_learn().linklocal_learn(), "no_linklocal_learn", json!(0)),
        ];
        wait(async {
            let net = Net::here().await.expect("net");
            let mut watch = Watch::start();
            for (spec, option, value) in &table {
                // An option that this kernel was built without cannot be set by anybody.
                let by_ip = host
                    .run(|| std::process::Command::new("ip").args(["link", "add", "br1", "type", "bridge"]).status());
                assert!(by_ip.expect("ip").success());
                if data(&host, "br1").get(option).is_none() {
                    println!("this kernel does not tell of {option}");
                    host.output("ip", "link delete br1");
                    continue;
                }
                let default = data(&host, "br1")[option].clone();
                host.output("ip", "link delete br1");

                let made = net.create_link(spec).await.unwrap_or_else(|error| panic!("{option}: {error:#}"));
                assert_eq!(data(&host, "br0")[option], *value, "{option}");
                net.remove_link(&made).await.expect("remove");

                // The same, of a bridge that was there.
                let plain = net.ensure_link(&br0().up()).await.expect("plain");
                assert_eq!(data(&host, "br0")[option], default, "{option}");
                watch.since();
                let adapted = net.ensure_link(spec).await.unwrap_or_else(|error| panic!("{option}: {error:#}"));
                assert_eq!(adapted.index, plain.index);
                assert_eq!(data(&host, "br0")[option], *value, "{option}");
                // The kernel tells of changes of links that are up: of this one, but of none after it.
                assert!(*value == default || watch.since().iter().any(|line| line.contains("br0")), "{option}");
                watch.quiet(option, async || drop(net.ensure_link(spec).await.expect("again"))).await;
                net.remove_link(name("br0")).await.expect("remove");
            }
            watch.stop();
        });
        assert_eq!(host.links(), ["lo"]);
    });
}

#[test]
fn settings_that_all_links_have() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let host = Ns::host();
        wait(async {
            let net = Net::here().await.expect("net");
            let spec = br0()
                .mac("02:00:00:00:00:07".parse().expect("mac"))
                .mtu(1400)
                .txqueuelen(77)
                .group(5)
                .alias("the bridge of a test")
                .addr_gen_mode(vethnet::AddrGenMode::None)
                .up();
            let made = net.create_link(&spec).await.expect("make");
            let look = |seen: &Value| {
                assert_eq!(seen["address"], "02:00:00:00:00:07");
                assert_eq!((&seen["mtu"], &seen["txqlen"]), (&json!(1400), &json!(77)));
                assert_eq!((&seen["group"], &seen["ifalias"]), (&json!("5"), &json!("the bridge of a test")));
                assert_eq!(seen["inet6_addr_gen_mode"], "none");
                assert!(seen["flags"].as_array().expect("flags").contains(&json!("UP")));
            };
            look(&shown(&host, "br0"));
            assert_eq!(host.ip("address show dev br0")[0]["addr_info"], json!([]), "no link-local address");
            assert_eq!((made.mtu, made.group, made.txqueuelen, made.is_up), (1400, 5, 77, true));
            assert_eq!(made.alias.as_deref(), Some("the bridge of a test"));
            assert_eq!(made.addr_gen_mode, Some(vethnet::AddrGenMode::None));
            let LinkData::Bridge(bridge) = made.data.expect("a bridge's data") else { panic!("no bridge") };
            assert_eq!((bridge.ageing_time, bridge.stp), (Duration::from_secs(300), false));

            // Somebody else changes all of it; only that is changed back.
            let mut watch = Watch::start();
            host.output("ip", "link set br0 down mtu 1300 alias other txqueuelen 3 group 0 address 02:00:00:00:00:09");
            host.output("ip", "link set br0 addrgenmode eui64 type bridge ageing_time 1000");
            let again = net.ensure_link(&spec).await.expect("ensure");
            assert_eq!(again.index, made.index);
            look(&shown(&host, "br0"));
            assert_eq!(data(&host, "br0")["ageing_time"], 1000, "which was not asked for");
            watch.quiet("all settings", async || drop(net.ensure_link(&spec).await.expect("ensure"))).await;
            watch.stop();
            net.remove_link(&again).await.expect("remove");
        });
        assert_eq!(host.links(), ["lo"]);
    });
}

#[test]
fn each_option_of_a_port_is_what_ip_shows() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let host = Ns::host();
        host.output("ip", "link add br0 type bridge");
        host.output("ip", "link add p0 type veth peer name p1");
        host.output("ip", "link set p0 master br0 up");
        host.output("ip", "link set p1 up");
        host.output("ip", "link set br0 up");
        let new = BridgePort::new;
        let table: Vec<(BridgePort, BridgePort, &str, Value)> = vec![
            (new().isolated(), new().no_isolated(), "isolated", json!(true)),
            (new().hairpin(), new().no_hairpin(), "hairpin", json!(true)),
            (new().no_learning(), new().learning(), "learning", json!(false)),
            (new().no_flood(), new().flood(), "flood", json!(false)),
            (new().no_mcast_flood(), new().mcast_flood(), "mcast_flood", json!(false)),
            (new().no_bcast_flood(), new().bcast_flood(), "bcast_flood", json!(false)),
            (new().guard(), new().no_guard(), "guard", json!(true)),
            (new().root_block(), new().no_root_block(), "root_block", json!(true)),
            (new().proxy_arp(), new().no_proxy_arp(), "proxy_arp", json!(true)),
            (new().neigh_suppress(), new().no_neigh_suppress(), "neigh_suppress", json!(true)),
            (new().locked(), new().no_locked(), "locked", json!(true)),
            (new().mcast_fast_leave(), new().no_mcast_fast_leave(), "fastleave", json!(true)),
            (new().mcast_to_unicast(), new().no_mcast_to_unicast(), "mcast_to_unicast", json!(true)),
            (
                new().mcast_router(McastRouter::Always),
                new().mcast_router(McastRouter::WhenHeard),
                "multicast_router",
                json!(2),
            ),
            (new().priority(7), new().priority(32), "priority", json!(7)),
            (new().cost(55), new().cost(2), "cost", json!(55)),
        ];
        wait(async {
            let net = Net::here().await.expect("net");
            let mut watch = Watch::start();
            for (on, off, option, value) in &table {
                let before = port(&host, "p0")[option].clone();
                if before.is_null() {
                    println!("this kernel does not tell of {option}");
                    continue;
                }
                for _ in 0..2 {
                    net.change_bridge_port(name("p0"), on).await.unwrap_or_else(|error| panic!("{option}: {error:#}"));
                    assert_eq!(port(&host, "p0")[option], *value, "{option}");
                }
                watch.quiet(option, async || net.change_bridge_port(name("p0"), on).await.expect("again")).await;
                net.change_bridge_port(name("p0"), off).await.expect("back");
                assert_eq!(port(&host, "p0")[option], before, "{option}");
            }
            watch.stop();
            let all = new().isolated().hairpin().no_learning().no_flood().guard().root_block().priority(3).cost(9);
            net.change_bridge_port(name("p0"), &all).await.expect("all");
            let read = net.link(name("p0")).await.expect("read").expect("p0").port.expect("a port");
            assert!(read.isolated && read.hairpin && !read.learning && !read.flood && read.guard && read.root_block);
            assert_eq!((read.priority, read.cost), (3, 9));

            for (port, wrong) in [("p1", new().isolated()), ("p0", new().priority(64)), ("p0", new().cost(0))] {
                let error = net.change_bridge_port(name(port), &wrong).await.expect_err("wrong");
                assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
            }
        });
        host.output("ip", "link delete br0");
        host.output("ip", "link delete p0");
    });
}

/// What the options are for, by packets: isolated ports, and a locked one that knows one address.
#[test]
fn ports_that_are_kept_apart() {
    faultkit::require!(root, kernel(5.18), program("ip"), program("bridge"), program("ping"));
    isolated!(|| {
        let (host, a, b) = (Ns::host(), Ns::new(), Ns::new());
        let reaches = |from: &Ns, address: &'static str, wait: &'static str| {
            let args = ["-c", "1", "-W", wait, address];
            from.run(|| std::process::Command::new("ping").args(args).output().expect("ping").status.success())
        };
        wait(async {
            let net = Net::here().await.expect("net");
            let bridge =
                net.create_link(&br0().mac("02:00:00:00:00:01".parse().expect("mac")).up()).await.expect("br0");
            host.output("ip", "address add 10.0.0.1/24 dev br0");
            for (port, ns, last) in [("p0", &a, 2), ("p1", &b, 3)] {
                let mac = format!("02:00:00:00:00:{last:02}").parse().expect("mac");
                let pair = Veth::new(name(port), name("eth0")).master(&bridge).up().peer_netns(ns).peer_mac(mac);
                net.create_link(&pair).await.expect("pair");
                ns.output("ip", &format!("address add 10.0.0.{last}/24 dev eth0"));
                ns.output("ip", "link set eth0 up");
            }
            assert!(reaches(&a, "10.0.0.3", "5"), "ports reach each other");
            for port in ["p0", "p1"] {
                net.change_bridge_port(name(port), &BridgePort::new().isolated()).await.expect("isolated");
            }
            assert!(!reaches(&a, "10.0.0.3", "1"), "isolated ports do not");
            assert!(reaches(&a, "10.0.0.1", "5"), "but the bridge");

            let guard = BridgePort::new().no_isolated().no_learning().locked();
            net.change_bridge_port(name("p0"), &guard).await.expect("locked");
            host.output("bridge", "fdb replace 02:00:00:00:00:02 dev p0 master static");
            assert!(reaches(&a, "10.0.0.1", "5"), "from its own address");
            a.output("ip", "link set eth0 address 02:00:00:00:00:99");
            assert!(!reaches(&a, "10.0.0.1", "1"), "from a made-up one nothing comes in");
            assert!(reaches(&b, "10.0.0.1", "5"), "the neighbour is not disturbed");
            for link in ["p0", "p1", "br0"] {
                net.remove_link(name(link)).await.expect("remove");
            }
        });
        assert_eq!(host.links(), ["lo"]);
    });
}

/// Options that a kernel older than them would pass over in silence.
#[test]
fn an_option_the_kernel_does_not_know_is_unsupported() {
    faultkit::require!(root, program("ip"), program("bridge"));
    isolated!(|| {
        let host = Ns::host();
        wait(async {
            let net = Net::here().await.expect("net");
            let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("release");
            let numbers: Vec<u32> = release.split(['.', '-']).take(2).filter_map(|part| part.parse().ok()).collect();
            let since = |version: [u32; 2]| numbers.as_slice() >= version.as_slice();
            let result = net.create_link(&br0().fdb_max_learned(7)).await;
            if since([6, 7]) {
                let made = result.expect("since 6.7");
                let LinkData::Bridge(bridge) = made.data.expect("data") else { panic!("no bridge") };
                assert_eq!(bridge.fdb_learned, Some((0, 7)));
                net.remove_link(&br0_ref()).await.expect("remove");
            } else {
                let error = result.expect_err("before 6.7");
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}");
                assert!(error.to_string().contains("6.7"), "{error}");
                assert_eq!(host.links(), ["lo"], "what was made is gone again");
            }
            host.output("ip", "link add br0 type bridge");
            host.output("ip", "link add p0 master br0 type veth peer name p1");
            let result = net.change_bridge_port(name("p0"), &BridgePort::new().neigh_vlan_suppress()).await;
            assert_eq!(result.is_ok(), since([6, 4]), "{result:?}");
            if let Err(error) = result {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}");
            }
            let result = net.change_bridge_port(name("p0"), &BridgePort::new().locked().mab()).await;
            assert_eq!(result.is_ok(), since([6, 2]), "{result:?}");
            host.output("ip", "link delete br0");
            host.output("ip", "link delete p0");
        });
    });
}

fn br0_ref() -> vethnet::LinkRef {
    name("br0").into()
}

/// 1023 ports, which is all a bridge can have. They go all at once, with their namespace.
#[test]
fn a_full_bridge_says_so() {
    faultkit::require!(root, program("ip"));
    isolated!(limit_secs = 600, || {
        let full = Ns::new();
        let mut lines = String::from("link add br0 type bridge\n");
        for at in 0..511 {
            lines += &format!("link add a{at} master br0 type veth peer name b{at}\nlink set b{at} master br0\n");
        }
        lines += "link add a511 master br0 type veth peer name b511\n";
        let dir = faultkit::TempDir::new();
        let file = dir.path().join("batch");
        std::fs::write(&file, lines).expect("write");
        full.output("ip", &format!("-batch {}", file.display()));
        wait(async {
            let net = Net::inside(&full).await.expect("net");
            let errors = [
                net.change_link(name("b511"), &LinkChange::new().master(name("br0"))).await.expect_err("full"),
                net.create_link(&Veth::new(name("c0"), name("d0")).master(name("br0"))).await.expect_err("full"),
            ];
            for error in errors {
                assert_eq!(error.kind(), ErrorKind::Limit, "{error:#}");
                assert!(error.hint().expect("hint").contains("1023"), "{error:#}");
            }
            assert!(net.link(name("c0")).await.expect("look").is_none(), "nothing is left");
        });
    });
}

#[test]
fn what_is_wrong_is_refused_before_the_kernel_or_by_it() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let host = Ns::host();
        host.output("ip", "link add taken type veth peer name taken1");
        host.output("ip", "link property add dev taken altname other-name");
        wait(async {
            let net = Net::here().await.expect("net");
            for wrong in [
                br0().vlan_default_pvid(4095),
                br0().group_fwd_mask(1),
                br0().alias("x".repeat(256)),
                br0().mtu(0),
                br0().tx_queues(0),
                br0().rx_queues(4097),
                br0().forward_delay(Duration::from_secs(99)),
                br0().stp().forward_delay(Duration::from_secs(1)),
                br0().hello_time(Duration::from_secs(11)),
                br0().max_age(Duration::from_secs(5)),
            ] {
                let error = net.create_link(&wrong).await.expect_err("wrong");
                assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Invalid, None), "{error:#}");
            }
            // By the kernel, with its own text.
            let error = net.create_link(&br0().mtu(70_000)).await.expect_err("too large");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
            assert!(error.kernel_text().expect("text").contains("mtu greater than device maximum"), "{error:#}");
            for taken in ["taken", "other-name"] {
                let error = net.create_link(&Bridge::new(name(taken))).await.expect_err("taken");
                assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
                let error = net.ensure_link(&Bridge::new(name(taken))).await.expect_err("taken");
                assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
                let says = if taken == "taken" { "veth" } else { "another name of the interface taken" };
                assert!(error.hint().expect("hint").contains(says), "{error:#}");
            }
            // A loop of bridges.
            net.create_link(&br0()).await.expect("make");
            let error = net.create_link(&Bridge::new(name("br1")).master(name("br0"))).await.expect_err("a loop");
            assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Invalid, Some(libc::ELOOP)), "{error:#}");
            assert!(error.kernel_text().is_some() && error.hint().is_some(), "{error:#}");
            let error = net.create_link(&Bridge::new(name("br1")).master(name("br9"))).await.expect_err("no master");
            assert_eq!(
                (error.kind(), error.subject()),
                (ErrorKind::NotFound, Some(&cellkit_core::Subject::Interface("br9".into())))
            );
            assert!(net.remove_link(name("br0")).await.expect("remove"));
            assert!(!net.remove_link(name("br0")).await.expect("gone"));
            assert!(!net.remove_link(name("other-name")).await.expect("only another name"));
            let error = net.remove_link(name("lo")).await.expect_err("the loopback");
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}");
        });
        assert_eq!(host.links(), ["lo", "taken1", "taken"]);
        host.output("ip", "link delete taken");
    });
}

/// Kinds and options that not every kernel has: made where `ip` makes them, typed where it does not.
#[test]
fn what_this_kernel_lacks_is_unsupported_with_a_hint() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let host = Ns::host();
        let ip = |args: &str| {
            let args = args.split_whitespace();
            let done =
                std::process::Command::new("ip").args(["link", "add", "br0", "type"]).args(args).output().expect("ip");
            if done.status.success() {
                host.output("ip", "link delete br0");
            }
            done.status.success()
        };
        wait(async {
            let net = Net::here().await.expect("net");
            let results = [
                ("dummy", made(&net, Dummy::new(name("br0"))).await, "dummy"),
                ("bridge vlan_filtering 1", made(&net, br0().vlan_filtering()).await, "VLAN_FILTERING"),
                (
                    "bridge vlan_protocol 802.1ad",
                    made(&net, br0().vlan_protocol(VlanProtocol::Ieee8021ad)).await,
                    "VLAN_FILTERING",
                ),
                ("bridge vlan_default_pvid 7", made(&net, br0().vlan_default_pvid(7)).await, "VLAN_FILTERING"),
            ];
            for (args, result, word) in results {
                let done = result.is_ok();
                assert_eq!(done, ip(args), "{args}: {result:?}");
                if let Err(error) = result {
                    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}");
                    assert!(error.hint().expect("hint").contains(word), "{error:#}");
                }
            }
        });
        assert_eq!(host.links(), ["lo"]);
    });
}

/// Makes it and removes it again.
async fn made(net: &Net, spec: impl vethnet::LinkSpec) -> vethnet::Result<vethnet::Link> {
    let made = net.create_link(&spec).await?;
    net.remove_link(&made).await?;
    Ok(made)
}
