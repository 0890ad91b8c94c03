//! What was made for one container, as a value.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use cellkit_core::{Error, Subject};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::host_name::HostName;
use crate::ip_net::IpNet;
use crate::lease_dir::Leased;
use crate::limit::Limits;
use crate::mac::MacAddr;
use crate::name::{IfName, Owner};
use crate::network::Wiring;
use crate::plan::{LINK_GATEWAY_V4, LINK_GATEWAY_V6};
use crate::port::PublishedPort;
use crate::subnet::width;

const VERSION: u32 = 2;

/// What was made for one container: enough to remove it, from any process, even when its namespace is gone.
///
/// It is a small value to keep in one's own state (`serde`); the crate keeps its own copy in the state directory. The
/// names of the host's interfaces are not in it: they follow from the owner's id, so that a damaged record can never
/// name somebody else's. A record of another version of this crate is refused when it is read.
///
/// * Privileges: none; it is data.
///
/// ```no_run
/// use vethnet::{Attachment, Record};
///
/// # async fn example(attachment: Attachment) -> Result<(), Box<dyn std::error::Error>> {
/// std::fs::write("/run/demo/web.json", serde_json::to_vec(attachment.record())?)?;
/// // In a later process:
/// let record: Record = serde_json::from_slice(&std::fs::read("/run/demo/web.json")?)?;
/// Attachment::from_record(record).detach().await?;
/// # Ok(())
/// # }
/// ```
///
/// See veth(4) for the pair that it stands for: <https://man7.org/linux/man-pages/man4/veth.4.html>.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Fields")]
pub struct Record {
    version: u32,
    pub(crate) owner: Owner,
    pub(crate) network: IfName,
    pub(crate) wiring: Wiring,
    #[serde(serialize_with = "path_as_text")]
    pub(crate) state_dir: PathBuf,
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) gateways: Vec<IpAddr>,
    pub(crate) ifname: IfName,
    pub(crate) mac: MacAddr,
    pub(crate) ports: Vec<PublishedPort>,
    /// Whether its port is bound to its addresses.
    pub(crate) guarded: bool,
    pub(crate) names: Vec<HostName>,
    #[serde(skip_serializing_if = "Limits::is_none")]
    pub(crate) limits: Limits,
}

/// A [`Record`] as it is read, before the parts are looked at together.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    version: u32,
    owner: Owner,
    network: IfName,
    wiring: Wiring,
    #[serde(deserialize_with = "path_of_text")]
    state_dir: PathBuf,
    addresses: Vec<IpNet>,
    gateways: Vec<IpAddr>,
    ifname: IfName,
    mac: MacAddr,
    ports: Vec<PublishedPort>,
    guarded: bool,
    names: Vec<HostName>,
    #[serde(default)]
    limits: Limits,
}

impl TryFrom<Fields> for Record {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        let Fields {
            version,
            owner,
            network,
            wiring,
            state_dir,
            addresses,
            gateways,
            ifname,
            mac,
            ports,
            guarded,
            names,
            limits,
        } = fields;
        if version != VERSION {
            return Err(format!("it has version {version}, and only version {VERSION} is known"));
        }
        match addresses.as_slice() {
            [_] => {}
            [one, two] if one.is_ipv4() && two.is_ipv6() => {}
            _ => return Err("it needs one address, or one of IPv4 and one of IPv6".into()),
        }
        Ok(Self {
            version,
            owner,
            network,
            wiring,
            state_dir,
            addresses,
            gateways,
            ifname,
            mac,
            ports,
            guarded,
            names,
            limits,
        })
    }
}

/// A path is bytes, and JSON has texts: a list of numbers where it is none.
fn path_as_text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    match path.to_str() {
        Some(text) => text.serialize(serializer),
        None => path.as_os_str().as_encoded_bytes().serialize(serializer),
    }
}

fn path_of_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Bytes(Vec<u8>),
    }
    Ok(match Form::deserialize(deserializer)? {
        Form::Text(text) => text.into(),
        Form::Bytes(bytes) => OsString::from_vec(bytes).into(),
    })
}

/// What a [`Record`] is made of.
pub(crate) struct Parts {
    pub(crate) owner: Owner,
    pub(crate) network: IfName,
    pub(crate) wiring: Wiring,
    pub(crate) state_dir: PathBuf,
    /// One, or one of IPv4 and one of IPv6.
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) gateways: Vec<IpAddr>,
    pub(crate) ifname: IfName,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) ports: Vec<PublishedPort>,
    pub(crate) guarded: bool,
    pub(crate) names: Vec<HostName>,
    pub(crate) limits: Limits,
}

