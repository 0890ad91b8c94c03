//! What a group may use, as plain data.
#![forbid(unsafe_code)]

pub(crate) mod apply;
mod check;
mod order;
mod setting;
pub(crate) mod settings;
#[cfg(test)]
mod tests;
mod transaction;
pub(crate) mod unified;

use std::collections::BTreeMap;

use cellkit_core::StepText;

use crate::{
    BelowUsage, Bytes, Controllers, CpuBurst, CpuList, CpuShare, DevNum, HugePageSize, IoLatency, IoMax,
    IoPriorityClass, IoWeight, Max, MemNodeList, NiceWeight, OomGroup, Partition, PidsMax, Quota, RdmaLimit,
    ResourceName, SwapOnly, Uclamp, Unified, Weight, ZswapWriteback,
};
#[cfg(feature = "systemd")]
pub(crate) use apply::check_usage;
pub(crate) use check::ForNew;
pub(crate) use order::for_new;
pub(crate) use setting::Setting;

/// Limits of a group: data that is collected, looked at and checked before anything is made.
///
/// A limit that is not set is not written. To a new group, one that is set to "no limit" is not either: that is how it
/// begins, and it takes no controller. To a group that exists, [`Cgroup::apply`](crate::Cgroup::apply) writes all that is
/// set and not in force.
///
/// ```
/// use cgroupfs::{Bytes, Limits, PidsMax, Quota};
///
/// let limits = Limits::new()
///     .memory_max(Bytes::mib(512))
///     .cpu_max(Quota::parse_cpus("0.5")?)
///     .pids_max(PidsMax::try_from(64)?);
/// assert_eq!(limits.controllers().to_string(), "cpu memory pids");
/// for step in limits.describe() {
///     println!("{step}: {}", step.reason); // write memory.max("536870912"): memory it may use, in bytes
/// }
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#controllers>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub struct Limits {
    /// `memory.min`: memory that is never taken from it. Linux 4.18.
    pub memory_min: Option<Max<Bytes>>,
    /// `memory.low`: memory that is not taken from it while others have some to give.
    pub memory_low: Option<Max<Bytes>>,
    /// `memory.high`: beyond it the group is slowed down and reclaimed from, never killed.
    pub memory_high: Option<Max<Bytes>>,
    /// `memory.max`: memory, the page cache it causes included. Beyond it the out-of-memory killer acts. At least
    /// a page; the kernel rounds down to whole ones.
    pub memory_max: Option<Max<Bytes>>,
    /// What to do when `memory.max` of a group that exists is to become less than it uses.
    pub memory_below_usage: BelowUsage,
    /// `memory.swap.high`: swap beyond which the group is slowed down. Linux 5.8.
    pub memory_swap_high: Option<SwapOnly>,
    /// `memory.swap.max`: swap alone; see [`MemoryPlusSwap`](crate::MemoryPlusSwap) for the sum.
    pub memory_swap_max: Option<SwapOnly>,
    /// `memory.zswap.max`: memory for compressed swap. Linux 5.19.
    pub memory_zswap_max: Option<Max<Bytes>>,
    /// `memory.zswap.writeback`: whether compressed swap may go to disk. Linux 6.8.
    pub memory_zswap_writeback: Option<ZswapWriteback>,
    /// `memory.oom.group`: whether the out-of-memory killer kills one or all. Linux 4.19.
    pub memory_oom_group: Option<OomGroup>,
    /// `cpu.max`: processor time a period.
    pub cpu_max: Option<Quota>,
    /// `cpu.max.burst`: unused time that may be saved up; at most the quota. Linux 5.14.
    pub cpu_max_burst: Option<CpuBurst>,
    /// `cpu.weight`, `cpu.weight.nice` or `cpu.idle`, which exclude each other: the share beside siblings.
    pub cpu_share: Option<CpuShare>,
    /// `cpu.uclamp.min`: the least utilisation that the frequency governor sees. Linux 5.4.
    pub cpu_uclamp_min: Option<Uclamp>,
    /// `cpu.uclamp.max`: the greatest. Linux 5.4.
    pub cpu_uclamp_max: Option<Max<Uclamp>>,
    /// `pids.max`: tasks, threads included. Beyond it fork fails with EAGAIN.
    pub pids_max: Option<Max<PidsMax>>,
    /// `io.max`: what may be read and written in a second, for each disk.
    pub io_max: BTreeMap<DevNum, IoMax>,
    /// `io.weight`: the share of disk time beside siblings.
    pub io_weight: Option<IoWeight>,
    /// `io.weight`, for one disk.
    pub io_device_weight: BTreeMap<DevNum, IoWeight>,
    /// `io.latency`: how long an operation may take before siblings are slowed down, for each disk. Linux 4.19.
    pub io_latency: BTreeMap<DevNum, IoLatency>,
    /// `io.prio.class`: what becomes of the processes' own I/O priorities. Linux 5.14.
    pub io_prio_class: Option<IoPriorityClass>,
    /// `cpuset.cpus`: the processors it may run on; empty is all of the group above.
    pub cpuset_cpus: Option<CpuList>,
    /// `cpuset.mems`: the memory nodes it may use; empty is all of the group above.
    pub cpuset_mems: Option<MemNodeList>,
    /// `cpuset.cpus.partition`: whether it has its processors for itself.
    pub cpuset_partition: Option<Partition>,
    /// `hugetlb.SIZE.max`: huge pages in use, in bytes, for each size.
    pub hugetlb_max: BTreeMap<HugePageSize, Max<Bytes>>,
    /// `hugetlb.SIZE.rsvd.max`: huge pages reserved, in bytes, for each size. Linux 5.7.
    pub hugetlb_rsvd_max: BTreeMap<HugePageSize, Max<Bytes>>,
    /// `rdma.max`: handles and objects, for each device.
    pub rdma_max: BTreeMap<ResourceName, RdmaLimit>,
    /// `misc.max`: units of each resource of the host. Linux 5.13.
    pub misc_max: BTreeMap<ResourceName, Max<u64>>,
    /// `dmem.max`: memory of each region of a device. Linux 6.14.
    pub dmem_max: BTreeMap<ResourceName, Max<Bytes>>,
    /// `dmem.low`: memory of a region that is not taken from it while others have some to give. Linux 6.14.
    pub dmem_low: BTreeMap<ResourceName, Max<Bytes>>,
    /// `dmem.min`: memory of a region that is never taken from it. Linux 6.14.
    pub dmem_min: BTreeMap<ResourceName, Max<Bytes>>,
    /// Files by name, as text. They win over the fields above, line by line.
    pub unified: Unified,
}

