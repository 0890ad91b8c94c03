//! [`Vxlan`]: Ethernet within UDP, between machines.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::Duration;

use cellkit_core::{Error, Result, Subject};
use netlink_packet_route::link::InfoVxlan;

use crate::link::LinkRef;
use crate::link::options::{Options, Same};
use crate::link::settings::{Settings, link_settings, queue_settings, switch};
use crate::link::spec::{Plan, sealed};
use crate::name::IfName;

const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LINK: u16 = 3;
const IFLA_VXLAN_TTL: u16 = 5;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_TTL_INHERIT: u16 = 28;
const IFLA_VXLAN_COLLECT_METADATA: u16 = 25;

/// The port that IANA gave to VXLAN. The kernel's own default is an older one, 8472.
const IANA_PORT: u16 = 4789;

/// A link whose frames travel in UDP to other machines, to make or to be ensured: `ip link add NAME type vxlan id ID …`.
///
/// * Kernel object: `IFLA_INFO_KIND` "vxlan", options `IFLA_VXLAN_*`. Needs CONFIG_VXLAN (module vxlan).
/// * The UDP port is 4789 unless [`dst_port`](Self::dst_port) says another; the kernel's own default is 8472.
/// * The identifier, the port and [`external`](Self::external) cannot be changed later.
/// * Nothing is encrypted, and whoever can send to the port is let in.
/// * Kernel: 5.15. Privileges: CAP_NET_ADMIN over the namespace.
///
/// ```no_run
/// # async fn example(net: &vethnet::Net) -> vethnet::Result<()> {
/// use vethnet::{IfName, Vxlan};
///
/// let spec = Vxlan::new(IfName::new("vx42")?, 42)
///     .lower(IfName::new("eth0")?)
///     .remote([192, 0, 2, 7])
///     .up();
/// net.ensure_link(&spec).await?;
/// # Ok(())
/// # }
/// ```
///
/// See the kernel's documentation: <https://docs.kernel.org/networking/vxlan.html>.
#[doc(alias = "IFLA_VXLAN_ID")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is made before Net::create_link or Net::ensure_link"]
pub struct Vxlan {
    name: IfName,
    id: u32,
    lower: Option<LinkRef>,
    remote: Option<IpAddr>,
    local: Option<IpAddr>,
    settings: Settings,
    options: Options,
}

link_settings!(Vxlan);
queue_settings!(Vxlan);

impl Vxlan {
    /// The network `id`, 0 to 16777215 (24 bits).
    pub fn new(name: IfName, id: u32) -> Self {
        let mut options = Options::default();
        options.set(&InfoVxlan::Id(id));
        let spec = Self { name, id, lower: None, remote: None, local: None, settings: Settings::default(), options };
        spec.dst_port(IANA_PORT)
    }

    fn set(mut self, option: InfoVxlan) -> Self {
        self.options.set(&option);
        self
    }

    /// The link its packets are sent by. A multicast group needs one.
    #[doc(alias = "IFLA_VXLAN_LINK")]
    pub fn lower(mut self, link: impl Into<LinkRef>) -> Self {
        self.lower = Some(link.into());
        self
    }

    /// Where frames to everybody and to unknown addresses go: another machine, or a multicast group that all join.
    #[doc(alias = "IFLA_VXLAN_GROUP")]
    pub fn remote(mut self, address: impl Into<IpAddr>) -> Self {
        let address = address.into();
        self.remote = Some(address);
        self.set(match address {
            IpAddr::V4(address) => InfoVxlan::Group(address),
            IpAddr::V6(address) => InfoVxlan::Group6(address),
        })
    }

    /// The address its packets are sent from.
    #[doc(alias = "IFLA_VXLAN_LOCAL")]
    pub fn local(mut self, address: impl Into<IpAddr>) -> Self {
        let address = address.into();
        self.local = Some(address);
        self.set(match address {
            IpAddr::V4(address) => InfoVxlan::Local(address),
            IpAddr::V6(address) => InfoVxlan::Local6(address),
        })
    }

    /// The UDP port, here and there.
    #[doc(alias = "IFLA_VXLAN_PORT")]
    pub fn dst_port(self, port: u16) -> Self {
        self.set(InfoVxlan::Port(port))
    }

    /// The range its packets' source ports are from, by which routers spread flows; the last is not used.
    #[doc(alias = "IFLA_VXLAN_PORT_RANGE")]
    pub fn src_ports(self, ports: std::ops::Range<u16>) -> Self {
        self.set(InfoVxlan::PortRange((ports.start, ports.end)))
    }

    switch!(
        learning,
        no_learning,
        "IFLA_VXLAN_LEARNING",
        InfoVxlan::Learning,
        "Learns from packets which machine has which hardware address: the default. Without, the table has what was entered \
         by hand"
    );

    /// After which time without a packet an address is forgotten, in whole seconds. Default: 300.
    #[doc(alias = "IFLA_VXLAN_AGEING")]
    pub fn ageing(self, time: Duration) -> Self {
        self.set(InfoVxlan::Ageing(u32::try_from(time.as_secs()).unwrap_or(u32::MAX)))
    }

