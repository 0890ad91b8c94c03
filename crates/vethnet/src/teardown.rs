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
use crate::port::PublishedPort;
use crate::record::Record;
use crate::socket::{Family, Socket};
use crate::sysctl;
use crate::tables::Tables;

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

    /// The network's tables.
    fn tables<'a>(&'a self, name: &'a IfName) -> Tables<'a> {
        Tables { netfilter: &self.netfilter, name }
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
        Ok(self.tables(bridge).find()?.is_some())
    }

    fn delete_bridge(&self, name: &IfName) -> Result<()> {
        match self.bridge(name) {
            Ok(Some(link)) => self.delete_link(&link),
            Ok(None) => Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
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
        let unpublished =
            self.tables(bridge).unmake(|pack| nft::delete_elements(bridge, &[address.into()], ports, pack));
        self.take_down_rest(state, bridge, owner, unpublished, || conntrack::forget(&self.netfilter, &[address.into()]))
    }

    /// The same, with the ports that the lease names. A damaged lease names none, so the kernel is asked.
    pub(crate) fn take_down_lease(&self, state: &State, bridge: &IfName, owner: &Owner) -> Vec<Error> {
        let unpublished = match state.lease(owner) {
            Ok(Some(lease)) => return self.take_down(state, bridge, owner, lease.address, &lease.ports),
            Ok(None) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Parse => self.tables(bridge).remove_owner(owner),
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
        errors.extend(self.tables(bridge).remove().err());
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
