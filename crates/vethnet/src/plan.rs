//! What attaching a container does, as data: printable before, and reported as it is done.
//!
//! Theory of operation. A [`Layout`] is what was decided about a network, a [`Record`] what was decided about one
//! container. From the two follow lists of [`Step`]s, in the order in which they are made: [`network`] has what the
//! containers share and is missing, [`container`] what belongs to one.
//!
//! A step is words (`plan/text.rs`) and messages (`plan/messages.rs`). It goes by a [`Channel`], and what stands next to
//! each other by the same channel is done in one go: rtnetlink messages are one datagram, values of /proc/sys one visit,
//! the messages of nf_tables one transaction. rtnetlink runs what stands behind a message that failed all the same, so
//! whatever makes an interface is sent alone, and all else names interfaces by the numbers that were answered: a name
//! could be another's.
//!
//! What a step makes is removed by the teardown of the whole (`teardown.rs`), which needs only the [`Record`]. So to add
//! a part: a field in [`Record`] where the teardown needs to know of it, a variant of [`Step`] with its words, its channel
//! and a function that answers `Vec<Request>` for it, and its removal. Whatever belongs to an interface of the container's
//! own (addresses, routes, neighbours, port flags, qdiscs) is removed by the kernel with the veth pair.
//!
//! * nf_tables: [`Step::NewTable`] gets the [`Layout`], [`Step::Admit`] and [`Step::Publish`] the [`Record`]. Who may send as
//!   whom is there before the interface is up; ports are published when all else is.
//! * limits of the rate (see `limit`): steps on [`End::Host`] and [`End::Ifb`], whose numbers are in [`Known`].
#![forbid(unsafe_code)]

mod messages;
mod text;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ip_net::IpNet;
use crate::mac::MacAddr;
use crate::name::IfName;
use crate::network::Wiring;
use crate::nft::Settings;
use crate::qdisc::Rate;
use crate::record::Record;
use crate::subnet::Subnet;
pub(crate) use messages::{Known, Numbers, admit, expel, publish, unpublish};

/// What the default routes of routed containers name as the gateway. It is an address of no host: a neighbour entry
/// that never changes leads it to the host's end.
pub(crate) const LINK_GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
pub(crate) const LINK_GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// A range of addresses and the one that is the gateway in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) subnet: Subnet,
    /// The bridge's own address. There is none in a network that is routed.
    pub(crate) gateway: Option<IpAddr>,
}

/// What was decided about a network: a [`Network`](crate::Network) in which nothing is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Also that of its nf_tables table, and of its bridge.
    pub(crate) name: IfName,
    pub(crate) wiring: Wiring,
    /// One or two, at most one a family, IPv4 first.
    pub(crate) ranges: Vec<Range>,
    pub(crate) mtu: u32,
    /// Whether containers are kept from reaching each other.
    pub(crate) isolated: bool,
    pub(crate) settings: Settings,
}

impl Layout {
    pub(crate) fn subnets(&self) -> Vec<Subnet> {
        self.ranges.iter().map(|range| range.subnet).collect()
    }

    pub(crate) fn gateways(&self) -> Vec<IpAddr> {
        self.ranges.iter().filter_map(|range| range.gateway).collect()
    }

    pub(crate) fn has_ipv6(&self) -> bool {
        self.ranges.iter().any(|range| range.subnet.is_ipv6())
    }
}

/// In which network namespace a step acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Host,
    Container,
}

/// An interface of a network, by what it is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Bridge,
    /// The host's end of the veth pair.
    Host,
    /// The container's.
    Container,
    /// The container's loopback interface.
    Loopback,
    /// What limits what the container sends, see `limit`.
    Ifb,
}

impl End {
    pub(crate) fn side(self) -> Side {
        match self {
            Self::Bridge | Self::Host | Self::Ifb => Side::Host,
            Self::Container | Self::Loopback => Side::Container,
        }
    }
}

/// What is done with a file of /proc/sys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Write,
    /// Whatever else it says is an error.
    Expect,
}

