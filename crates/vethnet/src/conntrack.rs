//! Connections to a container that the kernel tracks, and how they are forgotten.
//!
//! Theory of operation. A published UDP port has no end of a connection: a client that goes on with the same port of its
//! own is one connection to the kernel, which leads it to the address of a container that ended, though the port is
//! another's by now. And what somebody in the world still sends to a container that ended reaches whoever has its
//! address next. So with the attachment all connections are deleted that have the container's address as the source of
//! either direction: of the first packet (opened by it), or of the answers (opened to it).
//!
//! Of IPv4 the kernel does the choosing: CTA_FILTER, since Linux 5.8 for lists, since 6.11 for deleting, which is then one
//! message. Before, deleting by a filter is EINVAL, and each connection in the filtered list is deleted by its own tuple
//! and id. Connections of others are never listed.
//!
//! Of IPv6 it cannot be asked to: its filter takes what has *another* address than the one that is asked for
//! (`ctnetlink_filter_match_tuple`, to this day), and would forget everybody's connections but the container's. So all
//! of IPv6 are listed, and chosen here.
//!
//! For each list the kernel walks its whole table, whose size is `net.netfilter.nf_conntrack_buckets`, however few
//! connections there are; where there are none at all, it is not asked to.
//!
//! Numbers are those of `linux/netfilter/nfnetlink_conntrack.h`.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr};

use cellkit_core::{Error, ErrorKind, Result, Subject};

use crate::attr::{self, Writer};
use crate::exchange::{Mode, Request};
use crate::socket::Socket;

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;
const IPCTNL_MSG_CT_GET_STATS: u16 = 5;
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
const CTA_IP_V6_SRC: u16 = 3;
const CTA_STATS_GLOBAL_ENTRIES: u16 = 1;
/// `struct nfgenmsg`: family, version, resource.
const NFGENMSG: usize = 4;

/// Who opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opened {
    ByIt,
    ToIt,
}

impl Opened {
    /// The direction in which the container is the source.
    fn tuple(self) -> u16 {
        match self {
            Self::ByIt => CTA_TUPLE_ORIG,
            Self::ToIt => CTA_TUPLE_REPLY,
        }
    }
}

/// Makes the kernel forget what was opened to and by the addresses. Blocks.
///
/// A kernel that does not track connections has none.
pub(crate) fn forget(netfilter: &Socket, addresses: &[IpAddr]) -> Result<()> {
    match netfilter.talk(&[count()?], Mode::Ack) {
        Ok(answers) if answers.iter().find_map(|answer| count_of(answer)) == Some(0) => return Ok(()),
        // Without ctnetlink they end by themselves.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => return Ok(()),
        Ok(_) => {}
        Err(error) => return Err(error),
    }
    let mut errors = Vec::new();
    for address in addresses {
        match address {
            IpAddr::V4(address) => {
                for opened in [Opened::ToIt, Opened::ByIt] {
                    errors.extend(forget_opened(netfilter, *address, opened).err());
                }
            }
            IpAddr::V6(_) => errors.extend(forget_each(netfilter, list_all(*address)?, *address).err()),
        }
    }
    Error::all(errors)
}

fn forget_opened(netfilter: &Socket, address: Ipv4Addr, opened: Opened) -> Result<()> {
    match netfilter.talk(&[delete_all(address, opened)?], Mode::Ack) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        result => return result.map(drop),
    }
    forget_each(netfilter, list(address, opened)?, address.into())
}

/// Deletes those of the list that are of the address.
fn forget_each(netfilter: &Socket, list: Request, address: IpAddr) -> Result<()> {
    let mut errors = Vec::new();
    for answer in netfilter.talk(&[list], Mode::Dump)? {
        let Some(request) = delete(&answer, address)? else { continue };
        match netfilter.talk(&[request], Mode::Ack) {
            Err(error) if error.kind() != ErrorKind::NotFound => errors.push(error),
            _ => {}
        }
    }
    Error::all(errors)
}

/// Asks how many connections there are in the network namespace.
fn count() -> Result<Request> {
    let writer = Writer::new(&[0; NFGENMSG]);
    Ok(Request {
        operation: "IPCTNL_MSG_CT_GET_STATS",
        subject: None,
        kind: NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET_STATS,
        flags: 0,
        body: writer.finish()?,
    })
}

fn count_of(answer: &[u8]) -> Option<u32> {
    attr::find(answer.get(NFGENMSG..)?, CTA_STATS_GLOBAL_ENTRIES)?.first_chunk().copied().map(u32::from_be_bytes)
}

fn family(address: IpAddr) -> [u8; NFGENMSG] {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    [family as u8, 0, 0, 0]
}

fn filter(address: Ipv4Addr, opened: Opened) -> Writer {
    let mut writer = Writer::new(&family(address.into()));
    writer
        .nest(opened.tuple(), |tuple| {
            tuple.nest(CTA_TUPLE_IP, |ip| {
                ip.put(CTA_IP_V4_SRC, &address.octets());
            });
        })
        .nest(CTA_FILTER, |filter| {
            for (attribute, here) in [(CTA_FILTER_ORIG_FLAGS, Opened::ByIt), (CTA_FILTER_REPLY_FLAGS, Opened::ToIt)] {
                let flags = if here == opened { CTA_FILTER_F_CTA_IP_SRC } else { 0 };
                filter.put(attribute, &flags.to_ne_bytes());
            }
        });
    writer
}

