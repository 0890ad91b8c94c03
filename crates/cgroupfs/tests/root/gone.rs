#![forbid(unsafe_code)]

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use cgroupfs::{
    Bytes, Cgroup, Controller, Depth, DescendantCount, ErrorKind, Hierarchy, Limits, Max, PressureAccounting,
    PsiResource, PsiThreshold, PsiTrigger, Result, StatsParts, StatsReader, StatsTree, Unified, Watch,
};

use super::{LIMIT, name, place};

type Operation = (&'static str, fn(&Cgroup, &Hierarchy) -> Result<()>);

/// Every operation on a group itself, and of each controller one that reads and one that writes: the others go through the
/// same two functions. Device programs have a test of their own.
const OPERATIONS: &[Operation] = &[
    ("procs", |group, _| group.procs().map(drop)),
    ("threads", |group, _| group.threads().map(drop)),
    ("events", |group, _| group.events().map(drop)),
    ("stat", |group, _| group.stat().map(drop)),
    ("stat_local", |group, _| group.stat_local().map(drop)),
    ("controllers", |group, _| group.controllers().map(drop)),
    ("subtree_control", |group, _| group.subtree_control().map(drop)),
    ("enable", |group, _| group.enable(Controller::Hugetlb)),
    ("disable", |group, _| group.disable(Controller::Hugetlb)),
    ("create_child", |group, _| group.create_child(&name("x")).map(drop)),
    ("create_or_share_child", |group, _| group.create_or_share_child(&name("x")).map(drop)),
    ("create_nested", |group, _| group.create_nested(&[name("x"), name("y")]).map(drop)),
    ("open_child", |group, _| group.open_child("x").map(drop)),
    ("children", |group, _| match group.children() {
        // The kernel lets a directory that is removed be listed: there is nothing in it.
        Ok(children) if children.is_empty() => group.procs().map(drop),
        other => other.map(drop),
    }),
    ("cgroup_type", |group, _| group.cgroup_type().map(drop)),
    ("make_threaded", |group, _| group.make_threaded()),
    ("attach_self", |group, _| group.attach_self()),
    ("attach_pid", |group, _| group.attach_pid(std::process::id() as i32)),
    ("attach", |group, _| group.attach(cellkit_core::sys::pidfd_open(std::process::id() as i32).expect("pidfd"))),
    ("attach_this_thread", |group, _| group.attach_this_thread()),
    ("evacuate", |group, hierarchy| hierarchy.open("/")?.evacuate(group)),
    ("freeze", |group, _| group.freeze(LIMIT).map(drop)),
    ("is_told_to_freeze", |group, _| group.is_told_to_freeze().map(drop)),
    ("thaw", |group, _| group.thaw(LIMIT)),
    ("max_depth", |group, _| group.max_depth().map(drop)),
    ("set_max_depth", |group, _| group.set_max_depth(Depth::MOST)),
    ("max_descendants", |group, _| group.max_descendants().map(drop)),
    ("set_max_descendants", |group, _| group.set_max_descendants(Max::Value(DescendantCount::MOST))),
    ("pressure_accounting", |group, _| group.pressure_accounting().map(drop)),
    ("set_pressure_accounting", |group, _| group.set_pressure_accounting(PressureAccounting::On)),
    ("delegate", |group, _| group.delegate(12345, 12345).map(drop)),
    ("memory", |group, _| group.memory().max().map(drop)),
    ("set memory", |group, _| group.memory().set_max(Bytes::gib(1))),
    ("watch_peak", |group, _| group.memory().watch_peak().map(drop)),
    ("reclaim", |group, _| group.memory().reclaim(Bytes::mib(1)).map(drop)),
    ("cpu", |group, _| group.cpu().stat().map(drop)),
    ("set cpu", |group, _| group.cpu().set_weight(cgroupfs::Weight::LEAST)),
    ("cpuset", |group, _| group.cpuset().cpus_effective().map(drop)),
    ("set cpuset", |group, _| group.cpuset().set_cpus(&"0".parse().expect("list"))),
    ("io", |group, _| group.io().stat().map(drop)),
    ("set io", |group, _| group.io().set_weight(cgroupfs::IoWeight::LEAST)),
    ("pids", |group, _| group.pids().events().map(drop)),
    ("set pids", |group, _| group.pids().set_max(Max::Max)),
    ("hugetlb", |group, _| group.hugetlb("2MB".parse().expect("size")).current().map(drop)),
    ("set hugetlb", |group, _| group.hugetlb("2MB".parse().expect("size")).set_max(Bytes::mib(8))),
    ("hugetlb_sizes", |group, _| match group.hugetlb_sizes() {
        // As with the groups in it.
        Ok(sizes) if sizes.is_empty() => group.procs().map(drop),
        other => other.map(drop),
    }),
    ("rdma", |group, _| group.rdma().current().map(drop)),
    ("misc", |group, _| group.misc().events().map(drop)),
    ("dmem", |group, _| group.dmem().current().map(drop)),
    ("pressure", |group, _| group.pressure().cpu().map(drop)),
    ("raw", |group, _| group.raw("cgroup.freeze").write("0")),
    ("describe_apply", |group, _| group.describe_apply(&deeper()).map(drop)),
    ("apply", |group, _| group.apply(&deeper()).map(drop)),
    ("stats", |group, _| group.stats(StatsParts::ALL).map(drop)),
    ("StatsReader", |group, _| StatsReader::new(group, StatsParts::ALL)?.read().map(drop)),
    ("StatsTree", |group, _| StatsTree::new(group, StatsParts::ALL)?.read().map(drop)),
    ("Watch", |group, _| Watch::new()?.add(group).map(drop)),
    ("PsiTrigger", |group, _| {
        let threshold = PsiThreshold::some(std::time::Duration::from_millis(150));
        PsiTrigger::new(group, PsiResource::Cpu, threshold).map(drop)
    }),
];

fn deeper() -> Limits {
    Limits::new().unified(Unified::new().with("cgroup.max.depth", "9").expect("file"))
}

/// Nothing to do is success for a group that is not there.
const NOTHING_TO_DO: &[Operation] = &[("kill", |group, _| group.kill())];

#[test]
fn everything_about_a_removed_group() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let group = place.group().create_child(&name("short")).expect("create");
        let id = group.id().expect("id");
        fs::remove_dir(group.path()).expect("rmdir");
        for (operation, run) in OPERATIONS {
            // Evacuating goes by the group above, where the test is not.
            if *operation == "evacuate" {
                continue;
            }
            let outcome = run(&group, place.hierarchy()).expect_err(operation);
            assert_eq!(outcome.kind(), ErrorKind::Gone, "{operation}: {outcome:#}");
        }
        for (operation, run) in NOTHING_TO_DO {
            run(&group, place.hierarchy()).expect(operation);
        }
        let why_not = group.why_not(Controller::Hugetlb).expect("gone");
        assert!(why_not.to_string().contains("cannot be found out"), "{why_not}");
        assert_eq!(group.id().expect("kept"), id);
        let own = place.hierarchy().own_group().expect("own");
        let error = own.evacuate(&group).expect_err("gone, and not below");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        group.remove(LIMIT).expect("nothing to remove");
    });
}

