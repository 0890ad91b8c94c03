//! How the payload shares processors, disks and memory nodes with others.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use cellkit_core::{Error, Result, Subject};

use crate::NodeSet;

/// A scheduling policy, for [`Command::scheduler`](crate::Command::scheduler).
///
/// The real-time ones need CAP_SYS_NICE in the machine's own user namespace, or, but for [`Deadline`](Self::Deadline), a
/// limit [`Rtprio`](crate::Resource::Rtprio) as high as the priority.
///
/// ```
/// use std::time::Duration;
///
/// use ns_core::{Command, Scheduler};
///
/// // 2 ms of processor time in each 10 ms.
/// let [runtime, deadline, period] = [2, 10, 10].map(Duration::from_millis);
/// let plan = Command::new("/bin/true").scheduler(Scheduler::Deadline { runtime, deadline, period }).plan()?;
/// assert!(plan.to_string().contains("sched_setattr(0, SCHED_DEADLINE 2ms within 10ms every 10ms)"));
/// // Needs nothing: runs when nobody else wants to.
/// assert!(Command::new("true").scheduler(Scheduler::Idle).status()?.success());
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See sched(7): <https://man7.org/linux/man-pages/man7/sched.7.html>.
#[doc(alias("sched_attr", "sched_setattr"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheduler {
    /// The usual one, shared by nice value.
    #[doc(alias = "SCHED_OTHER")]
    Other,
    /// As usual, for work that computes for long: preempted less often.
    #[doc(alias = "SCHED_BATCH")]
    Batch,
    /// Only when nobody else wants to run.
    #[doc(alias = "SCHED_IDLE")]
    Idle,
    /// Real time: runs until it blocks or a higher priority (1 to 99) wants to.
    #[doc(alias = "SCHED_FIFO")]
    Fifo {
        /// 1 (lowest) to 99.
        priority: u8,
    },
    /// Real time: as [`Fifo`](Self::Fifo), in turns with others of the same priority.
    #[doc(alias = "SCHED_RR")]
    RoundRobin {
        /// 1 (lowest) to 99.
        priority: u8,
    },
    /// Real time: `runtime` within `deadline` of the beginning of each `period`.
    #[doc(alias = "SCHED_DEADLINE")]
    Deadline {
        /// At least 1,024 ns.
        runtime: Duration,
        /// At least `runtime`.
        deadline: Duration,
        /// At least `deadline`.
        period: Duration,
    },
}

/// `struct sched_attr` in its first version, without its size: policy, flags, nice, priority, runtime, deadline, period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct SchedAttr {
    pub(crate) size: u32,
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
}

impl SchedAttr {
    pub(crate) const SIZE: u32 = size_of::<Self>() as u32;

    /// Whether this is a policy that runs before all usual ones.
    pub(crate) fn is_real_time(&self) -> bool {
        [libc::SCHED_FIFO as u32, libc::SCHED_RR as u32, libc::SCHED_DEADLINE as u32].contains(&self.policy)
    }
}

impl Scheduler {
    pub(crate) fn check(self) -> Result<()> {
        let refuse = |why| Err(Error::invalid("sched_setattr", why).on(Subject::Thing(self.to_string())));
        match self {
            Self::Fifo { priority } | Self::RoundRobin { priority } if !(1..=99).contains(&priority) => {
                refuse("a real-time priority is 1 to 99")
            }
            Self::Deadline { runtime, .. } if runtime < Duration::from_nanos(1024) => {
                refuse("the runtime is at least 1024 ns")
            }
            Self::Deadline { runtime, deadline, period } if runtime > deadline || deadline > period => {
                refuse("runtime is at most deadline, and deadline at most period")
            }
            Self::Deadline { period, .. } if period > Duration::from_nanos(i64::MAX as u64) => {
                refuse("a period this long has no number")
            }
            _ => Ok(()),
        }
    }

