//! [`Monitor`] and [`Events`]: what changes, as it changes.
//!
//! Theory of operation. The kernel tells of changes to sockets that have joined its groups. Three things make that less than it
//! seems, and all three are dealt with here, so that whoever puts the events together has what the kernel has:
//!
//! * *It tells of changes only.* So the state is listed first, after joining: what happens in between is told, and perhaps
//!   listed too. A message that says what is known already is no event.
//! * *It drops what does not fit the receive buffer*, and says ENOBUFS once. What still is in the buffer is older than what was
//!   lost; applied after a new list it would be wrong. So it is thrown away, and then all is listed and compared with what
//!   was told: the differences are the events that were missed, or what they amounted to.
//! * *It does not tell everything.* IPv4 routes that vanish because an interface goes down or an address is removed are not
//!   mentioned, and a message about a route does not say whether it replaces another. Then the routes are listed and
//!   compared.
//!
//! What is kept is one copy of what there is, and the events of one datagram or list.
#![forbid(unsafe_code)]

#[cfg(fuzzing)]
pub(crate) mod fuzz;
mod message;
mod state;

use std::os::fd::AsFd;

use cellkit_core::{Errno, Error, Result};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::exchange::{self, Mode};
use crate::hint::HINTS;
use crate::ip_address::Address;
use crate::link::Link;
use crate::neighbour::Neighbour;
use crate::net::Net;
use crate::netns;
use crate::route::Route;
use crate::socket::{Buffer, Family, Socket};
use state::State;

const RTMGRP_LINK: u32 = 1;
const RTMGRP_NEIGH: u32 = 4;
const RTMGRP_IPV4_IFADDR: u32 = 0x10;
const RTMGRP_IPV4_ROUTE: u32 = 0x40;
const RTMGRP_IPV6_IFADDR: u32 = 0x100;
const RTMGRP_IPV6_ROUTE: u32 = 0x400;
/// After how many messages another task gets its turn.
const TURN: usize = 256;

/// Something happened in a network namespace.
///
/// ```no_run
/// use vethnet::{Change, Event, Monitor};
///
/// # async fn example() -> vethnet::Result<()> {
/// let mut events = Monitor::new().links().here().await?;
/// loop {
///     match events.next().await? {
///         Event::Link(Change::New(link)) => println!("{} is there", link.name),
///         Event::Link(Change::Gone(link)) => println!("{} is gone", link.name),
///         Event::Link(Change::Changed { before, now }) if before.is_up != now.is_up => {
///             println!("{} is {}", now.name, if now.is_up { "up" } else { "down" });
///         }
///         _ => {}
///     }
/// }
/// # }
/// ```
///
/// See rtnetlink(7): <https://man7.org/linux/man-pages/man7/rtnetlink.7.html>.
#[allow(clippy::large_enum_variant, reason = "events are handed over one by one, and matched without a box in the way")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A link (RTM_NEWLINK, RTM_DELLINK). One that moved to another namespace is gone.
    Link(Change<Link>),
    /// An address of an interface (RTM_NEWADDR, RTM_DELADDR). The kernel tells of a new one of IPv6 when it was found to be
    /// nobody else's, a second or two later.
    Address(Change<Address>),
    /// A route (RTM_NEWROUTE, RTM_DELROUTE).
    Route(Change<Route>),
    /// A neighbour, or an address that is answered for (RTM_NEWNEIGH, RTM_DELNEIGH).
    Neighbour(Change<Neighbour>),
    /// All that there is has been told of: at the beginning, and after each [`Overrun`](Event::Overrun).
    Listed,
    /// The kernel dropped messages (ENOBUFS). What changed meanwhile follows, as it is now: something that came and went
    /// again, or changed twice, may be missed.
    #[doc(alias = "ENOBUFS")]
    Overrun,
}

