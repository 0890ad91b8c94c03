//! Neighbours: which hardware address has an IP address on a link (ARP, NDP), and which addresses are answered for.
#![forbid(unsafe_code)]

pub(crate) mod message;
mod verbs;

use std::fmt;
use std::net::IpAddr;

use cellkit_core::{Error, Result, Subject};

use crate::link::LinkRef;
use crate::mac::MacAddr;
use crate::route::RouteProtocol;

/// How sure the kernel is of a neighbour.
///
/// See ip-neighbour(8): <https://man7.org/linux/man-pages/man8/ip-neighbour.8.html>.
///
/// ```
/// use vethnet::NeighbourState;
///
/// assert_eq!(NeighbourState::Reachable.to_string(), "reachable");
/// ```
#[doc(alias = "NUD_REACHABLE")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NeighbourState {
    /// Nothing is known, and nothing was asked: that of an entry that is answered for.
    None,
    /// It is asked for.
    Incomplete,
    /// It was heard of lately.
    Reachable,
    /// It was known some time ago: used, and then looked at again.
    Stale,
    /// Used while it is awaited whether it is heard of.
    Delay,
    /// It is asked whether it is there still.
    Probe,
    /// It did not answer.
    Failed,
    /// Not asked for, but the entry may be dropped: that of links without ARP.
    Noarp,
    /// Never asked for and never dropped.
    Permanent,
    /// Another one, by its bits.
    Other(u16),
}

impl NeighbourState {
    const NAMES: [(Self, u16, &'static str); 9] = [
        (Self::None, 0, "none"),
        (Self::Incomplete, 0x01, "incomplete"),
        (Self::Reachable, 0x02, "reachable"),
        (Self::Stale, 0x04, "stale"),
        (Self::Delay, 0x08, "delay"),
        (Self::Probe, 0x10, "probe"),
        (Self::Failed, 0x20, "failed"),
        (Self::Noarp, 0x40, "noarp"),
        (Self::Permanent, 0x80, "permanent"),
    ];

    pub(crate) fn number(self) -> u16 {
        match self {
            Self::Other(number) => number,
            _ => Self::NAMES.iter().find(|(state, ..)| *state == self).map_or(0, |(_, number, _)| *number),
        }
    }

    pub(crate) fn of_number(number: u16) -> Self {
        Self::NAMES.iter().find(|(_, known, _)| *known == number).map_or(Self::Other(number), |(state, ..)| *state)
    }
}

impl fmt::Display for NeighbourState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(state, ..)| state == self) {
            Some((.., name)) => f.write_str(name),
            None => write!(f, "state {:#x}", self.number()),
        }
    }
}

/// An entry of the neighbour table (ARP for IPv4, NDP for IPv6), or an address that is answered for (proxy).
///
/// * C call: RTM_NEWNEIGH with `struct ndmsg`; see rtnetlink(7),
///   <https://man7.org/linux/man-pages/man7/rtnetlink.7.html>, arp(7) and ip-neighbour(8).
///
/// ```
/// use vethnet::Neighbour;
///
/// let gateway = Neighbour::permanent([10, 1, 0, 1], "02:6b:0a:01:00:01".parse()?);
/// assert_eq!(gateway.to_string(), "10.1.0.1 lladdr 02:6b:0a:01:00:01 permanent");
/// assert_eq!(Neighbour::proxy([10, 1, 0, 9]).to_string(), "proxy 10.1.0.9");
/// # Ok::<(), vethnet::Error>(())
/// ```
#[doc(alias = "ndmsg")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Neighbour {
    /// Its IP address.
    #[doc(alias = "NDA_DST")]
    pub address: IpAddr,
    /// Its Ethernet address, where there is one.
    #[doc(alias = "NDA_LLADDR")]
    pub mac: Option<MacAddr>,
    /// How sure that is.
    #[doc(alias = "ndm_state")]
    pub state: NeighbourState,
    /// Whether it is no neighbour but an address that this machine answers for.
    #[doc(alias = "NTF_PROXY")]
    pub is_proxy: bool,
    /// Whether it says that it is a router, of IPv6.
    #[doc(alias = "NTF_ROUTER")]
    pub is_router: bool,
    /// Whether a program keeps it: the kernel does not drop it when the table is full.
    #[doc(alias = "NTF_EXT_LEARNED")]
    pub is_externally_learned: bool,
    /// Who made it, if that was said.
    #[doc(alias = "NDA_PROTOCOL")]
    pub protocol: Option<RouteProtocol>,
    /// The number of its interface, where it was read.
    pub index: Option<u32>,
}

