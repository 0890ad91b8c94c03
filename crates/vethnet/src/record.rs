//! What was made for one container, as a value.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::host_name::HostName;
use crate::lease_dir::Leased;
use crate::mac::MacAddr;
use crate::name::{IfName, Owner};
use crate::port::PublishedPort;
use crate::subnet::Subnet;

const VERSION: u32 = 1;

/// What was made for one container: enough to remove it, from any process, even when its namespace is gone.
///
/// It is a small value to keep in one's own state (`serde`); the crate keeps its own copy in the state directory. The
/// names of the host's interfaces are not in it: they follow from the owner's id, so that a damaged record can never
/// name somebody else's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    version: u32,
    pub(crate) owner: Owner,
    pub(crate) bridge: IfName,
    pub(crate) subnet: Subnet,
    pub(crate) address: Ipv4Addr,
    pub(crate) ifname: IfName,
    pub(crate) mac: MacAddr,
    pub(crate) ports: Vec<PublishedPort>,
}

impl Record {
    pub(crate) fn new(
        owner: Owner,
        bridge: &IfName,
        subnet: Subnet,
        address: Ipv4Addr,
        ifname: &IfName,
        mac: Option<MacAddr>,
        ports: &[PublishedPort],
    ) -> Self {
        Self {
            version: VERSION,
            owner,
            bridge: bridge.clone(),
            subnet,
            address,
            ifname: ifname.clone(),
            mac: mac.unwrap_or(MacAddr::of_container(address)),
            ports: ports.to_vec(),
        }
    }

    /// Whose attachment it is.
    #[must_use]
    pub fn owner(&self) -> &str {
        self.owner.as_str()
    }

    /// The bridge it is attached to.
    #[must_use]
    pub fn bridge(&self) -> &IfName {
        &self.bridge
    }

    /// The container's address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The range the address is from.
    #[must_use]
    pub fn subnet(&self) -> Subnet {
        self.subnet
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
        IfName::of_owner(&self.bridge, &self.owner)
    }

    /// The published ports.
    #[must_use]
    pub fn ports(&self) -> &[PublishedPort] {
        &self.ports
    }
}

impl Leased for Record {
    fn parse(bytes: &[u8]) -> std::result::Result<Self, String> {
        let record: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if record.version != VERSION {
            return Err(format!("it has version {}, and only version {VERSION} is known", record.version));
        }
        if !record.subnet.contains(record.address.into()) {
            return Err(format!("the address {} is not in {}", record.address, record.subnet));
        }
        Ok(record)
    }

    fn owner(&self) -> &Owner {
        &self.owner
    }

    fn addresses(&self) -> Vec<IpAddr> {
        vec![self.address.into()]
    }

    fn names(&self) -> &[HostName] {
        &[]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(owner: &str, subnet: Subnet, address: Ipv4Addr) -> Record {
        let (bridge, eth0) = (IfName::new("cellkit0").unwrap(), IfName::new("eth0").unwrap());
        let ports = ["80:80".parse().unwrap(), "192.0.2.1:53:53/udp".parse().unwrap()];
        Record::new(Owner::new(owner).unwrap(), &bridge, subnet, address, &eth0, None, &ports)
    }

    #[test]
    fn the_text_is_what_it_was() {
        let web = record("web", Subnet::default(), Ipv4Addr::new(10, 209, 0, 2));
        let text = r#"{"version":1,"owner":"web","bridge":"cellkit0","subnet":"10.209.0.0/22","address":"10.209.0.2","ifname":"eth0","mac":"02:6b:0a:d1:00:02","ports":["80:80/tcp","192.0.2.1:53:53/udp"]}"#;
        assert_eq!(serde_json::to_string(&web).unwrap(), text, "a new form needs a new version");
        assert_eq!(Record::parse(text.as_bytes()).unwrap(), web);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Record::parse(&bytes).is_err());
        }

        #[test]
        fn a_flipped_bit_is_an_error_or_a_whole_record(index in 0usize..200, bit in 0u8..8) {
            let web = record("web", Subnet::default(), Ipv4Addr::new(10, 209, 0, 2));
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