impl Limits {
    /// No limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// `memory.min`: memory that is never taken from it. Linux 4.18.
    #[doc(alias = "memory.min")]
    pub fn memory_min(mut self, limit: impl Into<Max<Bytes>>) -> Self {
        self.memory_min = Some(limit.into());
        self
    }

    /// `memory.low`: memory that is not taken from it while others have some to give.
    #[doc(alias = "memory.low")]
    pub fn memory_low(mut self, limit: impl Into<Max<Bytes>>) -> Self {
        self.memory_low = Some(limit.into());
        self
    }

    /// `memory.high`: beyond it the group is slowed down and reclaimed from, never killed.
    #[doc(alias = "memory.high")]
    pub fn memory_high(mut self, limit: impl Into<Max<Bytes>>) -> Self {
        self.memory_high = Some(limit.into());
        self
    }

    /// `memory.max`: memory, the page cache it causes included. Beyond it the out-of-memory killer acts. At least
    /// a page; the kernel rounds down to whole ones.
    #[doc(alias = "memory.max")]
    pub fn memory_max(mut self, limit: impl Into<Max<Bytes>>) -> Self {
        self.memory_max = Some(limit.into());
        self
    }

    /// What to do when `memory.max` of a group that exists is to become less than it uses.
    pub fn memory_below_usage(mut self, value: BelowUsage) -> Self {
        self.memory_below_usage = value;
        self
    }

