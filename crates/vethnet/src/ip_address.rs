//! Addresses of interfaces, IPv4 and IPv6.
#![forbid(unsafe_code)]

mod flags;
pub(crate) mod message;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use cellkit_core::{Error, Result, Subject};

pub use flags::AddressFlags;

use crate::exchange::{Mode, Request};
use crate::hint::HINTS;
use crate::ip_net::IpNet;
use crate::link::LinkRef;
use crate::net::Net;
use crate::route::Scope;

/// For how long an address may be used. The kernel counts in seconds.
///
/// See ip-address(8), `valid_lft`: <https://man7.org/linux/man-pages/man8/ip-address.8.html>.
///
/// ```
/// use std::time::Duration;
/// use vethnet::Lifetime;
///
/// assert_eq!(Lifetime::default(), Lifetime::Forever);
/// assert_eq!(Lifetime::For(Duration::from_secs(60)).to_string(), "60s");
/// ```
#[doc(alias = "ifa_cacheinfo")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lifetime {
    /// This long from now. A part of a second counts as one.
    For(Duration),
    /// Until it is removed.
    #[default]
    Forever,
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(time) => write!(f, "{}s", time.as_secs()),
            Self::Forever => f.write_str("forever"),
        }
    }
}

/// An address of an interface: what is to be, and what is read.
///
/// The fields are what is read; the methods of the same names set them. An [`IpNet`] alone is one without further wishes.
///
/// * C call: RTM_NEWADDR with `struct ifaddrmsg`; see rtnetlink(7),
///   <https://man7.org/linux/man-pages/man7/rtnetlink.7.html>.
/// * Kernel: [`metric`](Address::metric) 4.18; [`no_prefix_route`](Address::no_prefix_route) for IPv4 4.16; older than the
///   oldest kernel supported.
///
/// ```
/// use std::time::Duration;
/// use vethnet::{Address, Lifetime};
///
/// let address = Address::new("fd00::2/64".parse()?).no_dad().preferred(Lifetime::For(Duration::from_secs(60)));
/// assert_eq!(address.to_string(), "fd00::2/64 preferred 60s nodad");
/// # Ok::<(), vethnet::Error>(())
/// ```
#[doc(alias = "ifaddrmsg")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Address {
    /// The interface's own address, and the prefix of its neighbours, or of the peer.
    #[doc(alias = "IFA_LOCAL")]
    pub address: IpNet,
    /// The other end of a line that has but two: the prefix is that one's.
    #[doc(alias = "IFA_ADDRESS")]
    pub peer: Option<IpAddr>,
    /// The broadcast address, of IPv4.
    #[doc(alias = "IFA_BROADCAST")]
    pub broadcast: Option<Ipv4Addr>,
    /// How far the address is known. The kernel tells an IPv6 address's from its bits.
    pub scope: Scope,
    /// A second name of the interface, of IPv4, which has to begin with the first: `eth0:web`.
    #[doc(alias = "IFA_LABEL")]
    pub label: Option<String>,
    /// The metric of the route to the neighbours, where it is not the default.
    #[doc(alias = "IFA_RT_PRIORITY")]
    pub metric: Option<u32>,
    /// When the kernel removes it.
    pub valid: Lifetime,
    /// For how long it is chosen for new connections.
    pub preferred: Lifetime,
    /// What else is set, and how far duplicate address detection is.
    #[doc(alias = "IFA_FLAGS")]
    pub flags: AddressFlags,
    /// The number of its interface, where it was read.
    pub index: Option<u32>,
}

impl Address {
    /// This address for ever, with nothing special about it.
    pub fn new(address: IpNet) -> Self {
        Self {
            address,
            peer: None,
            broadcast: None,
            scope: Scope::of(address.address()),
            label: None,
            metric: None,
            valid: Lifetime::Forever,
            preferred: Lifetime::Forever,
            flags: AddressFlags::default(),
            index: None,
        }
    }

