//! Routes, IPv4 and IPv6.
//!
//! The kernel knows a route by its destination, table and metric. In IPv4 two that agree in these are told apart by the
//! rest only where NLM_F_APPEND was used, which this crate does not; in IPv6 a second one would become another way of the
//! first (multipath), so everything is made with NLM_F_EXCL.
#![forbid(unsafe_code)]

mod hop;
mod lookup;
pub(crate) mod message;
mod verbs;
mod words;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use cellkit_core::{Error, Result, Subject};

pub use hop::NextHop;
pub use lookup::RouteLookup;
pub use verbs::RouteFilter;
pub use words::{RouteKind, RoutePreference, RouteProtocol, RouteTable, Scope};

use crate::link::LinkRef;
use crate::subnet::Subnet;

/// A route: what is to be, and what is read.
///
/// The fields are what is read; the methods of the same names set them. One that was read can be made elsewhere, or
/// removed, as it is; what this type has no field for (encapsulation, realms) is not read.
///
/// * C call: RTM_NEWROUTE with `struct rtmsg`; see rtnetlink(7),
///   <https://man7.org/linux/man-pages/man7/rtnetlink.7.html>.
/// * Kernel: an IPv6 gateway of an IPv4 route ([`via`](Route::via)) 5.2; older than the oldest kernel supported.
///
/// ```
/// use vethnet::{IfName, NextHop, Route};
///
/// let route = Route::to("10.2.0.0/16".parse()?).via([10, 1, 0, 1]).dev(IfName::new("eth0")?).metric(50);
/// assert_eq!(route.to_string(), "10.2.0.0/16 via 10.1.0.1 dev eth0 metric 50");
/// let both = Route::default_v4()
///     .hop(NextHop::via([10, 1, 0, 1]).weight(2))
///     .hop(NextHop::via([10, 9, 0, 1]));
/// assert_eq!(both.to_string(), "default nexthop via 10.1.0.1 weight 2 nexthop via 10.9.0.1 weight 1");
/// # Ok::<(), vethnet::Error>(())
/// ```
#[doc(alias = "rtmsg")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Route {
    /// The addresses it is for; `0.0.0.0/0` or `::/0` for all that have no better one.
    #[doc(alias = "RTA_DST")]
    pub destination: Subnet,
    /// What is done with a packet.
    #[doc(alias = "rtm_type")]
    pub kind: RouteKind,
    /// Where it goes: mostly one, several for multipath, none where the packet ends here.
    #[doc(alias = "RTA_MULTIPATH")]
    pub hops: Vec<NextHop>,
    /// Only for packets from these addresses, of IPv6.
    #[doc(alias = "RTA_SRC")]
    pub from: Option<Subnet>,
    /// The address that packets of this machine are sent from.
    #[doc(alias = "RTA_PREFSRC")]
    pub source: Option<IpAddr>,
    /// Of routes to the same destination the one with the lowest is used. `None` is the kernel's default: 0 in IPv4,
    /// 1024 in IPv6.
    #[doc(alias = "RTA_PRIORITY")]
    pub metric: Option<u32>,
    /// The table it is in.
    #[doc(alias = "RTA_TABLE")]
    pub table: RouteTable,
    /// How far the destination is, of IPv4. `None`: what follows from the rest.
    #[doc(alias = "rtm_scope")]
    pub scope: Option<Scope>,
    /// Who made it. `None`: [`VETHNET`](RouteProtocol::VETHNET) in what is made, anybody in what is removed.
    #[doc(alias = "rtm_protocol")]
    pub protocol: Option<RouteProtocol>,
    /// The largest packet that fits the path, in bytes.
    #[doc(alias = "RTAX_MTU")]
    pub mtu: Option<u32>,
    /// The largest TCP segment that is offered to the other side, in bytes.
    #[doc(alias = "RTAX_ADVMSS")]
    pub advmss: Option<u32>,
    /// Which of several routers is chosen, of IPv6.
    #[doc(alias = "RTA_PREF")]
    pub preference: Option<RoutePreference>,
    /// When the kernel removes it, of IPv6.
    #[doc(alias = "RTA_EXPIRES")]
    pub expires: Option<Duration>,
    /// The number of the next hop object that it uses, where it was read.
    #[doc(alias = "RTA_NH_ID")]
    pub nexthop_id: Option<u32>,
}

impl Route {
    /// To these addresses.
    pub fn to(destination: Subnet) -> Self {
        Self::of_kind(RouteKind::Unicast, destination)
    }

