//! The steps as rtnetlink and nf_tables messages.
#![forbid(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use cellkit_core::{Error, Result, Subject};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind,
    InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use super::{End, Step, Way};
use crate::attr;
use crate::exchange::Request;
use crate::ip_address::{self, Address};
use crate::ip_net::IpNet;
use crate::limit;
use crate::link::{self, CREATE, LOOPBACK_INDEX, LinkRef, bytes};
use crate::name::IfName;
use crate::neighbour::{self, Neighbour};
use crate::network::Wiring;
use crate::nft::{self, Links, Pack, Sender, Settings, TableSpec};
use crate::record::Record;
use crate::route::{self, Route, RouteProtocol};
use crate::settle;
use crate::subnet::{Subnet, width};

const RTM_NEWLINK: u16 = 16;
const RTM_SETLINK: u16 = 19;
/// `struct ifinfomsg`, before the attributes.
const IFINFOMSG: usize = 16;
const IFLA_LINK: u16 = 5;

/// The numbers of a link and, of a veth pair, of its peer in the other namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) index: u32,
    pub(crate) peer: Option<u32>,
}

impl Numbers {
    /// From an answer to RTM_GETLINK.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let number = |bytes: &[u8]| bytes.first_chunk().copied().map(u32::from_ne_bytes);
        let peer = attr::find(body.get(IFINFOMSG..)?, IFLA_LINK).and_then(number);
        Some(Self { index: number(body.get(4..)?)?, peer })
    }
}

/// The numbers of the interfaces that there are so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    pub(crate) bridge: Option<u32>,
    pub(crate) host: Option<u32>,
    pub(crate) container: Option<u32>,
    pub(crate) ifb: Option<u32>,
    /// Whether the host's interfaces have no IPv6: there is nothing to turn off then, and the kernel would refuse to.
    pub(crate) without_ipv6: bool,
}

impl Known {
    fn index(&self, end: End, name: &IfName) -> Result<u32> {
        let index = match end {
            End::Bridge => self.bridge,
            End::Host => self.host,
            End::Container => self.container,
            End::Loopback => Some(LOOPBACK_INDEX),
            End::Ifb => self.ifb,
        };
        index.ok_or_else(|| Error::gone("RTM_GETLINK", Some(libc::ENODEV)).on(Subject::Interface(name.to_string())))
    }
}

impl Step {
    /// The messages, in the order in which they are sent. A step that is values of /proc/sys has none.
    pub(crate) fn requests(&self, known: &Known, netns: BorrowedFd<'_>, settings: Settings) -> Result<Vec<Request>> {
        let one = match self {
            Self::Sysctls { .. } => return Ok(Vec::new()),
            Self::NewTable(layout) => {
                let links = match layout.wiring {
                    Wiring::Bridge => Links::Bridge(&layout.name),
                    Wiring::Routed => Links::Added,
                };
                let subnets = layout.subnets();
                return nft::new_table(&TableSpec {
                    name: &layout.name,
                    links,
                    subnets: &subnets,
                    settings: layout.settings,
                });
            }
            Self::Admit(record) => return admit(record),
            Self::Publish(record) => return publish(record, settings),
            Self::NewBridge { name, mac, mtu } => {
                let mut message = LinkMessage::default();
                message.attributes = vec![
                    LinkAttribute::IfName(name.to_string()),
                    LinkAttribute::Address(mac.bytes().to_vec()),
                    LinkAttribute::Mtu(*mtu),
                    LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
                ];
                return Ok(vec![link(RTM_NEWLINK, CREATE, name, &message), link::get(&name.into())?]);
            }
            Self::NewIfb { name, mac, mtu } => {
                let mut message = LinkMessage::default();
                message.attributes = vec![
                    LinkAttribute::IfName(name.to_string()),
                    LinkAttribute::Address(mac.bytes().to_vec()),
                    LinkAttribute::Mtu(*mtu),
                    LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]),
                ];
                return Ok(vec![link(RTM_NEWLINK, CREATE, name, &message), link::get(&name.into())?]);
            }
            Self::Shape { end, name, rate, mtu } => limit::at_root(name, known.index(*end, name)?, *rate, *mtu)?,
            Self::IngressQdisc { name } => limit::ingress_qdisc(name, known.index(End::Host, name)?)?,
            Self::Redirect { name, ifb } => {
                return limit::redirect(name, known.index(End::Host, name)?, ifb, known.index(End::Ifb, ifb)?);
            }
            Self::NewVeth { name, mac, bridge, peer, peer_mac, mtu } => {
                let mut there = LinkMessage::default();
                there.attributes = vec![
                    LinkAttribute::IfName(peer.to_string()),
                    LinkAttribute::Address(peer_mac.bytes().to_vec()),
                    LinkAttribute::Mtu(*mtu),
                    LinkAttribute::NetNsFd(netns.as_raw_fd()),
                ];
                let mut here = LinkMessage::default();
                here.attributes = vec![
                    LinkAttribute::IfName(name.to_string()),
                    LinkAttribute::Address(mac.bytes().to_vec()),
                    LinkAttribute::Mtu(*mtu),
                    LinkAttribute::LinkInfo(vec![
                        LinkInfo::Kind(InfoKind::Veth),
                        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(there))),
                    ]),
                ];
                if let Some(bridge) = bridge {
                    here.attributes.push(LinkAttribute::Controller(known.index(End::Bridge, bridge)?));
                }
                return Ok(vec![link(RTM_NEWLINK, CREATE, name, &here), link::get(&name.into())?]);
            }
            Self::NoLinkLocal { end, name, alias } => {
                let mut message = at(known.index(*end, name)?);
                if let Some(alias) = alias {
                    message.attributes.push(LinkAttribute::IfAlias(alias.clone()));
                }
                if !known.without_ipv6 {
                    let mode = vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)];
                    message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(mode)]));
                }
                link(RTM_SETLINK, 0, name, &message)
            }
            Self::PortFlags { name, hairpin, isolated } => {
                let mut message = at(known.index(End::Host, name)?);
                let mut flags = Vec::new();
                if *hairpin {
                    flags.push(InfoBridgePort::HairpinMode(true));
                }
                if *isolated {
                    flags.push(InfoBridgePort::Isolated(true));
                }
                message.attributes.push(LinkAttribute::LinkInfo(vec![
                    LinkInfo::PortKind(InfoPortKind::Bridge),
                    LinkInfo::PortData(InfoPortData::BridgePort(flags)),
                ]));
                // RTM_SETLINK does not look at the options of a port.
                link(RTM_NEWLINK, 0, name, &message)
            }
            Self::Up { end, name } => {
                let mut message = at(known.index(*end, name)?);
                message.header.flags = LinkFlags::Up;
                message.header.change_mask = LinkFlags::Up;
                link(RTM_SETLINK, 0, name, &message)
            }
            Self::Settle { end, name } => settle::ask(name, known.index(*end, name)?)?,
            Self::NewAddress { end, name, address } => new_address(name, known.index(*end, name)?, *address),
            Self::NewNeighbour { end, name, address, mac } => {
                let neighbour = Neighbour::permanent(*address, *mac);
                neighbour::message::new(&name.into(), known.index(*end, name)?, &neighbour, CREATE)
            }
            Self::NewRoute { end, name, way } => new_route(*way, known.index(*end, name)?)?,
        };
        Ok(vec![one])
    }
}

