//! Attaching, detaching, and finding what killed processes left.
#![forbid(unsafe_code)]

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cellkit_core::{Error, Observer, Result, StepText, Subject};

use crate::address::free_address;
use crate::exchange::Mode;
use crate::link::{self, VethPeer};
use crate::lock::Lock;
use crate::name::{IfName, Owner};
use crate::net::Net;
use crate::netns::{apart, duplicate, inside};
use crate::network::{Attach, Checked, MTU, Network, check_ports, check_routes};
use crate::nft::{self, Links, Settings, TableSpec};
use crate::plan::{self, Missing, Side, Step, Sysctl};
use crate::record::Record;
use crate::route;
use crate::socket::{Family, Socket};
use crate::sysctl;
use crate::teardown::{Host, RollbackGuard};

impl Network {
    /// Attaches the container whose network namespace is `netns`: when this returns, it reaches the world.
    ///
    /// * What it does is what [`describe`](Network::describe) lists; `observer` is told of each step as it was made.
    /// * It checks what [`check`](Network::check) does, under the lock.
    /// * The lease is on the disk before anything is made. On an error, and when the future is dropped, everything is
    ///   undone (which blocks for some milliseconds); after a kill, [`reconcile`](Network::reconcile) does.
    /// * Kernel: 5.15. Privileges: CAP_NET_ADMIN and CAP_SYS_ADMIN over both network namespaces.
    ///
    /// # Errors
    /// Those of [`check`](Network::check); Invalid when `netns` is not a network namespace or is the bridge's own;
    /// [`Permission`](crate::ErrorKind::Permission), [`Unsupported`](crate::ErrorKind::Unsupported) and whatever the
    /// kernel answers, with its own text.
    pub async fn attach<O: Observer + ?Sized>(
        &self,
        netns: impl AsFd,
        spec: &Attach,
        observer: &mut O,
    ) -> Result<Attachment> {
        let checked = spec.checked()?;
        self.check_range()?;
        let netns = duplicate(netns.as_fd())?;
        let host = Host::here()?;
        check_netns(&netns, &host.netns)?;
        check_ports(spec, self.subnet)?;
        let mut work = Work {
            network: self,
            route: Net::here().await?,
            netfilter: Net::new(Socket::open(Family::Netfilter)?)?,
            inside: None,
            netns,
            rollback: RollbackGuard::new(host, self.state()),
        };
        let result = work.run(&checked, observer).await;
        let Work { mut rollback, .. } = work;
        match result {
            Ok(record) => {
                rollback.disarm();
                Ok(Attachment { network: self.clone(), record })
            }
            Err(error) => {
                let error = error.context(format!("attach {:?} to {}", checked.owner.as_str(), self.bridge));
                let also = apart(move || Ok(rollback.roll_back())).await.unwrap_or_else(|error| vec![error]);
                let all = Error::all(std::iter::once(error).chain(also));
                // There is at least one.
                all.and(Err(Error::other("attach", "failed")))
            }
        }
    }

    /// Detaches `owner`, as [`Attachment::detach`] does, from what the state directory knows. Says whether there was one.
    ///
    /// Different owners may come and go at once, in any number of processes; that one owner is not attached again while
    /// it is still being detached is for the caller to see to.
    ///
    /// # Errors
    /// As [`Attachment::detach`].
    pub async fn detach(&self, owner: &str) -> Result<bool> {
        let owner = Owner::new(owner)?;
        let state = self.state();
        let bridge = self.bridge.clone();
        apart(move || {
            let attached = state.has_lease(&owner)?;
            if attached {
                Error::all(Host::here()?.take_down_lease(&state, &bridge, &owner))?;
            }
            Ok(attached)
        })
        .await
    }

    /// Detaches every owner that `is_alive` denies, and says who they were. After a kill, nothing else is needed.
    ///
    /// `is_alive` is asked once for each owner that has a lease. An owner has its lease from the beginning of
    /// [`attach`](Network::attach): say yes for one that is being started.
    ///
    /// # Errors
    /// Every failure, after all owners were tried.
    pub async fn reconcile(&self, mut is_alive: impl FnMut(&str) -> bool) -> Result<Vec<String>> {
        let state = self.state();
        let mut owners = state.owners()?;
        owners.retain(|owner| !is_alive(owner.as_str()));
        let bridge = self.bridge.clone();
        apart(move || {
            let host = Host::here()?;
            let mut removed = Vec::new();
            let mut errors = Vec::new();
            for owner in owners {
                let failed = host.take_down_lease(&state, &bridge, &owner);
                if failed.is_empty() {
                    removed.push(owner.as_str().to_owned());
                }
                errors.extend(failed);
            }
            // Also what a process left that was killed between the last lease and the bridge.
            match state.lock_blocking() {
                Ok(lock) => {
                    errors.extend(state.repair(&lock));
                    errors.extend(host.take_down_shared(&lock, &state, &bridge));
                }
                Err(error) => errors.push(error),
            }
            Error::all(errors).map(|()| removed)
        })
        .await
    }
}

