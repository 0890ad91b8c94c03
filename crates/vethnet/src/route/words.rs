//! The words of routes: kinds, tables, scopes, protocols, preferences.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;

use cellkit_core::{Error, Result, Subject};

/// What a route does with a packet (`rtm_type`).
///
/// See ip-route(8): <https://man7.org/linux/man-pages/man8/ip-route.8.html>.
///
/// ```
/// use vethnet::{Route, RouteKind};
///
/// assert_eq!(Route::blackhole("10.3.0.0/16".parse()?).kind, RouteKind::Blackhole);
/// # Ok::<(), vethnet::Error>(())
/// ```
#[doc(alias = "RTN_UNICAST")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RouteKind {
    /// Sent on.
    Unicast,
    /// The machine's own.
    Local,
    /// Sent to all on the link.
    Broadcast,
    /// Received as broadcast, sent as unicast.
    Anycast,
    /// Sent to a group.
    Multicast,
    /// Dropped in silence.
    Blackhole,
    /// Dropped, and answered with "host unreachable".
    Unreachable,
    /// Dropped, and answered with "administratively prohibited".
    Prohibit,
    /// Looked for in the table of the next rule.
    Throw,
    /// Another one, by its number.
    Other(u8),
}

impl RouteKind {
    const NAMES: [(Self, u8, &'static str); 9] = [
        (Self::Unicast, 1, "unicast"),
        (Self::Local, 2, "local"),
        (Self::Broadcast, 3, "broadcast"),
        (Self::Anycast, 4, "anycast"),
        (Self::Multicast, 5, "multicast"),
        (Self::Blackhole, 6, "blackhole"),
        (Self::Unreachable, 7, "unreachable"),
        (Self::Prohibit, 8, "prohibit"),
        (Self::Throw, 9, "throw"),
    ];

    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Other(number) => number,
            _ => Self::NAMES.iter().find(|(kind, ..)| *kind == self).map_or(0, |(_, number, _)| *number),
        }
    }

    pub(crate) fn of_number(number: u8) -> Self {
        Self::NAMES.iter().find(|(_, known, _)| *known == number).map_or(Self::Other(number), |(kind, ..)| *kind)
    }

    /// Whether a packet goes no further by it.
    pub(crate) const fn ends_here(self) -> bool {
        matches!(self, Self::Blackhole | Self::Unreachable | Self::Prohibit | Self::Throw)
    }
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(kind, ..)| kind == self) {
            Some((.., name)) => f.write_str(name),
            None => write!(f, "kind {}", self.number()),
        }
    }
}

/// A table of routes, by its number from 1.
///
/// See ip-route(8), `table`: <https://man7.org/linux/man-pages/man8/ip-route.8.html>.
///
/// ```
/// use vethnet::RouteTable;
///
/// assert_eq!(RouteTable::new(100)?.to_string(), "100");
/// assert_eq!(RouteTable::MAIN.to_string(), "main");
/// assert!(RouteTable::new(0).is_err());
/// # Ok::<(), vethnet::Error>(())
/// ```
#[doc(alias = "RTA_TABLE")]
#[doc(alias = "RT_TABLE_MAIN")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteTable(NonZeroU32);

impl RouteTable {
    /// That of the machine's own and of broadcast addresses, which the kernel keeps and looks at first.
    pub const LOCAL: Self = Self(NonZeroU32::MIN.saturating_add(254));
    /// That of all other routes, unless they say otherwise.
    pub const MAIN: Self = Self(NonZeroU32::MIN.saturating_add(253));
    /// An empty one that is looked at last, of IPv4.
    pub const DEFAULT: Self = Self(NonZeroU32::MIN.saturating_add(252));

    /// The table with this number.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for 0, with which the kernel means none in particular.
    pub fn new(number: u32) -> Result<Self> {
        Self::of_number(number).ok_or_else(|| {
            Error::invalid("route table", "tables are numbered from 1").on(Subject::Value(number.to_string()))
        })
    }

    pub(crate) fn of_number(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::LOCAL => f.write_str("local"),
            Self::MAIN => f.write_str("main"),
            Self::DEFAULT => f.write_str("default"),
            Self(number) => number.fmt(f),
        }
    }
}

