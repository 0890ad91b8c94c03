//! Many boxes: nothing adds up.

use std::time::Instant;

use crate::run::{Running, boxed, cellrun, host, links, nothing_is_left, say};

/// An emulated machine takes a second for each, and a network is attached to by one at a time.
fn is_emulated() -> bool {
    std::env::var_os("CELLKIT_VM").is_some()
}

#[test]
fn two_hundred_in_a_row() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let count = if is_emulated() { 20 } else { 200 };
        let begun = Instant::now();
        for number in 0..count {
            let said = boxed(&["--net", "none", "--", "sh", "-c", &format!("exit {}", number % 100)]);
            assert_eq!(said.status, number % 100, "{said:?}");
        }
        println!("{count} boxes in {:?}", begun.elapsed());
        nothing_is_left();
    });
}

#[test]
fn twenty_at_once() {
    faultkit::require!(root, program("ip"), program("nft"));
    faultkit::isolated!(|| {
        let count = if is_emulated() { 6 } else { 20 };
        let mut all: Vec<Running> = (0..count)
            .map(|number| {
                let net = if number % 2 == 0 { "bridge" } else { "none" };
                let script =
                    "ip -4 -o addr show dev eth0 2>/dev/null | awk '{print $4}'; echo ready; read line || true";
                Running::start(&mut cellrun(["box", "--net", net, "--", "sh", "-c", script]))
            })
            .collect();
        let mut addresses = Vec::new();
        for running in &mut all {
            loop {
                match running.line() {
                    line if line == "ready" => break,
                    address => addresses.push(address),
                }
            }
        }
        assert_eq!(addresses.len(), count / 2);
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), count / 2, "an address each: {addresses:?}");
        assert_eq!(host("ip -o link show master cellkit0").lines().count(), count / 2);
        // The living are not recovered.
        assert_eq!(say(&mut cellrun(["recover"])).ok(), "");
        // All end at once, too.
        for running in &mut all {
            running.write("\n");
        }
        for running in all {
            assert_eq!(running.end().ok(), "");
        }
        assert_eq!(links(), ["lo"]);
        assert_eq!(host("nft list ruleset; cat /proc/sys/net/ipv4/ip_forward"), "0\n");
        nothing_is_left();
    });
}
