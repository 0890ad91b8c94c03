//! Attaching, detaching, and finding what killed processes left.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use cellkit_core::{Error, Observer, Result};

use crate::name::Owner;
use crate::netns::{apart, duplicate};
use crate::network::Network;
use crate::obstacle;
use crate::record::Record;
use crate::spec::Attach;
use crate::teardown::{Host, RollbackGuard};
use crate::work::{self, Work};

impl Network {
    /// Attaches the container whose network namespace is `netns`: when this returns, it reaches the world.
    ///
    /// * What it does is what [`describe`](Network::describe) lists; `observer` is told of each step as it was made: `&mut ()`
    ///   where nobody wants to know.
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
        let layout = self.layout()?;
        let checked = spec.checked(&layout)?;
        let netns = duplicate(netns.as_fd())?;
        let host = Host::here()?;
        obstacle::check_netns(&netns, &host.netns)?;
        let state = self.state();
        let lock = state.lock().await?;
        let work = Work::new(self, layout, checked, netns, RollbackGuard::new(host, state));
        Ok(Attachment { record: work::attach(work, lock, observer).await? })
    }

    /// Detaches `owner`, as [`Attachment::detach`] does, from what the state directory knows. Says whether there was one.
    /// Where there was none and nobody else is attached, it removes what the containers shared: an earlier call may have
    /// come that far and failed.
    ///
    /// Different owners may come and go at once, in any number of processes; that one owner is not attached again while
    /// it is still being detached is for the caller to see to.
    ///
    /// # Errors
    /// As [`Attachment::detach`].
    pub async fn detach(&self, owner: &str) -> Result<bool> {
        let owner = Owner::new(owner)?;
        let state = self.state();
        let name = self.name().clone();
        apart(move || {
            let attached = state.has_lease(&owner)?;
            let errors = if attached {
                Host::here()?.take_down_lease(&state, &name, &owner)
            } else if state.exists()? {
                let host = Host::here()?;
                let lock = state.lock_blocking()?;
                host.take_down_shared(&lock, &state, &name)
            } else {
                Vec::new()
            };
            Error::all(errors).map(|()| attached)
        })
        .await
    }

    /// Detaches every owner that `is_alive` denies, and says who they were. After a kill, nothing else is needed.
    ///
    /// ```no_run
    /// # async fn example(network: vethnet::Network) -> vethnet::Result<()> {
    /// // Of a program that starts: of its containers none is alive yet, and those of others are not its own to judge.
    /// for owner in network.reconcile(|owner| !owner.starts_with("shop-")).await? {
    ///     println!("{owner} was left by a killed process");
    /// }
    /// # Ok(())
    /// # }
    /// ```
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
        let name = self.name().clone();
        apart(move || {
            let host = Host::here()?;
            let mut removed = Vec::new();
            let mut errors = Vec::new();
            for owner in owners {
                let failed = host.take_down_lease(&state, &name, &owner);
                if failed.is_empty() {
                    removed.push(owner.as_str().to_owned());
                }
                errors.extend(failed);
            }
            // Also what a process left that was killed between the last lease and what was shared.
            match state.lock_blocking() {
                Ok(lock) => {
                    errors.extend(state.repair(&lock));
                    errors.extend(host.take_down_shared(&lock, &state, &name));
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
/// Dropping it does nothing: the container stays attached, until [`detach`](Attachment::detach), of this value, of one from
/// its [`record`](Attachment::record) in any later process, or [`Network::detach`] with its owner's id.
///
/// ```no_run
/// # async fn example(container: std::os::fd::OwnedFd) -> vethnet::Result<()> {
/// use vethnet::{Attach, IfName, Network, Subnet};
///
/// let network = Network::new(IfName::new("cellkit0")?, Subnet::default());
/// let attachment = network.attach(&container, &Attach::new("web"), &mut ()).await?;
/// println!("{} is reached at {}", attachment.record().owner(), attachment.address());
/// attachment.detach().await?;
/// # Ok(())
/// # }
/// ```
///
/// See veth(4): <https://man7.org/linux/man-pages/man4/veth.4.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "the container stays attached until it is detached"]
pub struct Attachment {
    record: Record,
}

impl Attachment {
    /// The one that a record is of, as [`record`](Attachment::record) told it to another process. Nothing is looked at.
    pub fn from_record(record: Record) -> Self {
        Self { record }
    }

    /// The container's address; the IPv4 one where it has two.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.record.address()
    }

    /// Its IPv4 address.
    #[must_use]
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        self.record.ipv4()
    }

    /// Its IPv6 address.
    #[must_use]
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.record.ipv6()
    }

    /// What the container's default route of the family of its [`address`](Attachment::address) goes through: see
    /// [`Record::gateways`].
    #[must_use]
    pub fn gateway(&self) -> IpAddr {
        // There is one for each address.
        self.record.gateways().first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// What was made.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Removes what was made for this container: its published ports, where it published some the connections to it that
    /// the kernel tracks, its interfaces with their addresses and routes, its lease; after the last one also the bridge,
    /// the table, and forwarding if this crate turned it on. The address is given to another only after the rest of the
    /// range, as long as the network is there.
    ///
    /// It may be called again, from any process, and when the container's network namespace has ended. Where its owner was
    /// attached anew since, it does nothing. When the future is dropped, the work is brought to its end first, some
    /// milliseconds.
    ///
    /// # Errors
    /// Every failure: it goes on past each. The lease stays when something of it could not be removed. Things of others
    /// that have the names of ours by now stay, and are no failure.
    pub async fn detach(&self) -> Result<()> {
        let network = Network::of_record(&self.record);
        let state = network.state();
        // Written first and removed last: without the lease there is nothing.
        match state.lease(&self.record.owner) {
            // Its limits may have been changed since, by `Network::limit`.
            Ok(Some(lease)) if lease.with_limits(self.record.limits) != self.record => Ok(()),
            _ => network.detach(self.record.owner.as_str()).await.map(drop),
        }
    }
}