/// What happened to it.
///
/// ```
/// use vethnet::Change;
///
/// let change = Change::Changed { before: 1, now: 2 };
/// assert_eq!((change.before(), change.now()), (Some(&1), Some(&2)));
/// assert_eq!(Change::Gone(2).now(), None);
/// ```
///
/// See rtnetlink(7): <https://man7.org/linux/man-pages/man7/rtnetlink.7.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<T> {
    /// It is there, and was not before.
    New(T),
    /// It is not as it was before.
    Changed {
        /// As it was last told of.
        before: T,
        /// As it is.
        now: T,
    },
    /// It is gone; as it was last told of.
    Gone(T),
}

impl<T> Change<T> {
    /// As it was before, if it was.
    pub fn before(&self) -> Option<&T> {
        match self {
            Self::New(_) => None,
            Self::Changed { before, .. } | Self::Gone(before) => Some(before),
        }
    }

    /// As it is now, if it is.
    pub fn now(&self) -> Option<&T> {
        match self {
            Self::New(now) | Self::Changed { now, .. } => Some(now),
            Self::Gone(_) => None,
        }
    }
}

/// What is told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    links: bool,
    addresses: bool,
    routes: bool,
    neighbours: bool,
}

/// What to watch, and where: the beginning of [`Events`]. The equivalent of `ip monitor link address route neigh`.
///
/// Setters collect; [`here`](Monitor::here), [`inside`](Monitor::inside) and [`Net::events`] begin.
///
/// ```no_run
/// # async fn example() -> vethnet::Result<()> {
/// let web = vethnet::Netns::open_named("web")?;
/// let mut events = vethnet::Monitor::new().links().addresses().routes().inside(&web).await?;
/// println!("{:?}", events.next().await?);
/// # Ok(())
/// # }
/// ```
///
/// See ip-monitor(8), rtnetlink(7): <https://man7.org/linux/man-pages/man8/ip-monitor.8.html>.
#[doc(alias("RTNLGRP_LINK", "NETLINK_ADD_MEMBERSHIP", "ip monitor"))]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "nothing is watched before here(), inside() or Net::events()"]
pub struct Monitor {
    wanted: Wanted,
    receive_buffer: Option<usize>,
}

impl Monitor {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Links.
    #[doc(alias = "RTMGRP_LINK")]
    pub fn links(mut self) -> Self {
        self.wanted.links = true;
        self
    }

    /// Addresses, IPv4 and IPv6.
    #[doc(alias("RTMGRP_IPV4_IFADDR", "RTMGRP_IPV6_IFADDR"))]
    pub fn addresses(mut self) -> Self {
        self.wanted.addresses = true;
        self
    }

    /// Routes of all tables, IPv4 and IPv6.
    #[doc(alias("RTMGRP_IPV4_ROUTE", "RTMGRP_IPV6_ROUTE"))]
    pub fn routes(mut self) -> Self {
        self.wanted.routes = true;
        self
    }

    /// Neighbours, IPv4 and IPv6.
    #[doc(alias = "RTMGRP_NEIGH")]
    pub fn neighbours(mut self) -> Self {
        self.wanted.neighbours = true;
        self
    }

    /// How many bytes of messages the kernel keeps before it drops some (SO_RCVBUF; it doubles the number). Default:
    /// `net.core.rmem_default`, mostly 212,992. Without CAP_NET_ADMIN at most `net.core.rmem_max`.
    #[doc(alias("SO_RCVBUF", "SO_RCVBUFFORCE"))]
    pub fn receive_buffer(mut self, bytes: usize) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// Begins, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// Invalid when nothing is watched, and outside a tokio runtime; those of socket(2).
    pub async fn here(self) -> Result<Events> {
        self.check()?;
        let sockets = self.open()?;
        Events::new(self, sockets)
    }

    /// Begins, in this network namespace. The connections are opened on a short-lived thread.
    ///
    /// # Errors
    /// As [`here`](Monitor::here); Permission without CAP_SYS_ADMIN over the namespace.
    pub async fn inside(self, netns: impl AsFd) -> Result<Events> {
        self.check()?;
        let open = self.clone();
        let sockets = netns::inside(netns.as_fd(), move || open.open()).await?;
        Events::new(self, sockets)
    }

