//! Control groups by other crates, each as its documentation has it: a worker of `cargo xtask bench cgroup`.
//!
//! | request | answer |
//! |---|---|
//! | `limits hugetlb` | `ok`: from now on, groups have that limit only |
//! | `make WAY GROUP PID` | nanoseconds for a group with limits and the process in it |
//! | `begin WAY GROUP` | nanoseconds for a group with limits and a process started and put into it, and its number |
//! | `end` | `ok`: that process is dead |
//! | `remove` | nanoseconds for removing that group, which is empty by then |
//! | `open WAY PARENT N` | `ok`: takes the groups 0 to N-1 below PARENT to be read |
//! | `stats` | nanoseconds for the statistics of all of them |
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use cgroups_rs::fs::cgroup_builder::CgroupBuilder;
use cgroups_rs::fs::{Cgroup, MaxValue, hierarchies};
use cgroups_rs::{CgroupPid, FsManager, Manager as _};
use libcgroups::common::{CgroupManager, ControllerOpt, DEFAULT_CGROUP_ROOT};
use libcgroups::v2::manager::Manager;
use oci_spec::runtime::LinuxResources;

/// What is left to do with a group that was made, or with those to be read.
type Then = Box<dyn FnMut()>;

/// 512 MiB of memory, 256 MiB of swap beside it, half a processor, 64 tasks.
const LIMITS: &str = r#"{
    "memory": { "limit": 536870912, "swap": 805306368 },
    "cpu": { "quota": 50000, "period": 100000 },
    "pids": { "limit": 64 }
}"#;
const HUGETLB: &str = r#"{ "hugepageLimits": [{ "pageSize": "2MB", "limit": 4194304 }] }"#;

fn main() {
    let mut limits: LinuxResources = serde_json::from_str(LIMITS).expect("limits");
    let (mut remove, mut stats): (Then, Then) = (Box::new(|| {}), Box::new(|| {}));
    let mut child = None;
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a request");
        let words: Vec<&str> = line.split(' ').collect();
        let begun = Instant::now();
        let mut answer = None;
        match words.as_slice() {
            ["limits", "hugetlb"] => {
                limits = serde_json::from_str(HUGETLB).expect("limits");
                answer = Some("ok".to_owned());
            }
            ["make", way, group, pid] => remove = make(way, group, number(pid), &limits),
            ["begin", way, group] => {
                let started = Command::new("sleep").arg("1000").spawn().expect("start");
                let pid = started.id();
                child = Some(started);
                remove = make(way, group, pid.into(), &limits);
                answer = Some(format!("{} {pid}", begun.elapsed().as_nanos()));
            }
            ["end"] => {
                let mut child = child.take().expect("a process");
                child.kill().and_then(|()| child.wait()).expect("end");
                answer = Some("ok".to_owned());
            }
            ["remove"] => remove(),
            ["open", way, parent, count] => {
                stats = open(way, parent, number(count));
                answer = Some("ok".to_owned());
            }
            ["stats"] => stats(),
            _ => panic!("what is {line:?}?"),
        }
        let answer = answer.unwrap_or_else(|| begun.elapsed().as_nanos().to_string());
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}").and_then(|()| out.flush()).expect("an answer");
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

fn make(way: &str, group: &str, pid: u64, limits: &LinuxResources) -> Then {
    match way {
        "cgroups-rs-builder" if limits.hugepage_limits().is_some() => build_hugetlb(group, pid),
        "cgroups-rs-builder" => build(group, pid),
        "cgroups-rs" => manage(group, pid, limits),
        "libcgroups" => apply(group, pid, limits),
        _ => panic!("what is {way}?"),
    }
}

/// The builder that the crate's front page shows.
fn build(group: &str, pid: u64) -> Then {
    let made = CgroupBuilder::new(group)
        .memory()
        .memory_hard_limit(512 << 20)
        .memory_swap_limit(256 << 20)
        .done()
        .cpu()
        .quota(50_000)
        .period(100_000)
        .done()
        .pid()
        .maximum_number_of_processes(MaxValue::Value(64))
        .done()
        .build(hierarchies::auto())
        .expect("build");
    put(&made, pid);
    Box::new(move || made.delete().expect("delete"))
}

fn build_hugetlb(group: &str, pid: u64) -> Then {
    let builder = CgroupBuilder::new(group).hugepages().limit("2MB".to_owned(), 4 << 20).done();
    let made = builder.build(hierarchies::auto()).expect("build");
    put(&made, pid);
    Box::new(move || made.delete().expect("delete"))
}

fn put(made: &Cgroup, pid: u64) {
    made.add_task_by_tgid(CgroupPid::from(pid)).expect("add");
}

/// The manager for OCI runtimes.
fn manage(group: &str, pid: u64, limits: &LinuxResources) -> Then {
    let mut manager = FsManager::new(group).expect("manager");
    manager.add_proc(CgroupPid::from(pid)).expect("add");
    manager.set(limits).expect("set");
    Box::new(move || manager.destroy().expect("destroy"))
}

fn apply(group: &str, pid: u64, limits: &LinuxResources) -> Then {
    let manager = Manager::new(PathBuf::from(DEFAULT_CGROUP_ROOT), PathBuf::from(group)).expect("manager");
    manager.add_task(nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a process"))).expect("add");
    let options =
        ControllerOpt { resources: limits, disable_oom_killer: false, oom_score_adj: None, freezer_state: None };
    manager.apply(&options).expect("apply");
    Box::new(move || manager.remove().expect("remove"))
}

fn open(way: &str, parent: &str, count: u64) -> Then {
    let groups = (0..count).map(|number| format!("{parent}/{number}"));
    match way {
        "cgroups-rs" => {
            let managers: Vec<FsManager> = groups.map(|group| FsManager::new(&group).expect("manager")).collect();
            Box::new(move || managers.iter().for_each(|manager| drop(black_box(manager.stats()))))
        }
        "libcgroups" => {
            let root = || PathBuf::from(DEFAULT_CGROUP_ROOT);
            let managers: Vec<Manager> =
                groups.map(|group| Manager::new(root(), PathBuf::from(group)).expect("manager")).collect();
            Box::new(move || managers.iter().for_each(|manager| drop(black_box(manager.stats().expect("stats")))))
        }
        _ => panic!("what is {way}?"),
    }
}
