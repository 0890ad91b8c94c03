//! What outlives the process: the state directory of networks, under one lock.
//!
//! Theory of operation. The state directory has one directory a network, named after its bridge, with the leases of its
//! addresses (see `lease_dir`). The record of a lease is that of the attachment: what was made for the container. It is
//! written whole before anything is made in the kernel, and removed after all of it is gone: whatever a kill leaves behind
//! can be found from the files.
//!
//! The lock (see `lock`) is held to choose an address, and to make or remove what the containers share. The network's
//! directory goes with its last lease, the state directory with the last network.
//!
//! `ip_forward` in the state directory says that this crate turned the machine's forwarding on, and has to turn it off;
//! and whether ICMP redirects were refused before, which the kernel forgets then.
#![forbid(unsafe_code)]

use std::fs;
use std::io::ErrorKind as Io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use cellkit_core::{Error, Result};

use crate::lease_dir::{LeaseDir, Ranges, fail, unlink, write_whole};
use crate::lock::Lock;
use crate::name::{IfName, Owner};
use crate::record::Record;

const FORWARDING: &str = "ip_forward";
const REFUSED: &[u8] = b"accept_redirects 0\n";
const ACCEPTED: &[u8] = b"accept_redirects 1\n";

/// The state directory, as one network sees it.
#[derive(Clone, Debug)]
pub(crate) struct State {
    dir: PathBuf,
    bridge: IfName,
    leases: LeaseDir<Record>,
}

impl State {
    pub(crate) fn new(dir: &Path, bridge: &IfName) -> Self {
        let leases = LeaseDir::new(dir.join(bridge.as_str()));
        Self { dir: dir.to_owned(), bridge: bridge.clone(), leases }
    }

    /// Takes the lock, and makes the state directory if it is missing.
    pub(crate) async fn lock(&self) -> Result<Lock> {
        Lock::take(&self.dir).await
    }

    pub(crate) fn lock_blocking(&self) -> Result<Lock> {
        Lock::take_blocking(&self.dir)
    }

    /// Whether `owner` has a lease, be it damaged.
    pub(crate) fn has_lease(&self, owner: &Owner) -> Result<bool> {
        self.leases.has_lease(owner)
    }

    /// The lease of `owner`, if it has one.
    pub(crate) fn lease(&self, owner: &Owner) -> Result<Option<Record>> {
        match self.leases.find(owner)? {
            Some(record) if record.bridge != self.bridge => {
                Err(self.leases.damaged(owner, "it is the record of another attachment".into()))
            }
            found => Ok(found),
        }
    }

    /// Who has a lease, in order.
    pub(crate) fn owners(&self) -> Result<Vec<Owner>> {
        self.leases.owners()
    }

    /// All leases of this network. A lease that vanishes meanwhile is none.
    pub(crate) fn leases(&self) -> Result<Vec<Record>> {
        self.owners()?.iter().filter_map(|owner| self.lease(owner).transpose()).collect()
    }

    /// Writes the lease, whole. Its addresses were chosen by the caller, under the lock.
    pub(crate) fn write(&self, lock: &Lock, record: &Record) -> Result<()> {
        let address = record.address.into();
        let ranges = Ranges { subnets: &[record.subnet], reserved: &[] };
        self.leases.claim(lock, &record.owner, ranges, &[address], |_| Ok(record.clone()))?;
        self.leases.set_last(&[address])
    }