    fn check(&self) -> Result<()> {
        if self.wanted != Wanted::default() {
            return Ok(());
        }
        Err(Error::invalid("monitor", "nothing is to be watched")
            .with_hint("call one of links(), addresses(), routes(), neighbours()"))
    }

    fn open(&self) -> Result<(Socket, Socket)> {
        let Wanted { links, addresses, routes, neighbours } = self.wanted;
        // Routes vanish with links and addresses.
        let groups = [
            (links || routes, RTMGRP_LINK),
            (addresses || routes, RTMGRP_IPV4_IFADDR),
            (addresses, RTMGRP_IPV6_IFADDR),
            (routes, RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE),
            (neighbours, RTMGRP_NEIGH),
        ];
        let groups = groups.iter().filter(|(wanted, _)| *wanted).fold(0, |all, (_, group)| all | group);
        let events = Socket::open_in_groups(groups, self.receive_buffer)?;
        Ok((events, Socket::open(Family::Route)?))
    }
}

/// What changes in a network namespace, as it changes.
///
/// First come all things that there are, as [`Change::New`], then [`Event::Listed`], then what changes. When the kernel drops
/// messages, [`Event::Overrun`] says so, and all is listed and compared: what follows leads from what was told to what
/// is, up to the next [`Event::Listed`]. So whoever puts all events together has what the kernel has, with no change lost
/// for ever.
///
/// * C call: socket(AF_NETLINK), bind(2) with groups, recvmsg(2); lists by a second socket.
/// * It keeps one copy of what there is. As long as nobody calls [`next`](Events::next), nothing else grows: the kernel drops
///   what does not fit.
/// * It keeps its namespace alive, with all in it.
/// * Privileges: none.
///
/// ```no_run
/// use std::collections::HashMap;
/// use vethnet::{Change, Event, Monitor};
///
/// # async fn example() -> vethnet::Result<()> {
/// let mut names = HashMap::new();
/// let mut events = Monitor::new().links().here().await?;
/// loop {
///     match events.next().await? {
///         Event::Link(Change::Gone(link)) => drop(names.remove(&link.index)),
///         Event::Link(change) => names.extend(change.now().map(|link| (link.index, link.name.clone()))),
///         Event::Listed => println!("{} links", names.len()),
///         _ => {}
///     }
/// }
/// # }
/// ```
///
/// See rtnetlink(7): <https://man7.org/linux/man-pages/man7/rtnetlink.7.html>.
#[derive(Debug)]
#[must_use = "what happens is told by next()"]
pub struct Events {
    socket: AsyncFd<Socket>,
    net: Net,
    buffer: Buffer,
    state: State,
    to_do: ToDo,
}

/// What has to be done before messages are believed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ToDo {
    Nothing,
    /// Throw away what is older than what was lost.
    Drain,
    /// List everything.
    List,
}

impl Events {
    fn new(monitor: Monitor, (events, requests): (Socket, Socket)) -> Result<Self> {
        let net = Net::new(requests)?;
        let state = State::new(monitor.wanted);
        let socket = Net::register(events)?;
        Ok(Self { socket, net, buffer: Buffer::default(), state, to_do: ToDo::List })
    }

