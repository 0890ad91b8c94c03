//! The kernel's resource controllers.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::{Error, Result};

/// A resource controller of cgroup v2, by the name it has in `cgroup.controllers`.
///
/// ```
/// use cgroupfs::Controller;
///
/// let controller: Controller = "memory".parse()?;
/// assert_eq!((controller, controller.name()), (Controller::Memory, "memory"));
/// assert!("blkio".parse::<Controller>().is_err(), "that is its name in version 1");
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#controllers>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Controller {
    /// Processor time: `cpu.max`, `cpu.weight`. Linux 4.15.
    Cpu,
    /// Which processors and memory nodes. Linux 5.0.
    Cpuset,
    /// Block devices: `io.max`. Linux 4.5. Its name in cgroup v1 is `blkio`.
    Io,
    /// Memory and swap: `memory.max`. Linux 4.5.
    Memory,
    /// Huge pages. Linux 5.6.
    Hugetlb,
    /// The number of tasks: `pids.max`. Linux 4.5.
    Pids,
    /// RDMA devices. Linux 4.11.
    Rdma,
    /// Scalar resources such as encrypted-memory ids. Linux 5.13.
    Misc,
    /// Device memory. Linux 6.14.
    Dmem,
}

impl Controller {
    /// All that this library knows.
    pub const ALL: [Self; 9] = [
        Self::Cpu,
        Self::Cpuset,
        Self::Io,
        Self::Memory,
        Self::Hugetlb,
        Self::Pids,
        Self::Rdma,
        Self::Misc,
        Self::Dmem,
    ];

    /// Its name, as `cgroup.controllers` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuset => "cpuset",
            Self::Io => "io",
            Self::Memory => "memory",
            Self::Hugetlb => "hugetlb",
            Self::Pids => "pids",
            Self::Rdma => "rdma",
            Self::Misc => "misc",
            Self::Dmem => "dmem",
        }
    }

    /// Its name in cgroup v1 and in `/proc/cgroups`.
    pub(crate) const fn v1_name(self) -> &'static str {
        match self {
            Self::Io => "blkio",
            other => other.name(),
        }
    }

    /// The kernel's build option.
    pub(crate) const fn build_option(self) -> &'static str {
        match self {
            Self::Cpu => "CONFIG_CGROUP_SCHED",
            Self::Cpuset => "CONFIG_CPUSETS",
            Self::Io => "CONFIG_BLK_CGROUP",
            Self::Memory => "CONFIG_MEMCG",
            Self::Hugetlb => "CONFIG_CGROUP_HUGETLB",
            Self::Pids => "CONFIG_CGROUP_PIDS",
            Self::Rdma => "CONFIG_CGROUP_RDMA",
            Self::Misc => "CONFIG_CGROUP_MISC",
            Self::Dmem => "CONFIG_CGROUP_DMEM",
        }
    }

    /// Whether it works in a threaded subtree, where others do not: cpu, cpuset and pids.
    #[must_use]
    pub const fn is_threaded(self) -> bool {
        matches!(self, Self::Cpu | Self::Cpuset | Self::Pids)
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Controller {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|controller| controller.name() == text).ok_or_else(|| {
            Error::invalid("parse controller", "this is no controller of cgroup v2").on(Subject::Value(text.to_owned()))
        })
    }
}

/// A set of [`Controller`]s.
///
/// ```
/// use cgroupfs::{Controller, Controllers};
///
/// let needed: Controllers = [Controller::Pids, Controller::Memory].into_iter().collect();
/// assert!(needed.contains(Controller::Pids));
/// assert_eq!(needed.to_string(), "memory pids");
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#enabling-and-disabling>.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Controllers(u16);

impl Controllers {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// Whether `controller` is in the set.
    #[must_use]
    pub const fn contains(self, controller: Controller) -> bool {
        self.0 & controller.bit() != 0
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of this set that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those that are in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that are in either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// How many.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The controllers in it.
    pub fn iter(self) -> impl Iterator<Item = Controller> {
        Controller::ALL.into_iter().filter(move |&controller| self.contains(controller))
    }

    /// What `cgroup.controllers` and `cgroup.subtree_control` hold. Controllers of newer kernels are passed over.
    pub(crate) fn parse(text: &str) -> Self {
        text.split_ascii_whitespace().filter_map(|word| word.parse::<Controller>().ok()).collect()
    }

    /// What is written to `cgroup.subtree_control` to pass them down: `+memory +pids`.
    pub(crate) fn enabling(self) -> String {
        self.iter().map(|controller| format!("+{controller}")).collect::<Vec<_>>().join(" ")
    }

    /// What is written to `cgroup.subtree_control` not to pass them down any more: `-memory -pids`.
    pub(crate) fn disabling(self) -> String {
        self.iter().map(|controller| format!("-{controller}")).collect::<Vec<_>>().join(" ")
    }
}

impl FromIterator<Controller> for Controllers {
    fn from_iter<I: IntoIterator<Item = Controller>>(controllers: I) -> Self {
        Self(controllers.into_iter().fold(0, |bits, controller| bits | controller.bit()))
    }
}

impl From<Controller> for Controllers {
    fn from(controller: Controller) -> Self {
        Self(controller.bit())
    }
}

impl<const N: usize> From<[Controller; N]> for Controllers {
    fn from(controllers: [Controller; N]) -> Self {
        controllers.into_iter().collect()
    }
}

impl fmt::Display for Controllers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gap = "";
        for controller in self.iter() {
            write!(f, "{gap}{controller}")?;
            gap = " ";
        }
        Ok(())
    }
}

impl fmt::Debug for Controllers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn files_of_newer_kernels() {
        let set = Controllers::parse("cpuset cpu io memory hugetlb pids rdma misc quantum\n");
        assert_eq!(set.to_string(), "cpu cpuset io memory hugetlb pids rdma misc");
        assert_eq!(set.without(Controller::Cpu.into()).enabling(), "+cpuset +io +memory +hugetlb +pids +rdma +misc");
        assert!(Controllers::parse("\n").is_empty());
        assert!("cpuacct".parse::<Controller>().is_err());
        assert_eq!(Controllers::from([Controller::Pids, Controller::Io]).disabling(), "-io -pids");
    }

    proptest! {
        #[test]
        fn sets_round_trip(picked in proptest::collection::vec(0usize..9, 0..9)) {
            let set: Controllers = picked.iter().map(|&index| Controller::ALL[index]).collect();
            prop_assert_eq!(Controllers::parse(&set.to_string()), set);
            prop_assert!(picked.iter().all(|&index| set.contains(Controller::ALL[index])));
            prop_assert_eq!(set.len(), set.iter().count());
            prop_assert_eq!(set.and(Controllers::NONE).or(set).without(set), Controllers::NONE);
        }
    }
}
