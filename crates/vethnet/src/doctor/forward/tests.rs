//! What rules do to a packet.
#![forbid(unsafe_code)]

use super::*;
use proptest::prelude::*;

fn expression(name: &str, data: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new(&[]);
    writer.nest(1, |writer| {
        writer.text(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, data);
    });
    writer.finish().unwrap()
}

fn verdict(code: i32, chain: &str) -> Vec<u8> {
    expression("immediate", |data| {
        data.be32(1, 0).nest(2, |data| {
            data.nest(NFTA_DATA_VERDICT, |verdict| {
                verdict.put(NFTA_VERDICT_CODE, &code.to_be_bytes()).text(NFTA_VERDICT_CHAIN, chain);
            });
        });
    })
}

fn compare(load: (&str, u32), operator: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = if load.0 == "meta" {
        expression("meta", |data| {
            data.be32(1, 1).be32(2, load.1);
        })
    } else {
        expression("payload", |data| {
            data.be32(1, 1).be32(2, 1).be32(3, load.1).be32(4, 4);
        })
    };
    bytes.extend(expression("cmp", |data| {
        data.be32(1, 1).be32(2, operator).nest(3, |data| {
            data.put(NFTA_DATA_VALUE, value);
        });
    }));
    bytes
}

fn chain_of(name: &str, base: Option<(u32, i32, bool)>) -> Chain {
    Chain { family: NFPROTO_IPV4, table: "filter".into(), name: name.into(), base, kind: "filter".into() }
}

fn rule_in(chain: &str, parts: &[Vec<u8>]) -> Rule {
    Rule { family: NFPROTO_IPV4, table: "filter".into(), chain: chain.into(), expressions: parts.concat() }
}

fn packet() -> Packet<'static> {
    Packet { from: [10, 209, 0, 2].into(), input: (3, "cellkit0"), output: (2, "up0") }
}

fn ruleset(policy_drops: bool, rules: Vec<Rule>) -> Ruleset {
    let chains = vec![chain_of("FORWARD", Some((HOOK_FORWARD, 0, policy_drops))), chain_of("USER", None)];
    Ruleset { tables: Vec::new(), chains, rules }
}

#[test]
fn what_rules_do_to_a_packet() {
    let to_user = || rule_in("FORWARD", &[verdict(NFT_JUMP, "USER")]);
    let accept_bridge = || [compare(("meta", 6), 0, b"cellkit0\0"), verdict(NF_ACCEPT, "")];
    let unknown = || expression("ct", |_| ());
    for (policy, rules, dropped, what) in [
        (false, vec![], false, "nothing"),
        (true, vec![], true, "a policy"),
        (true, vec![to_user(), rule_in("USER", &accept_bridge())], false, "accepted in another chain"),
        (true, vec![rule_in("USER", &accept_bridge())], true, "a chain that nobody asks"),
        (true, vec![rule_in("FORWARD", &[unknown(), verdict(NF_ACCEPT, "")])], true, "answers are accepted"),
        (false, vec![rule_in("FORWARD", &[unknown(), verdict(NF_DROP, "")])], false, "something is dropped"),
        (false, vec![rule_in("FORWARD", &[verdict(NF_DROP, "")])], true, "all is dropped"),
        (false, vec![rule_in("FORWARD", &[expression("reject", |_| ())])], true, "all is rejected"),
        (
            false,
            vec![rule_in("FORWARD", &[compare(("meta", 6), 1, b"cellkit0\0"), verdict(NF_DROP, "")])],
            false,
            "others",
        ),
        (false, vec![rule_in("FORWARD", &[compare(("meta", 7), 0, b"up"), verdict(NF_DROP, "")])], true, "up*"),
        (
            false,
            vec![rule_in("FORWARD", &[compare(("payload", 12), 0, &[10, 209, 0, 2]), verdict(NF_DROP, "")])],
            true,
            "it",
        ),
        (
            false,
            vec![rule_in("FORWARD", &[compare(("payload", 16), 0, &[10, 209, 0, 2]), verdict(NF_DROP, "")])],
            false,
            "to it",
        ),
        (true, vec![to_user(), rule_in("USER", &[verdict(NFT_RETURN, "")])], true, "back from another chain"),
        (false, vec![to_user(), rule_in("USER", &[verdict(NFT_JUMP, "USER")])], false, "a loop"),
    ] {
        assert_eq!(ruleset(policy, rules).dropped(&packet()).is_some(), dropped, "{what}");
    }
}

#[test]
fn chains_that_jump_to_each_other_many_times_end() {
    let jumps = (0..8).map(|_| rule_in("USER", &[verdict(NFT_JUMP, "USER")]));
    let rules = std::iter::once(rule_in("FORWARD", &[verdict(NFT_JUMP, "USER")])).chain(jumps).collect();
    assert_eq!(ruleset(false, rules).dropped(&packet()), None);
}

#[test]
fn one_drop_is_enough_and_the_first_is_told() {
    let mut set = ruleset(true, vec![rule_in("EARLY", &[verdict(NF_ACCEPT, "")])]);
    set.chains.push(chain_of("EARLY", Some((HOOK_FORWARD, -10, true))));
    let Some(Drop::Policy(chain)) = set.dropped(&packet()) else { panic!() };
    assert_eq!(chain.place(), "table ip filter, chain FORWARD");
    let v6 = Packet { from: "fd00::2".parse().unwrap(), ..packet() };
    assert_eq!(set.dropped(&v6), None, "of the other family");
}

proptest! {
    #[test]
    fn any_answer_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = (table(&bytes), chain(&bytes), rule(&bytes));
    }

    #[test]
    fn any_expressions_are_run_without_panic(
        names in prop::collection::vec("meta|cmp|payload|bitwise|immediate|reject|target|lookup", 0..6),
        data in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let parts: Vec<_> = names.iter().map(|name| {
            let mut writer = Writer::new(&[]);
            writer.nest(1, |writer| {
                writer.text(NFTA_EXPR_NAME, name).put(NFTA_EXPR_DATA, &data);
            });
            writer.finish().unwrap()
        }).collect();
        let _ = ruleset(true, vec![rule_in("FORWARD", &parts)]).dropped(&packet());
    }
}
