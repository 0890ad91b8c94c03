//! Changes of links that are there.

use serde_json::json;
use vethnet::{AltName, ErrorKind, LinkChange, LinkFlag, LinkRef, Net};

use super::world::{Ns, wait};
use super::{name, shown};

fn set() -> LinkChange<'static> {
    LinkChange::new()
}

#[test]
fn each_change_is_what_ip_shows() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let host = Ns::host();
        host.output("ip", "link add br0 type bridge");
        host.output("ip", "link add v0 type veth peer name v1");
        wait(async {
            let net = Net::here().await.expect("net");
            let v0 = net.link(name("v0")).await.expect("read").expect("v0");
            for (change, what, value) in [
                (set().mtu(1300), "mtu", json!(1300)),
                (set().mac("02:00:00:00:00:05".parse().expect("mac")), "address", json!("02:00:00:00:00:05")),
                (set().txqueuelen(12), "txqlen", json!(12)),
                (set().group(9), "group", json!("9")),
                (set().alias("of a test"), "ifalias", json!("of a test")),
                (set().alias(""), "ifalias", json!(null)),
                (set().master(name("br0")), "master", json!("br0")),
                (set().no_master(), "master", json!(null)),
                (set().addr_gen_mode(vethnet::AddrGenMode::Random), "inet6_addr_gen_mode", json!("random")),
                (set().addr_gen_mode(vethnet::AddrGenMode::Eui64), "inet6_addr_gen_mode", json!("eui64")),
                (set().rename(name("w0")), "ifname", json!("w0")),
                (set().rename(name("v0")), "ifname", json!("v0")),
            ] {
                net.change_link(&v0, &change).await.unwrap_or_else(|error| panic!("{what}: {error:#}"));
                assert_eq!(host.ip("link show type veth")[1][what], value, "{what}");
            }
            for (on, off, flag, word) in [
                (set().up(), set().down(), LinkFlag::Up, "UP"),
                (set().promisc(), set().no_promisc(), LinkFlag::Promiscuous, "PROMISC"),
                (set().allmulti(), set().no_allmulti(), LinkFlag::AllMulticast, "ALLMULTI"),
                (set().no_arp(), set().arp(), LinkFlag::NoArp, "NOARP"),
                (set().no_multicast().multicast(), set().no_multicast(), LinkFlag::Multicast, "MULTICAST"),
            ] {
                for (change, want) in [(&on, true), (&off, false), (&on, true)] {
                    net.change_link(name("v0"), change).await.expect(word);
                    let flags = shown(&host, "v0")["flags"].clone();
                    assert_eq!(flags.as_array().expect("flags").contains(&json!(word)), want, "{word}: {flags}");
                    assert_eq!(net.link(&v0).await.expect("read").expect("v0").has(flag), want, "{word}");
                }
            }
            net.change_link(&v0, &set()).await.expect("nothing to do");

            // By number: a link that was renamed is still meant, and the one that has its name now is not.
            host.output("ip", "link set v0 down");
            host.output("ip", "link set v0 name gone");
            host.output("ip", "link add v0 type veth peer name other");
            net.change_link(&v0, &set().mtu(1234)).await.expect("by number");
            assert_eq!((&shown(&host, "gone")["mtu"], &shown(&host, "v0")["mtu"]), (&json!(1234), &json!(1500)));
            assert!(net.remove_link(&v0).await.expect("by number"));
            assert_eq!(host.links(), ["lo", "br0", "other", "v0"]);
            assert!(!net.remove_link(&v0).await.expect("gone, and its name is another's"));
            assert_eq!(host.links(), ["lo", "br0", "other", "v0"]);
            let error = net.change_link(LinkRef::Index(4711), &set().up()).await.expect_err("never was");
            assert_eq!((error.kind(), error.to_string().contains("#4711")), (ErrorKind::NotFound, true), "{error:#}");
        });
        host.output("ip", "link delete v0");
        host.output("ip", "link delete br0");
    });
}

