//! [`Ipvlan`]: another link's wire and hardware address, with IP addresses of its own.
#![forbid(unsafe_code)]

use cellkit_core::Result;
use netlink_packet_route::link::{InfoIpVlan, IpVlanFlags, IpVlanMode};

use crate::link::LinkRef;
use crate::link::options::Options;
use crate::link::settings::{Settings, link_settings, queue_settings};
use crate::link::spec::{Plan, sealed};
use crate::name::IfName;

/// At which layer an ipvlan and its parent part.
///
/// See the kernel's documentation: <https://docs.kernel.org/networking/ipvlan.html>.
///
/// ```
/// use vethnet::{IfName, Ipvlan, IpvlanMode};
///
/// let routed = Ipvlan::new(IfName::new("iv0")?, &IfName::new("eth0")?).mode(IpvlanMode::L3);
/// # let _ = routed;
/// # Ok::<(), vethnet::Error>(())
/// ```
#[doc(alias = "IFLA_IPVLAN_MODE")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IpvlanMode {
    /// Frames: it takes part in broadcasts and ARP.
    L2,
    /// Packets: the parent's namespace routes for it.
    L3,
    /// The same, and the filters and connection tracking of the parent's namespace see its packets.
    L3s,
}

impl IpvlanMode {
    fn of_packet(self) -> IpVlanMode {
        match self {
            Self::L2 => IpVlanMode::L2,
            Self::L3 => IpVlanMode::L3,
            Self::L3s => IpVlanMode::L3S,
        }
    }

    pub(crate) fn from_number(number: u16) -> Option<Self> {
        [Self::L2, Self::L3, Self::L3s].into_iter().find(|mode| u16::from(mode.of_packet()) == number)
    }
}

/// How the ipvlans of one parent exchange packets.
///
/// See the kernel's documentation: <https://docs.kernel.org/networking/ipvlan.html>.
///
/// ```
/// use vethnet::{IfName, Ipvlan, IpvlanFlow};
///
/// let alone = Ipvlan::new(IfName::new("iv0")?, &IfName::new("eth0")?).flow(IpvlanFlow::Private);
/// # let _ = alone;
/// # Ok::<(), vethnet::Error>(())
/// ```
#[doc(alias = "IFLA_IPVLAN_FLAGS")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IpvlanFlow {
    /// Directly.
    Bridge,
    /// They exchange none.
    Private,
    /// By the switch at the parent's other side.
    Vepa,
}

impl IpvlanFlow {
    fn of_packet(self) -> IpVlanFlags {
        match self {
            Self::Bridge => IpVlanFlags::empty(),
            Self::Private => IpVlanFlags::Private,
            Self::Vepa => IpVlanFlags::Vepa,
        }
    }

    pub(crate) fn from_number(number: u16) -> Option<Self> {
        [Self::Bridge, Self::Private, Self::Vepa].into_iter().find(|flow| flow.of_packet().bits() == number)
    }
}

/// A link that shares another's wire and hardware address and has IP addresses of its own, to make or to be ensured: `ip
/// link add link PARENT name NAME type ipvlan mode MODE`.
///
/// For wires at which only one hardware address is let in: wireless networks, and many clouds.
///
/// * Kernel object: `IFLA_INFO_KIND` "ipvlan", options `IFLA_IPVLAN_*`. Needs CONFIG_IPVLAN (module ipvlan).
/// * All of one parent have one mode and one flow: the last one that was set.
/// * A parent has either macvlans or ipvlans: EBUSY.
/// * Kernel: 5.15. Privileges: CAP_NET_ADMIN over the namespace.
///
/// ```no_run
/// # async fn example(net: &vethnet::Net, container: std::os::fd::OwnedFd) -> vethnet::Result<()> {
/// use vethnet::{IfName, Ipvlan};
///
/// let parent = IfName::new("eth0")?;
/// net.create_link_inside(&container, &Ipvlan::new(IfName::new("eth0")?, &parent).up()).await?;
/// # Ok(())
/// # }
/// ```
///
/// See the kernel's documentation: <https://docs.kernel.org/networking/ipvlan.html>.
#[doc(alias = "IFLA_IPVLAN_MODE")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is made before Net::create_link or Net::ensure_link"]
pub struct Ipvlan {
    name: IfName,
    parent: LinkRef,
    settings: Settings,
    options: Options,
}

link_settings!(Ipvlan);
queue_settings!(Ipvlan);

impl Ipvlan {
    /// One on top of `parent`, in [`IpvlanMode::L2`].
    pub fn new(name: IfName, parent: impl Into<LinkRef>) -> Self {
        let (settings, options) = (Settings::default(), Options::default());
        Self { name, parent: parent.into(), settings, options }.mode(IpvlanMode::L2)
    }

    /// At which layer it parts from the parent.
    #[doc(alias = "IFLA_IPVLAN_MODE")]
    pub fn mode(mut self, mode: IpvlanMode) -> Self {
        self.options.set(&InfoIpVlan::Mode(mode.of_packet()));
        self
    }

    /// How those of one parent exchange packets. Default: [`IpvlanFlow::Bridge`].
    #[doc(alias = "IFLA_IPVLAN_FLAGS")]
    pub fn flow(mut self, flow: IpvlanFlow) -> Self {
        self.options.set(&InfoIpVlan::Flags(flow.of_packet()));
        self
    }
}

impl sealed::Spec for Ipvlan {
    fn plan(&self) -> Result<Plan<'_>> {
        Ok(Plan { parent: Some(&self.parent), ..Plan::new(&self.name, "ipvlan", &self.settings, &self.options) })
    }
}
