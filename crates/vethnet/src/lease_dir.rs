//! The leases of one range of addresses, as files.
//!
//! Theory of operation. A directory has what is leased twice, by owner and by address:
//!
//! ```text
//! lease/web.json            what web has: a record, which names its addresses
//! address/10.209.0.2        a symbolic link to nothing, whose text is the owner: web
//! last                      the same, with the addresses that were given out last
//! subnets                   and with the ranges that all of them are from
//! boot                      and with the id of the boot in which a lease was taken last
//! hosts                     the names of all, see `hosts`
//! ```
//!
//! A symbolic link is made whole or not at all, and only where there is none: so no address is given twice, and to see
//! whether one is free takes one call, however many are leased. Leasing looks at the addresses from the one after the
//! last around the range, and lists them only after a row of taken ones.
//!
//! The order. To lease: the address, then `last`, then the record (a temporary file, rename), then `hosts`.
//! To release: `hosts`, the record, the address. So a kill at any point leaves at most an address whose owner has no
//! record of it, an *orphan*: it is nobody's, and is taken when it is wished for or when the range has nothing else, and
//! removed by `repair`. A record always has its addresses; whoever finds one without (a file was damaged, or removed by
//! hand) says so. Only what a link says to be the owner's is removed with the owner: a damaged record takes nothing from
//! others.
//!
//! Nothing is synchronised with a disk, which would take longer than all else together. When the machine itself stops, so
//! does all that an address was for; what the disk has of the files then, in whatever state, is put in order by the first
//! lease after it, which sees by `boot` that it is the first.
//!
//! All of it is done under a lock that the caller holds. Reading a lease is not: it is there whole, or not.
#![forbid(unsafe_code)]

mod files;
mod hosts_file;
mod ranges;
mod repair;

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind as Io;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use cellkit_core::{Error, ErrorKind, Result, Subject};
use serde::Serialize;

use crate::host_name::HostName;
use crate::ip_net::IpNet;
use crate::lock::Lock;
use crate::name::Owner;
use crate::subnet::Subnet;

pub(crate) use files::{fail, read_whole, unlink, write_whole};
use files::{make_dir, names, read_link, rmdir};
pub(crate) use ranges::Ranges;

const LEASES: &str = "lease";
const ADDRESSES: &str = "address";
const LAST: &str = "last";
const SUBNETS: &str = "subnets";
const BOOT: &str = "boot";
const HOSTS: &str = "hosts";
const FILE_TEMPORARY: &str = ".file.tmp";
const LINK_TEMPORARY: &str = ".link.tmp";

/// How many addresses are tried before they are listed.
const PROBES: usize = 64;

/// A record of what an owner has leased.
pub(crate) trait Leased: Serialize + Sized {
    /// Reads it, or says why it is none.
    fn parse(bytes: &[u8]) -> Result<Self, String>;
    fn owner(&self) -> &Owner;
    fn addresses(&self) -> Vec<IpAddr>;
    fn names(&self) -> &[HostName];
}

/// The directory, with records of one sort.
#[derive(Clone, Debug)]
pub(crate) struct LeaseDir<R> {
    dir: PathBuf,
    record: PhantomData<fn() -> R>,
}

/// What `address/` has of an address.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Free,
    Of(Owner),
    /// A file of somebody else's.
    Foreign,
}