/// The move and the new name are one message: no name of the host is in the way, and none within is overwritten.
#[test]
fn a_move_with_a_new_name() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let (host, a) = (Ns::host(), Ns::new());
        host.output("ip", "link add v0 type veth peer name v1");
        host.output("ip", "link add eth0 type veth peer name eth1");
        wait(async {
            let net = Net::here().await.expect("net");
            net.change_link(name("v1"), &set().netns(&a).rename(name("eth0")).mtu(1400).up()).await.expect("move");
            let there = shown(&a, "eth0");
            assert_eq!(there["mtu"], 1400);
            assert!(there["flags"].as_array().expect("flags").contains(&json!("UP")), "{there}");
            // The name is taken there: it stays here.
            let error = net.change_link(name("v0"), &set().netns(&a).rename(name("eth0"))).await.expect_err("taken");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
            assert!(error.also().is_empty(), "{error:#}");
            assert_eq!(shown(&host, "v0")["ifname"], "v0");
            for change in [set().netns(&a), set().rename(name("lo1"))] {
                let error = net.change_link(name("lo"), &change).await.expect_err("the loopback");
                assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Invalid, None), "{error:#}");
            }
            let error = net.change_link(name("v0"), &set().netns(&a).alias("x")).await.expect_err("two messages");
            assert_eq!(error.kind(), ErrorKind::Invalid);
            let file = std::fs::File::open("/proc/self/status").expect("a file");
            let error = net.change_link(name("v0"), &set().netns(&file)).await.expect_err("no namespace");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
        });
        host.output("ip", "link delete v0");
        host.output("ip", "link delete eth0");
        assert_eq!(a.links(), ["lo"]);
    });
}

/// Since Linux 6.2; before, the error says what to do.
#[test]
fn a_link_that_is_up_is_renamed_or_it_is_said_why_not() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let host = Ns::host();
        host.output("ip", "link add v0 type veth peer name v1");
        host.output("ip", "link set v0 up");
        let by_ip = std::process::Command::new("ip").args(["link", "set", "v0", "name", "w0"]).output().expect("ip");
        let works = by_ip.status.success();
        let (now, next) = if works { ("w0", "x0") } else { ("v0", "x0") };
        wait(async {
            let net = Net::here().await.expect("net");
            match net.change_link(name(now), &set().rename(name(next))).await {
                Ok(()) => assert!(works && host.links().contains(&next.into())),
                Err(error) => {
                    assert!(!works, "{error:#}");
                    assert_eq!(error.kind(), ErrorKind::Busy, "{error:#}");
                    assert!(error.hint().expect("hint").contains("6.2"), "{error:#}");
                }
            }
        });
        host.output("ip", "link delete v1");
    });
}

#[test]
fn other_names() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let host = Ns::host();
        host.output("ip", "link add v0 type veth peer name v1");
        wait(async {
            let net = Net::here().await.expect("net");
            let long = AltName::new(&"long-".repeat(25)).expect("125 bytes");
            let short = AltName::new("uplink").expect("name");
            for alias in [&long, &short] {
                net.add_altname(name("v0"), alias).await.expect("add");
            }
            assert_eq!(shown(&host, "v0")["altnames"], json!([long.as_str(), "uplink"]));
            let v0 = net.link(name("uplink")).await.expect("read").expect("found by its other name");
            assert_eq!((v0.name.as_str(), v0.altnames.len()), ("v0", 2));
            for taken in ["uplink", "v1"] {
                let error = net.add_altname(name("v1"), &AltName::new(taken).expect("name")).await.expect_err("taken");
                assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
            }
            let never = AltName::new("never").expect("name");
            for (link, alias) in [("v1", &short), ("v0", &never), ("v9", &short)] {
                assert!(!net.remove_altname(name(link), alias).await.expect("has none such"), "{link} {alias:?}");
            }
            assert!(net.remove_altname(&v0, &short).await.expect("remove"));
            assert_eq!(shown(&host, "v0")["altnames"], json!([long.as_str()]));
        });
        host.output("ip", "link delete v0");
    });
}
