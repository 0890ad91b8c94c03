//! Messages of nf_tables: tables, chains, sets, rules and elements.
//!
//! Numbers are those of `linux/netfilter/nf_tables.h`; they are the kernel's stable interface.
#![forbid(unsafe_code)]

use std::fmt;

use cellkit_core::{Result, Subject};

use super::expr::Rule;
use super::set::{Element, IFNAME, Set};
use super::{comment, comment_of};
use crate::attr::{self, Writer};
use crate::exchange::Request;
use crate::name::{IfName, Owner};

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_GETTABLE: u16 = 1;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_NEWSET: u16 = 9;
const NFT_MSG_NEWSETELEM: u16 = 12;
const NFT_MSG_GETSETELEM: u16 = 13;
const NFT_MSG_DELSETELEM: u16 = 14;
const NFT_MSG_GETGEN: u16 = 16;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_USERDATA: u16 = 6;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_USERDATA: u16 = 13;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFTA_SET_ELEM_USERDATA: u16 = 6;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_GEN_ID: u16 = 1;

/// nft(8) reads a name from its other end where a set does not say how its bytes stand: type 0 (the key's byte order),
/// length, 1 (the host's).
const HOST_BYTE_ORDER: [u8; 6] = {
    let [a, b, c, d] = 1u32.to_ne_bytes();
    [0, 4, a, b, c, d]
};

const NFT_SET_INTERVAL: u32 = 0x4;
const NFT_SET_MAP: u32 = 0x8;
const NFT_SET_ELEM_INTERVAL_END: u32 = 1;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

/// How many elements go into one message: an attribute has 64 KiB, and the longest element takes 224 bytes.
const MOST_ELEMENTS: usize = 256;

/// The family of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// Frames on a bridge.
    Bridge,
}

impl Family {
    /// NFPROTO_INET or NFPROTO_BRIDGE.
    fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Bridge => 7,
        }
    }
}

/// A table, as nft(8) names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'a> {
    pub(super) family: Family,
    pub(super) name: &'a IfName,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::Inet => "inet",
            Family::Bridge => "bridge",
        };
        write!(f, "table {family} {}", self.name)
    }
}

/// A base chain.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) hook: u32,
    pub(super) priority: i32,
}

/// How elements are put into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pack {
    /// As many as fit into each. One that is not there fails them all.
    Together,
    /// One into each, to be sent by itself.
    Singly,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    New,
    Delete(Pack),
}

/// A message under construction.
#[derive(Debug)]
struct Message {
    operation: &'static str,
    kind: u16,
    flags: u16,
    writer: Writer,
}

impl Message {
    fn new(operation: &'static str, kind: u16, flags: u16, family: u8) -> Self {
        // struct nfgenmsg: family, version 0, resource 0.
        let header = [family, 0, 0, 0];
        Self { operation, kind: (NFNL_SUBSYS_NFTABLES << 8) | kind, flags, writer: Writer::new(&header) }
    }

    fn finish(self, subject: String) -> Result<Request> {
        Ok(Request {
            operation: self.operation,
            subject: Some(Subject::Thing(subject)),
            kind: self.kind,
            flags: self.flags,
            body: self.writer.finish()?,
        })
    }
}

