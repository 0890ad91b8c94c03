//! Limits and device rules from an OCI runtime configuration (feature `oci`).
//!
//! The `linux.resources` of a `config.json` have the shape of cgroup v1. [`OciResources`] says what they are in version 2, as
//! the current runtimes have it, and names what has no place there: nothing is dropped in silence.
#![forbid(unsafe_code)]

mod devices;
mod shares;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use cellkit_core::Subject;
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use crate::{
    BelowUsage, Bytes, CpuBurst, DevNum, DeviceRules, Error, HugePageSize, IoMax, IoWeight, Limits, Max,
    MemoryPlusSwap, PidsMax, Quota, RdmaLimit, ResourceName, Result, SwapOnly, Unified,
};

pub use shares::SharesFormula;

/// The resources of an OCI configuration, as cgroup v2 has them.
///
/// | field | file | as |
/// |---|---|---|
/// | memory.limit, reservation | memory.max, memory.low | 0 is not set, -1 is max |
/// | memory.swap | memory.swap.max | less the limit; without a limit an error; -1 is max |
/// | memory.checkBeforeUpdate | | [`BelowUsage`]: without it the kernel may kill |
/// | cpu.shares | cpu.weight | by [`SharesFormula`] |
/// | cpu.quota, period, burst, idle | cpu.max, cpu.max.burst, cpu.idle | a quota of 0 is not set, below is max |
/// | cpu.cpus, mems | cpuset.cpus, cpuset.mems | |
/// | pids.limit | pids.max | 0 is 1, as in runc since 1.4: systemd has no 0, and the effect is the same; below is max |
/// | blockIO.weight, weightDevice | io.weight | 10 to 1000 become 1 to 10000 |
/// | blockIO.throttle* | io.max | 0 is max, as in version 1 |
/// | hugepageLimits | hugetlb.SIZE.max and .rsvd.max | |
/// | rdma | rdma.max | |
/// | unified | the file itself | wins over all others |
/// | devices | a program: [`DeviceRules`] | |
///
/// Realtime budgets, leaf weights, network classes and priorities exist in version 1 only, and are refused by name. What the
/// specification has runtimes ignore is in [`omitted`](Self::omitted).
///
/// ```
/// use cgroupfs::oci::OciResources;
/// use oci_spec::runtime::{LinuxMemoryBuilder, LinuxResourcesBuilder};
///
/// let memory = LinuxMemoryBuilder::default().limit(64 << 20).swap(96 << 20).swappiness(60u64).build().unwrap();
/// let resources = LinuxResourcesBuilder::default().memory(memory).devices(vec![]).build().unwrap();
/// let converted = OciResources::new(&resources)?;
/// let writes: Vec<String> = converted.limits.describe().iter().map(ToString::to_string).collect();
/// assert_eq!(writes, [r#"write memory.swap.max("33554432")"#, r#"write memory.max("67108864")"#]);
/// assert_eq!(converted.omitted[0].to_string(), "memory.swappiness: version 2 has none for a group");
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#control-groups>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OciResources {
    /// The limits.
    pub limits: Limits,
    /// The rules for devices, where there are some.
    pub devices: Option<DeviceRules>,
    /// What was not carried over.
    pub omitted: Vec<Omitted>,
}

/// A field of an OCI configuration that has no effect in version 2.
///
/// ```
/// # fn show(converted: &cgroupfs::oci::OciResources) {
/// for omitted in &converted.omitted {
///     eprintln!("ignored: {omitted}");
/// }
/// # }
/// ```
///
/// See <https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#control-groups>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Omitted {
    /// The field, below `linux.resources`.
    pub field: &'static str,
    /// Why.
    pub why: &'static str,
}

impl fmt::Display for Omitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}

impl OciResources {
    /// Converts, with the current formula for shares. Nothing is looked at but the configuration.
    ///
    /// # Errors
    /// Invalid for a value that cannot be; Unsupported for a field that exists in version 1 only. The first, with the
    /// [others](Error::also).
    pub fn new(resources: &LinuxResources) -> Result<Self> {
        Self::with_shares(resources, SharesFormula::default())
    }

