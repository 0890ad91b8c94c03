//! What a link's kind says of it, as read.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::Duration;

use crate::attr;
use crate::link::bridge::{self, VlanProtocol};
use crate::link::ipvlan::{IpvlanFlow, IpvlanMode};
use crate::link::macvlan::MacvlanMode;
use crate::link::read::{u16_of, u32_of};

/// What a link's kind says of it.
///
/// See ip-link(8): <https://man7.org/linux/man-pages/man8/ip-link.8.html>.
///
/// ```no_run
/// # async fn example(net: &vethnet::Net) -> vethnet::Result<()> {
/// use vethnet::LinkData;
///
/// for link in net.links().await? {
///     if let Some(LinkData::Vlan(vlan)) = &link.data {
///         println!("{} carries VLAN {} of #{}", link.name, vlan.id, link.parent.unwrap_or_default());
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[doc(alias = "IFLA_INFO_DATA")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkData {
    /// A bridge's.
    Bridge(BridgeData),
    /// That of a VLAN of another link.
    Vlan(VlanData),
    /// A macvlan's or a macvtap's mode, if it is one of those known.
    Macvlan(Option<MacvlanMode>),
    /// An ipvlan's mode and flow, if they are among those known.
    Ipvlan(Option<IpvlanMode>, Option<IpvlanFlow>),
    /// A VXLAN's.
    Vxlan(VxlanData),
    /// A tun's or tap's.
    Tun(TunData),
}

/// A bridge's options and state.
///
/// See bridge(8): <https://man7.org/linux/man-pages/man8/bridge.8.html>.
///
/// ```no_run
/// # fn example(link: &vethnet::Link) {
/// if let Some(vethnet::LinkData::Bridge(bridge)) = &link.data {
///     println!("forgets addresses after {:?}", bridge.ageing_time);
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BridgeData {
    /// After which time without a frame an address is forgotten.
    pub ageing_time: Duration,
    /// How long a port listens, and learns, before it forwards.
    pub forward_delay: Duration,
    /// Between two messages of the spanning tree.
    pub hello_time: Duration,
    /// After which time without a message the spanning tree is made anew.
    pub max_age: Duration,
    /// Whether it takes part in the spanning tree protocol.
    pub stp: bool,
    /// Its priority in the spanning tree: the lowest becomes the root.
    pub priority: u16,
    /// Whether frames are kept within their VLANs.
    pub vlan_filtering: bool,
    /// The VLAN of untagged frames at new ports; 0 for none.
    pub vlan_default_pvid: u16,
    /// The kind of VLAN tag, if it is one of those known.
    pub vlan_protocol: Option<VlanProtocol>,
    /// Whether it learns who wants to hear which multicast group.
    pub mcast_snooping: bool,
    /// Whether it asks for that itself.
    pub mcast_querier: bool,
    /// Which of the link-local groups it forwards.
    pub group_fwd_mask: u16,
    /// How many addresses it has learned, and how many it learns at most (0: no limit). Kernel 6.7.
    pub fdb_learned: Option<(u32, u32)>,
}

/// What a bridge says of a port.
///
/// See bridge(8): <https://man7.org/linux/man-pages/man8/bridge.8.html>.
///
/// ```no_run
/// # fn example(link: &vethnet::Link) {
/// let alone = link.port.as_ref().is_some_and(|port| port.isolated);
/// # let _ = alone;
/// # }
/// ```
#[doc(alias = "IFLA_INFO_SLAVE_DATA")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortData {
    /// Whether it exchanges no frames with other isolated ports.
    pub isolated: bool,
    /// Whether frames may leave by the port they came in.
    pub hairpin: bool,
    /// Whether addresses are learned from it.
    pub learning: bool,
    /// Whether frames to unknown addresses are sent to it.
    pub flood: bool,
    /// The same for frames to multicast groups nobody is known to want.
    pub mcast_flood: bool,
    /// The same for broadcasts.
    pub bcast_flood: bool,
    /// Whether a spanning tree message that comes in turns it off.
    pub guard: bool,
    /// Whether it may not become the way to the root of the spanning tree.
    pub root_block: bool,
    /// Whether it takes frames only from addresses that are in the table. Kernel 5.18.
    pub locked: bool,
    /// Whether the bridge answers ARP for the neighbours it knows.
    pub neigh_suppress: bool,
    /// Its priority in the spanning tree.
    pub priority: u16,
    /// What going through it costs in the spanning tree.
    pub cost: u32,
}

/// Which VLAN of its parent a link is.
///
/// See ip-link(8): <https://man7.org/linux/man-pages/man8/ip-link.8.html>.
///
/// ```no_run
/// # fn example(link: &vethnet::Link) {
/// if let Some(vethnet::LinkData::Vlan(vlan)) = &link.data {
///     println!("VLAN {}", vlan.id);
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VlanData {
    /// The number in the tag.
    pub id: u16,
    /// The kind of tag, if it is one of those known.
    pub protocol: Option<VlanProtocol>,
}

