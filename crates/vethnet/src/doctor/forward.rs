//! What the host's nf_tables rules do to a packet that a container sends.
//!
//! Theory of operation. A packet to be passed on goes through every base chain at the hook `forward`, of its family and
//! of `inet`, in the order of their priorities. One drop ends it; an accept only ends the chain. So the rules are run, as
//! data, for one packet: a new connection from the container. What is known of it (the interfaces, the sender's address,
//! the family) is compared as the kernel does; a rule that asks for anything else (marks, states, sets, ports) is taken as one
//! that does not apply. So a drop that is found is one that happens, unless such a rule accepts the packet before; and the
//! sentence says so.
//!
//! Rules of iptables in the nf_tables version are rules as others; those of legacy iptables are in a place of their own,
//! which only tells that there are some.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::net::IpAddr;

use cellkit_core::Result;

use crate::attr::{self, Writer};
use crate::exchange::Request;

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_GETTABLE: u16 = 1;
const NFT_MSG_GETCHAIN: u16 = 4;
const NFT_MSG_GETRULE: u16 = 7;
const NFTA_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;

const NFPROTO_INET: u8 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
pub(crate) const HOOK_PREROUTING: u32 = 0;
pub(crate) const HOOK_FORWARD: u32 = 2;
pub(crate) const HOOK_POSTROUTING: u32 = 4;
const NF_DROP: i32 = 0;
const NF_ACCEPT: i32 = 1;
const NFT_JUMP: i32 = -3;
const NFT_GOTO: i32 = -4;
const NFT_RETURN: i32 = -5;
/// The kernel allows 16 jumps one in another, and no loops.
const DEEPEST: usize = 16;
/// How many rules are run for a packet: chains that jump to each other many times over must not take for ever.
const MOST_RULES: u32 = 1_000_000;

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) family: u8,
    pub(crate) name: String,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) family: u8,
    pub(crate) table: String,
    pub(crate) name: String,
    /// Of a base chain: the hook, the priority, and whether what no rule decides is dropped.
    pub(crate) base: Option<(u32, i32, bool)>,
    pub(crate) kind: String,
}

/// A rule: what it is in, and its expressions as the kernel sent them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) family: u8,
    pub(crate) table: String,
    pub(crate) chain: String,
    pub(crate) expressions: Vec<u8>,
}

/// What nf_tables has in a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    pub(crate) tables: Vec<Table>,
    pub(crate) chains: Vec<Chain>,
    /// Of the tables that have a base chain at `forward`.
    pub(crate) rules: Vec<Rule>,
}