    /// Sets the other end of a line between two.
    pub fn peer(mut self, peer: impl Into<IpAddr>) -> Self {
        self.peer = Some(peer.into());
        self
    }

    /// Sets the broadcast address, of IPv4.
    pub fn broadcast(mut self, broadcast: Ipv4Addr) -> Self {
        self.broadcast = Some(broadcast);
        self
    }

    /// Sets the scope of an IPv4 address; otherwise that of 127.0.0.0/8 is `host` and that of all others `global`.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Sets the label, of IPv4: at most 15 bytes.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Sets the metric of the route to the neighbours.
    pub fn metric(mut self, metric: u32) -> Self {
        self.metric = Some(metric);
        self
    }

    /// Sets when the kernel removes it.
    pub fn valid(mut self, valid: Lifetime) -> Self {
        self.valid = valid;
        self
    }

    /// Sets for how long it is chosen for new connections; with [`valid`](Address::valid) shorter, for as long as that.
    pub fn preferred(mut self, preferred: Lifetime) -> Self {
        self.preferred = preferred;
        self
    }

    /// Uses an IPv6 address at once, without asking on the link whether another has it: where nobody else can, such as on
    /// a veth pair, that saves a second.
    #[doc(alias = "IFA_F_NODAD")]
    pub fn no_dad(mut self) -> Self {
        self.flags |= AddressFlags::NODAD;
        self
    }

    /// Makes no route to the neighbours.
    #[doc(alias = "IFA_F_NOPREFIXROUTE")]
    pub fn no_prefix_route(mut self) -> Self {
        self.flags |= AddressFlags::NOPREFIXROUTE;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        let fail = |why: &'static str| Err(Error::invalid("address", why).on(Subject::Value(self.address.to_string())));
        let is_ipv4 = self.address.is_ipv4();
        if self.peer.is_some_and(|peer| peer.is_ipv4() != is_ipv4) {
            return fail("the peer is of the other family");
        }
        if !is_ipv4 && (self.broadcast.is_some() || self.label.is_some()) {
            return fail("only IPv4 has broadcast addresses and labels");
        }
        if self.label.as_ref().is_some_and(|label| label.is_empty() || label.len() > 15 || label.contains('\0')) {
            return fail("a label has 1 to 15 bytes and no NUL");
        }
        if self.valid == Lifetime::For(Duration::ZERO) {
            return fail("it would be gone before it is there: the time it is valid is 0");
        }
        if self.preferred != Lifetime::Forever && self.preferred > self.valid {
            return fail("it would be preferred for longer than it is valid");
        }
        Ok(())
    }

    /// Whether all that is wished for is so in `found`. The rest is the kernel's.
    fn is_met_by(&self, found: &Self) -> bool {
        self.is_fixed_as_in(found)
            && self.metric.is_none_or(|metric| found.metric.unwrap_or(0) == metric)
            && self.valid == found.valid
            && self.preferred.min(self.valid) == found.preferred
            && self.wishes() == found.wishes()
    }

    /// Whether what RTM_NEWADDR does not change of an address that exists is as wished for.
    fn is_fixed_as_in(&self, found: &Self) -> bool {
        let same_v4 = || {
            self.scope == found.scope
                && self.broadcast.is_none_or(|broadcast| found.broadcast == Some(broadcast))
                && self.label.as_ref().is_none_or(|label| found.label.as_ref() == Some(label))
                && self.wishes() == found.wishes()
        };
        self.is_same(found) && (self.address.is_ipv6() || same_v4())
    }

    /// The flags that are the user's: the kernel does not keep IPv6's at an IPv4 address.
    fn wishes(&self) -> AddressFlags {
        self.flags.settable(self.address.is_ipv4())
    }

    /// Whether it is the same address for the kernel.
    fn is_same(&self, found: &Self) -> bool {
        self.address == found.address && self.peer == found.peer
    }
}

impl From<IpNet> for Address {
    fn from(address: IpNet) -> Self {
        Self::new(address)
    }
}

