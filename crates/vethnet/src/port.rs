//! Ports of the host that lead into a container.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use cellkit_core::{Error, Result, Subject};
use serde::{Deserialize, Serialize};

/// The transport protocol of a published port: a number of the IP header, protocols(5).
///
/// See protocols(5): <https://man7.org/linux/man-pages/man5/protocols.5.html>.
///
/// ```
/// use vethnet::Protocol;
///
/// assert_eq!("sctp".parse::<Protocol>()?.number(), 132);
/// # Ok::<(), vethnet::Error>(())
/// ```
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
    /// SCTP, see sctp(7). The kernel needs `CONFIG_NF_CT_PROTO_SCTP` to lead it on, and the container sockets of it.
    #[doc(alias = "IPPROTO_SCTP")]
    Sctp,
}

impl Protocol {
    /// The protocol's number in an IP header.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(Error::invalid("protocol", "it has to be tcp, udp or sctp").on(Subject::Value(text.to_owned()))),
        }
    }
}

/// Ports of the host whose traffic is led to ports of a container: `[IP:]HOST:CONTAINER[/tcp|udp|sctp]`.
///
/// * `HOST` and `CONTAINER` are a port, or as long a range each: `8000-8010:8000-8010`, `9000-9010:80-90`. The first
///   leads to the first. A range takes as much room in the kernel as its ports one by one.
/// * Without an IP it is those ports on every address of the host, of both families; with `0.0.0.0` on every IPv4
///   address, with `[::]` on every IPv6 address. An IPv6 address stands in brackets.
/// * Where one container has a port on every address and another has the same on one address, that one goes first
///   there.
/// * Port 0 is none.
///
/// See nft(8), "NAT statements": <https://man7.org/linux/man-pages/man8/nft.8.html>.
///
/// ```
/// use vethnet::{Protocol, PublishedPort};
///
/// let port: PublishedPort = "8080:80".parse()?;
/// assert_eq!((port.host_ports(), port.container_ports(), port.protocol()), (8080..=8080, 80..=80, Protocol::Tcp));
/// let port: PublishedPort = "[2001:db8::1]:53:5353/udp".parse()?;
/// assert_eq!(port.to_string(), "[2001:db8::1]:53:5353/udp");
/// let port: PublishedPort = "8000-8010:9000-9010".parse()?;
/// assert_eq!(port.len(), 11);
/// let error = "0:80".parse::<PublishedPort>().unwrap_err();
/// assert_eq!(error.to_string(), r#"published port "0:80": the host's port has to be from 1 to 65535"#);
/// # Ok::<(), vethnet::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublishedPort {
    host_address: Option<IpAddr>,
    host_port: u16,
    container_port: u16,
    /// How many ports follow the first: both ranges end at 65535 at most.
    more: u16,
    protocol: Protocol,
}

impl PublishedPort {
    /// That port on every address of the host.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for port 0.
    pub fn new(host_port: u16, container_port: u16, protocol: Protocol) -> Result<Self> {
        Self::range(host_port..=host_port, container_port..=container_port, protocol)
    }

    /// Those ports on every address of the host, the first to the first.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for port 0, an empty range, and ranges that differ in length.
    pub fn range(
        host_ports: RangeInclusive<u16>,
        container_ports: RangeInclusive<u16>,
        protocol: Protocol,
    ) -> Result<Self> {
        checked(None, host_ports.clone(), container_ports.clone(), protocol).map_err(|why| {
            let text = format!("{}:{}/{protocol}", Ports(&host_ports), Ports(&container_ports));
            Error::invalid("published port", why).on(Subject::Value(text))
        })
    }

    /// The same, on this address of the host only. `0.0.0.0` is every IPv4 address, `::` every IPv6 address.
    #[must_use]
    pub fn at(mut self, host_address: impl Into<IpAddr>) -> Self {
        self.host_address = Some(host_address.into().to_canonical());
        self
    }

    /// The one address of the host, `0.0.0.0` or `::` for all of one family, or `None` for all.
    #[must_use]
    pub fn host_address(&self) -> Option<IpAddr> {
        self.host_address
    }

    /// The ports on the host.
    #[must_use]
    pub fn host_ports(&self) -> RangeInclusive<u16> {
        self.host_port..=self.host_port.saturating_add(self.more)
    }

    /// The ports in the container.
    #[must_use]
    pub fn container_ports(&self) -> RangeInclusive<u16> {
        self.container_port..=self.container_port.saturating_add(self.more)
    }

    /// How many ports it is.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is at least one")]
    pub fn len(&self) -> usize {
        usize::from(self.more) + 1
    }

