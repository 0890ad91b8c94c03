//! How fast a container may receive and send.
//!
//! Theory of operation. Whoever has CAP_NET_ADMIN in the container's network namespace may change every qdisc in it, so
//! none of ours is there: both limits are on the host's side of the veth pair.
//!
//! ```text
//!  container │ host
//!            │        tbf (ingress)
//!   eth0 ────┼──── vh… ◄──────────────── to the container
//!            │      │ ingress qdisc, a filter for everything: redirect
//!            │      └─────► vi… tbf (egress) ──► as if it had come from vh…
//! ```
//!
//! * What goes *to* the container is what the host's end sends, and a token bucket is at its root.
//! * What comes *from* the container is what the host's end receives, and nothing can wait there. A filter redirects all of
//!   it through an `ifb` interface of the container's own, which has a token bucket at its root; what passes that goes on as
//!   if it had come by the host's end. Its name follows from the owner as that of the host's end does, and its hardware
//!   address is the mark of who made it.
//!
//! Both are made before an end of the pair is up: no packet passes before its limit. The qdiscs end with the host's end, so
//! only the `ifb` is removed by name. When it is gone the filter has nowhere to redirect to and drops; so whoever lifts the
//! limit removes the filter first.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use cellkit_core::{Error, Result, Subject};
use serde::{Deserialize, Serialize};

use crate::exchange::{Mode, Request};
use crate::link::Link;
use crate::name::{IfName, Owner};
use crate::netns::apart;
use crate::network::Network;
use crate::nft::Settings;
use crate::plan::{self, Channel, Known, Numbers};
use crate::qdisc::{self, Discipline, Filter, Parent, Rate, Tbf, message};
use crate::record::Record;
use crate::sysctl;
use crate::teardown::Host;

/// The header of Ethernet and a VLAN tag: what a packet of the MTU takes at most.
const HEADER: u32 = 18;

/// How fast a container may receive (`ingress`) and send (`egress`), each with the headers of Ethernet. What is not set is
/// not limited.
///
/// The container cannot lift them, whatever its capabilities: both are outside of its network namespace. What is too much
/// waits up to 50 ms and is then dropped, see [`Tbf`].
///
/// * Kernel: `CONFIG_NET_SCH_TBF`; for `egress` also `CONFIG_IFB`, `CONFIG_NET_SCH_INGRESS`, `CONFIG_NET_CLS_U32` (or
///   `_MATCHALL`) and `CONFIG_NET_ACT_MIRRED`.
///
/// ```
/// use vethnet::{Limits, Rate};
///
/// let limits = Limits::new().ingress(Rate::mbit(100)).egress("8mbit".parse()?);
/// assert_eq!(limits.egress_rate(), Some(Rate::mbit(8)));
/// # Ok::<(), vethnet::Error>(())
/// ```
///
/// See tc-tbf(8): <https://man7.org/linux/man-pages/man8/tc-tbf.8.html>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use]
pub struct Limits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ingress: Option<Rate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    egress: Option<Rate>,
}

impl Limits {
    /// None.
    pub const fn new() -> Self {
        Self { ingress: None, egress: None }
    }

    /// What the container receives.
    pub const fn ingress(mut self, rate: Rate) -> Self {
        self.ingress = Some(rate);
        self
    }

    /// What the container sends.
    pub const fn egress(mut self, rate: Rate) -> Self {
        self.egress = Some(rate);
        self
    }

    /// The limit of what the container receives.
    #[must_use]
    pub const fn ingress_rate(&self) -> Option<Rate> {
        self.ingress
    }

    /// The limit of what the container sends.
    #[must_use]
    pub const fn egress_rate(&self) -> Option<Rate> {
        self.egress
    }

    /// Whether neither is set.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }

    /// Refuses a rate at which nothing would pass.
    pub(crate) fn check(&self, mtu: u32) -> Result<()> {
        [self.ingress, self.egress].into_iter().flatten().try_for_each(|rate| bucket(rate, mtu).check())
    }
}

/// The token bucket for a rate: one that lets the largest packet pass.
pub(crate) fn bucket(rate: Rate, mtu: u32) -> Tbf {
    let tbf = Tbf::new(rate);
    tbf.burst(tbf.burst_bytes().max(mtu.saturating_add(HEADER)))
}

/// What errors of the token bucket are about.
pub(crate) fn subject_at_root(name: &IfName) -> String {
    qdisc::subject(&name.into(), "tbf", Parent::Root)
}

/// What errors of the ingress qdisc are about.
pub(crate) fn subject_ingress(name: &IfName) -> String {
    qdisc::subject(&name.into(), "ingress", Parent::Ingress)
}

