//! The memory controller's files.
#![forbid(unsafe_code)]

mod events;
mod numa_stat;
mod oom_group;
mod peak_watch;
mod stat;
mod swappiness;
mod zswap_writeback;

use crate::{Bytes, Cgroup, Max, Result, SwapOnly};

pub use events::{MemoryEvents, SwapEvents};
pub use numa_stat::MemoryNumaStat;
pub use oom_group::OomGroup;
pub use peak_watch::PeakWatch;
pub use stat::MemoryStat;
pub use swappiness::Swappiness;
pub use zswap_writeback::ZswapWriteback;

/// The files of the memory controller of a group: `memory.*`. Made by [`Cgroup::memory`].
///
/// The amounts are of the group and all below it. Where the controller is not enabled for the group, each is
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported); so is each at the root of the hierarchy but
/// [`stat`](Self::stat), [`numa_stat`](Self::numa_stat), [`reclaim`](Self::reclaim) and
/// [`zswap_writeback`](Self::zswap_writeback), for the root has no limits.
///
/// ```no_run
/// use cgroupfs::{Bytes, Hierarchy};
///
/// let group = Hierarchy::detect()?.own_group()?;
/// group.memory().set_high(Bytes::mib(448))?;
/// group.memory().set_max(Bytes::mib(512))?;
/// println!("{} of {}", group.memory().current()?, group.memory().max()?);
/// println!("killed: {}", group.memory().events()?.oom_kill);
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'a>(&'a Cgroup);

