//! The cpu controller's files.
#![forbid(unsafe_code)]

pub(crate) mod burst;
pub(crate) mod share;
pub(crate) mod uclamp;

use crate::keyed::flat_keyed;
use crate::{Cgroup, Quota, Result, Weight};

/// The files of the cpu controller of a group: `cpu.*`. Made by [`Cgroup::cpu`].
///
/// Where the controller is not enabled for the group, each but [`stat`](Self::stat) is
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
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

    /// `cpu.weight`: its share of processor time beside its siblings.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "cpu.weight")]
    pub fn weight(self) -> Result<Weight> {
        self.0.get("cpu.weight")
    }

    /// Writes `cpu.weight`.
    ///
    /// # Errors
    /// As [`set_max`](Self::set_max).
    #[doc(alias = "cpu.weight")]
    pub fn set_weight(self, weight: Weight) -> Result<()> {
        self.0.set("cpu.weight", weight)
    }

    /// `cpu.stat`: processor time, and how often `cpu.max` was felt. The time is there without the cpu controller.
    ///
    /// # Errors
    /// Gone.
    #[doc(alias = "cpu.stat")]
    pub fn stat(self) -> Result<CpuStat> {
        self.0.get("cpu.stat")
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
        /// Of it, by processes with a positive nice value. `None` on kernels that do not count it.
        nice_usec: Option<u64> = "nice_usec",
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn with_and_without_the_controller() {
        let without: CpuStat = "usage_usec 9\nuser_usec 5\nsystem_usec 4\n".parse().expect("no controller");
        assert_eq!((without.usage_usec, without.nr_throttled), (9, None));
        let with = "usage_usec 9\nuser_usec 5\nsystem_usec 4\nnice_usec 0\ncore_sched.force_idle_usec 2\nnr_periods 10\n\
                    nr_throttled 4\nthrottled_usec 400\nnr_bursts 0\nburst_usec 0\n";
        let with: CpuStat = with.parse().expect("controller");
        assert_eq!((with.nr_throttled, with.throttled_usec), (Some(4), Some(400)));
        assert_eq!(with.other["core_sched.force_idle_usec"], 2);
        assert_eq!("usage_usec max\n".parse::<CpuStat>().expect_err("no number").kind(), ErrorKind::Parse);
    }
}