impl<R: Leased> LeaseDir<R> {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, record: PhantomData }
    }

    fn lease_path(&self, owner: &Owner) -> PathBuf {
        self.dir.join(LEASES).join(format!("{}.json", owner.as_str()))
    }

    fn address_path(&self, address: IpAddr) -> PathBuf {
        self.dir.join(ADDRESSES).join(address.to_string())
    }

    /// Whether `owner` has a lease, be it damaged.
    pub(crate) fn has_lease(&self, owner: &Owner) -> Result<bool> {
        let path = self.lease_path(owner);
        path.try_exists().map_err(|error| fail("statx", &error, &path))
    }

    /// The record of `owner` and nothing beside it.
    fn read(&self, owner: &Owner) -> Result<Option<R>> {
        let path = self.lease_path(owner);
        let bytes = match read_whole(&path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Parse => {
                return Err(self.damaged(owner, "it is no regular file, or too long".into()));
            }
            Err(error) => return Err(error),
        };
        match R::parse(&bytes) {
            Ok(record) if record.owner() == owner => Ok(Some(record)),
            Ok(_) => Err(self.damaged(owner, "it is the record of another owner".into())),
            Err(why) => Err(self.damaged(owner, why)),
        }
    }

    pub(crate) fn damaged(&self, owner: &Owner, why: String) -> Error {
        Error::parse("read", why)
            .on(self.lease_path(owner))
            .with_hint("the record is damaged: detach or release its owner, which takes nothing from others")
    }

    /// The lease of `owner`, if it has one.
    pub(crate) fn find(&self, owner: &Owner) -> Result<Option<R>> {
        let Some(record) = self.read(owner)? else { return Ok(None) };
        for address in record.addresses() {
            let entry = self.entry(address)?;
            if entry == Entry::Of(owner.clone()) {
                continue;
            }
            // Released since it was read, which is no damage.
            if !self.has_lease(owner)? {
                return Ok(None);
            }
            let why = match entry {
                Entry::Of(other) => format!("its address {address} is leased to {:?}", other.as_str()),
                _ => format!("its address {address} is not leased to it"),
            };
            return Err(self.damaged(owner, why));
        }
        Ok(Some(record))
    }

    /// Who has a lease, in order.
    pub(crate) fn owners(&self) -> Result<Vec<Owner>> {
        let files = names(&self.dir.join(LEASES))?;
        let mut owners: Vec<_> = files.iter().filter_map(|name| Owner::new(name.strip_suffix(".json")?).ok()).collect();
        owners.sort();
        Ok(owners)
    }

    /// All leases, in the order of their owners. A lease that vanishes meanwhile is none.
    pub(crate) fn all(&self) -> Result<Vec<R>> {
        self.owners()?.iter().filter_map(|owner| self.find(owner).transpose()).collect()
    }

    fn entry(&self, address: IpAddr) -> Result<Entry> {
        let path = self.address_path(address);
        match fs::read_link(&path) {
            // What no owner can be called has nobody's record.
            Ok(text) => Ok(text.to_str().and_then(|id| Owner::new(id).ok()).map_or(Entry::Foreign, Entry::Of)),
            Err(error) if error.kind() == Io::NotFound => Ok(Entry::Free),
            Err(error) if error.kind() == Io::InvalidInput => Ok(Entry::Foreign),
            Err(error) => Err(fail("readlinkat", &error, &path)),
        }
    }

    /// Whose the address is. An orphan is nobody's.
    pub(crate) fn owner_of(&self, address: IpAddr) -> Result<Option<Owner>> {
        match self.entry(address)? {
            Entry::Of(owner) if !self.is_orphan(address, &owner)? => Ok(Some(owner)),
            _ => Ok(None),
        }
    }

    /// Whether `owner`, who has the address by its entry, has a record without it. A damaged record may be of it.
    fn is_orphan(&self, address: IpAddr, owner: &Owner) -> Result<bool> {
        match self.find(owner) {
            Ok(Some(record)) => Ok(!record.addresses().contains(&address)),
            Ok(None) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Parse => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether leases of these ranges may be added: of others, there may be none.
    pub(crate) fn check_same_ranges(&self, ranges: &Ranges<'_>) -> Result<()> {
        let now = ranges.text();
        match read_link(&self.dir.join(SUBNETS))? {
            Some(before) if before != now && !self.owners()?.is_empty() => {
                Err(Error::invalid("address plan", format!("there are leases of {before} in {:?}", self.dir))
                    .on(Subject::Value(now))
                    .with_hint("release those first, or use another directory"))
            }
            _ => Ok(()),
        }
    }

    /// Which file the lease of `owner` is in: another when it was ended and came again. `None` without a lease.
    pub(crate) fn identity(&self, owner: &Owner) -> Result<Option<impl PartialEq + use<R>>> {
        let path = self.lease_path(owner);
        match fs::symlink_metadata(&path) {
            Ok(file) => Ok(Some((file.dev(), file.ino(), file.ctime(), file.ctime_nsec()))),
            Err(error) if error.kind() == Io::NotFound => Ok(None),
            Err(error) => Err(fail("statx", &error, &path)),
        }
    }

    fn check_owner(&self, owner: &Owner) -> Result<()> {
        if self.has_lease(owner)? {
            return Err(attached(owner));
        }
        Ok(())
    }

    /// Leases an address of each range for `owner`: the one wished for, or the next free one. `make` makes the record of
    /// them, which is in its file when this returns. On an error nothing is leased.
    pub(crate) fn claim(
        &self,
        lock: &Lock,
        owner: &Owner,
        ranges: Ranges<'_>,
        wishes: &[IpAddr],
        make: impl FnOnce(&[IpNet]) -> Result<R>,
    ) -> Result<R> {
        let sorted = ranges.sort(wishes)?;
        self.check_owner(owner)?;
        self.check_same_ranges(&ranges)?;
        make_dir(&self.dir)?;
        // With a file of names, somebody has it in use already.
        let fresh = make_dir(&self.dir.join(ADDRESSES))? && !self.hosts_path().exists();
        let mut taken = Vec::new();
        let claimed = self
            .prepare(lock, &ranges)
            .and_then(|()| self.take_each(owner, &ranges, &sorted, &mut taken))
            .and_then(|addresses| make(&addresses))
            .and_then(|record| self.write(owner, &record).map(|()| record));
        claimed.map_err(|error| {
            // What cannot be undone is an orphan, or an empty directory.
            let undone = self
                .forget(owner)
                .and_then(|()| taken.iter().try_for_each(|address| self.give_back_if_own(*address, owner).map(drop)));
            let removed = if fresh { self.remove(lock) } else { Ok(()) };
            match Error::all(std::iter::once(error).chain(undone.err()).chain(removed.err())) {
                Err(error) => error,
                Ok(()) => Error::other("lease an address", "failed"),
            }
        })
    }

    /// What is there before the first lease, and stays.
    fn prepare(&self, lock: &Lock, ranges: &Ranges<'_>) -> Result<()> {
        make_dir(&self.dir.join(LEASES))?;
        self.repair_after_a_reboot(lock)?;
        let (path, text) = (self.dir.join(SUBNETS), ranges.text());
        if read_link(&path)?.as_deref() == Some(text.as_str()) {
            return Ok(());
        }
        self.set_link(&path, &text)
    }

    /// Takes an address of each range, and remembers which were given out last. `taken` has those that have to be given
    /// back after an error.
    fn take_each(
        &self,
        owner: &Owner,
        ranges: &Ranges<'_>,
        sorted: &[(Subnet, Option<IpAddr>)],
        taken: &mut Vec<IpAddr>,
    ) -> Result<Vec<IpNet>> {
        let mut last = self.last()?;
        let mut addresses = Vec::new();
        for &(subnet, wish) in sorted {
            let before = last.iter().copied().find(|address| subnet.contains(*address));
            let address = match wish {
                Some(address) => self.take_wished(owner, address)?,
                None => self.take_free(owner, ranges, subnet, before)?,
            };
            taken.push(address);
            addresses.push(subnet.at(address)?);
            if wish.is_none() {
                last.retain(|before| !subnet.contains(*before));
                last.push(address);
            }
        }
        if sorted.iter().any(|(_, wish)| wish.is_none()) {
            self.set_last(&last)?;
        }
        Ok(addresses)
    }

    /// Writes the record, whole, and its names.
    pub(crate) fn write(&self, owner: &Owner, record: &R) -> Result<()> {
        let path = self.lease_path(owner);
        let bytes =
            serde_json::to_vec(record).map_err(|error| Error::other("write", error.to_string()).on(path.as_path()))?;
        let temporary = self.dir.join(FILE_TEMPORARY);
        write_whole(&temporary, &bytes)?;
        fs::rename(&temporary, &path).map_err(|error| fail("rename", &error, &path))?;
        if record.names().is_empty() { Ok(()) } else { self.edit_hosts(owner, Some(record)) }
    }

    /// Removes the names and the record of `owner`, in this order.
    fn forget(&self, owner: &Owner) -> Result<()> {
        if self.hosts_path().try_exists().unwrap_or(true) {
            self.edit_hosts(owner, None)?;
        }
        unlink(&self.lease_path(owner)).map(drop)
    }

    /// Makes the symbolic link, in place of one that is there.
    fn set_link(&self, path: &Path, text: &str) -> Result<()> {
        let temporary = self.dir.join(LINK_TEMPORARY);
        let made = match symlink(text, &temporary) {
            // A killed writer's.
            Err(error) if error.kind() == Io::AlreadyExists => {
                unlink(&temporary)?;
                symlink(text, &temporary)
            }
            made => made,
        };
        made.map_err(|error| fail("symlinkat", &error, &temporary))?;
        fs::rename(&temporary, path).map_err(|error| fail("rename", &error, path))
    }

    /// Takes the address if it has no entry yet. Says whether it did.
    fn take(&self, owner: &Owner, address: IpAddr) -> Result<bool> {
        let path = self.address_path(address);
        match symlink(owner.as_str(), &path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == Io::AlreadyExists => Ok(false),
            Err(error) => Err(fail("symlinkat", &error, &path)),
        }
    }

    fn take_wished(&self, owner: &Owner, address: IpAddr) -> Result<IpAddr> {
        if self.take(owner, address)? {
            return Ok(address);
        }
        let path = self.address_path(address);
        match self.entry(address)? {
            Entry::Of(holder) if !self.is_orphan(address, &holder)? => Err(taken(address, &holder)),
            Entry::Of(_) | Entry::Free => self.set_link(&path, owner.as_str()).map(|()| address),
            Entry::Foreign => Err(Error::from_errno("symlinkat", libc::EEXIST)
                .on(path)
                .with_hint("something else has this name: remove it, nothing else belongs there")),
        }
    }

    /// The next address after `last` that nobody has; without a `last` in the range, the first.
    fn take_free(&self, owner: &Owner, ranges: &Ranges<'_>, subnet: Subnet, last: Option<IpAddr>) -> Result<IpAddr> {
        for address in ranges.hosts_after(subnet, last).take(PROBES) {
            if self.take(owner, address)? {
                return Ok(address);
            }
        }
        for _ in 0..2 {
            let used = self.addresses()?;
            for address in ranges.hosts_after(subnet, last).filter(|address| !used.contains(address)) {
                if self.take(owner, address)? {
                    return Ok(address);
                }
            }
            // Nothing is left but what killed processes have left.
            if !self.drop_orphans()? {
                break;
            }
        }
        Err(exhausted(subnet))
    }

    /// All addresses that have an entry.
    fn addresses(&self) -> Result<BTreeSet<IpAddr>> {
        Ok(names(&self.dir.join(ADDRESSES))?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Removes the entry of the address if it is the owner's. Says whether it was.
    fn give_back_if_own(&self, address: IpAddr, owner: &Owner) -> Result<bool> {
        match self.entry(address)? {
            Entry::Of(holder) if holder == *owner => unlink(&self.address_path(address)),
            _ => Ok(false),
        }
    }

    /// Remembers the addresses that were given out last.
    pub(crate) fn set_last(&self, addresses: &[IpAddr]) -> Result<()> {
        let text = addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ");
        self.set_link(&self.dir.join(LAST), &text)
    }

    /// The addresses that were given out last. What cannot be read is taken for the beginning of the range.
    pub(crate) fn last(&self) -> Result<Vec<IpAddr>> {
        let text = read_link(&self.dir.join(LAST))?.unwrap_or_default();
        Ok(text.split(' ').filter_map(|address| address.parse().ok()).collect())
    }

    /// Ends the lease of `owner`. Says whether there was one.
    pub(crate) fn release(&self, _: &Lock, owner: &Owner) -> Result<bool> {
        let addresses = match self.read(owner) {
            Ok(Some(record)) => record.addresses(),
            Ok(None) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Parse => Vec::new(),
            Err(error) => return Err(error),
        };
        self.forget(owner)?;
        let mut all = !addresses.is_empty();
        for address in addresses {
            all &= self.give_back_if_own(address, owner)?;
        }
        if !all {
            // The record was damaged: the entries know what was its owner's.
            for address in self.addresses()? {
                self.give_back_if_own(address, owner)?;
            }
        }
        Ok(true)
    }

    /// Whether there is a lease, at the same cost for any number of them: the directory of the records can be removed only
    /// when it is empty, and is made again when it is needed.
    pub(crate) fn in_use(&self, _: &Lock) -> Result<bool> {
        match rmdir(&self.dir.join(LEASES)) {
            Ok(()) => Ok(false),
            Err(error) if error.kind() == ErrorKind::Busy || error.raw_os_error() == Some(libc::EEXIST) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Removes all that is in the directory, also what killed processes left. There must be no lease.
    pub(crate) fn remove(&self, lock: &Lock) -> Result<()> {
        rmdir(&self.dir.join(LEASES))?;
        for name in names(&self.dir.join(ADDRESSES))? {
            let path = self.dir.join(ADDRESSES).join(name);
            if read_link(&path)?.is_some() {
                unlink(&path)?;
            }
        }
        rmdir(&self.dir.join(ADDRESSES))?;
        for name in [LAST, SUBNETS, BOOT, HOSTS, FILE_TEMPORARY, LINK_TEMPORARY] {
            unlink(&self.dir.join(name))?;
        }
        // The directory that is locked is removed by whoever releases the lock.
        if lock.is_of(&self.dir) { Ok(()) } else { rmdir(&self.dir) }
    }
}

pub(crate) fn attached(owner: &Owner) -> Error {
    Error::from_errno("lease an address", libc::EEXIST)
        .on(Subject::Value(owner.as_str().to_owned()))
        .with_hint("this owner has a lease already: detach or release it first")
}

pub(crate) fn taken(address: IpAddr, holder: &Owner) -> Error {
    Error::from_errno("lease an address", libc::EADDRINUSE)
        .on(Subject::Value(address.to_string()))
        .with_hint(format!("{:?} has it: release that first, or wish for another", holder.as_str()))
}

pub(crate) fn exhausted(subnet: Subnet) -> Error {
    Error::from_errno("lease an address", libc::ENOSPC)
        .on(Subject::Value(subnet.to_string()))
        .with_hint("every address of the range is leased: choose a larger one, or detach what has ended (reconcile)")
}