/// What came of [`Memory::reclaim`].
///
/// ```no_run
/// use cgroupfs::{Bytes, Hierarchy, Reclaimed};
///
/// let group = Hierarchy::detect()?.own_group()?;
/// if group.memory().reclaim(Bytes::mib(64))? == Reclaimed::Less {
///     println!("it does not have as much to spare");
/// }
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Reclaimed {
    /// As much as was asked for, or more.
    All,
    /// Less (EAGAIN): the kernel tried a number of times and gave up. [`Memory::current`] tells what is left.
    Less,
}

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

    /// Writes `memory.max`. The kernel rounds down to whole pages.
    ///
    /// A limit below what the group uses is taken as well: before the write returns, the kernel reclaims what is above it, and
    /// where that is not enough the out-of-memory killer acts. To try first what can be had for nothing, lower
    /// [`high`](Self::set_high), or [`reclaim`](Self::reclaim).
    ///
    /// # Errors
    /// As [`max`](Self::max); Permission, for the limits of a delegated group belong to the giver.
    #[doc(alias = "memory.max")]
    pub fn set_max(self, limit: impl Into<Max<Bytes>>) -> Result<()> {
        self.0.set("memory.max", limit.into())
    }

    /// `memory.current`: memory it uses, its page cache included.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "memory.current")]
    pub fn current(self) -> Result<Bytes> {
        self.0.get("memory.current")
    }

    /// `memory.high`: memory beyond which its processes are slowed down and reclaimed from, but not killed.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "memory.high")]
    pub fn high(self) -> Result<Max<Bytes>> {
        self.0.get("memory.high")
    }

    /// Writes `memory.high`. What is above it is reclaimed, as far as possible, before the write returns.
    ///
    /// # Errors
    /// As [`max`](Self::max); Permission, for the limits of a delegated group belong to the giver.
    #[doc(alias = "memory.high")]
    pub fn set_high(self, limit: impl Into<Max<Bytes>>) -> Result<()> {
        self.0.set("memory.high", limit.into())
    }

    /// `memory.low`: memory that is reclaimed only when nothing unprotected is left.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "memory.low")]
    pub fn low(self) -> Result<Max<Bytes>> {
        self.0.get("memory.low")
    }

    /// Writes `memory.low`. It protects as far as the groups above are protected: a group whose parent has 0 here is not
    /// protected from reclaim that begins above the parent.
    ///
    /// # Errors
    /// As [`max`](Self::max); Permission, for the limits of a delegated group belong to the giver.
    #[doc(alias = "memory.low")]
    pub fn set_low(self, limit: impl Into<Max<Bytes>>) -> Result<()> {
        self.0.set("memory.low", limit.into())
    }

    /// `memory.min`: memory that is not reclaimed at all.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "memory.min")]
    pub fn min(self) -> Result<Max<Bytes>> {
        self.0.get("memory.min")
    }

    /// Writes `memory.min`. It protects as far as the groups above are protected, as with [`low`](Self::set_low). More than there
    /// is invites the out-of-memory killer.
    ///
    /// # Errors
    /// As [`max`](Self::max); Permission, for the limits of a delegated group belong to the giver.
    #[doc(alias = "memory.min")]
    pub fn set_min(self, limit: impl Into<Max<Bytes>>) -> Result<()> {
        self.0.set("memory.min", limit.into())
    }

    /// `memory.peak`: the most it has used since it was made. Linux 5.19.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "memory.peak")]
    pub fn peak(self) -> Result<Bytes> {
        self.0.get("memory.peak")
    }

    /// `memory.peak` through a descriptor of one's own: the most it uses from now on. Linux 6.12.
    ///
    /// # Errors
    /// As [`max`](Self::max); Unsupported on older kernels, where the file is for reading only; Permission.
    #[doc(alias = "memory.peak")]
    pub fn watch_peak(self) -> Result<PeakWatch> {
        PeakWatch::new(self.0, "memory.peak")
    }

    /// Writes `memory.reclaim`: takes so much memory from the group, or as much as can be had. Linux 5.19.
    ///
    /// It takes a while. Nobody is killed, and what is protected by `memory.min` and `memory.low` stays as long as there is other.
    ///
    /// # Errors
    /// As [`max`](Self::max); Interrupted (EINTR) by a signal; Permission.
    #[doc(alias = "memory.reclaim")]
    pub fn reclaim(self, amount: Bytes) -> Result<Reclaimed> {
        self.write_reclaim(&amount.to_string())
    }

    /// Writes `memory.reclaim` with `swappiness=`: the same, saying what to take first. Linux 6.9; for
    /// [`Swappiness::ANON_ONLY`] 6.16.
    ///
    /// # Errors
    /// As [`reclaim`](Self::reclaim); Unsupported (EINVAL) on older kernels.
    #[doc(alias = "memory.reclaim")]
    pub fn reclaim_with(self, amount: Bytes, swappiness: Swappiness) -> Result<Reclaimed> {
        let since = if swappiness == Swappiness::ANON_ONLY { "6.16" } else { "6.9" };
        self.write_reclaim(&format!("{amount} swappiness={swappiness}"))
            .map_err(|error| error.or_unsupported("swappiness= in memory.reclaim", since))
    }

    /// `memory.oom.group`: whom the out-of-memory killer kills.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "memory.oom.group")]
    pub fn oom_group(self) -> Result<OomGroup> {
        self.0.get("memory.oom.group")
    }

    /// Writes `memory.oom.group`.
    ///
    /// # Errors
    /// As [`max`](Self::max); Permission, for the limits of a delegated group belong to the giver.
    #[doc(alias = "memory.oom.group")]
    pub fn set_oom_group(self, policy: OomGroup) -> Result<()> {
        self.0.set("memory.oom.group", policy)
    }

    /// `memory.events`: how often limits were felt, in the group and below it. Read it before the group is removed.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "memory.events")]
    pub fn events(self) -> Result<MemoryEvents> {
        self.0.get("memory.events")
    }

    /// `memory.events.local`: how often limits were felt in the group itself.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "memory.events.local")]
    pub fn events_local(self) -> Result<MemoryEvents> {
        self.0.get("memory.events.local")
    }

    /// `memory.stat`: what its memory is made of.
    ///
    /// # Errors
    /// Unsupported when the controller is not enabled for the group; Gone.
    #[doc(alias = "memory.stat")]
    pub fn stat(self) -> Result<MemoryStat> {
        self.0.get("memory.stat")
    }

    /// `memory.numa_stat`: on which nodes its memory is. Linux 5.10, built with `CONFIG_NUMA`.
    ///
    /// # Errors
    /// As [`stat`](Self::stat).
    #[doc(alias = "memory.numa_stat")]
    pub fn numa_stat(self) -> Result<MemoryNumaStat> {
        self.0.get("memory.numa_stat")
    }

    /// `memory.swap.current`: swap it uses. Where swap is built in and accounted for, as the others.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "memory.swap.current")]
    pub fn swap_current(self) -> Result<Bytes> {
        self.0.get("memory.swap.current")
    }

    /// `memory.swap.high`: swap beyond which its processes are slowed down, for good.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "memory.swap.high")]
    pub fn swap_high(self) -> Result<SwapOnly> {
        self.0.get("memory.swap.high")
    }

    /// Writes `memory.swap.high`. Meant for a group whose processes somebody is about to end: it does not recover by itself.
    ///
    /// # Errors
    /// As [`max`](Self::max); Permission, for the limits of a delegated group belong to the giver.
    #[doc(alias = "memory.swap.high")]
    pub fn set_swap_high(self, limit: SwapOnly) -> Result<()> {
        self.0.set("memory.swap.high", limit)
    }

    /// `memory.swap.max`: swap it may use; beyond it nothing more is swapped out.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "memory.swap.max")]
    pub fn swap_max(self) -> Result<SwapOnly> {
        self.0.get("memory.swap.max")
    }

    /// Writes `memory.swap.max`. A limit below what the group uses is taken as well: what is in swap comes back when it is used.
    /// [`MemoryPlusSwap`](crate::MemoryPlusSwap) turns a limit on the sum into one on swap.
    ///
    /// # Errors
    /// As [`max`](Self::max); Permission, for the limits of a delegated group belong to the giver.
    #[doc(alias = "memory.swap.max")]
    pub fn set_swap_max(self, limit: SwapOnly) -> Result<()> {
        self.0.set("memory.swap.max", limit)
    }

    /// `memory.swap.peak`: the most swap it has used since it was made. Linux 6.5.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "memory.swap.peak")]
    pub fn swap_peak(self) -> Result<Bytes> {
        self.0.get("memory.swap.peak")
    }

    /// `memory.swap.peak` through a descriptor of one's own: the most swap it uses from now on. Linux 6.12.
    ///
    /// # Errors
    /// As [`watch_peak`](Self::watch_peak).
    #[doc(alias = "memory.swap.peak")]
    pub fn watch_swap_peak(self) -> Result<PeakWatch> {
        PeakWatch::new(self.0, "memory.swap.peak")
    }

    /// `memory.swap.events`: how often limits on swap were felt.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "memory.swap.events")]
    pub fn swap_events(self) -> Result<SwapEvents> {
        self.0.get("memory.swap.events")
    }

    /// `memory.zswap.current`: compressed memory that its pages were swapped to. Linux 5.19, built with `CONFIG_ZSWAP`.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "memory.zswap.current")]
    pub fn zswap_current(self) -> Result<Bytes> {
        self.0.get("memory.zswap.current")
    }

    /// `memory.zswap.max`: compressed memory that its pages may be swapped to. Linux 5.19, built with `CONFIG_ZSWAP`.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "memory.zswap.max")]
    pub fn zswap_max(self) -> Result<Max<Bytes>> {
        self.0.get("memory.zswap.max")
    }

    /// Writes `memory.zswap.max`. 0 keeps its pages out of compressed memory.
    ///
    /// # Errors
    /// As [`max`](Self::max); Permission, for the limits of a delegated group belong to the giver.
    #[doc(alias = "memory.zswap.max")]
    pub fn set_zswap_max(self, limit: impl Into<Max<Bytes>>) -> Result<()> {
        self.0.set("memory.zswap.max", limit.into())
    }

    /// `memory.zswap.writeback`: whether its pages may be swapped to disk. Linux 6.8, built with `CONFIG_ZSWAP`.
    ///
    /// # Errors
    /// As [`stat`](Self::stat).
    #[doc(alias = "memory.zswap.writeback")]
    pub fn zswap_writeback(self) -> Result<ZswapWriteback> {
        self.0.get("memory.zswap.writeback")
    }

    /// Writes `memory.zswap.writeback`.
    ///
    /// # Errors
    /// As [`max`](Self::max); Permission, for the limits of a delegated group belong to the giver.
    #[doc(alias = "memory.zswap.writeback")]
    pub fn set_zswap_writeback(self, policy: ZswapWriteback) -> Result<()> {
        self.0.set("memory.zswap.writeback", policy)
    }

    fn write_reclaim(self, amount: &str) -> Result<Reclaimed> {
        match self.0.write("memory.reclaim", amount) {
            Ok(()) => Ok(Reclaimed::All),
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Ok(Reclaimed::Less),
            Err(error) => Err(error),
        }
    }
}
