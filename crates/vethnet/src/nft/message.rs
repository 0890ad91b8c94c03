//! Messages of nf_tables: tables, chains, maps, rules and elements.
//!
//! Numbers are those of `linux/netfilter/nf_tables.h`; they are the kernel's stable interface.
#![forbid(unsafe_code)]

use cellkit_core::{Result, Subject};

use super::expr::Rule;
use super::{comment, comment_of};
use crate::attr::{self, Writer};
use crate::exchange::Request;
use crate::port::PublishedPort;

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
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_USERDATA: u16 = 6;
const NFTA_DATA_VALUE: u16 = 1;

const NFT_SET_MAP: u32 = 0x8;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

/// A base chain.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) hook: u32,
    pub(super) priority: i32,
}

/// A map from a concatenation to an address and a port.
#[derive(Debug)]
pub(super) struct Map {
    pub(super) name: &'static str,
    pub(super) id: u32,
    pub(super) key: u32,
    pub(super) key_bytes: u32,
    pub(super) data: u32,
}

/// A message under construction.
#[derive(Debug)]
pub(super) struct Message {
    operation: &'static str,
    kind: u16,
    flags: u16,
    writer: Writer,
}

impl Message {
    fn new(operation: &'static str, kind: u16, flags: u16) -> Self {
        // struct nfgenmsg: family, version 0, resource 0.
        let family = [libc::AF_INET as u8, 0, 0, 0];
        Self { operation, kind: (NFNL_SUBSYS_NFTABLES << 8) | kind, flags, writer: Writer::new(&family) }
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

    pub(super) fn get_table(table: &str) -> Result<Request> {
        let mut message = Self::new("NFT_MSG_GETTABLE", NFT_MSG_GETTABLE, 0);
        message.writer.text(NFTA_TABLE_NAME, table);
        message.finish(format!("table ip {table}"))
    }

    pub(super) fn new_table(table: &str, text: &str) -> Result<Request> {
        let mut message = Self::new("NFT_MSG_NEWTABLE", NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL);
        message.writer.text(NFTA_TABLE_NAME, table).put(NFTA_TABLE_USERDATA, &comment(text));
        message.finish(format!("table ip {table}"))
    }

    pub(super) fn delete_table(table: &str) -> Result<Request> {
        let mut message = Self::new("NFT_MSG_DELTABLE", NFT_MSG_DELTABLE, 0);
        message.writer.text(NFTA_TABLE_NAME, table);
        message.finish(format!("table ip {table}"))
    }

    pub(super) fn new_chain(table: &str, chain: &Chain) -> Result<Request> {
        let mut message = Self::new("NFT_MSG_NEWCHAIN", NFT_MSG_NEWCHAIN, NLM_F_CREATE);
        message.writer.text(NFTA_CHAIN_TABLE, table).text(NFTA_CHAIN_NAME, chain.name);
        message.writer.nest(NFTA_CHAIN_HOOK, |hook| {
            hook.be32(NFTA_HOOK_HOOKNUM, chain.hook).put(NFTA_HOOK_PRIORITY, &chain.priority.to_be_bytes());
        });
        message.writer.text(NFTA_CHAIN_TYPE, chain.kind);
        message.finish(format!("chain {} of table ip {table}", chain.name))
    }

    pub(super) fn new_map(table: &str, map: &Map) -> Result<Request> {
        let mut message = Self::new("NFT_MSG_NEWSET", NFT_MSG_NEWSET, NLM_F_CREATE);
        message
            .writer
            .text(NFTA_SET_TABLE, table)
            .text(NFTA_SET_NAME, map.name)
            .be32(NFTA_SET_FLAGS, NFT_SET_MAP)
            .be32(NFTA_SET_KEY_TYPE, map.key)
            .be32(NFTA_SET_KEY_LEN, map.key_bytes)
            .be32(NFTA_SET_DATA_TYPE, map.data)
            .be32(NFTA_SET_DATA_LEN, 8)
            .be32(NFTA_SET_ID, map.id);
        message.finish(format!("map {} of table ip {table}", map.name))
    }

    pub(super) fn new_rule(table: &str, chain: &str, rule: Rule) -> Result<Request> {
        let mut message = Self::new("NFT_MSG_NEWRULE", NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
        message.writer.text(NFTA_RULE_TABLE, table).text(NFTA_RULE_CHAIN, chain);
        message.writer.nest(NFTA_RULE_EXPRESSIONS, |list| rule.write(list));
        message.finish(format!("chain {chain} of table ip {table}"))
    }

    pub(super) fn new_element(
        table: &str,
        map: &Map,
        key: &[u8],
        target: &[u8],
        owner: &str,
        port: &PublishedPort,
    ) -> Result<Request> {
        let mut message = Self::new("NFT_MSG_NEWSETELEM", NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL);
        message.elements(table, map, |element| {
            element
                .nest(NFTA_SET_ELEM_KEY, |data| {
                    data.put(NFTA_DATA_VALUE, key);
                })
                .nest(NFTA_SET_ELEM_DATA, |data| {
                    data.put(NFTA_DATA_VALUE, target);
                })
                .put(NFTA_SET_ELEM_USERDATA, &comment(owner));
        });
        message.finish(format!("published port {port}"))
    }

    pub(super) fn delete_element(table: &str, map: &Map, key: &[u8], whose: &str) -> Result<Request> {
        let mut message = Self::new("NFT_MSG_DELSETELEM", NFT_MSG_DELSETELEM, 0);
        message.elements(table, map, |element| {
            element.nest(NFTA_SET_ELEM_KEY, |data| {
                data.put(NFTA_DATA_VALUE, key);
            });
        });
        message.finish(format!("published port {whose}"))
    }

    pub(super) fn list_elements(table: &str, map: &Map) -> Result<Request> {
        let mut message = Self::new("NFT_MSG_GETSETELEM", NFT_MSG_GETSETELEM, 0);
        message.writer.text(NFTA_SET_ELEM_LIST_TABLE, table).text(NFTA_SET_ELEM_LIST_SET, map.name);
        message.finish(format!("map {} of table ip {table}", map.name))
    }

    fn elements(&mut self, table: &str, map: &Map, element: impl FnOnce(&mut Writer)) {
        self.writer.text(NFTA_SET_ELEM_LIST_TABLE, table).text(NFTA_SET_ELEM_LIST_SET, map.name);
        self.writer.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
            list.nest(NFTA_LIST_ELEM, element);
        });
    }
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
