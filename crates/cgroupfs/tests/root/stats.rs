//! Snapshots of real groups, beside what `cat` shows.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use cgroupfs::{Bytes, Cgroup, ErrorKind, Limits, PidsMax, Stats, StatsParts, StatsReader, StatsTree};

use super::watch::rmdir;
use super::{LIMIT, cat, group, killed, name, place, start_in};

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("fd").count()
}

/// Whether the group has this file, and pressure is on.
fn has(group: &Cgroup, file: &str) -> bool {
    fs::read(group.path().join(file)).is_ok()
}

/// Every field is there if and only if its file is.
fn is_complete(group: &Cgroup, stats: &Stats) {
    for (file, is_some) in [
        ("cgroup.events", stats.cgroup_events.is_some()),
        ("cpu.stat", stats.cpu_stat.is_some()),
        ("memory.current", stats.memory_current.is_some()),
        ("memory.peak", stats.memory_peak.is_some()),
        ("memory.swap.current", stats.memory_swap_current.is_some()),
        ("memory.swap.events", stats.memory_swap_events.is_some()),
        ("memory.stat", stats.memory_stat.is_some()),
        ("io.stat", stats.io_stat.is_some()),
        ("memory.events", stats.memory_events.is_some()),
        ("pids.current", stats.pids_current.is_some()),
        ("pids.peak", stats.pids_peak.is_some()),
        ("pids.events", stats.pids_events.is_some()),
        ("cpu.pressure", stats.cpu_pressure.is_some()),
        ("memory.pressure", stats.memory_pressure.is_some()),
        ("io.pressure", stats.io_pressure.is_some()),
        ("irq.pressure", stats.irq_pressure.is_some()),
        ("hugetlb.2MB.current", stats.hugetlb_current.contains_key(&"2MB".parse().expect("2MB"))),
    ] {
        assert_eq!(is_some, has(group, file), "{file}");
    }
}

#[test]
fn a_snapshot_has_what_the_files_say() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let group = group(&place, "read");
        let child = start_in(group.path(), "exec sleep 1000");
        // So that what it uses stands still.
        fs::write(group.path().join("cgroup.freeze"), "1").expect("freeze");
        super::until("frozen", || cat(group.path(), "cgroup.events").contains("frozen 1"));
        let before = descriptors();
        let mut reader = StatsReader::new(&group, StatsParts::ALL).expect("reader");
        assert!(descriptors() - before <= 1 + 17 + 4);
        let mut stats = reader.read().expect("read");
        is_complete(&group, &stats);
        assert!(stats.cgroup_events.as_ref().is_some_and(|events| events.populated));
        // By another way, with what is needed no longer in it.
        stats.cpu_stat.as_mut().expect("cpu.stat").other.insert("of before".to_owned(), 1);
        reader.read_into(&mut stats).expect("read again");
        assert_eq!(stats.cpu_stat, Some(group.cpu().stat().expect("cpu.stat")));
        // What memory there is moves by itself.
        let still = StatsParts::GROUP | StatsParts::CPU | StatsParts::PIDS | StatsParts::HUGETLB;
        let mut by_open_files = StatsReader::new(&group, still).expect("reader");
        assert_eq!(group.stats(still).expect("once"), by_open_files.read().expect("read"));
        drop(by_open_files);
        let usage = cat(group.path(), "cpu.stat");
        let usage = usage.lines().find_map(|line| line.strip_prefix("usage_usec ")).expect("usage_usec");
        assert_eq!(stats.cpu_stat.as_ref().map(|stat| stat.usage_usec.to_string()), Some(usage.to_owned()));

        let only = group.stats(StatsParts::CPU).expect("a part");
        assert_eq!((only.cpu_stat.is_some(), only.cgroup_events, only.hugetlb_current.len()), (true, None, 0));
        let mut other = StatsReader::reopening(&group, StatsParts::GROUP).expect("reopening");
        other.read_into(&mut stats).expect("another part");
        assert_eq!((stats.cpu_stat, stats.hugetlb_current.len()), (None, 0));
        fs::write(group.path().join("cgroup.freeze"), "0").expect("thaw");
        super::until("thawed", || cat(group.path(), "cgroup.events").contains("frozen 0"));
        assert_eq!(other.read().expect("read").cgroup_events.and_then(|events| events.frozen), Some(false));

        // Pressure that is switched off is not there, and no error.
        if has(&group, "cgroup.pressure") {
            fs::write(group.path().join("cgroup.pressure"), "0").expect("off");
            let stats = reader.read().expect("read");
            is_complete(&group, &stats);
            assert_eq!(stats.cpu_pressure, None);
            fs::write(group.path().join("cgroup.pressure"), "1").expect("on");
            reader.reopen().expect("reopen");
            is_complete(&group, &reader.read().expect("read"));
        }
        group.remove(LIMIT).expect("remove");
        assert!(killed(child));
        for outcome in [reader.read(), other.read(), reader.reopen().map(|()| Stats::default())] {
            assert_eq!(outcome.expect_err("gone").kind(), ErrorKind::Gone);
        }
        drop((reader, other));
        assert_eq!(descriptors(), before - 1);
    });
}

