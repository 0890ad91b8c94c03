//! From facts to findings. Pure: each rule looks at the facts and says what it sees, or nothing.
//!
//! A rule speaks only of what it sees. Where a fact is missing because it could not be read, the rule is silent, and
//! [`unseen`] says what that was.
#![forbid(unsafe_code)]

mod host;
mod inside;
mod tables;

use super::Published;
use super::facts::{Facts, Side};
use super::finding::{Fault, Finding};
use super::path::Paths;

/// All that the facts tell.
pub(crate) fn findings(facts: &Facts, published: &[Published]) -> Vec<Finding> {
    let paths = Paths::of(facts);
    let mut found = Vec::new();
    for path in &paths.list {
        inside::links(facts, path, &mut found);
        inside::addresses(facts, path, &mut found);
        inside::gateway(facts, path, &mut found);
        inside::mtu(path, &mut found);
        host::reverse_path(facts, path, &mut found);
        host::duplicate_subnet(facts, path, &mut found);
        host::route_localnet(facts, path, &mut found);
    }
    inside::no_interface(facts, &paths, &mut found);
    inside::default_route(facts, &paths, &mut found);
    inside::not_listening(facts, &paths, published, &mut found);
    host::forwarding(facts, &paths, &mut found);
    host::uplink(facts, &paths, &mut found);
    host::full_tables(facts, &mut found);
    tables::forward_drop(facts, &paths, &mut found);
    tables::bridged(facts, &paths, &mut found);
    tables::own_table(facts, &paths, &mut found);
    tables::legacy(facts, &mut found);
    unseen(&facts.container, "the container", &mut found);
    unseen(&facts.host, "the host", &mut found);
    found
}

