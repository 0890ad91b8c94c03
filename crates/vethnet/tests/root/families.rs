//! Networks of IPv6, of both families, and without a bridge.

use std::net::IpAddr;

use vethnet::{Attach, Attachment, ErrorKind, IfName, Limits, Network, Rate, Record, Wiring};

use super::world::{HOST, Ns, StateDir, Uplink, WORLD, forwarding, wait};

const FORWARDING_V6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The world's addresses of IPv6 on top of those of IPv4.
fn uplink_of_both() -> Uplink {
    // Or it would be a second before the kernel looks for neighbours there.
    std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").expect("accept_dad");
    let uplink = Uplink::new();
    Ns::host().output("ip", "address add 2001:db8::1/64 dev up0 nodad");
    uplink.0.output("ip", "address add 2001:db8::2/64 dev wan0 nodad");
    uplink
}

fn routed(state: &StateDir) -> Network {
    Network::routed("pods".parse().expect("name"), "10.40.0.0/16".parse().expect("range"))
        .subnet("fd40::/64".parse().expect("range"))
        .state_dir(state.path())
}

fn addresses(netns: &Ns, link: &str) -> Vec<String> {
    let list = netns.ip(&format!("address show dev {link}"));
    let global = list[0]["addr_info"].as_array().expect("addresses").iter().filter(|one| one["scope"] == "global");
    global.map(|one| format!("{}/{}", one["local"].as_str().expect("address"), one["prefixlen"])).collect()
}

#[test]
fn links_too_small_for_ipv6() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let uplink = Uplink::new();
        let _world = uplink.0.serve(80);
        let range = "10.210.0.0/24".parse().expect("range");
        let routed = Network::routed(IfName::new("routed0").expect("name"), range).state_dir(state.path());
        for network in [state.network(), routed] {
            let network = network.mtu(600);
            let a = Ns::new();
            wait(async {
                let half = Rate::mbit(8);
                let attachment = network.attach(&a, &Attach::new("a").egress(half), &mut ()).await.expect("attach");
                assert_eq!(a.ip("link show eth0")[0]["mtu"], 600);
                let host = attachment.record().host_ifname();
                assert_eq!(Ns::host().ip(&format!("link show {host}"))[0]["ifalias"], "a");
                assert_eq!(a.reaches(WORLD, 80).expect("a to the world"), HOST);
                for limits in [Limits::new(), Limits::new().egress(half)] {
                    network.limit("a", limits).await.expect("limit");
                }
                attachment.detach().await.expect("detach");
            });
        }
        assert!(state.files().is_empty(), "{:?}", state.files());
    });
}

#[test]
fn a_bridge_of_both_families() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let network = state.network().subnet("fd09::/64".parse().expect("range")).mtu(1400);
        let uplink = uplink_of_both();
        // The world knows the way back: it is not what is tested here.
        uplink.0.output("ip", "route add fd09::/64 via 2001:db8::1");
        let (a, b) = (Ns::new(), Ns::new());
        wait(async {
            let first = network.attach(&a, &Attach::new("a"), &mut ()).await.expect("a");
            let second = network.attach(&b, &Attach::new("b").address(ip("fd09::b")), &mut ()).await.expect("b");
            assert_eq!(addresses(&a, "eth0"), ["10.209.0.2/22", "fd09::2/64"]);
            assert_eq!(addresses(&b, "eth0"), ["10.209.0.3/22", "fd09::b/64"]);
            assert_eq!((second.ipv6().map(IpAddr::V6), second.address()), (Some(ip("fd09::b")), ip("10.209.0.3")));
            assert_eq!(addresses(&Ns::host(), "cellkit0"), ["10.209.0.1/22", "fd09::1/64"]);
            assert_eq!(a.ip("link show eth0")[0]["mtu"], 1400);
            assert_eq!(Ns::host().ip("link show cellkit0")[0]["mtu"], 1400);
            assert_eq!(a.ip("-6 route show default")[0]["gateway"], "fd09::1");
            assert_eq!(forwarding(), "1");
            assert_eq!(std::fs::read_to_string(FORWARDING_V6).expect("read"), "1\n");
            assert!(Ns::host().output("ip", "-6 address show dev cellkit0").contains("inet6 fe80::1/64 scope link"));
            let port = &Ns::host().ip(&format!("address show dev {}", first.record().host_ifname()))[0];
            assert_eq!(port["addr_info"], serde_json::json!([]), "the host's end has no address");

            let _b = b.serve(80);
            let _host = Ns::host().serve(81);
            let _world = uplink.0.serve(82);
            for (from, to) in [("10.209.0.2", "10.209.0.3"), ("fd09::2", "fd09::b")] {
                assert_eq!(a.reaches(ip(to), 80).expect("a to b"), ip(from));
            }
            assert_eq!(a.reaches(ip("fd09::1"), 81).expect("a to the host"), ip("fd09::2"));
            assert_eq!(Ns::host().reaches(ip("fd09::b"), 80).expect("the host to b"), ip("fd09::1"));
            a.reaches(ip("2001:db8::2"), 82).expect("a to the world");
            assert_eq!(a.reaches(WORLD, 82).expect("a to the world"), HOST);
            first.detach().await.expect("detach");
            second.detach().await.expect("detach");
        });
        assert_eq!(forwarding(), "0");
        assert_eq!(std::fs::read_to_string(FORWARDING_V6).expect("read"), "0\n");
        assert_eq!(state.files(), [""; 0]);
        assert_eq!(Ns::host().links(), ["lo", "up0"]);
        uplink.remove();
    });
}

