//! What a [`Watch`](crate::Watch) tells.
#![forbid(unsafe_code)]

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::{Controller, PsiResource, PsiThreshold};

/// Something that happened to a group that a [`Watch`](crate::Watch) watches.
///
/// ```no_run
/// use cgroupfs::{Counter, Hierarchy, Watch, What};
///
/// let mut watch = Watch::new()?;
/// watch.add(&Hierarchy::detect()?.open("/web")?)?;
/// for event in watch {
///     let event = event?;
///     println!("{event}"); // /sys/fs/cgroup/web: oom_kill 1
///     if let What::Counted(Counter::OomKill, times) = event.what {
///         println!("{times} killed for lack of memory");
///     }
/// }
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// To which group.
    pub group: WatchedGroup,
    /// What.
    pub what: What,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.group, self.what)
    }
}

/// The group of an [`Event`]: the kernel's number for it, and the path by which it was known when it was added.
///
/// Two are equal when the number is, which the kernel gives to no other group. The whole system, of a trigger that is about
/// no group, has the number 0 and the path `/proc/pressure`.
///
/// ```no_run
/// use cgroupfs::{Hierarchy, Watch};
///
/// let mut watch = Watch::new()?;
/// let group = watch.add(&Hierarchy::detect()?.open("/web")?)?;
/// println!("{group} is group {}", group.id());
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See cgroups(7): <https://man7.org/linux/man-pages/man7/cgroups.7.html>.
#[derive(Clone, Debug)]
pub struct WatchedGroup {
    pub(crate) id: u64,
    pub(crate) path: Arc<Path>,
}

impl WatchedGroup {
    /// The inode number of its directory, which is what the kernel calls the group's id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The path of its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Its path.
impl fmt::Display for WatchedGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

impl PartialEq for WatchedGroup {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for WatchedGroup {}

impl std::hash::Hash for WatchedGroup {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// What happened: see [`Event`].
///
/// ```
/// use cgroupfs::{Counter, What};
///
/// assert_eq!(What::Counted(Counter::OomKill, 2).to_string(), "oom_kill 2");
/// assert_eq!(What::Empty.to_string(), "populated 0");
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#core-interface-files>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// A counter went up, by so much since it was last told of, or since the group was added.
    Counted(Counter, u64),
    /// A live process is in the group or below it, and there was none before (`populated 1`).
    Populated,
    /// The last live process in the group and below it has ended or left (`populated 0`). Also when it came and went before
    /// anybody looked: then there was no [`Populated`](Self::Populated). It is true whenever it is told, but it may be told
    /// again when nothing new has happened, for the kernel's second wake-up comes late.
    Empty,
    /// All of its processes are frozen (`frozen 1`).
    Frozen,
    /// They are no longer (`frozen 0`).
    Thawed,
    /// A [`PsiTrigger`](crate::PsiTrigger) that was added fired.
    Stalled {
        /// On what its processes waited.
        resource: PsiResource,
        /// What the trigger asks for.
        threshold: PsiThreshold,
        /// How long they have waited since the group was made, in microseconds.
        total_usec: u64,
    },
    /// The controller is no longer enabled for the group: its counters are not watched any more. When it is enabled again,
    /// add the group again.
    ControllerDisabled(Controller),
    /// The group has been removed, and is watched no more. Nothing follows. A trigger of it ended with it.
    Removed {
        /// What may have been counted that nobody could read any more: see [`Uncounted`]. Mostly empty.
        uncounted: Vec<Uncounted>,
    },
}

impl fmt::Display for What {
    /// In the kernel's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counted(counter, times) => write!(f, "{counter} {times}"),
            Self::Populated => f.write_str("populated 1"),
            Self::Empty => f.write_str("populated 0"),
            Self::Frozen => f.write_str("frozen 1"),
            Self::Thawed => f.write_str("frozen 0"),
            Self::Stalled { resource, threshold, total_usec } => {
                write!(f, "{resource}.pressure {threshold} total={total_usec}")
            }
            Self::ControllerDisabled(controller) => write!(f, "-{controller}"),
            Self::Removed { uncounted } => {
                f.write_str("removed")?;
                uncounted.iter().try_for_each(|uncounted| write!(f, ", {uncounted}"))
            }
        }
    }
}

