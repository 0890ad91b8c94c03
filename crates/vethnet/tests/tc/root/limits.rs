//! A container's limits: asked for when it is attached, changed while it runs, and not lifted from inside.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use vethnet::{Attach, ErrorKind, Limits, Rate};

use super::traffic::{assert_more, assert_near, tc, tcp, udp};
use super::world::{Ns, StateDir, forwarding, wait};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 209, 0, 1);
const CONTAINER: Ipv4Addr = Ipv4Addr::new(10, 209, 0, 2);
const TIME: Duration = Duration::from_millis(1200);

/// The interfaces of the host that limit what a container sends.
fn ifbs() -> Vec<String> {
    Ns::host().links().into_iter().filter(|name| name.starts_with("vi")).collect()
}

fn nothing_is_left(state: &StateDir) {
    assert_eq!(state.files(), [""; 0]);
    assert_eq!(Ns::host().links(), ["lo"]);
    assert!(Ns::host().ruleset().is_empty());
    assert_eq!(forwarding(), "0");
}

#[test]
fn both_directions_and_neither_lifted_from_inside() {
    faultkit::require!(root, program("ip"), program("tc"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let (host, container) = (Ns::host(), Ns::new());
        wait(async {
            let spec = Attach::new("a").ingress(Rate::mbit(30)).egress(Rate::mbit(20));
            let attachment = state.network().attach(&container, &spec, &mut ()).await.expect("attach");
            let end = attachment.record().host_ifname().to_string();
            assert_eq!(attachment.record().limits(), Limits::new().ingress(Rate::mbit(30)).egress(Rate::mbit(20)));

            let ingress = &tc(&host, &format!("qdisc show dev {end} root"))[0];
            assert_eq!((&ingress["kind"], &ingress["options"]["rate"]), (&"tbf".into(), &3_750_000.into()));
            let ifb = ifbs().remove(0);
            let egress = &tc(&host, &format!("qdisc show dev {ifb} root"))[0];
            assert_eq!((&egress["kind"], &egress["options"]["rate"]), (&"tbf".into(), &2_500_000.into()));
            let filters = tc(&host, &format!("filter show dev {end} ingress"));
            let action = filters.iter().find_map(|filter| filter["options"]["actions"].get(0)).expect("an action");
            assert_eq!((&action["kind"], &action["to_dev"]), (&"mirred".into(), &ifb.as_str().into()));
            let link = &host.ip(&format!("address show dev {ifb}"))[0];
            assert_eq!((&link["ifalias"], &link["addr_info"]), (&"a".into(), &serde_json::json!([])));

            assert_near(30e6, || tcp(&host, &container, CONTAINER, TIME));
            assert_near(20e6, || tcp(&container, &host, GATEWAY, TIME));
            assert_near(20e6, || udp(&container, &host, GATEWAY, 64, TIME));

            // With all the powers in its own namespace, the container has nothing to lift them by.
            assert_eq!(tc(&container, "qdisc show dev eth0")[0]["kind"], "noqueue");
            for args in ["qdisc replace dev eth0 root pfifo", "qdisc add dev eth0 ingress"] {
                container.output("tc", args);
            }
            let denied = container
                .run(|| Command::new("tc").args(["qdisc", "delete", "dev", &end, "root"]).output().expect("tc"));
            assert!(!denied.status.success(), "the host's end is not in its namespace");
            assert_near(20e6, || tcp(&container, &host, GATEWAY, TIME));
            assert_near(30e6, || tcp(&host, &container, CONTAINER, TIME));
            attachment.detach().await.expect("detach");
        });
        nothing_is_left(&state);
    });
}

