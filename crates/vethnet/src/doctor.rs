//! Why traffic does not pass.
//!
//! Theory of operation. Three parts that know nothing of each other: `look` reads what there is in the two network
//! namespaces, on threads inside them, and changes nothing; the result is plain data (`facts`, `forward` for the rules of
//! nf_tables); `rules` are functions from it to findings. `path` says which interfaces a packet of the container passes.
//! So each rule has unit tests with facts that no test may make real, and a test that makes the fault real in a working
//! network.
#![forbid(unsafe_code)]

pub(crate) mod facts;
mod finding;
pub(crate) mod forward;
mod look;
mod path;
mod rules;

use std::ops::RangeInclusive;
use std::os::fd::AsFd;

use cellkit_core::{Error, Result, Subject};

use crate::name::Owner;
use crate::netns::duplicate;
use crate::network::Network;

pub use finding::{Diagnosis, Fault, Finding};

/// A published port of the container, for the doctor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    /// The protocol's number.
    pub(crate) protocol: u8,
    /// The container's.
    pub(crate) ports: RangeInclusive<u16>,
    /// As it was asked for.
    pub(crate) text: String,
}

/// Why traffic of a container does not pass: looks at its network namespace and at that of the calling thread, the host's,
/// and says in sentences what is wrong.
///
/// It knows of interfaces that are down or not connected, missing and duplicate addresses and routes, a gateway that does not
/// answer, forwarding that is off, rules of others (Docker, firewalld, ufw) that drop what is passed on, a network's own table
/// that is missing, reverse path filters, full tables of neighbours and connections, packets that are too large, and more:
/// see [`Fault`]. Published ports it looks at too when asked of a [`Network`](crate::Network::doctor).
///
/// * C calls: setns(2) on threads of its own; lists of rtnetlink and nf_tables; files of /proc. It changes nothing, and
///   takes some milliseconds. What vanishes meanwhile is no error.
/// * Privileges: CAP_SYS_ADMIN and CAP_NET_ADMIN over both namespaces. What may not be looked at is a finding
///   ([`Fault::NotSeen`]), so that nothing is passed over in silence.
///
/// # Errors
/// [`Invalid`](crate::ErrorKind::Invalid) when `netns` is not a network namespace.
///
/// ```no_run
/// use std::fs::File;
///
/// # async fn example() -> vethnet::Result<()> {
/// # let netns = File::open("/proc/1234/ns/net").unwrap();
/// let diagnosis = vethnet::doctor(&netns).await?;
/// print!("{diagnosis}");
/// // 1. net.ipv4.ip_forward is 0: the host passes no IPv4 packets on
/// //    sysctl -w net.ipv4.ip_forward=1
/// # Ok(())
/// # }
/// ```
///
/// See ip-sysctl: <https://docs.kernel.org/networking/ip-sysctl.html>.
pub async fn doctor(netns: impl AsFd) -> Result<Diagnosis> {
    examine(netns, &[]).await
}

/// The same, with the published ports of the container.
pub(crate) async fn examine(netns: impl AsFd, published: &[Published]) -> Result<Diagnosis> {
    let netns = duplicate(netns.as_fd())?;
    let facts = look::look(netns.as_fd()).await?;
    Ok(Diagnosis::new(rules::findings(&facts, published)))
}

impl Network {
    /// As [`doctor`], for a container that is attached to this network: looks also whether something in it listens to the
    /// ports that are published.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) when `owner` is not attached; those of [`doctor`].
    pub async fn doctor(&self, owner: &str, netns: impl AsFd) -> Result<Diagnosis> {
        let owner = Owner::new(owner)?;
        let Some(record) = self.state().lease(&owner)? else {
            return Err(Error::from_errno("doctor", libc::ENOENT)
                .on(Subject::Value(owner.as_str().to_owned()))
                .with_hint("this owner is not attached to the network: attach it"));
        };
        let published = record.ports.iter().map(|port| Published {
            protocol: port.protocol().number(),
            ports: port.container_ports(),
            text: port.to_string(),
        });
        examine(netns, &published.collect::<Vec<_>>()).await
    }
}

/// Every parser of what the kernel says, for the fuzz target.
#[cfg(fuzzing)]
pub(crate) fn fuzz(bytes: &[u8]) {
    let _ = (facts::link(bytes), facts::address(bytes), facts::route(bytes), facts::neighbour(bytes));
    let _ = (forward::table(bytes), forward::chain(bytes), forward::rule(bytes));
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = (facts::listening(text, 6), facts::cache_entries(text));
    }
}