    /// The protocol.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The host's addresses it is published at for a container with these addresses, each with the container's address
    /// that it leads to. An unspecified address is every address of its family.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) when the container has no address of the family, and for `::1`.
    pub(crate) fn targets(&self, addresses: &[IpAddr]) -> Result<Vec<(IpAddr, IpAddr)>> {
        let fail = |why: &'static str| Err(Error::invalid("published port", why).on(Subject::Value(self.to_string())));
        let targets: Vec<_> = match self.host_address {
            Some(host) => addresses.iter().filter(|to| to.is_ipv4() == host.is_ipv4()).map(|to| (host, *to)).collect(),
            None => addresses.iter().map(|to| (every(*to), *to)).collect(),
        };
        match (self.host_address, targets.is_empty()) {
            (Some(host), _) if host.is_multicast() || host == IpAddr::V4(Ipv4Addr::BROADCAST) => {
                fail("what is sent to many is not led to one: publish it on an address of this machine")
            }
            (Some(IpAddr::V6(Ipv6Addr::LOCALHOST)), _) => {
                fail("the kernel leads nothing away from ::1: publish it on 127.0.0.1 or another address")
            }
            (Some(IpAddr::V4(_)), true) => fail("the container has no IPv4 address that it could lead to"),
            (Some(IpAddr::V6(_)), true) => fail("the container has no IPv6 address that it could lead to"),
            (None, true) => fail("the container has no address that it could lead to"),
            (_, false) => Ok(targets),
        }
    }

    /// Whether both would take the same packets.
    pub(crate) fn collides(&self, other: &Self) -> bool {
        let addresses = match (self.host_address, other.host_address) {
            (Some(one), Some(two)) => {
                one == two || (one.is_ipv4() == two.is_ipv4() && (one.is_unspecified() || two.is_unspecified()))
            }
            _ => true,
        };
        let (one, two) = (self.host_ports(), other.host_ports());
        addresses && self.protocol == other.protocol && one.start() <= two.end() && two.start() <= one.end()
    }
}

/// The address that stands for all of the family.
fn every(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn checked(
    host_address: Option<IpAddr>,
    host: RangeInclusive<u16>,
    container: RangeInclusive<u16>,
    protocol: Protocol,
) -> std::result::Result<PublishedPort, &'static str> {
    if *host.start() == 0 {
        return Err("the host's port has to be from 1 to 65535");
    }
    if *container.start() == 0 {
        return Err("the container's port has to be from 1 to 65535");
    }
    if host.is_empty() || container.is_empty() {
        return Err("the range ends before it begins");
    }
    let more = host.end() - host.start();
    if more != container.end() - container.start() {
        return Err("the ranges of the host's and the container's ports have to be of the same length");
    }
    let (host_port, container_port) = (*host.start(), *container.start());
    Ok(PublishedPort { host_address, host_port, container_port, more, protocol })
}

/// A range as it is written: a single port as that.
struct Ports<'a>(&'a RangeInclusive<u16>);

impl fmt::Display for Ports<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.start(), self.0.end()) {
            (first, last) if first == last => write!(f, "{first}"),
            (first, last) => write!(f, "{first}-{last}"),
        }
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_address {
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            None => {}
        }
        write!(f, "{}:{}/{}", Ports(&self.host_ports()), Ports(&self.container_ports()), self.protocol)
    }
}

impl FromStr for PublishedPort {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text).map_err(|why| Error::invalid("published port", why).on(Subject::Value(text.to_owned())))
    }
}

fn parse(text: &str) -> std::result::Result<PublishedPort, &'static str> {
    const FORM: &str = "write it as [IP:]HOST:CONTAINER[/tcp|udp|sctp], such as 8080:80, 8000-8010:8000-8010 or [2001:db8::1]:53:53/udp";
    let (ports, protocol) = match text.split_once('/') {
        Some((ports, protocol)) => (ports, protocol.parse().map_err(|_| "the protocol has to be tcp, udp or sctp")?),
        None => (text, Protocol::Tcp),
    };
    let (rest, container) = ports.rsplit_once(':').ok_or(FORM)?;
    let (address, host) = match rest.rsplit_once(':') {
        Some((address, host)) => (Some(address), host),
        None => (None, rest),
    };
    if host.is_empty() || container.is_empty() {
        return Err(FORM);
    }
    let address = address.map(host_address).transpose()?;
    let host = numbers(host).ok_or("the host's port has to be from 1 to 65535")?;
    let container = numbers(container).ok_or("the container's port has to be from 1 to 65535")?;
    checked(address, host, container, protocol)
}

fn host_address(text: &str) -> std::result::Result<IpAddr, &'static str> {
    const WHY: &str = "the host's address has to be an IP address of this machine, IPv6 in brackets";
    let address = match text.strip_prefix('[') {
        Some(rest) => {
            rest.strip_suffix(']').and_then(|inside| inside.parse::<Ipv6Addr>().ok()).map(|v6| v6.to_canonical())
        }
        None => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
    };
    address.ok_or(WHY)
}

fn numbers(text: &str) -> Option<RangeInclusive<u16>> {
    match text.split_once('-') {
        Some((first, last)) => Some(number(first)?..=number(last)?),
        None => number(text).map(|port| port..=port),
    }
}

