//! [`AddressPlan`]: who has which address of a range, on this machine.
#![forbid(unsafe_code)]

mod lease;

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cellkit_core::{Error, Result};

use crate::conflict;
use crate::hosts::Hosts;
use crate::lease_dir::{LeaseDir, Ranges};
use crate::lock::Lock;
use crate::name::{IfName, Owner};
use crate::subnet::Subnet;

pub use lease::{Lease, Wish};

/// Leases of addresses, each to an owner, in files that any number of processes share.
///
/// One address of each range goes to an owner, and to no other until it is released: the next one after the last that was
/// given out, around the range, so that what the world still has open with a container that ended does not fall to the
/// one that is started next; or the one that is wished for. A [`Network`](crate::Network) has such a plan of its own;
/// alone it serves whoever wires containers in another way.
///
/// * Files: the directory is made with mode 0700 when it is missing, and is for this plan alone. Nothing is synchronised
///   with a disk: leases of the last seconds may be lost when the machine itself stops, and the first lease after that
///   puts the others in order.
/// * A lock, flock(2) on the directory, is held for each change, and waited for at most 30 seconds. It ends with its
///   process.
/// * SIGKILL: at any point it leaves a whole lease or none. An address that was being leased or released then may stay
///   out of use until [`collect`](AddressPlan::collect) is called, or the range has no other.
/// * Cost: a lease takes the same few system calls for one lease and for thousands; only a range that is nearly full is
///   listed.
/// * It blocks, for the time of a few small files: no runtime is needed. In async code, call it where blocking is allowed.
/// * Privileges: none but to write the directory.
///
/// See flock(2): <https://man7.org/linux/man-pages/man2/flock.2.html>.
///
/// ```
/// # let scratch = std::env::temp_dir().join(format!("vethnet-plan-{}", std::process::id()));
/// use vethnet::{AddressPlan, ErrorKind, Wish};
///
/// let plan = AddressPlan::new(&scratch).subnet("10.88.0.0/24".parse()?).subnet("fd00:88::/64".parse()?);
/// let web = plan.lease("web")?;
/// assert_eq!(web.ipv4(), Some("10.88.0.2/24".parse()?));
/// assert_eq!(web.ipv6(), Some("fd00:88::2/64".parse()?));
///
/// let error = plan.lease(Wish::new("db").address([10, 88, 0, 2].into())).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::AlreadyExists);
/// assert_eq!(error.hint(), Some(r#""web" has it: release that first, or wish for another"#));
///
/// plan.release("web")?;
/// assert_eq!(plan.lease("db")?.ipv4(), Some("10.88.0.3/24".parse()?), "a released address rests");
/// assert_eq!(plan.collect(|owner| owner != "db")?, ["db"]);
/// plan.remove()?;
/// # Ok::<(), vethnet::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct AddressPlan {
    dir: PathBuf,
    subnets: Vec<Subnet>,
    reserved: Vec<IpAddr>,
}

impl AddressPlan {
    /// The plan in this directory. Nothing is made before the first lease.
    pub fn new(dir: impl AsRef<Path>) -> Self {
        Self { dir: dir.as_ref().to_owned(), subnets: Vec::new(), reserved: Vec::new() }
    }

    /// A range to lease from: at most one of each family, and at least one.
    pub fn subnet(mut self, subnet: Subnet) -> Self {
        self.subnets.push(subnet);
        self
    }

    /// An address that no owner gets: the host's own, where that is not [`Subnet::gateway`], or a router's. May be called
    /// again.
    ///
    /// ```
    /// # let scratch = std::env::temp_dir().join(format!("vethnet-reserve-{}", std::process::id()));
    /// use vethnet::AddressPlan;
    ///
    /// let plan = AddressPlan::new(&scratch).subnet("10.88.0.0/24".parse()?).reserve([10, 88, 0, 2].into());
    /// assert_eq!(plan.lease("web")?.ipv4(), Some("10.88.0.3/24".parse()?));
    /// # plan.release("web")?;
    /// # plan.remove()?;
    /// # Ok::<(), vethnet::Error>(())
    /// ```
    pub fn reserve(mut self, address: IpAddr) -> Self {
        self.reserved.push(address);
        self
    }

