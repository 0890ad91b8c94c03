//! What outlives the process: one file a container, under one lock.
//!
//! Theory of operation. The state directory has one directory a network, named after its bridge, and in it one file a
//! container, `OWNER.json`, which is its lease of an address and the record of what was made for it. It is written
//! whole (a temporary file, fsync, rename, fsync of the directory) before anything is made in the kernel, and removed
//! after all of it is gone: whatever a kill leaves behind can be found from the files.
//!
//! The lock is flock(2) on the state directory itself: it ends with the process that holds it, however it ends, and no
//! lock file is left. It is held to choose an address, and to make or remove what the containers share.
//!
//! `ip_forward` in the state directory says that this crate turned the machine's forwarding on, and has to turn it off.
#![forbid(unsafe_code)]

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind as Io, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cellkit_core::{Errno, Error, Result};

use crate::hint::HINTS;
use crate::name::{IfName, Owner};
use crate::record::Record;
use crate::subnet::Ipv4Subnet;
use crate::sys;

/// How long another process may hold the lock: it makes a bridge or removes one, a matter of milliseconds.
const LOCK_LIMIT: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// The state directory, as one network sees it.
#[derive(Clone, Debug)]
pub(crate) struct State {
    dir: PathBuf,
    bridge: IfName,
}

