//! The cpu controller's files.
#![forbid(unsafe_code)]

pub(crate) mod burst;
pub(crate) mod share;
pub(crate) mod uclamp;

use std::str::FromStr;

use crate::keyed::flat_keyed;
use crate::{Cgroup, CpuBurst, CpuIdle, Error, NiceWeight, Quota, Result, Uclamp, Weight};

/// The files of the cpu controller of a group: `cpu.*`. Made by [`Cgroup::cpu`].
///
/// Where the controller is not enabled for the group, each but [`stat`](Self::stat) and
/// [`stat_local`](Self::stat_local) is [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported). Files of the real-time
/// scheduler, which some kernels have, are neither read nor written: version 2 has no place for them.
///
/// ```no_run
/// use cgroupfs::{Hierarchy, Quota};
///
/// let group = Hierarchy::detect()?.own_group()?;
/// group.cpu().set_max(Quota::parse_cpus("0.5")?)?;
/// println!("throttled: {:?}", group.cpu().stat()?.nr_throttled);
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files>.
#[derive(Clone, Copy, Debug)]
pub struct Cpu<'a>(&'a Cgroup);

impl Cgroup {
    /// The files of the cpu controller.
    #[must_use]
    pub fn cpu(&self) -> Cpu<'_> {
        Cpu(self)
    }
}

impl Cpu<'_> {
    /// `cpu.max`: processor time it may use in each period.
    ///
    /// # Errors
    /// Unsupported when the controller is not enabled for the group, and at the root of the hierarchy; Gone.
    #[doc(alias = "cpu.max")]
    pub fn max(self) -> Result<Quota> {
        self.0.get("cpu.max")
    }

    /// Writes `cpu.max`.
    ///
    /// # Errors
    /// As [`max`](Self::max); Permission, for the limits of a delegated group belong to the giver.
    #[doc(alias = "cpu.max")]
    pub fn set_max(self, quota: Quota) -> Result<()> {
        self.0.set("cpu.max", quota)
    }

    /// `cpu.max.burst`: how much unused quota it may save up. Linux 5.14.
    ///
    /// # Errors
    /// As [`max`](Self::max); Unsupported on an older kernel.
    #[doc(alias = "cpu.max.burst")]
    pub fn max_burst(self) -> Result<CpuBurst> {
        self.0.get("cpu.max.burst")
    }

    /// Writes `cpu.max.burst`. It makes short peaks of an otherwise idle group pass unthrottled.
    ///
    /// # Errors
    /// As [`max_burst`](Self::max_burst); Invalid (EINVAL) for more than the quota of `cpu.max`: so the quota is raised
    /// first, and the burst lowered first; Permission.
    #[doc(alias = "cpu.max.burst")]
    pub fn set_max_burst(self, burst: CpuBurst) -> Result<()> {
        self.0.set("cpu.max.burst", burst)
    }

    /// `cpu.weight`: its share of processor time beside its siblings. Of an idle group it is the least there is, and says
    /// nothing: see [`idle`](Self::idle).
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "cpu.weight")]
    pub fn weight(self) -> Result<Weight> {
        let CurrentWeight(weight) = self.0.get("cpu.weight")?;
        Ok(weight)
    }

    /// Writes `cpu.weight`.
    ///
    /// # Errors
    /// As [`set_max`](Self::set_max); Invalid (EINVAL) while `cpu.idle` is 1.
    #[doc(alias = "cpu.weight")]
    pub fn set_weight(self, weight: Weight) -> Result<()> {
        self.0.set("cpu.weight", weight)
    }

    /// `cpu.weight.nice`: the nice value nearest to its weight.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "cpu.weight.nice")]
    pub fn weight_nice(self) -> Result<NiceWeight> {
        self.0.get("cpu.weight.nice")
    }

    /// Writes `cpu.weight.nice`, and so `cpu.weight`.
    ///
    /// # Errors
    /// As [`set_weight`](Self::set_weight).
    #[doc(alias = "cpu.weight.nice")]
    pub fn set_weight_nice(self, nice: NiceWeight) -> Result<()> {
        self.0.set("cpu.weight.nice", nice)
    }

    /// `cpu.idle`: whether it runs only when no sibling wants to. Linux 5.15.
    ///
    /// # Errors
    /// As [`max`](Self::max); Unsupported on an older kernel.
    #[doc(alias = "cpu.idle")]
    pub fn idle(self) -> Result<CpuIdle> {
        self.0.get("cpu.idle")
    }

    /// Writes `cpu.idle`. [`CpuIdle::Normal`] puts the weight back to 100.
    ///
    /// # Errors
    /// As [`idle`](Self::idle); Permission.
    #[doc(alias = "cpu.idle")]
    pub fn set_idle(self, idle: CpuIdle) -> Result<()> {
        self.0.set("cpu.idle", idle)
    }

    /// `cpu.uclamp.min`: the least utilization its tasks are taken to have. Linux 5.4, built with
    /// `CONFIG_UCLAMP_TASK_GROUP`.
    ///
    /// # Errors
    /// As [`max`](Self::max); Unsupported on an older kernel, or one that is built without it.
    #[doc(alias = "cpu.uclamp.min")]
    pub fn uclamp_min(self) -> Result<Uclamp> {
        self.0.get("cpu.uclamp.min")
    }

    /// Writes `cpu.uclamp.min`.
    ///
    /// # Errors
    /// As [`uclamp_min`](Self::uclamp_min); Permission.
    #[doc(alias = "cpu.uclamp.min")]
    pub fn set_uclamp_min(self, least: Uclamp) -> Result<()> {
        self.0.set("cpu.uclamp.min", least)
    }

    /// `cpu.uclamp.max`: the greatest utilization its tasks are taken to have. Linux 5.4, built with
    /// `CONFIG_UCLAMP_TASK_GROUP`.
    ///
    /// # Errors
    /// As [`uclamp_min`](Self::uclamp_min).
    #[doc(alias = "cpu.uclamp.max")]
    pub fn uclamp_max(self) -> Result<Uclamp> {
        self.0.get("cpu.uclamp.max")
    }

    /// Writes `cpu.uclamp.max`.
    ///
    /// # Errors
    /// As [`set_uclamp_min`](Self::set_uclamp_min).
    #[doc(alias = "cpu.uclamp.max")]
    pub fn set_uclamp_max(self, most: Uclamp) -> Result<()> {
        self.0.set("cpu.uclamp.max", most)
    }

    /// `cpu.stat`: processor time, and how often `cpu.max` was felt. The time is there without the cpu controller.
    ///
    /// # Errors
    /// Gone.
    #[doc(alias = "cpu.stat")]
    pub fn stat(self) -> Result<CpuStat> {
        self.0.get("cpu.stat")
    }

    /// `cpu.stat.local`: how long the group itself was kept from running, by its own `cpu.max` or one above. Linux 6.6.
    ///
    /// # Errors
    /// Unsupported on an older kernel; Gone.
    #[doc(alias = "cpu.stat.local")]
    pub fn stat_local(self) -> Result<CpuStatLocal> {
        self.0.get("cpu.stat.local")
    }
}