/// A file of /proc/sys and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sysctl {
    /// Below /proc/sys.
    pub(crate) path: String,
    pub(crate) action: Action,
    pub(crate) value: &'static str,
    pub(crate) reason: &'static str,
    /// Whether the kernel may lack it (built or booted without IPv6).
    pub(crate) optional: bool,
}

impl Sysctl {
    pub(crate) fn write(path: impl Into<String>, value: &'static str, reason: &'static str) -> Self {
        Self { path: path.into(), action: Action::Write, value, reason, optional: false }
    }
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// All that has no better route. `onlink`: the gateway is reached here although no route says so.
    /// Of several such, the one with the lowest metric counts.
    Default { gateway: IpAddr, onlink: bool, metric: Option<u32> },
    /// This one address.
    Host(IpAddr),
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    NewBridge {
        name: IfName,
        mac: MacAddr,
        mtu: u32,
    },
    NewVeth {
        name: IfName,
        mac: MacAddr,
        bridge: Option<IfName>,
        peer: IfName,
        peer_mac: MacAddr,
        mtu: u32,
    },
    Sysctls {
        side: Side,
        list: Vec<Sysctl>,
    },
    /// No IPv6 address that the interface makes for itself.
    NoLinkLocal {
        end: End,
        name: IfName,
        alias: Option<String>,
    },
    PortFlags {
        name: IfName,
        hairpin: bool,
        isolated: bool,
    },
    NewAddress {
        end: End,
        name: IfName,
        address: IpNet,
    },
    Up {
        end: End,
        name: IfName,
    },
    /// Until packets pass, see `settle`.
    Settle {
        end: End,
        name: IfName,
    },
    NewNeighbour {
        end: End,
        name: IfName,
        address: IpAddr,
        mac: MacAddr,
    },
    NewRoute {
        end: End,
        name: IfName,
        way: Way,
    },
    /// The interface by which all goes that the container sends.
    NewIfb {
        name: IfName,
        mac: MacAddr,
        mtu: u32,
    },
    /// A token bucket at the root.
    Shape {
        end: End,
        name: IfName,
        rate: Rate,
        mtu: u32,
    },
    /// Where the filter of what is received is.
    IngressQdisc {
        name: IfName,
    },
    /// What the host's end receives goes by the `ifb`.
    Redirect {
        name: IfName,
        ifb: IfName,
    },
    NewTable(Layout),
    /// The container's interface is one of the network's: it is bound to its addresses, and has no bridge to be behind.
    Admit(Record),
    /// The published ports.
    Publish(Record),
}

/// What a step goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// One rtnetlink message that makes an interface, and a question for its number.
    NewLink(End),
    /// rtnetlink messages in one datagram.
    Route(Side),
    /// The first of some rtnetlink messages that the kernel knows.
    FirstOf,
    Sysctls(Side),
    /// One transaction of nf_tables.
    Netfilter,
}

impl Step {
    pub(crate) fn channel(&self) -> Channel {
        match self {
            Self::NewBridge { .. } => Channel::NewLink(End::Bridge),
            Self::NewVeth { .. } => Channel::NewLink(End::Host),
            Self::NewIfb { .. } => Channel::NewLink(End::Ifb),
            Self::Redirect { .. } => Channel::FirstOf,
            Self::Sysctls { side, .. } => Channel::Sysctls(*side),
            Self::NoLinkLocal { end, .. }
            | Self::NewAddress { end, .. }
            | Self::Up { end, .. }
            | Self::Settle { end, .. }
            | Self::NewNeighbour { end, .. }
            | Self::NewRoute { end, .. }
            | Self::Shape { end, .. } => Channel::Route(end.side()),
            Self::PortFlags { .. } | Self::IngressQdisc { .. } => Channel::Route(Side::Host),
            Self::NewTable(_) | Self::Admit(_) | Self::Publish(_) => Channel::Netfilter,
        }
    }
}

