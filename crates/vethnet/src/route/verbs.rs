//! What a [`Net`] does with routes.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result, Subject};
use netlink_packet_route::AddressFamily;

use super::{Route, RouteKind, RouteLookup, RouteProtocol, RouteTable, message};
use crate::batch::Batch;
use crate::exchange::{Mode, Request};
use crate::link::LinkRef;
use crate::net::Net;

/// Which routes are listed. The kernel leaves the others out, so that a short list of a long table is soon there.
///
/// * C: the header and RTA_TABLE, RTA_OIF of a RTM_GETROUTE on a socket with NETLINK_GET_STRICT_CHK, kernel 4.20; see
///   rtnetlink(7), <https://man7.org/linux/man-pages/man7/rtnetlink.7.html>.
///
/// ```no_run
/// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
/// use vethnet::{IfName, RouteFilter, RouteTable};
///
/// let filter = RouteFilter::default().table(RouteTable::MAIN).dev(IfName::new("eth0")?);
/// for route in net.routes(&filter).await? {
///     println!("{route}");
/// }
/// # Ok(())
/// # }
/// ```
#[doc(alias = "NETLINK_GET_STRICT_CHK")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct RouteFilter {
    family: Option<AddressFamily>,
    pub(super) table: Option<RouteTable>,
    pub(super) protocol: Option<RouteProtocol>,
    pub(super) kind: Option<RouteKind>,
    dev: Option<LinkRef>,
}

impl RouteFilter {
    /// Only those of IPv4.
    pub fn ipv4(mut self) -> Self {
        self.family = Some(AddressFamily::Inet);
        self
    }

    /// Only those of IPv6.
    pub fn ipv6(mut self) -> Self {
        self.family = Some(AddressFamily::Inet6);
        self
    }

    /// Only those of this table.
    pub fn table(mut self, table: RouteTable) -> Self {
        self.table = Some(table);
        self
    }

