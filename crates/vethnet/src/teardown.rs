//! Removing what was made, from the record alone.
//!
//! One way for all who need it: detaching, undoing a failed or abandoned attach, and what a killed process left. So every
//! part may be there or not, and a failure of one does not keep the others. The order: first the published ports, so that
//! no packet is sent to an address that is being taken away; then the veth pair, whose one end takes the other along, or
//! is gone already with the container's namespace; then the connections, of which there can be no new ones; then the
//! lease; then, after the last lease, what was shared.
//!
//! It blocks, and its sockets are opened before anything is made: nothing that happens later, such as having no file
//! descriptor left, can keep it from undoing.
#![forbid(unsafe_code)]

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use cellkit_core::{Error, ErrorKind, ProcFd, ProcView, Result, Subject};

use crate::conntrack;
use crate::exchange::{Mode, Request};
use crate::lease::State;
use crate::link::{self, Link};
use crate::lock::Lock;
use crate::mac::MacAddr;
use crate::name::{IfName, Owner};
use crate::netns::inside_blocking;
use crate::nft;
use crate::plan::Sysctl;
use crate::port::{Protocol, PublishedPort};
use crate::record::Record;
use crate::socket::{Family, Socket};
use crate::sysctl;

const ACCEPT_REDIRECTS: &str = "net/ipv4/conf/all/accept_redirects";

/// The network namespace of the bridge, ready to be cleaned up.
#[derive(Debug)]
pub(crate) struct Host {
    route: Socket,
    netfilter: Socket,
    pub(crate) netns: OwnedFd,
    pub(crate) proc: Arc<ProcFd>,
}

impl Host {
    /// That of the calling thread.
    pub(crate) fn here() -> Result<Self> {
        let route = Socket::open(Family::Route)?;
        let netns = route.netns()?;
        let proc = Arc::new(ProcFd::open(ProcView::Whole)?);
        Ok(Self { route, netfilter: Socket::open(Family::Netfilter)?, netns, proc })
    }

