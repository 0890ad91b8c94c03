//! What attaching a container does, as data: printable before, and reported as it is done.
#![forbid(unsafe_code)]

use std::net::Ipv4Addr;

use cellkit_core::{StepText, Subject};

use crate::mac::MacAddr;
use crate::name::{IfName, Owner};
use crate::port::PublishedPort;
use crate::record::Record;
use crate::subnet::Subnet;

/// In which network namespace a step acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Host,
    Container,
}

/// A file of /proc/sys and what is written to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sysctl {
    /// Below /proc/sys.
    pub(crate) path: String,
    pub(crate) value: &'static str,
    pub(crate) reason: &'static str,
    /// Whether the kernel may lack it (built or booted without IPv6).
    pub(crate) optional: bool,
}

/// One step. What a step makes is removed by the teardown of the whole, which needs only the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    NewBridge { name: IfName, mac: MacAddr, mtu: u32 },
    Sysctls { side: Side, list: Vec<Sysctl> },
    NoLinkLocal { name: IfName, alias: Option<String> },
    Hairpin { name: IfName },
    NewAddress { side: Side, name: IfName, address: Ipv4Addr, subnet: Subnet },
    Up { side: Side, name: IfName },
    LoopbackUp,
    NewTable { bridge: IfName, subnet: Subnet },
    NewVeth { name: IfName, mac: MacAddr, bridge: IfName, peer: IfName, peer_mac: MacAddr, mtu: u32 },
    DefaultRoute { gateway: Ipv4Addr, name: IfName },
    NewElements { bridge: IfName, owner: Owner, address: Ipv4Addr, ports: Vec<PublishedPort> },
}

/// What the containers of a network share, and of which of it there is none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) bridge: bool,
    pub(crate) table: bool,
    pub(crate) forwarding: bool,
}

impl Missing {
    pub(crate) const ALL: Self = Self { bridge: true, table: true, forwarding: true };
}

fn no_advertisements(side: Side, name: &IfName) -> Step {
    let one = |file: &str, reason| Sysctl {
        path: format!("net/ipv6/conf/{name}/{file}"),
        value: "0",
        reason,
        optional: true,
    };
    Step::Sysctls {
        side,
        list: vec![
            one("accept_ra", "no neighbour may give it routes by router advertisements"),
            one("autoconf", "no neighbour may give it addresses"),
        ],
    }
}

/// The steps that make what is missing of the network itself.
pub(crate) fn network(bridge: &IfName, subnet: Subnet, mtu: u32, missing: Missing) -> Vec<Step> {
    let mut steps = Vec::new();
    if missing.bridge {
        steps.push(Step::NewBridge { name: bridge.clone(), mac: MacAddr::of_bridge(bridge), mtu });
        steps.push(no_advertisements(Side::Host, bridge));
        steps.push(Step::NoLinkLocal { name: bridge.clone(), alias: None });
        let address = subnet.gateway_v4();
        steps.push(Step::NewAddress { side: Side::Host, name: bridge.clone(), address, subnet });
        steps.push(Step::Up { side: Side::Host, name: bridge.clone() });
    }
    if missing.table {
        steps.push(Step::NewTable { bridge: bridge.clone(), subnet });
    }
    if missing.forwarding {
        let list = vec![Sysctl {
            path: "net/ipv4/ip_forward".into(),
            value: "1",
            reason: "the machine passes packets between the bridge and the world",
            optional: false,
        }];
        steps.push(Step::Sysctls { side: Side::Host, list });
    }
    steps
}

/// The steps that attach one container to it.
pub(crate) fn container(record: &Record, mtu: u32) -> Vec<Step> {
    let host = record.host_ifname();
    let inside = record.ifname.clone();
    let mut steps = vec![
        Step::NewVeth {
            name: host.clone(),
            mac: MacAddr::of_host_end(&host),
            bridge: record.bridge.clone(),
            peer: inside.clone(),
            peer_mac: record.mac,
            mtu,
        },
        Step::NoLinkLocal { name: host.clone(), alias: Some(record.owner.as_str().to_owned()) },
        no_advertisements(Side::Host, &host),
        no_advertisements(Side::Container, &inside),
        Step::NewAddress {
            side: Side::Container,
            name: inside.clone(),
            address: record.address,
            subnet: record.subnet,
        },
        Step::LoopbackUp,
        Step::Up { side: Side::Container, name: inside.clone() },
        Step::Up { side: Side::Host, name: host },
        Step::DefaultRoute { gateway: record.subnet.gateway_v4(), name: inside },
    ];
    if !record.ports.is_empty() {
        steps.insert(2, Step::Hairpin { name: record.host_ifname() });
        steps.push(Step::NewElements {
            bridge: record.bridge.clone(),
            owner: record.owner.clone(),
            address: record.address,
            ports: record.ports.clone(),
        });
    }
    steps
}