    /// What sched_setattr(2) is given, which sets the nice value too. [`check`](Self::check) has seen to it that the times
    /// fit.
    pub(crate) fn attr(self, nice: i32) -> SchedAttr {
        let usual =
            |policy: i32| SchedAttr { size: SchedAttr::SIZE, policy: policy as u32, nice, ..SchedAttr::default() };
        let real_time = |policy: i32, priority: u8| SchedAttr { nice: 0, priority: priority.into(), ..usual(policy) };
        match self {
            Self::Other => usual(libc::SCHED_OTHER),
            Self::Batch => usual(libc::SCHED_BATCH),
            Self::Idle => usual(libc::SCHED_IDLE),
            Self::Fifo { priority } => real_time(libc::SCHED_FIFO, priority),
            Self::RoundRobin { priority } => real_time(libc::SCHED_RR, priority),
            Self::Deadline { runtime, deadline, period } => SchedAttr {
                runtime: runtime.as_nanos() as u64,
                deadline: deadline.as_nanos() as u64,
                period: period.as_nanos() as u64,
                ..real_time(libc::SCHED_DEADLINE, 0)
            },
        }
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other => f.write_str("SCHED_OTHER"),
            Self::Batch => f.write_str("SCHED_BATCH"),
            Self::Idle => f.write_str("SCHED_IDLE"),
            Self::Fifo { priority } => write!(f, "SCHED_FIFO {priority}"),
            Self::RoundRobin { priority } => write!(f, "SCHED_RR {priority}"),
            Self::Deadline { runtime, deadline, period } => {
                write!(f, "SCHED_DEADLINE {runtime:?} within {deadline:?} every {period:?}")
            }
        }
    }
}

/// When the payload's reads and writes get their turn, for [`Command::io_priority`](crate::Command::io_priority).
///
/// Only some I/O schedulers (bfq, mq-deadline) look at it. Written and read as `rt:LEVEL`, `be:LEVEL` or `idle`, with levels
/// from 0 (first) to 7.
///
/// ```
/// use ns_core::IoPriority;
///
/// assert_eq!("be:7".parse::<IoPriority>()?, IoPriority::best_effort(7)?);
/// assert_eq!(IoPriority::IDLE.to_string(), "idle");
/// assert!(IoPriority::real_time(8).is_err());
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See ioprio_set(2): <https://man7.org/linux/man-pages/man2/ioprio_set.2.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias("ioprio_set", "ionice"))]
pub struct IoPriority(u16);

impl IoPriority {
    const CLASS_SHIFT: u16 = 13;
    /// The class of real time, which needs a privilege.
    pub(crate) const REAL_TIME: u16 = 1;

    /// Only when nobody else asks the disk for anything.
    #[doc(alias = "IOPRIO_CLASS_IDLE")]
    pub const IDLE: Self = Self(3 << Self::CLASS_SHIFT);

    fn of(class: u16, level: u8) -> Result<Self> {
        match level {
            0..=7 => Ok(Self(class << Self::CLASS_SHIFT | u16::from(level))),
            _ => Err(Error::invalid("ioprio_set", "a level is 0 to 7").on(Subject::Value(level.to_string()))),
        }
    }

    /// Before everybody else, in order of level. Needs CAP_SYS_ADMIN or CAP_SYS_NICE in the machine's own user namespace.
    ///
    /// # Errors
    /// Invalid for a level above 7.
    #[doc(alias = "IOPRIO_CLASS_RT")]
    pub fn real_time(level: u8) -> Result<Self> {
        Self::of(Self::REAL_TIME, level)
    }

    /// As usual, in order of level; who asks for nothing has a level that follows from its nice value, 4 for 0.
    ///
    /// # Errors
    /// Invalid for a level above 7.
    #[doc(alias = "IOPRIO_CLASS_BE")]
    pub fn best_effort(level: u8) -> Result<Self> {
        Self::of(2, level)
    }

    pub(crate) fn bits(self) -> u16 {
        self.0
    }

    /// The class in what ioprio_get(2) answers.
    pub(crate) fn class_of(bits: usize) -> u16 {
        (bits as u16) >> Self::CLASS_SHIFT
    }
}

impl fmt::Display for IoPriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = self.0 & 7;
        match self.0 >> Self::CLASS_SHIFT {
            Self::REAL_TIME => write!(f, "rt:{level}"),
            2 => write!(f, "be:{level}"),
            _ => f.write_str("idle"),
        }
    }
}

impl FromStr for IoPriority {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let level = |level: &str| level.parse::<u8>().ok().filter(|_| level.len() == 1);
        let wrong = || {
            Error::invalid("ioprio_set", "this is rt:LEVEL, be:LEVEL or idle, with levels 0 to 7")
                .on(Subject::Value(text.to_owned()))
        };
        match text.split_once(':') {
            None if text == "idle" => Ok(Self::IDLE),
            Some(("rt", number)) => level(number).ok_or_else(wrong).and_then(Self::real_time),
            Some(("be", number)) => level(number).ok_or_else(wrong).and_then(Self::best_effort),
            _ => Err(wrong()),
        }
    }
}

