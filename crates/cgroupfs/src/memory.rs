//! The memory controller's files.
#![forbid(unsafe_code)]

mod oom_group;
mod swappiness;
mod zswap_writeback;

use crate::keyed::flat_keyed;
use crate::{Bytes, Cgroup, Max, Result};

pub use oom_group::OomGroup;
pub use swappiness::Swappiness;
pub use zswap_writeback::ZswapWriteback;

/// The files of the memory controller of a group: `memory.*`. Made by [`Cgroup::memory`].
///
/// Where the controller is not enabled for the group, each is [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
///
/// ```no_run
/// use cgroupfs::{Bytes, Hierarchy};
///
/// let group = Hierarchy::detect()?.own_group()?;
/// group.memory().set_max(Bytes::mib(512))?;
/// println!("killed: {}", group.memory().events()?.oom_kill);
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'a>(&'a Cgroup);

impl Cgroup {
    /// The files of the memory controller.
    #[must_use]
    pub fn memory(&self) -> Memory<'_> {
        Memory(self)
    }
}

impl Memory<'_> {
    /// `memory.max`: memory it may use; beyond it the out-of-memory killer acts.
    ///
    /// # Errors
    /// Unsupported when the controller is not enabled for the group, and at the root of the hierarchy; Gone.
    #[doc(alias = "memory.max")]
    pub fn max(self) -> Result<Max<Bytes>> {
        self.0.get("memory.max")
    }

    /// Writes `memory.max`. The kernel rounds down to whole pages. When the group uses more already, it is reclaimed from,
    /// and the out-of-memory killer acts if that is not enough.
    ///
    /// # Errors
    /// As [`max`](Self::max); Permission, for the limits of a delegated group belong to the giver.
    #[doc(alias = "memory.max")]
    pub fn set_max(self, limit: impl Into<Max<Bytes>>) -> Result<()> {
        self.0.set("memory.max", limit.into())
    }

    /// `memory.events`: how often memory limits were felt, in the group and below it. Read it before the group is removed.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "memory.events")]
    pub fn events(self) -> Result<MemoryEvents> {
        self.0.get("memory.events")
    }
}

flat_keyed! {
    /// `memory.events`: how often memory limits were felt in the group and below it.
    ///
    /// ```
    /// use cgroupfs::MemoryEvents;
    ///
    /// let events: MemoryEvents = "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n".parse()?;
    /// assert_eq!((events.max, events.oom_kill), (7, 1));
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
    MemoryEvents of "memory.events" {
        /// The group was reclaimed from although below `memory.low`.
        low: u64 = "low",
        /// Its processes were throttled for being above `memory.high`.
        high: u64 = "high",
        /// It was about to go over `memory.max`.
        max: u64 = "max",
        /// It reached the limit and an allocation was about to fail.
        oom: u64 = "oom",
        /// Processes killed by the out-of-memory killer.
        oom_kill: u64 = "oom_kill",
        /// Times the whole group was killed. Linux 5.17.
        oom_group_kill: Option<u64> = "oom_group_kill",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn kernels_with_fewer_and_with_more_keys() {
        let old: MemoryEvents = "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\n".parse().expect("5.15");
        assert_eq!((old.max, old.oom_kill, old.oom_group_kill), (7, 1, None));
        let new = "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\nsock_throttled 3\n";
        let new: MemoryEvents = new.parse().expect("6.18");
        assert_eq!((new.oom_group_kill, new.other["sock_throttled"]), (Some(0), 3));
        assert_eq!("".parse::<MemoryEvents>().expect_err("empty").kind(), ErrorKind::Parse);
    }
}