#[test]
fn a_network_without_a_bridge() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let network = routed(&state);
        let uplink = uplink_of_both();
        uplink.0.output("ip", "route add fd40::/64 via 2001:db8::1");
        let (a, b) = (Ns::new(), Ns::new());
        wait(async {
            let first = network.attach(&a, &Attach::new("a"), &mut ()).await.expect("a");
            let spec = Attach::new("b").publish("8080:80".parse().expect("port"));
            let second = network.attach(&b, &spec, &mut ()).await.expect("b");
            assert_eq!(first.record().wiring(), Wiring::Routed);
            assert_eq!(addresses(&a, "eth0"), ["10.40.0.2/32", "fd40::2/128"]);
            assert_eq!(first.gateway(), ip("169.254.1.1"));
            let host = Ns::host();
            let name = first.record().host_ifname().to_string();
            assert_eq!(host.links().len(), 4, "no bridge: {:?}", host.links());
            assert_eq!(host.ip("route show 10.40.0.2")[0]["dev"], name.as_str());
            assert_eq!(host.ip("-6 route show fd40::2")[0]["dev"], name.as_str());
            assert_eq!(addresses(&host, &name), [""; 0]);
            assert!(host.output("ip", &format!("neigh show dev {name}")).contains("10.40.0.2 lladdr"));
            assert!(host.output("ip", &format!("neigh show dev {name}")).contains("PERMANENT"));
            let strict = format!("/proc/sys/net/ipv4/conf/{name}/rp_filter");
            assert_eq!(std::fs::read_to_string(strict).expect("rp_filter"), "1\n");

            let _b = b.serve(80);
            let _host = host.serve(81);
            let _world = uplink.0.serve(82);
            for (from, to) in [("10.40.0.2", "10.40.0.3"), ("fd40::2", "fd40::3")] {
                assert_eq!(a.reaches(ip(to), 80).expect("a to b"), ip(from));
            }
            assert_eq!(a.reaches(HOST, 81).expect("a to the host"), ip("10.40.0.2"));
            assert_eq!(host.reaches(second.address(), 80).expect("the host to b"), HOST);
            assert_eq!(a.reaches(WORLD, 82).expect("a to the world"), HOST, "masqueraded");
            a.reaches(ip("2001:db8::2"), 82).expect("a to the world");
            assert_eq!(uplink.0.reaches(HOST, 8080).expect("published"), WORLD);
            a.reaches(HOST, 8080).expect("published, from within");
            // From outside, only what was published comes in.
            uplink.0.output("ip", "route add 10.40.0.0/16 via 192.0.2.1");
            uplink.0.seen_at(second.address(), 80).expect_err("the world to b");
            // Nor does a container send from another's address.
            let heard = host.run(|| std::net::UdpSocket::bind((HOST, 83)).expect("bind"));
            heard.set_read_timeout(Some(std::time::Duration::from_millis(300))).expect("timeout");
            b.output("ip", "address add 10.40.0.99/32 dev eth0");
            for (from, arrives) in [("10.40.0.99:0", false), ("10.40.0.3:0", true)] {
                b.run(|| std::net::UdpSocket::bind(from).and_then(|socket| socket.send_to(b"x", (HOST, 83))))
                    .expect("send");
                assert_eq!(heard.recv(&mut [0; 9]).is_ok(), arrives, "from {from}");
            }
            first.detach().await.expect("detach");
            second.detach().await.expect("detach");
        });
        assert_eq!(forwarding(), "0");
        assert_eq!(std::fs::read_to_string(FORWARDING_V6).expect("read"), "0\n");
        assert_eq!(state.files(), [""; 0]);
        assert_eq!(Ns::host().links(), ["lo", "up0"]);
        assert!(Ns::host().ruleset().is_empty());
        uplink.remove();
    });
}

#[test]
fn isolated_containers_do_not_reach_each_other() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let uplink = Uplink::new();
        let world = uplink.0.serve(82);
        for network in [|state: &StateDir| state.network(), routed] {
            let state = StateDir::new();
            let network = network(&state).isolated();
            let (a, b) = (Ns::new(), Ns::new());
            wait(async {
                let first = network.attach(&a, &Attach::new("a"), &mut ()).await.expect("a");
                let second = network.attach(&b, &Attach::new("b"), &mut ()).await.expect("b");
                let _b = b.serve(80);
                a.seen_at(second.address(), 80).expect_err("a to b");
                Ns::host().reaches(second.address(), 80).expect("the host to b");
                assert_eq!(a.reaches(WORLD, 82).expect("a to the world"), HOST);
                first.detach().await.expect("detach");
                second.detach().await.expect("detach");
            });
            assert_eq!(state.files(), [""; 0]);
        }
        drop(world);
        uplink.remove();
    });
}