    /// Only those that say they were made by this.
    pub fn protocol(mut self, protocol: RouteProtocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    /// Only those of this kind.
    pub fn kind(mut self, kind: RouteKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Only those of which a way leaves by this interface.
    pub fn dev(mut self, link: impl Into<LinkRef>) -> Self {
        self.dev = Some(link.into());
        self
    }
}

/// A route whose interfaces are numbers: in a batch, names would have to be looked up before.
fn numbered(operation: &'static str, route: &Route) -> Result<()> {
    if route.hops.iter().filter_map(|hop| hop.dev.as_ref()).all(|dev| dev.index().is_some()) {
        return Ok(());
    }
    Err(Error::invalid(operation, "in a batch, an interface is given by a link that was read").on(route.subject()))
}

impl Batch {
    /// Makes a route, as [`Net::add_route`] does (RTM_NEWROUTE). Its interfaces have to be numbers, which a
    /// [`Link`](crate::Link) that was read stands for: names would have to be looked up before.
    #[doc(alias = "RTM_NEWROUTE")]
    pub fn add_route(self, route: impl Into<Route>) -> Self {
        self.set_route(&route.into(), message::CREATE)
    }

    /// Makes a route, instead of the one to the same destination with the same metric, as [`Net::replace_route`] does. Its
    /// interfaces have to be numbers.
    pub fn replace_route(self, route: impl Into<Route>) -> Self {
        self.set_route(&route.into(), message::REPLACE)
    }

    /// Removes a route, as [`Net::remove_route`] does (RTM_DELROUTE); that it is not there is an error here. Its interfaces
    /// have to be numbers.
    #[doc(alias = "RTM_DELROUTE")]
    pub fn remove_route(self, route: impl Into<Route>) -> Self {
        let route = route.into();
        self.push(numbered("RTM_DELROUTE", &route).map(|()| message::delete(&route, route.subject())))
    }

    fn set_route(self, route: &Route, flags: u16) -> Self {
        let checked = route.check().and_then(|()| numbered("RTM_NEWROUTE", route));
        self.push(checked.map(|()| message::new(route, route.subject(), flags)))
    }
}

impl Net {
    /// Makes a route: `ip route add`.
    ///
    /// C call: RTM_NEWROUTE with NLM_F_CREATE and NLM_F_EXCL. It is gone when its interface is, and in IPv4 when that is
    /// brought down.
    ///
    /// # Errors
    /// * [`AlreadyExists`](crate::ErrorKind::AlreadyExists) when the table has one to the same destination with the same
    ///   metric;
    /// * ENETUNREACH or, of IPv6, EHOSTUNREACH when the gateway is not on the link of an interface, or that is down;
    /// * [`NotFound`](crate::ErrorKind::NotFound) without the interface;
    /// * [`Permission`](crate::ErrorKind::Permission) without CAP_NET_ADMIN, and for IPv6 where `disable_ipv6` is set.
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// net.add_route(vethnet::Route::default_v4().via([10, 1, 0, 1])).await
    /// # }
    /// ```
    pub async fn add_route(&self, route: impl Into<Route>) -> Result<()> {
        let (route, subject) = self.with_indices(route.into()).await?;
        self.request(message::new(&route, subject, message::CREATE)).await.map(drop)
    }

    /// Makes a route, instead of the one to the same destination with the same metric, if the table has one:
    /// `ip route replace`. No packet is lost in between.
    ///
    /// C call: RTM_NEWROUTE with NLM_F_CREATE and NLM_F_REPLACE.
    ///
    /// # Errors
    /// Those of [`add_route`](Net::add_route), but for AlreadyExists.
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// net.replace_route(vethnet::Route::default_v4().via([10, 1, 0, 254])).await
    /// # }
    /// ```
    pub async fn replace_route(&self, route: impl Into<Route>) -> Result<()> {
        let (route, subject) = self.with_indices(route.into()).await?;
        self.request(message::new(&route, subject, message::REPLACE)).await.map(drop)
    }

    /// Makes sure that there is this route; one that is so already is left alone, without an event.
    ///
    /// One to the same destination with the same metric that differs is replaced if it says that the same program made it
    /// ([`protocol`](Route::protocol)). Only when there is one, the table is read to look at it.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) when another program's is in the way:
    /// [`replace_route`](Net::replace_route) takes its place. Those of [`add_route`](Net::add_route).
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// use vethnet::{IfName, Route};
    ///
    /// net.ensure_route(Route::to("10.2.0.0/16".parse()?).dev(IfName::new("br0")?)).await
    /// # }
    /// ```
    pub async fn ensure_route(&self, route: impl Into<Route>) -> Result<()> {
        let (route, subject) = self.with_indices(route.into()).await?;
        let request = message::new(&route, subject.clone(), message::CREATE);
        let Err(error) = self.request(request).await else { return Ok(()) };
        if error.raw_os_error() != Some(libc::EEXIST) {
            return Err(error);
        }
        let filter = RouteFilter { table: Some(route.table), ..RouteFilter::default() };
        let request = message::list(crate::fields::family(route.destination.address()), &filter, 0);
        let found = self.routes_by(request).await?;
        match found.iter().find(|found| route.is_same(found)) {
            Some(found) if route.is_met_by(found) => Ok(()),
            Some(found) if found.protocol != Some(route.protocol.unwrap_or(RouteProtocol::VETHNET)) => {
                let protocol = found.protocol.unwrap_or(RouteProtocol::UNSPEC);
                let hint =
                    format!("the table has {found}, made by another program (proto {protocol}): remove it first");
                Err(error.with_hint(hint))
            }
            _ => self.request(message::new(&route, subject, message::REPLACE)).await.map(drop),
        }
    }

    /// Removes the route with this destination, table and kind, and of what else was said with that: metric, next hops,
    /// source, protocol. `false` when there is none such.
    ///
    /// C call: RTM_DELROUTE. When several are meant, the kernel removes the first one.
    ///
    /// # Errors
    /// [`Permission`](crate::ErrorKind::Permission) without CAP_NET_ADMIN.
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// let was_there = net.remove_route(vethnet::Route::default_v4()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn remove_route(&self, route: impl Into<Route>) -> Result<bool> {
        let mut route = route.into();
        let subject = route.subject();
        for hop in &mut route.hops {
            if let Some(dev) = &hop.dev {
                let Some(index) = self.index_if_there(dev).await? else { return Ok(false) };
                hop.dev = Some(LinkRef::Index(index));
            }
        }
        match self.request(message::delete(&route, subject)).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENODEV)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The routes of all tables, or those that the filter leaves (RTM_GETROUTE). A table that is not there is empty.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) without the filter's interface; Limit (EAGAIN) when the list kept changing
    /// while it was read.
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// use vethnet::{RouteFilter, RouteProtocol};
    ///
    /// for route in net.routes(&RouteFilter::default().protocol(RouteProtocol::VETHNET)).await? {
    ///     net.remove_route(&route).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// What is read has the numbers of interfaces; their names are those of [`links`](Net::links):
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// use std::collections::HashMap;
    /// use vethnet::{RouteFilter, RouteTable};
    ///
    /// let links: HashMap<_, _> = net.links().await?.into_iter().map(|link| (link.index, link)).collect();
    /// for mut route in net.routes(&RouteFilter::default().table(RouteTable::MAIN)).await? {
    ///     for hop in &mut route.hops {
    ///         let link = hop.dev.as_ref().and_then(|dev| links.get(&dev.index()?));
    ///         hop.dev = link.map(Into::into).or(hop.dev.take());
    ///     }
    ///     println!("{route}"); // default via 10.1.0.1 dev eth0
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn routes(&self, filter: &RouteFilter) -> Result<Vec<Route>> {
        let dev = match &filter.dev {
            Some(link) => self.index_of(link).await?,
            None => 0,
        };
        let mut list = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            if filter.family.is_none_or(|wanted| wanted == family) {
                list.extend(self.routes_by(message::list(family, filter, dev)).await?);
            }
        }
        Ok(list)
    }

    async fn routes_by(&self, request: Request) -> Result<Vec<Route>> {
        match self.talk(&[request], Mode::Dump).await {
            Ok(answers) => answers.iter().filter_map(|body| message::parse(body).transpose()).collect(),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The route that a packet to an address would take: `ip route get`.
    ///
    /// C call: RTM_GETROUTE with RTM_F_LOOKUP_TABLE. It has one next hop, that of this packet, its
    /// [`source`](Route::source) is the address the packet would be sent from, and its destination the address alone.
    ///
    /// # Errors
    /// What connect(2) would say: ENETUNREACH without a route; EHOSTUNREACH, EACCES and EINVAL for an unreachable, a
    /// prohibited and a blackhole route. [`NotFound`](crate::ErrorKind::NotFound) without an interface that was named.
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// let route = net.route_to([198, 51, 100, 7]).await?;
    /// println!("{route}");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn route_to(&self, lookup: impl Into<RouteLookup>) -> Result<Route> {
        let lookup = lookup.into();
        let oif = self.index_of_some(lookup.oif.as_ref()).await?;
        let iif = self.index_of_some(lookup.iif.as_ref()).await?;
        let request = message::get(&lookup, oif, iif);
        let answers = self.request(request).await?;
        match answers.first().map(|body| message::parse(body)).transpose()?.flatten() {
            // IPv6 answers with the route that refuses, not with its error.
            Some(route) if route.kind.ends_here() => {
                let errno = match route.kind {
                    RouteKind::Prohibit => libc::EACCES,
                    RouteKind::Blackhole => libc::EINVAL,
                    _ => libc::ENETUNREACH,
                };
                Err(Error::from_errno("RTM_GETROUTE", errno)
                    .on(Subject::Thing(format!("route to {}", lookup.to)))
                    .with_hints(&crate::hint::HINTS))
            }
            Some(route) => Ok(route),
            None => Err(crate::fields::too_short("RTM_GETROUTE")),
        }
    }

    async fn index_of_some(&self, link: Option<&LinkRef>) -> Result<Option<u32>> {
        match link {
            Some(link) => self.index_of(link).await.map(Some),
            None => Ok(None),
        }
    }

    /// Checks a route that is to be made, and puts the numbers of its interfaces in the place of their names; which errors
    /// still say.
    async fn with_indices(&self, mut route: Route) -> Result<(Route, Subject)> {
        route.check()?;
        let subject = route.subject();
        for hop in &mut route.hops {
            if let Some(dev) = &hop.dev {
                hop.dev = Some(LinkRef::Index(self.index_of(dev).await?));
            }
        }
        Ok((route, subject))
    }
}