impl Record {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            owner,
            network,
            wiring,
            state_dir,
            addresses,
            gateways,
            ifname,
            mac,
            ports,
            guarded,
            names,
            limits,
        } = parts;
        let mac = mac.unwrap_or_else(|| match addresses.first().map(IpNet::address) {
            Some(IpAddr::V4(address)) => MacAddr::of_container(address),
            Some(IpAddr::V6(address)) => {
                // Its last bytes, which are what differs within a network.
                let [.., a, b, c, d] = address.octets();
                MacAddr::of_container(Ipv4Addr::new(a, b, c, d))
            }
            None => MacAddr::of_container(Ipv4Addr::UNSPECIFIED),
        });
        Self {
            version: VERSION,
            owner,
            network,
            wiring,
            state_dir,
            addresses,
            gateways,
            ifname,
            mac,
            ports,
            guarded,
            names,
            limits,
        }
    }

    /// Whose attachment it is.
    #[must_use]
    pub fn owner(&self) -> &str {
        self.owner.as_str()
    }

    /// The network it is attached to: the name of its bridge, if it has one.
    #[must_use]
    pub fn network(&self) -> &IfName {
        &self.network
    }

    /// How it is wired to it.
    #[must_use]
    pub fn wiring(&self) -> Wiring {
        self.wiring
    }

    /// The container's addresses, one a family, IPv4 first, each with the prefix of the network's range.
    #[must_use]
    pub fn addresses(&self) -> &[IpNet] {
        &self.addresses
    }

    /// The first of its addresses: that of IPv4 where there are two.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        // There is at least one.
        self.addresses.first().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpNet::address)
    }

    /// Its IPv4 address.
    #[must_use]
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        self.addresses.iter().find_map(|address| match address.address() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        })
    }

    /// Its IPv6 address.
    #[must_use]
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.addresses.iter().find_map(|address| match address.address() {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        })
    }

    /// What its default routes go through, one a family, IPv4 first.
    ///
    /// On a bridge they are the host's addresses in the network. Where packets are routed they are `169.254.1.1` and
    /// `fe80::1`, which are nobody's: the host is reached at any of its own addresses then.
    #[must_use]
    pub fn gateways(&self) -> Vec<IpAddr> {
        match self.wiring {
            Wiring::Bridge => self.gateways.clone(),
            Wiring::Routed => self
                .addresses
                .iter()
                .map(|address| if address.is_ipv4() { LINK_GATEWAY_V4.into() } else { LINK_GATEWAY_V6.into() })
                .collect(),
        }
    }

    /// The addresses as the interface in the container has them. Where packets are routed, it has no neighbours.
    pub(crate) fn addresses_inside(&self) -> impl Iterator<Item = IpNet> {
        self.addresses.iter().filter_map(|address| match self.wiring {
            Wiring::Bridge => Some(*address),
            Wiring::Routed => IpNet::new(address.address(), width(address.address())).ok(),
        })
    }

    /// The interface's name in the container.
    #[must_use]
    pub fn ifname(&self) -> &IfName {
        &self.ifname
    }

    /// The interface's hardware address in the container.
    #[must_use]
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// The host's end of the veth pair.
    #[must_use]
    pub fn host_ifname(&self) -> IfName {
        IfName::of_owner(&self.network, &self.owner)
    }

    /// The interface that limits what the container sends, where that is limited.
    pub(crate) fn ifb_ifname(&self) -> IfName {
        IfName::of_owner_ifb(&self.network, &self.owner)
    }

    /// How fast it may receive and send.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    pub(crate) fn with_limits(&self, limits: Limits) -> Self {
        Self { limits, ..self.clone() }
    }

    /// The published ports.
    #[must_use]
    pub fn ports(&self) -> &[PublishedPort] {
        &self.ports
    }

    /// What the other containers of the network call it: see [`Network::hosts_file`](crate::Network::hosts_file).
    #[must_use]
    pub fn names(&self) -> &[HostName] {
        &self.names
    }

    /// Refuses a network of the same name that is wired otherwise.
    pub(crate) fn check_wiring(&self, wiring: Wiring) -> cellkit_core::Result<()> {
        if self.wiring == wiring {
            return Ok(());
        }
        Err(Error::invalid("network", format!("it is in use as one that is wired otherwise: {}", self.wiring))
            .on(Subject::Interface(self.network.to_string()))
            .with_hint("detach its containers first, or choose another name"))
    }

    /// Refuses a port that this one publishes.
    pub(crate) fn check_port(&self, port: &PublishedPort) -> cellkit_core::Result<()> {
        let same = |other: &PublishedPort| other.host_address() == port.host_address() && other.collides(port);
        if !self.ports.iter().any(same) {
            return Ok(());
        }
        Err(Error::from_errno("publish", libc::EADDRINUSE)
            .on(Subject::Value(port.to_string()))
            .with_hint(format!("{:?} publishes this port already: choose another", self.owner())))
    }

    /// Its addresses, without prefixes.
    pub(crate) fn plain_addresses(&self) -> Vec<IpAddr> {
        self.addresses.iter().map(IpNet::address).collect()
    }

    /// Where the crate's own copy is.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }
}