/// A container that is attached to a network.
///
/// Dropping it does nothing: the container stays attached, until [`detach`](Attachment::detach), or
/// [`Network::detach`] with its owner's id from any later process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the container stays attached until it is detached"]
pub struct Attachment {
    network: Network,
    record: Record,
}

impl Attachment {
    /// The container's address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.record.address
    }

    /// The bridge's address, which the container's default route goes through.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        self.record.subnet.gateway_v4()
    }

    /// What was made.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Removes what was made for this container: its published ports, its interfaces,
    /// the connections of it that the kernel tracks, its lease; after the last one also the bridge, the table, and forwarding if this crate
    /// turned it on. The address is given to another only after the rest of the range, as long as the network is there.
    ///
    /// It may be called again, and when the container's network namespace has ended. When the future is dropped, the
    /// work is brought to its end first, some milliseconds.
    ///
    /// # Errors
    /// Every failure: it goes on past each. The lease stays when something of it could not be removed. Things of others
    /// that have the names of ours by now stay, and are no failure.
    pub async fn detach(&self) -> Result<()> {
        self.network.detach(self.record.owner.as_str()).await.map(drop)
    }
}

/// One attach under way. Fields are dropped in order: the connections before what undoes.
struct Work<'a> {
    network: &'a Network,
    route: Net,
    netfilter: Net,
    inside: Option<Net>,
    netns: OwnedFd,
    rollback: RollbackGuard,
}

