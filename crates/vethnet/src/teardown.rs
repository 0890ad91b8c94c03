//! Removing what was made, from the record alone.
//!
//! One way for all who need it: detaching, undoing a failed or abandoned attach, and what a killed process left. So every
//! part may be there or not, and a failure of one does not keep the others. The order: first the published ports, so that
//! no packet is sent to an address that is being taken away; then the connections that came by them, of which there can
//! be no new ones; then the veth pair, whose one end takes the other along with the addresses, routes and neighbours of
//! both, or is gone already with the container's namespace; then the lease; then, after the last lease, what was shared,
//! the table last: as long as there is anything that could send packets to the network's range elsewhere, it drops them.
//!
//! It blocks, and its sockets are opened before anything is made: nothing that happens later, such as having no file
//! descriptor left, can keep it from undoing.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;
use std::sync::Arc;

use cellkit_core::{Error, ErrorKind, ProcFd, ProcView, Result, Subject};

use crate::conntrack;
use crate::exchange::{Mode, Request};
use crate::forwarding::Switch;
use crate::lease::State;
use crate::link::{self, Link};
use crate::lock::Lock;
use crate::mac::MacAddr;
use crate::name::{IfName, Owner};
use crate::network::Wiring;
use crate::nft;
use crate::plan::{self, Layout};
use crate::record::Record;
use crate::socket::{Family, Socket};
use crate::tables::Tables;

