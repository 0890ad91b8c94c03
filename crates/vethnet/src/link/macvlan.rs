//! [`Macvlan`]: another link's wire, with an address of its own.
#![forbid(unsafe_code)]

use cellkit_core::Result;
use netlink_packet_route::link::{InfoMacVlan, MacVlanFlags, MacVlanMode};

use crate::link::LinkRef;
use crate::link::options::Options;
use crate::link::settings::{Settings, link_settings, queue_settings};
use crate::link::spec::{Plan, sealed};
use crate::name::IfName;

/// How the macvlans of one parent exchange frames.
///
/// See ip-link(8): <https://man7.org/linux/man-pages/man8/ip-link.8.html>.
///
/// ```
/// use vethnet::{IfName, Macvlan, MacvlanMode};
///
/// let parent = IfName::new("eth0")?;
/// let alone = Macvlan::new(IfName::new("mv0")?, &parent).mode(MacvlanMode::Private);
/// # let _ = alone;
/// # Ok::<(), vethnet::Error>(())
/// ```
#[doc(alias = "IFLA_MACVLAN_MODE")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MacvlanMode {
    /// They exchange none.
    Private,
    /// By the switch at the parent's other side, if that sends frames back to where they came from.
    Vepa,
    /// Directly.
    Bridge,
    /// There is only this one, which takes the parent over.
    Passthru,
    /// Frames come in by the address they are from, from a list.
    Source,
}

impl MacvlanMode {
    fn of_packet(self) -> MacVlanMode {
        match self {
            Self::Private => MacVlanMode::Private,
            Self::Vepa => MacVlanMode::Vepa,
            Self::Bridge => MacVlanMode::Bridge,
            Self::Passthru => MacVlanMode::Passthrough,
            Self::Source => MacVlanMode::Source,
        }
    }

    pub(crate) fn from_number(number: u32) -> Option<Self> {
        [Self::Private, Self::Vepa, Self::Bridge, Self::Passthru, Self::Source]
            .into_iter()
            .find(|mode| u32::from(mode.of_packet()) == number)
    }
}

/// A link that shares another's wire with an address of its own, to make or to be ensured: `ip link add link PARENT name
/// NAME type macvlan mode MODE`.
///
/// * Kernel object: `IFLA_INFO_KIND` "macvlan" or "macvtap", options `IFLA_MACVLAN_*`. Needs CONFIG_MACVLAN.
/// * The host itself does not reach it by the parent, in any mode: frames between the two are not passed.
/// * Made with [`create_link_inside`](crate::Net::create_link_inside) it is born within a container.
/// * Kernel: 5.15. Privileges: CAP_NET_ADMIN over the namespace.
///
/// ```no_run
/// # async fn example(net: &vethnet::Net, container: std::os::fd::OwnedFd) -> vethnet::Result<()> {
/// use vethnet::{IfName, Macvlan};
///
/// let parent = IfName::new("eth0")?;
/// net.create_link_inside(&container, &Macvlan::new(IfName::new("eth0")?, &parent).up()).await?;
/// # Ok(())
/// # }
/// ```
///
/// See ip-link(8): <https://man7.org/linux/man-pages/man8/ip-link.8.html>.
#[doc(alias = "IFLA_MACVLAN_MODE")]
#[doc(alias = "macvtap")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is made before Net::create_link or Net::ensure_link"]
pub struct Macvlan {
    name: IfName,
    kind: &'static str,
    parent: LinkRef,
    settings: Settings,
    options: Options,
}

link_settings!(Macvlan);
queue_settings!(Macvlan);

impl Macvlan {
    /// One on top of `parent`, in [`MacvlanMode::Bridge`].
    pub fn new(name: IfName, parent: impl Into<LinkRef>) -> Self {
        let (settings, options) = (Settings::default(), Options::default());
        Self { name, kind: "macvlan", parent: parent.into(), settings, options }.mode(MacvlanMode::Bridge)
    }

    /// Is also a device file, `/dev/tapN` with its number, for a virtual machine. Needs CONFIG_MACVTAP.
    #[doc(alias = "macvtap")]
    pub fn tap(mut self) -> Self {
        self.kind = "macvtap";
        self
    }

    /// How those of one parent exchange frames. The kernel changes it later, except from and to
    /// [`Passthru`](MacvlanMode::Passthru).
    #[doc(alias = "IFLA_MACVLAN_MODE")]
    pub fn mode(mut self, mode: MacvlanMode) -> Self {
        self.options.set(&InfoMacVlan::Mode(mode.of_packet()));
        self
    }

    /// Does not have the parent take every packet of the wire, in mode [`Passthru`](MacvlanMode::Passthru).
    #[doc(alias = "MACVLAN_FLAG_NOPROMISC")]
    pub fn no_promisc(mut self) -> Self {
        self.options.set(&InfoMacVlan::Flags(MacVlanFlags::NoPromisc));
        self
    }

    /// How many broadcasts may wait to be given to those of one parent. Default: 1000. Kernel 5.11.
    #[doc(alias = "IFLA_MACVLAN_BC_QUEUE_LEN")]
    pub fn bc_queue_len(mut self, packets: u32) -> Self {
        self.options.set(&InfoMacVlan::BcQueueLen(packets));
        self
    }
}

impl sealed::Spec for Macvlan {
    fn plan(&self) -> Result<Plan<'_>> {
        Ok(Plan { parent: Some(&self.parent), ..Plan::new(&self.name, self.kind, &self.settings, &self.options) })
    }
}
