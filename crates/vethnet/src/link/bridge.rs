//! [`Bridge`]: a switch in the kernel.
#![forbid(unsafe_code)]

use std::time::Duration;

use cellkit_core::{Error, Result, Subject};
use netlink_packet_route::link::{
    BridgeBooleanOptionFlags, BridgeBooleanOptions, BridgeMulticastRouterType, BridgeStpState, InfoBridge,
};

use crate::link::options::{Options, Same};
use crate::link::read::{u16_of, u32_of};
use crate::link::settings::{Settings, link_settings, queue_settings, switch};
use crate::link::spec::{Plan, sealed};
use crate::name::IfName;

const IFLA_BR_FORWARD_DELAY: u16 = 1;
const IFLA_BR_HELLO_TIME: u16 = 2;
const IFLA_BR_MAX_AGE: u16 = 3;
const IFLA_BR_STP_STATE: u16 = 5;
const IFLA_BR_MULTI_BOOLOPT: u16 = 46;
const IFLA_BR_VLAN_DEFAULT_PVID: u16 = 39;
const IFLA_BR_GROUP_FWD_MASK: u16 = 9;
const IFLA_BR_VLAN_FILTERING: u16 = 7;
const IFLA_BR_FDB_MAX_LEARNED: u16 = 49;

/// USER_HZ: in which part of a second the kernel's clock_t counts, on every architecture this crate is built for.
const TICKS_PER_SECOND: u64 = 100;

pub(crate) fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_millis() / u128::from(1000 / TICKS_PER_SECOND)).unwrap_or(u64::MAX)
}

pub(crate) fn from_ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks.saturating_mul(1000 / TICKS_PER_SECOND))
}

/// The kind of VLAN tag.
///
/// See ip-link(8): <https://man7.org/linux/man-pages/man8/ip-link.8.html>.
///
/// ```
/// use vethnet::{Bridge, IfName, VlanProtocol};
///
/// let provider = Bridge::new(IfName::new("br0")?).vlan_protocol(VlanProtocol::Ieee8021ad);
/// # let _ = provider;
/// # Ok::<(), vethnet::Error>(())
/// ```
#[doc(alias = "ETH_P_8021Q")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VlanProtocol {
    /// The customer's tag (802.1Q, 0x8100): the usual one.
    Ieee8021q,
    /// The provider's tag (802.1ad, 0x88a8), around the customer's.
    Ieee8021ad,
}

impl VlanProtocol {
    pub(crate) fn number(self) -> u16 {
        match self {
            Self::Ieee8021q => 0x8100,
            Self::Ieee8021ad => 0x88a8,
        }
    }

    pub(crate) fn from_number(number: u16) -> Option<Self> {
        [Self::Ieee8021q, Self::Ieee8021ad].into_iter().find(|protocol| protocol.number() == number)
    }

    pub(crate) fn of_packet(self) -> netlink_packet_route::link::VlanProtocol {
        match self {
            Self::Ieee8021q => netlink_packet_route::link::VlanProtocol::Ieee8021Q,
            Self::Ieee8021ad => netlink_packet_route::link::VlanProtocol::Ieee8021Ad,
        }
    }
}

/// Whether a bridge, or a port of it, takes somebody at its other side for a multicast router.
///
/// See bridge(8): <https://man7.org/linux/man-pages/man8/bridge.8.html>.
///
/// ```
/// use vethnet::{Bridge, IfName, McastRouter};
///
/// let bridge = Bridge::new(IfName::new("br0")?).mcast_router(McastRouter::Never);
/// # let _ = bridge;
/// # Ok::<(), vethnet::Error>(())
/// ```
#[doc(alias = "MDB_RTR_TYPE_PERM")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum McastRouter {
    /// Never.
    Never,
    /// As long as its queries are heard: the default.
    WhenHeard,
    /// Always.
    Always,
}

impl McastRouter {
    pub(crate) fn of_packet(self) -> BridgeMulticastRouterType {
        match self {
            Self::Never => BridgeMulticastRouterType::Disabled,
            Self::WhenHeard => BridgeMulticastRouterType::TempQuery,
            Self::Always => BridgeMulticastRouterType::Permanent,
        }
    }
}

