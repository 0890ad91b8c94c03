//! A range of addresses.
//!
//! An address is counted as a `u128` here, an IPv4 address in its lowest 32 bits, so that there is one arithmetic for
//! both. Nothing is added to a last address: ranges are inclusive, for both families have one that ends at all ones.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use cellkit_core::{Error, Result, Subject};
use serde::{Deserialize, Serialize};

use crate::ip_net::{IpNet, split};

/// A range of IPv4 or IPv6 addresses, `ADDRESS/PREFIX`, with no bits set behind the prefix.
///
/// It may be any range: `0.0.0.0/0` and `fe80::/10` are as good as `10.209.0.0/22`.
/// [`for_hosts`](Subnet::for_hosts) tells which of them a network of containers may have. The default is
/// `10.209.0.0/22`: 1021 containers, about as many as a bridge has ports.
///
/// Of a network's range, these are not for containers:
///
/// | range | gateway | not given out | for containers |
/// |---|---|---|---|
/// | IPv4, to /30 | the second address | the first, and the last, which is for broadcast | the others |
/// | IPv6, to /126 | the second address | the first, which means any router of the range (RFC 4291, 2.6.1) | the others, also the last |
/// | /31, /127 | the first address | none: two ends of a line (RFC 3021, RFC 6164) | the second |
/// | /32, /128 | outside the range | none | the one address |
///
/// See ip(7), and RFC 4632 for the notation: <https://man7.org/linux/man-pages/man7/ip.7.html>.
///
/// ```
/// use vethnet::Subnet;
///
/// let subnet: Subnet = "10.88.0.0/16".parse()?;
/// assert_eq!(subnet.gateway(), Some("10.88.0.1".parse().unwrap()));
/// let subnet: Subnet = "fd00:88::/64".parse()?;
/// assert!(subnet.contains("fd00:88::2".parse().unwrap()));
/// let error = "10.88.0.1/16".parse::<Subnet>().unwrap_err();
/// assert_eq!(error.to_string(), r#"subnet "10.88.0.1/16": bits are set behind the prefix: write 10.88.0.0/16"#);
/// # Ok::<(), vethnet::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    address: IpAddr,
    prefix: u8,
}

/// What no container can have an address of, and why.
const NOT_FOR_HOSTS: [(&str, &str); 7] = [
    ("0.0.0.0/8", "they mean this network and no host"),
    ("127.0.0.0/8", "they are loopback's"),
    ("224.0.0.0/3", "they are for multicast, or reserved"),
    ("::/96", "they mean no address, loopback, or an IPv4 address"),
    ("::ffff:0:0/96", "they mean IPv4 addresses"),
    ("fe80::/10", "every link has them (link-local)"),
    ("ff00::/8", "they are for multicast"),
];

impl Subnet {
    /// The range that begins at `address`.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for a prefix over 32 (IPv6: 128), and for bits behind the prefix.
    pub fn new(address: impl Into<IpAddr>, prefix: u8) -> Result<Self> {
        let address = address.into();
        let fail = |why: String| Err(Error::invalid("subnet", why).on(Subject::Value(format!("{address}/{prefix}"))));
        if prefix > width(address) {
            return fail(format!("the prefix has to be from 0 to {}", width(address)));
        }
        let subnet = Self::around(address, prefix);
        if subnet.address != address {
            return fail(format!("bits are set behind the prefix: write {subnet}"));
        }
        Ok(subnet)
    }

    /// The range of this length that `address` is in. The prefix has to be one of its family.
    pub(crate) fn around(address: IpAddr, prefix: u8) -> Self {
        let behind = behind(address, prefix);
        Self { address: from_bits(address, to_bits(address) & !behind), prefix }
    }

