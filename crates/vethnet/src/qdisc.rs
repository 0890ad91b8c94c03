//! Traffic control: how fast an interface sends, what waits, what is dropped.
//!
//! Theory of operation. A queueing discipline (qdisc) takes what an interface is to send and decides when each packet
//! goes. It is at the root of the interface, or in a class of a qdisc that has classes. Nothing can wait in what an
//! interface *receives*: the ingress qdisc only holds filters, and whoever wants to limit that side has a filter redirect
//! the packets through an `ifb` interface, whose only purpose is to have a root of its own.
//!
//! Requests and answers are pure; the `impl Net` in `qdisc/verbs.rs` sends them. Messages name an interface by its number
//! only, which is asked for first: an interface that was replaced in between has another number, so nothing can be done to
//! the wrong one.
#![forbid(unsafe_code)]

mod filter;
#[cfg(fuzzing)]
pub(crate) mod fuzz;
mod handle;
mod htb;
pub(crate) mod message;
mod netem;
mod rate;
mod tbf;
mod verbs;

use cellkit_core::{Error, Result, Subject};

use crate::attr::{self, Writer};
use crate::exchange::Request;
use crate::link::LinkRef;

pub use filter::Filter;
pub use handle::{Handle, Parent};
pub use htb::{Htb, HtbClass};
pub use netem::{Netem, Probability};
pub use rate::Rate;
pub use tbf::Tbf;

use handle::INGRESS_HANDLE;
use message::{Header, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, TCA_KIND, TCA_OPTIONS, TCA_STATS2, u32_at};

const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;
const TCA_STATS_PKT64: u16 = 8;

/// A kind of queueing discipline with its options.
///
/// See tc(8): <https://man7.org/linux/man-pages/man8/tc.8.html>.
///
/// ```
/// use vethnet::{Discipline, Rate, Tbf};
///
/// let discipline = Discipline::from(Tbf::new(Rate::mbit(8)));
/// assert_eq!(discipline.kind(), "tbf");
/// assert_eq!(Discipline::Ingress.kind(), "ingress");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Discipline {
    /// A token bucket filter: one rate.
    Tbf(Tbf),
    /// A hierarchical token bucket: classes.
    Htb(Htb),
    /// The network emulator: delay and loss.
    Netem(Netem),
    /// Where filters of received packets are.
    Ingress,
    /// Another kind, which this crate can show and not make.
    Other(String),
}

impl Discipline {
    /// The kernel's name of the kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Tbf(_) => "tbf",
            Self::Htb(_) => "htb",
            Self::Netem(_) => "netem",
            Self::Ingress => "ingress",
            Self::Other(kind) => kind,
        }
    }

    fn check(&self, parent: Parent) -> Result<()> {
        let fail = |why: &'static str| {
            Err(Error::invalid("qdisc", why).on(Subject::Value(format!("{} at {parent}", self.kind()))))
        };
        match (self, parent) {
            (Self::Other(_), _) => return fail("this crate cannot make one of this kind"),
            (Self::Ingress, Parent::Root | Parent::Class(_)) => return fail("its place is Parent::Ingress"),
            (Self::Tbf(_) | Self::Htb(_) | Self::Netem(_), Parent::Ingress) => {
                return fail("what is received cannot wait: redirect it to an ifb interface, which has a root");
            }
            _ => {}
        }
        match self {
            Self::Tbf(tbf) => tbf.check(),
            Self::Htb(htb) => htb.check(),
            Self::Netem(netem) => netem.check(),
            Self::Ingress | Self::Other(_) => Ok(()),
        }
    }

    fn handle(&self) -> u32 {
        match self {
            Self::Htb(htb) => htb.handle().raw(),
            Self::Ingress => INGRESS_HANDLE,
            _ => 0,
        }
    }

    fn write(&self, writer: &mut Writer) {
        match self {
            Self::Tbf(tbf) => tbf.write(writer),
            Self::Htb(htb) => htb.write(writer),
            Self::Netem(netem) => netem.write(writer),
            Self::Ingress | Self::Other(_) => {}
        }
    }
}

impl From<Tbf> for Discipline {
    fn from(tbf: Tbf) -> Self {
        Self::Tbf(tbf)
    }
}

impl From<Htb> for Discipline {
    fn from(htb: Htb) -> Self {
        Self::Htb(htb)
    }
}

impl From<Netem> for Discipline {
    fn from(netem: Netem) -> Self {
        Self::Netem(netem)
    }
}

/// A queueing discipline of an interface, as RTM_GETQDISC tells of it.
///
/// See rtnetlink(7): <https://man7.org/linux/man-pages/man7/rtnetlink.7.html>.
///
/// ```no_run
/// # async fn example(net: &vethnet::Net, eth0: &vethnet::IfName) -> vethnet::Result<()> {
/// for qdisc in net.qdiscs(eth0).await? {
///     println!("{}: {} bytes sent, {} packets dropped", qdisc.discipline.kind(), qdisc.statistics.bytes, qdisc.statistics.drops);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Qdisc {
    /// The interface's number.
    pub index: u32,
    /// Where it is; `None` where a driver keeps it beside the tree.
    pub parent: Option<Parent>,
    /// Its handle, unless it is one that the kernel gave the interface by itself.
    pub handle: Option<Handle>,
    /// What it is.
    pub discipline: Discipline,
    /// What it has counted.
    pub statistics: TrafficStatistics,
}

