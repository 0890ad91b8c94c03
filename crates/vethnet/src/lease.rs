//! What outlives the process: one file a container, under one lock.
//!
//! Theory of operation. The state directory has one directory a network, named after its bridge, and in it one file a
//! container, `OWNER.json`, which is its lease of an address and the record of what was made for it. It is written
//! whole (a temporary file, fsync, rename, fsync of the directory) before anything is made in the kernel, and removed
//! after all of it is gone: whatever a kill leaves behind can be found from the files.
//!
//! `last_address` beside the leases is the address that was given out last (see `address`). It is written before the
//! lease, so that a kill in between skips an address and never gives one too early. It is no loss: what cannot be read
//! is taken for the beginning of the range.
//!
//! The lock (see `lock`) is held to choose an address, and to make or remove what the containers share. The network's
//! directory goes with its last lease, the state directory with the last network.
//!
//! `ip_forward` in the state directory says that this crate turned the machine's forwarding on, and has to turn it off;
//! and whether ICMP redirects were refused before, which the kernel forgets then.
#![forbid(unsafe_code)]

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind as Io, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cellkit_core::{Error, Result};

use crate::hint::HINTS;
use crate::lock::Lock;
use crate::name::{IfName, Owner};
use crate::record::Record;

/// Beside the leases, whose names end in `.json`.
const LAST_ADDRESS: &str = "last_address";
const FORWARDING: &str = "ip_forward";
const REFUSED: &[u8] = b"accept_redirects 0\n";
const ACCEPTED: &[u8] = b"accept_redirects 1\n";

/// The state directory, as one network sees it.
#[derive(Clone, Debug)]
pub(crate) struct State {
    dir: PathBuf,
    bridge: IfName,
}

fn fail(call: &'static str, error: &std::io::Error, path: &Path) -> Error {
    Error::from_io(call, error).on(path).with_hints(&HINTS)
}

fn make_dir(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| fail("mkdir", &error, path))
}

fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|error| fail("fsync", &error, path))
}

impl State {
    pub(crate) fn new(dir: &Path, bridge: &IfName) -> Self {
        Self { dir: dir.to_owned(), bridge: bridge.clone() }
    }

    fn leases_dir(&self) -> PathBuf {
        self.dir.join(self.bridge.as_str())
    }

    fn lease_path(&self, owner: &Owner) -> PathBuf {
        self.leases_dir().join(format!("{}.json", owner.as_str()))
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
        let path = self.lease_path(owner);
        path.try_exists().map_err(|error| fail("statx", &error, &path))
    }