    /// The same with another formula for `cpu.shares`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_shares(resources: &LinuxResources, formula: SharesFormula) -> Result<Self> {
        let mut to = Self::default();
        // The default of OCI is the kernel's behaviour.
        to.limits.memory_below_usage = BelowUsage::ReclaimOrKill;
        let parts = [
            resources.memory().as_ref().map_or(Ok(()), |memory| to.memory(memory)),
            resources.cpu().as_ref().map_or(Ok(()), |cpu| to.cpu(cpu, formula)),
            resources.block_io().as_ref().map_or(Ok(()), |io| to.block_io(io)),
            to.others(resources),
            to.unified(resources),
        ];
        Error::all(parts.into_iter().filter_map(Result::err))?;
        Ok(to)
    }

    fn omit(&mut self, is_set: bool, field: &'static str, why: &'static str) {
        if is_set {
            self.omitted.push(Omitted { field, why });
        }
    }

    // The deprecated fields are read in order to be reported.
    #[allow(deprecated)]
    fn memory(&mut self, memory: &LinuxMemory) -> Result<()> {
        let limit = bytes("memory.limit", memory.limit())?;
        self.limits.memory_max = limit;
        self.limits.memory_low = bytes("memory.reservation", memory.reservation())?;
        let swap = bytes("memory.swap", memory.swap())?;
        self.limits.memory_swap_max = match (swap, limit) {
            // Version 1's unlimited memory had unlimited swap with it.
            (None, Some(Max::Max)) => Some(SwapOnly(Max::Max)),
            (None, _) => None,
            (Some(swap), Some(Max::Max)) => Some(SwapOnly(swap)),
            (Some(total), limit) => Some(MemoryPlusSwap(total).swap_only(limit.unwrap_or(Max::Max))?),
        };
        if memory.check_before_update() == Some(true) {
            self.limits.memory_below_usage = BelowUsage::Refuse;
        }
        let set = |value: Option<i64>| value.is_some_and(|value| value != 0);
        self.omit(set(memory.kernel()), "memory.kernel", "the kernel has no such limit since 5.4");
        self.omit(set(memory.kernel_tcp()), "memory.kernelTCP", "version 2 counts it as memory of the group");
        self.omit(memory.swappiness().is_some(), "memory.swappiness", "version 2 has none for a group");
        let disabled = memory.disable_oom_killer() == Some(true);
        self.omit(disabled, "memory.disableOOMKiller", "version 2 cannot do without it");
        self.omit(memory.use_hierarchy() == Some(false), "memory.useHierarchy", "version 2 always does");
        Ok(())
    }

    fn cpu(&mut self, cpu: &LinuxCpu, formula: SharesFormula) -> Result<()> {
        let realtime = [
            ("cpu.realtimeRuntime", cpu.realtime_runtime().is_some_and(|usec| usec != 0)),
            ("cpu.realtimePeriod", cpu.realtime_period().is_some_and(|usec| usec != 0)),
        ];
        let realtime = realtime.into_iter().filter(|(_, set)| *set);
        Error::all(realtime.map(|(field, _)| version_1(field, "a group has no budget for realtime tasks")))?;

        let weight = cpu.shares().and_then(|shares| formula.weight(shares));
        self.limits.cpu_share = weight.map(crate::CpuShare::Weight);
        match cpu.idle() {
            None | Some(0) => {}
            Some(1) => {
                self.omit(weight.is_some(), "cpu.shares", "an idle group has no weight");
                self.limits.cpu_share = Some(crate::CpuShare::Idle);
            }
            Some(other) => return Err(invalid("cpu.idle", "neither 0 nor 1", other)),
        }
        let quota = cpu.quota().filter(|&quota| quota != 0);
        let period = cpu.period().filter(|&period| period != 0);
        if quota.is_some() || period.is_some() {
            let quota = quota.and_then(|quota| u64::try_from(quota).ok()).map_or(Max::Max, Max::Value);
            self.limits.cpu_max = Some(Quota::new(quota, period.unwrap_or(Quota::DEFAULT_PERIOD_USEC))?);
        }
        if let Some(burst) = cpu.burst() {
            self.limits.cpu_max_burst = Some(CpuBurst::try_from(Duration::from_micros(burst))?);
        }
        if let Some(cpus) = cpu.cpus().as_ref().filter(|cpus| !cpus.trim().is_empty()) {
            self.limits.cpuset_cpus = Some(cpus.parse()?);
        }
        if let Some(mems) = cpu.mems().as_ref().filter(|mems| !mems.trim().is_empty()) {
            self.limits.cpuset_mems = Some(mems.parse()?);
        }
        Ok(())
    }

    fn block_io(&mut self, io: &LinuxBlockIo) -> Result<()> {
        const LEAF: &str = "a group's own processes do not compete with groups below it";
        let set = |weight: Option<u16>| weight.is_some_and(|weight| weight != 0);
        let devices = io.weight_device().iter().flatten();
        if set(io.leaf_weight()) || devices.clone().any(|device| set(device.leaf_weight())) {
            return Err(version_1("blockIO.leafWeight", LEAF));
        }
        self.limits.io_weight = io_weight(io.weight())?;
        for device in devices {
            if let Some(weight) = io_weight(device.weight())? {
                self.limits.io_device_weight.insert(device_number(device.major(), device.minor())?, weight);
            }
        }
        let mut throttle = |devices: &Option<Vec<LinuxThrottleDevice>>, limit: fn(Max<u64>) -> IoMax| -> Result<()> {
            for device in devices.iter().flatten() {
                let rate = if device.rate() == 0 { Max::Max } else { Max::Value(device.rate()) };
                let number = device_number(device.major(), device.minor())?;
                let known = self.limits.io_max.entry(number).or_default();
                *known = known.merge(limit(rate));
            }
            Ok(())
        };
        throttle(io.throttle_read_bps_device(), |rate| IoMax { rbps: Some(of_bytes(rate)), ..IoMax::default() })?;
        throttle(io.throttle_write_bps_device(), |rate| IoMax { wbps: Some(of_bytes(rate)), ..IoMax::default() })?;
        throttle(io.throttle_read_iops_device(), |rate| IoMax { riops: Some(rate), ..IoMax::default() })?;
        throttle(io.throttle_write_iops_device(), |rate| IoMax { wiops: Some(rate), ..IoMax::default() })?;
        Ok(())
    }

    fn others(&mut self, resources: &LinuxResources) -> Result<()> {
        if let Some(pids) = resources.pids() {
            self.limits.pids_max = Some(match u64::try_from(pids.limit()) {
                Ok(limit) => Max::Value(PidsMax::try_from(limit.max(1))?),
                Err(_) => Max::Max,
            });
        }
        for huge in resources.hugepage_limits().iter().flatten() {
            let size: HugePageSize = huge.page_size().parse()?;
            let limit = u64::try_from(huge.limit()).map_or(Max::Max, |limit| Max::Value(Bytes(limit)));
            self.limits.hugetlb_max.insert(size, limit);
            self.limits.hugetlb_rsvd_max.insert(size, limit);
        }
        if let Some(network) = resources.network() {
            let class = network.class_id().is_some_and(|class| class != 0);
            let priorities = network.priorities().as_ref().is_some_and(|list| !list.is_empty());
            let refused = [("network.classID", class), ("network.priorities", priorities)];
            let refused = refused.into_iter().filter(|(_, set)| *set);
            let why = "match the group in nftables (socket cgroupv2) or in a program of the group";
            Error::all(refused.map(|(field, _)| version_1(field, why)))?;
        }
        for (device, rdma) in resources.rdma().iter().flatten() {
            let text = [("hca_handle", rdma.hca_handles()), ("hca_object", rdma.hca_objects())];
            let words = text.iter().filter_map(|(name, count)| Some(format!("{name}={}", (*count)?)));
            let limit: RdmaLimit = words.collect::<Vec<_>>().join(" ").parse()?;
            if !limit.is_empty() {
                self.limits.rdma_max.insert(ResourceName::new(device.clone())?, limit);
            }
        }
        if let Some(rules) = resources.devices().as_ref().filter(|rules| !rules.is_empty()) {
            self.devices = Some(devices::rules(rules)?);
        }
        Ok(())
    }

    /// In the order of names: a JSON object has none.
    fn unified(&mut self, resources: &LinuxResources) -> Result<()> {
        let files: BTreeMap<&String, &String> = resources.unified().iter().flatten().collect();
        let files = files.into_iter().try_fold(Unified::new(), |files, (file, text)| files.with(file, text))?;
        self.limits.unified = files;
        Ok(())
    }
}

