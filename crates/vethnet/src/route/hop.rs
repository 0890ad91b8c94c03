//! [`NextHop`]: one way of a route.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::IpAddr;

use crate::link::LinkRef;

/// One way of a route: a gateway, an interface, or both.
///
/// The ways of one route share its packets by weight; which one a packet takes follows from its addresses, and where the
/// sysctl `fib_multipath_hash_policy` says so from its ports, so that a connection keeps to one.
///
/// * C: `struct rtnexthop` of RTA_MULTIPATH; see rtnetlink(7),
///   <https://man7.org/linux/man-pages/man7/rtnetlink.7.html>.
///
/// ```
/// use vethnet::{IfName, NextHop};
///
/// let hop = NextHop::via([10, 1, 0, 1]).dev(IfName::new("eth0")?).onlink().weight(3);
/// assert_eq!(hop.to_string(), "via 10.1.0.1 dev eth0 onlink");
/// # Ok::<(), vethnet::Error>(())
/// ```
#[doc(alias = "rtnexthop")]
#[doc(alias = "RTA_MULTIPATH")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct NextHop {
    /// The gateway; without one the destination is on the link itself.
    pub via: Option<IpAddr>,
    /// The interface. Where it was read, its number.
    pub dev: Option<LinkRef>,
    /// Whether the gateway is taken to be on the link although no route says so.
    pub is_onlink: bool,
    /// Its share, from 1.
    #[doc(alias = "rtnh_hops")]
    pub weight: u8,
    /// Whether it is not used, as the interface is down. As read.
    #[doc(alias = "RTNH_F_DEAD")]
    pub is_dead: bool,
    /// Whether the interface has no carrier. As read.
    #[doc(alias = "RTNH_F_LINKDOWN")]
    pub is_link_down: bool,
}

impl Default for NextHop {
    fn default() -> Self {
        Self { via: None, dev: None, is_onlink: false, weight: 1, is_dead: false, is_link_down: false }
    }
}

impl NextHop {
    /// Through this gateway.
    pub fn via(gateway: impl Into<IpAddr>) -> Self {
        Self { via: Some(gateway.into()), ..Self::default() }
    }

    /// On the link of this interface.
    pub fn on(link: impl Into<LinkRef>) -> Self {
        Self::default().dev(link)
    }

    /// Sets the interface.
    pub fn dev(mut self, link: impl Into<LinkRef>) -> Self {
        self.dev = Some(link.into());
        self
    }

    /// Takes the gateway to be on the link.
    pub fn onlink(mut self) -> Self {
        self.is_onlink = true;
        self
    }

    /// Sets its share, 1 to 255.
    pub fn weight(mut self, weight: u8) -> Self {
        self.weight = weight;
        self
    }

    pub(super) fn fault(&self, route_is_ipv4: bool) -> Option<&'static str> {
        if self.weight == 0 {
            Some("the weight of a way is from 1 to 255")
        } else if self.via.is_none() && self.dev.is_none() {
            Some("a next hop has a gateway, an interface, or both")
        } else if self.is_onlink && self.dev.is_none() {
            Some("onlink needs the interface that the gateway is on")
        } else if self.is_onlink && self.via.is_none() {
            Some("onlink is about a gateway, and there is none")
        } else if !route_is_ipv4 && self.via.is_some_and(|via| via.is_ipv4()) {
            Some("an IPv6 route cannot go through an IPv4 gateway")
        } else if self.via.is_some_and(|via| via.is_unspecified() || via.is_multicast()) {
            Some("the gateway is no host's address")
        } else {
            None
        }
    }
}

/// Whether the ways that were read are those wished for, in whatever order: IPv6 keeps none.
pub(super) fn are_met(wished: &[NextHop], found: &[NextHop]) -> bool {
    // The weight of an only way says nothing.
    let alone = wished.len() == 1;
    let is_met = |wish: &NextHop, found: &NextHop| {
        wish.via == found.via
            && wish.dev.as_ref().is_none_or(|dev| found.dev.as_ref() == Some(dev))
            && wish.is_onlink == found.is_onlink
            && (alone || wish.weight == found.weight)
    };
    wished.len() == found.len()
        && wished.iter().all(|wish| found.iter().any(|found| is_met(wish, found)))
        && found.iter().all(|found| wished.iter().any(|wish| is_met(wish, found)))
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let via = self.via.map(|via| format!("via {via}"));
        let dev = self.dev.as_ref().map(|dev| format!("dev {dev}"));
        let onlink = self.is_onlink.then(|| "onlink".to_owned());
        let words: Vec<_> = [via, dev, onlink].into_iter().flatten().collect();
        f.write_str(&words.join(" "))
    }
}
