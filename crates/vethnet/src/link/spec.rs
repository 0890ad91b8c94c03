//! Making links of every kind, and ensuring that they are as they were asked for.
//!
//! Each kind's builder tells what was asked for as a [`Plan`]: pure data. From it comes either one message that makes the
//! link, or, compared with what the kernel says of the link of this name, one that changes just what differs.
//!
//! A link that takes more than one message (the kernel looks at an alias and at the mode of link-local addresses only once
//! the link is there) is removed again when a later one fails, and when the future is dropped in between.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use cellkit_core::{Error, ErrorKind, Result, Subject};

use crate::attr::{self, Writer};
use crate::exchange::{Mode, Request};
use crate::link::consts::*;
use crate::link::options::{Options, Same, equal};
use crate::link::settings::{Master, Settings};
use crate::link::{Link, LinkRef, consts, read};
use crate::name::IfName;
use crate::net::Net;

/// VETH_INFO_PEER
const VETH_INFO_PEER: u16 = 1;
/// How often a link is looked at again that comes and goes while it is ensured.
const ATTEMPTS: u32 = 16;

/// A kind of link with its options: what [`Net::create_link`] makes and [`Net::ensure_link`] sees to.
///
/// [`Veth`](crate::Veth), [`Bridge`](crate::Bridge), [`Vlan`](crate::Vlan), [`Macvlan`](crate::Macvlan),
/// [`Ipvlan`](crate::Ipvlan), [`Vxlan`](crate::Vxlan), [`Dummy`](crate::Dummy) and [`Ifb`](crate::Ifb) are. Nobody else's
/// types can be. See rtnetlink(7): <https://man7.org/linux/man-pages/man7/rtnetlink.7.html>.
///
/// ```no_run
/// async fn both(net: &vethnet::Net, one: &impl vethnet::LinkSpec, two: &impl vethnet::LinkSpec) -> vethnet::Result<()> {
///     net.ensure_link(one).await?;
///     net.ensure_link(two).await.map(drop)
/// }
/// ```
#[doc(alias = "IFLA_INFO_KIND")]
pub trait LinkSpec: sealed::Spec {}

impl<T: sealed::Spec> LinkSpec for T {}

pub(crate) mod sealed {
    /// See [`super::LinkSpec`].
    pub trait Spec {
        #[doc(hidden)]
        #[allow(private_interfaces, reason = "the trait cannot be named outside")]
        fn plan(&self) -> super::Result<super::Plan<'_>>;
    }
}

/// The other end of a veth pair.
#[derive(Clone, Debug)]
pub(crate) struct Peer<'a> {
    pub(crate) name: &'a IfName,
    pub(crate) settings: &'a Settings,
    pub(crate) netns: Option<BorrowedFd<'a>>,
}

/// What was asked for, checked.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    pub(crate) name: &'a IfName,
    pub(crate) kind: &'static str,
    pub(crate) settings: &'a Settings,
    pub(crate) options: &'a Options,
    /// The link it is on top of (IFLA_LINK).
    pub(crate) parent: Option<&'a LinkRef>,
    /// The same where it is an option of the kind.
    pub(crate) lower: Option<(u16, &'a LinkRef)>,
    pub(crate) peer: Option<Peer<'a>>,
    /// Options that no link can change later, with their names.
    pub(crate) fixed: &'static [(u16, &'static str)],
    /// Options that a kernel which does not know them passes over in silence, so that their absence is looked for.
    pub(crate) needs: &'static [(u16, &'static str, Option<&'static str>)],
    pub(crate) same: Same,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(name: &'a IfName, kind: &'static str, settings: &'a Settings, options: &'a Options) -> Self {
        Self {
            name,
            kind,
            settings,
            options,
            parent: None,
            lower: None,
            peer: None,
            fixed: &[],
            needs: &[],
            same: equal,
        }
    }

    fn check(&self) -> Result<()> {
        self.settings.check("RTM_NEWLINK")?;
        if let Some(peer) = &self.peer {
            peer.settings.check("RTM_NEWLINK")?;
            if peer.name == self.name && peer.netns.is_none() {
                return Err(Error::invalid("RTM_NEWLINK", "both ends of the pair have this name").on(self.subject()));
            }
        }
        Ok(())
    }

    fn subject(&self) -> Subject {
        Subject::Interface(self.name.to_string())
    }
}