impl Table<'_> {
    fn message(self, operation: &'static str, kind: u16, flags: u16) -> Message {
        Message::new(operation, kind, flags, self.family.number())
    }

    fn name(&self) -> &str {
        self.name.as_str()
    }

    pub(super) fn get(self) -> Result<Request> {
        let mut message = self.message("NFT_MSG_GETTABLE", NFT_MSG_GETTABLE, 0);
        message.writer.text(NFTA_TABLE_NAME, self.name());
        message.finish(self.to_string())
    }

    pub(super) fn create(self, text: &str) -> Result<Request> {
        let mut message = self.message("NFT_MSG_NEWTABLE", NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL);
        message.writer.text(NFTA_TABLE_NAME, self.name()).put(NFTA_TABLE_USERDATA, &comment(text));
        message.finish(self.to_string())
    }

    pub(super) fn delete(self) -> Result<Request> {
        let mut message = self.message("NFT_MSG_DELTABLE", NFT_MSG_DELTABLE, 0);
        message.writer.text(NFTA_TABLE_NAME, self.name());
        message.finish(self.to_string())
    }

    pub(super) fn new_chain(self, chain: &Chain) -> Result<Request> {
        let mut message = self.message("NFT_MSG_NEWCHAIN", NFT_MSG_NEWCHAIN, NLM_F_CREATE);
        message.writer.text(NFTA_CHAIN_TABLE, self.name()).text(NFTA_CHAIN_NAME, chain.name);
        message.writer.nest(NFTA_CHAIN_HOOK, |hook| {
            hook.be32(NFTA_HOOK_HOOKNUM, chain.hook).put(NFTA_HOOK_PRIORITY, &chain.priority.to_be_bytes());
        });
        message.writer.text(NFTA_CHAIN_TYPE, chain.kind);
        message.finish(format!("chain {} of {self}", chain.name))
    }

    pub(super) fn new_set(self, set: &Set) -> Result<Request> {
        let mut message = self.message("NFT_MSG_NEWSET", NFT_MSG_NEWSET, NLM_F_CREATE);
        let map = if set.data.is_some() { NFT_SET_MAP } else { 0 };
        let ranges = if set.ranges { NFT_SET_INTERVAL } else { 0 };
        message
            .writer
            .text(NFTA_SET_TABLE, self.name())
            .text(NFTA_SET_NAME, set.name)
            .be32(NFTA_SET_FLAGS, map | ranges)
            .be32(NFTA_SET_KEY_TYPE, set.key)
            .be32(NFTA_SET_KEY_LEN, set.key_bytes);
        if let Some((data, data_bytes)) = set.data {
            message.writer.be32(NFTA_SET_DATA_TYPE, data).be32(NFTA_SET_DATA_LEN, data_bytes);
        }
        message.writer.be32(NFTA_SET_ID, set.id);
        if set.key == IFNAME {
            message.writer.put(NFTA_SET_USERDATA, &HOST_BYTE_ORDER);
        }
        message.finish(format!("set {} of {self}", set.name))
    }

    pub(super) fn new_rule(self, chain: &str, rule: &Rule) -> Result<Request> {
        let mut message = self.message("NFT_MSG_NEWRULE", NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
        message.writer.text(NFTA_RULE_TABLE, self.name()).text(NFTA_RULE_CHAIN, chain);
        message.writer.nest(NFTA_RULE_EXPRESSIONS, |list| rule.write(list));
        message.finish(format!("chain {chain} of {self}"))
    }

    /// Adds elements, with their owner as the comment if they have one. One that is there already is EEXIST.
    pub(super) fn new_elements(
        self,
        set: &Set,
        elements: &[Element],
        owner: Option<&Owner>,
        subject: &str,
    ) -> Result<Vec<Request>> {
        self.each_element(set, elements, subject, Change::New, |element, writer| {
            if !element.data.is_empty() {
                writer.nest(NFTA_SET_ELEM_DATA, |data| {
                    data.put(NFTA_DATA_VALUE, &element.data);
                });
            }
            if let (Some(owner), false) = (owner, element.range_end) {
                writer.put(NFTA_SET_ELEM_USERDATA, &comment(owner.as_str()));
            }
        })
    }

    /// Removes elements by their keys. One that is not there is ENOENT.
    pub(super) fn delete_elements(
        self,
        set: &Set,
        elements: &[Element],
        pack: Pack,
        subject: &str,
    ) -> Result<Vec<Request>> {
        self.each_element(set, elements, subject, Change::Delete(pack), |_, _| {})
    }

    fn each_element(
        self,
        set: &Set,
        elements: &[Element],
        subject: &str,
        change: Change,
        more: impl Fn(&Element, &mut Writer),
    ) -> Result<Vec<Request>> {
        let (operation, kind, flags, most) = match change {
            Change::New => ("NFT_MSG_NEWSETELEM", NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, MOST_ELEMENTS),
            Change::Delete(Pack::Together) => ("NFT_MSG_DELSETELEM", NFT_MSG_DELSETELEM, 0, MOST_ELEMENTS),
            Change::Delete(Pack::Singly) => ("NFT_MSG_DELSETELEM", NFT_MSG_DELSETELEM, 0, 1),
        };
        let request = |some: &[Element]| {
            let mut message = self.message(operation, kind, flags);
            message.writer.text(NFTA_SET_ELEM_LIST_TABLE, self.name()).text(NFTA_SET_ELEM_LIST_SET, set.name);
            message.writer.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
                for element in some {
                    list.nest(NFTA_LIST_ELEM, |writer| {
                        if element.range_end {
                            writer.be32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
                        }
                        writer.nest(NFTA_SET_ELEM_KEY, |data| {
                            data.put(NFTA_DATA_VALUE, &element.key);
                        });
                        more(element, writer);
                    });
                }
            });
            message.finish(subject.to_owned())
        };
        elements.chunks(most).map(request).collect()
    }

    pub(super) fn list_elements(self, set: &Set) -> Result<Request> {
        let mut message = self.message("NFT_MSG_GETSETELEM", NFT_MSG_GETSETELEM, 0);
        message.writer.text(NFTA_SET_ELEM_LIST_TABLE, self.name()).text(NFTA_SET_ELEM_LIST_SET, set.name);
        message.finish(format!("set {} of {self}", set.name))
    }
}

/// Asks for the number of the whole ruleset, which every change of anybody's counts up.
pub(super) fn get_generation() -> Result<Request> {
    Message::new("NFT_MSG_GETGEN", NFT_MSG_GETGEN, 0, 0).finish("the ruleset".to_owned())
}

/// The number that NFT_MSG_GETGEN told of.
pub(super) fn generation(answer: &[u8]) -> Option<u32> {
    attr::find(answer.get(4..)?, NFTA_GEN_ID)?.first_chunk().copied().map(u32::from_be_bytes)
}

/// The comment of a table that NFT_MSG_GETTABLE told of.
pub(super) fn table_comment(answer: &[u8]) -> Option<String> {
    comment_of(attr::find(answer.get(4..)?, NFTA_TABLE_USERDATA)?)
}

/// The keys and comments of the elements that NFT_MSG_GETSETELEM told of.
pub(super) fn elements(answer: &[u8]) -> Vec<(Vec<u8>, Option<String>)> {
    let list = answer.get(4..).and_then(|body| attr::find(body, NFTA_SET_ELEM_LIST_ELEMENTS)).unwrap_or_default();
    attr::attributes(list)
        .filter_map(|(_, element)| {
            let key = attr::find(attr::find(element, NFTA_SET_ELEM_KEY)?, NFTA_DATA_VALUE)?;
            let comment = attr::find(element, NFTA_SET_ELEM_USERDATA).and_then(comment_of);
            Some((key.to_vec(), comment))
        })
        .collect()
}