/// A bridge to make, or to be ensured: `ip link add NAME type bridge …`.
///
/// * Kernel object: `IFLA_INFO_KIND` "bridge", options `IFLA_BR_*`. What is not set keeps the kernel's default.
/// * Times are in the kernel's clock_t: hundredths of a second, the rest is cut off.
/// * Give it a [`mac`](Self::mac): without one its address is the lowest of its ports', and changes with them.
/// * Kernel: 5.15; [`fdb_max_learned`](Self::fdb_max_learned) 6.7. VLAN options need CONFIG_BRIDGE_VLAN_FILTERING,
///   multicast options CONFIG_BRIDGE_IGMP_SNOOPING: [`Unsupported`](crate::ErrorKind::Unsupported) without.
///
/// ```no_run
/// # async fn example(net: &vethnet::Net) -> vethnet::Result<()> {
/// use std::time::Duration;
/// use vethnet::{Bridge, IfName};
///
/// let spec = Bridge::new(IfName::new("br0")?)
///     .mac("02:00:00:00:00:01".parse()?)
///     .vlan_filtering()
///     .ageing_time(Duration::from_secs(30))
///     .up();
/// let bridge = net.ensure_link(&spec).await?;
/// assert_eq!(bridge.kind.as_deref(), Some("bridge"));
/// # Ok(())
/// # }
/// ```
///
/// See ip-link(8): <https://man7.org/linux/man-pages/man8/ip-link.8.html>, and the kernel's documentation:
/// <https://docs.kernel.org/networking/bridge.html>.
#[doc(alias = "IFLA_BR_AGEING_TIME")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "nothing is made before Net::create_link or Net::ensure_link"]
pub struct Bridge {
    name: IfName,
    settings: Settings,
    options: Options,
    boolopts: (u32, u32),
}

link_settings!(Bridge);
queue_settings!(Bridge);

impl Bridge {
    /// A bridge of this name, with the kernel's defaults.
    pub fn new(name: IfName) -> Self {
        Self { name, settings: Settings::default(), options: Options::default(), boolopts: (0, 0) }
    }

    fn set(mut self, option: InfoBridge) -> Self {
        self.options.set(&option);
        self
    }

    fn boolopt(mut self, flag: BridgeBooleanOptionFlags, on: bool) -> Self {
        let (value, mask) = &mut self.boolopts;
        *mask |= flag.bits();
        *value = if on { *value | flag.bits() } else { *value & !flag.bits() };
        let flags = BridgeBooleanOptionFlags::from_bits_retain;
        let options = BridgeBooleanOptions { value: flags(*value), mask: flags(*mask) };
        self.set(InfoBridge::MultiBoolOpt(options))
    }

    /// After which time without a frame from it an address is forgotten. Default: 300 seconds. 0: at once, which makes
    /// every frame go everywhere.
    #[doc(alias = "IFLA_BR_AGEING_TIME")]
    pub fn ageing_time(self, time: Duration) -> Self {
        self.set(InfoBridge::AgeingTime(small(time)))
    }

    /// How long a new port listens, and then learns, before it forwards, with the spanning tree protocol on: 2 to 30
    /// seconds. Default: 15.
    #[doc(alias = "IFLA_BR_FORWARD_DELAY")]
    pub fn forward_delay(self, time: Duration) -> Self {
        self.set(InfoBridge::ForwardDelay(small(time)))
    }

    /// Between two messages of the spanning tree protocol: 1 to 10 seconds. Default: 2.
    #[doc(alias = "IFLA_BR_HELLO_TIME")]
    pub fn hello_time(self, time: Duration) -> Self {
        self.set(InfoBridge::HelloTime(small(time)))
    }

    /// After which time without a message the tree is made anew: 6 to 40 seconds. Default: 20.
    #[doc(alias = "IFLA_BR_MAX_AGE")]
    pub fn max_age(self, time: Duration) -> Self {
        self.set(InfoBridge::MaxAge(small(time)))
    }

    /// Takes part in the spanning tree protocol, in the kernel.
    ///
    /// In the first network namespace of a machine the kernel asks `/sbin/bridge-stp`, where it exists, to do it instead.
    #[doc(alias = "IFLA_BR_STP_STATE")]
    pub fn stp(self) -> Self {
        self.set(InfoBridge::StpState(BridgeStpState::KernelStp))
    }

    /// Takes no part in it: the default.
    pub fn no_stp(self) -> Self {
        self.set(InfoBridge::StpState(BridgeStpState::Disabled))
    }

