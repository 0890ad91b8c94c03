//! VLANs of bridges, against `bridge -j vlan show`.

use serde_json::{Value, json};
use vethnet::{Bridge, BridgeVlan, ErrorKind, LinkData, Net, VlanProtocol};

use super::world::{Ns, wait};
use super::{data, name};

#[test]
fn wrong_numbers_and_kernels_without_them() {
    faultkit::require!(root, program("ip"), program("bridge"));
    isolated!(|| {
        let host = Ns::host();
        host.output("ip", "link add br0 type bridge");
        host.output("ip", "link add p0 master br0 type veth peer name p1");
        wait(async {
            let net = Net::here().await.expect("net");
            for wrong in [
                BridgeVlan::new(0),
                BridgeVlan::new(4096),
                BridgeVlan::range(std::ops::RangeInclusive::new(5, 4)),
                BridgeVlan::range(1..=2).pvid(),
            ] {
                let error = net.add_bridge_vlan(name("p0"), &wrong).await.expect_err("wrong");
                assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Invalid, None), "{error:#}");
            }
            let error = net.add_bridge_vlan(name("p1"), &BridgeVlan::new(7)).await.expect_err("no port");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
            // As it is for the program bridge.
            let theirs = std::process::Command::new("bridge")
                .args(["vlan", "add", "vid", "9", "dev", "p0"])
                .output()
                .expect("bridge");
            let ours = net.add_bridge_vlan(name("p0"), &BridgeVlan::new(7)).await;
            assert_eq!(ours.is_ok(), theirs.status.success(), "{ours:?}");
            match ours {
                Ok(()) => assert!(net.bridge_vlans().await.expect("list").iter().any(|vlan| vlan.id == 7)),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}");
                    assert!(error.hint().expect("hint").contains("CONFIG_BRIDGE_VLAN_FILTERING"), "{error:#}");
                    assert_eq!(net.bridge_vlans().await.expect("list"), []);
                }
            }
        });
        host.output("ip", "link delete br0");
        host.output("ip", "link delete p0");
    });
}

#[test]
fn each_is_what_bridge_shows_and_keeps_frames_apart() {
    faultkit::require!(root, vm, program("ip"), program("bridge"), program("ping"));
    isolated!(|| {
        let (host, a, b) = (Ns::host(), Ns::new(), Ns::new());
        let vlans = |dev: &str| -> Value {
            let text = host.output("bridge", "-j vlan show");
            let all: Value = serde_json::from_str(&text).expect("bridge -j");
            let found = all.as_array().expect("list").iter().find(|port| port["ifname"] == dev).cloned();
            found.map_or(json!([]), |port| port["vlans"].clone())
        };
        wait(async {
            let net = Net::here().await.expect("net");
            for (spec, option, value) in [
                (Bridge::new(name("br0")).vlan_filtering(), "vlan_filtering", json!(1)),
                (Bridge::new(name("br0")).vlan_default_pvid(7), "vlan_default_pvid", json!(7)),
                (Bridge::new(name("br0")).vlan_protocol(VlanProtocol::Ieee8021ad), "vlan_protocol", json!("802.1ad")),
                (Bridge::new(name("br0")).vlan_stats(), "vlan_stats_enabled", json!(1)),
                (Bridge::new(name("br0")).vlan_stats_per_port(), "vlan_stats_per_port", json!(1)),
                (Bridge::new(name("br0")).mcast_vlan_snooping().vlan_filtering(), "mcast_vlan_snooping", json!(1)),
            ] {
                let made = net.create_link(&spec).await.unwrap_or_else(|error| panic!("{option}: {error:#}"));
                assert_eq!(data(&host, "br0")[option], value, "{option}");
                assert_eq!(net.ensure_link(&spec).await.expect("again"), made, "{option}");
                net.remove_link(&made).await.expect("remove");
            }
            let bridge = net.create_link(&Bridge::new(name("br0")).vlan_filtering().up()).await.expect("bridge");
            assert!(
                matches!(&bridge.data, Some(LinkData::Bridge(data)) if data.vlan_filtering && data.vlan_default_pvid == 1)
            );
            for (port, ns) in [("p0", &a), ("p1", &b)] {
                let pair = vethnet::Veth::new(name(port), name("eth0")).master(&bridge).up().peer_netns(ns);
                net.create_link(&pair).await.expect("pair");
                ns.output("ip", "link set eth0 up");
            }
            a.output("ip", "address add 10.0.0.1/24 dev eth0");
            b.output("ip", "address add 10.0.0.2/24 dev eth0");
            a.output("ping", "-c 1 -W 20 10.0.0.2");

            net.remove_bridge_vlan(name("p0"), &BridgeVlan::new(1)).await.expect("remove");
            net.add_bridge_vlan(name("p0"), &BridgeVlan::new(7).pvid().untagged()).await.expect("add");
            net.add_bridge_vlan(name("p0"), &BridgeVlan::new(7).pvid().untagged()).await.expect("again");
            net.add_bridge_vlan(name("p0"), &BridgeVlan::range(20..=22)).await.expect("a range");
            net.add_bridge_vlan(&bridge, &BridgeVlan::new(30)).await.expect("the bridge itself");
            assert_eq!(
                vlans("p0"),
                json!([{"vlan": 7, "flags": ["PVID", "Egress Untagged"]}, {"vlan": 20}, {"vlan": 21}, {"vlan": 22}])
            );
            assert_eq!(vlans("br0"), json!([{"vlan": 1, "flags": ["PVID", "Egress Untagged"]}, {"vlan": 30}]));
            let p0 = net.link(name("p0")).await.expect("read").expect("p0").index;
            let ours: Vec<_> =
                net.bridge_vlans().await.expect("list").into_iter().filter(|vlan| vlan.port == p0).collect();
            assert_eq!(ours.iter().map(|vlan| vlan.id).collect::<Vec<_>>(), [7, 20, 21, 22]);
            assert!(ours[0].pvid && ours[0].untagged && !ours[1].pvid && !ours[1].untagged);

            // Another VLAN: nothing passes; the same one: all does.
            let ping = |wait: &'static str| {
                a.run(|| {
                    std::process::Command::new("ping")
                        .args(["-c", "1", "-W", wait, "10.0.0.2"])
                        .output()
                        .expect("ping")
                        .status
                        .success()
                })
            };
            assert!(!ping("1"), "VLANs 7 and 1");
            net.add_bridge_vlan(name("p1"), &BridgeVlan::new(7).pvid().untagged()).await.expect("add");
            assert!(ping("20"), "both 7");
            net.remove_bridge_vlan(name("p0"), &BridgeVlan::range(20..=22)).await.expect("remove");
            net.remove_bridge_vlan(name("p0"), &BridgeVlan::new(99)).await.expect("it has none");
            assert_eq!(vlans("p0"), json!([{"vlan": 7, "flags": ["PVID", "Egress Untagged"]}]));
            for link in ["p0", "p1", "br0"] {
                net.remove_link(name(link)).await.expect("remove");
            }
        });
        assert_eq!(host.links(), ["lo"]);
    });
}