    /// The ranges.
    #[must_use]
    pub fn subnets(&self) -> &[Subnet] {
        &self.subnets
    }

    fn files(&self) -> LeaseDir<Lease> {
        LeaseDir::new(self.dir.clone())
    }

    fn ranges(&self) -> Ranges<'_> {
        Ranges { subnets: &self.subnets, reserved: &self.reserved }
    }

    fn lock(&self) -> Result<Lock> {
        Lock::take_blocking(&self.dir)
    }

    /// Whether a network can be made of the ranges: they are for hosts, and this machine has no route to an address of
    /// them and no such address itself, but by the interface `own` (the network's bridge, when it is there already).
    ///
    /// It asks the kernel for all routes and addresses, which takes longer the more there are: it is for when a network is
    /// made, and no lease does it.
    ///
    /// * C: RTM_GETROUTE and RTM_GETADDR, rtnetlink(7), in the network namespace of the calling thread.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the route or the address, and its interface; or for ranges that are
    /// not for hosts, or more than one of a family.
    ///
    /// ```no_run
    /// use vethnet::AddressPlan;
    ///
    /// AddressPlan::new("/run/demo").subnet("10.88.0.0/24".parse()?).check(None)?;
    /// # Ok::<(), vethnet::Error>(())
    /// ```
    #[doc(alias = "RTM_GETROUTE")]
    pub fn check(&self, own: Option<&IfName>) -> Result<()> {
        self.ranges().check()?;
        conflict::check(&self.subnets, own)
    }

    /// Leases the next free addresses to an owner, or those wished for.
    ///
    /// The lease is in the files when this returns. With names in the wish, the file of
    /// [`hosts_file`](AddressPlan::hosts_file) has them.
    ///
    /// # Errors
    /// * [`Invalid`](crate::ErrorKind::Invalid), before anything is changed: an address outside the ranges, or the gateway
    ///   or another that is not for containers; a wrong id; ranges that are not for hosts; leases of other ranges are in
    ///   the directory.
    /// * [`AlreadyExists`](crate::ErrorKind::AlreadyExists): the owner has a lease (EEXIST); the address wished for is
    ///   somebody's (EADDRINUSE), and the hint says whose.
    /// * [`Limit`](crate::ErrorKind::Limit): every address is leased (ENOSPC).
    /// * [`TimedOut`](crate::ErrorKind::TimedOut): another process holds the lock; and whatever the files give.
    pub fn lease(&self, wish: impl Into<Wish>) -> Result<Lease> {
        let Wish { owner, addresses, names } = wish.into();
        let owner = Owner::new(&owner)?;
        let files = self.files();
        // Before the directory is made for the lock.
        self.ranges().sort(&addresses)?;
        let lock = self.lock()?;
        let make = |addresses: &[_]| Ok(Lease::new(owner.clone(), addresses.to_vec(), names));
        files.claim(&lock, &owner, self.ranges(), &addresses, make)
    }

    /// The lease of an owner, if it has one. Needs no lock.
    ///
    /// # Errors
    /// [`Parse`](crate::ErrorKind::Parse) when its file is damaged, or is of another version; [`release`](Self::release)
    /// removes such a one, too.
    pub fn find(&self, owner: &str) -> Result<Option<Lease>> {
        self.files().find(&Owner::new(owner)?)
    }

    /// Who has leased an address.
    ///
    /// # Errors
    /// Of the files.
    pub fn owner_of(&self, address: IpAddr) -> Result<Option<String>> {
        Ok(self.files().owner_of(address)?.map(String::from))
    }

    /// All leases, in the order of their owners.
    ///
    /// # Errors
    /// As [`find`](Self::find), for the first one that is damaged.
    pub fn leases(&self) -> Result<Vec<Lease>> {
        self.files().all()
    }

    /// Ends the lease of an owner, also a damaged one. Says whether there was one.
    ///
    /// # Errors
    /// Of the lock and the files. It may be called again.
    pub fn release(&self, owner: &str) -> Result<bool> {
        let owner = Owner::new(owner)?;
        if !self.files().has_lease(&owner)? {
            return Ok(false);
        }
        self.files().release(&self.lock()?, &owner)
    }

    /// Ends the lease of every owner that `is_alive` denies, and says who they were. What killed processes left is put in
    /// order.
    ///
    /// `is_alive` is asked once for each owner, without the lock, so it may take its time and use the plan. A lease that
    /// came after the question is not ended by its answer.
    ///
    /// # Errors
    /// Every failure, after all owners were tried. A damaged record of an owner that is alive is one.
    pub fn collect(&self, mut is_alive: impl FnMut(&str) -> bool) -> Result<Vec<String>> {
        let files = self.files();
        let mut dead = Vec::new();
        for owner in files.owners()? {
            let asked = files.identity(&owner)?;
            if !is_alive(owner.as_str()) {
                dead.push((owner, asked));
            }
        }
        if !self.dir.exists() {
            return Ok(Vec::new());
        }
        let lock = self.lock()?;
        let mut removed = Vec::new();
        let mut errors = Vec::new();
        for (owner, asked) in dead {
            let release = || if files.identity(&owner)? == asked { files.release(&lock, &owner) } else { Ok(false) };
            match release() {
                Ok(true) => removed.push(owner.into()),
                Ok(false) => {}
                Err(error) => errors.push(error),
            }
        }
        errors.extend(files.repair(&lock));
        Error::all(errors).map(|()| removed)
    }

    /// The names of all leases with their addresses, as a file to mount over the /etc/hosts of each container of the
    /// network. It is made when it is missing.
    ///
    /// It is one file for all, and is rewritten *in place* when a lease with names comes or goes, so whoever has mounted it
    /// sees the change at once, however many they are (see [`Hosts`]). So mount it read-only: whoever may write it decides
    /// what the others' names mean. A container that needs lines of its own gets a file of its own, from
    /// [`hosts`](AddressPlan::hosts), and has to be told of changes.
    ///
    /// # Errors
    /// Of the lock and the files.
    ///
    /// ```
    /// # let scratch = std::env::temp_dir().join(format!("vethnet-hosts-{}", std::process::id()));
    /// use std::io::Read;
    /// use vethnet::{AddressPlan, HostName, Wish};
    ///
    /// let plan = AddressPlan::new(&scratch).subnet("10.88.0.0/24".parse()?);
    /// let mut file = plan.hosts_file()?;
    /// plan.lease(Wish::new("c1").name(HostName::new("web")?))?;
    /// let mut text = String::new();
    /// file.read_to_string(&mut text).expect("read");
    /// assert!(text.contains("10.88.0.2\tweb"));
    /// # plan.release("c1")?;
    /// # plan.remove()?;
    /// # Ok::<(), vethnet::Error>(())
    /// ```
    pub fn hosts_file(&self) -> Result<File> {
        self.ranges().check()?;
        self.files().hosts(&self.lock()?)
    }

    /// The names of all leases with their addresses, for a container that has more lines than those.
    ///
    /// # Errors
    /// As [`leases`](Self::leases).
    pub fn hosts(&self) -> Result<Hosts> {
        let mut hosts = Hosts::new();
        for lease in self.leases()? {
            for address in lease.addresses() {
                if !lease.names().is_empty() {
                    hosts = hosts.entry(address.address(), lease.names().iter().cloned());
                }
            }
        }
        Ok(hosts)
    }

    /// Removes the directory. It is not needed for anything but to leave nothing behind: which address was given out last
    /// is forgotten with it.
    ///
    /// # Errors
    /// [`Busy`](crate::ErrorKind::Busy) while there is a lease, and whatever the files give.
    pub fn remove(&self) -> Result<()> {
        if self.dir.exists() { self.files().remove(&self.lock()?) } else { Ok(()) }
    }
}
