//! The chains of the table `inet`, and their rules. They are the same for every network with the same [`Settings`]:
//! what differs is in the sets. [`super`] has them as nft(8) shows them.
#![forbid(unsafe_code)]

use super::expr::{End, Ip, Rule, Test};
use super::message::Chain;
use super::set::{
    LINKS, MASQUERADE_4, MASQUERADE_6, PUBLISHED_4, PUBLISHED_4_AT, PUBLISHED_6, PUBLISHED_6_AT, SUBNETS_4, SUBNETS_6,
    Set,
};
use super::{Links, Settings, TableSpec};

const NF_INET_PRE_ROUTING: u32 = 0;
const NF_INET_FORWARD: u32 = 2;
const NF_INET_LOCAL_OUT: u32 = 3;
const NF_INET_POST_ROUTING: u32 = 4;
const RAW: i32 = -300;
const DSTNAT: i32 = -100;
const SRCNAT: i32 = 100;
const FILTER: i32 = 0;
pub(super) const ND_ROUTER_ADVERT: u8 = 134;
pub(super) const ND_REDIRECT: u8 = 137;

/// What differs between the families.
struct Sets {
    ip: Ip,
    subnets: &'static Set,
    masquerade: &'static Set,
    published: &'static Set,
    published_at: &'static Set,
}

const FAMILIES: [Sets; 2] = [
    Sets {
        ip: Ip::V4,
        subnets: &SUBNETS_4,
        masquerade: &MASQUERADE_4,
        published: &PUBLISHED_4,
        published_at: &PUBLISHED_4_AT,
    },
    Sets {
        ip: Ip::V6,
        subnets: &SUBNETS_6,
        masquerade: &MASQUERADE_6,
        published: &PUBLISHED_6,
        published_at: &PUBLISHED_6_AT,
    },
];

/// All chains with their rules.
pub(super) fn all(spec: &TableSpec<'_>) -> Vec<(Chain, Vec<Rule>)> {
    let settings = spec.settings;
    let nat = |name, hook, priority| Chain { name, kind: "nat", hook, priority };
    let filter = |name, hook, priority| Chain { name, kind: "filter", hook, priority };
    vec![
        (filter("guard", NF_INET_PRE_ROUTING, RAW), guard(settings.guard && spec.links == Links::Added)),
        (nat("prerouting", NF_INET_PRE_ROUTING, DSTNAT), prerouting()),
        (nat("output", NF_INET_LOCAL_OUT, DSTNAT), output(settings)),
        (nat("postrouting", NF_INET_POST_ROUTING, SRCNAT), postrouting(settings)),
        (filter("forward", NF_INET_FORWARD, FILTER), forward(settings)),
        (filter("leave", NF_INET_POST_ROUTING, FILTER), leave()),
    ]
}

/// A rule about packets of the family: where it looks at an address, it has to know which kind it is.
fn of(ip: Ip) -> Rule {
    Rule::new().family(ip)
}

/// What containers send, before anything else sees it.
fn guard(advertisements: bool) -> Vec<Rule> {
    let mut rules = vec![
        Rule::new().input_link(Test::IsNot, &LINKS).accept(),
        of(Ip::V4).loopback(Ip::V4, End::Source, Test::Is).drop(),
        of(Ip::V4).loopback(Ip::V4, End::Destination, Test::Is).drop(),
    ];
    if advertisements {
        rules.extend([of(Ip::V6).icmpv6(ND_ROUTER_ADVERT).drop(), of(Ip::V6).icmpv6(ND_REDIRECT).drop()]);
    }
    rules.extend([
        // Whoever looks whether an address is free has none yet.
        of(Ip::V6).source_unspecified().accept(),
        Rule::new().source_elsewhere().drop(),
    ]);
    rules
}

fn prerouting() -> Vec<Rule> {
    let mut rules = Vec::new();
    for Sets { ip, published, published_at, .. } in FAMILIES {
        rules.push(of(ip).for_this_machine().redirect_by_address_and_port(ip, published_at));
        rules.push(of(ip).for_this_machine().redirect_by_port(ip, published));
    }
    rules
}

/// The same for what the machine itself sends.
fn output(settings: Settings) -> Vec<Rule> {
    let mut rules = Vec::new();
    for Sets { ip, published, published_at, .. } in FAMILIES {
        let start = || match ip {
            Ip::V4 if settings.localhost => of(ip),
            _ => of(ip).loopback(ip, End::Destination, Test::IsNot),
        };
        rules.push(start().for_this_machine().redirect_by_address_and_port(ip, published_at));
        rules.push(start().for_this_machine().redirect_by_port(ip, published));
    }
    rules
}

fn postrouting(settings: Settings) -> Vec<Rule> {
    let mut rules = Vec::new();
    for Sets { ip, subnets, masquerade, .. } in FAMILIES {
        rules.push(of(ip).address_in(ip, End::Source, masquerade).output_link(Test::IsNot, &LINKS).masquerade());
        rules.push(of(ip).address_in(ip, End::Source, subnets).output_link(Test::Is, &LINKS).redirected().masquerade());
    }
    if settings.localhost {
        rules.push(of(Ip::V4).loopback(Ip::V4, End::Source, Test::Is).output_link(Test::Is, &LINKS).masquerade());
    }
    rules
}

fn forward(settings: Settings) -> Vec<Rule> {
    let mut rules = vec![Rule::new().established().accept()];
    if !settings.open {
        rules.push(Rule::new().input_link(Test::Is, &LINKS).output_link(Test::IsNot, &LINKS).redirected().drop());
    }
    rules.extend([
        Rule::new().output_link(Test::IsNot, &LINKS).accept(),
        Rule::new().redirected().accept(),
        Rule::new().input_link(Test::IsNot, &LINKS).drop(),
    ]);
    if settings.apart {
        rules.push(Rule::new().drop());
    }
    rules
}

fn leave() -> Vec<Rule> {
    let mut rules = vec![Rule::new().output_link(Test::Is, &LINKS).accept(), Rule::new().output_loopback().accept()];
    for Sets { ip, subnets, .. } in FAMILIES {
        rules.push(of(ip).address_in(ip, End::Destination, subnets).drop());
    }
    rules
}
