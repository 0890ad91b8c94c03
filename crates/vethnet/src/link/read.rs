//! [`Link`]: a link as the kernel tells of it.
//!
//! The parser takes what it knows and skips the rest, so that no kind of link, and no attribute of a newer kernel, keeps
//! the others of a list from being read.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result};

use crate::attr::{self, as_text};
use crate::link::consts::*;
use crate::link::data::{LinkData, PortData};
use crate::link::{AddrGenMode, LinkFlag};
use crate::mac::MacAddr;

/// `struct ifinfomsg`
pub(crate) const HEADER: usize = 16;

/// A network interface, as RTM_GETLINK tells of it.
///
/// It is what was true when it was read. Given to a verb of [`Net`](crate::Net) it stands for its number.
///
/// ```no_run
/// # async fn example(net: &vethnet::Net) -> vethnet::Result<()> {
/// for link in net.links().await? {
///     println!("{}: {} {:?} mtu {}", link.index, link.name, link.oper_state, link.mtu);
/// }
/// # Ok(())
/// # }
/// ```
///
/// See rtnetlink(7): <https://man7.org/linux/man-pages/man7/rtnetlink.7.html>.
#[doc(alias = "ifinfomsg")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// The interface's number in its namespace.
    #[doc(alias = "ifi_index")]
    pub index: u32,
    /// Its name. Not an [`IfName`](crate::IfName): the kernel allows some that this crate refuses to make.
    #[doc(alias = "IFLA_IFNAME")]
    pub name: String,
    /// Its other names, by which it is found as well. Kernel 5.5.
    #[doc(alias = "IFLA_ALT_IFNAME")]
    pub altnames: Vec<String>,
    /// Its Ethernet address, if it has one that an interface may have.
    #[doc(alias = "IFLA_ADDRESS")]
    pub mac: Option<MacAddr>,
    /// The largest packet, in bytes.
    #[doc(alias = "IFLA_MTU")]
    pub mtu: u32,
    /// The smallest and the largest MTU its driver takes; 0 for the largest where there is no limit.
    #[doc(alias = "IFLA_MIN_MTU")]
    #[doc(alias = "IFLA_MAX_MTU")]
    pub mtu_range: (u32, u32),
    /// Whether it was brought up (IFF_UP). It may still have no carrier.
    pub is_up: bool,
    /// Whether there is something at the other end (IFF_LOWER_UP).
    #[doc(alias = "IFLA_CARRIER")]
    pub has_carrier: bool,
    /// Whether packets can pass, by the words of RFC 2863.
    #[doc(alias = "IFLA_OPERSTATE")]
    pub oper_state: OperState,
    /// All flags, as in netdevice(7): see [`LinkFlag`].
    #[doc(alias = "ifi_flags")]
    pub flags: u32,
    /// What made it: `veth`, `bridge`; `None` for hardware and the loopback.
    #[doc(alias = "IFLA_INFO_KIND")]
    pub kind: Option<String>,
    /// What that says of it, where this crate knows the kind.
    #[doc(alias = "IFLA_INFO_DATA")]
    pub data: Option<LinkData>,
    /// The number of the bridge it is a port of.
    #[doc(alias = "IFLA_MASTER")]
    pub master: Option<u32>,
    /// What that bridge says of the port.
    #[doc(alias = "IFLA_INFO_SLAVE_DATA")]
    pub port: Option<PortData>,
    /// The number of the link below it (of a VLAN, a macvlan), or of the other end of a veth pair. It counts in the
    /// namespace [`parent_netns_id`](Self::parent_netns_id) says, where it says one.
    #[doc(alias = "IFLA_LINK")]
    pub parent: Option<u32>,
    /// By which number this namespace knows the one that [`parent`](Self::parent) is in, if it is another.
    #[doc(alias = "IFLA_LINK_NETNSID")]
    pub parent_netns_id: Option<u32>,
    /// A text that says what it is for.
    #[doc(alias = "IFLA_IFALIAS")]
    pub alias: Option<String>,
    /// The group it is listed and changed with.
    #[doc(alias = "IFLA_GROUP")]
    pub group: u32,
    /// How many packets may wait to be sent.
    #[doc(alias = "IFLA_TXQLEN")]
    pub txqueuelen: u32,
    /// How many queues send.
    #[doc(alias = "IFLA_NUM_TX_QUEUES")]
    pub tx_queues: u32,
    /// How many queues receive.
    #[doc(alias = "IFLA_NUM_RX_QUEUES")]
    pub rx_queues: u32,
    /// How many users want every packet of the wire (a bridge that has it as a port is one).
    #[doc(alias = "IFLA_PROMISCUITY")]
    pub promiscuity: u32,
    /// How its IPv6 link-local address is made; `None` without IPv6.
    #[doc(alias = "IFLA_INET6_ADDR_GEN_MODE")]
    pub addr_gen_mode: Option<AddrGenMode>,
}