/// What is known of a packet that is to be passed on.
#[derive(Clone, Debug)]
pub(crate) struct Packet<'a> {
    pub(crate) from: IpAddr,
    pub(crate) input: (u32, &'a str),
    pub(crate) output: (u32, &'a str),
}

/// What drops the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drop<'a> {
    /// A rule in this chain.
    Rule(&'a Chain),
    /// The policy of this chain.
    Policy(&'a Chain),
}

fn request(operation: &'static str, message: u16, family: u8, table: Option<&str>) -> Result<Request> {
    let mut writer = Writer::new(&[family, 0, 0, 0]);
    if let Some(table) = table {
        writer.text(NFTA_TABLE, table);
    }
    Ok(Request {
        operation,
        subject: None,
        kind: NFNL_SUBSYS_NFTABLES << 8 | message,
        flags: 0,
        body: writer.finish()?,
    })
}

/// All tables of all families.
pub(crate) fn list_tables() -> Result<Request> {
    request("NFT_MSG_GETTABLE", NFT_MSG_GETTABLE, 0, None)
}

/// All chains of all families.
pub(crate) fn list_chains() -> Result<Request> {
    request("NFT_MSG_GETCHAIN", NFT_MSG_GETCHAIN, 0, None)
}

/// The rules of one table.
pub(crate) fn list_rules(table: &Table) -> Result<Request> {
    request("NFT_MSG_GETRULE", NFT_MSG_GETRULE, table.family, Some(&table.name))
}

fn text(list: &[u8], kind: u16) -> Option<String> {
    attr::find(list, kind).map(attr::as_text)
}

fn number(list: &[u8], kind: u16) -> Option<u32> {
    attr::find(list, kind)?.first_chunk().copied().map(u32::from_be_bytes)
}

fn signed(list: &[u8], kind: u16) -> Option<i32> {
    attr::find(list, kind)?.first_chunk().copied().map(i32::from_be_bytes)
}

/// The family of an answer, and its attributes.
fn body(answer: &[u8]) -> Option<(u8, &[u8])> {
    Some((*answer.first()?, answer.get(4..)?))
}

pub(crate) fn table(answer: &[u8]) -> Option<Table> {
    let (family, list) = body(answer)?;
    Some(Table { family, name: text(list, NFTA_TABLE)? })
}

pub(crate) fn chain(answer: &[u8]) -> Option<Chain> {
    let (family, list) = body(answer)?;
    let base = attr::find(list, NFTA_CHAIN_HOOK).and_then(|hook| {
        let drops = signed(list, NFTA_CHAIN_POLICY) == Some(NF_DROP);
        Some((number(hook, NFTA_HOOK_HOOKNUM)?, signed(hook, NFTA_HOOK_PRIORITY)?, drops))
    });
    Some(Chain {
        family,
        table: text(list, NFTA_TABLE)?,
        name: text(list, NFTA_CHAIN_NAME)?,
        base,
        kind: text(list, NFTA_CHAIN_TYPE).unwrap_or_default(),
    })
}

pub(crate) fn rule(answer: &[u8]) -> Option<Rule> {
    let (family, list) = body(answer)?;
    Some(Rule {
        family,
        table: text(list, NFTA_TABLE)?,
        chain: text(list, NFTA_RULE_CHAIN)?,
        expressions: attr::find(list, NFTA_RULE_EXPRESSIONS).unwrap_or_default().to_vec(),
    })
}

impl Chain {
    /// `table ip filter, chain FORWARD`, as nft(8) names it.
    pub(crate) fn place(&self) -> String {
        format!("table {} {}, chain {}", family_name(self.family), self.table, self.name)
    }

    fn is_at(&self, hook: u32) -> bool {
        matches!(self.base, Some((at, _, _)) if at == hook)
    }

    /// Whether IP packets pass it when they are forwarded.
    pub(crate) fn forwards(&self) -> bool {
        self.is_at(HOOK_FORWARD) && matches!(self.family, NFPROTO_INET | NFPROTO_IPV4 | NFPROTO_IPV6)
    }
}

pub(crate) fn family_name(family: u8) -> &'static str {
    match family {
        NFPROTO_INET => "inet",
        NFPROTO_IPV4 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        NFPROTO_IPV6 => "ip6",
        _ => "?",
    }
}

/// What a rule or a chain comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict<'a> {
    /// The next rule decides.
    Continue,
    /// The next chain of the hook decides.
    Accept,
    Drop(Drop<'a>),
    /// The rule after the jump decides.
    Return,
}

impl Ruleset {
    /// What drops the packet when it is passed on, if anything does.
    pub(crate) fn dropped(&self, packet: &Packet<'_>) -> Option<Drop<'_>> {
        let family = if packet.from.is_ipv4() { NFPROTO_IPV4 } else { NFPROTO_IPV6 };
        let mut base: Vec<_> = self
            .chains
            .iter()
            .filter(|chain| chain.forwards() && (chain.family == family || chain.family == NFPROTO_INET))
            .collect();
        base.sort_by_key(|chain| chain.base.map(|(_, priority, _)| priority));
        let left = Cell::new(MOST_RULES);
        base.into_iter().find_map(|chain| match self.run(chain, packet, 0, &left) {
            Verdict::Drop(drop) => Some(drop),
            Verdict::Accept => None,
            Verdict::Continue | Verdict::Return => {
                chain.base.is_some_and(|(_, _, drops)| drops).then_some(Drop::Policy(chain))
            }
        })
    }

    /// Whether a table has a chain of this kind at this hook, and whether there is anything in it as far as is known.
    pub(crate) fn has_base_chain(&self, table: &Table, kind: &str, hook: u32) -> bool {
        self.chains.iter().any(|chain| {
            (chain.family, &chain.table) == (table.family, &table.name) && chain.kind == kind && chain.is_at(hook)
        })
    }

    /// How many rules a table has.
    pub(crate) fn rules_in(&self, table: &Table) -> usize {
        self.rules.iter().filter(|rule| (rule.family, &rule.table) == (table.family, &table.name)).count()
    }

    fn run<'s>(&'s self, chain: &'s Chain, packet: &Packet<'_>, depth: usize, left: &Cell<u32>) -> Verdict<'s> {
        let in_chain =
            |rule: &&Rule| (rule.family, &rule.table, &rule.chain) == (chain.family, &chain.table, &chain.name);
        for rule in self.rules.iter().filter(in_chain) {
            let Some(rest) = left.get().checked_sub(1) else { break };
            left.set(rest);
            match self.decide(chain, rule, packet, depth, left) {
                Verdict::Continue => {}
                verdict => return verdict,
            }
        }
        Verdict::Continue
    }

    fn decide<'s>(
        &'s self,
        chain: &'s Chain,
        rule: &Rule,
        packet: &Packet<'_>,
        depth: usize,
        left: &Cell<u32>,
    ) -> Verdict<'s> {
        let mut registers = Registers::default();
        for (_, expression) in attr::attributes(&rule.expressions) {
            let name = text(expression, NFTA_EXPR_NAME).unwrap_or_default();
            let data = attr::find(expression, NFTA_EXPR_DATA).unwrap_or_default();
            match registers.step(&name, data, packet) {
                Effect::Goes => {}
                Effect::Leaves => return Verdict::Continue,
                Effect::Decides(code, target) => {
                    let next = || {
                        let target = target.as_deref()?;
                        let named = |other: &&Chain| {
                            (other.family, &other.table) == (chain.family, &chain.table) && other.name == target
                        };
                        if depth < DEEPEST { self.chains.iter().find(named) } else { None }
                    };
                    return match code {
                        NF_DROP => Verdict::Drop(Drop::Rule(chain)),
                        NF_ACCEPT => Verdict::Accept,
                        NFT_RETURN => Verdict::Return,
                        NFT_JUMP | NFT_GOTO => {
                            match next().map_or(Verdict::Continue, |next| self.run(next, packet, depth + 1, left)) {
                                // After a goto the rest of this chain is not asked either.
                                Verdict::Continue | Verdict::Return if code == NFT_GOTO => Verdict::Return,
                                Verdict::Return => Verdict::Continue,
                                verdict => verdict,
                            }
                        }
                        _ => Verdict::Continue,
                    };
                }
            }
        }
        Verdict::Continue
    }
}