/// Deletes all of the address. A kernel that does not know the filter here takes the address for a part of one tuple,
/// which is not whole, and refuses: it never deletes more.
fn delete_all(address: Ipv4Addr, opened: Opened) -> Result<Request> {
    request("IPCTNL_MSG_CT_DELETE", IPCTNL_MSG_CT_DELETE, address.into(), filter(address, opened))
}

fn list(address: Ipv4Addr, opened: Opened) -> Result<Request> {
    request("IPCTNL_MSG_CT_GET", IPCTNL_MSG_CT_GET, address.into(), filter(address, opened))
}

/// Lists what there is of the address's family.
fn list_all(address: IpAddr) -> Result<Request> {
    request("IPCTNL_MSG_CT_GET", IPCTNL_MSG_CT_GET, address, Writer::new(&family(address)))
}

/// Deletes one that the kernel told of. `None` when it is not of the address: without a tuple, all would be deleted.
fn delete(answer: &[u8], address: IpAddr) -> Result<Option<Request>> {
    let attributes = answer.get(NFGENMSG..).unwrap_or_default();
    let find = |kind| attr::find(attributes, kind);
    let is_source = |opened: Opened| {
        let ip = find(opened.tuple()).and_then(|tuple| attr::find(tuple, CTA_TUPLE_IP));
        ip.and_then(source_of) == Some(address)
    };
    let (Some(tuple), Some(id)) = (find(CTA_TUPLE_ORIG), find(CTA_ID)) else { return Ok(None) };
    if !is_source(Opened::ByIt) && !is_source(Opened::ToIt) {
        return Ok(None);
    }
    let mut writer = Writer::new(&family(address));
    writer.put_nest(CTA_TUPLE_ORIG, tuple).put(CTA_ID, id);
    if let Some(zone) = find(CTA_ZONE) {
        writer.put(CTA_ZONE, zone);
    }
    request("IPCTNL_MSG_CT_DELETE", IPCTNL_MSG_CT_DELETE, address, writer).map(Some)
}

fn source_of(ip: &[u8]) -> Option<IpAddr> {
    let four = || Some(IpAddr::from(<[u8; 4]>::try_from(attr::find(ip, CTA_IP_V4_SRC)?).ok()?));
    let six = || Some(IpAddr::from(<[u8; 16]>::try_from(attr::find(ip, CTA_IP_V6_SRC)?).ok()?));
    four().or_else(six)
}

fn request(operation: &'static str, message: u16, address: IpAddr, writer: Writer) -> Result<Request> {
    let subject = Some(Subject::Thing(format!("connections of {address}")));
    Ok(Request { operation, subject, kind: NFNL_SUBSYS_CTNETLINK << 8 | message, flags: 0, body: writer.finish()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv6Addr;

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 209, 0, 2));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
    const ADDRESS_6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2));

    fn answer(orig: Option<IpAddr>, reply: Option<IpAddr>, id: bool) -> Vec<u8> {
        let of = orig.or(reply).unwrap_or(ADDRESS);
        let mut writer = Writer::new(&family(of));
        for (tuple, source) in [(CTA_TUPLE_ORIG, orig), (CTA_TUPLE_REPLY, reply)] {
            if let Some(source) = source {
                writer.nest(tuple, |tuple| {
                    tuple.nest(CTA_TUPLE_IP, |ip| {
                        match source {
                            IpAddr::V4(source) => ip.put(CTA_IP_V4_SRC, &source.octets()),
                            IpAddr::V6(source) => ip.put(CTA_IP_V6_SRC, &source.octets()),
                        };
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
            (Some(ADDRESS), Some(OTHER), true, true),
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
        let six = answer(Some(ADDRESS_6), Some(ADDRESS_6), true);
        assert!(delete(&six, ADDRESS_6).unwrap().is_some());
        assert!(delete(&six, "fd00::3".parse().unwrap()).unwrap().is_none());
    }

    #[test]
    fn the_kernel_filters_by_the_source_of_one_direction() {
        let request = list(Ipv4Addr::new(10, 209, 0, 2), Opened::ToIt).unwrap();
        assert_eq!(request.kind, 0x101);
        let tuple = [16, 0, 2, 0x80, 12, 0, 1, 0x80, 8, 0, 1, 0, 10, 209, 0, 2];
        let filter = [20, 0, 25, 0x80, 8, 0, 1, 0, 0, 0, 0, 0, 8, 0, 2, 0, 1, 0, 0, 0];
        assert_eq!(request.body, [&[2, 0, 0, 0][..], &tuple, &filter].concat());
        let request = list_all(ADDRESS_6).unwrap();
        assert_eq!(request.body, [10, 0, 0, 0], "its filter would take what is not of the address");
    }

    proptest! {
        #[test]
        fn any_answer_is_taken_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = count_of(&bytes);
            if let Some(request) = delete(&bytes, ADDRESS).unwrap() {
                prop_assert!(attr::find(&request.body[4..], CTA_TUPLE_ORIG).is_some());
            }
        }
    }
}