/// The lock on the state directory, held until dropped.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Not left to close(2): a child that is just being spawned elsewhere may hold the descriptor a moment longer.
        sys::unlock(&self.0);
    }
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

    fn open_for_lock(&self) -> Result<File> {
        make_dir(&self.dir)?;
        File::open(&self.dir).map_err(|error| fail("openat", &error, &self.dir))
    }

    fn try_lock(&self, file: &File) -> Result<bool> {
        match sys::try_lock(file) {
            Ok(()) => Ok(true),
            Err(Errno(libc::EWOULDBLOCK | libc::EINTR)) => Ok(false),
            Err(Errno(errno)) => Err(Error::from_errno("flock", errno).on(self.dir.as_path()).with_hints(&HINTS)),
        }
    }

    fn lock_timed_out(&self) -> Error {
        Error::timed_out("flock", LOCK_LIMIT)
            .on(self.dir.as_path())
            .with_hint("another process holds the lock: find it with lslocks or fuser")
    }

    pub(crate) async fn lock(&self) -> Result<Lock> {
        let file = self.open_for_lock()?;
        let until = Instant::now() + LOCK_LIMIT;
        while !self.try_lock(&file)? {
            if Instant::now() >= until {
                return Err(self.lock_timed_out());
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        Ok(Lock(file))
    }

    pub(crate) fn lock_blocking(&self) -> Result<Lock> {
        let file = self.open_for_lock()?;
        let until = Instant::now() + LOCK_LIMIT;
        while !self.try_lock(&file)? {
            if Instant::now() >= until {
                return Err(self.lock_timed_out());
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        Ok(Lock(file))
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
        let path = self.lease_path(&record.owner);
        let temporary = dir.join(format!(".{}.tmp", record.owner.as_str()));
        let bytes =
            serde_json::to_vec(record).map_err(|error| Error::other("write", error.to_string()).on(path.as_path()))?;
        write_whole(&temporary, &bytes)?;
        fs::rename(&temporary, &path).map_err(|error| fail("rename", &error, &path))?;
        sync_dir(&dir)
    }

    /// Removes the lease, if it is there.
    pub(crate) fn remove(&self, _: &Lock, owner: &Owner) -> Result<()> {
        let path = self.lease_path(owner);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != Io::NotFound => Err(fail("unlink", &error, &path)),
            _ => Ok(()),
        }
    }

    /// Removes the network's directory with what a killed writer left in it. There must be no lease.
    pub(crate) fn remove_network(&self, _: &Lock) -> Result<()> {
        let dir = self.leases_dir();
        for name in names(&dir)? {
            if name.starts_with('.') && name.ends_with(".tmp") {
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

    /// Whether this crate turned forwarding on.
    pub(crate) fn turned_forwarding_on(&self, _: &Lock) -> Result<bool> {
        let path = self.dir.join("ip_forward");
        path.try_exists().map_err(|error| fail("statx", &error, &path))
    }

    /// Remembers whether this crate turned forwarding on.
    pub(crate) fn set_turned_forwarding_on(&self, _: &Lock, on: bool) -> Result<()> {
        let path = self.dir.join("ip_forward");
        if on {
            write_whole(&path, b"1\n")?;
            return sync_dir(&self.dir);
        }
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

/// The lowest address that nobody leases.
pub(crate) fn free_address(subnet: Ipv4Subnet, leases: &[Record]) -> Result<Ipv4Addr> {
    let mut taken: Vec<_> = leases.iter().map(|lease| lease.address).collect();
    taken.sort_unstable();
    subnet.hosts().find(|address| taken.binary_search(address).is_err()).ok_or_else(|| {
        Error::from_errno("lease an address", libc::ENOSPC)
            .on(cellkit_core::Subject::Value(subnet.to_string()))
            .with_hint(
                "every address of the range is leased: choose a larger one, or detach what has ended (reconcile)",
            )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn bridge() -> IfName {
        IfName::new("cellkit0").unwrap()
    }

    fn record(owner: &str, subnet: Ipv4Subnet, address: Ipv4Addr) -> Record {
        let eth0 = IfName::new("eth0").unwrap();
        Record::new(Owner::new(owner).unwrap(), &bridge(), subnet, address, &eth0, None, &["80:80".parse().unwrap()])
    }

    #[test]
    fn leases_are_found_again_and_nothing_is_left() {
        let dir = faultkit::TempDir::new();
        let state = State::new(&dir.path().join("a/b"), &bridge());
        assert!(state.owners().unwrap().is_empty(), "without a directory there is no lease");
        let lock = state.lock_blocking().unwrap();
        let subnet = Ipv4Subnet::default();
        let web = record("web", subnet, Ipv4Addr::new(10, 209, 0, 2));
        state.write(&lock, &web).unwrap();
        // What a killed writer leaves is no lease, and does not stay.
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
        for on in [true, true, false, false] {
            state.set_turned_forwarding_on(&lock, on).unwrap();
            assert_eq!(state.turned_forwarding_on(&lock).unwrap(), on);
        }
        assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 0);
    }

    #[test]
    fn the_lock_is_one() {
        let dir = faultkit::TempDir::new();
        let state = State::new(dir.path(), &bridge());
        let lock = state.lock_blocking().unwrap();
        let second = state.open_for_lock().unwrap();
        assert!(!state.try_lock(&second).unwrap());
        drop(lock);
        assert!(state.try_lock(&second).unwrap());
    }

    #[test]
    fn another_owners_file_and_another_version_are_refused() {
        let dir = faultkit::TempDir::new();
        let state = State::new(dir.path(), &bridge());
        let lock = state.lock_blocking().unwrap();
        let web = record("web", Ipv4Subnet::default(), Ipv4Addr::new(10, 209, 0, 2));
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

    proptest! {
        /// Against a model: no address is given twice, and none is withheld.
        #[test]
        fn addresses_are_given_once(actions in prop::collection::vec((any::<bool>(), 0usize..8), 0..60)) {
            let subnet: Ipv4Subnet = "10.7.0.0/29".parse().unwrap();
            let mut model = BTreeMap::new();
            for (take, owner) in actions {
                if !take {
                    model.remove(&owner);
                    continue;
                }
                if model.contains_key(&owner) {
                    continue;
                }
                let leases: Vec<_> =
                    model.iter().map(|(owner, address)| record(&format!("o{owner}"), subnet, *address)).collect();
                match free_address(subnet, &leases) {
                    Ok(address) => {
                        prop_assert!(subnet.contains(address) && address != subnet.gateway() && address != subnet.broadcast());
                        prop_assert!(model.values().all(|other| *other != address));
                        model.insert(owner, address);
                    }
                    Err(error) => {
                        prop_assert_eq!(error.kind(), ErrorKind::Limit);
                        prop_assert_eq!(model.len(), 5);
                    }
                }
            }
        }
    }
}
