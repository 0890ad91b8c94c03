//! The flags of a link.
#![forbid(unsafe_code)]

use crate::link::consts::*;

/// A flag of a link, to look for with [`Link::has`](crate::Link::has).
///
/// See netdevice(7): <https://man7.org/linux/man-pages/man7/netdevice.7.html>.
///
/// ```no_run
/// # async fn example(net: &vethnet::Net) -> vethnet::Result<()> {
/// let watched = net.links().await?.iter().any(|link| link.has(vethnet::LinkFlag::Promiscuous));
/// # let _ = watched;
/// # Ok(())
/// # }
/// ```
#[doc(alias = "ifi_flags")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LinkFlag {
    /// Brought up (IFF_UP).
    Up,
    /// Able to pass packets (IFF_RUNNING).
    Running,
    /// Broadcasts reach everybody on it (IFF_BROADCAST).
    Broadcast,
    /// A loopback (IFF_LOOPBACK).
    Loopback,
    /// Between two, without hardware addresses to find (IFF_POINTOPOINT).
    PointToPoint,
    /// Addresses are not looked for with ARP or neighbour discovery (IFF_NOARP).
    NoArp,
    /// Told to take every packet (IFF_PROMISC). A bridge that has it as a port does not set this, but counts in
    /// [`Link::promiscuity`](crate::Link::promiscuity).
    Promiscuous,
    /// Told to take packets to every multicast group (IFF_ALLMULTI).
    AllMulticast,
    /// Able to send to groups (IFF_MULTICAST).
    Multicast,
    /// With a carrier (IFF_LOWER_UP).
    LowerUp,
}

impl LinkFlag {
    pub(crate) fn bit(self) -> u32 {
        match self {
            Self::Up => IFF_UP,
            Self::Broadcast => 0x2,
            Self::Loopback => 0x8,
            Self::PointToPoint => 0x10,
            Self::Running => IFF_RUNNING,
            Self::NoArp => IFF_NOARP,
            Self::Promiscuous => IFF_PROMISC,
            Self::AllMulticast => IFF_ALLMULTI,
            Self::Multicast => IFF_MULTICAST,
            Self::LowerUp => IFF_LOWER_UP,
        }
    }
}