/// `tc qdisc replace dev NAME root tbf rate RATE`
pub(crate) fn at_root(name: &IfName, index: u32, rate: Rate, mtu: u32) -> Result<Request> {
    qdisc::set(&name.into(), index, Parent::Root, &Discipline::Tbf(bucket(rate, mtu)))
}

/// `tc qdisc add dev NAME ingress`
pub(crate) fn ingress_qdisc(name: &IfName, index: u32) -> Result<Request> {
    qdisc::set(&name.into(), index, Parent::Ingress, &Discipline::Ingress)
}

/// `tc filter add dev NAME ingress matchall action mirred egress redirect dev IFB`, in the ways that kernels know, of which
/// one is enough.
pub(crate) fn redirect(name: &IfName, index: u32, ifb: &IfName, ifb_index: u32) -> Result<Vec<Request>> {
    Filter::everything(Parent::Ingress).redirect(ifb).requests(&name.into(), index, ifb_index)
}

/// Says which module is missing, where that is it.
pub(crate) fn explain(error: Error) -> Error {
    let subject = error.subject().map(ToString::to_string).unwrap_or_default();
    let mut words = subject.split(' ');
    match (words.next(), words.next()) {
        (Some("qdisc" | "filter"), Some(kind)) => {
            let kind = kind.to_owned();
            qdisc::explain(error, &kind)
        }
        _ => error,
    }
}

/// A kernel without `ifb` says EOPNOTSUPP, as for any kind of link that it does not know.
pub(crate) fn explain_ifb(error: Error) -> Error {
    if error.raw_os_error() != Some(libc::EOPNOTSUPP) {
        return error;
    }
    error
        .as_unsupported("limiting what a container sends (ifb)", None)
        .with_hint("load the module (modprobe ifb), use a kernel built with CONFIG_IFB, or set no egress limit")
}

/// The limits of a container that is attached, changed. Blocks.
#[derive(Debug)]
struct Change<'a> {
    host: &'a Host,
    record: &'a Record,
    name: &'a IfName,
    index: u32,
    ifb: IfName,
    mtu: u32,
}

impl Change<'_> {
    fn ack(&self, request: Request) -> Result<()> {
        self.host.route.talk(&[request], Mode::Ack).map(drop).map_err(explain)
    }

    /// The limit of what the container receives.
    fn ingress(&self, rate: Option<Rate>) -> Result<()> {
        match rate {
            Some(rate) => self.ack(at_root(self.name, self.index, rate, self.mtu)?),
            None => self.lift(Parent::Root),
        }
    }

    /// The limit of what it sends.
    fn egress(&self, rate: Option<Rate>) -> Result<()> {
        let Some(rate) = rate else {
            // The filter goes with its qdisc, and then nothing leads to the ifb any more.
            self.lift(Parent::Ingress)?;
            return self.host.delete_ifb(&self.ifb);
        };
        if let Some(ifb) = self.host.our_ifb(&self.ifb)? {
            return self.ack(at_root(&self.ifb, ifb.index, rate, self.mtu)?);
        }
        let result = self.new_ifb(rate);
        if result.is_err() {
            // Not the error that this may give: the first one is the one to be told.
            let _ = self.lift(Parent::Ingress);
            let _ = self.host.delete_ifb(&self.ifb);
        }
        result
    }

    fn new_ifb(&self, rate: Rate) -> Result<()> {
        let without_ipv6 = !sysctl::has_ipv6(&self.host.proc, self.name)?;
        let mut known = Known { host: Some(self.index), without_ipv6, ..Known::default() };
        for step in plan::limit_egress(self.record, rate, self.mtu) {
            let requests = step.requests(&known, self.host.netns.as_fd(), Settings::default())?;
            match step.channel() {
                Channel::NewLink(_) => {
                    let answers = self.host.route.talk(&requests, Mode::Each).map_err(explain_ifb)?;
                    known.ifb = answers.last().and_then(|body| Numbers::parse(body)).map(|numbers| numbers.index);
                }
                Channel::FirstOf => first_of(self.host, &requests)?,
                _ => drop(self.host.route.talk(&requests, Mode::Each).map_err(explain)?),
            }
        }
        Ok(())
    }

    fn lift(&self, parent: Parent) -> Result<()> {
        let subject = format!("qdisc of {:?}, {parent}", self.name.as_str());
        match self.ack(message::delete_qdisc(self.index, subject, parent)?) {
            // There is none: ENOENT for the default one at the root, EINVAL where there is no ingress qdisc.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => Ok(()),
            result => result,
        }
    }
}