/// A counter of a group that was removed before it could be read a last time, and that may have gone up.
///
/// The kernel takes a group's files away with it. What was counted in the last moments is then worked out from the counters of
/// the group above, which go on; where that is ambiguous (another group below the same one, that nobody watches, may have
/// been meant) or impossible (the group above has none, or went too), this says so.
///
/// ```
/// use cgroupfs::{Counter, Uncounted, What};
///
/// fn was_it_killed(what: &What) -> Option<bool> {
///     match what {
///         What::Counted(Counter::OomKill, _) => Some(true),
///         What::Removed { uncounted } if uncounted.iter().any(|one| one.counter == Counter::OomKill) => None,
///         _ => Some(false),
///     }
/// }
/// assert_eq!(was_it_killed(&What::Removed { uncounted: Vec::new() }), Some(false));
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Uncounted {
    /// Which.
    pub counter: Counter,
    /// By how much it went up at most, beyond what was told. `None`: nobody knows.
    pub at_most: Option<u64>,
}

impl fmt::Display for Uncounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at_most {
            Some(times) => write!(f, "at most {} {times}", self.counter),
            None => write!(f, "{} unknown", self.counter),
        }
    }
}

/// A counter of one of the files of events.
///
/// ```
/// use cgroupfs::{Counter, EventFile};
///
/// assert_eq!(Counter::OomKill.to_string(), "oom_kill");
/// assert_eq!(Counter::SwapFail.file(), EventFile::MemorySwapEvents);
/// assert_eq!((Counter::SwapFail.key(), Counter::SwapFail.to_string()), ("fail", "swap.fail".to_owned()));
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Counter {
    /// Reclaimed from although below `memory.low`.
    Low,
    /// Throttled and reclaimed from for being above `memory.high`.
    High,
    /// About to go over `memory.max`.
    Max,
    /// At the limit, and an allocation was about to fail.
    Oom,
    /// Processes killed by the out-of-memory killer.
    OomKill,
    /// Times the whole group was killed by it. Linux 5.17.
    OomGroupKill,
    /// Sockets throttled for the group's memory. Linux 6.18.
    SockThrottled,
    /// Swap above `memory.swap.high`.
    SwapHigh,
    /// About to go over `memory.swap.max`.
    SwapMax,
    /// Swap could not be had: for the limit, or for there being none left.
    SwapFail,
    /// Forks that failed for `pids.max`.
    PidsMax,
}

impl Counter {
    /// Its key in the kernel's file.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::High | Self::SwapHigh => "high",
            Self::Max | Self::SwapMax | Self::PidsMax => "max",
            Self::Oom => "oom",
            Self::OomKill => "oom_kill",
            Self::OomGroupKill => "oom_group_kill",
            Self::SockThrottled => "sock_throttled",
            Self::SwapFail => "fail",
        }
    }

    /// The file that has it.
    #[must_use]
    pub fn file(self) -> EventFile {
        match self {
            Self::SwapHigh | Self::SwapMax | Self::SwapFail => EventFile::MemorySwapEvents,
            Self::PidsMax => EventFile::PidsEvents,
            _ => EventFile::MemoryEvents,
        }
    }
}

impl fmt::Display for Counter {
    /// The key, and before it what tells it from that of another file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.file() {
            EventFile::MemorySwapEvents => "swap.",
            EventFile::PidsEvents => "pids.",
            _ => "",
        })?;
        f.write_str(self.key())
    }
}

/// A file of a group by which the kernel says that something happened.
///
/// ```
/// use cgroupfs::EventFile;
///
/// assert_eq!(EventFile::MemorySwapEvents.to_string(), "memory.swap.events");
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum EventFile {
    /// `cgroup.events`: populated and frozen.
    CgroupEvents,
    /// `memory.events`, of the group and all below it. It needs the memory controller.
    MemoryEvents,
    /// `memory.swap.events`. It needs the memory controller, and swap accounting.
    MemorySwapEvents,
    /// `pids.events`: of the group and, since Linux 6.11, all below it. It needs the pids controller.
    PidsEvents,
}

impl EventFile {
    /// Every file there is.
    pub const ALL: [Self; 4] = [Self::CgroupEvents, Self::MemoryEvents, Self::MemorySwapEvents, Self::PidsEvents];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CgroupEvents => "cgroup.events",
            Self::MemoryEvents => "memory.events",
            Self::MemorySwapEvents => "memory.swap.events",
            Self::PidsEvents => "pids.events",
        }
    }

    /// The counters in it, in the kernel's order.
    #[must_use]
    pub fn counters(self) -> &'static [Counter] {
        use Counter as C;
        match self {
            Self::CgroupEvents => &[],
            Self::MemoryEvents => &[C::Low, C::High, C::Max, C::Oom, C::OomKill, C::OomGroupKill, C::SockThrottled],
            Self::MemorySwapEvents => &[C::SwapHigh, C::SwapMax, C::SwapFail],
            Self::PidsEvents => &[C::PidsMax],
        }
    }
}

impl fmt::Display for EventFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