impl Leased for Record {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        // Before anything else: another version has other fields.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if version != VERSION {
            return Err(format!("it has version {version}, and only version {VERSION} is known"));
        }
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    fn owner(&self) -> &Owner {
        &self.owner
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.plain_addresses()
    }

    fn names(&self) -> &[HostName] {
        &self.names
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A record of a container with these addresses.
    pub(crate) fn record(owner: &str, addresses: &[&str]) -> Record {
        Record::new(Parts {
            owner: Owner::new(owner).unwrap(),
            network: IfName::new("cellkit0").unwrap(),
            wiring: Wiring::Bridge,
            state_dir: "/run/vethnet".into(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            gateways: vec![[10, 209, 0, 1].into()],
            ifname: IfName::new("eth0").unwrap(),
            mac: None,
            ports: vec!["80:80".parse().unwrap(), "192.0.2.1:53:53/udp".parse().unwrap()],
            guarded: false,
            names: vec![HostName::new("www").unwrap()],
            limits: Limits::new(),
        })
    }

    #[test]
    fn the_text_is_what_it_was() {
        let web = record("web", &["10.209.0.2/22", "fd00::2/64"]);
        let text = r#"{"version":2,"owner":"web","network":"cellkit0","wiring":"bridge","state_dir":"/run/vethnet","addresses":["10.209.0.2/22","fd00::2/64"],"gateways":["10.209.0.1"],"ifname":"eth0","mac":"02:6b:0a:d1:00:02","ports":["80:80/tcp","192.0.2.1:53:53/udp"],"guarded":false,"names":["www"]}"#;
        assert_eq!(serde_json::to_string(&web).unwrap(), text, "a new form needs a new version");
        assert_eq!(Record::parse(text.as_bytes()).unwrap(), web);
        let old = text.replace("\"version\":2", "\"version\":1");
        assert_eq!(Record::parse(old.as_bytes()).unwrap_err(), "it has version 1, and only version 2 is known");
        assert!(serde_json::from_str::<Record>(&old).is_err(), "nor by serde itself");
    }

    #[test]
    fn any_path_is_kept() {
        let mut web = record("web", &["10.209.0.2/22"]);
        web.state_dir = OsString::from_vec(b"/run/\xff\"".to_vec()).into();
        assert_eq!(Record::parse(&serde_json::to_vec(&web).unwrap()).unwrap(), web);
    }

    #[test]
    fn addresses_are_one_a_family() {
        for addresses in [&["10.0.0.2/8", "10.0.0.3/8"][..], &["fd00::2/64", "10.0.0.2/8"], &[]] {
            let bytes = serde_json::to_vec(&record("web", addresses)).unwrap();
            assert!(Record::parse(&bytes).unwrap_err().contains("one address"), "{addresses:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Record::parse(&bytes).is_err());
        }

        #[test]
        fn a_flipped_bit_is_an_error_or_a_whole_record(index in 0usize..300, bit in 0u8..8) {
            let web = record("web", &["10.209.0.2/22"]);
            let mut bytes = serde_json::to_vec(&web).unwrap();
            if let Some(byte) = bytes.get_mut(index) {
                *byte ^= 1 << bit;
            }
            if let Ok(read) = Record::parse(&bytes) {
                prop_assert!(read.host_ifname().as_str().starts_with("vh"), "only an interface of ours is ever named");
            }
        }
    }
}