    /// Its priority in the spanning tree: the bridge with the lowest becomes the root. Default: 32768.
    #[doc(alias = "IFLA_BR_PRIORITY")]
    pub fn priority(self, priority: u16) -> Self {
        self.set(InfoBridge::Priority(priority))
    }

    switch!(
        vlan_filtering,
        no_vlan_filtering,
        "IFLA_BR_VLAN_FILTERING",
        InfoBridge::VlanFiltering,
        "Keeps frames within their VLANs: see [`BridgeVlan`](crate::BridgeVlan)"
    );

    /// The VLAN of untagged frames at ports that are new; 0 for none. Default: 1. At most 4094.
    #[doc(alias = "IFLA_BR_VLAN_DEFAULT_PVID")]
    pub fn vlan_default_pvid(self, id: u16) -> Self {
        self.set(InfoBridge::VlanDefaultPvid(id))
    }

    /// The kind of tag it looks at.
    #[doc(alias = "IFLA_BR_VLAN_PROTOCOL")]
    pub fn vlan_protocol(self, protocol: VlanProtocol) -> Self {
        self.set(InfoBridge::VlanProtocol(protocol.of_packet()))
    }

    switch!(
        vlan_stats,
        no_vlan_stats,
        "IFLA_BR_VLAN_STATS_ENABLED",
        InfoBridge::VlanStatsEnabled,
        "Counts frames by VLAN"
    );
    switch!(
        vlan_stats_per_port,
        no_vlan_stats_per_port,
        "IFLA_BR_VLAN_STATS_PER_PORT",
        InfoBridge::VlanStatsPerPort,
        "Counts them by port as well. It cannot be changed while a port has VLANs"
    );
    switch!(
        mcast_snooping,
        no_mcast_snooping,
        "IFLA_BR_MCAST_SNOOPING",
        InfoBridge::MulticastSnooping,
        "Learns who wants to hear which multicast group: the default"
    );
    switch!(
        mcast_querier,
        no_mcast_querier,
        "IFLA_BR_MCAST_QUERIER",
        InfoBridge::MulticastQuerier,
        "Asks its ports what they want to hear, where no router does"
    );
    switch!(
        mcast_query_use_ifaddr,
        no_mcast_query_use_ifaddr,
        "IFLA_BR_MCAST_QUERY_USE_IFADDR",
        InfoBridge::MulticastQueryUseIfaddr,
        "Asks from its own address instead of 0.0.0.0"
    );
    switch!(
        mcast_stats,
        no_mcast_stats,
        "IFLA_BR_MCAST_STATS_ENABLED",
        InfoBridge::MulticastStatsEnabled,
        "Counts multicast messages"
    );

    /// Whether the machine itself is taken for a multicast router.
    #[doc(alias = "IFLA_BR_MCAST_ROUTER")]
    pub fn mcast_router(self, router: McastRouter) -> Self {
        self.set(InfoBridge::MulticastRouter(router.of_packet()))
    }

    /// How many groups it remembers. Default: 4096.
    #[doc(alias = "IFLA_BR_MCAST_HASH_MAX")]
    pub fn mcast_hash_max(self, groups: u32) -> Self {
        self.set(InfoBridge::MulticastHashMax(groups))
    }

    /// Which frames to the link-local groups 01:80:c2:00:00:0X it forwards: bit X. Bits 0, 1 and 2 are not allowed.
    #[doc(alias = "IFLA_BR_GROUP_FWD_MASK")]
    pub fn group_fwd_mask(self, mask: u16) -> Self {
        self.set(InfoBridge::GroupFwdMask(mask))
    }

    switch!(
        nf_call_iptables,
        no_nf_call_iptables,
        "IFLA_BR_NF_CALL_IPTABLES",
        InfoBridge::NfCallIpTables,
        "Shows IPv4 packets it forwards to the filters of IPv4. Needs the module br_netfilter to matter"
    );
    switch!(
        nf_call_ip6tables,
        no_nf_call_ip6tables,
        "IFLA_BR_NF_CALL_IP6TABLES",
        InfoBridge::NfCallIp6Tables,
        "The same for IPv6"
    );
    switch!(
        nf_call_arptables,
        no_nf_call_arptables,
        "IFLA_BR_NF_CALL_ARPTABLES",
        InfoBridge::NfCallArpTables,
        "The same for ARP"
    );

