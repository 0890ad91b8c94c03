//! The io controller's files.
#![forbid(unsafe_code)]

mod cost;
mod latency;
mod max;
mod priority;
mod stat;
mod weight;

use crate::{BfqWeight, Cgroup, DevNum, IoWeight, PerDevice, Result};

pub use cost::{IoCost, IoCostControl, IoCostLatency, IoCostModel, IoCostModelKind, IoCostQos};
pub use latency::IoLatency;
pub use max::IoMax;
pub use priority::IoPriorityClass;
pub use stat::IoStat;
pub use weight::IoWeights;

/// The files of the io controller of a group: `io.*`. Made by [`Cgroup::io`].
///
/// A device is a whole disk: see [`DevNum`]. Where the controller is not enabled for the group, each is
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported); so is each at the root of the hierarchy but
/// [`stat`](Self::stat), [`prio_class`](Self::prio_class) and two that are nowhere else, [`cost_qos`](Self::cost_qos) and
/// [`cost_model`](Self::cost_model).
///
/// ```no_run
/// use cgroupfs::{Bytes, DevNum, Hierarchy, IoMax};
///
/// let group = Hierarchy::detect()?.own_group()?;
/// let limit = IoMax { wbps: Some(Bytes::mib(20).into()), ..IoMax::default() };
/// group.io().set_max(DevNum::under("/var/lib/data")?, limit)?;
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#io-interface-files>.
#[derive(Clone, Copy, Debug)]
pub struct Io<'a>(&'a Cgroup);

impl Cgroup {
    /// The files of the io controller.
    #[must_use]
    pub fn io(&self) -> Io<'_> {
        Io(self)
    }
}

