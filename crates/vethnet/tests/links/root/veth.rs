//! Veth pairs.

use std::future::Future as _;

use serde_json::json;
use vethnet::{Bridge, ErrorKind, Net, Veth};

use super::watch::Watch;
use super::world::{Ns, wait};
use super::{name, shown};

/// One message: the other end was never on the host, and never had another name.
#[test]
fn the_peer_is_born_where_it_belongs() {
    faultkit::require!(root, program("ip"), program("ping"));
    isolated!(|| {
        let (host, a) = (Ns::host(), Ns::new());
        wait(async {
            let net = Net::here().await.expect("net");
            net.create_link(&Bridge::new(name("br0")).up()).await.expect("bridge");
            let mut watch = Watch::start();
            watch.since();
            let spec = Veth::new(name("web0"), name("eth0"))
                .master(name("br0"))
                .mac("02:00:00:00:00:01".parse().expect("mac"))
                .mtu(1400)
                .tx_queues(2)
                .rx_queues(3)
                .up()
                .peer_netns(&a)
                .peer_mac("02:00:00:00:00:02".parse().expect("mac"))
                .peer_mtu(1400)
                .peer_txqueuelen(50)
                .peer_queues(4, 5);
            let made = net.create_link(&spec).await.expect("make");
            let heard = watch.since();
            assert!(heard.iter().all(|line| !line.contains("eth0")), "{heard:?}");
            assert!(heard.iter().any(|line| line.contains("web0")), "{heard:?}");

            // The kernel does not say which end's name is taken.
            let error =
                net.create_link(&Veth::new(name("web1"), name("eth0")).peer_netns(&a)).await.expect_err("taken");
            assert_eq!(error.subject().expect("subject").to_string(), r#"interface "eth0""#, "{error:#}");
            assert!(error.hint().is_some_and(|hint| hint.contains("the other end")), "{error:#}");
            let error =
                net.create_link(&Veth::new(name("web0"), name("eth9")).peer_netns(&a)).await.expect_err("taken");
            assert_eq!(error.subject().expect("subject").to_string(), r#"interface "web0""#, "{error:#}");

            let here = shown(&host, "web0");
            assert_eq!(
                (&here["address"], &here["mtu"], &here["master"]),
                (&json!("02:00:00:00:00:01"), &json!(1400), &json!("br0"))
            );
            assert_eq!((&here["num_tx_queues"], &here["num_rx_queues"]), (&json!(2), &json!(3)));
            let there = shown(&a, "eth0");
            assert_eq!(
                (&there["address"], &there["mtu"], &there["txqlen"]),
                (&json!("02:00:00:00:00:02"), &json!(1400), &json!(50))
            );
            assert_eq!((&there["num_tx_queues"], &there["num_rx_queues"]), (&json!(4), &json!(5)));
            assert_eq!(there["ifindex"], made.parent.expect("the peer's number"));
            assert_eq!(here["link_netnsid"], made.parent_netns_id.expect("in another namespace"));
            assert!(made.is_up && !made.has_carrier, "the other end is down: it is brought up from inside");

            watch.quiet("nothing differs", async || drop(net.ensure_link(&spec).await.expect("ensure"))).await;
            watch.stop();
            a.output("ip", "link set eth0 up");

            // Packets of the full size pass.
            host.output("ip", "address add 10.0.0.1/24 dev br0");
            a.output("ip", "address add 10.0.0.2/24 dev eth0");
            a.output("ping", "-c 1 -W 5 -M do -s 1372 10.0.0.1");

            // A queue more cannot be had; a name here may be had once.
            let more = Veth::new(name("web0"), name("eth0")).tx_queues(9);
            let error = net.ensure_link(&more).await.expect_err("another number of queues");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            assert!(error.hint().expect("hint").contains("queues"), "{error:#}");
            let error = net.create_link(&spec).await.expect_err("taken");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            // Its name within, too: and nothing is left here.
            let error =
                net.create_link(&Veth::new(name("web1"), name("eth0")).peer_netns(&a)).await.expect_err("taken");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
            let error = net.create_link(&Veth::new(name("same"), name("same"))).await.expect_err("one name");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
            let error =
                net.create_link(&Veth::new(name("big"), name("big1")).mtu(100_000)).await.expect_err("too large");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");

            net.remove_link(&made).await.expect("remove");
            assert_eq!(a.links(), ["lo"], "both ends go");
            net.remove_link(name("br0")).await.expect("remove");
        });
        assert_eq!(host.links(), ["lo"]);
    });
}

/// Of many that ensure one pair at the same time, all get the same one.
#[test]
fn many_at_once() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let host = Ns::host();
        let seen: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..16)
                .map(|_| {
                    scope.spawn(|| {
                        wait(async {
                            let net = Net::here().await.expect("net");
                            let spec = Veth::new(name("web0"), name("web1")).alias("one of many").up();
                            net.ensure_link(&spec).await.expect("ensure").index
                        })
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("thread")).collect()
        });
        assert!(seen.iter().all(|index| *index == seen[0]), "{seen:?}");
        assert_eq!(shown(&host, "web0")["ifalias"], "one of many");
        host.output("ip", "link delete web0");
    });
}

/// A link that takes several messages, whose making is stopped at each place where it waits.
#[test]
fn a_dropped_future_leaves_no_half_made_link() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let host = Ns::host();
        let mut dropped = 0;
        wait(async {
            let net = Net::here().await.expect("net");
            for polls in 1..40 {
                let spec = Veth::new(name("web0"), name("web1")).alias("whole").up();
                let mut make = Box::pin(net.create_link(&spec));
                let mut left = polls;
                let done = std::future::poll_fn(|context| {
                    left -= 1;
                    match make.as_mut().poll(context) {
                        std::task::Poll::Ready(result) => std::task::Poll::Ready(Some(result)),
                        std::task::Poll::Pending if left == 0 => std::task::Poll::Ready(None),
                        std::task::Poll::Pending => std::task::Poll::Pending,
                    }
                })
                .await;
                drop(make);
                match done {
                    Some(made) => {
                        assert_eq!(made.expect("made").alias.as_deref(), Some("whole"));
                        net.remove_link(name("web0")).await.expect("remove");
                        break;
                    }
                    None => dropped += 1,
                }
                if let Some(left) = net.link(name("web0")).await.expect("look") {
                    assert_eq!(left.alias.as_deref(), Some("whole"), "after {polls} polls");
                    net.remove_link(&left).await.expect("remove");
                }
            }
        });
        println!("dropped {dropped} times");
        assert_eq!(host.links(), ["lo"]);
    });
}