impl From<&Self> for Address {
    fn from(address: &Self) -> Self {
        address.clone()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer {
            Some(peer) => write!(f, "{} peer {peer}/{}", self.address.address(), self.address.prefix())?,
            None => self.address.fmt(f)?,
        }
        for (name, time) in [("valid", self.valid), ("preferred", self.preferred)] {
            if time != Lifetime::Forever {
                write!(f, " {name} {time}")?;
            }
        }
        if self.flags != AddressFlags::default() {
            write!(f, " {}", self.flags)?;
        }
        Ok(())
    }
}

impl Net {
    /// Adds an address to an interface: `ip address add`.
    ///
    /// * C call: RTM_NEWADDR with NLM_F_CREATE and NLM_F_EXCL.
    /// * The route to the neighbours comes with it, unless the interface is down or
    ///   [`no_prefix_route`](Address::no_prefix_route) was said. An IPv6 address is tentative for about a second; see
    ///   [`address_is_usable`](Net::address_is_usable).
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) when the interface has it;
    /// [`NotFound`](crate::ErrorKind::NotFound) without the interface;
    /// [`Permission`](crate::ErrorKind::Permission) without CAP_NET_ADMIN, and for IPv6 where `disable_ipv6` is set.
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// use vethnet::{IfName, IpNet};
    ///
    /// let address: IpNet = "10.1.0.2/24".parse()?;
    /// net.add_address(IfName::new("eth0")?, address).await
    /// # }
    /// ```
    pub async fn add_address(&self, link: impl Into<LinkRef>, address: impl Into<Address>) -> Result<()> {
        let (link, address) = (link.into(), address.into());
        address.check()?;
        let index = self.index_of(&link).await?;
        self.request(message::new(&link, index, &address, message::CREATE)).await.map(drop)
    }

    /// Makes sure that an interface has an address; one that is so already is left alone, without an event.
    ///
    /// What the kernel can change of an address that is there is changed: lifetimes and the metric, and the flags of an
    /// IPv6 address. A limited lifetime begins anew each time.
    ///
    /// # Errors
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) when the address is there with another prefix, peer, broadcast
    /// address, label or scope; those of [`add_address`](Net::add_address).
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// use vethnet::{Address, IfName};
    ///
    /// let address = Address::new("fd00::2/64".parse()?).no_dad();
    /// net.ensure_address(IfName::new("eth0")?, &address).await
    /// # }
    /// ```
    pub async fn ensure_address(&self, link: impl Into<LinkRef>, address: impl Into<Address>) -> Result<()> {
        let (link, address) = (link.into(), address.into());
        address.check()?;
        let index = self.index_of(&link).await?;
        let Err(error) = self.request(message::new(&link, index, &address, message::CREATE)).await else {
            return Ok(());
        };
        if error.raw_os_error() != Some(libc::EEXIST) {
            return Err(error);
        }
        let found = self.addresses_by(message::list(Some((&link, index)))).await?;
        let same_bits = |found: &&Address| found.address.address() == address.address.address();
        let found = found.iter().find(|found| address.is_same(found)).or_else(|| found.iter().find(same_bits));
        match found {
            Some(found) if address.is_met_by(found) => Ok(()),
            Some(found) if !address.is_fixed_as_in(found) => {
                Err(error.with_hint(format!("the interface has {found}, which cannot be changed into {address}")))
            }
            // Gone meanwhile, it is made; there, it is changed.
            _ => self.request(message::new(&link, index, &address, message::REPLACE)).await.map(drop),
        }
    }

    /// Removes an address from an interface; `false` when it had none such, or is gone itself.
    ///
    /// C call: RTM_DELADDR. The prefix has to be the address's own, and so has the peer. An IPv4 address that others of
    /// the same range came after (`secondary`) takes them with it, unless the sysctl `promote_secondaries` is on.
    ///
    /// # Errors
    /// [`Permission`](crate::ErrorKind::Permission) without CAP_NET_ADMIN.
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// use vethnet::{IfName, IpNet};
    ///
    /// let was_there = net.remove_address(IfName::new("eth0")?, "10.1.0.2/24".parse::<IpNet>()?).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn remove_address(&self, link: impl Into<LinkRef>, address: impl Into<Address>) -> Result<bool> {
        let (link, address) = (link.into(), address.into());
        let Some(index) = self.index_if_there(&link).await? else { return Ok(false) };
        match self.request(message::delete(&link, index, &address)).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::ENODEV)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All addresses of the network namespace, IPv4 and IPv6 (RTM_GETADDR).
    ///
    /// # Errors
    /// Limit (EAGAIN) when the list kept changing while it was read.
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// for address in net.addresses().await? {
    ///     println!("{address} on interface {:?}", address.index);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn addresses(&self) -> Result<Vec<Address>> {
        self.addresses_by(message::list(None)).await
    }

    /// The addresses of one interface. The kernel leaves the others out, so it costs the same on a machine with thousands.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) without the interface; those of [`addresses`](Net::addresses).
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// let list = net.addresses_on(vethnet::IfName::new("eth0")?).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn addresses_on(&self, link: impl Into<LinkRef>) -> Result<Vec<Address>> {
        let link = link.into();
        let index = self.index_of(&link).await?;
        self.addresses_by(message::list(Some((&link, index)))).await
    }

    async fn addresses_by(&self, request: Request) -> Result<Vec<Address>> {
        let answers = self.talk(&[request], Mode::Dump).await?;
        answers.iter().filter_map(|body| message::parse(body).transpose()).collect()
    }

    /// Waits until an address can be used: until duplicate address detection of an IPv6 address has ended well.
    ///
    /// It looks at the interface's addresses, at first after a millisecond, then ever later, at most 20 times a second.
    /// Without a carrier detection does not begin: bring both ends of a veth pair up first.
    ///
    /// # Errors
    /// * [`AlreadyExists`](crate::ErrorKind::AlreadyExists), operation `IFA_F_DADFAILED`: another host on the link has it;
    ///   the kernel keeps the address, unused;
    /// * [`TimedOut`](crate::ErrorKind::TimedOut) after `limit`;
    /// * [`NotFound`](crate::ErrorKind::NotFound) when the interface has no such address, or none any more.
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// use std::time::Duration;
    /// use vethnet::{IfName, IpNet};
    ///
    /// let eth0 = IfName::new("eth0")?;
    /// let address: IpNet = "fd00::2/64".parse()?;
    /// net.add_address(&eth0, address).await?;
    /// net.address_is_usable(&eth0, address, Duration::from_secs(5)).await
    /// # }
    /// ```
    #[doc(alias = "IFA_F_TENTATIVE")]
    #[doc(alias = "IFA_F_DADFAILED")]
    pub async fn address_is_usable(
        &self,
        link: impl Into<LinkRef>,
        address: impl Into<Address>,
        limit: Duration,
    ) -> Result<()> {
        let (link, address) = (link.into(), address.into());
        let index = self.index_of(&link).await?;
        let error = |operation, errno| {
            Error::from_errno(operation, errno)
                .on(Subject::Thing(format!("{} on {link}", address.address)))
                .with_hints(&HINTS)
        };
        let until = Instant::now() + limit;
        let mut pause = Duration::from_millis(1);
        loop {
            let list = self.addresses_by(message::list(Some((&link, index)))).await?;
            let Some(found) = list.iter().find(|found| address.is_same(found)) else {
                return Err(error("RTM_GETADDR", libc::ENOENT));
            };
            if found.flags.contains(AddressFlags::DADFAILED) {
                return Err(error("IFA_F_DADFAILED", libc::EEXIST));
            }
            // An optimistic address is used while it is still being looked for.
            if !found.flags.contains(AddressFlags::TENTATIVE) || found.flags.contains(AddressFlags::OPTIMISTIC) {
                return Ok(());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::timed_out("duplicate address detection", limit)
                    .on(Subject::Thing(format!("{} on {link}", address.address)))
                    .with_hint("it waits for a carrier: are both ends of the link up?"));
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}
