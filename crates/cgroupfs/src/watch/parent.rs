//! The group above, which goes on counting when a group below it is removed.
//!
//! `memory.events` counts what happened in the group and in all that ever were below it; `memory.events.local` what happened
//! in the group itself. The difference is therefore the sum over all groups below, those that are gone too:
//!
//! ```text
//!   below = memory.events - memory.events.local
//!         = what the watched groups below count + others
//! ```
//!
//! `others` is worked out whenever a group begins to be watched. When a group has been removed, `below` less what the
//! watched groups that are left count is `others` and the last count of the one that is gone: so that count becomes known,
//! and with it what was not told of it, unless a group that nobody watches counted something too.
//!
//! The kernel counts an event first in the group and then in those above. Numbers belong together when `below` was the same
//! before and after the groups below were read.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use cellkit_core::Errno;

use super::counts::{Counts, MOST, read_counts, zip};
use super::event::{EventFile, WatchedGroup};
use super::group::{id_of, open_if_there};
use crate::{Cgroup, Error, Result, open, tree};

/// A group above watched ones.
#[derive(Debug)]
pub(super) struct Parent {
    pub name: WatchedGroup,
    dir: OwnedFd,
    pub events: File,
    local: File,
    /// The watched groups right below it, by their index.
    pub children: BTreeSet<u64>,
    /// What was counted when all watched groups had been read, if that could be found out.
    pub settled: Option<Settled>,
}

/// Numbers that belong together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    /// What the groups below counted, all of them, ever.
    pub below: Counts,
    /// Of it, what the watched ones did not.
    pub others: Counts,
}

impl Parent {
    /// The group above `group`, unless that has no counters: the root has none, nor where the memory controller is not
    /// passed down so far.
    pub fn open(group: &Cgroup) -> Result<Option<Self>> {
        let shown = group.path().parent().unwrap_or(group.path());
        let fail = |operation: &'static str, errno: Errno| Error::from_errno(operation, errno.0).on(shown);
        let dir = match open::above(group.as_fd()) {
            Ok(dir) => dir,
            // Above is another file system, or the group has just been removed.
            Err(errno) if errno.0 == libc::EXDEV || tree::vanished(errno) => return Ok(None),
            Err(errno) => return Err(fail("openat2", errno)),
        };
        let name = WatchedGroup { id: id_of(&dir, shown)?, path: shown.into() };
        let file = |name| open_if_there(&dir, name).map_err(|errno| fail("openat2", errno));
        let (Some(events), Some(local)) = (file("memory.events")?, file("memory.events.local")?) else {
            return Ok(None);
        };
        Ok(Some(Self { name, dir, events, local, children: BTreeSet::new(), settled: None }))
    }

    /// What the groups below it have counted.
    pub fn below(&self, buffer: &mut [u8; 4096]) -> Result<Counts, Errno> {
        let all = read_counts(&self.events, EventFile::MemoryEvents, buffer)?;
        let own = read_counts(&self.local, EventFile::MemoryEvents, buffer)?;
        Ok(zip(&all, &own, u64::saturating_sub))
    }

    /// What the groups below it count that are not watched and still there.
    pub fn strangers(&self, watched: &BTreeSet<u64>, buffer: &mut [u8; 4096]) -> Result<Counts, Errno> {
        let mut sum = [0; MOST];
        for name in tree::list(self.dir.as_fd())? {
            let Ok(dir) = open::beneath(self.dir.as_fd(), name.as_ref(), open::DIRECTORY) else { continue };
            if id_of(&dir, self.name.path()).is_ok_and(|id| watched.contains(&id)) {
                continue;
            }
            if let Some(file) = open_if_there(&dir, "memory.events")? {
                // One that vanishes meanwhile counts as if it had counted nothing: what it did is then thought to be the
                // other's that has been removed.
                if let Ok(counts) = read_counts(&file, EventFile::MemoryEvents, buffer) {
                    sum = zip(&sum, &counts, u64::saturating_add);
                }
            }
        }
        Ok(sum)
    }
}
