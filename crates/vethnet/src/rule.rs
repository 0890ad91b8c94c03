//! Rules: which table is looked at for which packet.
#![forbid(unsafe_code)]

pub(crate) mod message;
mod verbs;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use cellkit_core::{Error, Result, Subject};

use crate::name::IfName;
use crate::route::{RouteProtocol, RouteTable};
use crate::subnet::Subnet;

/// What a rule does with a packet that it is for.
///
/// See ip-rule(8): <https://man7.org/linux/man-pages/man8/ip-rule.8.html>.
///
/// ```
/// use vethnet::{RouteTable, Rule, RuleAction};
///
/// assert_eq!(Rule::ipv4().lookup(RouteTable::MAIN).action, RuleAction::Lookup(RouteTable::MAIN));
/// ```
#[doc(alias = "FR_ACT_TO_TBL")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuleAction {
    /// Look for a route in this table, and go on with the next rule when it has none.
    Lookup(RouteTable),
    /// Look in the table of the device that an interface belongs to (VRF).
    #[doc(alias = "FRA_L3MDEV")]
    LookupL3mdev,
    /// Go on with the first rule that has this priority or a higher number.
    Goto(u32),
    /// Go on with the next rule.
    Nop,
    /// Drop it in silence.
    Blackhole,
    /// Drop it, and answer "network unreachable".
    Unreachable,
    /// Drop it, and answer "administratively prohibited".
    Prohibit,
    /// Another one, by its number.
    Other(u8),
}

impl fmt::Display for RuleAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lookup(table) => write!(f, "lookup {table}"),
            Self::LookupL3mdev => f.write_str("lookup l3mdev"),
            Self::Goto(priority) => write!(f, "goto {priority}"),
            Self::Nop => f.write_str("nop"),
            Self::Blackhole => f.write_str("blackhole"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Prohibit => f.write_str("prohibit"),
            Self::Other(number) => write!(f, "action {number}"),
        }
    }
}

/// A rule of the routing policy: what is to be, and what is read.
///
/// Rules are asked in the order of their priorities, the lowest first. The kernel's own are 0 (table local), 32766 (main)
/// and 32767 (default). IPv4 and IPv6 have lists of their own.
///
/// The fields are what is read; the methods of the same names set them.
///
/// * C call: RTM_NEWRULE with `struct fib_rule_hdr`; see rtnetlink(7),
///   <https://man7.org/linux/man-pages/man7/rtnetlink.7.html>, and ip-rule(8).
///
/// ```
/// use vethnet::{RouteTable, Rule};
///
/// let rule = Rule::ipv4().from("10.1.0.0/24".parse()?).lookup(RouteTable::new(100)?).priority(1000);
/// assert_eq!(rule.to_string(), "1000: from 10.1.0.0/24 lookup 100");
/// # Ok::<(), vethnet::Error>(())
/// ```
#[doc(alias = "fib_rule_hdr")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Rule {
    is_ipv4: bool,
    /// Its place. `None` in what is made: before the rules that are there, but for the kernel's first.
    #[doc(alias = "FRA_PRIORITY")]
    pub priority: Option<u32>,
    /// For packets from these addresses.
    #[doc(alias = "FRA_SRC")]
    pub from: Option<Subnet>,
    /// For packets to these addresses.
    #[doc(alias = "FRA_DST")]
    pub to: Option<Subnet>,
    /// For packets that came in by the interface of this name; `lo` stands for the machine's own.
    #[doc(alias = "FRA_IIFNAME")]
    pub iif: Option<String>,
    /// For packets of sockets that are bound to the interface of this name.
    #[doc(alias = "FRA_OIFNAME")]
    pub oif: Option<String>,
    /// For packets whose mark, in the bits of [`mask`](Rule::mask), is this.
    #[doc(alias = "FRA_FWMARK")]
    pub mark: Option<u32>,
    /// Which bits of the mark count. Where there is a mark, `None` means all.
    #[doc(alias = "FRA_FWMASK")]
    pub mask: Option<u32>,
    /// For packets with this type of service (IPv6: traffic class); 0: with any.
    pub tos: u8,
    /// For packets of programs of these users.
    #[doc(alias = "FRA_UID_RANGE")]
    pub uids: Option<RangeInclusive<u32>>,
    /// For packets of this protocol of IP: 6 is TCP, 17 UDP.
    #[doc(alias = "FRA_IP_PROTO")]
    pub ip_protocol: Option<u8>,
    /// For packets from these ports.
    #[doc(alias = "FRA_SPORT_RANGE")]
    pub source_ports: Option<RangeInclusive<u16>>,
    /// For packets to these ports.
    #[doc(alias = "FRA_DPORT_RANGE")]
    pub destination_ports: Option<RangeInclusive<u16>>,
    /// Whether it is for all other packets instead.
    #[doc(alias = "FIB_RULE_INVERT")]
    pub is_inverted: bool,
    /// What is done.
    pub action: RuleAction,
    /// Passes over routes whose prefix is not longer than this: with 0, over the default route.
    #[doc(alias = "FRA_SUPPRESS_PREFIXLEN")]
    pub suppress_prefix_length: Option<u8>,
    /// Who made it. `None`: [`VETHNET`](RouteProtocol::VETHNET) in what is made, anybody in what is removed.
    #[doc(alias = "FRA_PROTOCOL")]
    pub protocol: Option<RouteProtocol>,
}