    /// `memory.swap.high`: swap beyond which the group is slowed down. Linux 5.8.
    #[doc(alias = "memory.swap.high")]
    pub fn memory_swap_high(mut self, value: SwapOnly) -> Self {
        self.memory_swap_high = Some(value);
        self
    }

    /// `memory.swap.max`: swap alone; see [`MemoryPlusSwap`](crate::MemoryPlusSwap) for the sum.
    #[doc(alias = "memory.swap.max")]
    pub fn memory_swap_max(mut self, value: SwapOnly) -> Self {
        self.memory_swap_max = Some(value);
        self
    }

    /// `memory.zswap.max`: memory for compressed swap. Linux 5.19.
    #[doc(alias = "memory.zswap.max")]
    pub fn memory_zswap_max(mut self, limit: impl Into<Max<Bytes>>) -> Self {
        self.memory_zswap_max = Some(limit.into());
        self
    }

    /// `memory.zswap.writeback`: whether compressed swap may go to disk. Linux 6.8.
    #[doc(alias = "memory.zswap.writeback")]
    pub fn memory_zswap_writeback(mut self, value: ZswapWriteback) -> Self {
        self.memory_zswap_writeback = Some(value);
        self
    }

    /// `memory.oom.group`: whether the out-of-memory killer kills one or all. Linux 4.19.
    #[doc(alias = "memory.oom.group")]
    pub fn memory_oom_group(mut self, value: OomGroup) -> Self {
        self.memory_oom_group = Some(value);
        self
    }

    /// `cpu.max`: processor time a period.
    #[doc(alias = "cpu.max")]
    pub fn cpu_max(mut self, value: Quota) -> Self {
        self.cpu_max = Some(value);
        self
    }

    /// `cpu.max.burst`: unused time that may be saved up; at most the quota. Linux 5.14.
    #[doc(alias = "cpu.max.burst")]
    pub fn cpu_max_burst(mut self, value: CpuBurst) -> Self {
        self.cpu_max_burst = Some(value);
        self
    }

    /// `cpu.weight`, 1 to 10000, where the kernel's default is 100; of `cpu_weight`, `cpu_weight_nice` and `cpu_idle`, the
    /// last counts.
    #[doc(alias = "cpu.weight")]
    pub fn cpu_weight(mut self, weight: Weight) -> Self {
        self.cpu_share = Some(CpuShare::Weight(weight));
        self
    }

    /// `cpu.weight.nice`: the same as a nice value.
    #[doc(alias = "cpu.weight.nice")]
    pub fn cpu_weight_nice(mut self, nice: NiceWeight) -> Self {
        self.cpu_share = Some(CpuShare::Nice(nice));
        self
    }

    /// `cpu.idle`: it runs only when no sibling wants to. Linux 5.15.
    #[doc(alias = "cpu.idle")]
    pub fn cpu_idle(mut self) -> Self {
        self.cpu_share = Some(CpuShare::Idle);
        self
    }

    /// `cpu.uclamp.min`: the least utilisation that the frequency governor sees. Linux 5.4.
    #[doc(alias = "cpu.uclamp.min")]
    pub fn cpu_uclamp_min(mut self, value: Uclamp) -> Self {
        self.cpu_uclamp_min = Some(value);
        self
    }

    /// `cpu.uclamp.max`: the greatest. Linux 5.4.
    #[doc(alias = "cpu.uclamp.max")]
    pub fn cpu_uclamp_max(mut self, limit: impl Into<Max<Uclamp>>) -> Self {
        self.cpu_uclamp_max = Some(limit.into());
        self
    }

