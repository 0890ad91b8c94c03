//! Every file that this kernel has in a group is read by its typed accessor, and held against what `cat` shows.
//!
//! In a new group nothing moves, so the text of the accessor's value must be the file's. At the root of the hierarchy
//! the machine's counters run on between the two readings, so there the numbers are taken out of both. A file that no
//! accessor is named for fails the test, and an accessor whose file is not there must say so.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs;

use cgroupfs::{Cgroup, DevNum, ErrorKind, Hierarchy, HugePageSize, IoStat, PerDevice, Result};

use super::{LIMIT, cat, group, place};

/// Files that cannot be read. What their accessors write is seen in the tests of killing and of memory.
const WRITTEN_ONLY: &[&str] = &["cgroup.kill", "memory.reclaim"];

/// Files that have no accessor, and why.
const WITHOUT: &[(&str, &str)] = &[];

/// Reads a file by its accessor, and answers what its value prints.
type Read = Box<dyn Fn(&Cgroup) -> Result<String>>;

fn shown<T: Display>(value: Result<T>) -> Result<String> {
    value.map(|value| value.to_string())
}

macro_rules! readers {
    ($($file:literal => |$group:ident| $read:expr,)+) => {
        vec![$(($file.to_owned(), Box::new(|$group: &Cgroup| shown($read)) as Read),)+]
    };
}

