//! Which property of systemd a limit is.
//!
//! Every limit of [`Limits`] comes from its settings as a line of a file, and leaves here in one of three ways: as a
//! property; as nothing, because the group has it already; or as a refusal. None is left out.
#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

use cellkit_core::Subject;

use super::PropertyValue;
use crate::limits::{Setting, check_usage};
use crate::{
    BelowUsage, Bytes, Cgroup, CpuList, DevNum, Error, ErrorKind, IoMax, Limits, Max, MemNodeList, Quota, Result,
    ZswapWriteback,
};

type Property = (&'static str, PropertyValue);

/// The properties of a unit that systemd makes. What is no limit is a property too: systemd has defaults of its own.
pub(super) fn of_new(limits: &Limits) -> Result<Vec<Property>> {
    // An older systemd refuses these by name, and has no default for them.
    let is_new = |setting: &Setting| setting.initial && setting.file.starts_with("memory.zswap.");
    let settings = limits.settings().into_iter().filter(|setting| !is_new(setting)).collect();
    of_settings(limits, settings, |setting| Ok(setting.initial || is_leaving_idle(setting)))
}

/// The same of a unit that runs in `group`. What [`BelowUsage`] says of `memory.max` holds.
pub(super) fn of_running(limits: &Limits, group: &Cgroup) -> Result<Vec<Property>> {
    let settings = limits.settings();
    let max = settings.iter().find(|setting| setting.file == "memory.max").cloned();
    for setting in settings.iter().filter(|setting| setting.file.starts_with("cpuset.") && setting.value.is_empty()) {
        if !is_in_force(group, setting)? {
            // systemd takes it, and writes nothing; the kernel would not empty the list of a group that has processes.
            let error = Error::unsupported(setting.file.to_string(), "an empty list for a unit that has one", None);
            return Err(
                error.with_hint("give the numbers that the group above has, such as cpuset.cpus.effective there")
            );
        }
    }
    let properties = of_settings(limits, settings, |setting| is_in_force(group, setting))?;
    if let Some(max) = max.filter(|_| limits.memory_below_usage == BelowUsage::Refuse) {
        if !is_in_force(group, &max)? {
            let usage = known(group, "memory.current")?;
            check_usage(group, &max.value, usage.as_deref().unwrap_or_default())?;
        }
    }
    Ok(properties)
}

fn of_settings(
    limits: &Limits,
    settings: Vec<Setting>,
    is_so: impl Fn(&Setting) -> Result<bool>,
) -> Result<Vec<Property>> {
    limits.check_values()?;
    // CPUWeight ends being idle.
    let is_weighed = settings.iter().any(|setting| setting.file == "cpu.weight");
    let (mut all, mut refused) = (Vec::new(), Vec::new());
    for setting in &settings {
        let properties = of_setting(setting)?;
        if properties.is_empty() && !(is_weighed && is_leaving_idle(setting)) && !is_so(setting)? {
            refused.push(no_property(&setting.file));
        }
        all.extend(properties);
    }
    Error::all(refused)?;
    Ok(all)
}

fn is_leaving_idle(setting: &Setting) -> bool {
    (&*setting.file, &*setting.value) == ("cpu.idle", "0")
}

/// The content of a file of the group; `None` where it has no such file, for want of the controller or of a newer kernel.
fn known(group: &Cgroup, file: &str) -> Result<Option<String>> {
    match group.read(file) {
        Ok(content) => Ok(Some(content)),
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_in_force(group: &Cgroup, setting: &Setting) -> Result<bool> {
    Ok(match known(group, &setting.file)? {
        Some(content) => setting.is_in_force(&setting.value_in(&content)),
        None => setting.initial || is_leaving_idle(setting),
    })
}

fn no_property(file: &str) -> Error {
    let hint = match file {
        "cpu.weight.nice" => "the same share as cpu.weight is CPUWeight",
        "memory.oom.group" => "the property OOMPolicy of \"kill\" is systemd's way, of scopes since version 253",
        _ => "start the unit without it, delegated, and write it to its group's file: systemd leaves that one alone",
    };
    Error::unsupported(file.to_owned(), "a property of systemd for this file", None).with_hint(hint)
}

/// What a line of a group's file is to systemd; nothing if it has no property for it.
fn of_setting(setting: &Setting) -> Result<Vec<Property>> {
    let (file, value) = (&*setting.file, setting.value.trim());
    let number = |name| Ok(vec![(name, PropertyValue::U64(number_or_max(file, value)?))]);
    let of_device = |name| {
        let device: DevNum = setting.key.as_deref().unwrap_or_default().parse().map_err(for_property(file))?;
        let number = number_or_max(file, value.trim_start_matches("target="))?;
        Ok(vec![(name, device_number(device, number))])
    };
    match file {
        "memory.max" => number("MemoryMax"),
        "memory.high" => number("MemoryHigh"),
        "memory.low" => number("MemoryLow"),
        "memory.min" => number("MemoryMin"),
        "memory.swap.max" => number("MemorySwapMax"),
        "memory.zswap.max" => number("MemoryZSwapMax"),
        "memory.zswap.writeback" => {
            let writeback: ZswapWriteback = value.parse().map_err(for_property(file))?;
            Ok(vec![("MemoryZSwapWriteback", (writeback == ZswapWriteback::Enabled).into())])
        }
        "pids.max" => number("TasksMax"),
        "cpu.weight" => number("CPUWeight"),
        // systemd calls it a weight of "idle", and on the bus 0.
        "cpu.idle" if value == "1" => Ok(vec![("CPUWeight", PropertyValue::U64(0))]),
        "cpu.max" => cpu_max(value),
        "cpuset.cpus" => {
            let list: CpuList = value.parse().map_err(for_property(file))?;
            Ok(vec![("AllowedCPUs", bits(file, list.iter())?)])
        }
        "cpuset.mems" => {
            let list: MemNodeList = value.parse().map_err(for_property(file))?;
            Ok(vec![("AllowedMemoryNodes", bits(file, list.iter())?)])
        }
        "io.weight" if setting.key.as_deref() == Some("default") => number("IOWeight"),
        "io.weight" => of_device("IODeviceWeight"),
        "io.latency" => of_device("IODeviceLatencyTargetUSec"),
        "io.max" => io_max(setting),
        _ => Ok(Vec::new()),
    }
}

fn for_property(file: &str) -> impl Fn(Error) -> Error + '_ {
    move |error| error.context(format!("the property for {file}"))
}

/// The greatest number is no limit.
fn number_or_max(file: &str, text: &str) -> Result<u64> {
    let number: Max<Bytes> = text.parse().map_err(for_property(file))?;
    Ok(match number {
        Max::Value(Bytes(number)) => number,
        Max::Max => u64::MAX,
    })
}

fn cpu_max(text: &str) -> Result<Vec<Property>> {
    let quota: Quota = text.parse().map_err(for_property("cpu.max"))?;
    let period = u128::from(quota.period_usec());
    let a_second = match quota.quota_usec() {
        Max::Max => u64::MAX,
        // Rounded up, so that what systemd makes of it for the period, rounding down, is the quota again.
        Max::Value(usec) => u64::try_from((u128::from(usec) * 1_000_000).div_ceil(period)).unwrap_or(u64::MAX),
    };
    let period = PropertyValue::U64(quota.period_usec());
    Ok(vec![("CPUQuotaPerSecUSec", PropertyValue::U64(a_second)), ("CPUQuotaPeriodUSec", period)])
}

fn io_max(setting: &Setting) -> Result<Vec<Property>> {
    let device: DevNum = setting.key.as_deref().unwrap_or_default().parse().map_err(for_property("io.max"))?;
    let IoMax { rbps, wbps, riops, wiops } = setting.value.parse().map_err(for_property("io.max"))?;
    let bytes = |limit: Option<Max<Bytes>>| limit.map(|limit| limit.value().map_or(u64::MAX, |bytes| bytes.0));
    let operations = |limit: Option<Max<u64>>| limit.map(|limit| limit.value().unwrap_or(u64::MAX));
    let all = [
        ("IOReadBandwidthMax", bytes(rbps)),
        ("IOWriteBandwidthMax", bytes(wbps)),
        ("IOReadIOPSMax", operations(riops)),
        ("IOWriteIOPSMax", operations(wiops)),
    ];
    Ok(all.into_iter().filter_map(|(name, number)| Some((name, device_number(device, number?)))).collect())
}

/// systemd wants a device node; these are there for every block device.
fn device_number(device: DevNum, number: u64) -> PropertyValue {
    PropertyValue::DeviceNumbers(vec![(format!("/dev/block/{device}"), number)])
}

/// Processors or memory nodes as bits, the least first.
fn bits(file: &str, numbers: impl Iterator<Item = u32>) -> Result<PropertyValue> {
    let mut bytes = Vec::new();
    for number in numbers {
        // More than any kernel can count, and than is to be put into a message.
        let number = u16::try_from(number).map_err(|_| {
            Error::invalid("set limits", "a number above 65535").on(Subject::Value(format!("{file} {number}")))
        })?;
        let (byte, bit) = (usize::from(number / 8), number % 8);
        if bytes.len() <= byte {
            bytes.resize(byte + 1, 0u8);
        }
        if let Some(byte) = bytes.get_mut(byte) {
            *byte |= 1 << bit;
        }
    }
    Ok(PropertyValue::Bytes(bytes))
}
