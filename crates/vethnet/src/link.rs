//! Messages about links: what is asked, and what the answers say.
#![forbid(unsafe_code)]

mod bridge;
mod bridge_port;
mod bridge_vlan;
mod change;
mod consts;
mod create;
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
mod statistics;
mod veth;
mod vlan;
mod vxlan;

use cellkit_core::Subject;
use netlink_packet_core::Emitable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{LinkFlags, LinkMessage};

pub use bridge::{Bridge, McastRouter, VlanProtocol};
pub use bridge_port::BridgePort;
pub use bridge_vlan::{BridgeVlan, PortVlan};
pub(crate) use change::get;
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
pub use statistics::LinkStatistics;
pub use veth::Veth;
pub use vlan::Vlan;
pub use vxlan::Vxlan;

use consts::{RTM_DELLINK, RTM_GETLINK, RTM_SETLINK};

use crate::exchange::Request;

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

/// All links.
pub(crate) fn list() -> Request {
    request("RTM_GETLINK", RTM_GETLINK, 0, "", &LinkMessage::default())
}

/// `ip link delete`, by its number: the name could be another's since the link was looked at.
pub(crate) fn delete(link: &Link) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = link.index;
    request("RTM_DELLINK", RTM_DELLINK, 0, &link.name, &message)
}

/// `ip link set lo up`
pub(crate) fn loopback_up() -> Request {
    let mut message = LinkMessage::default();
    message.header.index = LOOPBACK_INDEX;
    message.header.interface_family = AddressFamily::Unspec;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    request("RTM_SETLINK", RTM_SETLINK, 0, "lo", &message)
}