/// The elements that make the container's interface one of the network's.
pub(crate) fn admit(record: &Record) -> Result<Vec<Request>> {
    let (host, addresses) = (record.host_ifname(), record.plain_addresses());
    match record.wiring {
        Wiring::Routed => nft::new_link(&record.network, &host, &record.owner),
        Wiring::Bridge if !record.guarded => Ok(Vec::new()),
        Wiring::Bridge => {
            let sender = Sender { port: &host, mac: record.mac, addresses: &addresses };
            nft::new_sender(&record.network, &record.owner, &sender)
        }
    }
}

/// Undoes [`admit`].
pub(crate) fn expel(record: &Record, pack: Pack) -> Result<Vec<Request>> {
    let (host, addresses) = (record.host_ifname(), record.plain_addresses());
    match record.wiring {
        Wiring::Routed => nft::delete_link(&record.network, &host),
        Wiring::Bridge if !record.guarded => Ok(Vec::new()),
        Wiring::Bridge => {
            let sender = Sender { port: &host, mac: record.mac, addresses: &addresses };
            nft::delete_sender(&record.network, &sender, pack)
        }
    }
}

/// The elements of the published ports.
pub(crate) fn publish(record: &Record, settings: Settings) -> Result<Vec<Request>> {
    nft::new_elements(&record.network, &record.owner, &record.plain_addresses(), &record.ports, settings)
}

/// Undoes [`publish`].
pub(crate) fn unpublish(record: &Record, pack: Pack) -> Result<Vec<Request>> {
    nft::delete_elements(&record.network, &record.plain_addresses(), &record.ports, pack)
}

fn at(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Unspec;
    message.header.index = index;
    message
}

fn link(kind: u16, flags: u16, name: &IfName, message: &LinkMessage) -> Request {
    let operation = if kind == RTM_SETLINK { "RTM_SETLINK" } else { "RTM_NEWLINK" };
    Request { operation, subject: Some(Subject::Interface(name.to_string())), kind, flags, body: bytes(message) }
}

fn new_address(name: &IfName, index: u32, address: IpNet) -> Request {
    let mut spec = Address::new(address);
    if let Some(broadcast) = address.broadcast() {
        spec = spec.broadcast(broadcast);
    }
    if address.is_ipv6() {
        // It was leased: nobody else has it, and to ask takes a second in which it cannot be used.
        spec = spec.no_dad();
    }
    ip_address::message::new(&name.into(), index, &spec, CREATE)
}

fn new_route(way: Way, index: u32) -> Result<Request> {
    let (route, subject) = match way {
        Way::Default { gateway, onlink, metric } => {
            let to = if gateway.is_ipv4() { Route::default_v4() } else { Route::default_v6() };
            let mut route = to.via(gateway);
            if onlink {
                route = route.onlink();
            }
            if let Some(metric) = metric {
                route = route.metric(metric);
            }
            (route, format!("default via {gateway}"))
        }
        Way::Host(host) => (Route::to(Subnet::new(host, width(host))?), format!("route to {host}")),
    };
    let route = route.dev(LinkRef::Index(index)).protocol(RouteProtocol::STATIC);
    Ok(route::message::new(&route, Subject::Thing(subject), CREATE))
}