    /// The first address, whose bits behind the prefix are 0.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The last address, whose bits behind the prefix are 1.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        from_bits(self.address, to_bits(self.address) | behind(self.address, self.prefix))
    }

    /// How many bits the addresses share.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether it is a range of IPv4 addresses.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// Whether it is a range of IPv6 addresses.
    #[must_use]
    pub fn is_ipv6(&self) -> bool {
        self.address.is_ipv6()
    }

    /// The host's own address in the range, which the containers' default route goes through: the second one, and of
    /// two the first. A range of one address has none.
    #[must_use]
    pub fn gateway(&self) -> Option<IpAddr> {
        match width(self.address) - self.prefix {
            0 => None,
            1 => Some(self.address),
            _ => Some(from_bits(self.address, to_bits(self.address) | 1)),
        }
    }

    /// The broadcast address: the last one of an IPv4 range of four addresses or more.
    #[must_use]
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        match self.last() {
            IpAddr::V4(last) if self.prefix <= 30 => Some(last),
            _ => None,
        }
    }

    /// Whether `address` is in the range. One of the other family is not.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4() && Self::around(address, self.prefix) == *self
    }

    /// Whether the two have an address in common: then one is within the other.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        if self.prefix <= other.prefix { self.contains(other.address) } else { other.contains(self.address) }
    }

    /// `address` with this prefix, as an interface in the range has it.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when it is not in the range.
    pub fn at(&self, address: IpAddr) -> Result<IpNet> {
        if !self.contains(address) {
            return Err(Error::invalid("address", format!("it is not in {self}"))
                .on(Subject::Value(address.to_string()))
                .with_hint(format!("addresses of {self} are from {} to {}", self.address, self.last())));
        }
        IpNet::new(address, self.prefix)
    }

    /// Itself, if containers can have its addresses.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when some of its addresses are nobody's: loopback, multicast, link-local,
    /// 0.0.0.0/8, IPv4 in IPv6.
    ///
    /// ```
    /// use vethnet::Subnet;
    ///
    /// let error = "127.0.0.0/8".parse().and_then(Subnet::for_hosts).unwrap_err();
    /// assert_eq!(error.to_string(), r#"subnet "127.0.0.0/8": not for hosts: of 127.0.0.0/8, they are loopback's"#);
    /// ```
    pub fn for_hosts(self) -> Result<Self> {
        for (range, why) in NOT_FOR_HOSTS {
            if range.parse::<Self>()?.overlaps(&self) {
                let why = format!("not for hosts: of {range}, {why}");
                return Err(Error::invalid("subnet", why).on(Subject::Value(self.to_string())));
            }
        }
        Ok(self)
    }

    /// How many containers there are addresses for.
    ///
    /// ```
    /// use vethnet::Subnet;
    ///
    /// let capacity = |text: &str| text.parse().map(|subnet: Subnet| subnet.capacity());
    /// assert_eq!(capacity("10.209.0.0/22")?, 1021);
    /// assert_eq!(capacity("10.209.0.0/31")?, 1);
    /// assert_eq!(capacity("fd00::/64")?, (1 << 64) - 2);
    /// # Ok::<(), vethnet::Error>(())
    /// ```
    #[must_use]
    pub fn capacity(&self) -> u128 {
        let hosts = self.hosts();
        // Not the whole of IPv6: the first two of that are nobody's.
        hosts.end() - hosts.start() + 1
    }

    /// Whether it is one of the addresses for containers.
    pub(crate) fn is_for_container(&self, address: IpAddr) -> bool {
        self.contains(address) && self.hosts().contains(&to_bits(address))
    }

    /// The addresses for containers, as numbers.
    fn hosts(&self) -> RangeInclusive<u128> {
        let (first, last) = (to_bits(self.address), to_bits(self.last()));
        match (width(self.address) - self.prefix, self.is_ipv4()) {
            (0, _) => first..=last,
            (1, _) => last..=last,
            (_, true) => first + 2..=last - 1,
            (_, false) => first + 2..=last,
        }
    }

    /// The addresses for containers, each once: in order from the one after `last`, and around. Without a `last` in the
    /// range, from the first.
    pub(crate) fn hosts_after(&self, last: Option<IpAddr>) -> impl Iterator<Item = IpAddr> + use<> {
        let hosts = self.hosts();
        let (first, end) = (*hosts.start(), *hosts.end());
        let start = match last {
            Some(last) if self.contains(last) && to_bits(last) < end => first.max(to_bits(last) + 1),
            _ => first,
        };
        let family = self.address;
        (start..=end).chain(first..start).map(move |bits| from_bits(family, bits))
    }
}

/// How many bits an address of this family has.
pub(crate) fn width(family: IpAddr) -> u8 {
    if family.is_ipv4() { 32 } else { 128 }
}

/// An address as a number.
pub(crate) fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// A number as an address of the same family as `family`.
fn from_bits(family: IpAddr, bits: u128) -> IpAddr {
    match family {
        IpAddr::V4(_) => Ipv4Addr::from_bits(bits as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(bits).into(),
    }
}

/// The bits behind the prefix.
fn behind(family: IpAddr, prefix: u8) -> u128 {
    let all = if family.is_ipv4() { u128::from(u32::MAX) } else { u128::MAX };
    all.checked_shr(prefix.into()).unwrap_or(0)
}

impl Default for Subnet {
    fn default() -> Self {
        Self { address: Ipv4Addr::new(10, 209, 0, 0).into(), prefix: 22 }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match split(text) {
            Some((address, prefix)) => Self::new(address, prefix),
            None => Err(Error::invalid("subnet", "write it as ADDRESS/PREFIX, such as 10.209.0.0/22 or fd00:209::/64")
                .on(Subject::Value(text.to_owned()))),
        }
    }
}

impl TryFrom<String> for Subnet {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

#[cfg(test)]
mod tests;
