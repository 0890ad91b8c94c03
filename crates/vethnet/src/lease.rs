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
//! Files in the state directory itself say which switches of the machine this crate turned on and has to turn off (see
//! `forwarding`), and what was before.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use cellkit_core::{Error, Result};

use crate::ip_net::IpNet;
use crate::lease_dir::{LeaseDir, Ranges, attached, exhausted, fail, read_whole, taken, unlink, write_whole};
use crate::lock::Lock;
use crate::name::{IfName, Owner};
use crate::plan::Layout;
use crate::record::Record;
use crate::spec::Checked;

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

    /// Whether there is a state directory: without one, no network is in use.
    pub(crate) fn exists(&self) -> Result<bool> {
        self.dir.try_exists().map_err(|error| fail("statx", &error, &self.dir))
    }

    /// Whether `owner` has a lease, be it damaged.
    pub(crate) fn has_lease(&self, owner: &Owner) -> Result<bool> {
        self.leases.has_lease(owner)
    }

    /// The lease of `owner`, if it has one.
    pub(crate) fn lease(&self, owner: &Owner) -> Result<Option<Record>> {
        match self.leases.find(owner)? {
            Some(record) if record.network != self.bridge => {
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

    /// Leases what `checked` asks for, and writes the record that `make` makes of the addresses, whole. Costs
    /// the same for one lease and for thousands.
    pub(crate) fn claim(
        &self,
        lock: &Lock,
        layout: &Layout,
        checked: &Checked,
        make: impl FnOnce(&[IpNet]) -> Record,
    ) -> Result<Record> {
        let (subnets, gateways) = (layout.subnets(), layout.gateways());
        let ranges = Ranges { subnets: &subnets, reserved: &gateways };
        self.leases.claim(lock, &checked.owner, ranges, &checked.addresses, |addresses| Ok(make(addresses)))
    }

    /// Writes the record of a lease that is there anew.
    pub(crate) fn rewrite(&self, _: &Lock, record: &Record) -> Result<()> {
        self.leases.write(&record.owner, record)
    }

    /// Whether [`claim`](Self::claim) would find what is asked for. Needs no lock, so it is a forecast.
    pub(crate) fn check_claim(&self, layout: &Layout, checked: &Checked) -> Result<()> {
        let subnets = layout.subnets();
        self.leases.check_same_ranges(&Ranges { subnets: &subnets, reserved: &[] })?;
        if self.has_lease(&checked.owner)? {
            return Err(attached(&checked.owner));
        }
        for wish in &checked.addresses {
            if let Some(owner) = self.leases.owner_of(*wish)? {
                return Err(taken(*wish, &owner));
            }
        }
        let used = self.leases()?;
        for subnet in subnets.iter().filter(|subnet| !checked.addresses.iter().any(|wish| subnet.contains(*wish))) {
            let gateways = layout.gateways().iter().filter(|gateway| subnet.is_for_container(**gateway)).count();
            if u128::try_from(used.len() + gateways).is_ok_and(|used| used >= subnet.capacity()) {
                return Err(exhausted(*subnet));
            }
        }
        Ok(())
    }

    /// The names of all, see [`LeaseDir::hosts`].
    pub(crate) fn hosts_file(&self, lock: &Lock) -> Result<File> {
        self.leases.hosts(lock)
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

    /// What this crate remembers of a switch that it turned on, if it did.
    pub(crate) fn turned_on(&self, _: &Lock, switch: &'static str) -> Result<Option<Vec<u8>>> {
        read_whole(&self.dir.join(switch))
    }

    /// Remembers that this crate turns a switch on, and what else has to be given back. What was remembered before stays:
    /// it is from before all of it.
    pub(crate) fn turn_on(&self, lock: &Lock, switch: &'static str, before: &[u8]) -> Result<()> {
        if self.turned_on(lock, switch)?.is_some() {
            return Ok(());
        }
        write_whole(&self.dir.join(switch), before)
    }

    /// Forgets it.
    pub(crate) fn turned_off(&self, _: &Lock, switch: &'static str) -> Result<()> {
        unlink(&self.dir.join(switch)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::record::tests::record;

    fn bridge() -> IfName {
        IfName::new("cellkit0").unwrap()
    }

    fn layout() -> Layout {
        crate::Network::new(bridge(), crate::Subnet::default()).layout().unwrap()
    }

    /// A lease of the next address.
    fn claim(state: &State, lock: &Lock, owner: &str) -> Record {
        let checked = crate::Attach::new(owner).checked(&layout()).unwrap();
        let make = |addresses: &[IpNet]| {
            let texts: Vec<_> = addresses.iter().map(IpNet::to_string).collect();
            record(owner, &texts.iter().map(String::as_str).collect::<Vec<_>>())
        };
        state.claim(lock, &layout(), &checked, make).unwrap()
    }

    #[test]
    fn leases_are_found_again_and_nothing_is_left() {
        let dir = faultkit::TempDir::new();
        let state = State::new(&dir.path().join("a/b"), &bridge());
        assert!(state.owners().unwrap().is_empty(), "without a directory there is no lease");
        let lock = state.lock_blocking().unwrap();
        assert!(!state.in_use(&lock).unwrap());
        let web = claim(&state, &lock, "web");
        assert!(state.in_use(&lock).unwrap());
        assert_eq!(state.leases().unwrap(), std::slice::from_ref(&web));
        assert!(state.any_network(&lock).unwrap());
        assert!(state.remove_network(&lock).is_err(), "there is a lease");
        state.remove(&lock, &web.owner).unwrap();
        state.remove(&lock, &web.owner).unwrap();
        assert!(!state.in_use(&lock).unwrap());
        state.remove_network(&lock).unwrap();
        state.remove_network(&lock).unwrap();
        assert!(!state.any_network(&lock).unwrap());
        for before in [&b"one"[..], b""] {
            assert_eq!(state.turned_on(&lock, "ip_forward").unwrap(), None);
            state.turn_on(&lock, "ip_forward", before).unwrap();
            state.turn_on(&lock, "ip_forward", b"other").unwrap();
            assert_eq!(state.turned_on(&lock, "ip_forward").unwrap().as_deref(), Some(before), "the first is right");
            state.turned_off(&lock, "ip_forward").unwrap();
            state.turned_off(&lock, "ip_forward").unwrap();
        }
        fs::write(dir.path().join("a/b/ip_forward"), "accept_redi").unwrap();
        assert_eq!(state.turned_on(&lock, "ip_forward").unwrap().as_deref(), Some(&b"accept_redi"[..]), "torn");
        state.turned_off(&lock, "ip_forward").unwrap();
        assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 0);
        drop(lock);
        assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 0, "nor is the state directory");
    }

    #[test]
    fn the_forecast_is_what_happens() {
        let dir = faultkit::TempDir::new();
        let state = State::new(dir.path(), &bridge());
        let lock = state.lock_blocking().unwrap();
        // The first one is never given out, so there is one for containers, which a gateway may have.
        let network = crate::Network::new(bridge(), "10.1.0.4/30".parse().unwrap());
        for (gateway, room) in [("10.1.0.5", 1), ("10.1.0.6", 0)] {
            let layout = network.clone().gateway(gateway.parse().unwrap()).layout().unwrap();
            for (number, owner) in ["web", "db"].into_iter().enumerate() {
                let checked = crate::Attach::new(owner).checked(&layout).unwrap();
                let forecast = state.check_claim(&layout, &checked);
                let make = |addresses: &[IpNet]| record(owner, &[&addresses[0].to_string()]);
                let result = state.claim(&lock, &layout, &checked, make);
                assert_eq!(forecast.is_ok(), number < room, "{gateway} {owner}");
                assert_eq!(result.is_ok(), number < room, "{gateway} {owner}");
            }
            for owner in state.owners().unwrap() {
                state.remove(&lock, &owner).unwrap();
            }
            state.remove_network(&lock).unwrap();
        }
    }

    #[test]
    fn another_owners_file_and_another_version_are_refused() {
        let dir = faultkit::TempDir::new();
        let state = State::new(dir.path(), &bridge());
        let lock = state.lock_blocking().unwrap();
        claim(&state, &lock, "web");
        let path = |owner: &str| dir.path().join(format!("cellkit0/lease/{owner}.json"));
        let text = fs::read_to_string(path("web")).unwrap();
        let owner = Owner::new("other").unwrap();
        for (damaged, why) in [
            (text.clone(), "another owner"),
            (text.replace("web", "other").replace("cellkit0", "cellkit1"), "another attachment"),
            (text.replace("web", "other"), "is leased to \"web\""),
            (text.replace("web", "other").replace("\"version\":2", "\"version\":1"), "version 1"),
            (text.replace("web", "other").replace("10.209.0.2/22", "10.209.0.2"), "ADDRESS/PREFIX"),
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