/// A VXLAN's options.
///
/// See ip-link(8): <https://man7.org/linux/man-pages/man8/ip-link.8.html>.
///
/// ```no_run
/// # fn example(link: &vethnet::Link) {
/// if let Some(vethnet::LinkData::Vxlan(vxlan)) = &link.data {
///     println!("network {} at port {}", vxlan.id, vxlan.dst_port);
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VxlanData {
    /// The network identifier (VNI).
    pub id: u32,
    /// Where frames to unknown addresses go: another machine or a multicast group.
    pub remote: Option<IpAddr>,
    /// The address packets are sent from.
    pub local: Option<IpAddr>,
    /// The number of the link they are sent by.
    pub lower: Option<u32>,
    /// The UDP port.
    pub dst_port: u16,
    /// Whether it learns which machine has which hardware address.
    pub learning: bool,
    /// Whether identifier and destination are chosen per packet (`external`).
    pub external: bool,
    /// The time to live of its packets; 0 for the kernel's default.
    pub ttl: u8,
}

/// A tun's or tap's state.
///
/// See the kernel's documentation: <https://docs.kernel.org/networking/tuntap.html>.
///
/// ```no_run
/// # fn example(link: &vethnet::Link) {
/// let stays = matches!(&link.data, Some(vethnet::LinkData::Tun(tun)) if tun.persistent);
/// # let _ = stays;
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TunData {
    /// Whether it passes Ethernet frames (tap) and not IP packets (tun).
    pub is_tap: bool,
    /// Whether it stays when nobody has it open.
    pub persistent: bool,
    /// Whether more than one descriptor may be open, each with a queue.
    pub multi_queue: bool,
    /// Whether packets have a `struct virtio_net_hdr` before them.
    pub vnet_hdr: bool,
    /// The user who may open it without privileges.
    pub owner: Option<u32>,
    /// The group who may.
    pub group: Option<u32>,
}

struct Found<'a>(&'a [u8]);

impl Found<'_> {
    fn u8(&self, kind: u16) -> Option<u8> {
        attr::find(self.0, kind)?.first().copied()
    }

    fn is_on(&self, kind: u16) -> bool {
        self.u8(kind).is_some_and(|value| value != 0)
    }

    fn u16(&self, kind: u16) -> Option<u16> {
        attr::find(self.0, kind).and_then(u16_of)
    }

    fn be16(&self, kind: u16) -> Option<u16> {
        self.u16(kind).map(u16::from_be)
    }

    fn u32(&self, kind: u16) -> Option<u32> {
        attr::find(self.0, kind).and_then(u32_of)
    }

    fn ticks(&self, kind: u16) -> Duration {
        bridge::from_ticks(u64::from(self.u32(kind).unwrap_or_default()))
    }

    /// An address in one of two attributes, unless it is the unspecified one.
    fn address(&self, v4: u16, v6: u16) -> Option<IpAddr> {
        let four = attr::find(self.0, v4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(IpAddr::from);
        let six = || attr::find(self.0, v6).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()).map(IpAddr::from);
        four.or_else(six).filter(|address| !address.is_unspecified())
    }
}

impl LinkData {
    pub(crate) fn parse(kind: &str, data: &[u8]) -> Option<Self> {
        let found = Found(data);
        Some(match kind {
            "bridge" => Self::Bridge(BridgeData {
                forward_delay: found.ticks(1),
                hello_time: found.ticks(2),
                max_age: found.ticks(3),
                ageing_time: found.ticks(4),
                stp: found.u32(5)? != 0,
                priority: found.u16(6)?,
                vlan_filtering: found.is_on(7),
                vlan_protocol: found.be16(8).and_then(VlanProtocol::from_number),
                group_fwd_mask: found.u16(9).unwrap_or_default(),
                mcast_snooping: found.is_on(23),
                mcast_querier: found.is_on(25),
                vlan_default_pvid: found.u16(39).unwrap_or_default(),
                fdb_learned: found.u32(48).zip(found.u32(49)),
            }),
            "vlan" => {
                Self::Vlan(VlanData { id: found.u16(1)?, protocol: found.be16(5).and_then(VlanProtocol::from_number) })
            }
            "macvlan" | "macvtap" => Self::Macvlan(MacvlanMode::from_number(found.u32(1)?)),
            "ipvlan" => Self::Ipvlan(
                IpvlanMode::from_number(found.u16(1)?),
                IpvlanFlow::from_number(found.u16(2).unwrap_or_default()),
            ),
            "vxlan" => Self::Vxlan(VxlanData {
                id: found.u32(1)?,
                remote: found.address(2, 16),
                lower: found.u32(3).filter(|index| *index != 0),
                local: found.address(4, 17),
                ttl: found.u8(5).unwrap_or_default(),
                learning: found.is_on(7),
                dst_port: found.be16(15).unwrap_or_default(),
                external: found.is_on(25),
            }),
            "tun" => Self::Tun(TunData {
                owner: found.u32(1),
                group: found.u32(2),
                is_tap: found.u8(3)? == 2,
                vnet_hdr: found.is_on(5),
                persistent: found.is_on(6),
                multi_queue: found.is_on(7),
            }),
            _ => return None,
        })
    }
}

impl PortData {
    pub(crate) fn parse(data: &[u8]) -> Self {
        let found = Found(data);
        Self {
            priority: found.u16(2).unwrap_or_default(),
            cost: found.u32(3).unwrap_or_default(),
            hairpin: found.is_on(4),
            guard: found.is_on(5),
            root_block: found.is_on(6),
            learning: found.is_on(8),
            flood: found.is_on(9),
            mcast_flood: found.is_on(27),
            bcast_flood: found.is_on(30),
            neigh_suppress: found.is_on(32),
            isolated: found.is_on(33),
            locked: found.is_on(39),
        }
    }
}
