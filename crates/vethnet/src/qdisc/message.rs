//! The messages of traffic control: `struct tcmsg` and attributes, of `linux/rtnetlink.h` and `linux/pkt_sched.h`.
//!
//! What has the size of a whole structure of the kernel is written field by field in its byte order; padding is zero.
//!
//! Time is in ticks of 64 nanoseconds. `/proc/net/psched` says so too, for old programs: the number is fixed since Linux
//! 2.6.31 (`PSCHED_SHIFT`), so it is not read. Tables of how long each size of packet takes, which tc(8) still sends, are
//! not needed since Linux 3.9 (5.15 is ours) from whoever says which link layer it counts for: the kernel calculates.
#![forbid(unsafe_code)]

use cellkit_core::{Result, Subject};

use super::handle::{INGRESS_HANDLE, Parent};
use super::rate::Rate;
use crate::attr::{self, Writer};
use crate::exchange::Request;

pub(crate) const RTM_NEWQDISC: u16 = 36;
pub(crate) const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
pub(crate) const RTM_NEWTCLASS: u16 = 40;
const RTM_DELTCLASS: u16 = 41;
const RTM_GETTCLASS: u16 = 42;
pub(crate) const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;

pub(crate) const TCA_KIND: u16 = 1;
pub(crate) const TCA_OPTIONS: u16 = 2;
pub(crate) const TCA_STATS2: u16 = 7;

pub(crate) const NLM_F_REPLACE: u16 = 0x100;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_CREATE: u16 = 0x400;

const TCMSG: usize = 20;
const TC_LINKLAYER_ETHERNET: u8 = 1;
const TICK_NANOSECONDS: u64 = 64;

/// `struct tcmsg`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) index: u32,
    pub(crate) handle: u32,
    pub(crate) parent: u32,
    pub(crate) info: u32,
}

impl Header {
    pub(crate) fn bytes(self) -> Vec<u8> {
        // Family, which is of no family, and padding.
        let mut bytes = vec![0; 4];
        for number in [self.index, self.handle, self.parent, self.info] {
            bytes.extend_from_slice(&number.to_ne_bytes());
        }
        bytes
    }

    /// The header of an answer, and the attributes behind it.
    pub(crate) fn parse(body: &[u8]) -> Option<(Self, &[u8])> {
        let number = |at| u32_at(body, at);
        let header = Self { index: number(4)?, handle: number(8)?, parent: number(12)?, info: number(16)? };
        Some((header, body.get(TCMSG..)?))
    }
}

/// The number at this place of a structure, in the machine's byte order.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

/// An attribute that is one number.
pub(crate) fn u64_in(list: &[u8], kind: u16) -> Option<u64> {
    attr::find(list, kind)?.first_chunk().copied().map(u64::from_ne_bytes)
}

/// `struct tc_ratespec`. A rate that does not fit goes into an attribute of its own, and here stands the largest number.
pub(crate) fn rate_spec(rate: Rate) -> [u8; 12] {
    let mut bytes = [0; 12];
    // cell_log, linklayer, overhead, cell_align, mpu, rate.
    let [_, linklayer, _, _, _, _, _, _, number @ ..] = &mut bytes;
    *linklayer = TC_LINKLAYER_ETHERNET;
    *number = u32::try_from(rate.as_bytes_per_second()).unwrap_or(u32::MAX).to_ne_bytes();
    bytes
}

/// The rate in a `struct tc_ratespec` at this place, or in the attribute of 64 bits.
pub(crate) fn rate_at(parameters: &[u8], at: usize, wide: Option<u64>) -> Option<Rate> {
    let short = u32_at(parameters, at + 8)?;
    Some(Rate::bytes_per_second(wide.unwrap_or_else(|| u64::from(short))))
}

/// What needs the attribute of 64 bits: the kernel takes it only for rates that need it.
pub(crate) fn wide(rate: Rate) -> Option<[u8; 8]> {
    (rate.as_bytes_per_second() > u64::from(u32::MAX)).then(|| rate.as_bytes_per_second().to_ne_bytes())
}

/// How long so many bytes take at this rate, in ticks. `None` when that is over 274 seconds, which is all that fits.
pub(crate) fn ticks(rate: Rate, bytes: u32) -> Option<u32> {
    let ticks = rate.nanoseconds_for(u64::from(bytes))?.div_ceil(TICK_NANOSECONDS);
    u32::try_from(ticks).ok()
}

/// How many bytes go at this rate in so many ticks.
pub(crate) fn bytes_of(rate: Rate, ticks: u32) -> u32 {
    u32::try_from(rate.bytes_in(u64::from(ticks) * TICK_NANOSECONDS)).unwrap_or(u32::MAX)
}

fn request(
    operation: &'static str,
    kind: u16,
    flags: u16,
    subject: String,
    header: Header,
    attributes: impl FnOnce(&mut Writer),
) -> Result<Request> {
    let mut writer = Writer::new(&header.bytes());
    attributes(&mut writer);
    Ok(Request { operation, subject: Some(Subject::Thing(subject)), kind, flags, body: writer.finish()? })
}

