//! Ports of the host that lead into a container.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::str::FromStr;

use cellkit_core::{Error, Result, Subject};
use serde::{Deserialize, Serialize};

/// The transport protocol of a published port: `NFPROTO`'s `inet_proto`, ip(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Protocol {
    /// TCP, see tcp(7).
    #[doc(alias = "IPPROTO_TCP")]
    #[default]
    Tcp,
    /// UDP, see udp(7).
    #[doc(alias = "IPPROTO_UDP")]
    Udp,
}

impl Protocol {
    /// The protocol's number in an IP header.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => Err(Error::invalid("protocol", "it has to be tcp or udp").on(Subject::Value(text.to_owned()))),
        }
    }
}

/// A port of the host whose traffic is led to a port of the container: `[IP:]HOST:CONTAINER[/tcp|udp]`.
///
/// Without an IP it is that port on every address of the host but 127.0.0.0/8.
///
/// ```
/// use vethnet::{Protocol, PublishedPort};
///
/// let port: PublishedPort = "8080:80".parse()?;
/// assert_eq!((port.host_port(), port.container_port(), port.protocol()), (8080, 80, Protocol::Tcp));
/// let port: PublishedPort = "192.0.2.1:53:5353/udp".parse()?;
/// assert_eq!(port.to_string(), "192.0.2.1:53:5353/udp");
/// let error = "0:80".parse::<PublishedPort>().unwrap_err();
/// assert_eq!(error.to_string(), r#"published port "0:80": the host's port has to be from 1 to 65535"#);
/// # Ok::<(), vethnet::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublishedPort {
    host_address: Option<Ipv4Addr>,
    host_port: NonZeroU16,
    container_port: NonZeroU16,
    protocol: Protocol,
}

impl PublishedPort {
    /// That port on every address of the host.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for port 0.
    pub fn new(host_port: u16, container_port: u16, protocol: Protocol) -> Result<Self> {
        let fail = |which: &str| {
            Error::invalid("published port", format!("the {which} port has to be from 1 to 65535"))
                .on(Subject::Value(format!("{host_port}:{container_port}/{protocol}")))
        };
        Ok(Self {
            host_address: None,
            host_port: NonZeroU16::new(host_port).ok_or_else(|| fail("host's"))?,
            container_port: NonZeroU16::new(container_port).ok_or_else(|| fail("container's"))?,
            protocol,
        })
    }

    /// The same, on this address of the host only. 0.0.0.0 is every address.
    #[must_use]
    pub fn at(mut self, host_address: Ipv4Addr) -> Self {
        self.host_address = (!host_address.is_unspecified()).then_some(host_address);
        self
    }

    /// The one address of the host, or `None` for all.
    #[must_use]
    pub fn host_address(&self) -> Option<Ipv4Addr> {
        self.host_address
    }

    /// The port on the host.
    #[must_use]
    pub fn host_port(&self) -> u16 {
        self.host_port.get()
    }

    /// The port in the container.
    #[must_use]
    pub fn container_port(&self) -> u16 {
        self.container_port.get()
    }

    /// The protocol.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether both would take the same packets.
    pub(crate) fn collides(&self, other: &Self) -> bool {
        let everywhere = self.host_address.is_none() || other.host_address.is_none();
        (self.protocol, self.host_port) == (other.protocol, other.host_port)
            && (everywhere || self.host_address == other.host_address)
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.host_address {
            write!(f, "{address}:")?;
        }
        write!(f, "{}:{}/{}", self.host_port, self.container_port, self.protocol)
    }
}

impl FromStr for PublishedPort {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text).map_err(|why| Error::invalid("published port", why).on(Subject::Value(text.to_owned())))
    }
}

fn parse(text: &str) -> std::result::Result<PublishedPort, &'static str> {
    let (ports, protocol) = match text.split_once('/') {
        Some((ports, protocol)) => (ports, protocol.parse().map_err(|_| "the protocol has to be tcp or udp")?),
        None => (text, Protocol::Tcp),
    };
    const FORM: &str = "write it as [IP:]HOST:CONTAINER[/tcp|udp], such as 8080:80";
    let (rest, container) = ports.rsplit_once(':').ok_or(FORM)?;
    let (address, host) = match rest.rsplit_once(':') {
        Some((address, host)) => (Some(address), host),
        None => (None, rest),
    };
    if host.is_empty() || container.is_empty() {
        return Err(FORM);
    }
    let published = PublishedPort {
        host_address: None,
        host_port: number(host).ok_or("the host's port has to be from 1 to 65535")?,
        container_port: number(container).ok_or("the container's port has to be from 1 to 65535")?,
        protocol,
    };
    match address {
        Some(address) => Ok(published
            .at(address.parse().map_err(|_| "the host's address has to be an IPv4 address of this machine")?)),
        None => Ok(published),
    }
}

/// Digits only: `u16::from_str` would take "+80".
fn number(text: &str) -> Option<NonZeroU16> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

impl TryFrom<String> for PublishedPort {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<PublishedPort> for String {
    fn from(port: PublishedPort) -> Self {
        port.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_refused_and_why() {
        for (text, why) in [
            ("", "write it as"),
            ("80", "write it as"),
            (":80", "write it as"),
            ("80:", "write it as"),
            ("0:80", "host's port"),
            ("80:0", "container's port"),
            ("65536:80", "host's port"),
            ("80:99999999999999999999", "container's port"),
            ("-1:80", "host's port"),
            ("+80:80", "host's port"),
            ("80:80/sctp", "tcp or udp"),
            ("80:80/", "tcp or udp"),
            ("1.2.3:80:80", "IPv4"),
            ("::1:80:80", "IPv4"),
            ("80:80:80", "IPv4"),
            ("80: 80", "container's port"),
            ("80:80\0", "container's port"),
        ] {
            let error = text.parse::<PublishedPort>().expect_err(text);
            assert!(error.to_string().contains(why), "{error}");
            assert_eq!(error.to_string().lines().count(), 1);
        }
    }

    #[test]
    fn collisions() {
        let port = |text: &str| text.parse::<PublishedPort>().unwrap();
        for (a, b, collide) in [
            ("80:80", "80:81", true),
            ("80:80", "80:80/udp", false),
            ("1.2.3.4:80:80", "80:80", true),
            ("1.2.3.4:80:80", "1.2.3.5:80:80", false),
            ("0.0.0.0:80:80", "1.2.3.5:80:80", true),
        ] {
            assert_eq!(port(a).collides(&port(b)), collide, "{a} {b}");
            assert_eq!(port(b).collides(&port(a)), collide, "{b} {a}");
        }
    }

    proptest! {
        #[test]
        fn text_and_value(address: Option<u32>, host in 1u16.., container in 1u16.., udp: bool) {
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            let mut port = PublishedPort::new(host, container, protocol).unwrap();
            if let Some(bits) = address {
                port = port.at(Ipv4Addr::from_bits(bits));
            }
            prop_assert_eq!(port.to_string().parse::<PublishedPort>().unwrap(), port);
        }

        #[test]
        fn any_text_is_taken_without_panic(text in "[0-9.:/a-z\\-]{0,30}") {
            let _ = text.parse::<PublishedPort>();
        }
    }
}
