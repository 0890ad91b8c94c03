//! The forwarding database: behind which port of a bridge, or which host of a VXLAN, a hardware address is.
#![forbid(unsafe_code)]

pub(crate) mod message;
mod verbs;

use std::fmt;
use std::net::IpAddr;

use cellkit_core::{Error, Result, Subject};

use crate::link::LinkRef;
use crate::mac::MacAddr;

/// Where an entry came from, and how long it stays.
///
/// See bridge(8), `bridge fdb`: <https://man7.org/linux/man-pages/man8/bridge.8.html>.
///
/// ```
/// use vethnet::{FdbEntry, FdbState};
///
/// let entry = FdbEntry::in_bridge("02:00:00:00:00:07".parse()?);
/// assert_eq!(entry.state, FdbState::Static);
/// # Ok::<(), vethnet::Error>(())
/// ```
#[doc(alias = "ndm_state")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FdbState {
    /// The machine's own address: frames to it are delivered here and not forwarded (`permanent`, `local`).
    Permanent,
    /// Set by a program: it stays until it is removed.
    Static,
    /// It ages, as what the bridge learns itself.
    Dynamic,
    /// Learnt, and not heard of for long: it is about to be forgotten.
    Stale,
    /// Another one, by its bits.
    Other(u16),
}

impl FdbState {
    pub(crate) const fn number(self) -> u16 {
        match self {
            Self::Permanent => 0x80,
            Self::Static => 0x40,
            Self::Dynamic => 0x02,
            Self::Stale => 0x04,
            Self::Other(number) => number,
        }
    }

    pub(crate) const fn of_number(number: u16) -> Self {
        match number {
            // What a VXLAN is made with (NUD_REACHABLE as well) is permanent all the same, as bridge(8) says it.
            number if number & 0x80 != 0 => Self::Permanent,
            0x40 => Self::Static,
            0x02 => Self::Dynamic,
            0x04 => Self::Stale,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for FdbState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Permanent => "permanent",
            Self::Static => "static",
            Self::Dynamic => "dynamic",
            Self::Stale => "stale",
            Self::Other(number) => return write!(f, "state {number:#x}"),
        })
    }
}

/// Whose list an entry is in.
///
/// See bridge(8), `self` and `master`: <https://man7.org/linux/man-pages/man8/bridge.8.html>.
///
/// ```
/// use vethnet::{FdbEntry, FdbList};
///
/// assert_eq!(FdbEntry::in_bridge("02:00:00:00:00:07".parse()?).list, FdbList::Bridge);
/// # Ok::<(), vethnet::Error>(())
/// ```
#[doc(alias = "NTF_SELF")]
#[doc(alias = "NTF_MASTER")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FdbList {
    /// The bridge's that the interface is a port of (`master`): where frames leave by this port.
    Bridge,
    /// The interface's own (`self`): a VXLAN's hosts, a bridge's own addresses, what a network card lets through.
    Device,
}

/// An entry of a forwarding database.
///
/// * C call: RTM_NEWNEIGH with the family AF_BRIDGE; see rtnetlink(7),
///   <https://man7.org/linux/man-pages/man7/rtnetlink.7.html>, and bridge(8).
/// * Kernel: [`sticky`](FdbEntry::sticky) 4.20; older than the oldest kernel supported.
///
/// ```
/// use vethnet::FdbEntry;
///
/// let entry = FdbEntry::in_bridge("02:00:00:00:00:07".parse()?).vlan(5).sticky();
/// assert_eq!(entry.to_string(), "02:00:00:00:00:07 vlan 5 master sticky static");
/// let flood = FdbEntry::flood([192, 0, 2, 7]);
/// assert_eq!(flood.to_string(), "00:00:00:00:00:00 dst 192.0.2.7 self permanent");
/// # Ok::<(), vethnet::Error>(())
/// ```
#[doc(alias = "AF_BRIDGE")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct FdbEntry {
    /// The hardware address. It may be a group's, and of a VXLAN all zero, which stands for all that is not listed.
    #[doc(alias = "NDA_LLADDR")]
    pub mac: [u8; 6],
    /// How long it stays.
    pub state: FdbState,
    /// Whose list it is in.
    pub list: FdbList,
    /// Only in this VLAN of the bridge.
    #[doc(alias = "NDA_VLAN")]
    pub vlan: Option<u16>,
    /// Whether it stays with its port also when the address is heard of on another.
    #[doc(alias = "NTF_STICKY")]
    pub is_sticky: bool,
    /// Whether a program keeps it up to date: the bridge does not age it.
    #[doc(alias = "NTF_EXT_LEARNED")]
    pub is_externally_learned: bool,
    /// The host that a VXLAN's frames are sent to.
    #[doc(alias = "NDA_DST")]
    pub destination: Option<IpAddr>,
    /// The UDP port of that host, where it is not the VXLAN's.
    #[doc(alias = "NDA_PORT")]
    pub port: Option<u16>,
    /// The VXLAN's number at that host, where it is not this one's.
    #[doc(alias = "NDA_VNI")]
    pub vni: Option<u32>,
    /// The number of the interface, where it was read.
    pub index: Option<u32>,
    /// The number of the bridge, where it was read and the list is one's.
    #[doc(alias = "NDA_MASTER")]
    pub bridge: Option<u32>,
}