#[test]
fn limits_of_a_running_container() {
    faultkit::require!(root, program("ip"), program("tc"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let network = state.network();
        let (host, container) = (Ns::host(), Ns::new());
        wait(async {
            let attachment = network.attach(&container, &Attach::new("a"), &mut ()).await.expect("attach");
            assert!(ifbs().is_empty());
            for (egress, ingress) in
                [(Some(10), None), (Some(40), Some(20)), (None, Some(30)), (None, None), (Some(20), None)]
            {
                let mut limits = Limits::new();
                if let Some(rate) = egress {
                    limits = limits.egress(Rate::mbit(rate));
                }
                if let Some(rate) = ingress {
                    limits = limits.ingress(Rate::mbit(rate));
                }
                network.limit("a", limits).await.expect("limit");
                let time = Duration::from_millis(600);
                for (asked, from, to, address) in
                    [(egress, &container, &host, GATEWAY), (ingress, &host, &container, CONTAINER)]
                {
                    match asked {
                        Some(asked) => assert_near(f64::from(asked) * 1e6, || tcp(from, to, address, time)),
                        None => assert_more(60e6, || tcp(from, to, address, time)),
                    }
                }
                assert_eq!(ifbs().len(), usize::from(egress.is_some()));
            }
            let error = network.limit("a", Limits::new().egress(Rate::mbit(0))).await.expect_err("nothing");
            assert_eq!(error.kind(), ErrorKind::Invalid);
            let error = network.limit("b", Limits::new()).await.expect_err("not attached");
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert_eq!(ifbs().len(), 1, "as it was");
            // What it was attached with knows nothing of the limit: the record on the disk does.
            attachment.detach().await.expect("detach");
        });
        nothing_is_left(&state);
    });
}

#[test]
fn what_limits_goes_with_the_container_however_it_ends() {
    faultkit::require!(root, program("ip"), program("tc"), program("nft"));
    isolated!(|| {
        let state = StateDir::new();
        let network = state.network();
        let spec = Attach::new("a").egress(Rate::mbit(20));
        // Its namespace ends first.
        let container = Ns::new();
        let attachment = wait(network.attach(&container, &spec, &mut ())).expect("attach");
        drop(container);
        assert_eq!(ifbs().len(), 1);
        wait(attachment.detach()).expect("detach");
        nothing_is_left(&state);

        // Nobody detaches it, and its record is damaged.
        let container = Ns::new();
        let _left = wait(network.attach(&container, &spec, &mut ())).expect("attach");
        let record = state.files().into_iter().find(|file| file.ends_with("/a.json")).expect("a record");
        std::fs::write(record, "{").expect("damage");
        assert_eq!(wait(network.reconcile(|_| false)).expect("reconcile"), ["a"]);
        nothing_is_left(&state);

        // It was not made at all: somebody has the name. That one stays.
        let name = Ns::host();
        let attachment = wait(network.attach(&container, &spec, &mut ())).expect("attach");
        let ifb = ifbs().remove(0);
        wait(attachment.detach()).expect("detach");
        name.output("ip", &format!("link add {ifb} type bridge"));
        let error = wait(network.attach(&container, &spec, &mut ())).expect_err("the name is taken");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:?}");
        assert_eq!(ifbs(), [ifb.as_str()], "somebody else's");
        assert_eq!(container.links(), ["lo"]);
        name.output("ip", &format!("link delete {ifb}"));
        let error = wait(network.attach(&container, &Attach::new("a").ingress(Rate::mbit(0)), &mut ()));
        assert_eq!(error.expect_err("nothing").kind(), ErrorKind::Invalid);
        nothing_is_left(&state);
    });
}

#[test]
fn a_limited_container_is_described_as_it_is_made() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let state = StateDir::new();
        let network = state.network();
        let container = Ns::new();
        let spec = Attach::new("a").ingress(Rate::mbit(8)).egress(Rate::mbit(8));
        let described = network.describe(&spec).expect("describe");
        let mut done: Vec<(cellkit_core::StepText, Duration)> = Vec::new();
        wait(async {
            let attachment = network.attach(&container, &spec, &mut done).await.expect("attach");
            attachment.detach().await.expect("detach");
        });
        let done: Vec<_> = done.into_iter().map(|(text, _)| text).collect();
        assert_eq!(described, done);
        let lines: Vec<_> = done.iter().map(ToString::to_string).collect();
        let at = |part: &str| {
            lines.iter().position(|line| line.contains(part)).unwrap_or_else(|| panic!("{part}: {lines:#?}"))
        };
        assert!(at("root tbf rate 8mbit burst 16384 limit 66384") < at("redirect dev"));
        let up = lines.iter().rposition(|line| line.contains("vh") && line.ends_with("up)")).expect("up");
        assert!(at("redirect dev") < up, "before anything passes");
        nothing_is_left(&state);
    });
}