/// Makes or changes a qdisc.
pub(crate) fn new_qdisc(
    flags: u16,
    subject: String,
    header: Header,
    kind: &str,
    options: impl FnOnce(&mut Writer),
) -> Result<Request> {
    request("RTM_NEWQDISC", RTM_NEWQDISC, flags, subject, header, |writer| {
        writer.text(TCA_KIND, kind);
        options(writer);
    })
}

/// Makes or changes a class.
pub(crate) fn new_class(
    flags: u16,
    subject: String,
    header: Header,
    kind: &str,
    options: impl FnOnce(&mut Writer),
) -> Result<Request> {
    request("RTM_NEWTCLASS", RTM_NEWTCLASS, flags, subject, header, |writer| {
        writer.text(TCA_KIND, kind);
        options(writer);
    })
}

/// Makes a filter.
pub(crate) fn new_filter(
    flags: u16,
    subject: String,
    header: Header,
    kind: &str,
    options: impl FnOnce(&mut Writer),
) -> Result<Request> {
    request("RTM_NEWTFILTER", RTM_NEWTFILTER, flags, subject, header, |writer| {
        writer.text(TCA_KIND, kind);
        options(writer);
    })
}

/// `tc qdisc delete dev NAME PARENT`
pub(crate) fn delete_qdisc(index: u32, subject: String, parent: Parent) -> Result<Request> {
    let header = Header { index, parent: parent.raw(), handle: 0, info: 0 };
    request("RTM_DELQDISC", RTM_DELQDISC, 0, subject, header, |_| ())
}

/// `tc class delete dev NAME classid CLASS`
pub(crate) fn delete_class(index: u32, subject: String, class: u32) -> Result<Request> {
    let header = Header { index, handle: class, ..Header::default() };
    request("RTM_DELTCLASS", RTM_DELTCLASS, 0, subject, header, |_| ())
}

/// `tc filter delete dev NAME PARENT`: all of them.
pub(crate) fn delete_filters(index: u32, subject: String, parent: u32) -> Result<Request> {
    let header = Header { index, parent, ..Header::default() };
    request("RTM_DELTFILTER", RTM_DELTFILTER, 0, subject, header, |_| ())
}

/// All qdiscs of all interfaces: the kernel does not sort them out by interface.
pub(crate) fn list_qdiscs(subject: String) -> Result<Request> {
    request("RTM_GETQDISC", RTM_GETQDISC, 0, subject, Header::default(), |_| ())
}

/// One class.
pub(crate) fn get_class(index: u32, subject: String, class: u32) -> Result<Request> {
    request("RTM_GETTCLASS", RTM_GETTCLASS, 0, subject, Header { index, handle: class, ..Header::default() }, |_| ())
}

/// The classes of one interface.
pub(crate) fn list_classes(index: u32, subject: String) -> Result<Request> {
    request("RTM_GETTCLASS", RTM_GETTCLASS, 0, subject, Header { index, ..Header::default() }, |_| ())
}

/// What filters have for a parent: the ingress qdisc by its handle, a class or a qdisc by its own.
pub(crate) fn filter_parent(parent: Parent) -> u32 {
    match parent {
        Parent::Ingress => INGRESS_HANDLE,
        // The kernel takes no parent for the qdisc at the root.
        Parent::Root => 0,
        Parent::Class(handle) => handle.raw(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn structures() {
        let header = Header { index: 7, handle: 0x1_0000, parent: 0xFFFF_FFFF, info: 3 };
        assert_eq!(header.bytes().len(), TCMSG);
        assert_eq!(Header::parse(&header.bytes()), Some((header, &[][..])));
        // 8 mbit/s: cell_log, linklayer, overhead, cell_align, mpu, rate.
        assert_eq!(rate_spec(Rate::mbit(8)), [0, 1, 0, 0, 0, 0, 0, 0, 0x40, 0x42, 0x0f, 0]);
        assert_eq!(rate_spec(Rate::gbit(100))[8..], [0xff; 4]);
        assert_eq!((wide(Rate::gbit(34)), wide(Rate::gbit(35))), (None, Some(4_375_000_000_u64.to_ne_bytes())));
    }

    #[test]
    fn ticks_are_64_nanoseconds() {
        // 16 KiB at 1 MB/s take 16.384 ms.
        assert_eq!(ticks(Rate::mbit(8), 16384), Some(16_384_000 / 64));
        assert_eq!(bytes_of(Rate::mbit(8), 16_384_000 / 64), 16384);
        assert_eq!(ticks(Rate::bits_per_second(8), 274), Some(274_000_000_000_u64.div_ceil(64) as u32));
        assert_eq!(ticks(Rate::bits_per_second(8), 275), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some((header, rest)) = Header::parse(&bytes) {
                prop_assert_eq!(&header.bytes()[4..], &bytes[4..20]);
                prop_assert_eq!(rest.len(), bytes.len() - 20);
            }
            let _ = rate_at(&bytes, 0, None);
        }

        #[test]
        fn bytes_and_ticks(bytes in 1u64..1_000_000_000_000, size in 1u32..100_000_000) {
            let rate = Rate::bytes_per_second(bytes);
            if let Some(ticks) = ticks(rate, size) {
                let read = bytes_of(rate, ticks);
                // Never less, and at most what a tick is worth more.
                prop_assert!(read >= size && u64::from(read - size) <= bytes * 64 / 1_000_000_000 + 1, "{} {}", size, read);
            }
        }
    }
}