fn unseen(side: &Side, whose: &str, found: &mut Vec<Finding>) {
    for (what, why) in &side.unseen {
        found.push(Finding::new(
            Fault::NotSeen,
            format!("{what} of {whose} could not be looked at: {why}"),
            "run this with CAP_NET_ADMIN and CAP_SYS_ADMIN over both network namespaces, as root",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::{AddressFacts, LinkFacts, NeighbourFacts, RouteFacts};
    use super::*;
    use crate::MacAddr;
    use crate::doctor::forward::{Chain, HOOK_FORWARD, HOOK_POSTROUTING, HOOK_PREROUTING, Rule, Ruleset, Table};
    use crate::name::IfName;
    use proptest::prelude::*;

    fn link(index: u32, name: &str, kind: &str) -> LinkFacts {
        LinkFacts {
            index,
            name: name.into(),
            kind: kind.into(),
            mtu: 1500,
            up: true,
            carrier: true,
            ..LinkFacts::default()
        }
    }

    fn address(index: u32, text: &str, prefix: u8) -> AddressFacts {
        let address = text.parse().unwrap();
        AddressFacts { index, address, prefix, global: true, tentative: false, dad_failed: false }
    }

    fn route(to: &str, index: u32, gateway: Option<&str>) -> RouteFacts {
        RouteFacts { to: to.parse().unwrap(), index, gateway: gateway.map(|text| text.parse().unwrap()), metric: 0 }
    }

    /// A container on a bridge, in which nothing is wrong.
    fn healthy() -> Facts {
        let mut facts = Facts { host_netns: Some(0), ..Facts::default() };
        facts.container.links =
            vec![link(1, "lo", ""), LinkFacts { peer: Some(5), peer_netns: Some(0), ..link(2, "eth0", "veth") }];
        facts.container.addresses = vec![address(1, "127.0.0.1", 8), address(2, "10.209.0.2", 22)];
        facts.container.routes = vec![route("0.0.0.0/0", 2, Some("10.209.0.1")), route("10.209.0.0/22", 2, None)];
        let bridge = IfName::new("cellkit0").unwrap();
        facts.host.links = vec![
            link(1, "lo", ""),
            link(2, "up0", ""),
            LinkFacts { mac: MacAddr::of_bridge(&bridge).bytes().to_vec(), ..link(4, "cellkit0", "bridge") },
            LinkFacts { peer: Some(2), peer_netns: Some(0), master: Some(4), ..link(5, "vhabc", "veth") },
        ];
        facts.host.addresses = vec![address(4, "10.209.0.1", 22), address(2, "192.0.2.1", 24)];
        facts.host.routes = vec![
            route("0.0.0.0/0", 2, Some("192.0.2.2")),
            route("192.0.2.0/24", 2, None),
            route("10.209.0.0/22", 4, None),
        ];
        for (path, value) in [("net/ipv4/ip_forward", "1"), ("net/ipv4/conf/all/rp_filter", "1")] {
            facts.host.sysctls.insert(path.into(), value.into());
        }
        let table = Table { family: 2, name: "cellkit0".into() };
        let chain = |name: &str, kind: &str, hook| Chain {
            family: 2,
            table: "cellkit0".into(),
            name: name.into(),
            base: Some((hook, 0, false)),
            kind: kind.into(),
        };
        let rule = |chain: &str| Rule { family: 2, table: "cellkit0".into(), chain: chain.into(), expressions: vec![] };
        facts.ruleset = Some(Ruleset {
            tables: vec![table],
            chains: vec![
                chain("prerouting", "nat", HOOK_PREROUTING),
                chain("postrouting", "nat", HOOK_POSTROUTING),
                chain("forward", "filter", HOOK_FORWARD),
            ],
            rules: vec![rule("forward"), rule("postrouting")],
        });
        facts
    }

    fn faults(facts: &Facts) -> Vec<Fault> {
        findings(facts, &[]).iter().map(Finding::fault).collect()
    }

    #[test]
    fn nothing_is_found_where_nothing_is_wrong() {
        assert_eq!(findings(&healthy(), &[]), []);
    }

    /// What no test in a network namespace may make happen, since it is the whole machine's.
    #[test]
    fn full_tables_of_the_machine() {
        let mut facts = healthy();
        facts.neighbour_entries = vec![(4, 1020)];
        facts.host.sysctls.insert("net/ipv4/neigh/default/gc_thresh3".into(), "1024".into());
        let found = findings(&facts, &[]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].fault(), Fault::NeighbourTableFull);
        assert!(found[0].sentence().contains("1020 of 1024"), "{}", found[0]);
        facts.neighbour_entries = vec![(4, 700)];
        assert_eq!(faults(&facts), []);
        facts.host.sysctls.insert("net/netfilter/nf_conntrack_count".into(), "65500".into());
        facts.host.sysctls.insert("net/netfilter/nf_conntrack_max".into(), "65536".into());
        assert_eq!(faults(&facts), [Fault::ConntrackFull]);
    }

    #[test]
    fn what_a_kernel_lacks_or_hides() {
        let mut facts = healthy();
        facts.legacy_tables = vec!["nat".into()];
        assert_eq!(faults(&facts), [], "they translate and drop nothing");
        facts.legacy_tables.push("filter".into());
        assert_eq!(faults(&facts), [Fault::LegacyRules]);
        let mut facts = healthy();
        (facts.ruleset, facts.no_nf_tables) = (None, true);
        assert_eq!(faults(&facts), [Fault::ModuleMissing]);
        let mut facts = healthy();
        facts.host.unseen.push(("links".into(), "RTM_GETLINK: operation not permitted (EPERM)".into()));
        assert_eq!(faults(&facts), [Fault::NotSeen]);
    }

    #[test]
    fn another_pair_with_the_same_numbers_is_not_taken_for_ours() {
        let mut facts = healthy();
        facts.container.links[1].peer_netns = Some(7);
        assert!(Paths::of(&facts).list[0].host_end.is_none());
    }

    #[test]
    fn a_permanent_neighbour_is_a_gateway_that_nobody_has() {
        let mut facts = healthy();
        facts.container.routes[0].gateway = Some("169.254.1.1".parse().unwrap());
        assert_eq!(faults(&facts), [Fault::NoGateway]);
        let address = "169.254.1.1".parse().unwrap();
        facts.container.neighbours.push(NeighbourFacts { index: 2, address, state: 0x80 });
        assert_eq!(faults(&facts), []);
    }

    fn any_link() -> impl Strategy<Value = LinkFacts> {
        (1u32..6, "lo|eth0|cellkit0|up0", "veth|bridge|", any::<(bool, bool)>(), 1u32..6, prop::option::of(1u32..6))
            .prop_map(|(index, name, kind, (up, carrier), peer, master)| LinkFacts {
                up,
                carrier,
                master,
                peer: Some(peer),
                ..link(index, &name, &kind)
            })
    }

    fn any_side() -> impl Strategy<Value = Side> {
        let address = (1u32..6, any::<u32>(), 0u8..=32).prop_map(|(index, bits, prefix)| AddressFacts {
            index,
            address: std::net::Ipv4Addr::from_bits(bits).into(),
            prefix,
            global: true,
            tentative: bits & 1 == 1,
            dad_failed: bits & 2 == 2,
        });
        let route = (1u32..6, any::<u32>(), 0u8..=32, prop::option::of(any::<u32>())).prop_map(
            |(index, bits, prefix, gateway)| RouteFacts {
                to: crate::Subnet::around(std::net::Ipv4Addr::from_bits(bits).into(), prefix),
                index,
                gateway: gateway.map(|bits| std::net::Ipv4Addr::from_bits(bits).into()),
                metric: 0,
            },
        );
        (
            prop::collection::vec(any_link(), 0..6),
            prop::collection::vec(address, 0..6),
            prop::collection::vec(route, 0..6),
            prop::collection::btree_map(
                "net/ipv4/ip_forward|net/ipv4/conf/all/rp_filter|net/ipv4/conf/up0/forwarding",
                "[0-2a]{0,2}",
                0..3,
            ),
        )
            .prop_map(|(links, addresses, routes, sysctls)| Side {
                links,
                addresses,
                routes,
                sysctls,
                ..Side::default()
            })
    }

    proptest! {
        /// Things vanish while they are looked at, so that the facts may not fit together.
        #[test]
        fn facts_that_do_not_fit_together_are_judged_without_panic(container in any_side(), host in any_side()) {
            let facts = Facts { container, host, ..Facts::default() };
            for finding in findings(&facts, &[]) {
                prop_assert!(!finding.sentence().is_empty() && !finding.fix().is_empty());
                prop_assert!(!finding.sentence().ends_with('.') && !finding.fix().ends_with('.'));
            }
        }
    }
}
