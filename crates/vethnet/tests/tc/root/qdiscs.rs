//! Queueing disciplines, classes and filters, as tc(8) sees them and as traffic feels them.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use vethnet::{Discipline, ErrorKind, Filter, Htb, HtbClass, IfName, Net, Netem, Parent, Probability, Rate, Tbf};

use super::traffic::{assert_more, assert_near, class as class_of, tc, tcp, udp, until_quiet};
use super::world::{Ns, wait};

const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// A pair of interfaces, `a0` here and `b0` in a namespace of its own.
struct Pair {
    there: Ns,
    a0: IfName,
}

impl Pair {
    fn new() -> Self {
        let (host, there) = (Ns::host(), Ns::new());
        host.output("ip", "link add a0 type veth peer name b0");
        let mut inside = there.run(|| Command::new("sleep").arg("60").spawn().expect("sleep"));
        host.output("ip", &format!("link set b0 netns {}", inside.id()));
        inside.kill().expect("kill");
        inside.wait().expect("wait");
        host.output("ip", "address add 192.0.2.1/24 dev a0");
        host.output("ip", "link set a0 up");
        there.output("ip", "address add 192.0.2.2/24 dev b0");
        there.output("ip", "link set b0 up");
        Self { there, a0: IfName::new("a0").expect("name") }
    }

    fn remove(self) {
        Ns::host().output("ip", "link delete a0");
    }
}

#[test]
fn a_token_bucket_is_what_tc_sees_and_what_traffic_feels() {
    faultkit::require!(root, program("ip"), program("tc"));
    isolated!(|| {
        let pair = Pair::new();
        let host = Ns::host();
        wait(async {
            let net = Net::here().await.expect("net");
            let tbf = Tbf::new(Rate::mbit(20)).burst(20_000).limit(100_000);
            net.set_qdisc(&pair.a0, Parent::Root, tbf).await.expect("tbf");
            let qdisc = &tc(&host, "qdisc show dev a0")[0];
            assert_eq!((&qdisc["kind"], &qdisc["root"]), (&"tbf".into(), &true.into()));
            assert_eq!(qdisc["options"]["rate"], 2_500_000, "bytes a second");
            assert_eq!(qdisc["options"]["burst"], 20_000);
            assert_eq!(qdisc["options"]["lat"], 32_000, "microseconds: {qdisc}");

            assert_near(20e6, || tcp(&host, &pair.there, THERE, Duration::from_millis(1200)));
            assert_near(20e6, || udp(&host, &pair.there, THERE, 64, Duration::from_millis(800)));
            // The other direction is not limited.
            assert_more(60e6, || tcp(&pair.there, &host, HERE, Duration::from_millis(300)));

            // What it has counted is what tc says.
            until_quiet(&host, "a0");
            let ours = net.qdiscs(&pair.a0).await.expect("qdiscs");
            let theirs = &tc(&host, "qdisc show dev a0")[0];
            assert_eq!(ours.len(), 1);
            let ours = &ours[0].statistics;
            for (ours, name) in [
                (ours.bytes, "bytes"),
                (ours.packets, "packets"),
                (ours.drops.into(), "drops"),
                (ours.overlimits.into(), "overlimits"),
                (ours.backlog.into(), "backlog"),
                (ours.queued.into(), "qlen"),
            ] {
                assert_eq!(theirs[name], ours, "{name}");
            }
            assert!(ours.overlimits > 0 && ours.bytes > 1_000_000, "{ours:?}");

            // A change in place keeps the handle and the counters.
            let handle = theirs["handle"].clone();
            net.ensure_qdisc(&pair.a0, Parent::Root, Tbf::new(Rate::mbit(40))).await.expect("change");
            let changed = &tc(&host, "qdisc show dev a0")[0];
            assert_eq!(changed["handle"], handle);
            assert_eq!(changed["options"]["rate"], 5_000_000);
            assert!(changed["bytes"].as_u64() >= theirs["bytes"].as_u64());
            assert_near(40e6, || tcp(&host, &pair.there, THERE, Duration::from_millis(1200)));

            // A link that was read stands for its number, and for its name in errors.
            let link = net.link(&pair.a0).await.expect("link").expect("there");
            assert_eq!(net.qdiscs(&link).await.expect("qdiscs").len(), 1);
            assert!(net.remove_qdisc(&link, Parent::Root).await.expect("remove"));
            assert!(!net.remove_qdisc(&link, Parent::Root).await.expect("there is none"));
            assert!(!net.remove_qdisc(&link, Parent::Ingress).await.expect("there never was one"));
            let error = net.remove_filters(&link, Parent::Ingress).await.expect_err("there is no ingress");
            let subject = error.subject().expect("subject").to_string();
            assert!(subject.contains(&format!("{:?}", pair.a0.as_str())), "{subject}");
            assert_eq!(tc(&host, "qdisc show dev a0")[0]["kind"], "noqueue");
            let gone = vethnet::IfName::new("gone").expect("name");
            assert!(!net.remove_qdisc(gone, Parent::Root).await.expect("no such interface"));
            // Not limited any more.
            assert_more(60e6, || tcp(&host, &pair.there, THERE, Duration::from_millis(300)));
        });
        pair.remove();
    });
}

