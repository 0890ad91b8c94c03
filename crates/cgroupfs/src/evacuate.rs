//! Emptying an inner group into a leaf below it.
//!
//! A group either has processes or passes controllers down. A container's root group, and the group of a service that
//! wants to make groups of its own, begin with processes: these are moved into a leaf. Processes that fork meanwhile leave
//! children behind, so it is done again until the list is empty; whatever is moved was listed, and the children of what is
//! in the leaf are born there, so that it ends.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use cellkit_core::{Subject, sys};

use crate::{Cgroup, Error, ErrorKind, Result};

/// How often the list is gone through. Each round halves a crowd that forks as fast as it is moved.
const ROUNDS: u32 = 200;

impl Cgroup {
    /// Writes `cgroup.procs` of `leaf`: moves every process of this group itself into `leaf`, the calling process included.
    /// Processes in groups below stay where they are.
    ///
    /// It goes on until the list is empty, for processes may fork while they are moved. Those that end meanwhile are no
    /// errors; those that cannot be moved do not keep the others.
    ///
    /// * Kernel: 4.5.
    /// * Privileges: write access to `cgroup.procs` of both groups.
    ///
    /// ```no_run
    /// use cgroupfs::{CgroupName, Hierarchy};
    ///
    /// let own = Hierarchy::detect()?.own_group()?;
    /// let leaf = own.create_child(&CgroupName::new("init")?)?;
    /// own.evacuate(&leaf)?;
    /// assert!(own.procs()?.is_empty());
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#no-internal-process-constraint>.
    ///
    /// # Errors
    /// Invalid when `leaf` is not below this group. For each process that is left an error that names it: Permission;
    /// Other for one of another pid namespace, which has no number here. Gone.
    #[doc(alias = "cgroup.procs")]
    pub fn evacuate(&self, leaf: &Self) -> Result<()> {
        const WRITE: &str = "write cgroup.procs";
        if leaf.path() == self.path() || !leaf.path().starts_with(self.path()) {
            let why = format!("the group {:?} is not below the one that is to be evacuated", leaf.path());
            return Err(Error::invalid(WRITE, why).on(self.path()));
        }
        let mut stuck: BTreeMap<i32, Error> = BTreeMap::new();
        for _ in 0..ROUNDS {
            let listed = self.procs()?;
            stuck.retain(|pid, _| listed.contains(pid));
            if listed.iter().all(|pid| stuck.contains_key(pid)) {
                return Error::all(stuck.into_values());
            }
            for pid in listed {
                match self.move_to(leaf, pid) {
                    Ok(()) => drop(stuck.remove(&pid)),
                    Err(error) if error.kind() == ErrorKind::Gone && leaf.exists() => {}
                    Err(error) if error.kind() == ErrorKind::Gone => return Err(error),
                    Err(error) => drop(stuck.insert(pid, error)),
                }
            }
        }
        Error::all(std::iter::once(still_forking(self)).chain(stuck.into_values()))
    }

    /// Moves a process that was listed in this group: it, and not another one that got its number.
    fn move_to(&self, leaf: &Self, pid: i32) -> Result<()> {
        if pid == 0 {
            return Err(Error::other("write cgroup.procs", "a process of another pid namespace is in it")
                .on(self.path())
                .with_hint("it can be moved from a pid namespace that sees it"));
        }
        let Ok(pidfd) = sys::pidfd_open(pid) else {
            // It has ended, or there is no descriptor left: only the latter is an error.
            return leaf.attach_pid(pid);
        };
        // Whoever is listed after the pidfd was opened is the process of the pidfd.
        if !self.procs()?.contains(&pid) {
            return Ok(());
        }
        match leaf.attach_pid(pid) {
            Err(error) if sys::is_alive(pidfd.as_fd()).is_ok() => Err(error.on(Subject::Pid(pid))),
            // Dead by now: whatever the answer was, there is nothing to move.
            outcome => outcome.or(Ok(())),
        }
    }
}

fn still_forking(group: &Cgroup) -> Error {
    Error::other("write cgroup.procs", "processes keep coming into the group that is to be evacuated")
        .on(group.path())
        .with_hint("freeze the group before, or find out who puts them there")
}
