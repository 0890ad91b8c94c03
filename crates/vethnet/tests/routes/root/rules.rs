//! Rules, as `ip rule` sees them, and what they do to packets.

use serde_json::Value;
use vethnet::{ErrorKind, Route, RouteLookup, RouteProtocol, RouteTable, Rule, RuleAction, Subnet};

use crate::world::{Ns, name};

fn subnet(text: &str) -> Subnet {
    text.parse().expect(text)
}

fn table(number: u32) -> RouteTable {
    RouteTable::new(number).expect("a table")
}

fn cases() -> Vec<(Rule, &'static str)> {
    let rule = |priority| Rule::ipv4().priority(priority);
    vec![
        (rule(1000).from(subnet("10.1.0.0/24")).lookup(table(100)), "from 10.1.0.0/24 lookup 100 pref 1000"),
        (rule(1001).to(subnet("10.2.0.7/32")).lookup(table(5000)), "to 10.2.0.7 lookup 5000 pref 1001"),
        (rule(1002).iif(&name("eth0")).oif(&name("eth1")), "iif eth0 oif eth1 lookup main pref 1002"),
        (rule(1003).mark(5), "fwmark 5 lookup main pref 1003"),
        (rule(1004).mark(0x10).mask(0xf0).lookup(table(100)), "fwmark 0x10/0xf0 lookup 100 pref 1004"),
        (rule(1005).mark(0).mask(0xf00).lookup(table(100)), "fwmark 0/0xf00 lookup 100 pref 1005"),
        (rule(1006).uids(1000..=1999).lookup(table(100)), "uidrange 1000-1999 lookup 100 pref 1006"),
        (rule(1007).suppress_prefix_length(0), "lookup main suppress_prefixlength 0 pref 1007"),
        (
            rule(1008).ip_protocol(6).source_ports(1000..=2000).destination_ports(80..=80),
            "ipproto tcp sport 1000-2000 dport 80 lookup main pref 1008",
        ),
        (
            rule(1009).from(subnet("10.9.0.0/16")).inverted().lookup(table(100)),
            "not from 10.9.0.0/16 lookup 100 pref 1009",
        ),
        (rule(1010).tos(0x10).lookup(table(100)), "tos 0x10 lookup 100 pref 1010"),
        (rule(1011).mark(7).action(RuleAction::Goto(2000)), "fwmark 7 goto 2000 pref 1011"),
        (rule(1012).mark(8).action(RuleAction::Nop), "fwmark 8 nop pref 1012"),
        (
            rule(1013).from(subnet("10.13.0.0/16")).action(RuleAction::Blackhole),
            "from 10.13.0.0/16 blackhole pref 1013",
        ),
        (
            rule(1014).from(subnet("10.14.0.0/16")).action(RuleAction::Unreachable),
            "from 10.14.0.0/16 unreachable pref 1014",
        ),
        (rule(1015).from(subnet("10.15.0.0/16")).action(RuleAction::Prohibit), "from 10.15.0.0/16 prohibit pref 1015"),
        (rule(1016).protocol(RouteProtocol::STATIC).lookup(table(9)), "lookup 9 protocol static pref 1016"),
        (
            Rule::ipv6().priority(1000).from(subnet("fd00::/64")).lookup(table(100)),
            "-6 from fd00::/64 lookup 100 pref 1000",
        ),
        (Rule::ipv6().priority(1001).to(subnet("fd01::7/128")).mark(5), "-6 to fd01::7 fwmark 5 lookup main pref 1001"),
    ]
}

fn rules(ns: &Ns) -> Vec<Value> {
    let mut list = ns.ask("rule show");
    list.extend(ns.ask("-6 rule show"));
    list
}

#[test]
fn made_as_ip_makes_them_read_and_removed() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let (ours, theirs) = (Ns::new(), Ns::new());
        let before = rules(&ours);
        for (rule, words) in cases() {
            ours.with_net(async |net| net.add_rule(&rule).await.unwrap_or_else(|error| panic!("{words}: {error:#}")));
            let (family, words) = words.strip_prefix("-6 ").map_or(("-4", words), |words| ("-6", words));
            let protocol = if words.contains("protocol") { "" } else { "protocol 107" };
            theirs.ip(&format!("{family} rule add {words} {protocol}"));
        }
        assert_eq!(rules(&ours), rules(&theirs));
        ours.with_net(async |net| {
            let list = net.rules().await.expect("list");
            assert_eq!(list.len(), rules(&ours).len());
            for (rule, words) in cases() {
                let found = list.iter().find(|f| f.priority == rule.priority && f.is_ipv4() == rule.is_ipv4());
                let found = found.unwrap_or_else(|| panic!("{words}"));
                let protocol = rule.protocol.or(Some(RouteProtocol::VETHNET));
                let mask = rule.mark.map(|_| rule.mask.unwrap_or(u32::MAX));
                let mut want = rule.clone();
                (want.protocol, want.mask) = (protocol, mask);
                assert_eq!(*found, want, "{words}");
                let error = net.add_rule(&rule).await.expect_err(words);
                assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
            }
            // Removed as read; the kernel's own stay.
            for rule in list.iter().filter(|rule| rule.protocol != Some(RouteProtocol::KERNEL)) {
                assert!(net.remove_rule(rule).await.expect("remove"), "{rule}");
                assert!(!net.remove_rule(rule).await.expect("again"), "{rule}");
            }
        });
        assert_eq!(rules(&ours), before);
    });
}