#[test]
fn rates_of_every_size() {
    faultkit::require!(root, program("ip"), program("tc"));
    isolated!(|| {
        let pair = Pair::new();
        wait(async {
            let net = Net::here().await.expect("net");
            // Also beyond what 32 bits hold.
            for bytes in [125, 1_000, 125_000_000, 4_294_967_295, 4_294_967_296, 50_000_000_000] {
                let tbf = Tbf::new(Rate::bytes_per_second(bytes)).burst(16_384).latency(Duration::from_millis(100));
                net.set_qdisc(&pair.a0, Parent::Root, tbf).await.expect("tbf");
                let seen = &tc(&Ns::host(), "qdisc show dev a0")[0]["options"];
                assert_eq!(seen["rate"], bytes);
                let Discipline::Tbf(read) = net.qdiscs(&pair.a0).await.expect("qdiscs").remove(0).discipline else {
                    panic!("no tbf")
                };
                assert_eq!(read.rate().as_bytes_per_second(), bytes);
                assert_eq!(read.limit_bytes(), tbf.limit_bytes());
                // The kernel keeps a time, and rounds it twice to 64 ns.
                let off = u64::from(read.burst_bytes().abs_diff(16_384));
                assert!(off <= bytes * 128 / 1_000_000_000 + 1, "{read:?}");
            }
        });
        pair.remove();
    });
}

#[test]
fn classes_share_a_rate_by_filters() {
    faultkit::require!(root, program("ip"), program("tc"));
    isolated!(|| {
        let pair = Pair::new();
        let host = Ns::host();
        pair.there.output("ip", "address add 192.0.2.3/24 dev b0");
        wait(async {
            let net = Net::here().await.expect("net");
            let handle = |text: &str| text.parse().expect("handle");
            let htb = Htb::new(handle("1:")).default_class(0x20);
            net.ensure_qdisc(&pair.a0, Parent::Root, htb).await.expect("htb");
            net.ensure_qdisc(&pair.a0, Parent::Root, htb).await.expect("again");
            let error =
                net.ensure_qdisc(&pair.a0, Parent::Root, Tbf::new(Rate::mbit(1))).await.expect_err("an htb is there");
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            let class = async |parent, name, class: HtbClass| {
                net.set_class(&pair.a0, handle(parent), handle(name), &class).await.expect("class");
            };
            class("1:", "1:1", HtbClass::new(Rate::mbit(60))).await;
            class("1:1", "1:10", HtbClass::new(Rate::mbit(30)).ceil(Rate::mbit(60)).prio(1)).await;
            class("1:1", "1:20", HtbClass::new(Rate::mbit(10))).await;
            let to = Filter::destination(Parent::Class(handle("1:")), "192.0.2.3/32".parse().expect("address"));
            net.add_filter(&pair.a0, &to.class(handle("1:10"))).await.expect("filter");

            let (line, _) = class_of(&host, "a0", "1:10");
            let words = "class htb 1:10 parent 1:1 prio 1 rate 30Mbit ceil 60Mbit burst 37500b cburst 75000b";
            assert_eq!(line.trim(), words);
            let (line, _) = class_of(&host, "a0", "1:20");
            assert!(line.contains(" rate 10Mbit ceil 10Mbit burst 16Kb"), "{line}");

            assert_near(10e6, || tcp(&host, &pair.there, THERE, Duration::from_millis(1200)));
            assert_near(60e6, || tcp(&host, &pair.there, Ipv4Addr::new(192, 0, 2, 3), Duration::from_millis(1200)));
            until_quiet(&host, "a0");
            let ours = net.classes(&pair.a0).await.expect("classes");
            assert_eq!(ours.len(), 3);
            for class in &ours {
                let (_, theirs) = class_of(&host, "a0", &class.handle.to_string());
                assert_eq!(theirs, class.statistics.bytes, "{}", class.handle);
                assert!(class.statistics.bytes > 1_000_000);
            }

            let busy = net.remove_class(&pair.a0, handle("1:10")).await.expect_err("a filter leads to it");
            assert_eq!(busy.kind(), ErrorKind::Busy, "{busy:?}");
            net.remove_filters(&pair.a0, Parent::Class(handle("1:"))).await.expect("filters");
            assert!(tc(&host, "filter show dev a0").is_empty());
            assert!(net.remove_class(&pair.a0, handle("1:10")).await.expect("class"));
            assert!(!net.remove_class(&pair.a0, handle("1:10")).await.expect("there is none"));
            assert!(!net.remove_class(&pair.a0, handle("7:1")).await.expect("nor such a qdisc"));
            let missing = net.set_class(&pair.a0, handle("1:9"), handle("1:91"), &HtbClass::new(Rate::mbit(1))).await;
            assert_eq!(missing.expect_err("no parent").kind(), ErrorKind::NotFound);
        });
        pair.remove();
    });
}

