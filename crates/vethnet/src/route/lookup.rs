//! [`RouteLookup`]: which route a packet would take.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use crate::link::LinkRef;

/// A packet whose route is asked for: where it goes, and what rules may look at beside.
///
/// See ip-route(8), `ip route get`: <https://man7.org/linux/man-pages/man8/ip-route.8.html>.
///
/// ```no_run
/// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
/// use vethnet::RouteLookup;
///
/// let route = net.route_to(RouteLookup::to([198, 51, 100, 7]).mark(5)).await?;
/// println!("{route}, from {:?}", route.source);
/// # Ok(())
/// # }
/// ```
#[doc(alias = "RTM_GETROUTE")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct RouteLookup {
    pub(super) to: IpAddr,
    pub(super) from: Option<IpAddr>,
    pub(super) oif: Option<LinkRef>,
    pub(super) iif: Option<LinkRef>,
    pub(super) mark: Option<u32>,
    pub(super) uid: Option<u32>,
}

impl RouteLookup {
    /// A packet of the machine itself to this address.
    pub fn to(address: impl Into<IpAddr>) -> Self {
        Self { to: address.into(), from: None, oif: None, iif: None, mark: None, uid: None }
    }

    /// From this address: one of the machine's own, unless [`iif`](RouteLookup::iif) is said.
    pub fn from(mut self, address: impl Into<IpAddr>) -> Self {
        self.from = Some(address.into());
        self
    }

    /// It has to leave by this interface.
    pub fn oif(mut self, link: impl Into<LinkRef>) -> Self {
        self.oif = Some(link.into());
        self
    }

    /// It comes in by this interface, so that it is forwarded. It needs [`from`](RouteLookup::from).
    pub fn iif(mut self, link: impl Into<LinkRef>) -> Self {
        self.iif = Some(link.into());
        self
    }

    /// It has this mark.
    #[doc(alias = "RTA_MARK")]
    pub fn mark(mut self, mark: u32) -> Self {
        self.mark = Some(mark);
        self
    }

    /// A program of this user sends it.
    #[doc(alias = "RTA_UID")]
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }
}

impl<A: Into<IpAddr>> From<A> for RouteLookup {
    fn from(address: A) -> Self {
        Self::to(address)
    }
}
