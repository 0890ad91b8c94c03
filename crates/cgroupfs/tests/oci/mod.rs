//! Configurations as engines write them, and what comes of them.
#![forbid(unsafe_code)]

use cgroupfs::oci::{OciResources, SharesFormula};
use cgroupfs::{BelowUsage, CpuShare, ErrorKind, Max};
use oci_spec::runtime::LinuxResources;
use proptest::prelude::*;
use serde_json::{Value, json};

fn convert(text: &str) -> OciResources {
    let resources: LinuxResources = serde_json::from_str(text).expect("resources");
    OciResources::new(&resources).expect("converted")
}

fn refused(value: Value) -> cgroupfs::Error {
    let resources: LinuxResources = serde_json::from_value(value).expect("resources");
    OciResources::new(&resources).expect_err("refused")
}

fn writes(converted: &OciResources) -> Vec<String> {
    converted.limits.describe().iter().map(|step| step.to_string().replacen("write ", "", 1)).collect()
}

#[test]
fn of_podman() {
    let converted = convert(include_str!("configs/podman.json"));
    assert_eq!(
        writes(&converted),
        [
            r#"io.max("8:0 rbps=1048576 wiops=120")"#,
            r#"io.weight("8:0 10000")"#,
            r#"io.weight("default 4950")"#,
            r#"cpu.weight("77")"#,
            r#"cpu.max("50000 100000")"#,
            r#"memory.oom.group("1")"#,
            r#"cpuset.mems("0")"#,
            r#"cpuset.cpus("0-1")"#,
            r#"pids.max("2048")"#,
            r#"hugetlb.2MB.rsvd.max("4194304")"#,
            r#"hugetlb.2MB.max("4194304")"#,
            r#"memory.low("134217728")"#,
            r#"memory.swap.max("268435456")"#,
            r#"memory.high("200M")"#,
            r#"memory.max("268435456")"#,
        ]
    );
    let devices = converted.devices.expect("devices").to_string();
    assert_eq!(devices, "deny a *:* rwm\nallow c 1:3 rwm\nallow c 136:* rw\n");
    assert!(converted.omitted.is_empty());
    assert_eq!(converted.limits.memory_below_usage, BelowUsage::ReclaimOrKill);
}

#[test]
fn of_docker() {
    let converted = convert(include_str!("configs/docker.json"));
    assert_eq!(writes(&converted), [r#"cpu.weight("1")"#, r#"memory.swap.max("0")"#, r#"memory.max("67108864")"#]);
    assert_eq!(converted.limits.pids_max, Some(Max::Max));
    let omitted: Vec<_> = converted.omitted.iter().map(|omitted| omitted.field).collect();
    assert_eq!(omitted, ["memory.swappiness", "memory.disableOOMKiller"]);
}

#[test]
fn of_containerd() {
    let converted = convert(include_str!("configs/containerd.json"));
    assert_eq!(
        writes(&converted),
        [
            r#"rdma.max("mlx5_1 hca_handle=3 hca_object=10000")"#,
            r#"cpu.idle("1")"#,
            r#"cpu.max("max 50000")"#,
            r#"pids.max("1")"#
        ]
    );
    // Unlimited memory takes unlimited swap with it.
    assert_eq!(converted.limits.memory_swap_max.map(|swap| swap.0), Some(Max::Max));
    assert_eq!(converted.limits.memory_below_usage, BelowUsage::Refuse);
    let omitted: Vec<_> = converted.omitted.iter().map(|omitted| omitted.field).collect();
    assert_eq!(omitted, ["memory.kernel", "cpu.shares"]);
}

#[test]
fn the_older_formula_by_name() {
    let resources: LinuxResources = serde_json::from_value(json!({ "cpu": { "shares": 1024 } })).expect("resources");
    for (formula, weight) in [(SharesFormula::Quadratic, 100), (SharesFormula::Linear, 39)] {
        match OciResources::with_shares(&resources, formula).expect("converted").limits.cpu_share {
            Some(CpuShare::Weight(found)) => assert_eq!(found.get(), weight),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_refused_by_name() {
    for (value, field, kind) in [
        (json!({ "cpu": { "realtimeRuntime": 950_000 } }), "cpu.realtimeRuntime", ErrorKind::Unsupported),
        (json!({ "cpu": { "realtimePeriod": 1_000_000 } }), "cpu.realtimePeriod", ErrorKind::Unsupported),
        (json!({ "blockIO": { "leafWeight": 10 } }), "blockIO.leafWeight", ErrorKind::Unsupported),
        (json!({ "network": { "classID": 1_048_577 } }), "network.classID", ErrorKind::Unsupported),
        (
            json!({ "network": { "priorities": [{ "name": "eth0", "priority": 5 }] } }),
            "network.priorities",
            ErrorKind::Unsupported,
        ),
        (json!({ "memory": { "swap": 1000 } }), "memory and swap together", ErrorKind::Invalid),
        (json!({ "memory": { "limit": 2000, "swap": 1000 } }), "memory and swap together", ErrorKind::Invalid),
        (json!({ "memory": { "limit": -2 } }), "memory.limit", ErrorKind::Invalid),
        (json!({ "cpu": { "idle": 2 } }), "cpu.idle", ErrorKind::Invalid),
        (json!({ "blockIO": { "weight": 9 } }), "blockIO.weight", ErrorKind::Invalid),
        (json!({ "unified": { "cgroup.procs": "1" } }), "unified", ErrorKind::Invalid),
        (json!({ "devices": [{ "allow": true }] }), "devices", ErrorKind::Invalid),
        (json!({ "devices": [{ "allow": true, "major": -7, "access": "r" }] }), "devices", ErrorKind::Invalid),
    ] {
        let error = refused(value);
        assert_eq!((error.operation(), error.kind()), (field, kind), "{error}");
    }
    let both = refused(json!({ "cpu": { "realtimeRuntime": 1 }, "network": { "classID": 1 } }));
    assert_eq!(both.also().len(), 1, "{both:#}");
}

proptest! {
    #[test]
    fn no_numbers_and_no_text_panic(
        number: i64, other: i64, count: u64, weight: u16, cpus in "\\PC{0,8}", file in "[a-z./]{0,12}", text in "\\PC{0,8}",
    ) {
        let rate = json!([{ "major": number, "minor": other, "rate": count, "weight": weight }]);
        let resources: LinuxResources = serde_json::from_value(json!({
            "devices": [{ "allow": number > 0, "major": number, "minor": other, "access": cpus }],
            "memory": { "limit": number, "swap": other, "reservation": other, "swappiness": count },
            "cpu": { "shares": count, "quota": number, "period": count, "burst": count, "cpus": cpus, "mems": text },
            "pids": { "limit": number },
            "blockIO": { "weight": weight, "weightDevice": rate, "throttleReadBpsDevice": rate },
            "hugepageLimits": [{ "pageSize": cpus, "limit": number }],
            "rdma": { text.clone(): { "hcaHandles": weight } },
            "unified": { file: text },
        }))
        .expect("resources");
        if let Ok(converted) = OciResources::new(&resources) {
            let _ = (converted.limits.check_values(), converted.limits.describe());
        }
        // Part by part, for one refusal hides the rest.
        let mut one = LinuxResources::default();
        one.set_cpu(resources.cpu().clone());
        let _ = OciResources::new(&one).map(|converted| converted.limits.describe());
        let mut one = LinuxResources::default();
        one.set_memory(*resources.memory());
        let _ = OciResources::new(&one).map(|converted| converted.limits.describe());
    }
}
