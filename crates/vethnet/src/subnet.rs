//! The range of addresses of a network.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use cellkit_core::{Error, Result, Subject};
use serde::{Deserialize, Serialize};

/// A range of IPv4 addresses, `ADDRESS/PREFIX`, with a prefix from 8 to 30 and no bits set behind it.
///
/// The first address of the range is the bridge's and the containers' gateway; the last is for broadcast. The default
/// is `10.209.0.0/22`: 1021 containers, about as many as a bridge has ports.
///
/// ```
/// use vethnet::Ipv4Subnet;
///
/// let subnet: Ipv4Subnet = "10.88.0.0/16".parse()?;
/// assert_eq!(subnet.gateway().to_string(), "10.88.0.1");
/// let error = "10.88.0.1/16".parse::<Ipv4Subnet>().unwrap_err();
/// assert_eq!(error.to_string(), r#"subnet "10.88.0.1/16": bits are set behind the prefix: write 10.88.0.0/16"#);
/// # Ok::<(), vethnet::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ipv4Subnet {
    address: u32,
    prefix: u8,
}

impl Ipv4Subnet {
    /// The range that begins at `address`.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for a prefix outside 8..=30, bits behind it, or a range that is not for
    /// hosts (loopback, multicast, 0.0.0.0/8).
    pub fn new(address: Ipv4Addr, prefix: u8) -> Result<Self> {
        let fail = |why: String| Err(Error::invalid("subnet", why).on(Subject::Value(format!("{address}/{prefix}"))));
        if !(8..=30).contains(&prefix) {
            return fail("the prefix has to be from 8 to 30".into());
        }
        let subnet = Self { address: address.to_bits(), prefix };
        let first = subnet.address & subnet.mask();
        if first != subnet.address {
            return fail(format!("bits are set behind the prefix: write {}/{prefix}", Ipv4Addr::from_bits(first)));
        }
        match address.octets() {
            [0 | 127 | 224.., ..] => fail("these addresses are not for hosts".into()),
            _ => Ok(subnet),
        }
    }

    /// The first bits, which all addresses of the range share.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address)
    }

    /// How many bits the addresses share.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The bridge's own address, the first of the range.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address | 1)
    }

    /// The broadcast address, the last of the range.
    #[must_use]
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address | !self.mask())
    }

    /// Whether `address` is in the range.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask() == self.address
    }

    /// The addresses for containers, each once: in order from the one after `last`, and around. Without a `last` in the
    /// range, from the first.
    pub(crate) fn hosts_after(&self, last: Option<Ipv4Addr>) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let (first, end) = (self.gateway().to_bits() + 1, self.broadcast().to_bits());
        let start = match last {
            Some(last) if self.contains(last) => last.to_bits().saturating_add(1).clamp(first, end),
            _ => first,
        };
        (start..end).chain(first..start).map(Ipv4Addr::from_bits)
    }

    pub(crate) fn mask(&self) -> u32 {
        u32::MAX << (32 - self.prefix)
    }

    /// Whether a route to `destination/prefix` covers addresses of the range, or lies within it.
    pub(crate) fn overlaps(&self, destination: Ipv4Addr, prefix: u8) -> bool {
        let common = u32::from(self.prefix.min(prefix).min(32));
        let mask = u32::MAX.checked_shl(32 - common).unwrap_or(0);
        self.address & mask == destination.to_bits() & mask
    }
}

impl Default for Ipv4Subnet {
    fn default() -> Self {
        Self { address: Ipv4Addr::new(10, 209, 0, 0).to_bits(), prefix: 22 }
    }
}

impl fmt::Display for Ipv4Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address(), self.prefix)
    }
}

impl FromStr for Ipv4Subnet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('/').and_then(|(address, prefix)| Some((address.parse().ok()?, digits(prefix)?)));
        match parts {
            Some((address, prefix)) => Self::new(address, prefix),
            None => Err(Error::invalid("subnet", "write it as ADDRESS/PREFIX, such as 10.209.0.0/22")
                .on(Subject::Value(text.to_owned()))),
        }
    }
}

/// `"24"`, but not `"+24"` or `"024"`.
fn digits(text: &str) -> Option<u8> {
    let number: u8 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

impl TryFrom<String> for Ipv4Subnet {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Ipv4Subnet> for String {
    fn from(subnet: Ipv4Subnet) -> Self {
        subnet.to_string()
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
            "/",
            "10.0.0.0",
            "10.0.0.0/",
            "/8",
            "10.0.0.0/7",
            "10.0.0.0/31",
            "10.0.0.0/32",
            "10.0.0.0/-1",
            "10.0.0/8",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.0/256",
            "10.0.0.1/24",
            "127.0.0.0/8",
            "224.0.0.0/8",
            "0.0.0.0/8",
            "255.255.255.252/30",
            "fe80::/10",
            "10.0.0.0/8 ",
            "10.0.0.0/8\0",
        ] {
            let error = text.parse::<Ipv4Subnet>().expect_err(text);
            assert_eq!(error.kind(), crate::ErrorKind::Invalid);
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn the_default_has_room_for_a_bridge() {
        let subnet = Ipv4Subnet::default();
        assert_eq!(subnet.to_string().parse::<Ipv4Subnet>().unwrap(), subnet);
        assert_eq!(subnet.hosts_after(None).count(), 1021);
        assert_eq!(subnet.hosts_after(None).next(), Some(Ipv4Addr::new(10, 209, 0, 2)));
        assert_eq!(subnet.broadcast(), Ipv4Addr::new(10, 209, 3, 255));
    }

    proptest! {
        #[test]
        fn text_and_value(bits: u32, prefix in 8u8..=30) {
            let address = Ipv4Addr::from_bits(bits & (u32::MAX << (32 - prefix)));
            if let Ok(subnet) = Ipv4Subnet::new(address, prefix) {
                prop_assert_eq!(subnet.to_string().parse::<Ipv4Subnet>().unwrap(), subnet);
                prop_assert!(subnet.contains(subnet.gateway()) && subnet.contains(subnet.broadcast()));
                prop_assert!(!subnet.hosts_after(None).take(10).any(|host| host == subnet.gateway() || !subnet.contains(host)));
            }
        }

        #[test]
        fn overlap_is_a_common_address(a: u32, pa in 8u8..=30, b: u32, pb in 0u8..=32) {
            let first = |bits: u32, prefix: u8| bits & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            if let Ok(subnet) = Ipv4Subnet::new(Ipv4Addr::from_bits(first(a, pa)), pa) {
                let last = |bits: u32, prefix: u8| bits | u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
                let (from, to) = (first(b, pb), last(first(b, pb), pb));
                let common = from <= subnet.broadcast().to_bits() && subnet.address <= to;
                prop_assert_eq!(subnet.overlaps(Ipv4Addr::from_bits(from), pb), common);
            }
        }

        #[test]
        fn any_text_is_taken_without_panic(text in ".{0,40}") {
            let _ = text.parse::<Ipv4Subnet>();
        }
    }
}