impl Work<'_> {
    async fn run<O: Observer + ?Sized>(&mut self, checked: &Checked, observer: &mut O) -> Result<Record> {
        let record = self.prepare(checked, observer).await?;
        for step in plan::container(&record, MTU) {
            self.make(step, observer).await?;
        }
        Ok(record)
    }

    /// What needs the lock: the lease, and what the containers share.
    async fn prepare<O: Observer + ?Sized>(&mut self, checked: &Checked, observer: &mut O) -> Result<Record> {
        let network = self.network;
        let state = network.state();
        let lock = state.lock().await?;
        let leases = state.leases()?;
        network.check_leases(checked, &leases)?;
        let record = checked.record(network, free_address(network.subnet, &leases, state.last_address(&lock)?)?);
        let missing = self.missing()?;
        if let Err(error) = state.write(&lock, &record) {
            // Undone while the lock is held: after that, the owner's lease could be somebody else's.
            let mut errors = vec![error];
            errors.extend(state.remove(&lock, &record.owner).err());
            errors.extend(self.rollback.host.take_down_shared(&lock, &state, &network.bridge));
            Error::all(errors)?;
        }
        self.rollback.arm(&record);
        if missing.forwarding {
            state.turn_forwarding_on(&lock, self.rollback.host.refuses_redirects()?)?;
        }
        for step in plan::network(&network.bridge, network.subnet, MTU, missing) {
            self.make(step, observer).await?;
        }
        if missing.table {
            self.publish_again(&lock, &leases).await?;
        }
        Ok(record)
    }

    /// What there is not yet of what the containers share. Somebody else's things of its names are an error.
    fn missing(&self) -> Result<Missing> {
        let host = &self.rollback.host;
        let network = self.network;
        let bridge = host.bridge(&network.bridge)?;
        check_routes(host, network.subnet, bridge.as_ref())?;
        let table = host.has_table(&network.bridge)?;
        let forwarding = host.forwards()?;
        Ok(Missing { bridge: bridge.is_none(), table: !table, forwarding: !forwarding })
    }

    /// After somebody removed the table (`nft flush ruleset`): the ports of the containers that were there.
    async fn publish_again(&self, _: &Lock, leases: &[Record]) -> Result<()> {
        let mut requests = Vec::new();
        for lease in leases {
            requests.extend(nft::new_elements(
                &lease.bridge,
                &lease.owner,
                &[lease.address.into()],
                &lease.ports,
                Settings::default(),
            )?);
        }
        if requests.is_empty() {
            return Ok(());
        }
        self.netfilter.talk(&requests, Mode::Batch).await.map(drop)
    }

    async fn make<O: Observer + ?Sized>(&mut self, step: Step, observer: &mut O) -> Result<()> {
        let texts = if observer.listens() { step.describe() } else { Vec::new() };
        let start = Instant::now();
        self.do_step(step).await?;
        report(observer, texts, start.elapsed());
        Ok(())
    }

    async fn do_step(&mut self, step: Step) -> Result<()> {
        match step {
            Step::NewBridge { name, mac, mtu } => self.route.request(link::new_bridge(&name, mac, mtu)).await?,
            Step::Sysctls { side: Side::Host, list } => {
                self.sysctls(Side::Host, list).await?;
                return Ok(());
            }
            Step::Sysctls { side: Side::Container, list } => {
                let socket = self.sysctls(Side::Container, list).await?;
                self.inside = Some(Net::new(socket)?);
                return Ok(());
            }
            Step::NoLinkLocal { name, alias } => {
                self.route.request(link::no_link_local(&name, alias.as_deref())).await?
            }
            Step::Hairpin { name } => self.route.request(link::hairpin(&name)).await?,
            Step::NewAddress { side, name, address, subnet } => {
                let net = self.net(side)?;
                let index = index_of(net, &name).await?;
                net.request(route::new_address(&name, index, address, subnet)).await?
            }
            Step::Up { side, name } => self.net(side)?.request(link::up(&name)).await?,
            Step::LoopbackUp => self.net(Side::Container)?.request(link::loopback_up()).await?,
            Step::NewTable { bridge, subnet } => {
                let links = Links::Bridge(&bridge);
                let spec = TableSpec { name: &bridge, links, subnets: &[subnet], settings: Settings::default() };
                self.netfilter.talk(&nft::new_table(&spec)?, Mode::Batch).await?
            }
            Step::NewVeth { name, mac, bridge, peer, peer_mac, mtu } => {
                let bridge = index_of(&self.route, &bridge).await?;
                let peer = VethPeer { name: &peer, mac: peer_mac, netns: self.netns.as_fd() };
                self.route.request(link::new_veth(&name, mac, bridge, mtu, &peer)).await?
            }
            Step::DefaultRoute { gateway, name } => {
                let net = self.net(Side::Container)?;
                let index = index_of(net, &name).await?;
                net.request(route::new_default_route(gateway, index)).await?
            }
            Step::NewElements { bridge, owner, address, ports } => {
                let requests = nft::new_elements(&bridge, &owner, &[address.into()], &ports, Settings::default())?;
                // All or none: when the transaction failed, the ports that exist are not ours.
                self.rollback.ports_published(true);
                let result = self.netfilter.talk(&requests, Mode::Batch).await;
                if matches!(&result, Err(error) if error.raw_os_error().is_some()) {
                    self.rollback.ports_published(false);
                }
                result?
            }
        };
        Ok(())
    }

    fn net(&self, side: Side) -> Result<&Net> {
        match side {
            Side::Host => Ok(&self.route),
            Side::Container => self
                .inside
                .as_ref()
                .ok_or_else(|| Error::other("setns", "the container's namespace was not entered yet")),
        }
    }

    /// Writes the values inside, and opens a connection there in the same visit.
    async fn sysctls(&self, side: Side, list: Vec<Sysctl>) -> Result<Socket> {
        let proc = Arc::clone(&self.rollback.host.proc);
        let netns = match side {
            Side::Host => self.rollback.host.netns.as_fd(),
            Side::Container => self.netns.as_fd(),
        };
        inside(netns, move || {
            list.iter().try_for_each(|sysctl| sysctl::write(&proc, sysctl))?;
            Socket::open(Family::Route)
        })
        .await
    }
}

fn report<O: Observer + ?Sized>(observer: &mut O, texts: Vec<StepText>, took: Duration) {
    // What was done in one go is told of with the time of the whole at its end.
    let last = texts.len().saturating_sub(1);
    for (index, text) in texts.into_iter().enumerate() {
        observer.made(text, if index == last { took } else { Duration::ZERO });
    }
}

async fn index_of(net: &Net, name: &IfName) -> Result<u32> {
    match net.link(name).await? {
        Some(link) => Ok(link.index),
        None => Err(Error::gone("RTM_GETLINK", Some(libc::ENODEV)).on(Subject::Interface(name.to_string()))),
    }
}

/// Refuses what is no namespace, and the bridge's own.
fn check_netns(netns: &OwnedFd, host: &OwnedFd) -> Result<()> {
    let identity = |fd: &OwnedFd| {
        let stat = nix::sys::stat::fstat(fd).map_err(|errno| Error::from_errno("fstat", errno as i32))?;
        Ok((stat.st_dev, stat.st_ino))
    };
    let subject = || Subject::Namespace("the container's network namespace".into());
    let (theirs, ours) = (identity(netns)?, identity(host)?);
    if theirs == ours {
        return Err(Error::invalid("attach", "it is the bridge's own")
            .on(subject())
            .with_hint("start the container in a new network namespace (CLONE_NEWNET)"));
    }
    if theirs.0 != ours.0 {
        return Err(Error::invalid("attach", "it is not a namespace")
            .on(subject())
            .with_hint("pass a descriptor of /proc/PID/ns/net"));
    }
    Ok(())
}