/// What is done in one go.
pub(crate) fn runs(steps: &[Step]) -> impl Iterator<Item = &[Step]> {
    steps.chunk_by(|one, next| {
        // A transaction that fails is known by what is in it: the table is not the container's.
        let alone = |step: &Step| {
            matches!(step, Step::NewTable(_)) || matches!(step.channel(), Channel::NewLink(_) | Channel::FirstOf)
        };
        one.channel() == next.channel() && !alone(one) && !alone(next)
    })
}

/// What the containers of a network share, and of which of it there is none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) bridge: bool,
    pub(crate) table: bool,
    pub(crate) forwarding_v4: bool,
    pub(crate) forwarding_v6: bool,
}

impl Missing {
    pub(crate) const ALL: Self = Self { bridge: true, table: true, forwarding_v4: true, forwarding_v6: true };
}

/// What is set of an interface before it comes up.
fn before_up(side: Side, name: &IfName, needs_ipv6: bool, rp_filter: Option<&'static str>) -> Step {
    let mut list = Vec::new();
    if needs_ipv6 {
        list.push(Sysctl {
            path: format!("net/ipv6/conf/{name}/disable_ipv6"),
            action: Action::Expect,
            value: "0",
            reason: "the network has IPv6 addresses",
            optional: false,
        });
    }
    for (file, reason) in [
        ("accept_ra", "no neighbour may give it routes by router advertisements"),
        ("autoconf", "no neighbour may give it addresses"),
    ] {
        list.push(Sysctl { optional: true, ..Sysctl::write(format!("net/ipv6/conf/{name}/{file}"), "0", reason) });
    }
    if let Some(value) = rp_filter {
        let reason = match side {
            Side::Host => "what comes from the containers has an address of theirs",
            Side::Container => "a container of several networks may be answered by another way",
        };
        list.push(Sysctl::write(format!("net/ipv4/conf/{name}/rp_filter"), value, reason));
    }
    Step::Sysctls { side, list }
}

fn route_localnet(name: &IfName) -> Sysctl {
    let reason = "what the host sends to itself may leave here, by rules that are there already";
    Sysctl::write(format!("net/ipv4/conf/{name}/route_localnet"), "1", reason)
}

/// The steps that make what is missing of the network itself.
pub(crate) fn network(layout: &Layout, missing: Missing) -> Vec<Step> {
    let mut steps = Vec::new();
    let name = layout.name.clone();
    if missing.bridge && layout.wiring == Wiring::Bridge {
        steps.push(Step::NewBridge { name: name.clone(), mac: MacAddr::of_bridge(&name), mtu: layout.mtu });
        steps.push(before_up(Side::Host, &name, layout.has_ipv6(), Some("1")));
        steps.push(Step::NoLinkLocal { end: End::Bridge, name: name.clone(), alias: None });
        let address = |address| Step::NewAddress { end: End::Bridge, name: name.clone(), address };
        steps.extend(layout.ranges.iter().filter_map(|range| range.subnet.at(range.gateway?).ok()).map(address));
        if layout.has_ipv6() {
            // The kernel looks for neighbours from a link-local address, and by the rule above there is none.
            steps.extend(IpNet::new(LINK_GATEWAY_V6, 64).ok().map(address));
        }
        steps.push(Step::Up { end: End::Bridge, name: name.clone() });
    }
    if missing.table {
        steps.push(Step::NewTable(layout.clone()));
    }
    let mut list = Vec::new();
    if layout.settings.localhost && layout.wiring == Wiring::Bridge && (missing.bridge || missing.table) {
        list.push(route_localnet(&name));
    }
    if missing.forwarding_v4 {
        list.push(Sysctl::write(
            "net/ipv4/ip_forward",
            "1",
            "the machine passes packets between the containers and the world",
        ));
    }
    if missing.forwarding_v6 && layout.has_ipv6() {
        list.push(Sysctl::write("net/ipv6/conf/all/forwarding", "1", "and IPv6 packets"));
    }
    if !list.is_empty() {
        steps.push(Step::Sysctls { side: Side::Host, list });
    }
    steps
}

