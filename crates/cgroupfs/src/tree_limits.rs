//! What concerns the tree below a group and the group itself: limits of depth and number, counts, accounting of pressure.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::keyed::flat_keyed;
use crate::{Cgroup, Depth, DescendantCount, Error, Max, Result};

flat_keyed! {
    /// `cgroup.stat`: how many groups there are below a group. What is counted for each controller (`nr_subsys_memory`,
    /// `nr_dying_subsys_memory`, Linux 6.12) is in `other`.
    ///
    /// ```
    /// use cgroupfs::CgroupStat;
    ///
    /// let stat: CgroupStat = "nr_descendants 2\nnr_subsys_memory 3\nnr_dying_descendants 1\n".parse()?;
    /// assert_eq!((stat.nr_descendants, stat.nr_dying_descendants, stat.other["nr_subsys_memory"]), (2, 1, 3));
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#core-interface-files>.
    CgroupStat of "cgroup.stat" {
        /// Groups below, at any depth.
        nr_descendants: u64 = "nr_descendants",
        /// Removed groups that the kernel still keeps, because something of theirs is in use, such as pages of a file.
        nr_dying_descendants: u64 = "nr_dying_descendants",
    }
}

flat_keyed! {
    /// `cgroup.stat.local`: of the group itself. Linux 6.17.
    ///
    /// ```
    /// use cgroupfs::CgroupStatLocal;
    ///
    /// assert_eq!("frozen_usec 12\n".parse::<CgroupStatLocal>()?.frozen_usec, Some(12));
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#core-interface-files>.
    CgroupStatLocal of "cgroup.stat.local" {
        /// How long the group was frozen, in microseconds.
        frozen_usec: Option<u64> = "frozen_usec",
    }
}

/// Whether the kernel accounts for pressure in a group: `cgroup.pressure`.
///
/// ```
/// use cgroupfs::PressureAccounting;
///
/// assert_eq!("0\n".parse::<PressureAccounting>()?, PressureAccounting::Off);
/// assert_eq!(PressureAccounting::On.to_string(), "1");
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#core-interface-files>.
#[doc(alias = "cgroup.pressure")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PressureAccounting {
    /// It does: the files `*.pressure` are there.
    On,
    /// It does not, which saves work at each change of a task's state: the files are hidden.
    Off,
}

impl fmt::Display for PressureAccounting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::On { "1" } else { "0" })
    }
}

impl FromStr for PressureAccounting {
    type Err = Error;

    /// `0` or `1`.
    fn from_str(text: &str) -> Result<Self> {
        match text.trim() {
            "1" => Ok(Self::On),
            "0" => Ok(Self::Off),
            _ => Err(Error::invalid("parse cgroup.pressure", "not 0 or 1").on(Subject::Value(text.to_owned()))),
        }
    }
}

impl Cgroup {
    /// `cgroup.stat`: how many groups there are below this one, and how many removed ones the kernel still keeps.
    ///
    /// * Kernel: 4.14.
    ///
    /// # Errors
    /// Gone.
    #[doc(alias = "cgroup.stat")]
    pub fn stat(&self) -> Result<CgroupStat> {
        self.get("cgroup.stat")
    }

    /// `cgroup.stat.local`: how long it was frozen.
    ///
    /// * Kernel: 6.17.
    ///
    /// # Errors
    /// Unsupported on older kernels and at the root of the hierarchy; Gone.
    #[doc(alias = "cgroup.stat.local")]
    pub fn stat_local(&self) -> Result<CgroupStatLocal> {
        self.get("cgroup.stat.local")
    }

    /// `cgroup.max.depth`: how many levels of groups there may be below this one.
    ///
    /// * Kernel: 4.14.
    ///
    /// # Errors
    /// Gone.
    #[doc(alias = "cgroup.max.depth")]
    pub fn max_depth(&self) -> Result<Max<Depth>> {
        self.get("cgroup.max.depth")
    }

    /// Writes `cgroup.max.depth`. What is deeper already stays; making more is then refused (EAGAIN).
    ///
    /// ```no_run
    /// use cgroupfs::{Depth, Hierarchy, Max};
    ///
    /// let group = Hierarchy::detect()?.open("/web")?;
    /// group.set_max_depth(Depth::try_from(2)?)?;
    /// group.set_max_descendants(Max::Max)?;
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// # Errors
    /// Permission; Gone.
    #[doc(alias = "cgroup.max.depth")]
    pub fn set_max_depth(&self, levels: impl Into<Max<Depth>>) -> Result<()> {
        self.set("cgroup.max.depth", levels.into())
    }

    /// `cgroup.max.descendants`: how many groups there may be below this one.
    ///
    /// * Kernel: 4.14.
    ///
    /// # Errors
    /// Gone.
    #[doc(alias = "cgroup.max.descendants")]
    pub fn max_descendants(&self) -> Result<Max<DescendantCount>> {
        self.get("cgroup.max.descendants")
    }

    /// Writes `cgroup.max.descendants`. More that are there already stay; making another is then refused (EAGAIN).
    ///
    /// # Errors
    /// Permission; Gone.
    #[doc(alias = "cgroup.max.descendants")]
    pub fn set_max_descendants(&self, groups: impl Into<Max<DescendantCount>>) -> Result<()> {
        self.set("cgroup.max.descendants", groups.into())
    }

    /// `cgroup.pressure`: whether the kernel accounts for pressure in this group.
    ///
    /// * Kernel: 6.1.
    ///
    /// # Errors
    /// Unsupported on older kernels and those without PSI; Gone.
    #[doc(alias = "cgroup.pressure")]
    pub fn pressure_accounting(&self) -> Result<PressureAccounting> {
        self.get("cgroup.pressure")
    }

    /// Writes `cgroup.pressure`. The groups below keep their own setting.
    ///
    /// # Errors
    /// As [`pressure_accounting`](Self::pressure_accounting); Permission.
    #[doc(alias = "cgroup.pressure")]
    pub fn set_pressure_accounting(&self, accounting: PressureAccounting) -> Result<()> {
        self.set("cgroup.pressure", accounting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn on_and_off_and_nothing_else() {
        for accounting in [PressureAccounting::On, PressureAccounting::Off] {
            assert_eq!(format!("{accounting}\n").parse::<PressureAccounting>().expect("round trip"), accounting);
        }
        for text in ["", "2", "on", "-1", "1 0"] {
            assert!(text.parse::<PressureAccounting>().is_err(), "{text:?}");
        }
        assert!("-1".parse::<Max<Depth>>().is_err() && "2147483648".parse::<Max<DescendantCount>>().is_err());
    }

    proptest! {
        #[test]
        fn limits_round_trip(levels in 0u64..=2_147_483_647) {
            let (depth, groups) = (Depth::try_from(levels).unwrap(), DescendantCount::try_from(levels).unwrap());
            prop_assert_eq!(depth.to_string().parse::<Max<Depth>>().unwrap(), Max::Value(depth));
            prop_assert_eq!(groups.to_string().parse::<Max<DescendantCount>>().unwrap(), Max::Value(groups));
        }
    }
}
