//! Attaching and detaching, and what traffic then does.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Instant;

use cellkit_core::StepText;
use vethnet::{Attach, ErrorKind, Net};

use super::world::{HOST, Ns, StateDir, Uplink, WORLD, forwarding, wait};

#[test]
fn two_containers_reach_each_other_the_gateway_and_the_world() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let network = state.network();
        let uplink = Uplink::new();
        let (a, b) = (Ns::new(), Ns::new());
        assert_eq!(forwarding(), "0");
        wait(async {
            let first = network.attach(&a, &Attach::new("a"), &mut ()).await.expect("a");
            let second = network.attach(&b, &Attach::new("b"), &mut ()).await.expect("b");
            assert_eq!(first.address(), IpAddr::from([10, 209, 0, 2]));
            assert_eq!(second.address(), IpAddr::from([10, 209, 0, 3]));
            assert_eq!(first.gateway(), IpAddr::from([10, 209, 0, 1]));

            // As other programs see it.
            let host = Ns::host();
            let bridge = &host.ip("address show dev cellkit0")[0];
            assert_eq!(bridge["linkinfo"]["info_kind"], "bridge");
            assert_eq!(bridge["linkinfo"]["info_data"]["stp_state"], 0);
            assert_eq!(bridge["addr_info"].as_array().expect("addresses").len(), 1, "no IPv6 link-local");
            assert_eq!(bridge["addr_info"][0]["local"], "10.209.0.1");
            assert_eq!(bridge["addr_info"][0]["prefixlen"], 22);
            let name = first.record().host_ifname();
            let port = &host.ip(&format!("address show dev {name}"))[0];
            assert_eq!((&port["master"], &port["ifalias"]), (&"cellkit0".into(), &"a".into()));
            assert_eq!(port["addr_info"], serde_json::json!([]), "the host's end has no address");
            let eth0 = &a.ip("address show dev eth0")[0];
            assert_eq!(eth0["address"], first.record().mac().to_string());
            assert_eq!(eth0["mtu"], 1500);
            assert_eq!(eth0["addr_info"].as_array().expect("addresses").len(), 1, "no IPv6 link-local");
            assert_eq!(eth0["addr_info"][0]["local"], "10.209.0.2");
            assert_eq!(eth0["addr_info"][0]["broadcast"], "10.209.3.255");
            assert_eq!(a.ip("route show default")[0]["gateway"], "10.209.0.1");
            for file in ["accept_ra", "autoconf"] {
                let path = format!("/proc/sys/net/ipv6/conf/eth0/{file}");
                assert_eq!(a.run(|| std::fs::read_to_string(path).expect("sysctl")), "0\n", "{file}");
                let path = format!("/proc/sys/net/ipv6/conf/cellkit0/{file}");
                assert_eq!(std::fs::read_to_string(path).expect("sysctl"), "0\n", "{file}");
            }
            assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/conf/cellkit0/route_localnet").expect("it"), "0\n");
            assert_eq!(forwarding(), "1");

            for file in ["accept_ra", "autoconf"] {
                let path = format!("/proc/sys/net/ipv6/conf/{name}/{file}");
                assert_eq!(std::fs::read_to_string(path).expect("sysctl"), "0\n", "{file} of the host's end");
            }

            // Traffic.
            let _b = b.serve(80);
            let _host = host.serve(81);
            let _world = uplink.0.serve(82);
            assert_eq!(a.reaches(second.address(), 80).expect("a to b"), first.address());
            assert_eq!(a.reaches(first.gateway(), 81).expect("a to gateway"), first.address());
            assert_eq!(a.reaches(WORLD, 82).expect("a to the world"), HOST, "masqueraded");
            assert_eq!(b.reaches(WORLD, 82).expect("b to the world"), HOST, "masqueraded");
            assert_eq!(a.run(|| std::net::TcpListener::bind("127.0.0.1:0").map(drop)).map_err(|e| e.kind()), Ok(()));

            // From outside, only answers come in.
            uplink.0.output("ip", "route add 10.209.0.0/22 via 192.0.2.1");
            uplink.0.seen_at(second.address(), 80).expect_err("the world to b");

            first.detach().await.expect("detach a");
            first.detach().await.expect("again");
            assert_eq!(b.reaches(WORLD, 82).expect("b is still there"), HOST);
            assert!(!network.detach("a").await.expect("a is detached"));
            assert!(network.detach("b").await.expect("by its owner's id"));
        });
        assert_eq!(forwarding(), "0", "as it was");
        assert_eq!(state.files(), [""; 0]);
        assert_eq!(Ns::host().links(), ["lo", "up0"]);
        assert!(Ns::host().ruleset().is_empty());
        uplink.remove();
    });
}

