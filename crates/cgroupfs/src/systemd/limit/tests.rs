//! Each limit as a property, as nothing, or refused.
#![forbid(unsafe_code)]

use super::*;
use crate::{
    CpuBurst, CpuShare, HugePageSize, IoLatency, IoPriorityClass, IoWeight, NiceWeight, OomGroup, Partition, PidsMax,
    RdmaCount, RdmaLimit, ResourceName, SwapOnly, Uclamp, Unified, Weight,
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
        (|all, lift| all.memory_high(or_max(lift, Bytes(4096))), vec![("MemoryHigh", U64(4096))], max("MemoryHigh")),
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
        ("cpu.uclamp.min", Limits::new().cpu_uclamp_min(parsed("5")), Some(Limits::new().cpu_uclamp_min(parsed("0")))),
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
        rdma_max: [(parsed("x"), RdmaLimit { hca_handle: Some(RdmaCount::LEAST.into()), ..Default::default() })].into(),
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