/// What an expression does to the rule it is in.
#[derive(Debug)]
enum Effect {
    /// The next expression.
    Goes,
    /// The rule does not apply.
    Leaves,
    Decides(i32, Option<String>),
}

/// What rules have loaded of the packet. What is not known is not there.
#[derive(Debug, Default)]
struct Registers(Vec<(u32, Vec<u8>)>);

impl Registers {
    /// The four registers of 16 bytes and the sixteen of 4 are the same memory.
    fn place(register: u32) -> u32 {
        if (1..=4).contains(&register) { 8 + (register - 1) * 4 } else { register }
    }

    fn load(&mut self, register: Option<u32>, value: Option<Vec<u8>>) -> Effect {
        if let Some(register) = register {
            let place = Self::place(register);
            self.0.retain(|(other, _)| *other != place);
            self.0.extend(value.map(|value| (place, value)));
        }
        Effect::Goes
    }

    fn get(&self, register: Option<u32>) -> Option<&[u8]> {
        let place = Self::place(register?);
        self.0.iter().find(|(other, _)| *other == place).map(|(_, value)| value.as_slice())
    }

    fn step(&mut self, name: &str, data: &[u8], packet: &Packet<'_>) -> Effect {
        let number = |kind| number(data, kind);
        match name {
            "meta" => self.load(number(1), number(2).and_then(|key| meta(key, packet))),
            "payload" => {
                let value = payload(number(2), number(3), number(4), packet);
                self.load(number(1), value)
            }
            "bitwise" => {
                let value = self.get(number(1)).and_then(|value| {
                    let part = |kind| attr::find(data, kind).and_then(|data| attr::find(data, NFTA_DATA_VALUE));
                    let (mask, xor) = (part(4)?, part(5)?);
                    Some(value.iter().zip(mask).zip(xor).map(|((value, mask), xor)| value & mask ^ xor).collect())
                });
                self.load(number(2), value)
            }
            "cmp" => {
                let wanted = attr::find(data, 3).and_then(|data| attr::find(data, NFTA_DATA_VALUE));
                let (Some(value), Some(wanted), Some(operator @ (0 | 1))) = (self.get(number(1)), wanted, number(2))
                else {
                    return Effect::Leaves;
                };
                // As many bytes as are wanted: `eth*` is a comparison of three.
                let equal = value.get(..wanted.len()) == Some(wanted);
                if equal == (operator == 0) { Effect::Goes } else { Effect::Leaves }
            }
            "immediate" => match attr::find(data, 2).and_then(|data| attr::find(data, NFTA_DATA_VERDICT)) {
                Some(verdict) => match signed(verdict, NFTA_VERDICT_CODE) {
                    Some(code) => Effect::Decides(code, text(verdict, NFTA_VERDICT_CHAIN)),
                    None => Effect::Leaves,
                },
                None => self.load(number(1), None),
            },
            "reject" => Effect::Decides(NF_DROP, None),
            // An extension of iptables that nf_tables has no word for.
            "target" => match text(data, 1).as_deref() {
                Some("REJECT" | "DROP") => Effect::Decides(NF_DROP, None),
                _ => Effect::Goes,
            },
            "counter" | "log" | "notrack" | "last" => Effect::Goes,
            _ => Effect::Leaves,
        }
    }
}

