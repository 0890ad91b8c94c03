//! The switches that make the machine pass packets on: turned on where they are off, and off again after the last
//! network that needed them.
//!
//! Theory of operation. Before a switch is turned on, a file of its name in the state directory says so, with what the
//! kernel forgets when it is turned off again; after it was turned off, the file is removed. A switch that was on has no
//! file, and is left alone. The files belong to all networks of the state directory.
//!
//! `net.ipv4.ip_forward`: with it goes `conf/all/accept_redirects`, which the kernel sets each time
//! (`inet_forward_change` in `net/ipv4/devinet.c`).
//!
//! `net.ipv6.conf.all.forwarding`: a router takes no default route from router advertisements, so the kernel drops those
//! it has when the switch is turned on (`rt6_purge_dflt_routers`), unless `accept_ra` of their interface is 2. A machine
//! that lives by such a route would be cut off, so this is refused: see [`check_advertised_routes`].
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use cellkit_core::{Error, ErrorKind, ProcFd, Result, Subject};
use netlink_packet_core::Parseable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol};

use crate::exchange::Request;
use crate::lease::State;
use crate::link::{self, Link, bytes};
use crate::lock::Lock;
use crate::netns::inside_blocking;
use crate::plan::Sysctl;
use crate::sysctl;
use crate::teardown::Host;

const RTM_GETROUTE: u16 = 26;
const ACCEPT_REDIRECTS: &str = "net/ipv4/conf/all/accept_redirects";
const REFUSED: &[u8] = b"accept_redirects 0\n";
const ACCEPTED: &[u8] = b"accept_redirects 1\n";

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    V4,
    V6,
}

impl Switch {
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    fn path(self) -> &'static str {
        match self {
            Self::V4 => "net/ipv4/ip_forward",
            Self::V6 => "net/ipv6/conf/all/forwarding",
        }
    }

    /// In the state directory.
    fn file(self) -> &'static str {
        match self {
            Self::V4 => "ip_forward",
            Self::V6 => "ipv6_forwarding",
        }
    }

    /// Whether packets are passed on in the network namespace of the calling thread. A kernel without IPv6 passes none.
    pub(crate) fn is_on(self, proc: &ProcFd) -> Result<bool> {
        match sysctl::is_on(proc, self.path()) {
            Err(error) if self == Self::V6 && error.kind() == ErrorKind::NotFound => Ok(false),
            other => other,
        }
    }

    /// Remembers that it will be turned on.
    pub(crate) fn remember(self, lock: &Lock, state: &State, proc: &ProcFd) -> Result<()> {
        let before = match self {
            Self::V4 if sysctl::is_on(proc, ACCEPT_REDIRECTS)? => ACCEPTED,
            Self::V4 => REFUSED,
            Self::V6 => b"",
        };
        state.turn_on(lock, self.file(), before)
    }

    /// Turns it off in this network namespace, if this crate turned it on.
    pub(crate) fn restore(self, lock: &Lock, state: &State, netns: &OwnedFd, proc: &Arc<ProcFd>) -> Result<()> {
        // What a killed writer left says that, too. It had not turned anything on yet.
        let Some(before) = state.turned_on(lock, self.file())? else { return Ok(()) };
        let mut list = vec![Sysctl::write(self.path(), "0", "as it was before")];
        if self == Self::V4 && before == REFUSED {
            list.push(Sysctl::write(ACCEPT_REDIRECTS, "0", "as it was before"));
        }
        let proc = Arc::clone(proc);
        inside_blocking(netns.as_fd(), move || {
            list.iter().try_for_each(|sysctl| sysctl::apply(&proc, sysctl).map(drop))
        })?;
        state.turned_off(lock, self.file())
    }
}

/// Refuses to turn IPv6 forwarding on where that would drop a default route of the machine's. In the network namespace of
/// the calling thread.
pub(crate) fn check_advertised_routes(host: &Host) -> Result<()> {
    for body in host.list(list_routes())? {
        let Some(index) = advertised_default(&body)? else { continue };
        for body in host.list(link::list())? {
            let link = Link::parse(&body)?;
            let path = format!("net/ipv6/conf/{}/accept_ra", link.name);
            if link.index != index || sysctl::read(&host.proc, &path)?.trim_ascii() == b"2" {
                continue;
            }
            let why = format!(
                "this machine has its IPv6 default route by {} from a router's advertisement, and would lose it",
                link.name
            );
            return Err(Error::invalid("write net.ipv6.conf.all.forwarding", why)
                .on(Subject::Interface(link.name.clone()))
                .with_hint(format!(
                    "set net.ipv6.conf.{}.accept_ra=2, by which a router keeps such a route, or net.ipv6.conf.all.forwarding=1",
                    link.name
                )));
        }
    }
    Ok(())
}

fn list_routes() -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet6;
    Request { operation: "RTM_GETROUTE", subject: None, kind: RTM_GETROUTE, flags: 0, body: bytes(&message) }
}

/// The interface of a default route that a router advertised, if the answer is one.
fn advertised_default(body: &[u8]) -> Result<Option<u32>> {
    let message = RouteMessage::parse(body)
        .map_err(|error| Error::parse("RTM_GETROUTE", format!("the kernel's answer: {error}")))?;
    let is_one = message.header.destination_prefix_length == 0 && message.header.protocol == RouteProtocol::Ra;
    let index = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    Ok(index.filter(|_| is_one))
}