impl FdbEntry {
    fn new(mac: [u8; 6], state: FdbState, list: FdbList) -> Self {
        Self {
            mac,
            state,
            list,
            vlan: None,
            is_sticky: false,
            is_externally_learned: false,
            destination: None,
            port: None,
            vni: None,
            index: None,
            bridge: None,
        }
    }

    /// A static one of the bridge: frames to this address leave by the port.
    pub fn in_bridge(mac: MacAddr) -> Self {
        Self::new(mac.bytes(), FdbState::Static, FdbList::Bridge)
    }

    /// A permanent one of the interface itself.
    pub fn in_device(mac: MacAddr) -> Self {
        Self::new(mac.bytes(), FdbState::Permanent, FdbList::Device)
    }

    /// Of a VXLAN: frames to addresses that are not listed, and to all, are sent to this host. More hosts are
    /// [appended](crate::Net::append_fdb_entry).
    pub fn flood(host: impl Into<IpAddr>) -> Self {
        Self::new([0; 6], FdbState::Permanent, FdbList::Device).destination(host)
    }

    /// The machine's own address.
    pub fn permanent(mut self) -> Self {
        self.state = FdbState::Permanent;
        self
    }

    /// It ages.
    pub fn dynamic(mut self) -> Self {
        self.state = FdbState::Dynamic;
        self
    }

    /// Only in this VLAN of the bridge, 1 to 4094.
    pub fn vlan(mut self, vlan: u16) -> Self {
        self.vlan = Some(vlan);
        self
    }

    /// It stays with its port: another cannot take the address over.
    pub fn sticky(mut self) -> Self {
        self.is_sticky = true;
        self
    }

    /// A program keeps it up to date: what is there already is no error when it is added again.
    pub fn externally_learned(mut self) -> Self {
        self.is_externally_learned = true;
        self
    }

    /// The host that a VXLAN's frames are sent to.
    pub fn destination(mut self, host: impl Into<IpAddr>) -> Self {
        self.destination = Some(host.into());
        self
    }

    /// The UDP port of that host.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The VXLAN's number at that host.
    pub fn vni(mut self, vni: u32) -> Self {
        self.vni = Some(vni);
        self
    }

    fn subject(&self, link: &LinkRef) -> Subject {
        Subject::Thing(format!("fdb entry {self} of {link}"))
    }

    fn check(&self) -> Result<()> {
        let fail = |why: &'static str| Err(Error::invalid("fdb entry", why).on(Subject::Value(self.to_string())));
        let in_bridge = self.list == FdbList::Bridge;
        if self.vlan.is_some_and(|vlan| !(1..=4094).contains(&vlan)) {
            return fail("VLANs are numbered from 1 to 4094");
        }
        if in_bridge && (self.destination.is_some() || self.port.is_some() || self.vni.is_some()) {
            return fail("only a VXLAN's own entries name hosts");
        }
        if self.destination.is_none() && (self.port.is_some() || self.vni.is_some()) {
            return fail("a port and a number are of a host, and there is none");
        }
        if self.is_sticky && self.state != FdbState::Static {
            return fail("only static entries are sticky");
        }
        if self.port == Some(0) || self.vni.is_some_and(|vni| vni >= 1 << 24) {
            return fail("a port is from 1 to 65535, a VXLAN's number has 24 bits");
        }
        Ok(())
    }

    /// Whether all that is wished for is so in `found`.
    fn is_met_by(&self, found: &Self) -> bool {
        // What the kernel adds.
        let found = Self {
            index: self.index,
            bridge: self.bridge,
            port: self.port.and(found.port),
            vni: self.vni.and(found.vni),
            ..found.clone()
        };
        *self == found
    }
}

impl From<&Self> for FdbEntry {
    fn from(entry: &Self) -> Self {
        entry.clone()
    }
}

impl fmt::Display for FdbEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.mac;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")?;
        if let Some(host) = self.destination {
            write!(f, " dst {host}")?;
        }
        if let Some(vlan) = self.vlan {
            write!(f, " vlan {vlan}")?;
        }
        f.write_str(match self.list {
            FdbList::Bridge => " master",
            FdbList::Device => " self",
        })?;
        if self.is_sticky {
            f.write_str(" sticky")?;
        }
        write!(f, " {}", self.state)
    }
}

#[cfg(test)]
mod tests;