    /// Waits for the next event.
    ///
    /// The future may be dropped at any time; no event is lost.
    ///
    /// # Errors
    /// Limit (EAGAIN) when what was to be listed kept changing, TimedOut, Parse. The next call goes on: it lists again.
    pub async fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.state.events.pop_front() {
                return Ok(event);
            }
            match self.to_do {
                ToDo::Drain => self.drain().await,
                ToDo::List => self.list().await?,
                ToDo::Nothing => self.receive().await?,
            }
        }
    }

    /// Takes in one datagram, or waits for it.
    async fn receive(&mut self) -> Result<()> {
        match self.socket.get_ref().receive(&mut self.buffer) {
            Ok(datagram) => {
                for message in exchange::messages(datagram) {
                    match message.map(|(kind, body)| message::told(kind, body)) {
                        Some(Ok(Some(told))) => self.state.take_in(told),
                        Some(Ok(None)) => {}
                        // Whatever it was meant to say: a list says it too.
                        Some(Err(error)) => {
                            self.to_do = ToDo::Drain;
                            return Err(error);
                        }
                        None => {
                            lost(&mut self.state, &mut self.to_do);
                            break;
                        }
                    }
                }
                Ok(())
            }
            Err(Errno(libc::EAGAIN)) if self.state.routes_unknown => self.list_routes().await,
            Err(Errno(libc::EAGAIN)) => {
                let mut ready = self.socket.ready(Interest::READABLE | Interest::ERROR).await.map_err(|error| {
                    Error::from_io("epoll_wait", &error).with_hint("the tokio runtime of these events has ended")
                })?;
                ready.clear_ready();
                Ok(())
            }
            Err(Errno(libc::ENOBUFS | libc::EMSGSIZE)) => {
                lost(&mut self.state, &mut self.to_do);
                Ok(())
            }
            Err(Errno(errno)) => Err(Error::from_errno("recvfrom", errno).with_hints(&HINTS)),
        }
    }

    async fn drain(&mut self) {
        loop {
            for _ in 0..TURN {
                if let Err(Errno(libc::EAGAIN)) = self.socket.get_ref().receive(&mut self.buffer) {
                    self.to_do = ToDo::List;
                    return;
                }
            }
            tokio::task::yield_now().await;
        }
    }

    async fn list(&mut self) -> Result<()> {
        let wanted = self.state.wanted;
        let mut all = Listed::default();
        // All is asked first: the future may be dropped at each of these.
        if wanted.links {
            all.links = self.ask(&[message::links()], message::link).await?;
        }
        if wanted.addresses {
            all.addresses = self.ask(&[message::addresses()], message::address).await?;
        }
        if wanted.routes {
            all.routes = self.ask(&message::routes(), message::route).await?;
        }
        if wanted.neighbours {
            all.neighbours = self.ask(&message::neighbours(), message::neighbour).await?;
        }
        self.state.links_are(all.links);
        self.state.addresses_are(all.addresses);
        self.state.routes_are(all.routes);
        self.state.neighbours_are(all.neighbours);
        self.state.events.push_back(Event::Listed);
        self.to_do = ToDo::Nothing;
        Ok(())
    }

    async fn list_routes(&mut self) -> Result<()> {
        if self.state.wanted.routes {
            let routes = self.ask(&message::routes(), message::route).await?;
            self.state.routes_are(routes);
        }
        self.state.routes_unknown = false;
        Ok(())
    }

    async fn ask<T>(
        &self,
        requests: &[exchange::Request],
        parse: impl Fn(&[u8]) -> Result<Option<T>>,
    ) -> Result<Vec<T>> {
        let mut list = Vec::new();
        for request in requests {
            let answers = match self.net.talk(std::slice::from_ref(request), Mode::Dump).await {
                Ok(answers) => answers,
                // A kernel without IPv6.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => continue,
                Err(error) => return Err(error),
            };
            for answer in answers {
                list.extend(parse(&answer)?);
            }
        }
        Ok(list)
    }
}

fn lost(state: &mut State, to_do: &mut ToDo) {
    *to_do = ToDo::Drain;
    state.events.push_back(Event::Overrun);
}

/// All that was asked for.
#[derive(Default)]
struct Listed {
    links: Vec<Link>,
    addresses: Vec<(message::AddressKey, Address)>,
    routes: Vec<(message::RouteKey, Route)>,
    neighbours: Vec<(message::NeighbourKey, Neighbour)>,
}

impl Net {
    /// What changes in the namespace of this connection, by connections of its own: see [`Events`].
    ///
    /// # Errors
    /// As [`Monitor::inside`]; Permission without CAP_NET_ADMIN over the namespace. In the caller's own namespace,
    /// [`Monitor::here`] needs no privileges.
    pub async fn events(&self, monitor: Monitor) -> Result<Events> {
        monitor.inside(self.netns()?).await
    }
}