impl Step {
    /// The step in words, a line a system call or message.
    pub(crate) fn describe(&self) -> Vec<StepText> {
        let link = |call: &'static str, name: &IfName, what: String, reason: &'static str| {
            vec![
                StepText::new(call, format!("{name:?}, {what}", name = name.as_str()), reason)
                    .on(Subject::Interface(name.to_string())),
            ]
        };
        match self {
            Self::NewBridge { name, mac, mtu } => link(
                "RTM_NEWLINK",
                name,
                format!("type bridge, address {mac}, mtu {mtu}"),
                "the containers of the network meet on a bridge, with an address that does not change with its ports",
            ),
            Self::Sysctls { side, list } => sysctl_texts(*side, list),
            Self::NoLinkLocal { name, alias } => {
                let alias = alias.as_ref().map(|alias| format!(", alias {alias:?}")).unwrap_or_default();
                link(
                    "RTM_SETLINK",
                    name,
                    format!("addrgenmode none{alias}"),
                    "the host's side gets no IPv6 address that containers could reach",
                )
            }
            Self::Hairpin { name } => link(
                "RTM_NEWLINK",
                name,
                "type bridge_slave, hairpin on".into(),
                "the container reaches its own published ports also where frames on bridges pass nf_tables (br_netfilter)",
            ),
            Self::NewAddress { side: Side::Host, name, address, subnet } => link(
                "RTM_NEWADDR",
                name,
                format!("{address}/{}", subnet.prefix()),
                "the bridge is the containers' gateway",
            ),
            Self::NewAddress { side: Side::Container, name, address, subnet } => link(
                "RTM_NEWADDR",
                name,
                format!("{address}/{}", subnet.prefix()),
                "the address leased for the container",
            ),
            Self::Up { side: Side::Host, name } => {
                link("RTM_SETLINK", name, "up".into(), "the host's side carries traffic")
            }
            Self::Up { side: Side::Container, name } => {
                link("RTM_SETLINK", name, "up".into(), "the container's side carries traffic")
            }
            Self::LoopbackUp => {
                vec![
                    StepText::new("RTM_SETLINK", r#""lo", up"#, "the container reaches itself on 127.0.0.1")
                        .on(Subject::Interface("lo".into())),
                ]
            }
            Self::NewTable { bridge, subnet } => {
                vec![
                    StepText::new(
                        "NFT_MSG_NEWTABLE",
                        format!("inet {bridge}, maps and chains for {subnet}, one transaction"),
                        "masquerade what leaves the network, let in only answers and published ports",
                    )
                    .on(Subject::Thing(format!("table inet {bridge}"))),
                ]
            }
            Self::NewVeth { name, mac, bridge, peer, peer_mac, mtu } => link(
                "RTM_NEWLINK",
                name,
                format!(
                    "type veth, address {mac}, mtu {mtu}, master {:?}, peer {{{:?}, address {peer_mac}, mtu {mtu}, netns of the container}}",
                    bridge.as_str(),
                    peer.as_str()
                ),
                "one message makes both ends, each in its place with its final name: a kill leaves nothing half-way",
            ),
            Self::DefaultRoute { gateway, name } => {
                let route = format!("default via {gateway} dev {name}");
                vec![
                    StepText::new("RTM_NEWROUTE", route, "all else is reached through the host")
                        .on(Subject::Thing(format!("default via {gateway}"))),
                ]
            }
            Self::NewElements { bridge, address, ports, .. } => ports
                .iter()
                .map(|port| {
                    StepText::new(
                        "NFT_MSG_NEWSETELEM",
                        format!("inet {bridge}, {port} to {address}"),
                        "the published port leads to the container",
                    )
                    .on(Subject::Thing(format!("published port {port}")))
                })
                .collect(),
        }
    }
}

fn sysctl_texts(side: Side, list: &[Sysctl]) -> Vec<StepText> {
    let place = match side {
        Side::Host => "the host",
        Side::Container => "the container",
    };
    let enter = StepText::new(
        "setns",
        format!("netns of {place}, CLONE_NEWNET"),
        "a thread of its own enters, opens or writes what belongs to the namespace, and ends",
    );
    let writes = list.iter().map(|sysctl| {
        StepText::new(format!("write {}", sysctl.path.replace('/', ".")), format!("{:?}", sysctl.value), sysctl.reason)
    });
    std::iter::once(enter).chain(writes).collect()
}
