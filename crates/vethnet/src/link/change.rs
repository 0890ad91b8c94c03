//! [`LinkChange`]: what is changed of a link that is there.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use cellkit_core::{Error, ErrorKind, Result, Subject};

use crate::attr::Writer;
use crate::batch::Batch;
use crate::exchange::{Mode, Request};
use crate::hint::HINTS;
use crate::link::consts::*;
use crate::link::create::numbered_master;
use crate::link::settings::{Master, Settings, link_settings};
use crate::link::spec::{finish, header};
use crate::link::{LOOPBACK_INDEX, Link, LinkRef};
use crate::name::IfName;
use crate::net::Net;

/// Changes of a link, collected: `ip link set NAME …`.
///
/// * Kernel message: RTM_SETLINK. A move to another network namespace and the name there are one message. When the name
///   is taken there, the link is brought back: it is here as before, but for its addresses and routes.
/// * What is not set stays as it is.
///
/// ```no_run
/// # async fn example(net: &vethnet::Net, container: std::os::fd::OwnedFd) -> vethnet::Result<()> {
/// use vethnet::{IfName, LinkChange};
///
/// let link = IfName::new("veth7")?;
/// net.change_link(&link, &LinkChange::new().mtu(1400).up()).await?;
/// net.change_link(&link, &LinkChange::new().netns(&container).rename(IfName::new("eth0")?)).await?;
/// # Ok(())
/// # }
/// ```
///
/// See ip-link(8): <https://man7.org/linux/man-pages/man8/ip-link.8.html>.
#[doc(alias = "RTM_SETLINK")]
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is changed before Net::change_link"]
pub struct LinkChange<'n> {
    settings: Settings,
    name: Option<IfName>,
    netns: Option<BorrowedFd<'n>>,
}