/// The steps that limit what a container sends. Before its interface is up, no packet passes without the limit.
pub(crate) fn limit_egress(record: &Record, rate: Rate, mtu: u32) -> Vec<Step> {
    let (host, name, end) = (record.host_ifname(), record.ifb_ifname(), End::Ifb);
    vec![
        Step::NewIfb { name: name.clone(), mac: MacAddr::of_ifb(&name), mtu },
        Step::Shape { end, name: name.clone(), rate, mtu },
        Step::NoLinkLocal { end, name: name.clone(), alias: Some(record.owner.as_str().to_owned()) },
        Step::Up { end, name: name.clone() },
        Step::IngressQdisc { name: host.clone() },
        Step::Redirect { name: host, ifb: name },
    ]
}

/// The steps that attach one container to it.
pub(crate) fn container(layout: &Layout, record: &Record, metric: Option<u32>) -> Vec<Step> {
    let host = record.host_ifname();
    let inside = record.ifname.clone();
    let host_mac = MacAddr::of_host_end(&host);
    let routed = layout.wiring == Wiring::Routed;
    // The port of a bridge has no traffic of its own to be checked.
    let mut host_end = before_up(Side::Host, &host, routed && layout.has_ipv6(), routed.then_some("1"));
    if let (Step::Sysctls { list, .. }, true) = (&mut host_end, routed && layout.settings.localhost) {
        list.push(route_localnet(&host));
    }
    let mut steps = vec![
        Step::NewVeth {
            name: host.clone(),
            mac: host_mac,
            bridge: (!routed).then(|| layout.name.clone()),
            peer: inside.clone(),
            peer_mac: record.mac,
            mtu: layout.mtu,
        },
        host_end,
        Step::NoLinkLocal { end: End::Host, name: host.clone(), alias: Some(record.owner.as_str().to_owned()) },
    ];
    let hairpin = !record.ports.is_empty();
    if !routed && (hairpin || layout.isolated) {
        steps.push(Step::PortFlags { name: host.clone(), hairpin, isolated: layout.isolated });
    }
    if let Some(rate) = record.limits.ingress_rate() {
        steps.push(Step::Shape { end: End::Host, name: host.clone(), rate, mtu: layout.mtu });
    }
    if let Some(rate) = record.limits.egress_rate() {
        steps.extend(limit_egress(record, rate, layout.mtu));
    }
    if routed || layout.settings.guard {
        steps.push(Step::Admit(record.clone()));
    }
    steps.push(Step::Up { end: End::Host, name: host.clone() });
    if routed {
        for address in record.addresses.iter().map(IpNet::address) {
            steps.push(Step::NewNeighbour { end: End::Host, name: host.clone(), address, mac: record.mac });
            steps.push(Step::NewRoute { end: End::Host, name: host.clone(), way: Way::Host(address) });
        }
    }
    steps.push(before_up(Side::Container, &inside, layout.has_ipv6(), Some("2")));
    if let Ok(lo) = IfName::new("lo") {
        steps.push(Step::Up { end: End::Loopback, name: lo });
    }
    let end = End::Container;
    for address in record.addresses_inside() {
        steps.push(Step::NewAddress { end, name: inside.clone(), address });
    }
    if !layout.has_ipv6() {
        // Or it would tell all others of addresses that nobody uses, and a bridge would bring it to each of a thousand.
        steps.push(Step::NoLinkLocal { end, name: inside.clone(), alias: None });
    }
    steps.push(Step::Up { end, name: inside.clone() });
    for gateway in record.gateways() {
        if routed {
            steps.push(Step::NewNeighbour { end, name: inside.clone(), address: gateway, mac: host_mac });
        }
        let way = Way::Default { gateway, onlink: routed, metric };
        steps.push(Step::NewRoute { end, name: inside.clone(), way });
    }
    steps.push(Step::Settle { end, name: inside });
    steps.push(Step::Settle { end: End::Host, name: host });
    if !routed {
        steps.push(Step::Settle { end: End::Bridge, name: layout.name.clone() });
    }
    if !record.ports.is_empty() {
        steps.push(Step::Publish(record.clone()));
    }
    steps
}