    /// `pids.max`: tasks, threads included. Beyond it fork fails with EAGAIN.
    #[doc(alias = "pids.max")]
    pub fn pids_max(mut self, limit: impl Into<Max<PidsMax>>) -> Self {
        self.pids_max = Some(limit.into());
        self
    }

    /// `io.max`: what may be read and written in a second, for each disk.
    ///
    /// What was said of the same disk before stays, as far as `limit` is silent about it.
    #[doc(alias = "io.max")]
    pub fn io_max(mut self, device: DevNum, limit: IoMax) -> Self {
        let known = self.io_max.entry(device).or_default();
        *known = known.merge(limit);
        self
    }

    /// `io.weight`: the share of disk time beside siblings.
    #[doc(alias = "io.weight")]
    pub fn io_weight(mut self, value: IoWeight) -> Self {
        self.io_weight = Some(value);
        self
    }

    /// `io.weight`, for one disk.
    #[doc(alias = "io.weight")]
    pub fn io_device_weight(mut self, device: DevNum, value: IoWeight) -> Self {
        self.io_device_weight.insert(device, value);
        self
    }

    /// `io.latency`: how long an operation may take before siblings are slowed down, for each disk. Linux 4.19.
    #[doc(alias = "io.latency")]
    pub fn io_latency(mut self, device: DevNum, value: IoLatency) -> Self {
        self.io_latency.insert(device, value);
        self
    }

    /// `io.prio.class`: what becomes of the processes' own I/O priorities. Linux 5.14.
    #[doc(alias = "io.prio.class")]
    pub fn io_prio_class(mut self, value: IoPriorityClass) -> Self {
        self.io_prio_class = Some(value);
        self
    }

    /// `cpuset.cpus`: the processors it may run on; empty is all of the group above.
    #[doc(alias = "cpuset.cpus")]
    pub fn cpuset_cpus(mut self, value: CpuList) -> Self {
        self.cpuset_cpus = Some(value);
        self
    }

    /// `cpuset.mems`: the memory nodes it may use; empty is all of the group above.
    #[doc(alias = "cpuset.mems")]
    pub fn cpuset_mems(mut self, value: MemNodeList) -> Self {
        self.cpuset_mems = Some(value);
        self
    }

    /// `cpuset.cpus.partition`: whether it has its processors for itself.
    #[doc(alias = "cpuset.cpus.partition")]
    pub fn cpuset_partition(mut self, value: Partition) -> Self {
        self.cpuset_partition = Some(value);
        self
    }

    /// `hugetlb.SIZE.max`: huge pages in use, in bytes, for each size.
    #[doc(alias = "hugetlb.max")]
    pub fn hugetlb_max(mut self, size: HugePageSize, limit: impl Into<Max<Bytes>>) -> Self {
        self.hugetlb_max.insert(size, limit.into());
        self
    }

    /// `hugetlb.SIZE.rsvd.max`: huge pages reserved, in bytes, for each size. Linux 5.7.
    #[doc(alias = "hugetlb.rsvd.max")]
    pub fn hugetlb_rsvd_max(mut self, size: HugePageSize, limit: impl Into<Max<Bytes>>) -> Self {
        self.hugetlb_rsvd_max.insert(size, limit.into());
        self
    }

    /// `rdma.max`: handles and objects, for each device.
    #[doc(alias = "rdma.max")]
    pub fn rdma_max(mut self, resource: ResourceName, value: RdmaLimit) -> Self {
        self.rdma_max.insert(resource, value);
        self
    }

    /// `misc.max`: units of each resource of the host. Linux 5.13.
    #[doc(alias = "misc.max")]
    pub fn misc_max(mut self, resource: ResourceName, limit: impl Into<Max<u64>>) -> Self {
        self.misc_max.insert(resource, limit.into());
        self
    }

    /// `dmem.max`: memory of each region of a device. Linux 6.14.
    #[doc(alias = "dmem.max")]
    pub fn dmem_max(mut self, resource: ResourceName, limit: impl Into<Max<Bytes>>) -> Self {
        self.dmem_max.insert(resource, limit.into());
        self
    }