/// The accessor of each file.
fn accessors(sizes: &[HugePageSize]) -> BTreeMap<String, Read> {
    let mut all = readers! {
        "cgroup.controllers" => |group| group.controllers(),
        "cgroup.events" => |group| group.events(),
        "cgroup.freeze" => |group| group.is_told_to_freeze().map(u8::from),
        "cgroup.max.depth" => |group| group.max_depth(),
        "cgroup.max.descendants" => |group| group.max_descendants(),
        "cgroup.pressure" => |group| group.pressure_accounting(),
        "cgroup.procs" => |group| group.procs().map(column),
        "cgroup.stat" => |group| group.stat(),
        "cgroup.stat.local" => |group| group.stat_local(),
        "cgroup.subtree_control" => |group| group.subtree_control(),
        "cgroup.threads" => |group| group.threads().map(column),
        "cgroup.type" => |group| group.cgroup_type(),
        "cpu.idle" => |group| group.cpu().idle(),
        "cpu.max" => |group| group.cpu().max(),
        "cpu.max.burst" => |group| group.cpu().max_burst(),
        "cpu.pressure" => |group| group.pressure().cpu(),
        "cpu.stat" => |group| group.cpu().stat(),
        "cpu.stat.local" => |group| group.cpu().stat_local(),
        "cpu.uclamp.max" => |group| group.cpu().uclamp_max(),
        "cpu.uclamp.min" => |group| group.cpu().uclamp_min(),
        "cpu.weight" => |group| group.cpu().weight(),
        "cpu.weight.nice" => |group| group.cpu().weight_nice(),
        "cpuset.cpus" => |group| group.cpuset().cpus(),
        "cpuset.cpus.effective" => |group| group.cpuset().cpus_effective(),
        "cpuset.cpus.exclusive" => |group| group.cpuset().cpus_exclusive(),
        "cpuset.cpus.exclusive.effective" => |group| group.cpuset().cpus_exclusive_effective(),
        "cpuset.cpus.isolated" => |group| group.cpuset().cpus_isolated(),
        "cpuset.cpus.partition" => |group| group.cpuset().cpus_partition(),
        "cpuset.mems" => |group| group.cpuset().mems(),
        "cpuset.mems.effective" => |group| group.cpuset().mems_effective(),
        "dmem.capacity" => |group| group.dmem().capacity(),
        "dmem.current" => |group| group.dmem().current(),
        "dmem.low" => |group| group.dmem().low(),
        "dmem.max" => |group| group.dmem().max(),
        "dmem.min" => |group| group.dmem().min(),
        "io.bfq.weight" => |group| group.io().bfq_weight(),
        "io.cost.model" => |group| group.io().cost_model(),
        "io.cost.qos" => |group| group.io().cost_qos(),
        "io.latency" => |group| group.io().latency(),
        "io.max" => |group| group.io().max(),
        "io.prio.class" => |group| group.io().prio_class(),
        "io.stat" => |group| group.io().stat().map(|stat| counters(&stat)),
        "io.weight" => |group| group.io().weight(),
        "io.pressure" => |group| group.pressure().io(),
        "irq.pressure" => |group| group.pressure().irq(),
        "memory.current" => |group| group.memory().current(),
        "memory.events" => |group| group.memory().events(),
        "memory.events.local" => |group| group.memory().events_local(),
        "memory.high" => |group| group.memory().high(),
        "memory.low" => |group| group.memory().low(),
        "memory.max" => |group| group.memory().max(),
        "memory.min" => |group| group.memory().min(),
        "memory.numa_stat" => |group| group.memory().numa_stat(),
        "memory.oom.group" => |group| group.memory().oom_group(),
        "memory.peak" => |group| group.memory().peak(),
        "memory.stat" => |group| group.memory().stat(),
        "memory.swap.current" => |group| group.memory().swap_current(),
        "memory.swap.events" => |group| group.memory().swap_events(),
        "memory.swap.high" => |group| group.memory().swap_high(),
        "memory.swap.max" => |group| group.memory().swap_max(),
        "memory.swap.peak" => |group| group.memory().swap_peak(),
        "memory.zswap.current" => |group| group.memory().zswap_current(),
        "memory.zswap.max" => |group| group.memory().zswap_max(),
        "memory.zswap.writeback" => |group| group.memory().zswap_writeback(),
        "memory.pressure" => |group| group.pressure().memory(),
        "misc.capacity" => |group| group.misc().capacity(),
        "misc.current" => |group| group.misc().current(),
        "misc.events" => |group| group.misc().events(),
        "misc.events.local" => |group| group.misc().events_local(),
        "misc.max" => |group| group.misc().max(),
        "misc.peak" => |group| group.misc().peak(),
        "pids.current" => |group| group.pids().current(),
        "pids.events" => |group| group.pids().events(),
        "pids.events.local" => |group| group.pids().events_local(),
        "pids.max" => |group| group.pids().max(),
        "pids.peak" => |group| group.pids().peak(),
        "rdma.current" => |group| group.rdma().current(),
        "rdma.max" => |group| group.rdma().max(),
    };
    for &size in sizes {
        type Of = fn(cgroupfs::Hugetlb<'_>) -> Result<String>;
        let files: [(&str, Of); 7] = [
            ("current", |files| shown(files.current())),
            ("events", |files| shown(files.events())),
            ("events.local", |files| shown(files.events_local())),
            ("max", |files| shown(files.max())),
            ("numa_stat", |files| shown(files.numa_stat())),
            ("rsvd.current", |files| shown(files.rsvd_current())),
            ("rsvd.max", |files| shown(files.rsvd_max())),
        ];
        for (file, read) in files {
            all.push((format!("hugetlb.{size}.{file}"), Box::new(move |group| read(group.hugetlb(size)))));
        }
    }
    all.into_iter().collect()
}

fn column(numbers: Vec<i32>) -> String {
    numbers.iter().map(|number| format!("{number}\n")).collect()
}

/// The kernel writes a disk that did nothing as its number alone.
fn counters(stat: &PerDevice<IoStat>) -> String {
    let line = |(device, stat): (&DevNum, &IoStat)| {
        let IoStat { rbytes, wbytes, rios, wios, dbytes, dios, .. } = *stat;
        let counts = format!("rbytes={rbytes} wbytes={wbytes} rios={rios} wios={wios} dbytes={dbytes} dios={dios}");
        format!("{device} {}\n", if *stat == IoStat::default() { "" } else { &counts })
    };
    stat.devices.iter().map(line).collect()
}

/// The lines in any order, as far as they say something.
fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// The same with a `#` for each number that stands for itself or behind a key.
fn shapes(text: &str) -> BTreeSet<String> {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let word = |word: &str| match word.split_once('=') {
        Some((key, value)) if number(value) => format!("{key}=#"),
        _ if number(word) => "#".to_owned(),
        _ => word.to_owned(),
    };
    lines(text).iter().map(|line| line.split(' ').map(word).collect::<Vec<_>>().join(" ")).collect()
}

/// Goes through the files of `group`. Answers what is wrong, in words.
fn walk(group: &Cgroup, content: fn(&str) -> BTreeSet<String>) -> Vec<String> {
    let sizes = group.hugetlb_sizes().expect("sizes");
    let accessors = accessors(&sizes);
    let entries = fs::read_dir(group.path()).expect("group").map(|entry| entry.expect("entry"));
    let files: BTreeSet<String> = entries
        .filter(|entry| entry.file_type().expect("type").is_file())
        .map(|entry| entry.file_name().into_string().expect("text"))
        .collect();
    assert!(files.contains("cgroup.procs"), "{files:?}");
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| !WRITTEN_ONLY.contains(&file.as_str())) {
        match (accessors.get(file), WITHOUT.iter().find(|(name, _)| name == file)) {
            (Some(read), None) => match read(group) {
                Ok(mut value) => {
                    let mut text = cat(group.path(), file);
                    if ["cgroup.controllers", "cgroup.subtree_control"].contains(&file.as_str()) {
                        // A set, which the kernel writes in an order of its own.
                        for set in [&mut text, &mut value] {
                            *set = set.split_whitespace().collect::<Vec<_>>().join("\n");
                        }
                    }
                    if file == "cpu.weight" && text == "0" {
                        // Of an idle group, before kernels showed the least weight there.
                        text = "1".to_owned();
                    }
                    let (ours, theirs) = (content(&value), content(&text));
                    if ours != theirs {
                        wrong.push(format!("{file}: {ours:?}, but cat shows {theirs:?}"));
                    }
                }
                Err(error) => wrong.push(format!("{file}: {error}")),
            },
            (None, Some(_)) => {}
            (None, None) => wrong.push(format!("{file}: no accessor and no reason")),
            (Some(_), Some(_)) => wrong.push(format!("{file}: an accessor, and a reason why there is none")),
        }
    }
    for (file, read) in accessors.iter().filter(|(file, _)| !files.contains(*file)) {
        match read(group) {
            Err(error) if error.kind() == ErrorKind::Unsupported && error.hint().is_some() => {}
            // The root has no such file and is of that type, which is no reason to fail.
            Ok(value) if file == "cgroup.type" && value == "domain" => {}
            other => wrong.push(format!("{file} is not there: {other:?}")),
        }
    }
    println!("{:?}: {} files", group.path(), files.len());
    wrong
}