#[test]
fn forwarding_that_was_on_stays_on() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("turn it on");
        let state = StateDir::new();
        let netns = Ns::new();
        wait(async {
            let attachment = state.network().attach(&netns, &Attach::new("a"), &mut ()).await.expect("attach");
            attachment.detach().await.expect("detach");
        });
        assert_eq!(forwarding(), "1");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").expect("turn it off");
    });
}

/// Turning forwarding off makes the kernel accept ICMP redirects, whatever was set before.
#[test]
fn redirects_that_were_refused_are_refused_afterwards() {
    faultkit::require!(root);
    isolated!(|| {
        const REDIRECTS: &str = "/proc/sys/net/ipv4/conf/all/accept_redirects";
        let state = StateDir::new();
        let netns = Ns::new();
        for before in ["0\n", "1\n"] {
            std::fs::write(REDIRECTS, before).expect("set");
            wait(async {
                let attachment = state.network().attach(&netns, &Attach::new("a"), &mut ()).await.expect("attach");
                assert_eq!(forwarding(), "1");
                attachment.detach().await.expect("detach");
            });
            assert_eq!(forwarding(), "0");
            assert_eq!(std::fs::read_to_string(REDIRECTS).expect("read"), before);
        }
        assert_eq!(state.files(), [""; 0]);
    });
}

#[test]
fn two_networks_of_one_state_directory_do_not_meet() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let (one, two) = (state.network(), super::world::network("cellkit1", "10.210.0.0/24", &state.path()));
        let (a, b) = (Ns::new(), Ns::new());
        wait(async {
            let first = one.attach(&a, &Attach::new("same"), &mut ()).await.expect("a");
            let second = two.attach(&b, &Attach::new("same"), &mut ()).await.expect("b");
            let _server = b.serve(80);
            a.seen_at(second.address(), 80).expect_err("networks are apart");
            Ns::host().reaches(second.address(), 80).expect("the host reaches both");
            first.detach().await.expect("detach");
            assert_eq!(forwarding(), "1", "the other network needs it");
            second.detach().await.expect("detach");
        });
        assert_eq!(forwarding(), "0");
        assert_eq!(state.files(), [""; 0]);
    });
}

#[test]
fn a_container_that_has_ended_is_detached() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let network = state.network();
        let netns = Ns::new();
        wait(async {
            let spec = Attach::new("a").publish("8080:80".parse().expect("port"));
            let attachment = network.attach(&netns, &spec, &mut ()).await.expect("attach");
            drop(netns);
            // The kernel takes the veth pair away on its own, a moment later.
            let start = Instant::now();
            while Ns::host().links().contains(&attachment.record().host_ifname().to_string()) {
                assert!(start.elapsed().as_secs() < 5, "the namespace did not end: something holds it");
            }
            attachment.detach().await.expect("detach");
        });
        assert_eq!(Ns::host().links(), ["lo"]);
        assert!(Ns::host().ruleset().is_empty());
        assert_eq!(state.files(), [""; 0]);
    });
}

