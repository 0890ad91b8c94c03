//! The steps in words, a line a system call or message.
#![forbid(unsafe_code)]

use cellkit_core::{StepText, Subject};

use super::{Action, End, Side, Step, Sysctl, Way};
use crate::limit;
use crate::name::IfName;
use crate::network::Wiring;

impl Step {
    /// The step in words.
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
            Self::NewVeth { name, mac, bridge, peer, peer_mac, mtu } => {
                let master =
                    bridge.as_ref().map(|bridge| format!(", master {:?}", bridge.as_str())).unwrap_or_default();
                let what = format!(
                    "type veth, address {mac}, mtu {mtu}{master}, peer {{{:?}, address {peer_mac}, mtu {mtu}, netns of the container}}",
                    peer.as_str()
                );
                let reason = "one message makes both ends, each in its place with its final name: a kill leaves nothing half-way";
                link("RTM_NEWLINK", name, what, reason)
            }
            Self::NewIfb { name, mac, mtu } => link(
                "RTM_NEWLINK",
                name,
                format!("type ifb, address {mac}, mtu {mtu}"),
                "what the container sends is to wait somewhere, and what an interface receives cannot",
            ),
            Self::Shape { end, name, rate, mtu } => {
                let tbf = limit::bucket(*rate, *mtu);
                let reason = match end {
                    End::Ifb => "what the container sends, limited where it cannot lift it",
                    _ => "what the container receives, limited where it cannot lift it",
                };
                vec![
                    StepText::new(
                        "RTM_NEWQDISC",
                        format!(
                            "{name:?}, root tbf rate {rate} burst {} limit {}",
                            tbf.burst_bytes(),
                            tbf.limit_bytes(),
                            name = name.as_str()
                        ),
                        reason,
                    )
                    .on(Subject::Thing(limit::subject_at_root(name))),
                ]
            }
            Self::IngressQdisc { name } => vec![
                StepText::new(
                    "RTM_NEWQDISC",
                    format!("{:?}, ingress", name.as_str()),
                    "here filters of what the host's end receives can be",
                )
                .on(Subject::Thing(limit::subject_ingress(name))),
            ],
            Self::Redirect { name, ifb } => vec![
                StepText::new(
                    "RTM_NEWTFILTER",
                    format!("{:?}, ingress, everything, mirred egress redirect dev {:?}", name.as_str(), ifb.as_str()),
                    "what the container sends goes by the interface that limits it",
                )
                .on(Subject::Interface(name.to_string())),
            ],
            Self::Sysctls { side, list } => sysctl_texts(*side, list),
            Self::NoLinkLocal { end, name, alias } => {
                let alias = alias.as_ref().map(|alias| format!(", alias {alias:?}")).unwrap_or_default();
                let reason = match end {
                    End::Container => "a network without IPv6 hears nothing of it",
                    _ => "the host's side makes itself no IPv6 address that containers could reach",
                };
                link("RTM_SETLINK", name, format!("addrgenmode none{alias}"), reason)
            }
            Self::PortFlags { name, hairpin, isolated } => {
                let mut flags = String::new();
                for (name, on) in [("hairpin", hairpin), ("isolated", isolated)] {
                    if *on {
                        flags.push_str(&format!(", {name} on"));
                    }
                }
                let reason = match (hairpin, isolated) {
                    (_, true) => "the container reaches no other one of the network",
                    _ => {
                        "the container reaches its own published ports also where frames on bridges pass nf_tables (br_netfilter)"
                    }
                };
                link("RTM_NEWLINK", name, format!("type bridge_slave{flags}"), reason)
            }
            Self::NewAddress { end, name, address } => {
                let reason = match end {
                    End::Bridge if address.subnet().address().is_ipv6() && is_link_local(address) => {
                        "from it the kernel looks for IPv6 neighbours"
                    }
                    End::Bridge => "the bridge is the containers' gateway",
                    _ => "the address leased for the container",
                };
                link("RTM_NEWADDR", name, address.to_string(), reason)
            }
            Self::Up { end, name } => {
                let reason = match end {
                    End::Bridge | End::Host => "the host's side carries traffic",
                    End::Container => "the container's side carries traffic",
                    End::Ifb => "what passes the token bucket goes on as if it had come by the host's end",
                    End::Loopback => "the container reaches itself on 127.0.0.1",
                };
                link("RTM_SETLINK", name, "up".into(), reason)
            }
            Self::Settle { name, .. } => link(
                "RTM_GETLINK",
                name,
                "until it is up".into(),
                "the first packet passes: the kernel puts off a part of bringing a link up until it has time, or is asked",
            ),
            Self::NewNeighbour { name, address, mac, .. } => link(
                "RTM_NEWNEIGH",
                name,
                format!("{address} lladdr {mac} nud permanent"),
                "nobody asks who has the address, so nobody can answer wrongly, and the neighbour table does not fill",
            ),
            Self::NewRoute { name, way: Way::Default { gateway, onlink, metric }, .. } => vec![
                StepText::new(
                    "RTM_NEWROUTE",
                    format!(
                        "default via {gateway} dev {name}{}{}",
                        if *onlink { " onlink" } else { "" },
                        metric.map(|metric| format!(" metric {metric}")).unwrap_or_default()
                    ),
                    "all else is reached through the host",
                )
                .on(Subject::Thing(format!("default via {gateway}"))),
            ],
            Self::NewRoute { name, way: Way::Host(address), .. } => vec![
                StepText::new(
                    "RTM_NEWROUTE",
                    format!("{address} dev {name} scope link"),
                    "the container is reached here",
                )
                .on(Subject::Thing(format!("route to {address}"))),
            ],
            Self::NewTable(layout) => {
                let ranges: Vec<_> = layout.ranges.iter().map(|range| range.subnet.to_string()).collect();
                vec![
                    StepText::new(
                        "NFT_MSG_NEWTABLE",
                        format!("inet {}, maps and chains for {}, one transaction", layout.name, ranges.join(" and ")),
                        "masquerade what leaves the network, let in only answers and published ports",
                    )
                    .on(Subject::Thing(format!("table inet {}", layout.name))),
                ]
            }
            Self::Admit(record) => {
                let name = record.host_ifname();
                let (table, reason) = match record.wiring {
                    Wiring::Routed => ("inet", "what comes by this interface comes from the network"),
                    Wiring::Bridge => {
                        ("bridge", "what comes by this interface has the container's addresses, or is dropped")
                    }
                };
                let what = format!("{table} {}, {:?}", record.network, name.as_str());
                vec![StepText::new("NFT_MSG_NEWSETELEM", what, reason).on(Subject::Thing(format!("link {name}")))]
            }
            Self::Publish(record) => record
                .ports
                .iter()
                .map(|port| {
                    StepText::new(
                        "NFT_MSG_NEWSETELEM",
                        format!("inet {}, {port} to {}", record.network, record.address()),
                        "the published port leads to the container",
                    )
                    .on(Subject::Thing(format!("published port {port}")))
                })
                .collect(),
        }
    }
}

fn is_link_local(address: &crate::ip_net::IpNet) -> bool {
    matches!(address.address(), std::net::IpAddr::V6(address) if address.is_unicast_link_local())
}

fn sysctl_texts(side: Side, list: &[Sysctl]) -> Vec<StepText> {
    let enter = StepText::new(
        "setns",
        "netns of the container, CLONE_NEWNET",
        "the thread that attaches enters, sets and opens what belongs to the namespace, and ends",
    );
    let each = list.iter().map(|sysctl| {
        let verb = match sysctl.action {
            Action::Write => "write",
            Action::Expect => "read",
        };
        StepText::new(format!("{verb} {}", sysctl.path.replace('/', ".")), format!("{:?}", sysctl.value), sysctl.reason)
    });
    (side == Side::Container).then_some(enter).into_iter().chain(each).collect()
}