/// Makes the first of the requests that the kernel knows.
pub(crate) fn first_of(host: &Host, requests: &[Request]) -> Result<()> {
    let mut result = Ok(());
    for request in requests {
        result = host.route.talk(std::slice::from_ref(request), Mode::Ack).map(drop).map_err(explain);
        if !matches!(&result, Err(error) if error.kind() == crate::ErrorKind::Unsupported) {
            break;
        }
    }
    result
}

impl Network {
    /// Changes the limits of a container that is attached, while its traffic goes on: those that are set replace what was
    /// there, those that are not are lifted.
    ///
    /// A rate that changes is changed in place: what waits goes on waiting. The record is written before, so that a kill
    /// in between leaves nothing that is not found.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for a rate of nothing; [`NotFound`](crate::ErrorKind::NotFound) when `owner`
    /// is not attached; [`Gone`](crate::ErrorKind::Gone) when its network namespace has ended;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) where the kernel lacks `tbf` or `ifb`, naming the module. The limits
    /// are what they were then, but for one of the two that was changed already.
    ///
    /// ```no_run
    /// use vethnet::{Limits, Network, Rate};
    ///
    /// # async fn example(network: &Network) -> vethnet::Result<()> {
    /// network.limit("web", Limits::new().egress(Rate::mbit(8))).await?;
    /// network.limit("web", Limits::new()).await
    /// # }
    /// ```
    pub async fn limit(&self, owner: &str, limits: Limits) -> Result<()> {
        let owner = Owner::new(owner)?;
        let state = self.state();
        apart(move || {
            let lock = state.lock_blocking()?;
            let Some(record) = state.lease(&owner)? else {
                return Err(Error::from_errno("limit", libc::ENOENT)
                    .on(Subject::Value(owner.as_str().to_owned()))
                    .with_hint("this owner is not attached to the network: attach it"));
            };
            let (host, name) = (Host::here()?, record.host_ifname());
            let Some(Link { index, mtu, .. }) = host.our_host_end(&name)? else {
                return Err(Error::gone("RTM_GETLINK", Some(libc::ENODEV)).on(Subject::Interface(name.to_string())));
            };
            limits.check(mtu)?;
            let change = Change { host: &host, record: &record, name: &name, index, ifb: record.ifb_ifname(), mtu };
            // While both may be there, the record says so.
            let either = Limits { egress: limits.egress.or(record.limits.egress), ..limits };
            state.rewrite(&lock, &record.with_limits(either))?;
            let result = change.ingress(limits.ingress).and_then(|()| change.egress(limits.egress));
            let then = if result.is_ok() { record.with_limits(limits) } else { record.clone() };
            Error::all([result.err(), state.rewrite(&lock, &then).err()].into_iter().flatten())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_bucket_lets_the_largest_packet_pass() {
        assert_eq!(bucket(Rate::kbit(100), 1500).burst_bytes(), 16 << 10);
        assert_eq!(bucket(Rate::kbit(100), 65_535).burst_bytes(), 65_535 + 18);
        assert_eq!(bucket(Rate::gbit(1), 65_535).burst_bytes(), 1_250_000);
        Limits::new().check(1500).unwrap();
        let error = Limits::new().egress(Rate::mbit(0)).check(1500).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }

    #[test]
    fn texts() {
        let limits = Limits::new().ingress(Rate::mbit(8));
        assert_eq!(serde_json::to_string(&limits).unwrap(), r#"{"ingress":"8mbit"}"#);
        assert_eq!(serde_json::from_str::<Limits>("{}").unwrap(), Limits::new());
        for text in [r#"{"ingress":8}"#, r#"{"egres":"8mbit"}"#, r#"{"egress":"8mbps"}"#] {
            assert!(serde_json::from_str::<Limits>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_kernel_that_lacks_something_is_told_from_other_errors() {
        let error = Error::from_errno("RTM_NEWTFILTER", libc::ENOENT)
            .on(Subject::Thing(r#"filter u32 of "vha", ingress"#.into()))
            .with_kernel_text("TC classifier not found");
        let error = explain(error);
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.hint().unwrap().contains("cls_u32"), "{error:?}");
        assert_eq!(explain(Error::from_errno("RTM_NEWLINK", libc::EPERM)).kind(), ErrorKind::Permission);
        let error = explain_ifb(Error::from_errno("RTM_NEWLINK", libc::EOPNOTSUPP));
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.hint().unwrap().contains("modprobe ifb"), "{error:?}");
        assert_eq!(explain_ifb(Error::from_errno("RTM_NEWLINK", libc::EPERM)).kind(), ErrorKind::Permission);
    }
}