    /// The address that was given out last, as far as it is known.
    pub(crate) fn last_address(&self, _: &Lock) -> Result<Option<Ipv4Addr>> {
        Ok(self.leases.last()?.into_iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }))
    }

    /// Removes the lease, if it is there.
    pub(crate) fn remove(&self, lock: &Lock, owner: &Owner) -> Result<()> {
        self.leases.release(lock, owner).map(drop)
    }

    /// Whether there is a lease. The cost does not grow with them.
    pub(crate) fn in_use(&self, lock: &Lock) -> Result<bool> {
        self.leases.in_use(lock)
    }

    /// Puts in order what killed processes have left of leases. Returns what is damaged.
    pub(crate) fn repair(&self, lock: &Lock) -> Vec<Error> {
        self.leases.repair(lock)
    }

    /// Removes the network's directory and what a killed writer left. There must be no lease.
    pub(crate) fn remove_network(&self, lock: &Lock) -> Result<()> {
        self.leases.remove(lock)
    }

    /// Whether any network of the state directory is in use.
    pub(crate) fn any_network(&self, _: &Lock) -> Result<bool> {
        let entries = fs::read_dir(&self.dir).map_err(|error| fail("getdents64", &error, &self.dir))?;
        for entry in entries {
            let entry = entry.map_err(|error| fail("getdents64", &error, &self.dir))?;
            let kind = entry.file_type().map_err(|error| fail("getdents64", &error, &self.dir))?;
            if kind.is_dir() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether this crate turned forwarding on, and if so, whether redirects were refused before.
    pub(crate) fn turned_forwarding_on(&self, _: &Lock) -> Result<Option<bool>> {
        let path = self.dir.join(FORWARDING);
        match fs::read(&path) {
            // What a killed writer left says that, too. It had not turned anything on yet.
            Ok(bytes) => Ok(Some(bytes == REFUSED)),
            Err(error) if error.kind() == Io::NotFound => Ok(None),
            Err(error) => Err(fail("read", &error, &path)),
        }
    }

    /// Remembers that this crate turns forwarding on. What was remembered before stays: it is from before all of it.
    pub(crate) fn turn_forwarding_on(&self, lock: &Lock, refused: bool) -> Result<()> {
        if self.turned_forwarding_on(lock)?.is_some() {
            return Ok(());
        }
        write_whole(&self.dir.join(FORWARDING), if refused { REFUSED } else { ACCEPTED })
    }

    /// Forgets it.
    pub(crate) fn turned_forwarding_off(&self, _: &Lock) -> Result<()> {
        unlink(&self.dir.join(FORWARDING)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn bridge() -> IfName {
        IfName::new("cellkit0").unwrap()
    }

    fn record(owner: &str, address: [u8; 4]) -> Record {
        let eth0 = IfName::new("eth0").unwrap();
        let (owner, ports) = (Owner::new(owner).unwrap(), ["80:80".parse().unwrap()]);
        Record::new(owner, &bridge(), crate::Subnet::default(), address.into(), &eth0, None, &ports)
    }

    #[test]
    fn leases_are_found_again_and_nothing_is_left() {
        let dir = faultkit::TempDir::new();
        let state = State::new(&dir.path().join("a/b"), &bridge());
        assert!(state.owners().unwrap().is_empty(), "without a directory there is no lease");
        let lock = state.lock_blocking().unwrap();
        assert!(!state.in_use(&lock).unwrap());
        let web = record("web", [10, 209, 0, 2]);
        state.write(&lock, &web).unwrap();
        assert!(state.in_use(&lock).unwrap());
        assert_eq!(state.last_address(&lock).unwrap(), Some(web.address), "it is remembered with the lease");
        assert_eq!(state.leases().unwrap(), std::slice::from_ref(&web));
        assert!(state.any_network(&lock).unwrap());
        assert!(state.remove_network(&lock).is_err(), "there is a lease");
        state.remove(&lock, &web.owner).unwrap();
        state.remove(&lock, &web.owner).unwrap();
        assert!(!state.in_use(&lock).unwrap());
        assert_eq!(state.last_address(&lock).unwrap(), Some(web.address), "it outlives the lease");
        state.remove_network(&lock).unwrap();
        state.remove_network(&lock).unwrap();
        assert!(!state.any_network(&lock).unwrap());
        for refused in [true, false] {
            assert_eq!(state.turned_forwarding_on(&lock).unwrap(), None);
            state.turn_forwarding_on(&lock, refused).unwrap();
            state.turn_forwarding_on(&lock, !refused).unwrap();
            assert_eq!(state.turned_forwarding_on(&lock).unwrap(), Some(refused), "the first is right");
            state.turned_forwarding_off(&lock).unwrap();
            state.turned_forwarding_off(&lock).unwrap();
        }
        fs::write(dir.path().join("a/b/ip_forward"), "accept_redi").unwrap();
        assert_eq!(state.turned_forwarding_on(&lock).unwrap(), Some(false), "torn");
        state.turned_forwarding_off(&lock).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 0);
        drop(lock);
        assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 0, "nor is the state directory");
    }

    #[test]
    fn another_owners_file_and_another_version_are_refused() {
        let dir = faultkit::TempDir::new();
        let state = State::new(dir.path(), &bridge());
        let lock = state.lock_blocking().unwrap();
        let web = record("web", [10, 209, 0, 2]);
        state.write(&lock, &web).unwrap();
        let path = |owner: &str| dir.path().join(format!("cellkit0/lease/{owner}.json"));
        let text = fs::read_to_string(path("web")).unwrap();
        let owner = Owner::new("other").unwrap();
        for (damaged, why) in [
            (text.clone(), "another owner"),
            (text.replace("web", "other").replace("cellkit0", "cellkit1"), "another attachment"),
            (text.replace("web", "other"), "is leased to \"web\""),
            (text.replace("web", "other").replace("\"version\":1", "\"version\":2"), "version 2"),
            (text.replace("web", "other").replace("10.209.0.2", "10.1.0.2"), "not in 10.209.0.0/22"),
            (text.replace("web", "other").replace("eth0", "../x"), "'/'"),
            (text.replace("web", "other").replace("80:80", "0:80"), "from 1 to 65535"),
        ] {
            let is_bridge = damaged.contains("cellkit1");
            fs::write(path("other"), if is_bridge { damaged.replace("10.209.0.2", "10.209.0.3") } else { damaged })
                .unwrap();
            if is_bridge {
                std::os::unix::fs::symlink("other", dir.path().join("cellkit0/address/10.209.0.3")).unwrap();
            }
            let error = state.lease(&owner).expect_err(why);
            assert_eq!(error.kind(), ErrorKind::Parse);
            assert!(error.to_string().contains(why), "{error}");
        }
        assert!(state.leases().is_err(), "an address could be given twice");
    }
}