#[test]
fn the_root_of_the_hierarchy() {
    faultkit::require!(root, cgroup2);
    // Not isolated: the root of a cgroup namespace would not be the kernel's. It is only read.
    let hierarchy = Hierarchy::detect().expect("hierarchy");
    let root = hierarchy.open("/").expect("root");
    assert!(!root.path().join("cgroup.events").exists(), "{:?} is not the root", root.path());
    let wrong = walk(&root, shapes);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What is written, where there is such a file, so that the values are not all the kernel's own.
const WRITTEN: &[(&str, &str)] = &[
    ("cpu.max", "30000 60000"),
    ("cpu.max.burst", "10000"),
    ("cpu.weight", "37"),
    ("cpu.uclamp.min", "12.5"),
    ("cpuset.cpus", "0"),
    ("cpuset.mems", "0"),
    ("hugetlb.2MB.max", "4194304"),
    ("hugetlb.2MB.rsvd.max", "2097152"),
    ("memory.high", "33554432"),
    ("memory.low", "4096"),
    ("memory.max", "67108864"),
    ("memory.oom.group", "1"),
    ("memory.swap.max", "1048576"),
    ("pids.max", "17"),
];

#[test]
fn a_group_with_every_controller() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let group = group(&place(), "child");
        // What the kernel has by itself, and what is set by another program.
        let wrong = walk(&group, lines);
        assert!(wrong.is_empty(), "{wrong:#?}");
        for (file, value) in WRITTEN {
            let path = group.path().join(file);
            if path.exists() {
                fs::write(path, value).expect(file);
            }
        }
        let wrong = walk(&group, lines);
        assert!(wrong.is_empty(), "{wrong:#?}");
        group.remove(LIMIT).expect("remove");
    });
}

#[test]
fn an_idle_group_and_one_whose_pressure_is_off() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let group = group(&place(), "child");
        for (file, value) in [("cpu.idle", "1"), ("cgroup.pressure", "0")] {
            let path = group.path().join(file);
            if path.exists() {
                fs::write(path, value).expect(file);
            }
        }
        let wrong = walk(&group, lines);
        assert!(wrong.is_empty(), "{wrong:#?}");
        if group.path().join("cgroup.pressure").exists() {
            let error = group.pressure().cpu().expect_err("off");
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.hint().expect("hint").contains("cgroup.pressure"), "{error:#}");
        }
        group.remove(LIMIT).expect("remove");
    });
}