    /// How many addresses it knows at most; 0 for no limit, which is the default.
    #[doc(alias = "IFLA_VXLAN_LIMIT")]
    pub fn max_addresses(self, addresses: u32) -> Self {
        self.set(InfoVxlan::Limit(addresses))
    }

    /// The time to live of its packets; 0 for the kernel's default.
    #[doc(alias = "IFLA_VXLAN_TTL")]
    pub fn ttl(mut self, hops: u8) -> Self {
        self.options.remove(IFLA_VXLAN_TTL_INHERIT);
        self.set(InfoVxlan::Ttl(hops))
    }

    /// Takes the time to live from the packet within.
    #[doc(alias = "IFLA_VXLAN_TTL_INHERIT")]
    pub fn ttl_inherit(mut self) -> Self {
        self.options.remove(IFLA_VXLAN_TTL);
        self.set(InfoVxlan::TtlInheritFlag)
    }

    /// The type of service of its packets; 1 takes that of the packet within.
    #[doc(alias = "IFLA_VXLAN_TOS")]
    pub fn tos(self, tos: u8) -> Self {
        self.set(InfoVxlan::Tos(tos))
    }

    switch!(
        proxy,
        no_proxy,
        "IFLA_VXLAN_PROXY",
        InfoVxlan::Proxy,
        "Answers ARP for neighbours that were entered by hand"
    );
    switch!(
        l2miss,
        no_l2miss,
        "IFLA_VXLAN_L2MISS",
        InfoVxlan::L2Miss,
        "Tells programs that watch of hardware addresses it does not know"
    );
    switch!(
        l3miss,
        no_l3miss,
        "IFLA_VXLAN_L3MISS",
        InfoVxlan::L3Miss,
        "Tells programs that watch of neighbours it does not know"
    );
    switch!(
        udp_csum,
        no_udp_csum,
        "IFLA_VXLAN_UDP_CSUM",
        InfoVxlan::UDPCsum,
        "Gives packets over IPv4 a checksum: the default"
    );
    switch!(
        udp6_zero_csum_tx,
        no_udp6_zero_csum_tx,
        "IFLA_VXLAN_UDP_ZERO_CSUM6_TX",
        InfoVxlan::UDPZeroCsumTX,
        "Sends packets over IPv6 without one"
    );
    switch!(
        udp6_zero_csum_rx,
        no_udp6_zero_csum_rx,
        "IFLA_VXLAN_UDP_ZERO_CSUM6_RX",
        InfoVxlan::UDPZeroCsumRX,
        "Takes packets over IPv6 without one"
    );

    /// Leaves identifier and destination of each packet to rules (`external`): one link for many networks. The identifier
    /// is then 0.
    #[doc(alias = "IFLA_VXLAN_COLLECT_METADATA")]
    pub fn external(self) -> Self {
        self.set(InfoVxlan::CollectMetadata(true))
    }

    fn check(&self) -> Result<()> {
        let wrong = |why: String| Err(Error::invalid("RTM_NEWLINK", why).on(Subject::Interface(self.name.to_string())));
        if self.id > 0xff_ffff {
            return wrong(format!("a VXLAN has an identifier of 24 bits, up to 16777215, not {}", self.id));
        }
        if let (Some(remote), Some(local)) = (self.remote, self.local) {
            if remote.is_ipv4() != local.is_ipv4() {
                return wrong(format!("it cannot be sent from {local} to {remote}"));
            }
        }
        if self.remote.is_some_and(|remote| remote.is_multicast()) && self.lower.is_none() {
            return wrong("a multicast group needs the link by which it is reached".into());
        }
        if self.local.is_some_and(|local| local.is_multicast()) {
            return wrong("packets are not sent from a multicast group".into());
        }
        let external = self.options.get(IFLA_VXLAN_COLLECT_METADATA).is_some();
        if external && (self.remote.is_some() || self.id != 0) {
            return wrong("an external one has neither an identifier (but 0) nor a remote of its own".into());
        }
        Ok(())
    }
}

/// Whether its time to live is inherited is asked for by a flag and told of as a number.
fn same(kind: u16, asked: &[u8], found: &[u8]) -> bool {
    match kind {
        IFLA_VXLAN_TTL_INHERIT => found.first() == Some(&1),
        _ => asked == found,
    }
}

impl sealed::Spec for Vxlan {
    fn plan(&self) -> Result<Plan<'_>> {
        self.check()?;
        Ok(Plan {
            lower: self.lower.as_ref().map(|lower| (IFLA_VXLAN_LINK, lower)),
            fixed: &[
                (IFLA_VXLAN_ID, "identifier"),
                (IFLA_VXLAN_PORT, "UDP port"),
                (IFLA_VXLAN_COLLECT_METADATA, "way to find destinations (external)"),
            ],
            same: same as Same,
            ..Plan::new(&self.name, "vxlan", &self.settings, &self.options)
        })
    }
}