#[test]
fn what_is_received_is_limited_on_an_ifb() {
    faultkit::require!(root, program("ip"), program("tc"));
    isolated!(|| {
        let pair = Pair::new();
        let host = Ns::host();
        host.output("ip", "link add ifb7 type ifb");
        host.output("ip", "link set ifb7 up");
        let ifb7 = IfName::new("ifb7").expect("name");
        wait(async {
            let net = Net::here().await.expect("net");
            net.set_qdisc(&ifb7, Parent::Root, Tbf::new(Rate::mbit(20))).await.expect("tbf");
            net.set_qdisc(&pair.a0, Parent::Ingress, Discipline::Ingress).await.expect("ingress");
            net.set_qdisc(&pair.a0, Parent::Ingress, Discipline::Ingress).await.expect("again");
            net.add_filter(&pair.a0, &Filter::everything(Parent::Ingress).redirect(&ifb7)).await.expect("filter");
            let filters = tc(&host, "filter show dev a0 ingress");
            let action = filters.iter().find_map(|filter| filter["options"]["actions"].get(0)).expect("an action");
            assert_eq!((&action["kind"], &action["mirred_action"]), (&"mirred".into(), &"redirect".into()));
            assert_eq!((&action["to_dev"], &action["direction"]), (&"ifb7".into(), &"egress".into()));

            assert_near(20e6, || tcp(&pair.there, &host, HERE, Duration::from_millis(1200)));
            net.remove_filters(&pair.a0, Parent::Ingress).await.expect("filters");
            assert_more(40e6, || tcp(&pair.there, &host, HERE, Duration::from_millis(300)));
            net.remove_qdisc(&pair.a0, Parent::Ingress).await.expect("ingress");
            assert!(tc(&host, "qdisc show dev a0 ingress").is_empty());
        });
        host.output("ip", "link delete ifb7");
        pair.remove();
    });
}

#[test]
fn a_bad_line() {
    faultkit::require!(root, program("ip"), program("tc"));
    isolated!(|| {
        let pair = Pair::new();
        wait(async {
            let net = Net::here().await.expect("net");
            let line = Netem::new().delay(Duration::from_millis(100)).loss(Probability::percent(50).expect("half"));
            match net.set_qdisc(&pair.a0, Parent::Root, line).await {
                Ok(()) => {
                    let seen = &tc(&Ns::host(), "qdisc show dev a0")[0];
                    assert_eq!(seen["kind"], "netem");
                    assert!(
                        (seen["options"]["delay"]["delay"].as_f64().expect("seconds") - 0.1).abs() < 1e-6,
                        "{seen}"
                    );
                    assert!(
                        (seen["options"]["loss-random"]["loss"].as_f64().expect("share") - 0.5).abs() < 1e-6,
                        "{seen}"
                    );
                    let read = net.qdiscs(&pair.a0).await.expect("qdiscs").remove(0).discipline;
                    assert_eq!(read, Discipline::from(line));
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}");
                    assert!(error.hint().expect("a hint").contains("sch_netem"), "{error:?}");
                    assert_eq!(tc(&Ns::host(), "qdisc show dev a0")[0]["kind"], "noqueue", "nothing was done");
                }
            }
        });
        pair.remove();
    });
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    faultkit::require!(root, program("ip"), program("tc"));
    isolated!(|| {
        let pair = Pair::new();
        wait(async {
            let net = Net::here().await.expect("net");
            let nothing = net.set_qdisc(&pair.a0, Parent::Root, Tbf::new(Rate::mbit(0))).await.expect_err("nothing");
            assert_eq!(nothing.kind(), ErrorKind::Invalid);
            let gone = IfName::new("gone0").expect("name");
            let error = net.set_qdisc(&gone, Parent::Root, Tbf::new(Rate::mbit(1))).await.expect_err("no interface");
            assert_eq!(error.to_string(), "RTM_GETLINK interface \"gone0\": no such device (ENODEV)");
            let class = Parent::Class("7:1".parse().expect("handle"));
            let error = net.set_qdisc(&pair.a0, class, Tbf::new(Rate::mbit(1))).await.expect_err("no class");
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
            let filter = Filter::everything(Parent::Ingress).redirect(&gone);
            assert!(net.add_filter(&pair.a0, &filter).await.is_err());
            let filter = Filter::everything(Parent::Ingress).redirect(&pair.a0);
            let error = net.add_filter(&pair.a0, &filter).await.expect_err("no ingress qdisc");
            assert_ne!(error.kind(), ErrorKind::Unsupported, "{error:?}");
            let in_vain =
                net.ensure_qdisc(&pair.a0, Parent::Ingress, Tbf::new(Rate::mbit(1))).await.expect_err("ingress");
            assert!(in_vain.to_string().contains("ifb"), "{in_vain}");
        });
        assert_eq!(tc(&Ns::host(), "qdisc show dev a0").len(), 1);
        pair.remove();
    });
}
