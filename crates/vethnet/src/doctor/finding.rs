//! What was found.
#![forbid(unsafe_code)]

use std::fmt;

/// What keeps traffic from passing. In the order in which it is worth looking: what stops everything comes first, and what
/// could not be looked at last.
///
/// ```
/// assert!(vethnet::Fault::LinkDown < vethnet::Fault::ConntrackFull);
/// ```
///
/// See ip-sysctl: <https://docs.kernel.org/networking/ip-sysctl.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Fault {
    /// The container has no interface but its loopback.
    NoInterface,
    /// An interface on the way was not brought up (IFF_UP).
    LinkDown,
    /// An interface is up, but what it is connected to is not.
    NoCarrier,
    /// The host's end of the container's interface is in no bridge and has no route to the container.
    NotConnected,
    /// The container's interface has no address.
    NoAddress,
    /// An IPv6 address is in use by somebody else (IFA_F_DADFAILED), or not yet known to be free (IFA_F_TENTATIVE).
    AddressNotUsable,
    /// The container has no default route.
    NoDefaultRoute,
    /// Nobody has the address of the container's gateway.
    NoGateway,
    /// The gateway does not answer (a neighbour entry that is FAILED).
    GatewayDoesNotAnswer,
    /// The host does not pass packets on: as a whole, or from one interface.
    ForwardingOff,
    /// A rule of nf_tables drops what the host is to pass on.
    ForwardDropped,
    /// The network's own table is not there: nothing is masqueraded or published.
    TableMissing,
    /// A part of the network's own table is not there.
    TableDamaged,
    /// The kernel has no nf_tables, or no part of it that the network needs.
    ModuleMissing,
    /// The host has no default route itself.
    NoUplink,
    /// Packets of the container are taken for forged: the way back to it is another.
    ReversePathFilter,
    /// Somebody else has addresses of the container's range.
    DuplicateSubnet,
    /// IPv6 is switched off in the container, whereas its network has it.
    Ipv6Disabled,
    /// The kernel has no room for more neighbours.
    NeighbourTableFull,
    /// The kernel has no room for more connections.
    ConntrackFull,
    /// An interface on the way takes only smaller packets than the one before.
    MtuMismatch,
    /// A port is published, and nothing in the container listens to it.
    NotListening,
    /// What the containers of a bridge send each other passes the rules for forwarded packets, which drop it.
    BridgedTrafficFiltered,
    /// The host's own services on 127.0.0.1 can be reached by the container.
    RouteLocalnet,
    /// There are rules that cannot be looked into: of legacy iptables.
    LegacyRules,
    /// Something could not be looked at.
    NotSeen,
}

/// One thing that keeps traffic from passing: what was seen, and what to do.
///
/// ```no_run
/// # async fn example(container: std::os::fd::OwnedFd) -> vethnet::Result<()> {
/// for finding in vethnet::doctor(&container).await?.findings() {
///     println!("{}\n    {}", finding.sentence(), finding.fix());
/// }
/// # Ok(())
/// # }
/// ```
///
/// See ip(8): <https://man7.org/linux/man-pages/man8/ip.8.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    fault: Fault,
    sentence: String,
    fix: String,
}

impl Finding {
    pub(crate) fn new(fault: Fault, sentence: impl Into<String>, fix: impl Into<String>) -> Self {
        // Names of interfaces and tables are others' words: a terminal must not be told what to do by them.
        let plain = |text: String| text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        Self { fault, sentence: plain(sentence.into()), fix: plain(fix.into()) }
    }

    /// Of what sort it is, for a program to match on.
    #[must_use]
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// What was seen: one sentence with the subject and its value.
    #[must_use]
    pub fn sentence(&self) -> &str {
        &self.sentence
    }

    /// What to do about it: a command, or where to look.
    #[must_use]
    pub fn fix(&self) -> &str {
        &self.fix
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.sentence, self.fix)
    }
}

/// What [`doctor`](crate::doctor) found, the likeliest first.
///
/// Printed, it is a line for each finding and below it what to do.
///
/// ```no_run
/// # async fn example(container: std::os::fd::OwnedFd) -> vethnet::Result<()> {
/// let diagnosis = vethnet::doctor(&container).await?;
/// print!("{diagnosis}");
/// std::process::exit(if diagnosis.is_healthy() { 0 } else { 1 })
/// # }
/// ```
///
/// See ip(8): <https://man7.org/linux/man-pages/man8/ip.8.html>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    findings: Vec<Finding>,
}

impl Diagnosis {
    pub(crate) fn new(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(Finding::fault);
        findings.dedup();
        Self { findings }
    }

    /// All that was found.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether nothing was found, and everything could be looked at.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.findings.is_empty()
    }

    /// Whether this sort of thing was found.
    #[must_use]
    pub fn has(&self, fault: Fault) -> bool {
        self.findings.iter().any(|finding| finding.fault == fault)
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.findings.is_empty() {
            return writeln!(f, "nothing found that would keep traffic from passing");
        }
        for (number, finding) in (1..).zip(&self.findings) {
            writeln!(f, "{number}. {}\n   {}", finding.sentence, finding.fix)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_first_each_once_and_printable() {
        let finding = |fault| Finding::new(fault, "a \u{1b}[31m name", "look");
        let diagnosis = Diagnosis::new(vec![
            finding(Fault::NotSeen),
            finding(Fault::LinkDown),
            finding(Fault::NoAddress),
            finding(Fault::LinkDown),
        ]);
        let order: Vec<_> = diagnosis.findings().iter().map(Finding::fault).collect();
        assert_eq!(order, [Fault::LinkDown, Fault::NoAddress, Fault::NotSeen]);
        assert!(diagnosis.has(Fault::NoAddress) && !diagnosis.has(Fault::NoUplink) && !diagnosis.is_healthy());
        assert!(diagnosis.to_string().starts_with("1. a ?[31m name\n   look\n2. "));
        assert_eq!(diagnosis.to_string().lines().count(), 6);
        assert_eq!(Diagnosis::default().to_string(), "nothing found that would keep traffic from passing\n");
    }
}