impl TryFrom<&LinuxResources> for OciResources {
    type Error = Error;

    fn try_from(resources: &LinuxResources) -> Result<Self> {
        Self::new(resources)
    }
}

fn invalid(field: &'static str, why: &'static str, value: impl ToString) -> Error {
    Error::invalid(field, why).on(Subject::Value(value.to_string()))
}

fn version_1(field: &'static str, hint: &'static str) -> Error {
    Error::unsupported(field, "a limit of cgroup v1 alone", None).with_hint(hint)
}

/// 0 is what engines write for "not set".
fn bytes(field: &'static str, value: Option<i64>) -> Result<Option<Max<Bytes>>> {
    match value {
        None | Some(0) => Ok(None),
        Some(-1) => Ok(Some(Max::Max)),
        Some(value) => match u64::try_from(value) {
            Ok(bytes) => Ok(Some(Max::Value(Bytes(bytes)))),
            Err(_) => Err(invalid(field, "neither -1, for no limit, nor a number of bytes", value)),
        },
    }
}

fn of_bytes(rate: Max<u64>) -> Max<Bytes> {
    match rate {
        Max::Value(rate) => Max::Value(Bytes(rate)),
        Max::Max => Max::Max,
    }
}

/// The line from 10 to 1000 of version 1 onto 1 to 10000, as runc and crun have it.
fn io_weight(weight: Option<u16>) -> Result<Option<IoWeight>> {
    match weight {
        None | Some(0) => Ok(None),
        Some(weight @ 10..=1000) => IoWeight::try_from(1 + (u64::from(weight) - 10) * 9_999 / 990).map(Some),
        Some(weight) => Err(invalid("blockIO.weight", "not between 10 and 1000", weight)),
    }
}

fn device_number(major: i64, minor: i64) -> Result<DevNum> {
    format!("{major}:{minor}").parse()
}