    /// To all IPv4 addresses that have no better route.
    pub fn default_v4() -> Self {
        Self::to(Subnet::around(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0))
    }

    /// To all IPv6 addresses that have no better route.
    pub fn default_v6() -> Self {
        Self::to(Subnet::around(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0))
    }

    /// Packets to these addresses are dropped in silence.
    pub fn blackhole(destination: Subnet) -> Self {
        Self::of_kind(RouteKind::Blackhole, destination)
    }

    /// Packets to these addresses are answered with "host unreachable".
    pub fn unreachable(destination: Subnet) -> Self {
        Self::of_kind(RouteKind::Unreachable, destination)
    }

    /// Packets to these addresses are answered with "administratively prohibited".
    pub fn prohibit(destination: Subnet) -> Self {
        Self::of_kind(RouteKind::Prohibit, destination)
    }

    /// For these addresses the lookup in this table ends, and goes on with the next rule.
    pub fn throw(destination: Subnet) -> Self {
        Self::of_kind(RouteKind::Throw, destination)
    }

    /// These addresses are the machine's own: a program can listen on any of them.
    pub fn local(destination: Subnet) -> Self {
        Self { table: RouteTable::LOCAL, ..Self::of_kind(RouteKind::Local, destination) }
    }

    pub(crate) fn of_kind(kind: RouteKind, destination: Subnet) -> Self {
        Self {
            destination,
            kind,
            hops: Vec::new(),
            from: None,
            source: None,
            metric: None,
            table: RouteTable::MAIN,
            scope: None,
            protocol: None,
            mtu: None,
            advmss: None,
            preference: None,
            expires: None,
            nexthop_id: None,
        }
    }

    /// Sets the gateway. One of an IPv4 route may have an IPv6 address: it is then looked for from the interface's own
    /// link-local address, so not before that has passed duplicate address detection.
    #[doc(alias = "RTA_GATEWAY")]
    #[doc(alias = "RTA_VIA")]
    pub fn via(self, gateway: impl Into<IpAddr>) -> Self {
        self.with_hop(|hop| hop.via = Some(gateway.into()))
    }

    /// Sets the interface. With a gateway it may be left out: the kernel looks for the gateway's.
    #[doc(alias = "RTA_OIF")]
    pub fn dev(self, link: impl Into<LinkRef>) -> Self {
        self.with_hop(|hop| hop.dev = Some(link.into()))
    }

    /// Takes the gateway to be on the link, although no route says so. It needs [`dev`](Route::dev).
    #[doc(alias = "RTNH_F_ONLINK")]
    pub fn onlink(self) -> Self {
        self.with_hop(|hop| hop.is_onlink = true)
    }

    fn with_hop(mut self, change: impl FnOnce(&mut NextHop)) -> Self {
        match self.hops.last_mut() {
            Some(hop) => change(hop),
            None => {
                let mut hop = NextHop::default();
                change(&mut hop);
                self.hops.push(hop);
            }
        }
        self
    }

    /// Adds one way of several, which share the packets by weight.
    pub fn hop(mut self, hop: NextHop) -> Self {
        self.hops.push(hop);
        self
    }

    /// Only for packets from these addresses, of IPv6.
    pub fn from(mut self, source: Subnet) -> Self {
        self.from = Some(source);
        self
    }

    /// Sets the address that packets of this machine are sent from. It has to be one of its own.
    pub fn source(mut self, source: impl Into<IpAddr>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Sets the metric.
    pub fn metric(mut self, metric: u32) -> Self {
        self.metric = Some(metric);
        self
    }

    /// Sets the table.
    pub fn table(mut self, table: RouteTable) -> Self {
        self.table = table;
        self
    }

    /// Sets the scope, of IPv4.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = Some(scope);
        self
    }

    /// Sets who it says it was made by.
    pub fn protocol(mut self, protocol: RouteProtocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// Sets the largest packet, in bytes.
    pub fn mtu(mut self, bytes: u32) -> Self {
        self.mtu = Some(bytes);
        self
    }

    /// Sets the largest TCP segment that is offered, in bytes.
    pub fn advmss(mut self, bytes: u32) -> Self {
        self.advmss = Some(bytes);
        self
    }

    /// Sets the preference, of IPv6.
    pub fn preference(mut self, preference: RoutePreference) -> Self {
        self.preference = Some(preference);
        self
    }

    /// Sets when the kernel removes it, of IPv6. A part of a second counts as one.
    pub fn expires(mut self, after: Duration) -> Self {
        self.expires = Some(after);
        self
    }

    /// Whether it is for all addresses that have no better one.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.destination.prefix() == 0
    }

