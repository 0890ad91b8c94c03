//! Which property of systemd a limit is.
//!
//! Every limit of [`Limits`] comes from its settings as a line of a file, and leaves here in one of three ways: as a
//! property; as nothing, because the group has it already; or as a refusal. None is left out.
#![forbid(unsafe_code)]

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        CpuBurst, CpuShare, HugePageSize, IoLatency, IoPriorityClass, IoWeight, NiceWeight, OomGroup, Partition,
        PidsMax, RdmaCount, RdmaLimit, ResourceName, SwapOnly, Uclamp, Unified, Weight,
    };
    use PropertyValue::{Bool, U64};

    const DISK: DevNum = DevNum { major: 8, minor: 16 };

    fn bytes(number: u64) -> Max<Bytes> {
        Max::Value(Bytes(number))
    }

    fn of_disk(number: u64) -> PropertyValue {
        PropertyValue::DeviceNumbers(vec![("/dev/block/8:16".to_owned(), number)])
    }

    fn parsed<T: std::str::FromStr<Err = Error>>(text: &str) -> T {
        text.parse().expect(text)
    }

    /// The files of the limits that are refused.
    fn refused(limits: &Limits) -> Vec<String> {
        let error = of_new(limits).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.hint().is_some(), "{error:?}");
        let files = std::iter::once(&error).chain(error.also()).map(|error| error.operation().to_owned());
        files.collect()
    }

    #[test]
    fn each_limit_that_is_a_property_set_and_lifted() {
        type Case = (fn(Limits, bool) -> Limits, Vec<Property>, Vec<Property>);
        let max = |name| vec![(name, U64(u64::MAX))];
        fn or_max<T>(lift: bool, value: T) -> Max<T> {
            if lift { Max::Max } else { Max::Value(value) }
        }
        fn disk(lift: bool, key: &str) -> IoMax {
            parsed(&format!("{key}={}", if lift { "max" } else { "9" }))
        }
        let cases: Vec<Case> = vec![
            (
                |all, lift| all.memory_min(bytes(if lift { 0 } else { 4096 })),
                vec![("MemoryMin", U64(4096))],
                vec![("MemoryMin", U64(0))],
            ),
            (
                |all, lift| all.memory_low(bytes(if lift { 0 } else { 4096 })),
                vec![("MemoryLow", U64(4096))],
                vec![("MemoryLow", U64(0))],
            ),
            (
                |all, lift| all.memory_high(or_max(lift, Bytes(4096))),
                vec![("MemoryHigh", U64(4096))],
                max("MemoryHigh"),
            ),
            (|all, lift| all.memory_max(or_max(lift, Bytes(4096))), vec![("MemoryMax", U64(4096))], max("MemoryMax")),
            (
                |all, lift| all.memory_swap_max(SwapOnly(or_max(lift, Bytes(0)))),
                vec![("MemorySwapMax", U64(0))],
                max("MemorySwapMax"),
            ),
            // Of a new unit, that is as it is: an older systemd does not know the name.
            (|all, lift| all.memory_zswap_max(or_max(lift, Bytes(0))), vec![("MemoryZSwapMax", U64(0))], vec![]),
            (
                |all, lift| {
                    all.memory_zswap_writeback(if lift { ZswapWriteback::Enabled } else { ZswapWriteback::Disabled })
                },
                vec![("MemoryZSwapWriteback", Bool(false))],
                vec![],
            ),
            (
                |all, lift| all.cpu_max(if lift { Quota::UNLIMITED } else { parsed("1000 3000") }),
                // What is made of it again is 333334 * 3000 / 1000000, rounded down.
                vec![("CPUQuotaPerSecUSec", U64(333_334)), ("CPUQuotaPeriodUSec", U64(3000))],
                vec![("CPUQuotaPerSecUSec", U64(u64::MAX)), ("CPUQuotaPeriodUSec", U64(100_000))],
            ),
            // Being idle is ended by any weight.
            (
                |all, lift| if lift { all.cpu_weight(parsed("100")) } else { all.cpu_idle() },
                vec![("CPUWeight", U64(0))],
                vec![("CPUWeight", U64(100))],
            ),
            (|all, lift| all.pids_max(or_max(lift, PidsMax::LEAST)), vec![("TasksMax", U64(1))], max("TasksMax")),
            (
                |all, lift| all.io_max(DISK, disk(lift, "rbps")),
                vec![("IOReadBandwidthMax", of_disk(9))],
                vec![("IOReadBandwidthMax", of_disk(u64::MAX))],
            ),
            (
                |all, lift| all.io_max(DISK, disk(lift, "wbps")),
                vec![("IOWriteBandwidthMax", of_disk(9))],
                vec![("IOWriteBandwidthMax", of_disk(u64::MAX))],
            ),
            (
                |all, lift| all.io_max(DISK, disk(lift, "riops")),
                vec![("IOReadIOPSMax", of_disk(9))],
                vec![("IOReadIOPSMax", of_disk(u64::MAX))],
            ),
            (
                |all, lift| all.io_max(DISK, disk(lift, "wiops")),
                vec![("IOWriteIOPSMax", of_disk(9))],
                vec![("IOWriteIOPSMax", of_disk(u64::MAX))],
            ),
            (
                |all, lift| all.io_weight(parsed(if lift { "100" } else { "7" })),
                vec![("IOWeight", U64(7))],
                vec![("IOWeight", U64(100))],
            ),
            (
                |all, lift| all.io_device_weight(DISK, parsed(if lift { "100" } else { "7" })),
                vec![("IODeviceWeight", of_disk(7))],
                vec![("IODeviceWeight", of_disk(100))],
            ),
            (
                |all, lift| all.io_latency(DISK, parsed(if lift { "target=max" } else { "target=75000" })),
                vec![("IODeviceLatencyTargetUSec", of_disk(75_000))],
                vec![("IODeviceLatencyTargetUSec", of_disk(u64::MAX))],
            ),
            (
                |all, lift| all.cpuset_cpus(parsed(if lift { "" } else { "0-2,9" })),
                vec![("AllowedCPUs", PropertyValue::Bytes(vec![0b111, 0b10]))],
                vec![("AllowedCPUs", PropertyValue::Bytes(vec![]))],
            ),
            (
                |all, lift| all.cpuset_mems(parsed(if lift { "" } else { "0" })),
                vec![("AllowedMemoryNodes", PropertyValue::Bytes(vec![1]))],
                vec![("AllowedMemoryNodes", PropertyValue::Bytes(vec![]))],
            ),
            (
                |all, lift| {
                    let text = if lift { "max" } else { "1M" };
                    all.unified(Unified::new().with("memory.high", text).expect("file"))
                },
                vec![("MemoryHigh", U64(1 << 20))],
                max("MemoryHigh"),
            ),
        ];
        for (limit, set, lifted) in cases {
            assert_eq!(of_new(&limit(Limits::new(), false)).expect("set"), set);
            assert_eq!(of_new(&limit(Limits::new(), true)).expect("lifted"), lifted);
        }
    }

    #[test]
    fn each_limit_that_is_no_property_is_refused_unless_it_is_so() {
        let two_mib = || parsed::<HugePageSize>("2MB");
        let name = || ResourceName::new("x").expect("name");
        let unified = |file: &str| Unified::new().with(file, "7").expect("file");
        for (file, limit, kernels_default) in [
            (
                "memory.swap.high",
                Limits::new().memory_swap_high(SwapOnly(bytes(0))),
                Some(Limits::new().memory_swap_high(SwapOnly(Max::Max))),
            ),
            (
                "memory.oom.group",
                Limits::new().memory_oom_group(OomGroup::KillAll),
                Some(Limits::new().memory_oom_group(OomGroup::KillOne)),
            ),
            ("cpu.max.burst", Limits::new().cpu_max_burst(parsed("5")), Some(Limits::new().cpu_max_burst(parsed("0")))),
            ("cpu.weight.nice", Limits::new().cpu_weight_nice(NiceWeight::LEAST), None),
            (
                "cpu.uclamp.min",
                Limits::new().cpu_uclamp_min(parsed("5")),
                Some(Limits::new().cpu_uclamp_min(parsed("0"))),
            ),
            (
                "cpu.uclamp.max",
                Limits::new().cpu_uclamp_max(parsed::<Uclamp>("5")),
                Some(Limits::new().cpu_uclamp_max(Max::Max)),
            ),
            (
                "io.prio.class",
                Limits::new().io_prio_class(IoPriorityClass::Idle),
                Some(Limits::new().io_prio_class(IoPriorityClass::NoChange)),
            ),
            (
                "cpuset.cpus.partition",
                Limits::new().cpuset_partition(Partition::Root),
                Some(Limits::new().cpuset_partition(Partition::Member)),
            ),
            (
                "hugetlb.2MB.max",
                Limits::new().hugetlb_max(two_mib(), Bytes(0)),
                Some(Limits::new().hugetlb_max(two_mib(), Max::Max)),
            ),
            (
                "hugetlb.2MB.rsvd.max",
                Limits::new().hugetlb_rsvd_max(two_mib(), Bytes(0)),
                Some(Limits::new().hugetlb_rsvd_max(two_mib(), Max::Max)),
            ),
            (
                "rdma.max",
                Limits::new().rdma_max(name(), parsed("hca_handle=1")),
                Some(Limits::new().rdma_max(name(), parsed("hca_handle=max"))),
            ),
            ("misc.max", Limits::new().misc_max(name(), 1), Some(Limits::new().misc_max(name(), Max::Max))),
            ("dmem.max", Limits::new().dmem_max(name(), Bytes(0)), Some(Limits::new().dmem_max(name(), Max::Max))),
            ("dmem.low", Limits::new().dmem_low(name(), Bytes(1)), Some(Limits::new().dmem_low(name(), Bytes(0)))),
            ("dmem.min", Limits::new().dmem_min(name(), Bytes(1)), Some(Limits::new().dmem_min(name(), Bytes(0)))),
            ("cgroup.max.depth", Limits::new().unified(unified("cgroup.max.depth")), None),
            ("new.file", Limits::new().unified(unified("new.file")), None),
        ] {
            assert_eq!(refused(&limit), [file]);
            if let Some(limits) = kernels_default {
                assert_eq!(of_new(&limits).expect(file), []);
            }
        }
    }

    #[test]
    fn no_field_is_left_out() {
        // Every field, so that one more does not compile until it is here.
        let limits = Limits {
            memory_min: Some(bytes(1)),
            memory_low: Some(bytes(1)),
            memory_high: Some(bytes(1)),
            memory_max: Some(bytes(1 << 20)),
            memory_below_usage: BelowUsage::ReclaimOrKill,
            memory_swap_high: Some(SwapOnly(bytes(1))),
            memory_swap_max: Some(SwapOnly(bytes(1))),
            memory_zswap_max: Some(bytes(1)),
            memory_zswap_writeback: Some(ZswapWriteback::Disabled),
            memory_oom_group: Some(OomGroup::KillAll),
            cpu_max: Some(parsed("1000")),
            cpu_max_burst: Some(parsed::<CpuBurst>("1")),
            cpu_share: Some(CpuShare::Weight(parsed::<Weight>("1"))),
            cpu_uclamp_min: Some(parsed("1")),
            cpu_uclamp_max: Some(Max::Value(parsed("1"))),
            pids_max: Some(Max::Value(PidsMax::LEAST)),
            io_max: [(DISK, parsed("rbps=2 wbps=2 riops=2 wiops=2"))].into(),
            io_weight: Some(IoWeight::LEAST),
            io_device_weight: [(DISK, IoWeight::LEAST)].into(),
            io_latency: [(DISK, parsed::<IoLatency>("target=1"))].into(),
            io_prio_class: Some(IoPriorityClass::Idle),
            cpuset_cpus: Some(parsed("0")),
            cpuset_mems: Some(parsed("0")),
            cpuset_partition: Some(Partition::Root),
            hugetlb_max: [(parsed("2MB"), bytes(0))].into(),
            hugetlb_rsvd_max: [(parsed("2MB"), bytes(0))].into(),
            rdma_max: [(parsed("x"), RdmaLimit { hca_handle: Some(RdmaCount::LEAST.into()), ..Default::default() })]
                .into(),
            misc_max: [(parsed("x"), Max::Value(1))].into(),
            dmem_max: [(parsed("x"), bytes(1))].into(),
            dmem_low: [(parsed("x"), bytes(1))].into(),
            dmem_min: [(parsed("x"), bytes(1))].into(),
            unified: Unified::new().with("new.file", "1").expect("file"),
        };
        let settings = limits.settings();
        let (carried, others): (Vec<_>, Vec<_>) =
            settings.iter().partition(|setting| !of_setting(setting).expect("a property or none").is_empty());
        let names = carried.iter().map(|setting| &*setting.file).collect::<Vec<_>>();
        assert_eq!(
            names,
            [
                "memory.min",
                "memory.low",
                "memory.high",
                "memory.max",
                "memory.swap.max",
                "memory.zswap.max",
                "memory.zswap.writeback",
                "cpu.weight",
                "cpu.max",
                "io.max",
                "io.weight",
                "io.weight",
                "io.latency",
                "pids.max",
                "cpuset.cpus",
                "cpuset.mems",
            ]
        );
        // Each of the others by name; that it is not idle, the weight says.
        let others: Vec<_> = others.iter().map(|setting| &*setting.file).filter(|file| *file != "cpu.idle").collect();
        assert_eq!(others.len(), 15);
        assert_eq!(refused(&limits), others);
    }

    #[test]
    fn values_are_checked_and_read() {
        for limits in [Limits::new().memory_max(Bytes(1)), Limits::new().io_max(DISK, parsed("rbps=0"))] {
            assert_eq!(of_new(&limits).expect_err("value").kind(), ErrorKind::Invalid);
        }
        for (file, text) in [
            ("io.max", "8:0 x=1"),
            ("io.max", "8 rbps=2"),
            ("cpuset.cpus", "a"),
            ("cpuset.cpus", "0-65536"),
            ("memory.high", "-1"),
            ("io.latency", "8:0 target=x"),
            ("memory.zswap.writeback", "2"),
        ] {
            let limits = Limits::new().unified(Unified::new().with(file, text).expect("file"));
            assert_eq!(of_new(&limits).expect_err(text).kind(), ErrorKind::Invalid, "{file} {text}");
        }
    }
}