/// Whether packets can pass through a link (RFC 2863).
///
/// See the kernel's documentation: <https://docs.kernel.org/networking/operstates.html>.
///
/// ```no_run
/// # async fn example(net: &vethnet::Net) -> vethnet::Result<()> {
/// let name = vethnet::IfName::new("eth0")?;
/// let usable = net.link(&name).await?.is_some_and(|link| link.oper_state == vethnet::OperState::Up);
/// # let _ = usable;
/// # Ok(())
/// # }
/// ```
#[doc(alias = "IF_OPER_UP")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OperState {
    /// The driver does not say: so with the loopback and with tun.
    Unknown,
    /// A part of it is not there.
    NotPresent,
    /// Not brought up, or without a carrier.
    Down,
    /// The link below it is down.
    LowerLayerDown,
    /// Being tested.
    Testing,
    /// Waiting for something, such as authentication.
    Dormant,
    /// Packets pass.
    Up,
}

impl OperState {
    fn from_number(number: u8) -> Self {
        match number {
            1 => Self::NotPresent,
            2 => Self::Down,
            3 => Self::LowerLayerDown,
            4 => Self::Testing,
            5 => Self::Dormant,
            6 => Self::Up,
            _ => Self::Unknown,
        }
    }
}

impl Link {
    /// Takes an answer, or an event, apart.
    pub(crate) fn parse(body: &[u8]) -> Result<Self> {
        let short = || Error::parse("RTM_GETLINK", "the kernel's answer is too short");
        let index = body.get(4..).and_then(u32_of).ok_or_else(short)?;
        let flags = body.get(8..).and_then(u32_of).ok_or_else(short)?;
        let attributes = body.get(HEADER..).ok_or_else(short)?;
        let mut link = Self {
            index,
            name: String::new(),
            altnames: Vec::new(),
            mac: None,
            mtu: 0,
            mtu_range: (0, 0),
            is_up: flags & IFF_UP != 0,
            has_carrier: flags & IFF_LOWER_UP != 0,
            oper_state: OperState::Unknown,
            flags,
            kind: None,
            data: None,
            master: None,
            port: None,
            parent: None,
            parent_netns_id: None,
            alias: None,
            group: 0,
            txqueuelen: 0,
            tx_queues: 1,
            rx_queues: 1,
            promiscuity: 0,
            addr_gen_mode: None,
        };
        for (kind, value) in attr::attributes(attributes) {
            link.take(kind, value);
        }
        Ok(link)
    }

    fn take(&mut self, kind: u16, value: &[u8]) {
        let number = u32_of(value).unwrap_or_default();
        match kind {
            IFLA_IFNAME => self.name = as_text(value),
            IFLA_PROP_LIST => {
                let names = attr::attributes(value).filter(|(kind, _)| *kind == IFLA_ALT_IFNAME);
                self.altnames = names.map(|(_, name)| as_text(name)).collect();
            }
            IFLA_ADDRESS => {
                self.mac = <[u8; 6]>::try_from(value).ok().and_then(|bytes| MacAddr::new(bytes).ok());
            }
            IFLA_MTU => self.mtu = number,
            IFLA_MIN_MTU => self.mtu_range.0 = number,
            IFLA_MAX_MTU => self.mtu_range.1 = number,
            IFLA_CARRIER => self.has_carrier = value.first() == Some(&1),
            IFLA_OPERSTATE => self.oper_state = OperState::from_number(value.first().copied().unwrap_or_default()),
            IFLA_MASTER => self.master = Some(number),
            IFLA_LINK => self.parent = (number != 0).then_some(number),
            IFLA_LINK_NETNSID => self.parent_netns_id = Some(number),
            IFLA_IFALIAS => self.alias = Some(as_text(value)),
            IFLA_GROUP => self.group = number,
            IFLA_TXQLEN => self.txqueuelen = number,
            IFLA_NUM_TX_QUEUES => self.tx_queues = number,
            IFLA_NUM_RX_QUEUES => self.rx_queues = number,
            IFLA_PROMISCUITY => self.promiscuity = number,
            IFLA_AF_SPEC => {
                let mode = attr::find(value, AF_INET6).and_then(|inet6| attr::find(inet6, IFLA_INET6_ADDR_GEN_MODE));
                self.addr_gen_mode = mode.and_then(|mode| AddrGenMode::from_number(*mode.first()?));
            }
            IFLA_LINKINFO => {
                let data = attr::find(value, IFLA_INFO_DATA).unwrap_or_default();
                self.kind = attr::find(value, IFLA_INFO_KIND).map(as_text);
                self.data = self.kind.as_deref().and_then(|kind| LinkData::parse(kind, data));
                let is_port = attr::find(value, IFLA_INFO_SLAVE_KIND).map(as_text).as_deref() == Some("bridge");
                let port = attr::find(value, IFLA_INFO_SLAVE_DATA).filter(|_| is_port);
                self.port = port.map(PortData::parse);
            }
            _ => {}
        }
    }

