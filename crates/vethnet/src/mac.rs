//! Hardware addresses.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use cellkit_core::{Error, Result, Subject};
use serde::{Deserialize, Serialize};

use crate::name::{Fnv, IfName};

/// An Ethernet address of one interface: not a group address, not all zero.
///
/// See packet(7): <https://man7.org/linux/man-pages/man7/packet.7.html>.
///
/// ```
/// let mac: vethnet::MacAddr = "02:6b:0a:d1:00:02".parse()?;
/// assert_eq!(mac.to_string(), "02:6b:0a:d1:00:02");
/// assert!("01:00:5e:00:00:01".parse::<vethnet::MacAddr>().is_err(), "a group address");
/// # Ok::<(), vethnet::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// Checks the six bytes.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for a group address and for all zero.
    pub fn new(bytes: [u8; 6]) -> Result<Self> {
        let fail = |why| Err(Error::invalid("hardware address", why).on(Subject::Value(Self(bytes).to_string())));
        match bytes {
            [0, 0, 0, 0, 0, 0] => fail("it is all zero"),
            [first, ..] if first & 1 == 1 => fail("it is a group address, which no interface may have"),
            _ => Ok(Self(bytes)),
        }
    }

    /// The six bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// A container's: the same whenever it gets the same address, so that nobody's neighbour table is wrong.
    pub(crate) fn of_container(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, b'k', a, b, c, d])
    }

    /// A bridge's: fixed, or it would take over that of the port with the lowest one, and change with the ports.
    pub(crate) fn of_bridge(name: &IfName) -> Self {
        Self::of_name(b'c', name)
    }

    /// The host's end of a veth pair's: the mark of whoever made it, which is there from the moment the interface is. An
    /// alias can only be given later, and a kill in between would leave an interface of nobody's.
    pub(crate) fn of_host_end(name: &IfName) -> Self {
        Self::of_name(b'v', name)
    }

    /// The `ifb` interface's of a container, as a mark as well.
    pub(crate) fn of_ifb(name: &IfName) -> Self {
        Self::of_name(b'i', name)
    }

    fn of_name(mark: u8, name: &IfName) -> Self {
        let mut hash = Fnv::default();
        hash.add(name.as_str().as_bytes());
        let [a, b, c, d, ..] = hash.0.to_le_bytes();
        Self([0x02, mark, a, b, c, d])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        let good = bytes.iter_mut().all(|byte| match parts.next() {
            Some(part) if part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
                u8::from_str_radix(part, 16).map(|value| *byte = value).is_ok()
            }
            _ => false,
        });
        if good && parts.next().is_none() {
            Self::new(bytes)
        } else {
            Err(Error::invalid("hardware address", "write it as six pairs of digits, such as 02:6b:0a:d1:00:02")
                .on(Subject::Value(text.to_owned())))
        }
    }
}

impl TryFrom<String> for MacAddr {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_refused() {
        for text in [
            "",
            "02:6b:0a:d1:00",
            "02:6b:0a:d1:00:02:03",
            "2:6b:0a:d1:00:02",
            "+2:6b:0a:d1:00:02",
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "02-6b-0a-d1-00-02",
            "zz:6b:0a:d1:00:02",
        ] {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
    }

    #[test]
    fn made_ones_are_good_and_differ() {
        let container = MacAddr::of_container(Ipv4Addr::new(10, 209, 0, 2));
        let bridge = MacAddr::of_bridge(&IfName::new("cellkit0").unwrap());
        for mac in [container, bridge] {
            assert_eq!(MacAddr::new(mac.bytes()).unwrap(), mac);
        }
        assert_ne!(container.bytes()[1], bridge.bytes()[1]);
    }

    proptest! {
        #[test]
        fn text_and_value(bytes: [u8; 6]) {
            if let Ok(mac) = MacAddr::new(bytes) {
                prop_assert_eq!(mac.to_string().parse::<MacAddr>().unwrap(), mac);
            }
        }
    }
}