#[test]
fn another_process_detaches_by_the_record() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        for network in [|state: &StateDir| state.network(), routed] {
            let state = StateDir::new();
            let netns = Ns::new();
            wait(async {
                let spec = Attach::new("a").publish("8080:80".parse().expect("port"));
                let attachment = network(&state).attach(&netns, &spec, &mut ()).await.expect("attach");
                let text = serde_json::to_string(attachment.record()).expect("write");
                drop(attachment);
                let later = Attachment::from_record(serde_json::from_str::<Record>(&text).expect("read"));
                later.detach().await.expect("detach");
                later.detach().await.expect("again");
                assert_eq!(Ns::host().links(), ["lo"]);
                assert!(Ns::host().ruleset().is_empty());
                assert_eq!(state.files(), [""; 0]);
                // What was attached anew is not its to detach.
                let first = network(&state).attach(&netns, &Attach::new("b"), &mut ()).await.expect("other");
                // It has to live: a namespace that ends takes the link with it, when the kernel comes to it.
                let other = Ns::new();
                let second = network(&state).attach(&other, &Attach::new("a"), &mut ()).await.expect("anew");
                later.detach().await.expect("nothing to do");
                assert!(Ns::host().links().contains(&second.record().host_ifname().to_string()));
                second.detach().await.expect("detach");
                first.detach().await.expect("detach");
            });
        }
    });
}

/// A machine that lives by a router's advertisement would lose its default route when it becomes a router.
#[test]
fn a_default_route_that_was_advertised_is_not_lost() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let state = StateDir::new();
        let uplink = uplink_of_both();
        let host = Ns::host();
        host.output("ip", "-6 route add default via fe80::99 dev up0 proto ra");
        let network = || state.network().subnet("fd09::/64".parse().expect("range"));
        let netns = Ns::new();
        wait(async {
            let error = network().attach(&netns, &Attach::new("a"), &mut ()).await.expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("default route by up0"), "{error}");
            assert!(error.hint().expect("hint").contains("net.ipv6.conf.up0.accept_ra=2"), "{error:#}");
            assert_eq!(state.files(), [""; 0]);
            std::fs::write("/proc/sys/net/ipv6/conf/up0/accept_ra", "2").expect("as the hint says");
            let attachment = network().attach(&netns, &Attach::new("a"), &mut ()).await.expect("attach");
            assert_eq!(host.ip("-6 route show default")[0]["gateway"], "fe80::99");
            attachment.detach().await.expect("detach");
        });
        uplink.remove();
    });
}

#[test]
fn without_ipv6_an_address_of_it_is_refused() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let networks = [state.network().subnet("fd09::/64".parse().expect("range")), routed(&state)];
        const SWITCH: &str = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
        let off = Ns::new();
        off.run(|| std::fs::write(SWITCH, "1").expect("switch it off"));
        let on = Ns::new();
        wait(async {
            for network in &networks {
                let error = network.attach(&off, &Attach::new("a"), &mut ()).await.expect_err("in the container");
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}");
                assert!(error.to_string().contains("net.ipv6.conf.eth0.disable_ipv6"), "{error}");
                assert!(error.hint().expect("hint").contains("disable_ipv6=0"), "{error:#}");
                std::fs::write(SWITCH, "1").expect("switch it off");
                let error = network.attach(&on, &Attach::new("a"), &mut ()).await.expect_err("on the host");
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}");
                std::fs::write(SWITCH, "0").expect("switch it on");
                assert_eq!(Ns::host().links(), ["lo"]);
                assert_eq!((off.links(), on.links()), (vec!["lo".to_owned()], vec!["lo".to_owned()]));
                assert!(Ns::host().ruleset().is_empty());
                assert_eq!(state.files(), [""; 0]);
            }
            // An IPv4 network does not mind.
            let attachment = state.network().attach(&off, &Attach::new("a"), &mut ()).await.expect("attach");
            attachment.detach().await.expect("detach");
        });
    });
}

#[test]
fn an_address_that_is_asked_for_and_taken() {
    faultkit::require!(root);
    isolated!(|| {
        let state = StateDir::new();
        let network = state.network();
        let (a, b) = (Ns::new(), Ns::new());
        wait(async {
            let spec = Attach::new("a").address(ip("10.209.0.9"));
            let first = network.attach(&a, &spec, &mut ()).await.expect("a");
            assert_eq!(first.address(), ip("10.209.0.9"));
            let spec = Attach::new("b").address(ip("10.209.0.9"));
            for error in [
                network.check(&spec).await.expect_err("check"),
                network.attach(&b, &spec, &mut ()).await.expect_err("attach"),
            ] {
                assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
                assert!(error.to_string().contains("10.209.0.9"), "{error}");
                assert!(error.hint().expect("hint").contains("\"a\""), "{error:#}");
            }
            first.detach().await.expect("detach");
        });
    });
}