impl Rule {
    /// For all IPv4 packets: look in the main table.
    pub fn ipv4() -> Self {
        Self::new(true)
    }

    /// For all IPv6 packets: look in the main table.
    pub fn ipv6() -> Self {
        Self::new(false)
    }

    fn new(is_ipv4: bool) -> Self {
        Self {
            is_ipv4,
            priority: None,
            from: None,
            to: None,
            iif: None,
            oif: None,
            mark: None,
            mask: None,
            tos: 0,
            uids: None,
            ip_protocol: None,
            source_ports: None,
            destination_ports: None,
            is_inverted: false,
            action: RuleAction::Lookup(RouteTable::MAIN),
            suppress_prefix_length: None,
            protocol: None,
        }
    }

    /// Whether it is of IPv4.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.is_ipv4
    }

    /// Sets its place.
    pub fn priority(mut self, priority: u32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// For packets from these addresses.
    pub fn from(mut self, source: Subnet) -> Self {
        self.from = Some(source);
        self
    }

    /// For packets to these addresses.
    pub fn to(mut self, destination: Subnet) -> Self {
        self.to = Some(destination);
        self
    }

    /// For packets that came in by this interface, which need not be there yet.
    pub fn iif(mut self, name: &IfName) -> Self {
        self.iif = Some(name.to_string());
        self
    }

    /// For packets of sockets that are bound to this interface, which need not be there yet.
    pub fn oif(mut self, name: &IfName) -> Self {
        self.oif = Some(name.to_string());
        self
    }

    /// For packets with this mark.
    pub fn mark(mut self, mark: u32) -> Self {
        self.mark = Some(mark);
        self
    }

    /// Sets which bits of the mark count.
    pub fn mask(mut self, mask: u32) -> Self {
        self.mask = Some(mask);
        self
    }

    /// For packets with this type of service.
    pub fn tos(mut self, tos: u8) -> Self {
        self.tos = tos;
        self
    }

    /// For packets of programs of these users, the last one included.
    pub fn uids(mut self, uids: RangeInclusive<u32>) -> Self {
        self.uids = Some(uids);
        self
    }

    /// For packets of this protocol of IP.
    pub fn ip_protocol(mut self, number: u8) -> Self {
        self.ip_protocol = Some(number);
        self
    }

    /// For packets from these ports, the last one included.
    pub fn source_ports(mut self, ports: RangeInclusive<u16>) -> Self {
        self.source_ports = Some(ports);
        self
    }

    /// For packets to these ports, the last one included.
    pub fn destination_ports(mut self, ports: RangeInclusive<u16>) -> Self {
        self.destination_ports = Some(ports);
        self
    }

    /// For all packets that the rest does not describe.
    pub fn inverted(mut self) -> Self {
        self.is_inverted = true;
        self
    }

    /// Looks in this table.
    pub fn lookup(self, table: RouteTable) -> Self {
        self.action(RuleAction::Lookup(table))
    }

    /// Sets what is done.
    pub fn action(mut self, action: RuleAction) -> Self {
        self.action = action;
        self
    }

    /// Passes over routes whose prefix is not longer than this.
    pub fn suppress_prefix_length(mut self, length: u8) -> Self {
        self.suppress_prefix_length = Some(length);
        self
    }

    /// Sets who it says it was made by.
    pub fn protocol(mut self, protocol: RouteProtocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    fn subject(&self) -> Subject {
        Subject::Thing(format!("rule {self}"))
    }

    fn unspecified(&self) -> IpAddr {
        if self.is_ipv4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) }
    }

    fn check(&self) -> Result<()> {
        let fail = |why: &'static str| Err(Error::invalid("rule", why).on(Subject::Value(self.to_string())));
        if [self.from, self.to].iter().flatten().any(|subnet| subnet.is_ipv4() != self.is_ipv4) {
            return fail("the addresses are of the other family");
        }
        if self.mask.is_some() && self.mark.is_none() {
            return fail("a mask is of a mark, and there is none");
        }
        if self.uids.as_ref().is_some_and(RangeInclusive::is_empty) {
            return fail("the range of users is empty");
        }
        let ports = [&self.source_ports, &self.destination_ports];
        if ports.into_iter().flatten().any(|ports| ports.is_empty() || *ports.start() == 0) {
            return fail("a range of ports is from 1 and not empty");
        }
        if matches!(self.action, RuleAction::Goto(to) if self.priority.is_none_or(|own| to <= own)) {
            return fail("goto leads on: to a priority above the rule's own, which has to be said");
        }
        if self.suppress_prefix_length.is_some() && !matches!(self.action, RuleAction::Lookup(_)) {
            return fail("prefixes are suppressed in a table that is looked at, and none is");
        }
        Ok(())
    }

    /// Whether `found` is this rule, in all that was said and in all that was not.
    fn is_met_by(&self, found: &Self) -> bool {
        let wished = Self {
            priority: self.priority.or(found.priority),
            protocol: Some(self.protocol.unwrap_or(RouteProtocol::VETHNET)),
            mask: self.mark.map(|_| self.mask.unwrap_or(u32::MAX)),
            // The kernel does not keep a prefix of no bits.
            from: self.from.filter(|subnet| subnet.prefix() > 0),
            to: self.to.filter(|subnet| subnet.prefix() > 0),
            ..self.clone()
        };
        wished == *found
    }
}

impl From<&Self> for Rule {
    fn from(rule: &Self) -> Self {
        rule.clone()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(priority) = self.priority {
            write!(f, "{priority}: ")?;
        }
        if self.is_inverted {
            f.write_str("not ")?;
        }
        match self.from {
            Some(from) => write!(f, "from {from}")?,
            None => f.write_str("from all")?,
        }
        if let Some(to) = self.to {
            write!(f, " to {to}")?;
        }
        for (word, name) in [("iif", &self.iif), ("oif", &self.oif)] {
            if let Some(name) = name {
                write!(f, " {word} {name}")?;
            }
        }
        match (self.mark, self.mask) {
            (Some(mark), Some(mask)) if mask != u32::MAX => write!(f, " fwmark {mark:#x}/{mask:#x}")?,
            (Some(mark), _) => write!(f, " fwmark {mark:#x}")?,
            (None, _) => {}
        }
        write!(f, " {}", self.action)?;
        if let Some(length) = self.suppress_prefix_length {
            write!(f, " suppress_prefixlength {length}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