impl Io<'_> {
    /// `io.max`: what may be read and written in a second, of each disk that has a limit.
    ///
    /// # Errors
    /// Unsupported when the controller is not enabled for the group, and at the root of the hierarchy; Gone.
    #[doc(alias = "io.max")]
    pub fn max(self) -> Result<PerDevice<IoMax>> {
        self.0.get("io.max")
    }

    /// Writes the limits of one disk to `io.max`. What `limit` does not say stays as it is. Requests over a limit wait; the
    /// limit is felt by what is sent to the disk, so writes to files only when the page cache is written back.
    ///
    /// # Errors
    /// As [`max`](Self::max); NotFound (ENODEV) when there is no such disk, or it is a partition; Invalid for a limit of 0,
    /// and from Linux 5.10 to 6.12 of 1; Permission, for the limits of a delegated group belong to the giver.
    #[doc(alias = "io.max")]
    pub fn set_max(self, device: DevNum, limit: IoMax) -> Result<()> {
        self.0.set("io.max", format_args!("{device} {limit}"))
    }

    /// `io.stat`: what it and those below it have read and written, of each disk.
    ///
    /// What files are written to is counted when the page cache is written back, and to this group where the memory
    /// controller is enabled for it and the file system takes part (ext4, XFS, Btrfs).
    ///
    /// # Errors
    /// Unsupported when the controller is not enabled for the group; Gone.
    #[doc(alias = "io.stat")]
    pub fn stat(self) -> Result<PerDevice<IoStat>> {
        self.0.get("io.stat")
    }

    /// `io.weight`: its share of disks beside its siblings. Linux 5.4, built with `CONFIG_BLK_CGROUP_IOCOST`.
    ///
    /// It is felt on disks that the io.cost controller is in charge of: see [`set_cost_qos`](Self::set_cost_qos).
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "io.weight")]
    pub fn weight(self) -> Result<IoWeights> {
        self.0.get("io.weight")
    }

    /// Writes the weight of all disks that have none of their own to `io.weight`.
    ///
    /// # Errors
    /// As [`max`](Self::max); Permission.
    #[doc(alias = "io.weight")]
    pub fn set_weight(self, weight: IoWeight) -> Result<()> {
        self.0.set("io.weight", format_args!("default {weight}"))
    }

    /// Writes the weight of one disk to `io.weight`.
    ///
    /// # Errors
    /// As [`set_weight`](Self::set_weight); NotFound (ENODEV) when there is no such disk, or it is a partition; Unsupported
    /// (EOPNOTSUPP) when the io.cost controller was never switched on for it.
    #[doc(alias = "io.weight")]
    pub fn set_device_weight(self, device: DevNum, weight: IoWeight) -> Result<()> {
        self.0.set("io.weight", format_args!("{device} {weight}"))
    }

    /// Takes the weight of one disk out of `io.weight`, so that the default holds for it again.
    ///
    /// # Errors
    /// As [`set_device_weight`](Self::set_device_weight).
    #[doc(alias = "io.weight")]
    pub fn unset_device_weight(self, device: DevNum) -> Result<()> {
        self.0.set("io.weight", format_args!("{device} default"))
    }

    /// `io.bfq.weight`: its share of disks whose scheduler is BFQ. Linux 5.0, where the bfq module is loaded.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "io.bfq.weight")]
    pub fn bfq_weight(self) -> Result<IoWeights<BfqWeight>> {
        self.0.get("io.bfq.weight")
    }

    /// Writes the weight of all disks that have none of their own to `io.bfq.weight`.
    ///
    /// # Errors
    /// As [`max`](Self::max); Permission.
    #[doc(alias = "io.bfq.weight")]
    pub fn set_bfq_weight(self, weight: BfqWeight) -> Result<()> {
        self.0.set("io.bfq.weight", weight)
    }

    /// Writes the weight of one disk to `io.bfq.weight`. Linux 5.4.
    ///
    /// # Errors
    /// As [`set_bfq_weight`](Self::set_bfq_weight); NotFound (ENODEV) when there is no such disk, or it is a partition;
    /// Unsupported (EOPNOTSUPP) when its scheduler is another.
    #[doc(alias = "io.bfq.weight")]
    pub fn set_bfq_device_weight(self, device: DevNum, weight: BfqWeight) -> Result<()> {
        self.0.set("io.bfq.weight", format_args!("{device} {weight}"))
    }

    /// Takes the weight of one disk out of `io.bfq.weight`, so that the default holds for it again.
    ///
    /// # Errors
    /// As [`set_bfq_device_weight`](Self::set_bfq_device_weight).
    #[doc(alias = "io.bfq.weight")]
    pub fn unset_bfq_device_weight(self, device: DevNum) -> Result<()> {
        self.0.set("io.bfq.weight", format_args!("{device} default"))
    }

    /// `io.latency`: the average latency it is to have, of each disk that has such a target. Linux 4.19, built with
    /// `CONFIG_BLK_CGROUP_IOLATENCY`.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "io.latency")]
    pub fn latency(self) -> Result<PerDevice<IoLatency>> {
        self.0.get("io.latency")
    }

    /// Writes the target of one disk to `io.latency`; [`IoLatency::NONE`] takes it away.
    ///
    /// # Errors
    /// As [`latency`](Self::latency); NotFound (ENODEV) when there is no such disk, or it is a partition; Permission.
    #[doc(alias = "io.latency")]
    pub fn set_latency(self, device: DevNum, latency: IoLatency) -> Result<()> {
        self.0.set("io.latency", format_args!("{device} {latency}"))
    }

    /// `io.prio.class`: what is done to the priority class of its requests. Linux 5.14, built with
    /// `CONFIG_BLK_CGROUP_IOPRIO`.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "io.prio.class")]
    pub fn prio_class(self) -> Result<IoPriorityClass> {
        self.0.get("io.prio.class")
    }

    /// Writes `io.prio.class`.
    ///
    /// # Errors
    /// As [`prio_class`](Self::prio_class); Invalid (EINVAL) for [`IoPriorityClass::PromoteToRt`] before Linux 6.5;
    /// Permission.
    #[doc(alias = "io.prio.class")]
    pub fn set_prio_class(self, class: IoPriorityClass) -> Result<()> {
        self.0.set("io.prio.class", class)
    }

    /// `io.cost.qos`, in the root of the hierarchy: what the io.cost controller makes of each disk that it was told of.
    /// Linux 5.4, built with `CONFIG_BLK_CGROUP_IOCOST`.
    ///
    /// # Errors
    /// Unsupported in any other group, or when the kernel lacks it.
    #[doc(alias = "io.cost.qos")]
    pub fn cost_qos(self) -> Result<PerDevice<IoCostQos>> {
        self.0.get("io.cost.qos")
    }

    /// Writes what holds for one disk to `io.cost.qos`: with [`IoCost::Enabled`], weights are felt on it. What `qos` does not
    /// say stays as it is. It holds for the whole machine.
    ///
    /// ```no_run
    /// use cgroupfs::{DevNum, Hierarchy, IoCost, IoCostQos};
    ///
    /// let root = Hierarchy::detect()?.open("/")?;
    /// let on = IoCostQos { enable: Some(IoCost::Enabled), ..IoCostQos::default() };
    /// root.io().set_cost_qos(DevNum::under("/var/lib/data")?, &on)?;
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`cost_qos`](Self::cost_qos); Invalid when `min` is more than `max`; NotFound (ENODEV) when there is no such disk,
    /// or it is a partition; Unsupported (EOPNOTSUPP) for a disk that is made from others; Permission.
    #[doc(alias = "io.cost.qos")]
    pub fn set_cost_qos(self, device: DevNum, qos: &IoCostQos) -> Result<()> {
        qos.check().map_err(|error| error.on(self.0.path()))?;
        self.0.set("io.cost.qos", format_args!("{device} {qos}"))
    }

    /// `io.cost.model`, in the root of the hierarchy: how fast each disk is that the io.cost controller was told of. Linux
    /// 5.4, built with `CONFIG_BLK_CGROUP_IOCOST`.
    ///
    /// # Errors
    /// As [`cost_qos`](Self::cost_qos).
    #[doc(alias = "io.cost.model")]
    pub fn cost_model(self) -> Result<PerDevice<IoCostModel>> {
        self.0.get("io.cost.model")
    }

    /// Writes how fast one disk is to `io.cost.model`. What `model` does not say stays as it is. It holds for the whole
    /// machine.
    ///
    /// # Errors
    /// As [`set_cost_qos`](Self::set_cost_qos).
    #[doc(alias = "io.cost.model")]
    pub fn set_cost_model(self, device: DevNum, model: &IoCostModel) -> Result<()> {
        self.0.set("io.cost.model", format_args!("{device} {model}"))
    }
}
