//! Limits changed while processes run under them.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cgroupfs::{
    BelowUsage, Bytes, CgroupName, DevNum, ErrorKind, IoMax, Limits, Max, PidsMax, Quota, SwapOnly, Unified, Weight,
};
use faultkit::{End, Failure, Fault, Sweep};

use super::{LIMIT, cat, group, killed, name, place, start_in, start_sleep_in, until};

/// The content of every file that holds a limit, by `cat`.
fn contents(group: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(group).expect("group").map(|entry| entry.expect("entry").file_name());
    let files = files.filter_map(|file| file.into_string().ok());
    let limits = |file: &String| {
        let counts =
            ["current", "events", "stat", "numa_stat", "local", "peak", "pressure", "effective", "procs", "threads"];
        let end = file.rsplit('.').next().unwrap_or_default().to_owned();
        group.join(file).is_file() && !counts.contains(&&*end) && !file.contains("reclaim") && !file.contains("kill")
    };
    files.filter(limits).map(|file| (file.clone(), cat(group, &file))).collect()
}

fn huge() -> cgroupfs::HugePageSize {
    "2MB".parse().expect("size")
}

#[test]
fn huge_pages_and_depth_up_and_down_and_back() {
    faultkit::require!(root, cgroup2("hugetlb"));
    faultkit::isolated!(|| {
        let start = Limits::new().hugetlb_max(huge(), Bytes::mib(8)).hugetlb_rsvd_max(huge(), Bytes::mib(4));
        let group = place().create(&name("huge"), &start, &mut ()).expect("create");
        let child = start_in(group.path(), "exec sleep 1000");
        let before = contents(group.path());
        assert_eq!(before["hugetlb.2MB.rsvd.max"], (4 << 20).to_string());

        let files = Unified::new().with("cgroup.max.depth", "7").expect("file");
        let limits = Limits::new()
            .hugetlb_max(huge(), Bytes(5_000_000))
            .hugetlb_rsvd_max(huge(), Max::Value(Bytes::mib(4)))
            .unified(files);
        let plan = group.describe_apply(&limits).expect("plan");
        let plan: Vec<_> = plan.iter().map(ToString::to_string).collect();
        assert_eq!(plan, [r#"write cgroup.max.depth("7")"#, r#"write hugetlb.2MB.max("5000000")"#]);
        assert_eq!(contents(group.path()), before);
        let applied = group.apply(&limits).expect("apply");
        assert_eq!(
            applied.to_string(),
            "cgroup.max.depth: max -> 7\n\
             hugetlb.2MB.rsvd.max: 4194304, as before\n\
             hugetlb.2MB.max: 8388608 -> 4194304 (asked for 5000000)"
        );
        assert_eq!(cat(group.path(), "hugetlb.2MB.max"), (4 << 20).to_string());
        assert_eq!(cat(group.path(), "cgroup.max.depth"), "7");
        assert!(group.apply(&limits).expect("again").is_unchanged());

        assert!(!applied.undo(&group).expect("undo").is_unchanged());
        assert_eq!(contents(group.path()), before);
        let other = super::group(&place(), "other");
        assert_eq!(applied.undo(&other).expect_err("another group").kind(), ErrorKind::Invalid);
        other.remove(LIMIT).expect("remove");
        group.remove(LIMIT).expect("remove");
        assert!(killed(child));
        assert_eq!(applied.undo(&super::group(&place(), "huge")).expect_err("made anew").kind(), ErrorKind::Invalid);
        place().hierarchy().open("/huge").expect("huge").remove(LIMIT).expect("remove");
    });
}

#[test]
fn a_refusal_in_the_middle_leaves_every_file_as_it_was() {
    faultkit::require!(root, cgroup2("hugetlb"));
    faultkit::isolated!(|| {
        let place = place();
        let group =
            place.create(&name("half"), &Limits::new().hugetlb_max(huge(), Bytes::mib(2)), &mut ()).expect("create");
        let child = start_in(group.path(), "exec sleep 1000");
        let before = contents(group.path());
        // Raised and written first, then the depth is refused.
        let files = Unified::new().with("cgroup.max.depth", "-5").expect("file");
        let limits = Limits::new().hugetlb_max(huge(), Bytes::mib(64)).unified(files);
        let error = group.apply(&limits).expect_err("refused");
        assert_eq!(error.operation(), "write cgroup.max.depth");
        assert!(error.also().is_empty(), "{error:#}");
        assert_eq!(contents(group.path()), before);

        // What is missing is told all at once, with nothing changed.
        let files = Unified::new().with("no.such", "1").and_then(|files| files.with("hugetlb.3MB.max", "1"));
        let limits = Limits::new().hugetlb_max(huge(), Bytes::mib(64)).unified(files.expect("files"));
        let error = group.apply(&limits).expect_err("missing");
        assert_eq!(error.also().len(), 1, "{error:#}");
        assert_eq!(contents(group.path()), before);

        let path = group.path().to_owned();
        group.raw("cgroup.kill").write("1").expect("kill");
        assert!(killed(child));
        until("empty", || cat(&path, "cgroup.events").contains("populated 0"));
        fs::remove_dir(&path).expect("rmdir");
        let limits = Limits::new().hugetlb_max(huge(), Bytes::mib(64));
        assert_eq!(group.apply(&limits).expect_err("gone").kind(), ErrorKind::Gone);
    });
}

#[test]
fn each_call_failing_once_undoes_and_a_kill_is_completed() {
    faultkit::require!(root, cgroup2("hugetlb"));
    faultkit::isolated!(limit_secs = 300, || {
        let group = group(&place(), "swept");
        let to = |max: u64, depth: &str| {
            let files = Unified::new().with("cgroup.max.depth", depth).expect("file");
            Limits::new().hugetlb_max(huge(), Bytes::mib(max)).hugetlb_rsvd_max(huge(), Bytes::mib(2)).unified(files)
        };
        let from = to(4, "9");
        drop(group.apply(&from).expect("apply"));
        let before = contents(group.path());
        let wanted = to(16, "3");
        let sweep = Sweep::new(|counted| {
            let applied = counted.run(|| group.apply(&wanted));
            let answer = applied
                .map(|_| ())
                .map_err(|error| Failure::new(error.operation(), error.raw_os_error(), format!("{error:#}")));
            if answer.is_err() {
                assert_eq!(contents(group.path()), before);
            }
            drop(group.apply(&from).expect("back"));
            answer
        })
        .recover(|| {
            // Whatever is half done: the same again completes it, and the old ones bring it back.
            drop(group.apply(&wanted).expect("completed"));
            assert_eq!(cat(group.path(), "hugetlb.2MB.max"), (16 << 20).to_string());
            assert_eq!(cat(group.path(), "cgroup.max.depth"), "3");
            drop(group.apply(&from).expect("back"));
            assert_eq!(contents(group.path()), before);
        });
        let swept = sweep.each(Fault::Fail(libc::EMFILE), |run| match &run.end {
            End::Returned(Err(failure)) if failure.errno == Some(libc::EMFILE) => Ok(()),
            // A close that fails has closed.
            End::Returned(Ok(())) if run.call.name == "close" => Ok(()),
            other => Err(format!("{other:?}")),
        });
        println!("{swept:?}");
        sweep.each(Fault::KillCaller, |run| match run.end {
            End::Killed => Ok(()),
            ref other => Err(format!("{other:?}")),
        });
        drop(sweep);
        group.remove(LIMIT).expect("remove");
    });
}

#[test]
fn each_call_failing_once_undoes_memory_and_cpu() {
    faultkit::require!(root, cgroup2("memory"), cgroup2("cpu"), cgroup2("pids"));
    faultkit::isolated!(limit_secs = 300, || {
        let burst = |usec| std::time::Duration::from_micros(usec).try_into().expect("burst");
        let to = |mib: u64, quota: &str, saved: u64| {
            Limits::new()
                .memory_max(Bytes::mib(mib))
                .memory_high(Bytes::mib(mib / 2))
                .memory_swap_max(SwapOnly(Max::Value(Bytes::mib(100 - mib))))
                .cpu_max(quota.parse::<Quota>().expect("quota"))
                .cpu_max_burst(burst(saved))
                .pids_max(PidsMax::try_from(200 - mib).expect("pids"))
        };
        // Some go up and some go down, and the burst is more than the old quota has room for.
        let (from, wanted) = (to(32, "20000 100000", 10_000), to(64, "60000 100000", 50_000));
        let group = place().create(&name("swept"), &from, &mut ()).expect("create");
        let child = start_sleep_in(group.path());
        let before = contents(group.path());
        let sweep = Sweep::new(|counted| {
            let applied = counted.run(|| group.apply(&wanted));
            if applied.is_err() {
                assert_eq!(contents(group.path()), before);
            }
            drop(group.apply(&from).expect("back"));
            assert_eq!(contents(group.path()), before);
            applied
                .map(drop)
                .map_err(|error| Failure::new(error.operation(), error.raw_os_error(), format!("{error:#}")))
        })
        .recover(|| drop(group.apply(&from).expect("back")))
        // Only an emulated machine has these controllers here, and there each run takes seconds. Every call is swept with
        // huge pages, above.
        .stride(8);
        let swept = sweep.each(Fault::Fail(libc::ENOMEM), |run| match &run.end {
            End::Returned(Err(failure)) if failure.errno == Some(libc::ENOMEM) => Ok(()),
            End::Returned(Ok(())) if run.call.name == "close" => Ok(()),
            other => Err(format!("{other:?}")),
        });
        assert!(swept.runs >= 4, "{swept:?}");
        drop(sweep);
        group.remove(LIMIT).expect("remove");
        assert!(killed(child));
    });
}

#[test]
fn memory_and_all_else_of_a_full_group() {
    faultkit::require!(root, cgroup2("memory"), cgroup2("cpu"), cgroup2("pids"), cgroup2("cpuset"), cgroup2("io"));
    faultkit::isolated!(|| {
        let place = place();
        let start = Limits::new()
            .memory_max(Bytes::mib(64))
            .cpu_max("20000 100000".parse::<Quota>().expect("quota"))
            .cpu_weight(Weight::try_from(50).expect("weight"))
            .cpuset_cpus("0".parse().expect("list"))
            .cpuset_mems("0".parse().expect("list"))
            .pids_max(PidsMax::try_from(20).expect("pids"));
        let group = place.create(&name("full"), &start, &mut ()).expect("create");
        let child = start_in(group.path(), "exec sleep 1000");
        let before = contents(group.path());

        let burst = |usec| std::time::Duration::from_micros(usec).try_into().expect("burst");
        let up = Limits::new()
            .memory_max(Bytes::mib(128))
            .memory_high(Bytes::mib(96))
            .memory_low(Bytes::mib(1))
            .memory_swap_max(SwapOnly(Max::Value(Bytes::mib(10))))
            .cpu_max("60000 100000".parse::<Quota>().expect("quota"))
            .cpu_max_burst(burst(40_000))
            .cpu_idle()
            .pids_max(PidsMax::LEAST);
        let applied = group.apply(&up).expect("up");
        println!("{applied}");
        for (file, value) in [
            ("memory.max", (128 << 20).to_string()),
            ("memory.high", (96 << 20).to_string()),
            ("memory.low", (1 << 20).to_string()),
            ("memory.swap.max", (10 << 20).to_string()),
            ("cpu.max", "60000 100000".to_owned()),
            ("cpu.max.burst", "40000".to_owned()),
            ("cpu.idle", "1".to_owned()),
            ("pids.max", "1".to_owned()),
        ] {
            assert_eq!(cat(group.path(), file), value, "{file}");
        }
        let undone = applied.undo(&group).expect("undo");
        assert_eq!(contents(group.path()), before);
        drop(undone.undo(&group).expect("redo"));
        assert_eq!(cat(group.path(), "cpu.idle"), "1");
        // From idle, with a failure after it: the weight of before comes back with it.
        let error = group.apply(&start.clone().cpuset_cpus("4000".parse().expect("list"))).expect_err("no processor");
        assert!(error.also().is_empty(), "{error:#}");
        assert_eq!(cat(group.path(), "cpu.idle"), "1");
        drop(applied.undo(&group).expect("undo again"));
        assert_eq!(contents(group.path()), before);

        // A disk that is none, and a processor that is none, in the middle of many.
        let none = DevNum { major: 4000, minor: 77 };
        let limit = IoMax { rbps: Some(Bytes::mib(1).into()), ..IoMax::default() };
        let error = group.apply(&up.clone().io_max(none, limit)).expect_err("no disk");
        assert_eq!((error.operation(), error.raw_os_error()), ("write io.max", Some(libc::ENODEV)));
        assert_eq!(contents(group.path()), before);
        let error = group.apply(&up.clone().cpuset_cpus("4000".parse().expect("list"))).expect_err("no processor");
        assert_eq!(error.operation(), "write cpuset.cpus");
        assert!(error.also().is_empty(), "{error:#}");
        assert_eq!(contents(group.path()), before);
        let outside = Limits::new().cpuset_cpus("0,4000".parse().expect("list")).check(&place).expect_err("outside");
        assert!(outside.to_string().contains("the group above has only"), "{outside}");

        group.remove(LIMIT).expect("remove");
        assert!(killed(child));
    });
}

#[test]
fn less_memory_than_is_used_is_refused_or_kills() {
    faultkit::require!(root, cgroup2("memory"));
    faultkit::isolated!(|| {
        let limits = Limits::new().memory_max(Bytes::mib(96)).memory_swap_max(SwapOnly(Max::Value(Bytes(0))));
        let group = place().create(&CgroupName::new("used").expect("name"), &limits, &mut ()).expect("create");
        // dd has read 20 MiB and waits for somebody to take them.
        let child = start_in(group.path(), "dd if=/dev/zero bs=20M count=1 2>/dev/null | sleep 1000");
        let usage = || cat(group.path(), "memory.current").parse::<u64>().expect("number");
        until("it holds memory", || usage() > 18 << 20);
        let before = contents(group.path());
        let less = Limits::new().memory_max(Bytes::mib(8));
        let error = group.apply(&less).expect_err("in use");
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Invalid, "write memory.max"));
        assert!(error.to_string().contains("in use") && error.hint().is_some(), "{error:#}");
        assert_eq!(contents(group.path()), before);
        drop(group.apply(&less.memory_below_usage(BelowUsage::ReclaimOrKill)).expect("kills"));
        assert_eq!(cat(group.path(), "memory.max"), (8 << 20).to_string());
        until("killed", || !cat(group.path(), "memory.events").contains("oom_kill 0"));
        group.remove(LIMIT).expect("remove");
        assert!(killed(child));
        // Its sleep.
        faultkit::reap_orphans();
    });
}
