//! Making links, and ensuring that they are as they were asked for: see [`spec`](super::spec) for what is sent.
//!
//! A link that takes more than one message (the kernel looks at an alias and at the mode of link-local addresses only once
//! the link is there) is removed again when a later one fails, and when the future is dropped in between.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use cellkit_core::{Error, ErrorKind, Result, Subject};

use crate::batch::Batch;
use crate::exchange::{Mode, Request};
use crate::link::consts::{NLM_F_ECHO, RTM_DELLINK};
use crate::link::settings::{Master, Settings};
use crate::link::spec::{Adaptation, LinkSpec, Peer, Plan, Resolved, adapt, create, finish, header, missing};
use crate::link::{Link, LinkRef};
use crate::net::Net;

/// How often a link is looked at again that comes and goes while it is ensured.
const ATTEMPTS: u32 = 16;

/// The kernel made the link with the option, but does not change it.
fn stays(kind: &'static str, subject: Option<Subject>, error: &Error) -> Error {
    let mut exists = Error::from_errno("RTM_NEWLINK", libc::EEXIST)
        .with_kernel_text(error.kernel_text().unwrap_or_default())
        .with_hint(format!("the kernel does not change this option of a {kind} that is there: remove it first"));
    if let Some(subject) = subject {
        exists = exists.on(subject);
    }
    exists
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
            let adaptation = adapt(&plan, resolved, &body)?;
            if adaptation.options.is_none() && adaptation.settings.is_empty() {
                return missing(&plan, &body).map_or_else(|| Link::parse(&body), Err);
            }
            match self.adapt_link(adaptation, plan.kind).await {
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

    async fn adapt_link(&self, adaptation: Adaptation, kind: &'static str) -> Result<()> {
        if let Some(request) = adaptation.options {
            let subject = request.subject.clone();
            self.request(request).await.map_err(|error| match error.raw_os_error() {
                // A bridge's options can all be changed: it lacks the option, or the value is wrong.
                Some(libc::EINVAL | libc::EOPNOTSUPP) if kind != "bridge" => stays(kind, subject, &error),
                _ => explain(error, kind),
            })?;
        }
        if !adaptation.settings.is_empty() {
            self.talk(&adaptation.settings, Mode::Each).await?;
        }
        Ok(())
    }

    async fn create_planned(&self, plan: &Plan<'_>, resolved: Resolved) -> Result<Link> {
        let name = LinkRef::from(plan.name);
        let gone = || Error::gone("RTM_NEWLINK", Some(libc::ENODEV)).on(plan.subject());
        let answers = match self.request(create(plan, resolved, None)?).await {
            Ok(answers) => answers,
            Err(error) => return Err(self.whose_name(plan, explain(error, plan.kind)).await),
        };
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

    /// Of a pair, the kernel says of either end's name that it is taken, and does not say of which.
    async fn whose_name(&self, plan: &Plan<'_>, error: Error) -> Error {
        let Some(peer) = plan.peer.as_ref().filter(|_| error.raw_os_error() == Some(libc::EEXIST)) else {
            return error;
        };
        if !matches!(self.read(&LinkRef::from(plan.name)).await, Ok(None)) {
            return error;
        }
        let hint = match peer.netns {
            Some(_) => "the network namespace of the other end has an interface of this name already",
            None => "an interface of this name, which the other end was to have, exists already: look with ip link",
        };
        Error::from_errno("RTM_NEWLINK", libc::EEXIST).on(Subject::Interface(peer.name.to_string())).with_hint(hint)
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

/// The number of a link that a batch names.
pub(super) fn numbered(link: &LinkRef) -> Result<u32> {
    let why = "in a batch, another link is given by one that was read";
    link.index().ok_or_else(|| Error::invalid("RTM_NEWLINK", why).on(link.subject()))
}

/// The number of the bridge that is asked for, in a batch.
pub(super) fn numbered_master(settings: &Settings) -> Result<Option<u32>> {
    match &settings.master {
        None => Ok(None),
        Some(Master::Nobody) => Ok(Some(0)),
        Some(Master::Of(master)) => numbered(master).map(Some),
    }
}

impl Batch {
    /// Makes a link, as [`Net::create_link`] does (RTM_NEWLINK). Its parent and its bridge have to be given by a [`Link`] that
    /// was read, and an alias or a mode of link-local addresses, which take a second message, only later. Options that the
    /// kernel does not know and passes over in silence are not looked for.
    ///
    /// Where a veth pair's other end goes to another network namespace, the batch has a descriptor of that until it was applied.
    #[doc(alias = "RTM_NEWLINK")]
    pub fn create_link<S: LinkSpec + ?Sized>(mut self, spec: &S) -> Self {
        let request = spec.plan().and_then(|plan| self.creation(plan));
        self.push(request)
    }

    fn creation(&mut self, plan: Plan<'_>) -> Result<Request> {
        plan.check()?;
        if plan.settings.needs_second_message() {
            let why = "in a batch, an alias and addr_gen_mode can only be given once the link is there";
            return Err(Error::invalid("RTM_NEWLINK", why).on(plan.subject()));
        }
        let resolved = Resolved {
            parent: plan.parent.map(numbered).transpose()?,
            lower: plan.lower.map(|(_, lower)| numbered(lower)).transpose()?,
            master: numbered_master(plan.settings)?,
        };
        // The message has the number of the descriptor, which must not be another's when it is sent.
        let netns = plan.peer.as_ref().and_then(|peer| peer.netns).map(|netns| netns.try_clone_to_owned()).transpose();
        let netns = netns.map_err(|error| Error::from_io("fcntl", &error).on(plan.subject()))?;
        let peer = plan.peer.clone().map(|peer| Peer { netns: netns.as_ref().map(AsFd::as_fd), ..peer });
        let mut request = create(&Plan { peer, ..plan }, resolved, None)?;
        // Many answers might not fit the receive buffer.
        request.flags &= !NLM_F_ECHO;
        self.keep(netns);
        Ok(request)
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
                kind: RTM_DELLINK,
                flags: 0,
                body: header(self.index, 0, 0),
            };
            self.net.send_and_forget(&request);
        }
    }
}
