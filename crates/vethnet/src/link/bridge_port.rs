//! [`BridgePort`]: how a bridge treats one of its ports.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result, Subject};
use netlink_packet_route::link::InfoBridgePort;

use crate::attr::{self, Writer};
use crate::exchange::Request;
use crate::link::bridge::McastRouter;
use crate::link::consts::*;
use crate::link::options::{Options, equal};
use crate::link::settings::switch;
use crate::link::spec::header;
use crate::link::{LinkRef, read};
use crate::net::Net;

const IFLA_BRPORT_PRIORITY: u16 = 2;
const IFLA_BRPORT_COST: u16 = 3;
const IFLA_BRPORT_LOCKED: u16 = 39;
const IFLA_BRPORT_MAB: u16 = 40;
const IFLA_BRPORT_NEIGH_VLAN_SUPPRESS: u16 = 43;

/// How a bridge is to treat one of its ports: `bridge link set dev NAME …`.
///
/// * Kernel message: RTM_NEWLINK with `IFLA_INFO_SLAVE_DATA`, options `IFLA_BRPORT_*`. What is not set stays as it is.
/// * Options that the kernel does not know are [`Unsupported`](crate::ErrorKind::Unsupported), never passed over:
///   [`locked`](Self::locked) needs 5.18, [`mab`](Self::mab) 6.2, [`neigh_vlan_suppress`](Self::neigh_vlan_suppress) 6.4.
///
/// For a container that is not trusted:
///
/// ```no_run
/// # async fn example(net: &vethnet::Net) -> vethnet::Result<()> {
/// use vethnet::{BridgePort, IfName};
///
/// // It cannot take over its neighbour's address, speak to other isolated ports, or offer itself as a spanning tree's root.
/// let port = BridgePort::new().isolated().no_learning().guard();
/// net.change_bridge_port(IfName::new("web0")?, &port).await?;
/// # Ok(())
/// # }
/// ```
///
/// See bridge(8): <https://man7.org/linux/man-pages/man8/bridge.8.html>.
#[doc(alias = "IFLA_INFO_SLAVE_DATA")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "nothing is changed before Net::change_bridge_port"]
pub struct BridgePort {
    options: Options,
}

impl BridgePort {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn set(mut self, option: InfoBridgePort) -> Self {
        self.options.set(&option);
        self
    }

    switch!(
        isolated,
        no_isolated,
        "IFLA_BRPORT_ISOLATED",
        InfoBridgePort::Isolated,
        "Exchanges no frames with other isolated ports, only with the bridge itself and ports that are not"
    );
    switch!(
        hairpin,
        no_hairpin,
        "IFLA_BRPORT_MODE",
        InfoBridgePort::HairpinMode,
        "Lets frames leave by the port they came in, so that a container reaches itself by a published port"
    );
    switch!(
        learning,
        no_learning,
        "IFLA_BRPORT_LEARNING",
        InfoBridgePort::Learning,
        "Learns addresses from its frames: the default. Without, the table has what was entered by hand"
    );
    switch!(
        flood,
        no_flood,
        "IFLA_BRPORT_UNICAST_FLOOD",
        InfoBridgePort::UnicastFlood,
        "Is sent frames to unknown addresses: the default"
    );
    switch!(
        mcast_flood,
        no_mcast_flood,
        "IFLA_BRPORT_MCAST_FLOOD",
        InfoBridgePort::MulticastFlood,
        "Is sent frames to groups nobody is known to want: the default"
    );
    switch!(
        bcast_flood,
        no_bcast_flood,
        "IFLA_BRPORT_BCAST_FLOOD",
        InfoBridgePort::BroadcastFlood,
        "Is sent broadcasts: the default"
    );
    switch!(
        mcast_fast_leave,
        no_mcast_fast_leave,
        "IFLA_BRPORT_FAST_LEAVE",
        InfoBridgePort::FastLeave,
        "Forgets a group as soon as its one listener leaves"
    );
    switch!(
        mcast_to_unicast,
        no_mcast_to_unicast,
        "IFLA_BRPORT_MCAST_TO_UCAST",
        InfoBridgePort::MulticastToUnicast,
        "Sends frames to a group to each listener by its own address"
    );
    switch!(
        guard,
        no_guard,
        "IFLA_BRPORT_GUARD",
        InfoBridgePort::Guard,
        "Is turned off by a spanning tree message that comes in"
    );
    switch!(
        root_block,
        no_root_block,
        "IFLA_BRPORT_PROTECT",
        InfoBridgePort::Protect,
        "Never becomes the way to the root of the spanning tree"
    );
    switch!(
        proxy_arp,
        no_proxy_arp,
        "IFLA_BRPORT_PROXYARP",
        InfoBridgePort::ProxyARP,
        "Answers ARP requests that come in for neighbours the machine knows"
    );
    switch!(
        neigh_suppress,
        no_neigh_suppress,
        "IFLA_BRPORT_NEIGH_SUPPRESS",
        InfoBridgePort::NeighSupress,
        "Keeps ARP and neighbour discovery from it, where the bridge knows the answer"
    );
    switch!(
        neigh_vlan_suppress,
        no_neigh_vlan_suppress,
        "IFLA_BRPORT_NEIGH_VLAN_SUPPRESS",
        InfoBridgePort::NeighVlanSuppress,
        "Does that by VLAN. Kernel 6.4"
    );
    switch!(
        locked,
        no_locked,
        "IFLA_BRPORT_LOCKED",
        InfoBridgePort::Locked,
        "Takes frames only from addresses that are in the table of the bridge, at this port: with \
         [`no_learning`](Self::no_learning) and one entry made by hand, a guard against made-up addresses. Kernel 5.18"
    );
    switch!(
        mab,
        no_mab,
        "IFLA_BRPORT_MAB",
        InfoBridgePort::Mab,
        "Enters addresses that a locked port refused as locked entries, for a program to decide about. Needs \
         [`locked`](Self::locked) and learning. Kernel 6.2"
    );