/// The numbers of the links that a plan names.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Resolved {
    pub(crate) parent: Option<u32>,
    pub(crate) lower: Option<u32>,
    /// 0: nobody's port.
    pub(crate) master: Option<u32>,
}

/// `struct ifinfomsg`
pub(crate) fn header(index: u32, flags: u32, mask: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for number in [index, flags, mask] {
        bytes.extend_from_slice(&number.to_ne_bytes());
    }
    bytes
}

fn info(writer: &mut Writer, plan: &Plan<'_>, lower: Option<u32>, options: &Options) {
    writer.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, plan.kind);
        if options.is_empty() && lower.is_none() && plan.peer.is_none() {
            return;
        }
        info.nest(IFLA_INFO_DATA, |data| {
            options.write(data);
            if let (Some((kind, _)), Some(index)) = (plan.lower, lower) {
                data.put(kind, &index.to_ne_bytes());
            }
            if let Some(peer) = &plan.peer {
                data.nest(VETH_INFO_PEER, |inner| write_peer(inner, peer));
            }
        });
    });
}

/// A message within the message: with its own header, name, address and namespace.
fn write_peer(inner: &mut Writer, peer: &Peer<'_>) {
    let asked = peer.settings;
    inner.raw(&header(0, asked.flags, asked.mask)).text(IFLA_IFNAME, peer.name.as_str());
    asked.write_birth(inner);
    if let Some(netns) = peer.netns {
        inner.put(IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
    }
}

/// The message that makes the link; within `netns`, where one is given.
pub(crate) fn create(plan: &Plan<'_>, resolved: Resolved, netns: Option<BorrowedFd<'_>>) -> Result<Request> {
    let asked = plan.settings;
    let later = asked.needs_second_message();
    let mut writer = Writer::new(&if later { header(0, 0, 0) } else { header(0, asked.flags, asked.mask) });
    writer.text(IFLA_IFNAME, plan.name.as_str());
    asked.write_birth(&mut writer);
    if let Some(index) = resolved.parent {
        writer.put(IFLA_LINK, &index.to_ne_bytes());
    }
    if let Some(index) = resolved.master.filter(|index| *index != 0) {
        writer.put(IFLA_MASTER, &index.to_ne_bytes());
    }
    if let Some(netns) = netns {
        writer.put(IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
    }
    info(&mut writer, plan, resolved.lower, plan.options);
    let flags = NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO;
    message("RTM_NEWLINK", RTM_NEWLINK, flags, plan.subject(), writer)
}

fn message(operation: &'static str, kind: u16, flags: u16, subject: Subject, writer: Writer) -> Result<Request> {
    let subject = Some(subject);
    match writer.finish() {
        Ok(body) => Ok(Request { operation, subject, kind, flags, body }),
        Err(error) => Err(match subject {
            Some(subject) => error.on(subject),
            None => error,
        }),
    }
}

/// What a link is given once it is there: the attributes first, since the kernel brings it up before it looks at them.
pub(crate) fn finish(index: u32, subject: &Subject, asked: &Settings) -> Result<Vec<Request>> {
    let mut requests = Vec::new();
    if asked.needs_second_message() {
        let mut writer = Writer::new(&header(index, 0, 0));
        asked.write_second(&mut writer);
        requests.push(message("RTM_SETLINK", RTM_SETLINK, 0, subject.clone(), writer)?);
        if asked.mask != 0 {
            let writer = Writer::new(&header(index, asked.flags, asked.mask));
            requests.push(message("RTM_SETLINK", RTM_SETLINK, 0, subject.clone(), writer)?);
        }
    }
    Ok(requests)
}

/// The messages that make a link what it is not yet: none, where nothing differs.
///
/// # Errors
/// AlreadyExists (EEXIST) where it is something else that cannot become it.
pub(crate) fn adapt(plan: &Plan<'_>, resolved: Resolved, body: &[u8]) -> Result<Vec<Request>> {
    let link = Link::parse(body)?;
    let other = |what: String| {
        let hint = format!("{what}: choose another name, or remove it first");
        Err(Error::from_errno("RTM_NEWLINK", libc::EEXIST).on(plan.subject()).with_hint(hint))
    };
    if link.name != plan.name.as_str() {
        return other(format!("it is another name of the interface {}", link.name));
    }
    if link.kind.as_deref() != Some(plan.kind) {
        let kind = link.kind.as_deref().unwrap_or("hardware or the loopback");
        return other(format!("an interface of this name is there, and it is not a {} but: {kind}", plan.kind));
    }
    let data = read::info_data(body);
    let options = plan.options.differing(data, plan.same);
    if let Some((_, name)) = plan.fixed.iter().find(|(kind, _)| options.get(*kind).is_some()) {
        return other(format!("it has another {name}, which cannot be changed"));
    }
    if resolved.parent.is_some() && resolved.parent != link.parent {
        return other("it is on top of another interface".into());
    }
    let settings = plan.settings.differing(&link, resolved.master);
    if settings.tx_queues.is_some() || settings.rx_queues.is_some() {
        return other("it has another number of queues, which cannot be changed".into());
    }
    let lower = resolved.lower.filter(|index| {
        let found = plan.lower.and_then(|(kind, _)| attr::find(data, kind)).and_then(read::u32_of);
        found != Some(*index)
    });
    if options.is_empty() && lower.is_none() && settings.is_empty() {
        return Ok(Vec::new());
    }
    let later = settings.needs_second_message();
    let flags = if later { (0, 0) } else { (settings.flags, settings.mask) };
    let mut writer = Writer::new(&header(link.index, flags.0, flags.1));
    settings.write_birth(&mut writer);
    if let (Some(_), Some(index)) = (&settings.master, resolved.master) {
        writer.put(IFLA_MASTER, &index.to_ne_bytes());
    }
    if !options.is_empty() || lower.is_some() {
        info(&mut writer, &Plan { peer: None, ..plan.clone() }, lower, &options);
    }
    let request = message("RTM_NEWLINK", RTM_NEWLINK, 0, plan.subject(), writer)?;
    let mut requests = Vec::new();
    if request.body.len() > read::HEADER || flags.1 != 0 {
        requests.push(request);
    }
    requests.extend(finish(link.index, &plan.subject(), &settings)?);
    Ok(requests)
}

/// An option that was asked for and that the kernel does not tell of: it does not know it.
fn missing(plan: &Plan<'_>, body: &[u8]) -> Option<Error> {
    let data = read::info_data(body);
    let lacks = |(kind, _, _): &&(u16, &str, Option<&str>)| {
        plan.options.get(*kind).is_some() && attr::find(data, *kind).is_none()
    };
    let (_, feature, since) = plan.needs.iter().find(lacks)?;
    Some(Error::unsupported("RTM_NEWLINK", *feature, *since).on(plan.subject()))
}

/// Says which module or setting of the kernel is missing, where it is one.
fn explain(error: Error, kind: &'static str) -> Error {
    if error.raw_os_error() != Some(libc::EOPNOTSUPP) {
        return error;
    }
    let (module, config) = match kind {
        "bridge" => ("bridge", "CONFIG_BRIDGE, CONFIG_BRIDGE_VLAN_FILTERING and CONFIG_BRIDGE_IGMP_SNOOPING"),
        "vlan" => ("8021q", "CONFIG_VLAN_8021Q"),
        "macvlan" => ("macvlan", "CONFIG_MACVLAN"),
        "macvtap" => ("macvtap", "CONFIG_MACVTAP"),
        "ipvlan" => ("ipvlan", "CONFIG_IPVLAN"),
        "vxlan" => ("vxlan", "CONFIG_VXLAN"),
        "dummy" => ("dummy", "CONFIG_DUMMY"),
        "ifb" => ("ifb", "CONFIG_IFB"),
        _ => ("veth", "CONFIG_VETH"),
    };
    error.with_hint(format!(
        "this kernel has no {kind} links, or not with this option: load the module (modprobe {module}), or use a kernel built \
         with {config}"
    ))
}

impl Net {
    /// Makes a link, in one message to the kernel where it allows that, and returns it as the kernel tells of it.
    ///
    /// * C call: RTM_NEWLINK with NLM_F_CREATE and NLM_F_EXCL: of two callers one gets the error.
    /// * On an error, and when the future is dropped half way, there is no link.
    /// * Kernel: 5.15. Privileges: CAP_NET_ADMIN over the namespace, and over that of a veth pair's other end.
    ///
    /// # Errors
    /// * [`AlreadyExists`](crate::ErrorKind::AlreadyExists): a link has this name, or has it as one of its other names.
    /// * [`Invalid`](crate::ErrorKind::Invalid): an argument is wrong in itself (before anything is sent), or the kernel
    ///   says so, with its own text.
    /// * [`NotFound`](crate::ErrorKind::NotFound): the parent or the bridge is not there.
    /// * [`Limit`](crate::ErrorKind::Limit) (EXFULL): the bridge has 1023 ports, which is all it can have.
    /// * [`Unsupported`](crate::ErrorKind::Unsupported): the kernel has no such kind, or not the option.
    #[doc(alias = "RTM_NEWLINK")]
    pub async fn create_link<S: LinkSpec + ?Sized>(&self, spec: &S) -> Result<Link> {
        let plan = spec.plan()?;
        plan.check()?;
        let resolved = self.resolve(&plan).await?;
        self.create_planned(&plan, resolved).await
    }

    /// Makes a link that is born within another network namespace, on top of a parent in this one: a
    /// [`Macvlan`](crate::Macvlan), [`Ipvlan`](crate::Ipvlan) or [`Vlan`](crate::Vlan) for a container, which never was on
    /// the host. (For the end of a pair there is [`Veth::peer_netns`](crate::Veth::peer_netns).)
    ///
    /// C call: RTM_NEWLINK with IFLA_NET_NS_FD. Privileges: CAP_NET_ADMIN over both namespaces.
    ///
    /// # Errors
    /// As [`create_link`](Self::create_link); Invalid for a master, an alias or a mode of link-local addresses, which can
    /// only be given from inside.
    #[doc(alias = "IFLA_NET_NS_FD")]
    pub async fn create_link_inside<S: LinkSpec + ?Sized>(&self, netns: impl AsFd, spec: &S) -> Result<()> {
        let plan = spec.plan()?;
        plan.check()?;
        if plan.settings.master.is_some() || plan.settings.needs_second_message() {
            let why = "a master, an alias and addr_gen_mode can only be given from inside the namespace";
            return Err(Error::invalid("RTM_NEWLINK", why).on(plan.subject()));
        }
        let resolved = self.resolve(&plan).await?;
        let answers = self.request(create(&plan, resolved, Some(netns.as_fd()))?).await;
        answers.map(drop).map_err(|error| explain(error, plan.kind))
    }

    /// Sees to it that there is such a link, and returns it.
    ///
    /// It is made where it is missing. Where there is one of the same kind, what was asked for and differs is changed, and
    /// nothing else is touched; where nothing differs nothing is sent, and no program that watches hears of anything. Of a
    /// veth pair the end here is seen to.
    ///
    /// # Errors
    /// * [`AlreadyExists`](crate::ErrorKind::AlreadyExists): the name is that of another kind of link, or of one that
    ///   differs in what cannot be changed (a VLAN's number, a parent). The hint says in what.
    /// * As [`create_link`](Self::create_link).
    pub async fn ensure_link<S: LinkSpec + ?Sized>(&self, spec: &S) -> Result<Link> {
        let plan = spec.plan()?;
        plan.check()?;
        let resolved = self.resolve(&plan).await?;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let name = LinkRef::from(plan.name);
            let Some(body) = self.link_body(&name).await? else {
                match self.create_planned(&plan, resolved).await {
                    // Somebody else was faster: look at what it is.
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => last = Some(error),
                    result => return result,
                }
                continue;
            };
            let requests = adapt(&plan, resolved, &body)?;
            if requests.is_empty() {
                return missing(&plan, &body).map_or_else(|| Link::parse(&body), Err);
            }
            match self.talk(&requests, Mode::Each).await.map_err(|error| explain(error, plan.kind)) {
                // It went away meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => last = Some(error),
                Err(error) => return Err(error),
                Ok(_) => {
                    let body = self.link_body(&name).await?;
                    match body {
                        Some(body) => return missing(&plan, &body).map_or_else(|| Link::parse(&body), Err),
                        None => last = Some(Error::gone("RTM_GETLINK", Some(libc::ENODEV)).on(plan.subject())),
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::from_errno("RTM_NEWLINK", libc::EAGAIN).on(plan.subject())))
    }

    async fn create_planned(&self, plan: &Plan<'_>, resolved: Resolved) -> Result<Link> {
        let name = LinkRef::from(plan.name);
        let gone = || Error::gone("RTM_NEWLINK", Some(libc::ENODEV)).on(plan.subject());
        let answers = self.request(create(plan, resolved, None)?).await.map_err(|error| explain(error, plan.kind))?;
        // The kernel tells the number of what it has made since 6.2; before, somebody may rename it in between.
        let index = match answers.first() {
            Some(body) => Link::parse(body)?.index,
            None => self.read(&name).await?.ok_or_else(gone)?.index,
        };
        let guard = NewLinkGuard { net: self, index, finished: false };
        let requests = finish(index, &plan.subject(), plan.settings)?;
        if !requests.is_empty() {
            self.talk(&requests, Mode::Each).await?;
        }
        let body = self.link_body(&LinkRef::Index(index)).await?.ok_or_else(gone)?;
        if let Some(error) = missing(plan, &body) {
            return Err(error);
        }
        guard.finish();
        Link::parse(&body)
    }

    async fn resolve(&self, plan: &Plan<'_>) -> Result<Resolved> {
        let mut resolved = Resolved::default();
        if let Some(parent) = plan.parent {
            resolved.parent = Some(self.index_of(parent).await?);
        }
        if let Some((_, lower)) = plan.lower {
            resolved.lower = Some(self.index_of(lower).await?);
        }
        resolved.master = self.master_of(plan.settings).await?;
        Ok(resolved)
    }

    pub(crate) async fn master_of(&self, settings: &Settings) -> Result<Option<u32>> {
        match &settings.master {
            None => Ok(None),
            Some(Master::Nobody) => Ok(Some(0)),
            Some(Master::Of(master)) => self.index_of(master).await.map(Some),
        }
    }
}

/// Removes a link that is only half made.
struct NewLinkGuard<'a> {
    net: &'a Net,
    index: u32,
    finished: bool,
}

impl NewLinkGuard<'_> {
    fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for NewLinkGuard<'_> {
    fn drop(&mut self) {
        if !self.finished {
            let request = Request {
                operation: "RTM_DELLINK",
                subject: None,
                kind: consts::RTM_DELLINK,
                flags: 0,
                body: header(self.index, 0, 0),
            };
            self.net.send_and_forget(&request);
        }
    }
}
