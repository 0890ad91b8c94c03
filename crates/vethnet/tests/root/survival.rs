//! Races for one name, and stops under traffic.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use vethnet::{Attach, ErrorKind, Network};

use super::world::{HOST, Ns, StateDir, Uplink, WORLD, forwarding, wait};

fn spec() -> Attach {
    Attach::new("a").publish("8080:80".parse().expect("port"))
}

/// What can be seen of a network from outside: links, addresses, routes, neighbours, rules, switches, files.
fn seen(state: &StateDir) -> Vec<String> {
    let host = Ns::host();
    let mut all = state.files();
    for args in ["-br link", "-br address", "route show table all", "-6 route show table all", "neighbour"] {
        all.push(host.output("ip", args));
    }
    all.push(host.output("nft", "list ruleset"));
    all.push(forwarding());
    all.push(std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding").expect("forwarding"));
    all
}

#[test]
fn sixty_four_race_for_one_name() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(limit_secs = 120, || {
        let state = StateDir::new();
        let before = seen(&state);
        let namespaces: Vec<_> = (0..64).map(|_| Ns::new()).collect();
        for network in state.networks() {
            let results: Vec<_> = std::thread::scope(|scope| {
                let start = |netns| {
                    let network = network.clone();
                    scope.spawn(move || wait(network.attach(netns, &spec(), &mut ())))
                };
                let threads: Vec<_> = namespaces.iter().map(start).collect();
                threads.into_iter().map(|thread| thread.join().expect("thread")).collect()
            });
            let (winners, losers): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
            assert_eq!((winners.len(), losers.len()), (1, 63));
            for loser in losers {
                let error = loser.expect_err("lost");
                assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
            }
            wait(network.detach("a")).expect("detach");
            assert_eq!(seen(&state), before, "{}", network.wiring());
        }
    });
}

/// A container sends and is sent to while it is stopped, a hundred times, on a machine where others keep forwarding and
/// address translation on: nothing with an address of the network comes out at the uplink.
#[test]
fn a_hundred_stops_under_traffic_leak_nothing_to_the_uplink() {
    faultkit::require!(root, program("ip"), program("nft"));
    isolated!(limit_secs = 120, || {
        let state = StateDir::new();
        let host = Ns::host();
        let uplink = Uplink::new();
        host.output("ip", "route add default via 192.0.2.2");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("others need it");
        host.output("nft", "add table ip others");
        host.output("nft", "add chain ip others nat { type nat hook postrouting priority 90 ; }");
        host.output("nft", "add rule ip others nat ip saddr 203.0.113.1 masquerade");
        let world = &uplink.0;
        world.output("nft", "add table netdev sniff");
        world.output("nft", "add chain netdev sniff in { type filter hook ingress device wan0 priority 0 ; }");
        for range in ["10.209.0.0/22", "10.40.0.0/16"] {
            for way in ["saddr", "daddr"] {
                world.output("nft", &format!("add rule netdev sniff in ip {way} {range} counter"));
            }
        }
        world.output("nft", "add rule netdev sniff in udp dport 99 counter");
        let leaked = || {
            let rules = world.output("nft", "list chain netdev sniff in");
            let counts = rules.lines().filter_map(|line| line.split_once("packets ")?.1.split(' ').next());
            counts.map(|count| count.parse::<u64>().expect("a number")).collect::<Vec<_>>()
        };

        let stop = AtomicBool::new(false);
        let neighbour = &AtomicU8::new(209);
        let netns = Ns::new();
        std::thread::scope(|scope| {
            // The world sends to the published port, and answers whoever sends to it.
            let answers = world.run(|| UdpSocket::bind((WORLD, 99)).expect("bind"));
            answers.set_read_timeout(Some(Duration::from_millis(1))).expect("timeout");
            let stopped = &stop;
            scope.spawn(move || {
                let mut buffer = [0; 64];
                while !stopped.load(Ordering::Relaxed) {
                    let _ = answers.send_to(b"in", (HOST, 8099));
                    if let Ok((length, peer)) = answers.recv_from(&mut buffer) {
                        for _ in 0..3 {
                            let _ = answers.send_to(&buffer[..length], peer);
                        }
                    }
                }
            });
            // The container sends to the world and to a neighbour that is not there.
            let sends = netns.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 99)).expect("bind"));
            scope.spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    let second = neighbour.load(Ordering::Relaxed);
                    for to in [WORLD, IpAddr::from([10, second, 0, 77])] {
                        let _ = sends.send_to(b"out", (to, 99));
                    }
                    std::thread::sleep(Duration::from_micros(200));
                }
            });
            for round in 0..100 {
                neighbour.store(if round < 50 { 209 } else { 40 }, Ordering::Relaxed);
                let network = match round {
                    ..50 => state.network(),
                    _ => Network::routed("pods".parse().expect("name"), "10.40.0.0/16".parse().expect("range"))
                        .state_dir(state.path()),
                };
                let spec = Attach::new("a").publish("8099:99/udp".parse().expect("port"));
                wait(async {
                    let attachment = network.attach(&netns, &spec, &mut ()).await.expect("attach");
                    std::thread::sleep(Duration::from_millis(5));
                    attachment.detach().await.expect("detach");
                });
                std::thread::sleep(Duration::from_millis(2));
            }
            stop.store(true, Ordering::Relaxed);
        });
        let counts = leaked();
        assert_eq!(counts[..4], [0; 4], "packets with an address of a network");
        assert!(counts[4] > 100, "the container did send: {counts:?}");
        assert_eq!(state.files(), [""; 0]);
        host.output("nft", "delete table ip others");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").expect("as before");
        uplink.remove();
    });
}