    fn link(&self, name: &IfName) -> Result<Option<Link>> {
        match self.route.talk(&[link::get(name)], Mode::Ack) {
            Ok(answers) => answers.first().map(|body| Link::parse(body)).transpose(),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn delete_link(&self, link: &Link) -> Result<()> {
        match self.route.talk(&[link::delete(link)], Mode::Ack) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes the host's end of the container's veth pair. Somebody else's interface of its name is none of ours to
    /// remove: it may be what kept ours from being made.
    fn delete_host_end(&self, name: &IfName) -> Result<()> {
        match self.link(name)? {
            Some(link) if is_our_host_end(&link, name) => self.delete_link(&link),
            _ => Ok(()),
        }
    }

    /// Removes the elements. Together if all are there, else each that is.
    fn delete_elements(&self, bridge: &IfName, ports: &[PublishedPort]) -> Result<()> {
        let missing =
            |result: &Result<Vec<Vec<u8>>>| matches!(result, Err(error) if error.kind() == ErrorKind::NotFound);
        let requests = nft::delete_elements(bridge, ports)?;
        if requests.is_empty() {
            return Ok(());
        }
        let all = self.netfilter.talk(&requests, Mode::Batch);
        if !missing(&all) {
            return all.map(drop);
        }
        Error::all(requests.iter().filter_map(|request| {
            let one = self.netfilter.talk(std::slice::from_ref(request), Mode::Batch);
            if missing(&one) { None } else { one.err() }
        }))
    }

    /// The bridge, if there is one and this crate made it.
    pub(crate) fn bridge(&self, name: &IfName) -> Result<Option<Link>> {
        match self.link(name)? {
            Some(link) if !is_our_bridge(&link, name) => {
                Err(not_ours("RTM_NEWLINK", Subject::Interface(name.to_string())))
            }
            link => Ok(link),
        }
    }

    /// Whether the table is there. An error when it is somebody else's.
    pub(crate) fn has_table(&self, bridge: &IfName) -> Result<bool> {
        match self.netfilter.talk(&[nft::get_table(bridge)?], Mode::Ack) {
            Ok(answers) if answers.iter().any(|answer| nft::is_ours(answer)) => Ok(true),
            Ok(_) => Err(not_ours("NFT_MSG_NEWTABLE", Subject::Thing(format!("table ip {bridge}")))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The published ports of `owner` by the comments of the elements: for when its record is damaged.
    fn delete_elements_of(&self, bridge: &IfName, owner: &Owner) -> Result<()> {
        let mut requests = Vec::new();
        for list in nft::list_elements(bridge)? {
            let answers = match self.netfilter.talk(std::slice::from_ref(&list.request), Mode::Dump) {
                Ok(answers) => answers,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            requests.extend(nft::delete_elements_of(&list, bridge, owner, &answers)?);
        }
        if requests.is_empty() {
            return Ok(());
        }
        self.netfilter.talk(&requests, Mode::Batch).map(drop)
    }

    fn delete_table(&self, bridge: &IfName) -> Result<()> {
        // Somebody else's table of the name is none of ours to remove, and no failure here.
        match self.has_table(bridge) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
            Err(error) => return Err(error),
        }
        self.netfilter.talk(&nft::delete_table(bridge)?, Mode::Batch).map(drop)
    }

    fn delete_bridge(&self, name: &IfName) -> Result<()> {
        match self.bridge(name) {
            Ok(Some(link)) => self.delete_link(&link),
            Ok(None) => Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes the kernel forget what was opened to the address, where that matters.
    fn delete_connections(&self, address: Ipv4Addr, ports: &[PublishedPort]) -> Result<()> {
        if !ports.iter().any(|port| port.protocol() == Protocol::Udp) {
            return Ok(());
        }
        let answers = match self.netfilter.talk(&[conntrack::list(address)?], Mode::Dump) {
            Ok(answers) => answers,
            // A kernel without ctnetlink: they end by themselves.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut errors = Vec::new();
        for answer in answers {
            let Some(request) = conntrack::delete(&answer, address)? else { continue };
            match self.netfilter.talk(&[request], Mode::Ack) {
                Err(error) if error.kind() != ErrorKind::NotFound => errors.push(error),
                _ => {}
            }
        }
        Error::all(errors)
    }

    /// Whether packets are passed on in the bridge's network namespace.
    pub(crate) fn forwards(&self) -> Result<bool> {
        let proc = Arc::clone(&self.proc);
        inside_blocking(self.netns.as_fd(), move || sysctl::is_on(&proc, "net/ipv4/ip_forward"))
    }

    /// Whether ICMP redirects are refused there.
    pub(crate) fn refuses_redirects(&self) -> Result<bool> {
        let proc = Arc::clone(&self.proc);
        inside_blocking(self.netns.as_fd(), move || sysctl::is_on(&proc, ACCEPT_REDIRECTS).map(|on| !on))
    }

    /// Turning it off makes the kernel accept redirects (`inet_forward_change` in `net/ipv4/devinet.c`).
    fn stop_forwarding(&self, refuse_redirects: bool) -> Result<()> {
        let proc = Arc::clone(&self.proc);
        let off = |path: &str| Sysctl { path: path.into(), value: "0", reason: "as it was before", optional: false };
        let mut list = vec![off("net/ipv4/ip_forward")];
        if refuse_redirects {
            list.push(off(ACCEPT_REDIRECTS));
        }
        inside_blocking(self.netns.as_fd(), move || list.iter().try_for_each(|sysctl| sysctl::write(&proc, sysctl)))
    }

    pub(crate) fn list(&self, request: Request) -> Result<Vec<Vec<u8>>> {
        self.route.talk(&[request], Mode::Dump)
    }

    /// Removes all that was made for `owner`, and what the containers shared after the last of them.
    pub(crate) fn take_down(
        &self,
        state: &State,
        bridge: &IfName,
        owner: &Owner,
        address: Ipv4Addr,
        ports: &[PublishedPort],
    ) -> Vec<Error> {
        let unpublished = self.delete_elements(bridge, ports);
        self.take_down_rest(state, bridge, owner, unpublished, || self.delete_connections(address, ports))
    }

    /// The same, with the ports that the lease names. A damaged lease names none, so the kernel is asked.
    pub(crate) fn take_down_lease(&self, state: &State, bridge: &IfName, owner: &Owner) -> Vec<Error> {
        let unpublished = match state.lease(owner) {
            Ok(Some(lease)) => return self.take_down(state, bridge, owner, lease.address, &lease.ports),
            Ok(None) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Parse => self.delete_elements_of(bridge, owner),
            Err(error) => Err(error),
        };
        self.take_down_rest(state, bridge, owner, unpublished, || Ok(()))
    }

    fn take_down_rest(
        &self,
        state: &State,
        bridge: &IfName,
        owner: &Owner,
        unpublished: Result<()>,
        forget: impl FnOnce() -> Result<()>,
    ) -> Vec<Error> {
        let mut errors = Vec::new();
        errors.extend(unpublished.err());
        errors.extend(self.delete_host_end(&IfName::of_owner(bridge, owner)).err());
        errors.extend(forget().err());
        match state.lock_blocking() {
            Ok(lock) => {
                // A lease whose effects could not be removed stays, so that they can be found.
                if errors.is_empty() {
                    errors.extend(state.remove(&lock, owner).err());
                }
                errors.extend(self.take_down_shared(&lock, state, bridge));
            }
            Err(error) => errors.push(error),
        }
        errors
    }

    /// Removes what the containers share, when there is no lease.
    pub(crate) fn take_down_shared(&self, lock: &Lock, state: &State, bridge: &IfName) -> Vec<Error> {
        let mut errors = Vec::new();
        match state.in_use(lock) {
            Ok(false) => {}
            Ok(true) => return errors,
            Err(error) => return vec![error],
        }
        // The bridge before the table: as long as it is there, the table says what may pass.
        errors.extend(self.delete_bridge(bridge).err());
        errors.extend(self.delete_table(bridge).err());
        if errors.is_empty() {
            errors.extend(state.remove_network(lock).err());
        }
        errors.extend(self.restore_forwarding(lock, state).err());
        errors
    }

    fn restore_forwarding(&self, lock: &Lock, state: &State) -> Result<()> {
        if state.any_network(lock)? {
            return Ok(());
        }
        let Some(refused) = state.turned_forwarding_on(lock)? else { return Ok(()) };
        self.stop_forwarding(refused)?;
        state.turned_forwarding_off(lock)
    }
}

fn is_our_bridge(link: &Link, name: &IfName) -> bool {
    link.kind.as_deref() == Some("bridge") && link.mac == Some(MacAddr::of_bridge(name))
}

fn is_our_host_end(link: &Link, name: &IfName) -> bool {
    link.kind.as_deref() == Some("veth") && link.mac == Some(MacAddr::of_host_end(name))
}

fn not_ours(operation: &'static str, subject: Subject) -> Error {
    Error::from_errno(operation, libc::EEXIST)
        .on(subject)
        .with_hint("it exists and was not made by this library: choose another name for the network's bridge")
}

/// Undoes an attach that did not come to its end, also when its future is dropped.
#[derive(Debug)]
pub(crate) struct RollbackGuard {
    pub(crate) host: Host,
    state: State,
    /// What to remove; `None` when there is nothing, yet or any more.
    record: Option<Record>,
    /// Whether the record's ports may have been published. Before, they could be another's.
    published: bool,
}

impl RollbackGuard {
    pub(crate) fn new(host: Host, state: State) -> Self {
        Self { host, state, record: None, published: false }
    }

    /// From now on there is something to undo.
    pub(crate) fn arm(&mut self, record: &Record) {
        self.record = Some(record.clone());
    }

    pub(crate) fn ports_published(&mut self, published: bool) {
        self.published = published;
    }

    /// All went well.
    pub(crate) fn disarm(&mut self) {
        self.record = None;
    }

    /// Undoes. Blocks.
    pub(crate) fn roll_back(&mut self) -> Vec<Error> {
        let Some(record) = self.record.take() else { return Vec::new() };
        let ports = if self.published { record.ports.as_slice() } else { &[] };
        self.host.take_down(&self.state, &record.bridge, &record.owner, record.address, ports)
    }
}

impl Drop for RollbackGuard {
    fn drop(&mut self) {
        // There is nobody to tell of an error here. The lease says what is left, for `reconcile`.
        self.roll_back();
    }
}
