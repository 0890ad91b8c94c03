//! nf_tables, its own and others', and legacy iptables.
#![forbid(unsafe_code)]

use super::super::facts::{Facts, LinkFacts};
use super::super::finding::{Fault, Finding};
use super::super::forward::{Drop, HOOK_FORWARD, HOOK_POSTROUTING, HOOK_PREROUTING, Packet, family_name};
use super::super::path::{Path, Paths};
use crate::mac::MacAddr;
use crate::name::IfName;

fn packet<'f>(facts: &'f Facts, path: &Path<'f>, output: &'f LinkFacts, ipv6: bool) -> Option<Packet<'f>> {
    let gate = path.gate()?;
    Some(Packet {
        from: path.address(facts, ipv6)?,
        input: (gate.index, gate.name.as_str()),
        output: (output.index, output.name.as_str()),
    })
}

/// Whose it is likely to be, in words.
fn whose(drop: &Drop<'_>) -> &'static str {
    let (Drop::Rule(chain) | Drop::Policy(chain)) = drop;
    match (chain.table.as_str(), chain.name.as_str()) {
        ("firewalld", _) => " (firewalld's)",
        ("filter", "FORWARD") => " (of iptables: Docker's, ufw's or the administrator's)",
        ("filter", name) if name.starts_with("DOCKER") => " (Docker's)",
        ("filter", name) if name.starts_with("ufw") => " (ufw's)",
        _ => "",
    }
}

fn sentence(drop: &Drop<'_>, what: &str) -> String {
    let whose = whose(drop);
    match drop {
        Drop::Policy(chain) => {
            format!("the policy of {}{whose} is drop, and no rule in it accepts {what}", chain.place())
        }
        Drop::Rule(chain) => format!("a rule of {}{whose} drops {what}", chain.place()),
    }
}

fn fix(drop: &Drop<'_>, gate: &str) -> String {
    let (Drop::Rule(chain) | Drop::Policy(chain)) = drop;
    match (chain.table.as_str(), chain.family) {
        ("firewalld", _) => {
            format!("firewall-cmd --permanent --zone=trusted --add-interface={gate} && firewall-cmd --reload")
        }
        ("filter", 2 | 10) => {
            let program = if chain.family == 2 { "iptables" } else { "ip6tables" };
            format!(
                "{program} -I FORWARD -i {gate} -j ACCEPT; {program} -I FORWARD -o {gate} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
            )
        }
        (table, family) => format!(
            "look with nft list table {} {table}, and let pass what comes from interface {gate:?} and what is answered to it",
            family_name(family)
        ),
    }
}

pub(crate) fn forward_drop(facts: &Facts, paths: &Paths<'_>, found: &mut Vec<Finding>) {
    let Some(ruleset) = &facts.ruleset else { return };
    for path in &paths.list {
        for ipv6 in [false, true] {
            let packet = paths.uplink(ipv6).and_then(|uplink| packet(facts, path, uplink, ipv6));
            let Some(packet) = packet else { continue };
            if let Some(drop) = ruleset.dropped(&packet) {
                let what = format!("packets from {} to {:?}", packet.from, packet.output.1);
                found.push(Finding::new(Fault::ForwardDropped, sentence(&drop, &what), fix(&drop, packet.input.1)));
            }
        }
    }
}

/// With br_netfilter loaded and its switch on, frames from one port of a bridge to another pass the IP rules as well.
pub(crate) fn bridged(facts: &Facts, paths: &Paths<'_>, found: &mut Vec<Finding>) {
    if facts.host.sysctl("net/bridge/bridge-nf-call-iptables") != Some("1") {
        return;
    }
    let Some(ruleset) = &facts.ruleset else { return };
    for path in &paths.list {
        let packet = path.bridge.and_then(|bridge| packet(facts, path, bridge, false));
        let Some(packet) = packet else { continue };
        // What the network's own table drops, it was told to: its containers are to be apart.
        if let Some(drop @ (Drop::Rule(chain) | Drop::Policy(chain))) = ruleset.dropped(&packet) {
            if chain.table == packet.input.1 {
                continue;
            }
            let what = sentence(&drop, "what its containers send each other");
            found.push(Finding::new(
                Fault::BridgedTrafficFiltered,
                format!(
                    "net.bridge.bridge-nf-call-iptables is 1, so frames on {:?} pass the rules of IP: {what}",
                    packet.input.1
                ),
                "sysctl -w net.bridge.bridge-nf-call-iptables=0, unless somebody (Kubernetes) needs it".to_owned(),
            ));
        }
    }
}

/// The network's own table, which has the bridge's name.
pub(crate) fn own_table(facts: &Facts, paths: &Paths<'_>, found: &mut Vec<Finding>) {
    let ours = |link: &&LinkFacts| {
        let mac = IfName::new(&link.name).map(|name| MacAddr::of_bridge(&name).bytes());
        link.kind == "bridge" && mac.is_ok_and(|mac| link.mac == mac)
    };
    let mut bridges: Vec<&LinkFacts> = paths.list.iter().filter_map(|path| path.bridge).filter(ours).collect();
    bridges.dedup_by_key(|link| link.index);
    for bridge in bridges {
        let name = &bridge.name;
        if facts.no_nf_tables {
            found.push(Finding::new(
                Fault::ModuleMissing,
                "this kernel has no nf_tables: nothing is masqueraded, nothing is published",
                "modprobe nf_tables nft_masq nft_nat nft_chain_nat nft_ct nft_fib_inet, or use a kernel built with them",
            ));
            continue;
        }
        let Some(ruleset) = &facts.ruleset else { continue };
        let again = format!("attach a container to {name:?} again, which makes it anew");
        let tables: Vec<_> = ruleset.tables.iter().filter(|table| table.name == *name).collect();
        if tables.is_empty() {
            found.push(Finding::new(
                Fault::TableMissing,
                format!("there is no nf_tables table {name:?}: somebody removed it (nft flush ruleset?), and nothing is masqueraded or published"),
                again,
            ));
            continue;
        }
        for (kind, hook, word) in [
            ("nat", HOOK_PREROUTING, "prerouting"),
            ("nat", HOOK_POSTROUTING, "postrouting"),
            ("filter", HOOK_FORWARD, "forward"),
        ] {
            if !tables.iter().any(|table| ruleset.has_base_chain(table, kind, hook)) {
                found.push(Finding::new(
                    Fault::TableDamaged,
                    format!("the nf_tables table {name:?} has no chain of type {kind} at {word}: somebody removed it"),
                    format!(
                        "nft delete table {} {name}, and {again}",
                        tables.first().map_or("ip", |table| family_name(table.family))
                    ),
                ));
            }
        }
        if tables.iter().all(|table| ruleset.rules_in(table) == 0) {
            found.push(Finding::new(
                Fault::TableDamaged,
                format!("the nf_tables table {name:?} has no rules: somebody flushed it"),
                format!(
                    "nft delete table {} {name}, and {again}",
                    tables.first().map_or("ip", |table| family_name(table.family))
                ),
            ));
        }
    }
}

pub(crate) fn legacy(facts: &Facts, found: &mut Vec<Finding>) {
    if facts.legacy_tables.iter().any(|table| table == "filter") {
        found.push(Finding::new(
            Fault::LegacyRules,
            "legacy iptables has a filter table, whose rules cannot be looked into here",
            "look with iptables-legacy -S FORWARD whether it drops what containers send",
        ));
    }
}
