//! [`Veth`]: a pair of links, each the other's wire.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd};

use cellkit_core::Result;

use crate::link::options::Options;
use crate::link::settings::{Settings, link_settings, queue_settings};
use crate::link::spec::{Peer, Plan, sealed};
use crate::mac::MacAddr;
use crate::name::IfName;

/// A veth pair to make, or to be ensured: `ip link add NAME type veth peer name PEER netns …`.
///
/// What goes into one end comes out of the other. The setters without `peer_` are about the end here.
///
/// * Kernel object: `IFLA_INFO_KIND` "veth", the other end in `VETH_INFO_PEER`.
/// * The other end is born where it belongs, with its final name, address and MTU, in the same message: there is no moment
///   at which it is somewhere else or called something else, and no name of it that could be taken on the host.
/// * The other end is born down: the kernel cannot bring it up before this end is there. Bring it up from inside, after
///   its sysctls and addresses: see [`LinkChange::up`](crate::LinkChange::up).
/// * When one end is removed, or its network namespace ends, the other goes with it.
/// * [`ensure_link`](crate::Net::ensure_link) sees to the end here; the other may have been renamed since.
/// * Kernel: 5.15. Privileges: CAP_NET_ADMIN over both namespaces.
///
/// ```no_run
/// # async fn example(net: &vethnet::Net, container: std::os::fd::OwnedFd) -> vethnet::Result<()> {
/// use vethnet::{IfName, Veth};
///
/// let spec = Veth::new(IfName::new("web0")?, IfName::new("eth0")?)
///     .master(IfName::new("br0")?)
///     .up()
///     .peer_netns(&container)
///     .peer_mac("02:00:00:00:00:07".parse()?);
/// let end = net.create_link(&spec).await?;
/// assert!(end.parent.is_some());
/// # Ok(())
/// # }
/// ```
///
/// See veth(4): <https://man7.org/linux/man-pages/man4/veth.4.html>.
#[doc(alias = "VETH_INFO_PEER")]
#[derive(Clone, Debug)]
#[must_use = "nothing is made before Net::create_link or Net::ensure_link"]
pub struct Veth<'n> {
    name: IfName,
    settings: Settings,
    options: Options,
    peer: IfName,
    peer_settings: Settings,
    netns: Option<BorrowedFd<'n>>,
}

link_settings!(Veth<'_>);
queue_settings!(Veth<'_>);

impl<'n> Veth<'n> {
    /// A pair with these names, the other end here as well unless [`peer_netns`](Self::peer_netns) says where.
    pub fn new(name: IfName, peer: IfName) -> Self {
        let settings = Settings::default();
        Self {
            name,
            settings: settings.clone(),
            options: Options::default(),
            peer,
            peer_settings: settings,
            netns: None,
        }
    }

    /// The network namespace that the other end is born in.
    #[doc(alias = "IFLA_NET_NS_FD")]
    pub fn peer_netns(mut self, netns: &'n (impl AsFd + ?Sized)) -> Self {
        self.netns = Some(netns.as_fd());
        self
    }

    /// The hardware address of the other end.
    pub fn peer_mac(mut self, mac: MacAddr) -> Self {
        self.peer_settings.mac = Some(mac);
        self
    }

    /// The largest packet of the other end, in bytes. It should be that of this end: larger packets are dropped there.
    pub fn peer_mtu(mut self, bytes: u32) -> Self {
        self.peer_settings.mtu = Some(bytes);
        self
    }

    /// How many packets may wait to be sent by the other end.
    pub fn peer_txqueuelen(mut self, packets: u32) -> Self {
        self.peer_settings.txqueuelen = Some(packets);
        self
    }

    /// How many queues of the other end send, and how many receive, 1 to 4096 each.
    pub fn peer_queues(mut self, tx: u32, rx: u32) -> Self {
        self.peer_settings.tx_queues = Some(tx);
        self.peer_settings.rx_queues = Some(rx);
        self
    }
}

impl sealed::Spec for Veth<'_> {
    fn plan(&self) -> Result<Plan<'_>> {
        Ok(Plan {
            peer: Some(Peer { name: &self.peer, settings: &self.peer_settings, netns: self.netns }),
            ..Plan::new(&self.name, "veth", &self.settings, &self.options)
        })
    }
}