#[test]
fn twenty_at_once_get_twenty_addresses() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let state = StateDir::new();
        let namespaces: Vec<_> = (0..20).map(|_| Ns::new()).collect();
        let addresses: HashSet<_> = std::thread::scope(|scope| {
            let start = |(index, netns)| {
                let network = state.network();
                scope.spawn(move || {
                    let spec = Attach::new(format!("c{index}"));
                    wait(network.attach(netns, &spec, &mut ())).expect("attach").address()
                })
            };
            let threads: Vec<_> = namespaces.iter().enumerate().map(start).collect();
            threads.into_iter().map(|thread| thread.join().expect("thread")).collect()
        });
        assert_eq!(addresses.len(), 20);
        for netns in &namespaces {
            let address = netns.ip("-4 address show dev eth0")[0]["addr_info"][0]["local"].clone();
            assert!(addresses.contains(&address.as_str().expect("address").parse().expect("IPv4")));
        }
        // All go at once, too.
        std::thread::scope(|scope| {
            for index in 0..20 {
                let network = state.network();
                scope.spawn(move || wait(network.detach(&format!("c{index}"))).expect("detach"));
            }
        });
        assert_eq!(state.files(), [""; 0]);
        assert_eq!(Ns::host().links(), ["lo"]);
    });
}

/// What belongs to a container that has ended (connections that others still have open) does not fall to the next one.
#[test]
fn an_address_rests_before_it_is_given_again() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let state = StateDir::new();
        let network = || super::world::network("cellkit0", "10.77.0.0/29", &state.path());
        let namespaces: Vec<_> = (0..10).map(|_| Ns::new()).collect();
        let last = |address: IpAddr| {
            address.to_string().rsplit('.').next().and_then(|last| last.parse::<u8>().ok()).expect("IPv4")
        };
        wait(async {
            let start = async |owner: &str, at: usize| {
                network().attach(&namespaces[at], &Attach::new(owner), &mut ()).await.expect("attach")
            };
            assert_eq!(last(start("stays", 0).await.address()), 2);
            let mut given = Vec::new();
            for at in 1..=8 {
                let attachment = start("comes-and-goes", at).await;
                given.push(last(attachment.address()));
                attachment.detach().await.expect("detach");
            }
            assert_eq!(given, [3, 4, 5, 6, 3, 4, 5, 6]);
            // What cannot be read is the beginning.
            let file = state.path().join("cellkit0/last");
            for damaged in ["x", "10.77.0.", "192.0.2.1", "fe80::1 ", "a file"] {
                std::fs::remove_file(&file).expect("it is remembered");
                match damaged {
                    "a file" => std::fs::write(&file, damaged).expect("damage"),
                    _ => std::os::unix::fs::symlink(damaged, &file).expect("damage"),
                }
                let attachment = start("after-damage", 9).await;
                assert_eq!(last(attachment.address()), 3, "{damaged:?}");
                attachment.detach().await.expect("detach");
            }
            network().detach("stays").await.expect("detach");
        });
        assert_eq!(state.files(), [""; 0]);
    });
}

/// Networks of one state directory come and go: whoever waited for the lock of a directory that was removed meanwhile
/// has to notice.
#[test]
fn a_state_directory_comes_and_goes_under_racers() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(limit_secs = 120, || {
        let state = StateDir::new();
        std::thread::scope(|scope| {
            for racer in 0..4 {
                let path = state.path();
                scope.spawn(move || {
                    let (bridge, subnet) = (format!("cellkit{}", racer % 2), format!("10.209.{}.0/24", racer % 2));
                    let network = super::world::network(&bridge, &subnet, &path);
                    let netns = Ns::new();
                    for _ in 0..12 {
                        wait(async {
                            let spec = Attach::new(format!("r{racer}"));
                            let attachment = network.attach(&netns, &spec, &mut ()).await.expect("attach");
                            Ns::host().run(|| assert_eq!(forwarding(), "1"));
                            attachment.detach().await.expect("detach");
                        });
                    }
                });
            }
        });
        assert_eq!(forwarding(), "0");
        assert_eq!(state.files(), [""; 0]);
        assert_eq!(Ns::host().links(), ["lo"]);
        assert!(Ns::host().ruleset().is_empty());
    });
}