#[test]
fn removed_under_every_operation() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let path = place.group().path().join("flickers");
        let skipped = ["attach_self", "attach_pid", "attach", "attach_this_thread", "evacuate", "make_threaded"];
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = fs::create_dir(&path);
                    std::thread::yield_now();
                    let _ = fs::remove_dir(path.join("x/y"));
                    let _ = fs::remove_dir(path.join("x"));
                    let _ = fs::remove_dir(&path);
                }
            });
            let mut met = [0, 0];
            for _ in 0..40 {
                for (operation, run) in OPERATIONS.iter().chain(NOTHING_TO_DO) {
                    // Those would keep it from being removed, or change it for good.
                    if skipped.contains(operation) {
                        continue;
                    }
                    let group = loop {
                        match Cgroup::open(&path) {
                            Ok(group) => break group,
                            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error:#}"),
                        }
                    };
                    match run(&group, place.hierarchy()) {
                        Ok(()) => met[0] += 1,
                        Err(error) => {
                            let kind = error.kind();
                            let expected = [ErrorKind::Gone, ErrorKind::Unsupported].contains(&kind)
                                // What is below vanishes by itself.
                                || (kind == ErrorKind::NotFound && error.operation() == "openat2")
                                || (kind == ErrorKind::NotFound && error.to_string().contains("subtree_control"))
                                || (kind == ErrorKind::AlreadyExists && operation.starts_with("create"));
                            assert!(expected, "{operation}: {error:#}");
                            met[1] += 1;
                        }
                    }
                }
            }
            done.store(true, Ordering::Relaxed);
            assert!(met[0] > 0 && met[1] > 0, "{met:?}");
        });
        if path.exists() {
            Cgroup::open(&path).expect("open").remove(LIMIT).expect("remove");
        }
    });
}
