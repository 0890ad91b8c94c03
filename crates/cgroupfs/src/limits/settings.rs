//! From fields to lines of files.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;

use super::Setting;
use crate::{
    Bytes, CpuList, IoMax, IoPriorityClass, IoWeight, Limits, Max, MemNodeList, NiceWeight, OomGroup, Partition, Quota,
    RdmaLimit, SwapOnly, Weight, ZswapWriteback,
};

/// A group's share of processor time beside its siblings, in one of three words that exclude each other.
///
/// ```
/// use cgroupfs::{CpuShare, Limits, Weight};
///
/// let limits = Limits::new().cpu_weight(Weight::try_from(200)?);
/// assert_eq!(limits.cpu_share, Some(CpuShare::Weight(Weight::try_from(200)?)));
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CpuShare {
    /// `cpu.weight`.
    Weight(Weight),
    /// `cpu.weight.nice`.
    Nice(NiceWeight),
    /// `cpu.idle` of 1: only what the siblings leave. Linux 5.15.
    Idle,
}

impl Limits {
    /// What is to be written, in no order that matters: `unified` replaces what says the same thing.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        // Each field by its name: one that is added and forgotten here does not compile. Whoever carries limits out, to files
        // or to systemd, has them from here.
        let Self {
            memory_min,
            memory_low,
            memory_high,
            memory_max,
            // How memory.max is written, by those who write it.
            memory_below_usage: _,
            memory_swap_high,
            memory_swap_max,
            memory_zswap_max,
            memory_zswap_writeback,
            memory_oom_group,
            cpu_max,
            cpu_max_burst,
            cpu_share,
            cpu_uclamp_min,
            cpu_uclamp_max,
            pids_max,
            io_max,
            io_weight,
            io_device_weight,
            io_latency,
            io_prio_class,
            cpuset_cpus,
            cpuset_mems,
            cpuset_partition,
            hugetlb_max,
            hugetlb_rsvd_max,
            rdma_max,
            misc_max,
            dmem_max,
            dmem_low,
            dmem_min,
            unified,
        } = self;
        let is_0 = |limit: &Max<Bytes>| *limit == Max::Value(Bytes(0));
        let no_swap_limit = |limit: &SwapOnly| *limit == SwapOnly(Max::Max);
        let mut all = All(Vec::new());

        all.one("memory.min", memory_min, is_0, "memory never taken from it, in bytes");
        all.one("memory.low", memory_low, is_0, "memory not taken from it without need, in bytes");
        all.one("memory.high", memory_high, Max::is_max, "memory beyond which it is slowed down, in bytes");
        all.one("memory.max", memory_max, Max::is_max, "memory it may use, in bytes");
        let reason = "swap beyond which it is slowed down, in bytes";
        all.one("memory.swap.high", memory_swap_high, no_swap_limit, reason);
        all.one("memory.swap.max", memory_swap_max, no_swap_limit, "swap it may use, in bytes");
        all.one("memory.zswap.max", memory_zswap_max, Max::is_max, "memory for compressed swap, in bytes");
        let (enabled, reason) = (ZswapWriteback::Enabled, "whether compressed swap may go to disk");
        all.one("memory.zswap.writeback", memory_zswap_writeback, |value| *value == enabled, reason);
        let (one, reason) = (OomGroup::KillOne, "whether the out-of-memory killer kills one or all");
        all.one("memory.oom.group", memory_oom_group, |value| *value == one, reason);

        all.0.extend(cpu_share.iter().flat_map(CpuShare::settings));
        let reason = "processor time a period, in microseconds";
        all.one("cpu.max", cpu_max, |quota| *quota == Quota::UNLIMITED, reason);
        let reason = "unused time it may save up, in microseconds";
        all.one("cpu.max.burst", cpu_max_burst, |burst| burst.to_string() == "0", reason);
        let reason = "the least utilisation that the governor sees, in percent";
        all.one("cpu.uclamp.min", cpu_uclamp_min, |least| least.hundredths() == 0, reason);
        let reason = "the greatest utilisation that the governor sees, in percent";
        all.one("cpu.uclamp.max", cpu_uclamp_max, Max::is_max, reason);

