//! The cpuset controller's files.
#![forbid(unsafe_code)]

pub(crate) mod list;
pub(crate) mod partition;

use crate::{Cgroup, CpuList, MemNodeList, Partition, PartitionState, Result};

/// The files of the cpuset controller of a group: `cpuset.*`. Made by [`Cgroup::cpuset`].
///
/// What is asked for and what holds are two: `cpuset.cpus` may name processors that the group above lacks or that are
/// offline; `cpuset.cpus.effective` is where its processes may run. An empty list asks for nothing, and the group has what
/// the one above has. Where the controller is not enabled for the group, each file is
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
///
/// ```no_run
/// use cgroupfs::Hierarchy;
///
/// let group = Hierarchy::detect()?.own_group()?;
/// group.cpuset().set_cpus(&"0-3,8".parse()?)?;
/// println!("runs on {}", group.cpuset().cpus_effective()?);
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#cpuset-interface-files>.
#[derive(Clone, Copy, Debug)]
pub struct Cpuset<'a>(&'a Cgroup);

impl Cgroup {
    /// The files of the cpuset controller.
    #[must_use]
    pub fn cpuset(&self) -> Cpuset<'_> {
        Cpuset(self)
    }
}

impl Cpuset<'_> {
    /// `cpuset.cpus`: the processors it asks for.
    ///
    /// # Errors
    /// Unsupported when the controller is not enabled for the group, and at the root of the hierarchy; Gone.
    #[doc(alias = "cpuset.cpus")]
    pub fn cpus(self) -> Result<CpuList> {
        self.0.get("cpuset.cpus")
    }

    /// Writes `cpuset.cpus`. The processes of the group move at once.
    ///
    /// # Errors
    /// As [`cpus`](Self::cpus); Invalid (ERANGE, EINVAL) for processors that the machine cannot have; no space (ENOSPC) for
    /// the empty list in a group that has processes, once it had another; Invalid (EINVAL) for what a sibling has for itself
    /// alone; Permission, for the limits of a delegated group belong to the giver.
    #[doc(alias = "cpuset.cpus")]
    pub fn set_cpus(self, cpus: &CpuList) -> Result<()> {
        self.0.set("cpuset.cpus", line(cpus))
    }

    /// `cpuset.cpus.effective`: the processors that its processes may run on. The root has it too.
    ///
    /// # Errors
    /// Unsupported when the controller is not enabled for the group; Gone.
    #[doc(alias = "cpuset.cpus.effective")]
    pub fn cpus_effective(self) -> Result<CpuList> {
        self.0.get("cpuset.cpus.effective")
    }

    /// `cpuset.cpus.exclusive`: the processors it asks for alone, for a partition in it or below it. Linux 6.7.
    ///
    /// # Errors
    /// As [`cpus`](Self::cpus); Unsupported on an older kernel.
    #[doc(alias = "cpuset.cpus.exclusive")]
    pub fn cpus_exclusive(self) -> Result<CpuList> {
        self.0.get("cpuset.cpus.exclusive")
    }

    /// Writes `cpuset.cpus.exclusive`. The groups on the way to a partition need it, down to that one.
    ///
    /// # Errors
    /// As [`cpus_exclusive`](Self::cpus_exclusive) and [`set_cpus`](Self::set_cpus); Invalid (EINVAL) when a sibling asks
    /// for one of them.
    #[doc(alias = "cpuset.cpus.exclusive")]
    pub fn set_cpus_exclusive(self, cpus: &CpuList) -> Result<()> {
        self.0.set("cpuset.cpus.exclusive", line(cpus))
    }

    /// `cpuset.cpus.exclusive.effective`: the processors it has to give to a partition. Linux 6.7.
    ///
    /// # Errors
    /// As [`cpus_exclusive`](Self::cpus_exclusive).
    #[doc(alias = "cpuset.cpus.exclusive.effective")]
    pub fn cpus_exclusive_effective(self) -> Result<CpuList> {
        self.0.get("cpuset.cpus.exclusive.effective")
    }

    /// `cpuset.cpus.partition`: what it was asked to be among the partitions, and whether it is.
    ///
    /// # Errors
    /// As [`cpus`](Self::cpus).
    #[doc(alias = "cpuset.cpus.partition")]
    pub fn cpus_partition(self) -> Result<PartitionState> {
        self.0.get("cpuset.cpus.partition")
    }

    /// Writes `cpuset.cpus.partition`. The kernel takes the word also where the group cannot be that: read
    /// [`cpus_partition`](Self::cpus_partition) afterwards, which says why.
    ///
    /// # Errors
    /// As [`cpus`](Self::cpus); Invalid (EINVAL) for [`Partition::Isolated`] before Linux 6.1; Permission.
    #[doc(alias = "cpuset.cpus.partition")]
    pub fn set_cpus_partition(self, partition: Partition) -> Result<()> {
        self.0.set("cpuset.cpus.partition", partition)
    }

    /// `cpuset.cpus.isolated`: the processors of all isolated partitions, and those isolated on the kernel's command line.
    /// The root of the hierarchy alone has it. Linux 6.8.
    ///
    /// # Errors
    /// Unsupported on an older kernel, and below the root.
    #[doc(alias = "cpuset.cpus.isolated")]
    pub fn cpus_isolated(self) -> Result<CpuList> {
        self.0.get("cpuset.cpus.isolated")
    }

    /// `cpuset.mems`: the memory nodes it asks for.
    ///
    /// # Errors
    /// As [`cpus`](Self::cpus).
    #[doc(alias = "cpuset.mems")]
    pub fn mems(self) -> Result<MemNodeList> {
        self.0.get("cpuset.mems")
    }

    /// Writes `cpuset.mems`. Memory of the group's processes is moved to these nodes, which takes its time: so write it
    /// before they are started.
    ///
    /// # Errors
    /// As [`set_cpus`](Self::set_cpus).
    #[doc(alias = "cpuset.mems")]
    pub fn set_mems(self, nodes: &MemNodeList) -> Result<()> {
        self.0.set("cpuset.mems", line(nodes))
    }

    /// `cpuset.mems.effective`: the memory nodes that its processes may take memory from. The root has it too.
    ///
    /// # Errors
    /// As [`cpus_effective`](Self::cpus_effective).
    #[doc(alias = "cpuset.mems.effective")]
    pub fn mems_effective(self) -> Result<MemNodeList> {
        self.0.get("cpuset.mems.effective")
    }
}

/// With a line end, for a write of nothing at all would not reach the file.
fn line(list: &impl std::fmt::Display) -> String {
    format!("{list}\n")
}