link_settings!(LinkChange<'_>);

impl<'n> LinkChange<'n> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another name. Since Linux 6.2 a link that is up can be renamed; before it has to be down (EBUSY).
    #[doc(alias = "IFLA_IFNAME")]
    #[doc(alias = "SIOCSIFNAME")]
    pub fn rename(mut self, name: IfName) -> Self {
        self.name = Some(name);
        self
    }

    /// Moves it into this network namespace. It loses its addresses and routes and is down there, unless
    /// [`up`](Self::up) is asked for as well.
    #[doc(alias = "IFLA_NET_NS_FD")]
    pub fn netns(mut self, netns: &'n (impl AsFd + ?Sized)) -> Self {
        self.netns = Some(netns.as_fd());
        self
    }

    /// Brings it down: it loses its routes, and its IPv6 addresses.
    pub fn down(self) -> Self {
        self.flag(IFF_UP, false)
    }

    /// Makes it no port of anything.
    #[doc(alias = "IFLA_MASTER")]
    pub fn no_master(mut self) -> Self {
        self.settings.master = Some(Master::Nobody);
        self
    }

    /// Takes every packet of the wire.
    #[doc(alias = "IFF_PROMISC")]
    pub fn promisc(self) -> Self {
        self.flag(IFF_PROMISC, true)
    }

    /// Takes only what is meant for it.
    pub fn no_promisc(self) -> Self {
        self.flag(IFF_PROMISC, false)
    }

    /// Takes packets to every multicast group.
    #[doc(alias = "IFF_ALLMULTI")]
    pub fn allmulti(self) -> Self {
        self.flag(IFF_ALLMULTI, true)
    }

    /// Takes only those to groups that were joined.
    pub fn no_allmulti(self) -> Self {
        self.flag(IFF_ALLMULTI, false)
    }

    /// Looks for neighbours with ARP.
    pub fn arp(self) -> Self {
        self.flag(IFF_NOARP, false)
    }

    /// Neither asks nor answers with ARP: neighbours have to be entered by hand.
    #[doc(alias = "IFF_NOARP")]
    pub fn no_arp(self) -> Self {
        self.flag(IFF_NOARP, true)
    }

    /// Sends to multicast groups.
    #[doc(alias = "IFF_MULTICAST")]
    pub fn multicast(self) -> Self {
        self.flag(IFF_MULTICAST, true)
    }

    /// Sends to none.
    pub fn no_multicast(self) -> Self {
        self.flag(IFF_MULTICAST, false)
    }

    fn flag(mut self, flag: u32, on: bool) -> Self {
        self.settings.flag(flag, on);
        self
    }

    /// The messages, to the link with this number; none where nothing was asked for.
    pub(crate) fn requests(&self, index: u32, subject: &Subject, master: Option<u32>) -> Result<Vec<Request>> {
        self.settings.check("RTM_SETLINK")?;
        if index == LOOPBACK_INDEX && (self.netns.is_some() || self.name.is_some()) {
            let why = "the loopback interface belongs to its network namespace: it is neither moved nor renamed";
            return Err(Error::invalid("RTM_SETLINK", why).on(subject.clone()));
        }
        if self.netns.is_some() && (self.settings.needs_second_message() || self.settings.master.is_some()) {
            let why = "a master, an alias and addr_gen_mode are given before a move, or afterwards from inside";
            return Err(Error::invalid("RTM_SETLINK", why).on(subject.clone()));
        }
        if self.netns.is_some() {
            return self.move_requests(index, subject);
        }
        let asked = &self.settings;
        let flags = if asked.needs_second_message() { (0, 0) } else { (asked.flags, asked.mask) };
        let bare = header(index, flags.0, flags.1);
        let mut writer = Writer::new(&bare);
        if let Some(name) = &self.name {
            writer.text(IFLA_IFNAME, name.as_str());
        }
        asked.write_birth(&mut writer);
        if let Some(index) = master {
            writer.put(IFLA_MASTER, &index.to_ne_bytes());
        }
        let body = writer.finish()?;
        let mut requests = Vec::new();
        if body.len() > bare.len() || flags.1 != 0 {
            let subject = Some(subject.clone());
            requests.push(Request { operation: "RTM_SETLINK", subject, kind: RTM_SETLINK, flags: 0, body });
        }
        requests.extend(finish(index, subject, asked)?);
        Ok(requests)
    }

    /// What is wrong with the driver's limits is found out here, before the move.
    fn move_requests(&self, index: u32, subject: &Subject) -> Result<Vec<Request>> {
        let request = |body| {
            let subject = Some(subject.clone());
            Request { operation: "RTM_SETLINK", subject, kind: RTM_SETLINK, flags: 0, body }
        };
        let bare = header(index, 0, 0);
        let mut writer = Writer::new(&bare);
        self.settings.write_birth(&mut writer);
        let body = writer.finish()?;
        let mut requests = Vec::new();
        if body.len() > bare.len() {
            requests.push(request(body));
        }
        let mut writer = Writer::new(&header(index, self.settings.flags, self.settings.mask));
        if let Some(netns) = self.netns {
            writer.put(IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
        }
        if let Some(name) = &self.name {
            writer.text(IFLA_IFNAME, name.as_str());
        }
        requests.push(request(writer.finish()?));
        Ok(requests)
    }
}

/// Another name of a link, by which it is found as well: 1 to 127 bytes.
///
/// The rules are those of [`IfName`], but for the length. A name and another name share one space: nothing can be
/// called what something else is called already.
///
/// See ip-link(8), `altname`: <https://man7.org/linux/man-pages/man8/ip-link.8.html>.
///
/// ```
/// use vethnet::AltName;
///
/// assert_eq!(AltName::new("the-uplink-to-the-world")?.as_str(), "the-uplink-to-the-world");
/// assert!(AltName::new("all").is_err());
/// # Ok::<(), vethnet::Error>(())
/// ```
#[doc(alias = "IFLA_ALT_IFNAME")]
#[doc(alias = "ALTIFNAMSIZ")]
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AltName(String);

impl AltName {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the rule that is broken.
    pub fn new(name: &str) -> Result<Self> {
        match crate::name::fault(name, 127) {
            None => Ok(Self(name.to_owned())),
            Some(why) => Err(Error::invalid("alternative name", why).on(Subject::Value(name.to_owned()))),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn alt_name(operation: &'static str, kind: u16, flags: u16, index: u32, name: &AltName) -> Result<Request> {
    let mut writer = Writer::new(&header(index, 0, 0));
    writer.nest(IFLA_PROP_LIST, |list| {
        list.text(IFLA_ALT_IFNAME, name.as_str());
    });
    let subject = Some(Subject::Interface(name.as_str().to_owned()));
    Ok(Request { operation, subject, kind, flags, body: writer.finish()? })
}

/// Asks for one link, without its counters, which are most of the answer.
pub(crate) fn get(link: &LinkRef) -> Result<Request> {
    let mut writer = Writer::new(&header(link.index().unwrap_or(0), 0, 0));
    if let LinkRef::Name(name) = link {
        writer.text(IFLA_IFNAME, name.as_str());
    }
    writer.put(IFLA_EXT_MASK, &RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    let subject = Some(link.subject());
    Ok(Request { operation: "RTM_GETLINK", subject, kind: RTM_GETLINK, flags: 0, body: writer.finish()? })
}

impl Net {
    /// All links of the namespace (RTM_GETLINK).
    ///
    /// # Errors
    /// Limit (EAGAIN) when the list kept changing while it was read.
    #[doc(alias = "getifaddrs")]
    pub async fn links(&self) -> Result<Vec<Link>> {
        let answers = self.talk(&[super::list()], Mode::Dump).await?;
        answers.iter().map(|body| Link::parse(body)).collect()
    }

    /// The link of this name or number (RTM_GETLINK), if there is one.
    ///
    /// The kernel also finds a link by one of its other names: [`Link::name`] says its first.
    ///
    /// # Errors
    /// Those of the request, but for ENODEV.
    #[doc(alias = "if_nametoindex")]
    pub async fn link(&self, link: impl Into<LinkRef>) -> Result<Option<Link>> {
        self.read(&link.into()).await
    }

    pub(crate) async fn read(&self, link: &LinkRef) -> Result<Option<Link>> {
        self.link_body(link).await?.map(|body| Link::parse(&body)).transpose()
    }

    pub(crate) async fn link_body(&self, link: &LinkRef) -> Result<Option<Vec<u8>>> {
        match self.request(get(link)?).await {
            Ok(answers) => Ok(answers.into_iter().next()),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The number of a link; a name has to be that of one.
    pub(crate) async fn index_of(&self, link: &LinkRef) -> Result<u32> {
        match link {
            LinkRef::Index(0) => Err(Error::invalid("link", "links are numbered from 1").on(link.subject())),
            LinkRef::Index(index) | LinkRef::Read { index, .. } => Ok(*index),
            LinkRef::Name(name) => match self.read(link).await? {
                Some(found) if found.name == name.as_str() => Ok(found.index),
                Some(found) => {
                    Err(absent(link).with_hint(format!("it is another name of the interface {}", found.name)))
                }
                None => Err(absent(link)),
            },
        }
    }

    /// Changes a link. What was not asked for stays as it is; an empty change sends nothing.
    ///
    /// C call: RTM_SETLINK. Privileges: CAP_NET_ADMIN over the namespace, and over that it is moved to.
    ///
    /// # Errors
    /// * [`NotFound`](crate::ErrorKind::NotFound): there is no such link.
    /// * [`AlreadyExists`](crate::ErrorKind::AlreadyExists): the new name is taken, here or where it is moved to. After a
    ///   move, that it could not be brought back from there is in [`also`](crate::Error::also).
    /// * [`Busy`](crate::ErrorKind::Busy): before Linux 6.2, a link that is up was to be renamed.
    /// * [`Invalid`](crate::ErrorKind::Invalid): the loopback was to be moved or renamed; an MTU that the driver does not
    ///   take (with the kernel's text); a bridge was to be the port of a bridge (ELOOP).
    /// * [`Limit`](crate::ErrorKind::Limit) (EXFULL): the bridge has 1023 ports.
    #[doc(alias = "RTM_SETLINK")]
    pub async fn change_link(&self, link: impl Into<LinkRef>, change: &LinkChange<'_>) -> Result<()> {
        let link = link.into();
        let index = self.index_of(&link).await?;
        let master = self.master_of(&change.settings).await?;
        let requests = change.requests(index, &link.subject(), master)?;
        let Some(netns) = change.netns else {
            return if requests.is_empty() { Ok(()) } else { self.talk(&requests, Mode::Each).await.map(drop) };
        };
        let before = self.read(&LinkRef::Index(index)).await?.ok_or_else(|| absent(&link))?;
        for request in requests {
            if let Err(error) = self.request(request).await {
                let back = self.bring_back(&before, netns).await;
                return Error::all(std::iter::once(error).chain(back.err()));
            }
        }
        Ok(())
    }

    /// Where the new name is taken at the other side, the kernel (to this day) moves the link first and then does not
    /// rename it. So it is there, under its old name.
    async fn bring_back(&self, link: &Link, netns: BorrowedFd<'_>) -> Result<()> {
        if self.read(&LinkRef::from(link)).await?.is_some() {
            return Ok(());
        }
        let there = Self::inside(netns).await?;
        let name = LinkRef::Name(IfName::new(&link.name)?);
        let index = there.index_of(&name).await?;
        let here = self.netns()?;
        let mut writer = Writer::new(&header(index, 0, 0));
        writer.put(IFLA_NET_NS_FD, &here.as_raw_fd().to_ne_bytes());
        let subject = Some(name.subject());
        let body = writer.finish()?;
        there.request(Request { operation: "RTM_SETLINK", subject, kind: RTM_SETLINK, flags: 0, body }).await.map(drop)
    }

    /// Removes a link, and with one end of a veth pair the other; `false` when there is none such, any more.
    ///
    /// A [`Link`] that was read is removed by its number, so that what was checked of it is true of what is removed, and a
    /// link that has its name by now stays. A name has to be the link's first: what only has it as another name stays too
    /// (`false`).
    ///
    /// C call: RTM_DELLINK. Privileges: CAP_NET_ADMIN over the namespace.
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported): hardware and the loopback are not removed.
    ///
    /// ```no_run
    /// # async fn example(net: vethnet::Net) -> vethnet::Result<()> {
    /// let was_there = net.remove_link(vethnet::IfName::new("veth7")?).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "RTM_DELLINK")]
    pub async fn remove_link(&self, link: impl Into<LinkRef>) -> Result<bool> {
        let link = link.into();
        let Some(index) = self.index_if_there(&link).await? else { return Ok(false) };
        let subject = Some(link.subject());
        let body = header(index, 0, 0);
        match self.request(Request { operation: "RTM_DELLINK", subject, kind: RTM_DELLINK, flags: 0, body }).await {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives a link another name, by which it is found as well.
    ///
    /// C call: RTM_NEWLINKPROP. Kernel 5.5. Privileges: CAP_NET_ADMIN over the namespace.
    ///
    /// # Errors
    /// * [`AlreadyExists`](crate::ErrorKind::AlreadyExists): a link has this name already, be it this one.
    /// * [`NotFound`](crate::ErrorKind::NotFound): there is no such link.
    #[doc(alias = "RTM_NEWLINKPROP")]
    pub async fn add_altname(&self, link: impl Into<LinkRef>, name: &AltName) -> Result<()> {
        let index = self.index_of(&link.into()).await?;
        let flags = NLM_F_CREATE | NLM_F_EXCL | NLM_F_APPEND;
        self.request(alt_name("RTM_NEWLINKPROP", RTM_NEWLINKPROP, flags, index, name)?).await.map(drop)
    }

    /// Takes another name from a link; `false` when it does not have that name, or is gone itself.
    ///
    /// C call: RTM_DELLINKPROP. Kernel 5.5. Privileges: CAP_NET_ADMIN over the namespace.
    ///
    /// # Errors
    /// [`Permission`](crate::ErrorKind::Permission) without CAP_NET_ADMIN.
    #[doc(alias = "RTM_DELLINKPROP")]
    pub async fn remove_altname(&self, link: impl Into<LinkRef>, name: &AltName) -> Result<bool> {
        let Some(index) = self.index_if_there(&link.into()).await? else { return Ok(false) };
        match self.request(alt_name("RTM_DELLINKPROP", RTM_DELLINKPROP, 0, index, name)?).await {
            Ok(_) => Ok(true),
            // The kernel says EINVAL where the name is another link's.
            Err(error) if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Batch {
    /// Changes a link, as [`Net::change_link`] does (RTM_SETLINK), but moves none: that may have to be undone. A bridge it is to
    /// be a port of has to be given by a [`Link`] that was read.
    #[doc(alias = "RTM_SETLINK")]
    pub fn change_link(self, link: &Link, change: &LinkChange<'_>) -> Self {
        let subject = LinkRef::from(link).subject();
        let requests = match change.netns {
            Some(_) => Err(Error::invalid("RTM_SETLINK", "in a batch, no link is moved").on(subject)),
            None => numbered_master(&change.settings).and_then(|master| change.requests(link.index, &subject, master)),
        };
        self.push_all(requests)
    }
}

fn absent(link: &LinkRef) -> Error {
    Error::from_errno("RTM_GETLINK", libc::ENODEV).on(link.subject()).with_hints(&HINTS)
}