/// The network namespace of the network, ready to be cleaned up.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) route: Socket,
    pub(crate) netfilter: Socket,
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

    pub(crate) fn link(&self, name: &IfName) -> Result<Option<Link>> {
        match self.route.talk(&[link::get(&name.into())?], Mode::Ack) {
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

    /// The host's end of a container's veth pair, if it is there and this crate made it.
    pub(crate) fn our_host_end(&self, name: &IfName) -> Result<Option<Link>> {
        Ok(self.link(name)?.filter(|link| is_our_host_end(link, name)))
    }

    /// What limits what a container sends, if it is there and this crate made it.
    pub(crate) fn our_ifb(&self, name: &IfName) -> Result<Option<Link>> {
        Ok(self.link(name)?.filter(|link| is_our_ifb(link, name)))
    }

    pub(crate) fn delete_ifb(&self, name: &IfName) -> Result<()> {
        self.our_ifb(name)?.map_or(Ok(()), |link| self.delete_link(&link))
    }

    /// The network's tables.
    pub(crate) fn tables<'a>(&'a self, name: &'a IfName) -> Tables<'a> {
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

    /// The network's bridge, if it is wired so and it is there. A bridge of ours and of this name that belongs to a network
    /// that is wired otherwise is an error.
    pub(crate) fn bridge_of(&self, layout: &Layout) -> Result<Option<Link>> {
        match (self.bridge(&layout.name), layout.wiring) {
            (Ok(Some(_)), Wiring::Routed) => Err(Error::invalid("network", "there is a bridge of this name")
                .on(Subject::Interface(layout.name.to_string()))
                .with_hint("a network that is routed has none: choose another name")),
            // Somebody else's interface of the name is not in the way of one that makes none.
            (Err(error), Wiring::Routed) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
            (result, _) => result,
        }
    }

    /// What is in the way of making the tables anew, where one is missing: what is left of them. `None` when they are whole.
    /// An error when one is somebody else's, or was made with other settings.
    pub(crate) fn check_tables(&self, layout: &Layout) -> Result<Option<Vec<Request>>> {
        let guards = layout.settings.guard && layout.wiring == Wiring::Bridge;
        match self.tables(&layout.name).there(layout.settings, guards)? {
            (true, guard) if guard == guards => Ok(None),
            (inet, guard) => nft::delete_table(&layout.name, inet, guard).map(Some),
        }
    }

    fn delete_bridge(&self, name: &IfName) -> Result<()> {
        match self.bridge(name) {
            Ok(Some(link)) => self.delete_link(&link),
            Ok(None) => Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn list(&self, request: Request) -> Result<Vec<Vec<u8>>> {
        self.route.talk(&[request], Mode::Dump)
    }

    /// Removes all that was made for the record's owner, and what the containers shared after the last of them.
    pub(crate) fn take_down(&self, state: &State, record: &Record) -> Vec<Error> {
        let unpublished = self.tables(&record.network).unmake(|pack| plan::unpublish(record, pack));
        self.take_down_unpublished(state, record, unpublished.err().into_iter().collect())
    }

    /// The same, where the record's ports were not published: they may be another's.
    pub(crate) fn take_down_unpublished(&self, state: &State, record: &Record, mut errors: Vec<Error>) -> Vec<Error> {
        errors.extend(conntrack::forget(&self.netfilter, &record.plain_addresses()).err());
        self.take_down_rest(state, &record.network, &record.owner, errors, || {
            // After the host's end, which leads to it.
            let ifb = record.limits.egress_rate().map_or(Ok(()), |_| self.delete_ifb(&record.ifb_ifname()));
            let expelled = self.tables(&record.network).unmake(|pack| plan::expel(record, pack));
            Error::all([ifb.err(), expelled.err()].into_iter().flatten())
        })
    }

    /// The same, with what the lease says. A damaged lease says nothing, so the kernel is asked.
    pub(crate) fn take_down_lease(&self, state: &State, network: &IfName, owner: &Owner) -> Vec<Error> {
        let found = match state.lease(owner) {
            Ok(Some(lease)) => return self.take_down(state, &lease),
            Ok(None) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Parse => self.tables(network).remove_owner(owner),
            Err(error) => Err(error),
        };
        self.take_down_rest(state, network, owner, found.err().into_iter().collect(), || {
            self.delete_ifb(&IfName::of_owner_ifb(network, owner))
        })
    }

    fn take_down_rest(
        &self,
        state: &State,
        network: &IfName,
        owner: &Owner,
        mut errors: Vec<Error>,
        expel: impl FnOnce() -> Result<()>,
    ) -> Vec<Error> {
        errors.extend(self.delete_host_end(&IfName::of_owner(network, owner)).err());
        // Not before the interface is gone: until then what it sends is judged by this.
        errors.extend(expel().err());
        match state.lock_blocking() {
            Ok(lock) => {
                // A lease whose effects could not be removed stays, so that they can be found.
                if errors.is_empty() {
                    errors.extend(state.remove(&lock, owner).err());
                }
                errors.extend(self.take_down_shared(&lock, state, network));
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
        let restore = |switch: Switch| switch.restore(lock, state, &self.netns, &self.proc).err();
        Error::all(Switch::ALL.into_iter().filter_map(restore))
    }
}

fn is_our_bridge(link: &Link, name: &IfName) -> bool {
    link.kind.as_deref() == Some("bridge") && link.mac == Some(MacAddr::of_bridge(name))
}

fn is_our_host_end(link: &Link, name: &IfName) -> bool {
    link.kind.as_deref() == Some("veth") && link.mac == Some(MacAddr::of_host_end(name))
}

fn is_our_ifb(link: &Link, name: &IfName) -> bool {
    link.kind.as_deref() == Some("ifb") && link.mac == Some(MacAddr::of_ifb(name))
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
    pub(crate) fn disarm(mut self) {
        self.record = None;
    }

    /// Undoes. Blocks.
    pub(crate) fn roll_back(&mut self) -> Vec<Error> {
        match self.record.take() {
            None => Vec::new(),
            Some(record) if self.published => self.host.take_down(&self.state, &record),
            Some(record) => self.host.take_down_unpublished(&self.state, &record, Vec::new()),
        }
    }
}

impl Drop for RollbackGuard {
    fn drop(&mut self) {
        // There is nobody to tell of an error here. The lease says what is left, for `reconcile`.
        self.roll_back();
    }
}