fn meta(key: u32, packet: &Packet<'_>) -> Option<Vec<u8>> {
    let name = |name: &str| {
        let mut bytes = name.as_bytes().to_vec();
        bytes.resize(16, 0);
        bytes
    };
    let ipv4 = packet.from.is_ipv4();
    match key {
        1 => Some(if ipv4 { [0x08, 0x00] } else { [0x86, 0xdd] }.to_vec()),
        4 => Some(packet.input.0.to_ne_bytes().to_vec()),
        5 => Some(packet.output.0.to_ne_bytes().to_vec()),
        6 => Some(name(packet.input.1)),
        7 => Some(name(packet.output.1)),
        15 => Some(vec![if ipv4 { NFPROTO_IPV4 } else { NFPROTO_IPV6 }]),
        _ => None,
    }
}

/// Only the sender's address is known.
fn payload(base: Option<u32>, offset: Option<u32>, length: Option<u32>, packet: &Packet<'_>) -> Option<Vec<u8>> {
    const NETWORK_HEADER: u32 = 1;
    let (address, at) = match packet.from {
        IpAddr::V4(address) => (address.octets().to_vec(), 12),
        IpAddr::V6(address) => (address.octets().to_vec(), 8),
    };
    let known = base == Some(NETWORK_HEADER) && offset == Some(at);
    if known { address.get(..usize::try_from(length?).ok()?).map(<[u8]>::to_vec) } else { None }
}

#[cfg(test)]
mod tests;