/// Digits only: `u16::from_str` would take "+80".
fn number(text: &str) -> Option<u16> {
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

    fn port(text: &str) -> PublishedPort {
        text.parse().expect(text)
    }

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
            ("80:80/icmp", "tcp, udp or sctp"),
            ("80:80/", "tcp, udp or sctp"),
            ("1.2.3:80:80", "IP address"),
            ("::1:80:80", "in brackets"),
            ("[::1:80:80", "in brackets"),
            ("[1.2.3.4]:80:80", "in brackets"),
            ("[fe80::1%eth0]:80:80", "in brackets"),
            ("80:80:80", "IP address"),
            ("80: 80", "container's port"),
            ("80:80\0", "container's port"),
            ("80-90:80", "same length"),
            ("80:80-90", "same length"),
            ("80-90:80-91", "same length"),
            ("90-80:90-80", "ends before it begins"),
            ("0-9:0-9", "host's port"),
            ("1-9:0-8", "container's port"),
            ("80-:80-", "host's port"),
            ("80-90-95:80-90-95", "host's port"),
            ("65530-65536:1-7", "host's port"),
        ] {
            let error = text.parse::<PublishedPort>().expect_err(text);
            assert!(error.to_string().contains(why), "{error}");
            assert_eq!(error.to_string().lines().count(), 1);
        }
        let error = PublishedPort::range(1..=2, 1..=3, Protocol::Udp).unwrap_err();
        assert!(error.to_string().starts_with(r#"published port "1-2:1-3/udp": "#), "{error}");
        #[expect(clippy::reversed_empty_ranges, reason = "it is what is refused")]
        PublishedPort::range(2..=1, 2..=1, Protocol::Udp).unwrap_err();
    }

    #[test]
    fn what_is_written_and_what_it_means() {
        for (text, written) in [
            ("8080:80", "8080:80/tcp"),
            ("127.0.0.1:8080:80", "127.0.0.1:8080:80/tcp"),
            ("[::1]:8080:80/tcp", "[::1]:8080:80/tcp"),
            ("[::]:8080:80/sctp", "[::]:8080:80/sctp"),
            ("0.0.0.0:8080:80", "0.0.0.0:8080:80/tcp"),
            ("[::ffff:192.0.2.1]:53:53/udp", "192.0.2.1:53:53/udp"),
            ("8000-8010:9000-9010", "8000-8010:9000-9010/tcp"),
            ("80-80:81-81", "80:81/tcp"),
            ("1-65535:1-65535/udp", "1-65535:1-65535/udp"),
        ] {
            assert_eq!(port(text).to_string(), written);
        }
    }

    #[test]
    fn collisions() {
        for (a, b, collide) in [
            ("80:80", "80:81", true),
            ("80:80", "80:80/udp", false),
            ("1.2.3.4:80:80", "80:80", true),
            ("1.2.3.4:80:80", "1.2.3.5:80:80", false),
            ("0.0.0.0:80:80", "1.2.3.5:80:80", true),
            ("0.0.0.0:80:80", "[::]:80:80", false),
            ("0.0.0.0:80:80", "[fd00::1]:80:80", false),
            ("[::]:80:80", "[fd00::1]:80:80", true),
            ("[::]:80:80", "80:80", true),
            ("80-90:80-90", "90-99:90-99", true),
            ("80-90:80-90", "85:1", true),
            ("80-90:80-90", "91-99:91-99", false),
        ] {
            assert_eq!(port(a).collides(&port(b)), collide, "{a} {b}");
            assert_eq!(port(b).collides(&port(a)), collide, "{b} {a}");
        }
    }

    #[test]
    fn where_a_container_is_published() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let (four, six) = (ip("10.0.0.2"), ip("fd00::2"));
        let (all_four, all_six) = (ip("0.0.0.0"), ip("::"));
        for (text, addresses, targets) in [
            ("1:1", &[four, six][..], Some(vec![(all_four, four), (all_six, six)])),
            ("1:1", &[six], Some(vec![(all_six, six)])),
            ("0.0.0.0:1:1", &[four, six], Some(vec![(all_four, four)])),
            ("[fd00::9]:1:1", &[four, six], Some(vec![(ip("fd00::9"), six)])),
            ("[fd00::9]:1:1", &[four], None),
            ("0.0.0.0:1:1", &[six], None),
            ("[::1]:1:1", &[four, six], None),
            ("1:1", &[], None),
        ] {
            assert_eq!(port(text).targets(addresses).ok(), targets, "{text} {addresses:?}");
        }
    }

    proptest! {
        #[test]
        fn text_and_value(address: Option<IpAddr>, host in 1u16.., container in 1u16.., more: u16, udp: bool) {
            let protocol = if udp { Protocol::Udp } else { Protocol::Sctp };
            let more = more.min(u16::MAX - host).min(u16::MAX - container);
            let mut port = PublishedPort::range(host..=host + more, container..=container + more, protocol).unwrap();
            if let Some(address) = address {
                port = port.at(address);
            }
            prop_assert_eq!(port.to_string().parse::<PublishedPort>().unwrap(), port);
            prop_assert_eq!(port.len(), port.host_ports().count());
            prop_assert_eq!(port.len(), port.container_ports().count());
            prop_assert!(port.collides(&port));
        }

        #[test]
        fn any_text_is_taken_without_panic(text in "[0-9.:\\[\\]/a-z\\-]{0,30}") {
            let _ = text.parse::<PublishedPort>();
        }
    }
}
