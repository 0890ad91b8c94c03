//! Connections to a container that the kernel tracks, and how they are forgotten.
//!
//! Theory of operation. A published UDP port has no end of a connection: a client that goes on with the same port of its
//! own is one connection to the kernel, which leads it to the address of a container that ended, though the port is
//! another's by now. So what was opened to the container is deleted with the attachment. It is what has the container's
//! address as the source of the answers (the reply direction). The kernel filters the list (since Linux 5.8) but deletes
//! by the address only from 6.11 on, so each is deleted by its own tuple and id.
//!
//! The kernel walks its whole table for the list, some ten milliseconds for one of 262144 buckets, so it is asked for
//! only where UDP was published. TCP needs it less: clients take a new port for each connection. What the container
//! opened itself ends in time, and until then its address rests.
//!
//! Numbers are those of `linux/netfilter/nfnetlink_conntrack.h`.
#![forbid(unsafe_code)]

use std::net::Ipv4Addr;

use cellkit_core::{Result, Subject};

use crate::attr::{self, Writer};
use crate::exchange::Request;

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
/// Only the tuple's source address is compared.
const CTA_FILTER_F_CTA_IP_SRC: u32 = 1;
const CTA_TUPLE_IP: u16 = 1;
const CTA_IP_V4_SRC: u16 = 1;
/// `struct nfgenmsg`: family, version 0, no resource.
const IPV4: [u8; 4] = [libc::AF_INET as u8, 0, 0, 0];

/// Lists what was opened to the address.
pub(crate) fn list(address: Ipv4Addr) -> Result<Request> {
    let mut writer = Writer::new(&IPV4);
    writer
        .nest(CTA_TUPLE_REPLY, |tuple| {
            tuple.nest(CTA_TUPLE_IP, |ip| {
                ip.put(CTA_IP_V4_SRC, &address.octets());
            });
        })
        .nest(CTA_FILTER, |filter| {
            filter.put(CTA_FILTER_ORIG_FLAGS, &0u32.to_ne_bytes());
            filter.put(CTA_FILTER_REPLY_FLAGS, &CTA_FILTER_F_CTA_IP_SRC.to_ne_bytes());
        });
    request("IPCTNL_MSG_CT_GET", IPCTNL_MSG_CT_GET, address, writer)
}

/// Deletes one that the kernel told of. `None` when it is not of the address: without a tuple, all would be deleted.
pub(crate) fn delete(answer: &[u8], address: Ipv4Addr) -> Result<Option<Request>> {
    let attributes = answer.get(IPV4.len()..).unwrap_or_default();
    let find = |kind| attr::find(attributes, kind);
    let source = find(CTA_TUPLE_REPLY)
        .and_then(|tuple| attr::find(tuple, CTA_TUPLE_IP))
        .and_then(|ip| attr::find(ip, CTA_IP_V4_SRC));
    let (Some(tuple), Some(id)) = (find(CTA_TUPLE_ORIG), find(CTA_ID)) else { return Ok(None) };
    if source != Some(&address.octets()) {
        return Ok(None);
    }
    let mut writer = Writer::new(&IPV4);
    writer.put_nest(CTA_TUPLE_ORIG, tuple).put(CTA_ID, id);
    if let Some(zone) = find(CTA_ZONE) {
        writer.put(CTA_ZONE, zone);
    }
    request("IPCTNL_MSG_CT_DELETE", IPCTNL_MSG_CT_DELETE, address, writer).map(Some)
}

fn request(operation: &'static str, message: u16, address: Ipv4Addr, writer: Writer) -> Result<Request> {
    let subject = Some(Subject::Thing(format!("connections of {address}")));
    Ok(Request { operation, subject, kind: NFNL_SUBSYS_CTNETLINK << 8 | message, flags: 0, body: writer.finish()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 209, 0, 2);
    const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

    fn answer(orig: Option<Ipv4Addr>, reply: Option<Ipv4Addr>, id: bool) -> Vec<u8> {
        let mut writer = Writer::new(&IPV4);
        for (tuple, source) in [(CTA_TUPLE_ORIG, orig), (CTA_TUPLE_REPLY, reply)] {
            if let Some(source) = source {
                writer.nest(tuple, |tuple| {
                    tuple.nest(CTA_TUPLE_IP, |ip| {
                        ip.put(CTA_IP_V4_SRC, &source.octets());
                    });
                });
            }
        }
        if id {
            writer.put(CTA_ID, &[1, 2, 3, 4]);
        }
        writer.finish().unwrap()
    }

    #[test]
    fn only_what_is_of_the_address_is_deleted() {
        for (orig, reply, id, of_it) in [
            (Some(ADDRESS), Some(OTHER), true, false),
            (Some(OTHER), Some(ADDRESS), true, true),
            (Some(OTHER), Some(OTHER), true, false),
            (None, Some(ADDRESS), true, false),
            (Some(OTHER), Some(ADDRESS), false, false),
            (None, None, true, false),
        ] {
            let request = delete(&answer(orig, reply, id), ADDRESS).unwrap();
            assert_eq!(request.is_some(), of_it, "{orig:?} {reply:?} {id}");
            if let Some(request) = request {
                assert_eq!(request.kind, 0x102);
                assert_eq!(request.body, answer(orig, None, true), "the tuple as the kernel gave it, and the id");
            }
        }
    }

    #[test]
    fn a_list_is_filtered_by_the_source_of_the_answers() {
        let request = list(ADDRESS).unwrap();
        assert_eq!(request.kind, 0x101);
        let tuple = [16, 0, 2, 0x80, 12, 0, 1, 0x80, 8, 0, 1, 0, 10, 209, 0, 2];
        let filter = [20, 0, 25, 0x80, 8, 0, 1, 0, 0, 0, 0, 0, 8, 0, 2, 0, 1, 0, 0, 0];
        assert_eq!(request.body, [&[2, 0, 0, 0][..], &tuple, &filter].concat());
    }

    proptest! {
        #[test]
        fn any_answer_is_taken_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            if let Some(request) = delete(&bytes, ADDRESS).unwrap() {
                prop_assert!(attr::find(&request.body[4..], CTA_TUPLE_ORIG).is_some());
            }
        }
    }
}