        all.lines("io.max", io_max, IoMax::limits_nothing, "what it may read and write in a second");
        let (never, reason) = (|_: &IoWeight| false, "its share of disk time beside siblings");
        all.lines("io.weight", io_weight.iter().map(|weight| ("default", weight)), never, reason);
        all.lines("io.weight", io_device_weight, never, reason);
        let reason = "how long its operations may take, in microseconds";
        all.lines("io.latency", io_latency, |latency| latency.target().is_none(), reason);
        let (none, reason) = (IoPriorityClass::NoChange, "what becomes of the processes' own priorities");
        all.one("io.prio.class", io_prio_class, |class| *class == none, reason);

        all.one("pids.max", pids_max, Max::is_max, "tasks it may hold");
        all.one("cpuset.cpus", cpuset_cpus, CpuList::is_empty, "processors it may run on");
        all.one("cpuset.mems", cpuset_mems, MemNodeList::is_empty, "memory nodes it may use");
        let (member, reason) = (Partition::Member, "whether it has its processors for itself");
        all.one("cpuset.cpus.partition", cpuset_partition, |value| *value == member, reason);
        for (size, limit) in hugetlb_max {
            all.one(format!("hugetlb.{size}.max"), Some(limit), Max::is_max, "huge pages it may use, in bytes");
        }
        for (size, limit) in hugetlb_rsvd_max {
            all.one(
                format!("hugetlb.{size}.rsvd.max"),
                Some(limit),
                Max::is_max,
                "huge pages it may reserve, in bytes",
            );
        }
        all.lines("rdma.max", rdma_max, RdmaLimit::limits_nothing, "handles and objects of this device");
        all.lines("misc.max", misc_max, Max::is_max, "units of this resource");
        all.lines("dmem.max", dmem_max, Max::is_max, "memory of this device it may use, in bytes");
        let reason = "memory of this device not taken from it without need, in bytes";
        all.lines("dmem.low", dmem_low, is_0, reason);
        all.lines("dmem.min", dmem_min, is_0, "memory of this device never taken from it, in bytes");

        for raw in unified.settings() {
            all.0.retain(|setting| !setting.is_of(&raw) && !excludes(&raw, setting));
            all.0.push(raw);
        }
        all.0
    }
}

impl CpuShare {
    fn settings(&self) -> Vec<Setting> {
        let leave_idle = Setting::new("cpu.idle", "0", "idle groups take no weight").initial_if(true);
        match self {
            Self::Weight(weight) => {
                let reason = "its share of processor time beside siblings";
                vec![leave_idle, Setting::new("cpu.weight", weight, reason)]
            }
            Self::Nice(nice) => {
                let reason = "its share of processor time beside siblings, as a nice value";
                vec![leave_idle, Setting::new("cpu.weight.nice", nice, reason)]
            }
            Self::Idle => vec![Setting::new("cpu.idle", "1", "it runs when no sibling wants to")],
        }
    }
}

/// Settings, as they are collected: each with whether a new group begins so.
struct All(Vec<Setting>);

impl All {
    /// The only value of a file.
    fn one<'a, T: fmt::Display + 'a>(
        &mut self,
        file: impl Into<Cow<'static, str>>,
        value: impl IntoIterator<Item = &'a T>,
        initial: impl Fn(&T) -> bool,
        reason: &'static str,
    ) {
        if let Some(value) = value.into_iter().next() {
            self.0.push(Setting::new(file, value, reason).initial_if(initial(value)));
        }
    }

    /// A line for each key.
    fn lines<'a, K: fmt::Display, T: fmt::Display + 'a>(
        &mut self,
        file: &'static str,
        values: impl IntoIterator<Item = (K, &'a T)>,
        initial: impl Fn(&T) -> bool,
        reason: &'static str,
    ) {
        let values = values.into_iter();
        self.0.extend(values.map(|(key, value)| Setting::new(file, value, reason).of(key).initial_if(initial(value))));
    }
}

/// A share of processor time by one file takes the place of one by another field; what is asked for by name does not
/// exclude itself, and is checked.
fn excludes(raw: &Setting, setting: &Setting) -> bool {
    let share = |setting: &Setting| matches!(&*setting.file, "cpu.weight" | "cpu.weight.nice" | "cpu.idle");
    let leaves_idle = setting.file == "cpu.idle" && setting.value == "0";
    share(raw) && share(setting) && setting.reason != raw.reason && !leaves_idle
}
