//! What a group's files count.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::keyed::parse_flat_keyed;
use crate::{Error, Result};

type Keys = BTreeMap<String, u64>;

/// A key that every kernel since 5.15 writes.
fn needed(keys: &mut Keys, key: &'static str, file: &'static str) -> Result<u64> {
    keys.remove(key).ok_or_else(|| Error::parse(file, format!("there is no key {key:?}")))
}

/// `memory.events`: how often memory limits were felt in the group and below it.
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryEvents {
    /// The group was reclaimed from although below `memory.low`.
    pub low: u64,
    /// Its processes were throttled for being above `memory.high`.
    pub high: u64,
    /// It was about to go over `memory.max`.
    pub max: u64,
    /// It reached the limit and an allocation was about to fail.
    pub oom: u64,
    /// Processes killed by the out-of-memory killer.
    pub oom_kill: u64,
    /// Times the whole group was killed. Linux 5.17.
    pub oom_group_kill: Option<u64>,
    /// Keys that this version of the library does not know.
    pub other: BTreeMap<String, u64>,
}

impl MemoryEvents {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        const FILE: &str = "parse memory.events";
        let mut keys = parse_flat_keyed(text)?;
        Ok(Self {
            low: needed(&mut keys, "low", FILE)?,
            high: needed(&mut keys, "high", FILE)?,
            max: needed(&mut keys, "max", FILE)?,
            oom: needed(&mut keys, "oom", FILE)?,
            oom_kill: needed(&mut keys, "oom_kill", FILE)?,
            oom_group_kill: keys.remove("oom_group_kill"),
            other: keys,
        })
    }
}

/// `cpu.stat`: processor time, and how often `cpu.max` was felt. Times are in microseconds.
///
/// The first three are there for every group; the throttling ones with the `cpu` controller only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpuStat {
    /// Processor time in all.
    pub usage_usec: u64,
    /// Of it, in user mode.
    pub user_usec: u64,
    /// Of it, in the kernel.
    pub system_usec: u64,
    /// Of it, by processes with a positive nice value. `None` on kernels that do not count it.
    pub nice_usec: Option<u64>,
    /// Periods of `cpu.max` that went by while the group wanted to run.
    pub nr_periods: Option<u64>,
    /// Of them, those in which it used up its quota.
    pub nr_throttled: Option<u64>,
    /// How long it was kept from running, added up over processors.
    pub throttled_usec: Option<u64>,
    /// Periods in which it used saved-up quota. Linux 5.16.
    pub nr_bursts: Option<u64>,
    /// How much saved-up quota it used. Linux 5.16.
    pub burst_usec: Option<u64>,
    /// Keys that this version of the library does not know.
    pub other: BTreeMap<String, u64>,
}

impl CpuStat {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        const FILE: &str = "parse cpu.stat";
        let mut keys = parse_flat_keyed(text)?;
        Ok(Self {
            usage_usec: needed(&mut keys, "usage_usec", FILE)?,
            user_usec: needed(&mut keys, "user_usec", FILE)?,
            system_usec: needed(&mut keys, "system_usec", FILE)?,
            nice_usec: keys.remove("nice_usec"),
            nr_periods: keys.remove("nr_periods"),
            nr_throttled: keys.remove("nr_throttled"),
            throttled_usec: keys.remove("throttled_usec"),
            nr_bursts: keys.remove("nr_bursts"),
            burst_usec: keys.remove("burst_usec"),
            other: keys,
        })
    }
}

/// `cgroup.events`: the state of a group and all below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CgroupEvents {
    /// Whether a live process is in the group or below it. A zombie does not count.
    pub populated: bool,
    /// Whether all of them are frozen.
    pub frozen: Option<bool>,
    /// Keys that this version of the library does not know.
    pub other: BTreeMap<String, u64>,
}

impl CgroupEvents {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut keys = parse_flat_keyed(text)?;
        Ok(Self {
            populated: needed(&mut keys, "populated", "parse cgroup.events")? != 0,
            frozen: keys.remove("frozen").map(|frozen| frozen != 0),
            other: keys,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn kernels_with_fewer_and_with_more_keys() {
        let old = MemoryEvents::parse("low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\n").expect("5.15");
        assert_eq!((old.max, old.oom_kill, old.oom_group_kill), (7, 1, None));
        let new = "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\nsock_throttled 3\n";
        let new = MemoryEvents::parse(new).expect("6.18");
        assert_eq!((new.oom_group_kill, new.other["sock_throttled"]), (Some(0), 3));

        let without = CpuStat::parse("usage_usec 9\nuser_usec 5\nsystem_usec 4\n").expect("no controller");
        assert_eq!((without.usage_usec, without.nr_throttled), (9, None));
        let with = "usage_usec 9\nuser_usec 5\nsystem_usec 4\nnice_usec 0\ncore_sched.force_idle_usec 2\nnr_periods 10\n\
                    nr_throttled 4\nthrottled_usec 400\nnr_bursts 0\nburst_usec 0\n";
        let with = CpuStat::parse(with).expect("controller");
        assert_eq!((with.nr_throttled, with.throttled_usec), (Some(4), Some(400)));
        assert_eq!(with.other["core_sched.force_idle_usec"], 2);

        assert!(CgroupEvents::parse("populated 1\nfrozen 0\n").expect("events").populated);
        assert_eq!(CgroupEvents::parse("populated 0\n").expect("events").frozen, None);
    }

    #[test]
    fn a_file_of_something_else_is_a_parse_error() {
        assert_eq!(MemoryEvents::parse("").expect_err("empty").kind(), ErrorKind::Parse);
        let error = CgroupEvents::parse("frozen 0\n").expect_err("no key");
        assert_eq!(error.to_string(), r#"parse cgroup.events: there is no key "populated""#);
        assert_eq!(CpuStat::parse("usage_usec max\n").expect_err("no number").kind(), ErrorKind::Parse);
    }
}