    /// Whether it has this flag.
    #[must_use]
    pub fn has(&self, flag: LinkFlag) -> bool {
        self.flags & flag.bit() != 0
    }
}

/// What the kind of a link says in an answer, as it stands there.
pub(crate) fn info_data(body: &[u8]) -> &[u8] {
    let attributes = body.get(HEADER..).unwrap_or_default();
    attr::find(attributes, IFLA_LINKINFO).and_then(|info| attr::find(info, IFLA_INFO_DATA)).unwrap_or_default()
}

/// The same for what its bridge says of a port.
pub(crate) fn port_data(body: &[u8]) -> &[u8] {
    let attributes = body.get(HEADER..).unwrap_or_default();
    attr::find(attributes, IFLA_LINKINFO).and_then(|info| attr::find(info, IFLA_INFO_SLAVE_DATA)).unwrap_or_default()
}

pub(crate) fn u32_of(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

pub(crate) fn u16_of(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attr::Writer;
    use proptest::prelude::*;

    #[test]
    fn an_answer() {
        let mut header = vec![0; HEADER];
        header[4..8].copy_from_slice(&7u32.to_ne_bytes());
        header[8..12].copy_from_slice(&(IFF_UP | IFF_LOWER_UP).to_ne_bytes());
        let mut writer = Writer::new(&header);
        writer.text(IFLA_IFNAME, "br0").put(IFLA_MTU, &1450u32.to_ne_bytes()).put(IFLA_OPERSTATE, &[6]);
        writer.nest(IFLA_PROP_LIST, |list| {
            list.text(IFLA_ALT_IFNAME, "one").text(IFLA_ALT_IFNAME, "two");
        });
        writer.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "a kind of tomorrow").put(IFLA_INFO_DATA, &[1, 2, 3]);
        });
        let link = Link::parse(&writer.finish().unwrap()).unwrap();
        assert_eq!((link.index, link.name.as_str(), link.mtu), (7, "br0", 1450));
        assert_eq!((link.is_up, link.has_carrier, link.oper_state), (true, true, OperState::Up));
        assert_eq!(link.altnames, ["one", "two"]);
        assert_eq!((link.kind.as_deref(), link.data), (Some("a kind of tomorrow"), None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Link::parse(&bytes);
        }

        /// Of each kind, with attributes of any length.
        #[test]
        fn any_options_are_taken_without_panic(
            kind in prop::sample::select(vec!["bridge", "vlan", "macvlan", "macvtap", "ipvlan", "vxlan", "tun", "veth"]),
            list in prop::collection::vec((0u16..60, prop::collection::vec(any::<u8>(), 0..18)), 0..12),
        ) {
            let mut writer = Writer::new(&[0; HEADER]);
            writer.nest(IFLA_LINKINFO, |info| {
                info.text(IFLA_INFO_KIND, kind).text(IFLA_INFO_SLAVE_KIND, "bridge");
                for nest in [IFLA_INFO_DATA, IFLA_INFO_SLAVE_DATA] {
                    info.nest(nest, |data| list.iter().for_each(|(kind, value)| { data.put(*kind, value); }));
                }
            });
            let link = Link::parse(&writer.finish().unwrap()).unwrap();
            prop_assert_eq!(link.kind.as_deref(), Some(kind));
            prop_assert!(link.port.is_some());
        }
    }
}