impl Neighbour {
    fn new(address: IpAddr, mac: Option<MacAddr>, state: NeighbourState) -> Self {
        Self {
            address,
            mac,
            state,
            is_proxy: false,
            is_router: false,
            is_externally_learned: false,
            protocol: None,
            index: None,
        }
    }

    /// Always at this Ethernet address: it is never asked for and never dropped.
    pub fn permanent(address: impl Into<IpAddr>, mac: MacAddr) -> Self {
        Self::new(address.into(), Some(mac), NeighbourState::Permanent)
    }

    /// Heard of at this moment: it is asked for again after some time (`base_reachable_time_ms`).
    pub fn reachable(address: impl Into<IpAddr>, mac: MacAddr) -> Self {
        Self::new(address.into(), Some(mac), NeighbourState::Reachable)
    }

    /// Heard of once: used, and then looked at.
    pub fn stale(address: impl Into<IpAddr>, mac: MacAddr) -> Self {
        Self::new(address.into(), Some(mac), NeighbourState::Stale)
    }

    /// No neighbour but an address that this machine answers for on the link, for whom it forwards packets: of IPv4 always,
    /// of IPv6 where the sysctl `proxy_ndp` of the interface is on. It has to have a route to the address by another
    /// interface, and forwarding has to be on.
    pub fn proxy(address: impl Into<IpAddr>) -> Self {
        Self { is_proxy: true, ..Self::new(address.into(), None, NeighbourState::None) }
    }

    /// A router, of IPv6.
    pub fn router(mut self) -> Self {
        self.is_router = true;
        self
    }

    /// Kept by a program: the kernel does not drop it when the table is full.
    pub fn externally_learned(mut self) -> Self {
        self.is_externally_learned = true;
        self
    }

    /// Says who made it. Kernel: 5.0.
    pub fn protocol(mut self, protocol: RouteProtocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    fn subject(&self, link: &LinkRef) -> Subject {
        let proxy = if self.is_proxy { "proxy " } else { "" };
        Subject::Thing(format!("neighbour {proxy}{} on {link}", self.address))
    }

    fn check(&self) -> Result<()> {
        let fail = |why: &'static str| Err(Error::invalid("neighbour", why).on(Subject::Value(self.to_string())));
        match (self.is_proxy, self.mac) {
            (true, Some(_)) => fail("what is answered for has no hardware address of its own here"),
            (false, None) => fail("a neighbour has a hardware address"),
            _ if self.is_router && self.address.is_ipv4() => fail("only IPv6 tells of routers"),
            _ if self.address.is_unspecified() => fail("it is no host's address"),
            _ => Ok(()),
        }
    }

    /// Whether all that is wished for is so in `found`.
    fn is_met_by(&self, found: &Self) -> bool {
        // The state of an entry that is not permanent moves on by itself.
        let moves_on = |state| {
            use NeighbourState::{Delay, Probe, Reachable, Stale};
            matches!(state, Reachable | Stale | Delay | Probe)
        };
        self.mac == found.mac
            && (self.state == found.state || self.state == NeighbourState::Stale && moves_on(found.state))
            && (self.is_proxy, self.is_router, self.is_externally_learned)
                == (found.is_proxy, found.is_router, found.is_externally_learned)
            && self.protocol.is_none_or(|protocol| found.protocol == Some(protocol))
    }
}

impl From<&Self> for Neighbour {
    fn from(neighbour: &Self) -> Self {
        neighbour.clone()
    }
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_proxy {
            return write!(f, "proxy {}", self.address);
        }
        self.address.fmt(f)?;
        if let Some(mac) = self.mac {
            write!(f, " lladdr {mac}")?;
        }
        write!(f, " {}", self.state)
    }
}

#[cfg(test)]
mod tests;