/// A class of an [`Htb`], as RTM_GETTCLASS tells of it.
///
/// See rtnetlink(7): <https://man7.org/linux/man-pages/man7/rtnetlink.7.html>.
///
/// ```no_run
/// # async fn example(net: &vethnet::Net, eth0: &vethnet::IfName) -> vethnet::Result<()> {
/// for class in net.classes(eth0).await? {
///     println!("{}: {} bytes", class.handle, class.statistics.bytes);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Class {
    /// The interface's number.
    pub index: u32,
    /// The class it is in, or the qdisc's root.
    pub parent: Option<Parent>,
    /// Its name.
    pub handle: Handle,
    /// Its options, if it is a class of an [`Htb`].
    pub options: Option<HtbClass>,
    /// What it has counted.
    pub statistics: TrafficStatistics,
}

/// What a queueing discipline or a class has counted.
///
/// See tc(8): <https://man7.org/linux/man-pages/man8/tc.8.html>.
///
/// ```
/// use std::time::Duration;
/// use vethnet::{Rate, TrafficStatistics};
///
/// let (before, mut after) = (TrafficStatistics::default(), TrafficStatistics::default());
/// after.bytes = 1_000_000;
/// assert_eq!(after.rate_since(&before, Duration::from_secs(1)), Rate::mbit(8));
/// ```
#[doc(alias = "gnet_stats_basic")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrafficStatistics {
    /// Sent, in bytes, with the headers of Ethernet.
    pub bytes: u64,
    /// Sent, in packets. What was handed over unsegmented counts as what it will be.
    pub packets: u64,
    /// Dropped packets.
    pub drops: u32,
    /// How often a packet had to wait because the rate was reached.
    pub overlimits: u32,
    /// How often a packet was put back because the device was busy.
    pub requeues: u32,
    /// Waiting now, in bytes.
    pub backlog: u32,
    /// Waiting now, in packets.
    pub queued: u32,
}

impl TrafficStatistics {
    /// The rate at which bytes were sent since `before` was read, so long ago.
    #[must_use]
    pub fn rate_since(&self, before: &Self, time: std::time::Duration) -> Rate {
        let bytes = u128::from(self.bytes.saturating_sub(before.bytes)) * 1_000_000_000;
        Rate::bytes_per_second(u64::try_from(bytes / time.as_nanos().max(1)).unwrap_or(u64::MAX))
    }

    fn parse(list: &[u8]) -> Self {
        let (basic, queue) = (attr::find(list, TCA_STATS_BASIC), attr::find(list, TCA_STATS_QUEUE));
        let counted = |at| queue.and_then(|bytes| u32_at(bytes, at)).unwrap_or(0);
        let short = basic.and_then(|bytes| u32_at(bytes, 8)).unwrap_or(0);
        Self {
            bytes: message::u64_in(list, TCA_STATS_BASIC).unwrap_or(0),
            packets: message::u64_in(list, TCA_STATS_PKT64).unwrap_or(u64::from(short)),
            queued: counted(0),
            backlog: counted(4),
            drops: counted(8),
            requeues: counted(12),
            overlimits: counted(16),
        }
    }
}

/// What an answer says, whatever it is of.
fn parts(body: &[u8]) -> Option<(Header, String, &[u8], TrafficStatistics)> {
    let (header, attributes) = Header::parse(body)?;
    let kind = attr::find(attributes, TCA_KIND).map(attr::as_text)?;
    let statistics = attr::find(attributes, TCA_STATS2).map(TrafficStatistics::parse).unwrap_or_default();
    Some((header, kind, attr::find(attributes, TCA_OPTIONS).unwrap_or_default(), statistics))
}

impl Qdisc {
    /// `None` for an answer that is too short to be one.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let (header, kind, options, statistics) = parts(body)?;
        let handle = Handle::from_raw(header.handle);
        let known = match kind.as_str() {
            "tbf" => Tbf::parse(options).map(Discipline::Tbf),
            "htb" => handle.and_then(|handle| Htb::parse(handle, options)).map(Discipline::Htb),
            "netem" => Netem::parse(options).map(Discipline::Netem),
            "ingress" => Some(Discipline::Ingress),
            _ => None,
        };
        let discipline = known.unwrap_or(Discipline::Other(kind));
        Some(Self { index: header.index, parent: Parent::from_raw(header.parent), handle, discipline, statistics })
    }
}

impl Class {
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let (header, kind, options, statistics) = parts(body)?;
        Some(Self {
            index: header.index,
            parent: Parent::from_raw(header.parent),
            handle: Handle::from_raw(header.handle)?,
            options: if kind == "htb" { HtbClass::parse(options) } else { None },
            statistics,
        })
    }
}