    /// Whether a multicast router is taken to be behind it.
    #[doc(alias = "IFLA_BRPORT_MULTICAST_ROUTER")]
    pub fn mcast_router(self, router: McastRouter) -> Self {
        self.set(InfoBridgePort::MulticastRouter(router.of_packet()))
    }

    /// Its priority in the spanning tree, 0 to 63: among ports of the same cost the lowest wins. Default: 32.
    #[doc(alias = "IFLA_BRPORT_PRIORITY")]
    pub fn priority(self, priority: u16) -> Self {
        self.set(InfoBridgePort::Priority(priority))
    }

    /// What going through it costs in the spanning tree, 1 to 65535.
    #[doc(alias = "IFLA_BRPORT_COST")]
    pub fn cost(self, cost: u32) -> Self {
        self.set(InfoBridgePort::Cost(cost))
    }

    fn check(&self, subject: &Subject) -> Result<()> {
        let wrong = |why: String| Err(Error::invalid("RTM_NEWLINK", why).on(subject.clone()));
        match self.options.get(IFLA_BRPORT_PRIORITY).and_then(read::u16_of) {
            Some(priority) if priority > 63 => return wrong(format!("a port's priority is 0 to 63, not {priority}")),
            _ => {}
        }
        match self.options.get(IFLA_BRPORT_COST).and_then(read::u32_of) {
            Some(cost) if !(1..=65535).contains(&cost) => wrong(format!("a port's cost is 1 to 65535, not {cost}")),
            _ => Ok(()),
        }
    }

    /// The message, to the port of this number or name. RTM_SETLINK does not look at the options of a port.
    pub(crate) fn request(&self, port: &LinkRef) -> Result<Request> {
        let subject = port.subject();
        self.check(&subject)?;
        let mut writer = match port {
            LinkRef::Index(index) | LinkRef::Read { index, .. } => Writer::new(&header(*index, 0, 0)),
            LinkRef::Name(name) => {
                let mut writer = Writer::new(&header(0, 0, 0));
                writer.text(IFLA_IFNAME, name.as_str());
                writer
            }
        };
        writer.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_SLAVE_KIND, "bridge");
            info.nest(IFLA_INFO_SLAVE_DATA, |data| self.options.write(data));
        });
        let body = writer.finish()?;
        Ok(Request { operation: "RTM_NEWLINK", subject: Some(subject), kind: RTM_NEWLINK, flags: 0, body })
    }

    /// An option that was asked for and that the kernel does not tell of: it does not know it.
    fn missing(&self, found: &[u8], subject: Subject) -> Result<()> {
        for (kind, feature, since) in [
            (IFLA_BRPORT_LOCKED, "a locked bridge port", "5.18"),
            (IFLA_BRPORT_MAB, "MAB at a bridge port", "6.2"),
            (IFLA_BRPORT_NEIGH_VLAN_SUPPRESS, "neigh_vlan_suppress", "6.4"),
        ] {
            if self.options.get(kind).is_some() && attr::find(found, kind).is_none() {
                return Err(Error::unsupported("RTM_NEWLINK", feature, Some(since)).on(subject));
            }
        }
        Ok(())
    }
}

impl Net {
    /// Changes how its bridge treats a port, where that differs: idempotent, and nothing is sent where nothing does.
    ///
    /// C call: RTM_NEWLINK with `IFLA_INFO_SLAVE_DATA`. Kernel: 5.15. Privileges: CAP_NET_ADMIN over the namespace.
    ///
    /// # Errors
    /// * [`NotFound`](crate::ErrorKind::NotFound): there is no such link.
    /// * [`Invalid`](crate::ErrorKind::Invalid): it is no port of a bridge; a number is out of its range.
    /// * [`Unsupported`](crate::ErrorKind::Unsupported): the kernel is older than an option; nothing was changed.
    #[doc(alias = "IFLA_INFO_SLAVE_DATA")]
    pub async fn change_bridge_port(&self, port: impl Into<LinkRef>, options: &BridgePort) -> Result<()> {
        let port = port.into();
        options.check(&port.subject())?;
        let index = LinkRef::Index(self.index_of(&port).await?);
        let Some(body) = self.link_body(&index).await? else {
            return Err(Error::gone("RTM_GETLINK", Some(libc::ENODEV)).on(port.subject()));
        };
        if crate::link::Link::parse(&body)?.port.is_none() {
            return Err(Error::invalid("RTM_NEWLINK", "it is no port of a bridge").on(port.subject()));
        }
        let found = read::port_data(&body);
        options.missing(found, port.subject())?;
        let differing = BridgePort { options: options.options.differing(found, equal) };
        if differing.options.is_empty() {
            return Ok(());
        }
        let mut request = differing.request(&index)?;
        request.subject = Some(port.subject());
        self.request(request).await.map(drop)
    }
}