    /// The number of its interface, where it was read and there is just one.
    #[must_use]
    pub fn index(&self) -> Option<u32> {
        match self.hops.as_slice() {
            [NextHop { dev: Some(dev), .. }] => dev.index(),
            _ => None,
        }
    }

    pub(crate) fn subject(&self) -> Subject {
        Subject::Thing(format!("route {self}"))
    }

    pub(crate) fn check(&self) -> Result<()> {
        let fail = |why: &'static str| Err(Error::invalid("route", why).on(Subject::Value(self.to_string())));
        let is_ipv4 = self.destination.is_ipv4();
        let is_other = |address: IpAddr| address.is_ipv4() != is_ipv4;
        if is_ipv4 && (self.from.is_some() || self.preference.is_some() || self.expires.is_some()) {
            return fail("only IPv6 has routes by source, preferences and expiry");
        }
        if !is_ipv4 && self.scope.is_some_and(|scope| scope != Scope::GLOBAL) {
            return fail("only IPv4 has scopes of routes");
        }
        if self.source.is_some_and(is_other) || self.from.is_some_and(|from| is_other(from.address())) {
            return fail("the source is of the other family");
        }
        if self.expires == Some(Duration::ZERO) {
            return fail("it would be gone before it is there: it expires after 0 s");
        }
        match (self.kind.ends_here(), self.hops.as_slice()) {
            (true, [_, ..]) => return fail("a packet that ends here has no next hop"),
            (false, []) => return fail("say where it leads: a gateway (via), an interface (dev), or both"),
            _ => {}
        }
        self.hops.iter().try_for_each(|hop| match hop.fault(is_ipv4) {
            None => Ok(()),
            Some(why) => fail(why),
        })
    }

    /// What the kernel tells routes apart by.
    fn is_same(&self, found: &Self) -> bool {
        let metric = |route: &Self| route.metric.unwrap_or(if route.destination.is_ipv4() { 0 } else { 1024 });
        // In IPv6 0 stands for the default.
        let metric = |route: &Self| match metric(route) {
            0 if route.destination.is_ipv6() => 1024,
            metric => metric,
        };
        self.destination == found.destination
            && self.table == found.table
            && self.from == found.from
            && metric(self) == metric(found)
    }

    /// Whether all that is wished for is so in `found`, in which interfaces are numbers, as they are in this.
    fn is_met_by(&self, found: &Self) -> bool {
        let preference = |route: &Self| route.preference.unwrap_or_default();
        self.is_same(found)
            && self.kind == found.kind
            && (self.kind.ends_here() || hop::are_met(&self.hops, &found.hops))
            && self.protocol.unwrap_or(RouteProtocol::VETHNET) == found.protocol.unwrap_or(RouteProtocol::UNSPEC)
            && self.source.is_none_or(|source| found.source == Some(source))
            && (self.mtu, self.advmss) == (found.mtu, found.advmss)
            && (self.destination.is_ipv6() || self.scope_or_default() == found.scope_or_default())
            && preference(self) == preference(found)
            && self.expires.is_none()
            && found.expires.is_none()
    }

    /// The scope as ip(8) chooses it.
    pub(crate) fn scope_or_default(&self) -> Scope {
        let has_gateway = self.hops.iter().any(|hop| hop.via.is_some());
        match (self.scope, self.kind) {
            (Some(scope), _) => scope,
            (None, _) if self.destination.is_ipv6() => Scope::GLOBAL,
            (None, RouteKind::Local) => Scope::HOST,
            (None, RouteKind::Broadcast | RouteKind::Multicast | RouteKind::Anycast) => Scope::LINK,
            (None, RouteKind::Unicast) if !has_gateway => Scope::LINK,
            (None, _) => Scope::GLOBAL,
        }
    }
}

impl From<&Self> for Route {
    fn from(route: &Self) -> Self {
        route.clone()
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind != RouteKind::Unicast {
            write!(f, "{} ", self.kind)?;
        }
        if self.is_default() {
            f.write_str("default")?
        } else {
            self.destination.fmt(f)?
        }
        if let Some(from) = self.from {
            write!(f, " from {from}")?;
        }
        match self.hops.as_slice() {
            [] => {}
            [hop] => write!(f, " {hop}")?,
            hops => hops.iter().try_for_each(|hop| write!(f, " nexthop {hop} weight {}", hop.weight))?,
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        if self.table != RouteTable::MAIN {
            write!(f, " table {}", self.table)?;
        }
        if let Some(metric) = self.metric {
            write!(f, " metric {metric}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