/// Makes the qdisc, or makes the one that is there so.
pub(crate) fn set(link: &LinkRef, index: u32, parent: Parent, discipline: &Discipline) -> Result<Request> {
    let flags = match discipline {
        // A change of the same kind in place: nothing that waits is lost.
        Discipline::Tbf(_) | Discipline::Netem(_) => NLM_F_CREATE | NLM_F_REPLACE,
        // These know no change: with this flag the kernel makes a new one.
        Discipline::Htb(_) | Discipline::Other(_) => NLM_F_CREATE | NLM_F_REPLACE | NLM_F_EXCL,
        Discipline::Ingress => NLM_F_CREATE | NLM_F_EXCL,
    };
    let header = Header { index, handle: discipline.handle(), parent: parent.raw(), info: 0 };
    let subject = subject(link, discipline.kind(), parent);
    message::new_qdisc(flags, subject, header, discipline.kind(), |writer| discipline.write(writer))
}

pub(crate) fn subject(link: &LinkRef, kind: &str, parent: Parent) -> String {
    format!("qdisc {kind} of {:?}, {parent}", link.to_string())
}

/// A kernel without the kind says ENOENT, and so it does for a parent that is not there: its words tell them apart.
pub(crate) fn explain(error: Error, kind: &str) -> Error {
    let words = error.kernel_text().unwrap_or_default();
    let unknown = ["kind is unknown", "classifier not found", "load TC action"].iter().any(|text| words.contains(text));
    if !(error.raw_os_error() == Some(libc::ENOENT) && unknown) {
        return error;
    }
    let module = match kind {
        "u32" | "matchall" => format!("cls_{kind} and act_mirred"),
        _ => format!("sch_{kind}"),
    };
    let hint = format!(
        "load {module} (modprobe), or use a kernel built with it; some distributions have it in a package of its own"
    );
    error.as_unsupported(format!("{kind} (traffic control)"), None).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellkit_core::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn places() {
        for (discipline, parent, good) in [
            (Discipline::from(Tbf::new(Rate::mbit(1))), Parent::Root, true),
            (Discipline::from(Tbf::new(Rate::mbit(1))), Parent::Ingress, false),
            (Discipline::Ingress, Parent::Ingress, true),
            (Discipline::Ingress, Parent::Root, false),
            (Discipline::from(Netem::new()), Parent::Class("1:1".parse().unwrap()), true),
            (Discipline::Other("fq".into()), Parent::Root, false),
        ] {
            assert_eq!(discipline.check(parent).is_ok(), good, "{discipline:?} {parent}");
        }
    }

    #[test]
    fn an_unknown_kind_is_told_from_a_missing_parent() {
        let enoent = |text: &str| Error::from_errno("RTM_NEWQDISC", libc::ENOENT).with_kernel_text(text);
        let error = explain(enoent("Specified qdisc kind is unknown."), "tbf");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.hint().unwrap().contains("sch_tbf"), "{error:?}");
        assert_eq!(explain(enoent("Failed to find specified qdisc"), "tbf").kind(), ErrorKind::NotFound);
    }

    #[test]
    fn statistics_of_64_bits_win() {
        let mut writer = Writer::new(&[]);
        let basic = [&7_000_000_000_u64.to_ne_bytes()[..], &5_u32.to_ne_bytes()].concat();
        writer.put(TCA_STATS_BASIC, &basic).put(TCA_STATS_PKT64, &6_000_000_000_u64.to_ne_bytes());
        let queue: Vec<u8> = [1_u32, 1514, 3, 4, 5].iter().flat_map(|number| number.to_ne_bytes()).collect();
        writer.put(TCA_STATS_QUEUE, &queue);
        let statistics = TrafficStatistics::parse(&writer.finish().unwrap());
        let expected = TrafficStatistics {
            bytes: 7_000_000_000,
            packets: 6_000_000_000,
            queued: 1,
            backlog: 1514,
            drops: 3,
            requeues: 4,
            overlimits: 5,
        };
        assert_eq!(statistics, expected);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Qdisc::parse(&bytes), Class::parse(&bytes));
        }

        #[test]
        fn options_of_any_bytes_are_read_without_panic(kind in "tbf|htb|netem|ingress|fq", options in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut writer = Writer::new(&Header { index: 1, handle: 0x1_0000, ..Header::default() }.bytes());
            writer.text(TCA_KIND, &kind).put(TCA_OPTIONS, &options);
            let body = writer.finish().unwrap();
            let qdisc = Qdisc::parse(&body).unwrap();
            prop_assert_eq!(qdisc.discipline.kind(), kind);
            let _ = Class::parse(&body);
        }

        #[test]
        fn a_request_is_an_answer(rate in 1_000u64..1_000_000_000_000) {
            let tbf = Tbf::new(Rate::bytes_per_second(rate));
            let request = set(&LinkRef::Index(7), 7, Parent::Root, &tbf.into()).unwrap();
            let qdisc = Qdisc::parse(&request.body).unwrap();
            prop_assert_eq!((qdisc.index, qdisc.parent, qdisc.handle), (7, Some(Parent::Root), None));
            let Discipline::Tbf(read) = qdisc.discipline else { panic!() };
            prop_assert_eq!((read.rate(), read.limit_bytes()), (tbf.rate(), tbf.limit_bytes()));
        }
    }
}
