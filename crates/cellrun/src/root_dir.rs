//! A directory of the host that is a container's writable root: the places for mounts that the start makes in it.
//!
//! Two containers may have the same one. Who removes a directory takes away what others have mounted on it in their own
//! mount namespaces, so every cellrun holds a shared lock on the root directory from before it looks at what is missing
//! until its container has ended, and only who gets an exclusive one then removes anything. The kernel gives locks back on
//! every kind of death.
#![forbid(unsafe_code)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cellkit_core::{Error, Result, StepText};
use mountkit::{MissingTargets, Rootfs};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

/// How long to wait for somebody who removes places this moment.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// What a start makes in its root directory, in a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootRecord {
    /// The directory.
    pub root: PathBuf,
    /// The places in it that were missing.
    pub missing: Vec<PathBuf>,
}

/// A root directory in use.
#[derive(Debug)]
pub(crate) struct RootDir {
    lock: Flock<File>,
    missing: MissingTargets,
}

impl RootDir {
    /// Locks the root directory for others' removals, and looks at what is missing in it. `None` where there is no locking,
    /// or the caller may not: then nothing is removed either.
    ///
    /// # Errors
    /// TimedOut when somebody holds an exclusive lock on it; those of looking.
    pub(crate) fn hold(dir: &Path, rootfs: &Rootfs) -> Result<Option<Self>> {
        let Ok(mut file) = File::open(dir) else { return Ok(None) };
        let begun = Instant::now();
        let lock = loop {
            match Flock::lock(file, FlockArg::LockSharedNonblock) {
                Ok(lock) => break lock,
                Err((back, Errno::EINTR)) => file = back,
                Err((back, Errno::EWOULDBLOCK)) if begun.elapsed() < LOCK_LIMIT => {
                    file = back;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err((_, Errno::EWOULDBLOCK)) => {
                    return Err(Error::timed_out("flock", LOCK_LIMIT)
                        .on(dir)
                        .with_hint("somebody holds an exclusive lock on this directory: look with lslocks"));
                }
                Err(_) => return Ok(None),
            }
        };
        Ok(Some(Self { lock, missing: rootfs.missing_targets()? }))
    }

    pub(crate) fn step(dir: &Path) -> StepText {
        let reason = "what is missing in the root is known and recorded, and nobody removes it meanwhile";
        StepText::new("flock", format!("{dir:?}, LOCK_SH"), reason).on(dir)
    }

    /// For the record, if anything is missing.
    pub(crate) fn record(&self) -> Option<RootRecord> {
        let missing: Vec<PathBuf> = self.missing.paths().map(Path::to_owned).collect();
        (!missing.is_empty()).then(|| RootRecord { root: self.missing.root().to_owned(), missing })
    }

    /// Removes what was missing before, unless another container has the same root: then it stays.
    ///
    /// # Errors
    /// All that could not be removed.
    pub(crate) fn remove(self) -> Result<()> {
        match self.lock.relock(FlockArg::LockExclusiveNonblock) {
            Ok(()) => self.missing.remove(),
            Err(_) => Ok(()),
        }
    }
}

/// Removes what a dead container's record speaks of, unless a living one has the same root.
///
/// # Errors
/// All that could not be removed.
pub(crate) fn recover(record: &RootRecord) -> Result<()> {
    let missing = MissingTargets::new(&record.root, &record.missing)?;
    let Ok(file) = File::open(&record.root) else { return Ok(()) };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(_lock) => missing.remove(),
        Err(_) => Ok(()),
    }
}