    /// `dmem.low`: memory of a region that is not taken from it while others have some to give. Linux 6.14.
    #[doc(alias = "dmem.low")]
    pub fn dmem_low(mut self, resource: ResourceName, limit: impl Into<Max<Bytes>>) -> Self {
        self.dmem_low.insert(resource, limit.into());
        self
    }

    /// `dmem.min`: memory of a region that is never taken from it. Linux 6.14.
    #[doc(alias = "dmem.min")]
    pub fn dmem_min(mut self, resource: ResourceName, limit: impl Into<Max<Bytes>>) -> Self {
        self.dmem_min.insert(resource, limit.into());
        self
    }

    /// Files by name, as text. They win over the fields above, line by line.
    pub fn unified(mut self, value: Unified) -> Self {
        self.unified = value;
        self
    }

    /// The controllers that a new group with these limits needs.
    #[must_use]
    pub fn controllers(&self) -> Controllers {
        self.writes().iter().filter_map(Setting::controller).collect()
    }

    /// The writes to a new group in words, in order. [`Place::describe_create`](crate::Place::describe_create) has them
    /// with the steps before; [`Cgroup::describe_apply`](crate::Cgroup::describe_apply) those to a group that exists.
    #[must_use]
    pub fn describe(&self) -> Vec<StepText> {
        self.writes().iter().map(Setting::describe).collect()
    }

    /// What is to be written to a new group, in order.
    pub(crate) fn writes(&self) -> Vec<Setting> {
        for_new(self.settings())
    }
}

#[cfg(test)]
mod plain {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn what_is_written() {
        let disk = DevNum { major: 8, minor: 0 };
        let limits = Limits::new()
            .io_max(disk, IoMax { rbps: Some(Bytes::mib(1).into()), ..IoMax::default() })
            .io_max(disk, IoMax { wiops: Some(Max::Value(7)), ..IoMax::default() })
            .memory_swap_max(SwapOnly(Max::Value(Bytes(0))))
            .memory_max(Bytes::mib(64))
            .cpu_max(Quota::cpus(2.0).expect("two"))
            .cpu_weight(Weight::try_from(50).expect("weight"))
            .pids_max(PidsMax::LEAST);
        let text: Vec<String> = limits.describe().iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                r#"write io.max("8:0 rbps=1048576 wiops=7")"#,
                r#"write cpu.weight("50")"#,
                r#"write cpu.max("200000 100000")"#,
                r#"write pids.max("1")"#,
                r#"write memory.swap.max("0")"#,
                r#"write memory.max("67108864")"#,
            ]
        );
        assert_eq!(limits.controllers().to_string(), "cpu io memory pids");
        assert!(limits.check_values().is_ok());
    }

    #[test]
    fn no_limit_needs_no_controller() {
        let limits = Limits::new()
            .memory_max(Max::Max)
            .memory_swap_max(SwapOnly(Max::Max))
            .cpu_max(Quota::UNLIMITED)
            .pids_max(Max::Max)
            .io_max(DevNum { major: 8, minor: 0 }, IoMax { rbps: Some(Max::Max), ..IoMax::default() });
        assert!(limits.controllers().is_empty() && limits.describe().is_empty());
        assert_eq!(Limits::new().controllers(), Controllers::NONE);
    }

    #[test]
    fn values_nothing_could_run_with() {
        for bytes in [0, 1, 4095] {
            let error = Limits::new().memory_max(Bytes(bytes)).check_values().expect_err("less than a page");
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().starts_with(&format!("memory.max \"{bytes}\": less than one page")), "{error}");
        }
        let none = IoMax { riops: Some(Max::Value(0)), ..IoMax::default() };
        let error = Limits::new().io_max(DevNum { major: 8, minor: 0 }, none).check_values().expect_err("zero");
        assert_eq!(error.to_string(), r#"io.max "8:0": riops of 0 is not taken: max is none"#);
    }
}