/// How far an address is known, or a destination away: the larger the number, the nearer.
///
/// See ip-address(8), `scope`: <https://man7.org/linux/man-pages/man8/ip-address.8.html>.
///
/// ```
/// use vethnet::{Address, Scope};
///
/// assert_eq!(Address::new("127.0.0.2/8".parse()?).scope, Scope::HOST);
/// assert_eq!(Address::new("fe80::1/64".parse()?).scope, Scope::LINK);
/// assert_eq!(Scope::GLOBAL.to_string(), "global");
/// # Ok::<(), vethnet::Error>(())
/// ```
#[doc(alias = "RT_SCOPE_UNIVERSE")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(u8);

impl Scope {
    /// Everywhere.
    pub const GLOBAL: Self = Self(0);
    /// Within a site, of IPv6; deprecated.
    pub const SITE: Self = Self(200);
    /// On the link.
    pub const LINK: Self = Self(253);
    /// Within the machine.
    pub const HOST: Self = Self(254);
    /// Nowhere.
    pub const NOWHERE: Self = Self(255);

    /// The scope with this number: the kernel allows any.
    #[must_use]
    pub const fn of_number(number: u8) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// What ip(8), and for IPv6 the kernel, take for that of an address.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address {
            _ if address.is_loopback() => Self::HOST,
            IpAddr::V6(address) => match address.segments() {
                [first, ..] if first & 0xffc0 == 0xfe80 => Self::LINK,
                [first, ..] if first & 0xffc0 == 0xfec0 => Self::SITE,
                _ => Self::GLOBAL,
            },
            IpAddr::V4(_) => Self::GLOBAL,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::GLOBAL => "global",
            Self::SITE => "site",
            Self::LINK => "link",
            Self::HOST => "host",
            Self::NOWHERE => "nowhere",
            Self(number) => return number.fmt(f),
        })
    }
}

/// Who made a route or a rule. The kernel gives it no meaning: programs find their own ones by it.
///
/// This crate marks what it makes with 107, which nobody else is known to use (`/etc/iproute2/rt_protos`,
/// `linux/rtnetlink.h`); `ip route` shows it as `proto 107`, and `ip route flush proto 107` removes all of it.
///
/// See ip-route(8), `protocol`: <https://man7.org/linux/man-pages/man8/ip-route.8.html>.
///
/// ```
/// use vethnet::RouteProtocol;
///
/// assert_eq!(RouteProtocol::VETHNET.number(), 107);
/// assert_eq!(RouteProtocol::of_number(4), RouteProtocol::STATIC);
/// ```
#[doc(alias = "RTPROT_STATIC")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteProtocol(u8);

impl RouteProtocol {
    /// It was not said.
    pub const UNSPEC: Self = Self(0);
    /// An ICMP redirect.
    pub const REDIRECT: Self = Self(1);
    /// The kernel itself, with an address or an interface.
    pub const KERNEL: Self = Self(2);
    /// `ip route` without a word about it.
    pub const BOOT: Self = Self(3);
    /// An administrator.
    pub const STATIC: Self = Self(4);
    /// A router advertisement.
    pub const RA: Self = Self(9);
    /// A DHCP client.
    pub const DHCP: Self = Self(16);
    /// This crate.
    pub const VETHNET: Self = Self(107);

    /// The protocol with this number.
    #[must_use]
    pub const fn of_number(number: u8) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for RouteProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::REDIRECT => "redirect",
            Self::KERNEL => "kernel",
            Self::BOOT => "boot",
            Self::STATIC => "static",
            Self::RA => "ra",
            Self::DHCP => "dhcp",
            Self(number) => return number.fmt(f),
        })
    }
}

/// Which of several routers of IPv6 is chosen (RFC 4191).
///
/// See ip-route(8), `pref`: <https://man7.org/linux/man-pages/man8/ip-route.8.html>.
///
/// ```
/// use vethnet::RoutePreference;
///
/// assert_eq!(RoutePreference::default(), RoutePreference::Medium);
/// ```
#[doc(alias = "RTA_PREF")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RoutePreference {
    /// Only when there is no other.
    Low,
    /// As most.
    #[default]
    Medium,
    /// Before all others.
    High,
}

impl RoutePreference {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Medium => 0,
            Self::High => 1,
            Self::Low => 3,
        }
    }

    pub(crate) const fn of_number(number: u8) -> Self {
        match number {
            1 => Self::High,
            3 => Self::Low,
            _ => Self::Medium,
        }
    }
}
