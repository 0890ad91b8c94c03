//! Messages about links: what is asked, and what the answers say.
#![forbid(unsafe_code)]

mod bridge;
mod bridge_port;
mod change;
mod consts;
mod data;
mod flags;
mod ipvlan;
mod macvlan;
mod options;
mod plain;
mod read;
mod reference;
mod settings;
mod spec;
mod veth;
mod vlan;
mod vxlan;

use std::os::fd::{AsRawFd, BorrowedFd};

use cellkit_core::Subject;
use netlink_packet_core::Emitable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind,
    InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

pub use bridge::{Bridge, McastRouter, VlanProtocol};
pub use bridge_port::BridgePort;
pub use change::{AltName, LinkChange};
pub use data::{BridgeData, LinkData, PortData, TunData, VlanData, VxlanData};
pub use flags::LinkFlag;
pub use ipvlan::{Ipvlan, IpvlanFlow, IpvlanMode};
pub use macvlan::{Macvlan, MacvlanMode};
pub use plain::{Dummy, Ifb};
pub use read::{Link, OperState};
pub use reference::LinkRef;
pub use settings::AddrGenMode;
pub use spec::LinkSpec;
pub use veth::Veth;
pub use vlan::Vlan;
pub use vxlan::Vxlan;

use consts::{RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK, RTM_SETLINK};

use crate::exchange::Request;
use crate::mac::MacAddr;
use crate::name::IfName;

/// NLM_F_CREATE | NLM_F_EXCL: make it, and fail when the name is taken.
pub(crate) const CREATE: u16 = 0x400 | 0x200;
/// The loopback interface is the first of every network namespace: the kernel insists on it.
pub(crate) const LOOPBACK_INDEX: u32 = 1;

fn request(operation: &'static str, kind: u16, flags: u16, subject: &str, message: &LinkMessage) -> Request {
    let subject = (!subject.is_empty()).then(|| Subject::Interface(subject.to_owned()));
    Request { operation, subject, kind, flags, body: bytes(message) }
}

/// The message. One in which the length of an attribute may not fit its 16 bits is left empty, for the encoder panics or
/// writes another length; whoever sends it refuses it for its own length, which is kept.
pub(crate) fn bytes(message: &impl Emitable) -> Vec<u8> {
    let mut body = vec![0; message.buffer_len()];
    if u16::try_from(body.len()).is_ok() {
        message.emit(&mut body);
    }
    body
}

fn named(name: &IfName) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_string()));
    message
}

/// All links.
pub(crate) fn list() -> Request {
    request("RTM_GETLINK", RTM_GETLINK, 0, "", &LinkMessage::default())
}

/// One link.
pub(crate) fn get(name: &IfName) -> Request {
    request("RTM_GETLINK", RTM_GETLINK, 0, name.as_str(), &named(name))
}

/// `ip link delete`, by its number: the name could be another's since the link was looked at.
pub(crate) fn delete(link: &Link) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = link.index;
    request("RTM_DELLINK", RTM_DELLINK, 0, &link.name, &message)
}

/// `ip link add NAME address MAC mtu MTU type bridge`
pub(crate) fn new_bridge(name: &IfName, mac: MacAddr, mtu: u32) -> Request {
    let mut message = named(name);
    message.attributes.push(LinkAttribute::Address(mac.bytes().to_vec()));
    message.attributes.push(LinkAttribute::Mtu(mtu));
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
    request("RTM_NEWLINK", RTM_NEWLINK, CREATE, name.as_str(), &message)
}

/// What one end of a veth pair is to be.
#[derive(Debug)]
pub(crate) struct VethPeer<'a> {
    pub(crate) name: &'a IfName,
    pub(crate) mac: MacAddr,
    pub(crate) netns: BorrowedFd<'a>,
}

/// `ip link add NAME address MAC mtu MTU master BRIDGE type veth peer name PEER address MAC mtu MTU netns NETNS`
pub(crate) fn new_veth(name: &IfName, mac: MacAddr, bridge: u32, mtu: u32, peer: &VethPeer<'_>) -> Request {
    let mut there = named(peer.name);
    there.attributes.push(LinkAttribute::Address(peer.mac.bytes().to_vec()));
    there.attributes.push(LinkAttribute::Mtu(mtu));
    there.attributes.push(LinkAttribute::NetNsFd(peer.netns.as_raw_fd()));
    let mut here = named(name);
    here.attributes.push(LinkAttribute::Address(mac.bytes().to_vec()));
    here.attributes.push(LinkAttribute::Mtu(mtu));
    here.attributes.push(LinkAttribute::Controller(bridge));
    here.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(there))),
    ]));
    request("RTM_NEWLINK", RTM_NEWLINK, CREATE, name.as_str(), &here)
}

/// `ip link set NAME addrgenmode none`, with the owner as the alias where there is one.
///
/// The kernel brings a link up before it looks at this, so it cannot be part of the message that does.
pub(crate) fn no_link_local(name: &IfName, alias: Option<&str>) -> Request {
    let mut message = named(name);
    if let Some(alias) = alias {
        message.attributes.push(LinkAttribute::IfAlias(alias.to_owned()));
    }
    let mode = vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)];
    message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(mode)]));
    request("RTM_SETLINK", RTM_SETLINK, 0, name.as_str(), &message)
}

/// `ip link set NAME type bridge_slave hairpin on`
pub(crate) fn hairpin(name: &IfName) -> Request {
    let mut message = named(name);
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)])),
    ]));
    // RTM_SETLINK does not look at the options of a port.
    request("RTM_NEWLINK", RTM_NEWLINK, 0, name.as_str(), &message)
}

/// `ip link set NAME up`
pub(crate) fn up(name: &IfName) -> Request {
    request("RTM_SETLINK", RTM_SETLINK, 0, name.as_str(), &raise(named(name)))
}

/// `ip link set lo up`
pub(crate) fn loopback_up() -> Request {
    let mut message = LinkMessage::default();
    message.header.index = LOOPBACK_INDEX;
    request("RTM_SETLINK", RTM_SETLINK, 0, "lo", &raise(message))
}

fn raise(mut message: LinkMessage) -> LinkMessage {
    message.header.interface_family = AddressFamily::Unspec;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}