#[test]
fn a_snapshot_of_all_controllers() {
    faultkit::require!(root, cgroup2("memory"), cgroup2("pids"));
    faultkit::isolated!(|| {
        let place = place();
        let limits = Limits::new().memory_max(Bytes::mib(64)).pids_max(PidsMax::try_from(10).expect("10"));
        let group = place.create(&name("read"), &limits, &mut ()).expect("create");
        let child = start_in(group.path(), "exec sleep 1000");
        let stats = group.stats(StatsParts::ALL).expect("read");
        is_complete(&group, &stats);
        assert_eq!(stats.pids_current, Some(1));
        // What memory there is moves by itself, but not beyond this.
        let limit: u64 = cat(group.path(), "memory.max").parse().expect("number");
        assert!(stats.memory_current.is_some_and(|bytes| bytes.0 > 0 && bytes.0 <= limit), "{stats:?}");
        // The controllers go, and what they counted with them.
        let mut reader = StatsReader::new(&group, StatsParts::ALL).expect("reader");
        fs::write(place.group().path().join("cgroup.subtree_control"), "-memory -pids").expect("disable");
        let stats = reader.read().expect("read");
        is_complete(&group, &stats);
        assert_eq!((stats.pids_current, stats.memory_current), (None, None));
        group.remove(LIMIT).expect("remove");
        assert!(killed(child));
    });
}

#[test]
fn a_tree_that_changes_while_it_is_read() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let top = group(&place(), "top");
        let make = |below: &str| fs::create_dir(top.path().join(below)).expect("mkdir");
        ["a", "a/b", "c"].iter().for_each(|below| make(below));
        let mut tree = StatsTree::new(&top, StatsParts::ALL).expect("tree");
        let below = |tree: &mut StatsTree| -> Vec<String> {
            tree.read().expect("read").map(|group| group.below.to_string_lossy().into_owned()).collect()
        };
        assert_eq!(below(&mut tree), ["", "a", "a/b", "c"]);
        let descendants: Vec<String> = top
            .descendants()
            .expect("descendants")
            .map(|group| {
                group.expect("group").path().strip_prefix(top.path()).expect("below").to_string_lossy().into_owned()
            })
            .collect();
        assert_eq!(descendants.len(), 3);
        let place_of = |name: &str| descendants.iter().position(|found| found == name).expect(name);
        assert!(place_of("a") < place_of("a/b"));

        // One that was listed is passed over when it has gone.
        let listed = top.descendants().expect("descendants");
        rmdir(&top.path().join("a/b"));
        assert_eq!(listed.map(|group| drop(group.expect("group"))).count(), 2);
        make("d");
        assert_eq!(below(&mut tree), ["", "a", "c", "d"]);

        let before = descriptors();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..200 {
                    make("c/e");
                    rmdir(&top.path().join("c/e"));
                }
            });
            for _ in 0..50 {
                let found = below(&mut tree);
                let known = ["", "a", "c", "c/e", "d"];
                assert!(found.len() >= 4 && found.iter().all(|found| known.contains(&&**found)), "{found:?}");
            }
        });
        assert_eq!(descriptors(), before);
        ["a", "c", "d"].iter().for_each(|name| rmdir(&top.path().join(name)));
        rmdir(top.path());
        assert_eq!(tree.read().map(drop).expect_err("gone").kind(), ErrorKind::Gone);
        assert_eq!(top.descendants().map(drop).expect_err("gone").kind(), ErrorKind::Gone);
        assert!(!Path::new(top.path()).exists());
    });
}