#[test]
fn one_that_says_less_is_another() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let ns = Ns::new();
        ns.with_net(async |net| {
            net.add_rule(Rule::ipv4().from(subnet("10.1.0.0/16")).lookup(table(100)).priority(50))
                .await
                .expect("from some");
            // The kernel takes this for the same.
            net.add_rule(Rule::ipv4().lookup(table(100)).priority(50)).await.expect("from all");
            net.ensure_rule(Rule::ipv4().lookup(table(100)).priority(50)).await.expect("there");
        });
        assert_eq!(ns.ask("rule show pref 50").len(), 2);
    });
}

#[test]
fn ensured_twice_is_one_event() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let ns = Ns::new();
        let mut list: Vec<_> = cases().into_iter().map(|(rule, _)| rule).collect();
        list.push(Rule::ipv4().from(subnet("10.99.0.0/16")).lookup(table(99)));
        list.push(Rule::ipv6().from(subnet("fd99::/16")).lookup(table(99)));
        let ensure = || {
            ns.with_net(async |net| {
                for rule in &list {
                    net.ensure_rule(rule).await.unwrap_or_else(|error| panic!("{rule}: {error:#}"));
                }
            });
        };
        let first = ns.events("rule", ensure);
        assert!(first.len() >= list.len(), "{first:#?}");
        let before = rules(&ns);
        let second = ns.events("rule", ensure);
        assert!(second.is_empty(), "{second:#?}");
        assert_eq!(rules(&ns), before);
    });
}

#[test]
fn packets_go_by_them() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let ns = Ns::new();
        ns.ip("link add br0 type bridge");
        ns.ip("link add br1 type bridge");
        for (link, address) in [("br0", "10.1.0.1/24"), ("br1", "10.9.0.1/24")] {
            ns.ip(&format!("link set {link} up"));
            ns.ip(&format!("address add {address} dev {link}"));
        }
        ns.with_net(async |net| {
            net.add_route(Route::default_v4().dev(name("br0"))).await.expect("main");
            net.add_route(Route::default_v4().dev(name("br1")).table(table(100))).await.expect("100");
            net.add_rule(Rule::ipv4().mark(5).lookup(table(100)).priority(10)).await.expect("rule");
            net.add_rule(Rule::ipv4().mark(6).action(RuleAction::Prohibit).priority(11)).await.expect("rule");
            net.add_rule(Rule::ipv4().mark(7).suppress_prefix_length(0).priority(12)).await.expect("rule");
            net.add_rule(Rule::ipv4().mark(7).action(RuleAction::Blackhole).priority(13)).await.expect("rule");
        });
        let dev = |args: &str| ns.ask(&format!("route get 198.51.100.7 {args}"))[0]["dev"].clone();
        assert_eq!((dev(""), dev("mark 5")), ("br0".into(), "br1".into()));
        ns.with_net(async |net| {
            let to = |mark| RouteLookup::to([198, 51, 100, 7]).mark(mark);
            let error = net.route_to(to(6)).await.expect_err("prohibited");
            assert_eq!((error.raw_os_error(), error.kind()), (Some(libc::EACCES), ErrorKind::Permission), "{error:#}");
            assert!(error.hint().is_some_and(|hint| hint.contains("prohibit")), "{error:#}");
            let error = net.route_to(to(7)).await.expect_err("the default route is passed over");
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error:#}");
            assert!(error.hint().is_some_and(|hint| hint.contains("blackhole")), "{error:#}");
            let kept =
                net.route_to(RouteLookup::to([10, 1, 0, 7]).mark(7)).await.expect("the range's own route is not");
            assert_eq!(kept.source, Some([10, 1, 0, 1].into()));
        });
    });
}

#[test]
fn wrong_wishes_are_refused_before_any_effect() {
    faultkit::require!(root, program("ip"));
    isolated!(|| {
        let ns = Ns::new();
        let before = rules(&ns);
        ns.with_net(async |net| {
            #[expect(clippy::reversed_empty_ranges, reason = "what is refused")]
            let (users, ports) = (5..=4, 5..=4);
            for (rule, why) in [
                (Rule::ipv4().from(subnet("fd00::/64")), "other family"),
                (Rule::ipv4().mask(5), "a mask is of a mark"),
                (Rule::ipv4().uids(users), "users is empty"),
                (Rule::ipv4().source_ports(ports), "ports"),
                (Rule::ipv4().destination_ports(0..=4), "ports"),
                (Rule::ipv4().action(RuleAction::Goto(5)), "goto"),
                (Rule::ipv4().priority(5).action(RuleAction::Goto(5)), "goto"),
                (Rule::ipv4().suppress_prefix_length(0).action(RuleAction::Nop), "suppressed"),
            ] {
                let error = net.ensure_rule(&rule).await.expect_err(why);
                assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
                assert!(error.to_string().contains(why), "{error}");
            }
        });
        assert_eq!(rules(&ns), before);
    });
}