    /// The lease of `owner`, if it has one.
    pub(crate) fn lease(&self, owner: &Owner) -> Result<Option<Record>> {
        let path = self.lease_path(owner);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == Io::NotFound => return Ok(None),
            Err(error) => return Err(fail("read", &error, &path)),
        };
        let record = Record::parse(&bytes).and_then(|record| {
            if record.owner == *owner && record.bridge == self.bridge {
                Ok(record)
            } else {
                Err("it is the record of another attachment".into())
            }
        });
        record.map(Some).map_err(|why| {
            Error::parse("read", why)
                .on(path)
                .with_hint("the record is damaged: detach its owner, or remove the file when nothing of it is left")
        })
    }

    /// Who has a lease, in order.
    pub(crate) fn owners(&self) -> Result<Vec<Owner>> {
        let dir = self.leases_dir();
        let mut owners = Vec::new();
        for name in names(&dir)? {
            // Temporary files begin with a dot, which an owner's id does not.
            if let Some(owner) = name.strip_suffix(".json").and_then(|id| Owner::new(id).ok()) {
                owners.push(owner);
            }
        }
        owners.sort();
        Ok(owners)
    }

    /// All leases of this network. A lease that vanishes meanwhile is none.
    pub(crate) fn leases(&self) -> Result<Vec<Record>> {
        self.owners()?.iter().filter_map(|owner| self.lease(owner).transpose()).collect()
    }

    /// Writes the lease, whole and durably.
    pub(crate) fn write(&self, _: &Lock, record: &Record) -> Result<()> {
        let dir = self.leases_dir();
        make_dir(&dir)?;
        self.set_last_address(record.address)?;
        let path = self.lease_path(&record.owner);
        let temporary = dir.join(format!(".{}.tmp", record.owner.as_str()));
        let bytes =
            serde_json::to_vec(record).map_err(|error| Error::other("write", error.to_string()).on(path.as_path()))?;
        write_whole(&temporary, &bytes)?;
        fs::rename(&temporary, &path).map_err(|error| fail("rename", &error, &path))?;
        sync_dir(&dir)
    }

    /// The address that was given out last, as far as it is known.
    pub(crate) fn last_address(&self, _: &Lock) -> Result<Option<Ipv4Addr>> {
        let path = self.leases_dir().join(LAST_ADDRESS);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim_end().parse().ok()),
            Err(error) if matches!(error.kind(), Io::NotFound | Io::InvalidData) => Ok(None),
            Err(error) => Err(fail("read", &error, &path)),
        }
    }

    fn set_last_address(&self, address: Ipv4Addr) -> Result<()> {
        let dir = self.leases_dir();
        let (path, temporary) = (dir.join(LAST_ADDRESS), dir.join(format!(".{LAST_ADDRESS}.tmp")));
        // Not fsynced: after a crash of the machine no connection is left that it protects from.
        fs::write(&temporary, format!("{address}\n")).map_err(|error| fail("write", &error, &temporary))?;
        fs::rename(&temporary, &path).map_err(|error| fail("rename", &error, &path))
    }

    /// Removes the lease, if it is there.
    pub(crate) fn remove(&self, _: &Lock, owner: &Owner) -> Result<()> {
        let path = self.lease_path(owner);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != Io::NotFound => Err(fail("unlink", &error, &path)),
            _ => Ok(()),
        }
    }

    /// Removes the network's directory with the last address and what a killed writer left. There must be no lease.
    pub(crate) fn remove_network(&self, _: &Lock) -> Result<()> {
        let dir = self.leases_dir();
        for name in names(&dir)? {
            if name == LAST_ADDRESS || (name.starts_with('.') && name.ends_with(".tmp")) {
                let path = dir.join(name);
                fs::remove_file(&path).map_err(|error| fail("unlink", &error, &path))?;
            }
        }
        match fs::remove_dir(&dir) {
            Err(error) if error.kind() != Io::NotFound => Err(fail("rmdir", &error, &dir)),
            _ => Ok(()),
        }
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
        write_whole(&self.dir.join(FORWARDING), if refused { REFUSED } else { ACCEPTED })?;
        sync_dir(&self.dir)
    }

    /// Forgets it.
    pub(crate) fn turned_forwarding_off(&self, _: &Lock) -> Result<()> {
        let path = self.dir.join(FORWARDING);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != Io::NotFound => Err(fail("unlink", &error, &path)),
            _ => Ok(()),
        }
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| fail("openat", &error, path))?;
    file.write_all(bytes).map_err(|error| fail("write", &error, path))?;
    file.sync_all().map_err(|error| fail("fsync", &error, path))
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == Io::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail("getdents64", &error, dir)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| fail("getdents64", &error, dir))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::subnet::Subnet;

    fn bridge() -> IfName {
        IfName::new("cellkit0").unwrap()
    }

    fn record(owner: &str, subnet: Subnet, address: Ipv4Addr) -> Record {
        let eth0 = IfName::new("eth0").unwrap();
        Record::new(Owner::new(owner).unwrap(), &bridge(), subnet, address, &eth0, None, &["80:80".parse().unwrap()])
    }

    #[test]
    fn leases_are_found_again_and_nothing_is_left() {
        let dir = faultkit::TempDir::new();
        let state = State::new(&dir.path().join("a/b"), &bridge());
        assert!(state.owners().unwrap().is_empty(), "without a directory there is no lease");
        let lock = state.lock_blocking().unwrap();
        let subnet = Subnet::default();
        let web = record("web", subnet, Ipv4Addr::new(10, 209, 0, 2));
        state.write(&lock, &web).unwrap();
        // What a killed writer leaves is no lease, and does not stay.
        assert_eq!(state.last_address(&lock).unwrap(), Some(web.address), "it is remembered with the lease");
        let torn = dir.path().join("a/b/cellkit0/.other.tmp");
        fs::write(&torn, b"{\"vers").unwrap();
        assert_eq!(state.leases().unwrap(), std::slice::from_ref(&web));
        assert!(state.any_network(&lock).unwrap());
        assert!(state.remove_network(&lock).is_err(), "there is a lease");
        state.remove(&lock, &web.owner).unwrap();
        state.remove(&lock, &web.owner).unwrap();
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
    fn the_last_address_is_kept_and_its_damage_is_none() {
        let dir = faultkit::TempDir::new();
        let state = State::new(dir.path(), &bridge());
        let lock = state.lock_blocking().unwrap();
        assert_eq!(state.last_address(&lock).unwrap(), None);
        let web = record("last_address", Subnet::default(), Ipv4Addr::new(10, 209, 0, 7));
        state.write(&lock, &web).unwrap();
        state.remove(&lock, &web.owner).unwrap();
        assert!(state.owners().unwrap().is_empty(), "it is no lease");
        let later = State::new(dir.path(), &bridge());
        assert_eq!(later.last_address(&lock).unwrap(), Some(web.address), "it outlives the lease and the process");
        for damaged in [&b""[..], b"10.209.0", b"10.209.0.7.1", b"\xff", b"-1", b"fe80::1"] {
            fs::write(state.leases_dir().join(LAST_ADDRESS), damaged).unwrap();
            assert_eq!(state.last_address(&lock).unwrap(), None, "{damaged:?}");
        }
        state.remove_network(&lock).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn another_owners_file_and_another_version_are_refused() {
        let dir = faultkit::TempDir::new();
        let state = State::new(dir.path(), &bridge());
        let lock = state.lock_blocking().unwrap();
        let web = record("web", Subnet::default(), Ipv4Addr::new(10, 209, 0, 2));
        state.write(&lock, &web).unwrap();
        let text = fs::read_to_string(state.lease_path(&web.owner)).unwrap();
        let owner = Owner::new("other").unwrap();
        for (damaged, why) in [
            (text.clone(), "another attachment"),
            (text.replace("web", "other").replace("\"version\":1", "\"version\":2"), "version 2"),
            (text.replace("web", "other").replace("10.209.0.2", "10.1.0.2"), "not in 10.209.0.0/22"),
            (text.replace("web", "other").replace("eth0", "../x"), "'/'"),
            (text.replace("web", "other").replace("80:80", "0:80"), "from 1 to 65535"),
        ] {
            fs::write(state.lease_path(&owner), damaged).unwrap();
            let error = state.lease(&owner).expect_err(why);
            assert_eq!(error.kind(), ErrorKind::Parse);
            assert!(error.to_string().contains(why), "{error}");
        }
        assert!(state.leases().is_err(), "an address could be given twice");
    }
}
