//! An address as an interface has it.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use cellkit_core::{Error, Result, Subject};
use serde::{Deserialize, Serialize};

use crate::subnet::{Subnet, width};

/// An address with the length of its network's prefix, `10.1.0.2/24` or `fd00::2/64`: as an interface has it.
///
/// The prefix is what the kernel makes the route to the neighbours from. Of a range without addresses of its own, see
/// [`Subnet`].
///
/// * C: `struct ifaddrmsg` with `IFA_LOCAL`, of RTM_NEWADDR in rtnetlink(7):
///   <https://man7.org/linux/man-pages/man7/rtnetlink.7.html>.
///
/// ```
/// use vethnet::IpNet;
///
/// let address: IpNet = "10.1.0.2/24".parse()?;
/// assert_eq!(address.subnet().to_string(), "10.1.0.0/24");
/// assert_eq!(address.broadcast(), Some([10, 1, 0, 255].into()));
/// let error = "10.1.0.2".parse::<IpNet>().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     r#"address "10.1.0.2": write it as ADDRESS/PREFIX, such as 10.1.0.2/24 or fd00::2/64"#
/// );
/// # Ok::<(), vethnet::Error>(())
/// ```
#[doc(alias = "ifaddrmsg")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IpNet {
    address: IpAddr,
    prefix: u8,
}

impl IpNet {
    /// Checks the two.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for a prefix over 32 (IPv6: 128), and for an address that no interface can
    /// have: 0.0.0.0, `::`, multicast, 255.255.255.255.
    pub fn new(address: impl Into<IpAddr>, prefix: u8) -> Result<Self> {
        let address = address.into();
        let why = if prefix > width(address) {
            format!("the prefix has to be from 0 to {}", width(address))
        } else if address.is_unspecified() {
            "it means no address".into()
        } else if address.is_multicast() {
            "it is for multicast: no interface has it as its own".into()
        } else if address == Ipv4Addr::BROADCAST {
            "it is for broadcast: no interface has it as its own".into()
        } else {
            return Ok(Self { address, prefix });
        };
        Err(Error::invalid("address", why).on(Subject::Value(format!("{address}/{prefix}"))))
    }

    /// What the kernel says an interface has: it allows what [`new`](IpNet::new) refuses.
    pub(crate) fn as_read(address: IpAddr, prefix: u8) -> Self {
        Self { address, prefix: prefix.min(width(address)) }
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits it shares with its neighbours.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The range of it and its neighbours.
    #[must_use]
    pub fn subnet(&self) -> Subnet {
        Subnet::around(self.address, self.prefix)
    }

    /// The broadcast address of the range, if it has one: IPv4, to /30.
    #[must_use]
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        self.subnet().broadcast()
    }

    /// Whether it is an IPv4 address.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// Whether it is an IPv6 address.
    #[must_use]
    pub fn is_ipv6(&self) -> bool {
        self.address.is_ipv6()
    }
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for IpNet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match split(text) {
            Some((address, prefix)) => Self::new(address, prefix),
            None => Err(Error::invalid("address", "write it as ADDRESS/PREFIX, such as 10.1.0.2/24 or fd00::2/64")
                .on(Subject::Value(text.to_owned()))),
        }
    }
}

impl TryFrom<String> for IpNet {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<IpNet> for String {
    fn from(address: IpNet) -> Self {
        address.to_string()
    }
}

/// The two parts of `ADDRESS/PREFIX`. The prefix is `24`, but not `+24` or `024`.
pub(crate) fn split(text: &str) -> Option<(IpAddr, u8)> {
    let (address, digits) = text.split_once('/')?;
    let prefix: u8 = digits.parse().ok()?;
    (prefix.to_string() == digits).then_some((address.parse().ok()?, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_refused() {
        for text in [
            "",
            "10.1.0.2",
            "10.1.0.2/",
            "10.1.0.2/33",
            "10.1.0.2/+24",
            "10.1.0.2/024",
            "10.1.0/24",
            "010.1.0.2/24",
            "0.0.0.0/24",
            "224.0.0.1/4",
            "255.255.255.255/8",
            "::/64",
            "ff02::1/64",
            "fd00::2/129",
            "fe80::1%eth0/64",
        ] {
            let error = text.parse::<IpNet>().expect_err(text);
            assert_eq!(error.kind(), crate::ErrorKind::Invalid);
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
        for text in ["10.1.0.2/24", "10.1.0.0/31", "127.0.0.1/8", "10.1.0.2/0", "fe80::1/64", "fd00::/127"] {
            assert_eq!(text.parse::<IpNet>().expect(text).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn text_and_value(v4: u32, v6: u128, prefix in 0u8..=32) {
            for address in [IpAddr::V4(Ipv4Addr::from_bits(v4)), IpAddr::V6(v6.into())] {
                if let Ok(net) = IpNet::new(address, prefix) {
                    prop_assert_eq!(net.to_string().parse::<IpNet>().unwrap(), net);
                    prop_assert!(net.subnet().contains(address));
                    prop_assert_eq!(net.subnet().at(address).unwrap(), net);
                    prop_assert_eq!(net.subnet().prefix(), prefix);
                }
            }
        }

        #[test]
        fn any_text_is_taken_without_panic(text in ".{0,60}") {
            let _ = text.parse::<IpNet>();
        }
    }
}
