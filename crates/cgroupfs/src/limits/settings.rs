//! From fields to lines of files.
#![forbid(unsafe_code)]

use std::fmt;

use super::Setting;
use crate::{Bytes, Limits, Max, NiceWeight, OomGroup, Partition, Quota, SwapOnly, Weight, ZswapWriteback};

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
        let mut settings = Vec::new();
        self.memory(&mut settings);
        self.cpu(&mut settings);
        self.io(&mut settings);
        self.others(&mut settings);
        for raw in self.unified.settings() {
            settings.retain(|setting| !setting.is_of(&raw) && !excludes(&raw, setting));
            settings.push(raw);
        }
        settings
    }

    fn memory(&self, settings: &mut Vec<Setting>) {
        let none = Max::Value(Bytes(0));
        add(settings, "memory.min", self.memory_min, none, "memory never taken from it, in bytes");
        add(settings, "memory.low", self.memory_low, none, "memory not taken from it without need, in bytes");
        add(settings, "memory.high", self.memory_high, Max::Max, "memory beyond which it is slowed down, in bytes");
        add(settings, "memory.max", self.memory_max, Max::Max, "memory it may use, in bytes");
        let (high, max) = (self.memory_swap_high, self.memory_swap_max);
        add(settings, "memory.swap.high", high, SwapOnly(Max::Max), "swap beyond which it is slowed down, in bytes");
        add(settings, "memory.swap.max", max, SwapOnly(Max::Max), "swap it may use, in bytes");
        add(settings, "memory.zswap.max", self.memory_zswap_max, Max::Max, "memory for compressed swap, in bytes");
        let writeback = self.memory_zswap_writeback;
        let reason = "whether compressed swap may go to disk";
        add(settings, "memory.zswap.writeback", writeback, ZswapWriteback::Enabled, reason);
        let reason = "whether the out-of-memory killer kills one or all";
        add(settings, "memory.oom.group", self.memory_oom_group, OomGroup::KillOne, reason);
    }

    fn cpu(&self, settings: &mut Vec<Setting>) {
        let leave_idle = || Setting::new("cpu.idle", "0", "idle groups take no weight").initial_if(true);
        match self.cpu_share {
            Some(CpuShare::Weight(weight)) => {
                let reason = "its share of processor time beside siblings";
                settings.extend([leave_idle(), Setting::new("cpu.weight", weight, reason)]);
            }
            Some(CpuShare::Nice(nice)) => {
                let reason = "its share of processor time beside siblings, as a nice value";
                settings.extend([leave_idle(), Setting::new("cpu.weight.nice", nice, reason)]);
            }
            Some(CpuShare::Idle) => settings.push(Setting::new("cpu.idle", "1", "it runs when no sibling wants to")),
            None => {}
        }
        add(settings, "cpu.max", self.cpu_max, Quota::UNLIMITED, "processor time a period, in microseconds");
        let burst = self.cpu_max_burst.map(|burst| burst.to_string());
        add(settings, "cpu.max.burst", burst, "0".to_owned(), "unused time it may save up, in microseconds");
        let (min, max) = (self.cpu_uclamp_min, self.cpu_uclamp_max);
        let least = min.map(|min| (min.hundredths() == 0, min));
        let reason = "the least utilisation that the governor sees, in percent";
        settings.extend(least.map(|(none, min)| Setting::new("cpu.uclamp.min", min, reason).initial_if(none)));
        add(settings, "cpu.uclamp.max", max, Max::Max, "the greatest utilisation that the governor sees, in percent");
    }

    fn io(&self, settings: &mut Vec<Setting>) {
        for (device, limit) in &self.io_max {
            let setting = Setting::new("io.max", limit, "what it may read and write in a second").of(device);
            settings.push(setting.initial_if(limit.limits_nothing()));
        }
        let reason = "its share of disk time beside siblings";
        settings.extend(self.io_weight.map(|weight| Setting::new("io.weight", weight, reason).of("default")));
        let weights = self.io_device_weight.iter();
        settings.extend(weights.map(|(device, weight)| Setting::new("io.weight", weight, reason).of(device)));
        for (device, latency) in &self.io_latency {
            let setting = Setting::new("io.latency", latency, "how long its operations may take, in microseconds");
            settings.push(setting.of(device).initial_if(latency.target().is_none()));
        }
        let class = self.io_prio_class;
        let reason = "what becomes of the processes' own priorities";
        settings.extend(class.map(|class| {
            Setting::new("io.prio.class", class, reason).initial_if(class == crate::IoPriorityClass::NoChange)
        }));
    }

    fn others(&self, settings: &mut Vec<Setting>) {
        let tasks =
            self.pids_max.map(|limit| Setting::new("pids.max", limit, "tasks it may hold").initial_if(limit.is_max()));
        settings.extend(tasks);
        if let Some(cpus) = &self.cpuset_cpus {
            settings.push(Setting::new("cpuset.cpus", cpus, "processors it may run on").initial_if(cpus.is_empty()));
        }
        if let Some(mems) = &self.cpuset_mems {
            settings.push(Setting::new("cpuset.mems", mems, "memory nodes it may use").initial_if(mems.is_empty()));
        }
        let reason = "whether it has its processors for itself";
        add(settings, "cpuset.cpus.partition", self.cpuset_partition, Partition::Member, reason);
        for (size, limit) in &self.hugetlb_max {
            let setting = Setting::new(format!("hugetlb.{size}.max"), limit, "huge pages it may use, in bytes");
            settings.push(setting.initial_if(limit.is_max()));
        }
        for (size, limit) in &self.hugetlb_rsvd_max {
            let setting =
                Setting::new(format!("hugetlb.{size}.rsvd.max"), limit, "huge pages it may reserve, in bytes");
            settings.push(setting.initial_if(limit.is_max()));
        }
        for (device, limit) in &self.rdma_max {
            settings.push(Setting::new("rdma.max", limit, "handles and objects of this device").of(device));
        }
        for (resource, limit) in &self.misc_max {
            let setting = Setting::new("misc.max", limit, "units of this resource").of(resource);
            settings.push(setting.initial_if(limit.is_max()));
        }
        for (region, limit) in &self.dmem_max {
            let setting = Setting::new("dmem.max", limit, "memory of this device it may use, in bytes").of(region);
            settings.push(setting.initial_if(limit.is_max()));
        }
        for (region, limit) in &self.dmem_low {
            let reason = "memory of this device not taken from it without need, in bytes";
            settings.push(Setting::new("dmem.low", limit, reason).of(region));
        }
        for (region, limit) in &self.dmem_min {
            let reason = "memory of this device never taken from it, in bytes";
            settings.push(Setting::new("dmem.min", limit, reason).of(region));
        }
    }
}

/// A share of processor time by one file takes the place of one by another field; what is asked for by name does not
/// exclude itself, and is checked.
fn excludes(raw: &Setting, setting: &Setting) -> bool {
    let share = |setting: &Setting| matches!(&*setting.file, "cpu.weight" | "cpu.weight.nice" | "cpu.idle");
    let leaves_idle = setting.file == "cpu.idle" && setting.value == "0";
    share(raw) && share(setting) && setting.reason != raw.reason && !leaves_idle
}

fn add<T: fmt::Display + PartialEq>(
    settings: &mut Vec<Setting>,
    file: &'static str,
    value: Option<T>,
    initial: T,
    reason: &'static str,
) {
    settings.extend(value.map(|value| Setting::new(file, &value, reason).initial_if(value == initial)));
}