    /// How many addresses it learns at most; 0 for no limit, which is the default. Kernel 6.7; older ones pass over it, so
    /// making the bridge is [`Unsupported`](crate::ErrorKind::Unsupported) there.
    #[doc(alias = "IFLA_BR_FDB_MAX_LEARNED")]
    pub fn fdb_max_learned(self, addresses: u32) -> Self {
        self.set(InfoBridge::FdbMaxLearned(addresses))
    }

    /// Learns nothing from frames to the link-local groups 01:80:c2:00:00:0X.
    #[doc(alias = "BR_BOOLOPT_NO_LL_LEARN")]
    pub fn no_linklocal_learn(self) -> Self {
        self.boolopt(BridgeBooleanOptionFlags::NoLinkLocalLearn, true)
    }

    /// Learns from them as well: the default.
    pub fn linklocal_learn(self) -> Self {
        self.boolopt(BridgeBooleanOptionFlags::NoLinkLocalLearn, false)
    }

    /// Learns about multicast groups by VLAN.
    #[doc(alias = "BR_BOOLOPT_MCAST_VLAN_SNOOPING")]
    pub fn mcast_vlan_snooping(self) -> Self {
        self.boolopt(BridgeBooleanOptionFlags::VlanMulticastSnooping, true)
    }

    /// Learns about them without looking at VLANs: the default.
    pub fn no_mcast_vlan_snooping(self) -> Self {
        self.boolopt(BridgeBooleanOptionFlags::VlanMulticastSnooping, false)
    }

    fn check(&self) -> Result<()> {
        let wrong =
            |why: &'static str, value: String| Err(Error::invalid("RTM_NEWLINK", why).on(Subject::Value(value)));
        let stp = self.options.get(IFLA_BR_STP_STATE).and_then(u32_of) == Some(1);
        for (kind, what, least, most) in [
            // Without the spanning tree protocol a port forwards at once, and 0 says so.
            (IFLA_BR_FORWARD_DELAY, "forward_delay", if stp { 2 } else { 0 }, 30),
            (IFLA_BR_HELLO_TIME, "hello_time", 1, 10),
            (IFLA_BR_MAX_AGE, "max_age", 6, 40),
        ] {
            let time = self.options.get(kind).and_then(u32_of).map(|ticks| from_ticks(u64::from(ticks)));
            if let Some(time) =
                time.filter(|time| !(Duration::from_secs(least)..=Duration::from_secs(most)).contains(time))
            {
                let why = format!("it is {least} to {most} seconds");
                return Err(Error::invalid("RTM_NEWLINK", why).on(Subject::Value(format!("{what} {time:?}"))));
            }
        }
        let number = |kind| self.options.get(kind).and_then(u16_of);
        match number(IFLA_BR_VLAN_DEFAULT_PVID) {
            Some(id) if id > 4094 => {
                return wrong("a VLAN has a number from 1 to 4094", format!("vlan_default_pvid {id}"));
            }
            _ => {}
        }
        match number(IFLA_BR_GROUP_FWD_MASK) {
            Some(mask) if mask & 0b111 != 0 => {
                wrong("frames to the groups 0, 1 and 2 are never forwarded", format!("group_fwd_mask {mask:#x}"))
            }
            _ => Ok(()),
        }
    }
}

/// As the kernel has it: 32 bits of hundredths of a second.
fn small(time: Duration) -> u32 {
    u32::try_from(ticks(time)).unwrap_or(u32::MAX)
}

/// Times come back rounded to the kernel's own clock, and of the set of switches only those in the mask were asked for.
fn same(kind: u16, asked: &[u8], found: &[u8]) -> bool {
    match kind {
        1..=4 => u32_of(asked).zip(u32_of(found)).is_some_and(|(asked, found)| asked.abs_diff(found) <= 1),
        IFLA_BR_MULTI_BOOLOPT => {
            let mask = asked.get(4..).and_then(u32_of).unwrap_or_default();
            u32_of(asked).map(|value| value & mask) == u32_of(found).map(|value| value & mask)
        }
        _ => asked == found,
    }
}

impl sealed::Spec for Bridge {
    fn plan(&self) -> Result<Plan<'_>> {
        self.check()?;
        Ok(Plan {
            same: same as Same,
            needs: &[
                (IFLA_BR_FDB_MAX_LEARNED, "fdb_max_learned", Some("6.7")),
                (IFLA_BR_VLAN_FILTERING, "VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING)", None),
            ],
            ..Plan::new(&self.name, "bridge", &self.settings, &self.options)
        })
    }
}