/// What `cpu.weight` reads. Older kernels show 0 of an idle group, newer ones 1.
struct CurrentWeight(Weight);

impl FromStr for CurrentWeight {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.trim() == "0" { Ok(Self(Weight::LEAST)) } else { text.parse().map(Self) }
    }
}

flat_keyed! {
    /// `cpu.stat`: processor time, and how often `cpu.max` was felt. Times are in microseconds.
    ///
    /// The first three are there for every group; the throttling ones with the `cpu` controller only.
    ///
    /// ```
    /// use cgroupfs::CpuStat;
    ///
    /// let stat: CpuStat = "usage_usec 9\nuser_usec 5\nsystem_usec 4\n".parse()?;
    /// assert_eq!((stat.usage_usec, stat.nr_throttled), (9, None));
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files>.
    CpuStat of "cpu.stat" {
        /// Processor time in all.
        usage_usec: u64 = "usage_usec",
        /// Of it, in user mode.
        user_usec: u64 = "user_usec",
        /// Of it, in the kernel.
        system_usec: u64 = "system_usec",
        /// Of it, by processes with a positive nice value. Linux 6.12.
        nice_usec: Option<u64> = "nice_usec",
        /// How long processors were kept idle because the tasks that would have run must not share a core with what ran
        /// beside. Linux 6.2, with core scheduling.
        core_sched_force_idle_usec: Option<u64> = "core_sched.force_idle_usec",
        /// Periods of `cpu.max` that went by while the group wanted to run.
        nr_periods: Option<u64> = "nr_periods",
        /// Of them, those in which it used up its quota.
        nr_throttled: Option<u64> = "nr_throttled",
        /// How long it was kept from running, added up over processors.
        throttled_usec: Option<u64> = "throttled_usec",
        /// Periods in which it used saved-up quota. Linux 5.16.
        nr_bursts: Option<u64> = "nr_bursts",
        /// How much saved-up quota it used. Linux 5.16.
        burst_usec: Option<u64> = "burst_usec",
    }
}

flat_keyed! {
    /// `cpu.stat.local`: what was felt by the group itself, not counting those below it. Times are in microseconds.
    ///
    /// ```
    /// use cgroupfs::CpuStatLocal;
    ///
    /// let stat: CpuStatLocal = "throttled_usec 12\n".parse()?;
    /// assert_eq!(stat.throttled_usec, Some(12));
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files>.
    CpuStatLocal of "cpu.stat.local" {
        /// How long its processes were kept from running, added up over processors. `None` without the cpu controller.
        throttled_usec: Option<u64> = "throttled_usec",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn an_idle_group_has_the_least_weight() {
        assert_eq!("0\n".parse::<CurrentWeight>().expect("Linux 6.1").0, Weight::LEAST);
        assert_eq!("1\n".parse::<CurrentWeight>().expect("Linux 6.12").0, Weight::LEAST);
        assert_eq!("100\n".parse::<CurrentWeight>().expect("weight").0.get(), 100);
        assert!("-1\n".parse::<CurrentWeight>().is_err());
    }

    #[test]
    fn with_and_without_the_controller() {
        let without: CpuStat = "usage_usec 9\nuser_usec 5\nsystem_usec 4\n".parse().expect("no controller");
        assert_eq!((without.usage_usec, without.nr_throttled), (9, None));
        let with = "usage_usec 9\nuser_usec 5\nsystem_usec 4\nnice_usec 0\ncore_sched.force_idle_usec 2\nnr_periods 10\n\
                    nr_throttled 4\nthrottled_usec 400\nnr_bursts 0\nburst_usec 0\nnew_usec 1\n";
        let text = with;
        let with: CpuStat = text.parse().expect("controller");
        assert_eq!(with.to_string(), text);
        assert_eq!((with.nr_throttled, with.throttled_usec), (Some(4), Some(400)));
        assert_eq!((with.core_sched_force_idle_usec, with.other["new_usec"]), (Some(2), 1));
        assert_eq!("".parse::<CpuStatLocal>().expect("root of a hybrid machine").throttled_usec, None);
        assert_eq!("usage_usec max\n".parse::<CpuStat>().expect_err("no number").kind(), ErrorKind::Parse);
    }
}