#[test]
fn one_owner_is_attached_once() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let state = StateDir::new();
        let namespaces: Vec<_> = (0..8).map(|_| Ns::new()).collect();
        let results: Vec<_> = std::thread::scope(|scope| {
            let start = |netns| {
                let network = state.network();
                scope.spawn(move || wait(network.attach(netns, &Attach::new("same"), &mut ())))
            };
            let threads: Vec<_> = namespaces.iter().map(start).collect();
            threads.into_iter().map(|thread| thread.join().expect("thread")).collect()
        });
        let (winners, losers): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!(winners.len(), 1);
        for loser in losers {
            assert_eq!(loser.expect_err("lost").kind(), ErrorKind::AlreadyExists);
        }
        wait(state.network().detach("same")).expect("detach");
    });
}

#[test]
fn what_is_described_is_what_is_done() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let state = StateDir::new();
        let network = state.network();
        let netns = Ns::new();
        let spec =
            Attach::new("a").publish("8080:80".parse().expect("port")).publish("53:53/udp".parse().expect("port"));
        let described = network.describe(&spec).expect("describe");
        let mut done: Vec<(StepText, std::time::Duration)> = Vec::new();
        wait(async {
            let attachment = network.attach(&netns, &spec, &mut done).await.expect("attach");
            attachment.detach().await.expect("detach");
        });
        let done: Vec<_> = done.into_iter().map(|(text, _)| text).collect();
        assert_eq!(described, done);
        assert!(described.iter().any(|step| step.to_string().contains("peer {\"eth0\"")), "{described:#?}");
    });
}

#[test]
fn a_connection_inside_is_used_from_outside() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let netns = Ns::new();
        wait(async {
            let there = Net::inside(&netns).await.expect("inside");
            let links = there.links().await.expect("links");
            assert_eq!(links.len(), 1);
            assert!(!links[0].is_up);
            there.loopback_up().await.expect("up");
            assert!(there.links().await.expect("links")[0].is_up);
        });
        assert_eq!(netns.ip("link show lo")[0]["flags"][1], "UP");
    });
}

#[test]
fn the_loopback_comes_up_without_a_runtime() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let mut best = std::time::Duration::MAX;
        for _ in 0..20 {
            let netns = Ns::new();
            let mut told: Vec<(StepText, std::time::Duration)> = Vec::new();
            let start = Instant::now();
            vethnet::loopback_up(&netns, &mut told).expect("up");
            best = best.min(start.elapsed());
            assert_eq!(told.len(), 1);
            netns.run(|| std::net::TcpListener::bind("127.0.0.1:0").map(drop).expect("bind"));
        }
        println!("loopback_up: best of 20 {best:?}");
        let file = std::fs::File::open("/proc/version").expect("a file");
        let error = vethnet::loopback_up(&file, &mut ()).expect_err("no namespace");
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Invalid, "setns"));
    });
}

#[test]
fn lists_are_whole_while_links_come_and_go() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let host = Ns::host();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    host.output("ip", "link add churn0 type veth peer name churn1");
                    host.output("ip", "link delete churn0");
                }
            });
            wait(async {
                let net = Net::here().await.expect("here");
                for _ in 0..300 {
                    let links = net.links().await.expect("a whole list");
                    assert!(links.iter().any(|link| link.name == "lo"));
                    let churn = links.iter().filter(|link| link.name.starts_with("churn")).count();
                    assert!(churn == 0 || churn == 2 || links.iter().any(|link| link.name == "churn1"), "{links:?}");
                }
            });
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    });
}
