//! The private parsers, each with what must hold of it, for the fuzz targets. Only there in builds with `--cfg fuzzing`.
#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "nobody but the targets below fuzz/ sees it")]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use crate::attr::{self, Writer};
use crate::exchange::{self, Exchange, Mode, Progress, Request};
use crate::link::Link;
use crate::qdisc::{Class, Qdisc};
use crate::{
    Handle, HostName, Hosts, IfName, IpNet, MacAddr, Nameserver, Protocol, PublishedPort, Rate, Record, ResolvConf,
    Subnet, hosts,
};

/// Datagrams of the kernel in answer to each sort of exchange: two bytes say how long each is.
pub fn framing(bytes: &[u8]) {
    let request = |operation, kind| Request { operation, subject: None, kind, flags: 0, body: vec![0; 16] };
    let requests = [request("RTM_GETLINK", 18), request("RTM_NEWLINK", 16), request("NFT_MSG_NEWRULE", 10 << 8 | 6)];
    for (mode, count) in [(Mode::Ack, 1), (Mode::Dump, 1), (Mode::Each, 3), (Mode::Batch, 3)] {
        let mut exchange = Exchange::new(&requests[..count], mode, 1).of_port(7);
        let sent = exchange.datagram().expect("short requests");
        assert_eq!(exchange::messages(&sent).filter(Option::is_some).count(), exchange.sequence_numbers() as usize);
        let mut rest = bytes;
        while let [low, high, more @ ..] = rest {
            let length = usize::from(u16::from_le_bytes([*low, *high])).min(more.len());
            let (datagram, others) = more.split_at(length);
            rest = others;
            match exchange.feed(datagram) {
                Ok(Progress::More) => {}
                Ok(Progress::Again) | Err(_) => return,
                Ok(Progress::Done) => {
                    if let Ok(answers) = exchange.finish() {
                        assert!(answers.iter().map(Vec::len).sum::<usize>() <= bytes.len());
                    }
                    break;
                }
            }
        }
    }
    let told = exchange::messages(bytes).flatten().map(|(_, body)| body.len()).sum::<usize>();
    assert!(told <= bytes.len());
}

/// Attributes, also in attributes: what was read can be written and read again.
pub fn attributes(bytes: &[u8]) {
    let list: Vec<_> = attr::attributes(bytes).collect();
    assert!(list.len() <= bytes.len() / 4);
    let mut writer = Writer::new(&[]);
    for (kind, value) in &list {
        writer.put(*kind, value);
    }
    let written = writer.finish().expect("each fitted");
    assert!(attr::attributes(&written).eq(list.iter().copied()));
    for (kind, value) in &list {
        assert!(attr::find(bytes, *kind).is_some(), "{kind}");
        let _ = attr::as_text(value);
    }
}

/// What rtnetlink says of links, addresses, routes, neighbours, qdiscs.
pub fn answers(bytes: &[u8]) {
    if let Ok(link) = Link::parse(bytes) {
        assert_eq!(Link::parse(bytes).ok().as_ref(), Some(&link));
    }
    let _ = (Qdisc::parse(bytes), Class::parse(bytes));
}

/// What rtnetlink tells by itself.
pub fn events(bytes: &[u8]) {
    crate::events::fuzz::fuzz(bytes);
    let _ = (crate::rule::message::parse(bytes), crate::fdb::message::parse(bytes));
}

/// What rtnetlink says of qdiscs of each kind.
pub fn qdiscs(bytes: &[u8]) {
    crate::qdisc::fuzz::fuzz(bytes);
}

/// The files of /etc that name servers and hosts, and what a network keeps of the latter.
pub fn files(bytes: &[u8]) {
    let conf = ResolvConf::parse(bytes).for_container();
    let text = conf.text().expect("for a container it is right");
    assert_eq!(ResolvConf::parse(text.as_bytes()), conf);
    let hosts = Hosts::parse(bytes);
    assert_eq!(Hosts::parse(hosts.to_string().as_bytes()), hosts);
    if let Some(lines) = hosts::unsealed(bytes) {
        assert_eq!(hosts::unsealed(hosts::sealed(lines).as_bytes()), Some(lines));
    }
    if let Some(text) = std::str::from_utf8(bytes).ok().filter(|text| text.ends_with('\n')) {
        assert_eq!(hosts::unsealed(hosts::sealed(text).as_bytes()), Some(text));
    }
}

/// What nf_tables says.
pub fn netfilter(bytes: &[u8]) {
    let _ = crate::nft::is_ours(bytes);
    crate::doctor::fuzz(bytes);
}

/// What a file of the state directory may be.
pub fn records(bytes: &[u8]) {
    let Ok(record) = serde_json::from_slice::<Record>(bytes) else { return };
    let text = serde_json::to_vec(&record).expect("what was read can be written");
    assert_eq!(serde_json::from_slice::<Record>(&text).expect("what was written can be read"), record);
}

/// What a person may type.
pub fn words(text: &str) {
    same_again::<IfName>(text);
    same_again::<MacAddr>(text);
    same_again::<IpNet>(text);
    same_again::<Subnet>(text);
    same_again::<Protocol>(text);
    same_again::<PublishedPort>(text);
    same_again::<HostName>(text);
    same_again::<Nameserver>(text);
    same_again::<Rate>(text);
    same_again::<Handle>(text);
    if let Ok(name) = text.parse::<IfName>() {
        assert!(name.as_str().len() < 16 && !name.as_str().contains(['/', '%', ' ', '\0']));
    }
}

/// What is read prints as something that reads the same.
fn same_again<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    let Ok(value) = text.parse::<T>() else { return };
    let shown = value.to_string();
    match shown.parse::<T>() {
        Ok(again) => assert_eq!(again, value, "{text:?} printed as {shown:?}"),
        Err(_) => panic!("{text:?} printed as {shown:?}, which does not read"),
    }
}