/// Which memory nodes the payload's memory comes from, for [`Command::memory_policy`](crate::Command::memory_policy).
///
/// ```
/// use ns_core::{Command, MemoryPolicy};
///
/// let plan = Command::new("/bin/true").memory_policy(MemoryPolicy::Interleave("0-1".parse()?)).plan()?;
/// assert!(plan.to_string().contains("MPOL_INTERLEAVE 0-1"));
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See set_mempolicy(2): <https://man7.org/linux/man-pages/man2/set_mempolicy.2.html>.
#[doc(alias = "set_mempolicy")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemoryPolicy {
    /// The machine's own policy: the node it runs on, if nothing else was set up.
    #[doc(alias = "MPOL_DEFAULT")]
    Default,
    /// The node it runs on at the time.
    #[doc(alias = "MPOL_LOCAL")]
    Local,
    /// These nodes only.
    #[doc(alias = "MPOL_BIND")]
    Bind(NodeSet),
    /// These nodes in turn, a page each.
    #[doc(alias = "MPOL_INTERLEAVE")]
    Interleave(NodeSet),
    /// These nodes, and others when they are full. Linux 5.15.
    #[doc(alias = "MPOL_PREFERRED_MANY")]
    Preferred(NodeSet),
    /// These nodes in turn, as their weights in `/sys/kernel/mm/mempolicy/weighted_interleave` say. Linux 6.9.
    #[doc(alias = "MPOL_WEIGHTED_INTERLEAVE")]
    WeightedInterleave(NodeSet),
}

impl MemoryPolicy {
    /// The kernel's number and the nodes.
    pub(crate) fn parts(&self) -> (u32, Option<&NodeSet>) {
        match self {
            Self::Default => (0, None),
            Self::Bind(nodes) => (2, Some(nodes)),
            Self::Interleave(nodes) => (3, Some(nodes)),
            Self::Local => (4, None),
            Self::Preferred(nodes) => (5, Some(nodes)),
            Self::WeightedInterleave(nodes) => (6, Some(nodes)),
        }
    }
}

impl fmt::Display for MemoryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("MPOL_DEFAULT"),
            Self::Local => f.write_str("MPOL_LOCAL"),
            Self::Bind(nodes) => write!(f, "MPOL_BIND {nodes}"),
            Self::Interleave(nodes) => write!(f, "MPOL_INTERLEAVE {nodes}"),
            Self::Preferred(nodes) => write!(f, "MPOL_PREFERRED_MANY {nodes}"),
            Self::WeightedInterleave(nodes) => write!(f, "MPOL_WEIGHTED_INTERLEAVE {nodes}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_priorities_are_read_back() {
        for text in ["rt:0", "rt:7", "be:0", "be:4", "idle"] {
            assert_eq!(text.parse::<IoPriority>().expect(text).to_string(), text);
        }
        for wrong in ["", "rt", "rt:", "rt:8", "be:-1", "be:+1", "be:01", "idle:1", "BE:1", "none"] {
            assert!(wrong.parse::<IoPriority>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn schedulers_that_make_no_sense() {
        let times = |runtime, deadline, period| Scheduler::Deadline {
            runtime: Duration::from_nanos(runtime),
            deadline: Duration::from_nanos(deadline),
            period: Duration::from_nanos(period),
        };
        for good in [
            Scheduler::Idle,
            Scheduler::Fifo { priority: 1 },
            Scheduler::RoundRobin { priority: 99 },
            times(1024, 2048, 2048),
        ] {
            assert!(good.check().is_ok(), "{good}");
        }
        let long = Scheduler::Deadline { runtime: Duration::MAX, deadline: Duration::MAX, period: Duration::MAX };
        for wrong in [
            Scheduler::Fifo { priority: 0 },
            Scheduler::RoundRobin { priority: 100 },
            times(1023, 2048, 2048),
            times(3000, 2048, 2048),
            times(1024, 4096, 2048),
            long,
        ] {
            assert_eq!(wrong.check().expect_err("wrong").operation(), "sched_setattr", "{wrong}");
        }
    }
}
