//! The memory controller's files and what they do: for a machine whose cgroup2 has it.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::{Command, Stdio};

use cgroupfs::{
    Bytes, Cgroup, ErrorKind, Hierarchy, Max, Memory, OomGroup, Reclaimed, Result, SwapOnly, Swappiness, ZswapWriteback,
};

use super::loop_disk::LoopDisk;
use super::{LIMIT, cat, command_in, group, killed, name, place, start_in, until};

const NO_SWAP: SwapOnly = SwapOnly(Max::Value(Bytes(0)));

/// A group with the memory controller and without swap, so that anonymous memory stays where it is.
fn memory_group(wanted: &str) -> Cgroup {
    let place = place();
    fs::write(place.group().path().join("cgroup.subtree_control"), "+memory").expect("enable");
    let group = group(&place, wanted);
    if group.path().join("memory.swap.max").exists() {
        group.memory().set_swap_max(NO_SWAP).expect("swap.max");
    }
    group
}

/// A script that takes so many MiB of anonymous memory and says so by the file `$1`... it keeps a line that does not end.
fn taking(mib: u64, then: &str) -> String {
    format!("{{ head -c {mib}M /dev/zero; {then}; }} | tail -n 1 >/dev/null")
}

/// The file where the kernel has it; otherwise the error must say since when it is.
fn where_there_is<T>(group: &Cgroup, file: &str, since: &str, read: impl FnOnce(Memory<'_>) -> Result<T>) -> Option<T> {
    let outcome = read(group.memory());
    if group.path().join(file).exists() {
        return Some(outcome.expect(file));
    }
    let error = outcome.err().expect("the file is not there");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains(&format!("Linux {since} or newer")), "{error}");
    None
}

#[test]
fn every_limit_is_written_and_read_back() {
    faultkit::require!(root, cgroup2("memory"));
    faultkit::isolated!(|| {
        let group = memory_group("limited");
        let memory = group.memory();
        assert_eq!((memory.min().expect("min"), memory.max().expect("max")), (Max::Value(Bytes(0)), Max::Max));
        let limit = |mib| Max::Value(Bytes::mib(mib));
        memory.set_min(Bytes::mib(1)).expect("min");
        memory.set_low(Bytes::mib(2)).expect("low");
        memory.set_high(Bytes::mib(3)).expect("high");
        memory.set_max(Bytes::mib(4)).expect("max");
        for (file, read, mib) in [
            ("memory.min", memory.min(), 1),
            ("memory.low", memory.low(), 2),
            ("memory.high", memory.high(), 3),
            ("memory.max", memory.max(), 4),
        ] {
            assert_eq!(cat(group.path(), file), (mib << 20).to_string());
            assert_eq!(read.expect(file), limit(mib), "{file}");
        }
        memory.set_high(Max::Max).expect("high");
        assert_eq!((cat(group.path(), "memory.high"), memory.high().expect("high")), ("max".to_owned(), Max::Max));

        for policy in [OomGroup::KillAll, OomGroup::KillOne] {
            memory.set_oom_group(policy).expect("oom.group");
            assert_eq!(cat(group.path(), "memory.oom.group"), policy.to_string());
            assert_eq!(memory.oom_group().expect("oom.group"), policy);
        }
        let swap = SwapOnly(limit(5));
        if where_there_is(&group, "memory.swap.max", "4.5", |memory| memory.set_swap_max(swap)).is_some() {
            assert_eq!(
                (cat(group.path(), "memory.swap.max"), memory.swap_max().expect("max")),
                ((5 << 20).to_string(), swap)
            );
            memory.set_swap_high(swap).expect("swap.high");
            assert_eq!(
                (cat(group.path(), "memory.swap.high"), memory.swap_high().expect("high")),
                ((5 << 20).to_string(), swap)
            );
            assert_eq!(memory.swap_current().expect("current"), Bytes(0));
            assert_eq!(memory.swap_events().expect("events"), Default::default());
        }
        where_there_is(&group, "memory.swap.peak", "6.5", |memory| memory.swap_peak());
        if where_there_is(&group, "memory.zswap.max", "5.19", |memory| memory.set_zswap_max(Bytes::mib(6))).is_some() {
            assert_eq!(
                (cat(group.path(), "memory.zswap.max"), memory.zswap_max().expect("max")),
                ((6 << 20).to_string(), limit(6))
            );
            assert_eq!(memory.zswap_current().expect("current"), Bytes(0));
        }
        let off = ZswapWriteback::Disabled;
        if where_there_is(&group, "memory.zswap.writeback", "6.8", |memory| memory.set_zswap_writeback(off)).is_some() {
            assert_eq!(cat(group.path(), "memory.zswap.writeback"), "0");
            assert_eq!(memory.zswap_writeback().expect("writeback"), off);
        }
        group.remove(LIMIT).expect("remove");
    });
}

/// A group that nothing happens in any more: so that what we read can be compared with what `cat` shows.
#[test]
fn what_is_counted_is_what_the_files_say() {
    faultkit::require!(root, cgroup2("memory"));
    faultkit::isolated!(|| {
        let group = memory_group("counted");
        let child = start_in(group.path(), &taking(3, "sleep 1000"));
        until("the memory is taken", || group.memory().current().expect("current") > Bytes::mib(3));
        fs::write(group.path().join("cgroup.freeze"), "1").expect("freeze");
        until("frozen", || cat(group.path(), "cgroup.events").contains("frozen 1"));

        let memory = group.memory();
        let numbers = |file: &str| -> BTreeMap<String, String> {
            let line = |line: &str| line.split_once(' ').map(|(key, rest)| (key.to_owned(), rest.to_owned()));
            cat(group.path(), file).lines().map(|text| line(text).expect("KEY VALUE")).collect()
        };
        // The kernel brings its numbers up to date now and then.
        until("both say the same", || {
            let (stat, file) = (memory.stat().expect("stat"), numbers("memory.stat"));
            assert!(stat.other.is_empty(), "keys that are not declared: {:?}", stat.other);
            assert!(stat.anon > 2 << 20, "{}", stat.anon);
            let optional = |number: Option<u64>| number.map(|number| number.to_string());
            file["anon"] == stat.anon.to_string()
                && file["file"] == stat.file.to_string()
                && file["slab"] == stat.slab.to_string()
                && file["pgfault"] == stat.pgfault.to_string()
                && file["workingset_nodereclaim"] == stat.workingset_nodereclaim.to_string()
                && file.get("kernel").cloned() == optional(stat.kernel)
                && file.get("sec_pagetables").cloned() == optional(stat.sec_pagetables)
                && file.get("pgscan_khugepaged").cloned() == optional(stat.pgscan_khugepaged)
                && file.get("numa_hint_faults").cloned() == optional(stat.numa_hint_faults)
        });
        if where_there_is(&group, "memory.numa_stat", "5.10", |memory| memory.numa_stat()).is_some() {
            until("both say the same", || {
                let (stat, file) = (memory.numa_stat().expect("numa_stat"), numbers("memory.numa_stat"));
                assert!(stat.other.is_empty(), "keys that are not declared: {:?}", stat.other);
                assert!(stat.anon.total() > 2 << 20);
                let optional = |nodes: Option<cgroupfs::PerNode>| nodes.map(|nodes| nodes.to_string());
                file["anon"] == stat.anon.to_string()
                    && file["unevictable"] == stat.unevictable.to_string()
                    && file.get("pgdemote_direct").cloned() == optional(stat.pgdemote_direct)
            });
        }
        let events = memory.events().expect("events");
        assert!(events.other.is_empty(), "keys that are not declared: {:?}", events.other);
        assert_eq!(memory.events_local().expect("events.local"), events);
        until("both say the same", || {
            cat(group.path(), "memory.current") == memory.current().expect("current").to_string()
        });
        group.remove(LIMIT).expect("remove");
        killed(child);
        faultkit::reap_orphans();
    });
}

#[test]
fn beyond_high_it_is_slowed_but_not_killed() {
    faultkit::require!(root, cgroup2("memory"));
    faultkit::isolated!(|| {
        let group = memory_group("slow");
        group.memory().set_high(Bytes::mib(6)).expect("high");
        let mut hog = start_in(group.path(), "exec tail /dev/zero");
        until("slowed down", || group.memory().events().expect("events").high > 3);
        let events = group.memory().events().expect("events");
        assert_eq!((events.max, events.oom, events.oom_kill), (0, 0, 0));
        assert!(hog.try_wait().expect("wait").is_none());
        group.remove(LIMIT).expect("remove");
        assert!(killed(hog));
    });
}

#[test]
fn an_indivisible_group_is_killed_whole() {
    faultkit::require!(root, cgroup2("memory"));
    faultkit::isolated!(|| {
        for (policy, wanted) in [(OomGroup::KillOne, "divisible"), (OomGroup::KillAll, "indivisible")] {
            let group = memory_group(wanted);
            group.memory().set_oom_group(policy).expect("oom.group");
            group.memory().set_max(Bytes::mib(12)).expect("max");
            let mut others: Vec<_> = (0..2).map(|_| start_in(group.path(), "exec sleep 1000")).collect();
            assert!(killed(command_in(group.path(), "exec tail /dev/zero").spawn().expect("hog")));
            let events = group.memory().events().expect("events");
            if policy == OomGroup::KillAll {
                assert!(others.into_iter().all(killed));
                // The first victim is counted twice. The other key is as old as Linux 5.17.
                assert!(events.oom_kill >= 3 && events.oom_group_kill.is_none_or(|kills| kills == 1), "{events:?}");
            } else {
                assert!(others.iter_mut().all(|other| other.try_wait().expect("wait").is_none()));
                assert_eq!((events.oom_kill, events.oom_group_kill.unwrap_or(0)), (1, 0));
                others.iter_mut().for_each(|other| other.kill().expect("kill"));
                others.iter_mut().for_each(|other| drop(other.wait()));
            }
            group.remove(LIMIT).expect("remove");
        }
    });
}

#[test]
fn a_limit_below_what_is_used_is_taken_and_kills() {
    faultkit::require!(root, cgroup2("memory"));
    faultkit::isolated!(|| {
        let group = memory_group("below");
        let child = command_in(group.path(), &taking(12, "sleep 1000")).spawn().expect("sh");
        until("the memory is taken", || group.memory().current().expect("current") > Bytes::mib(12));
        let beside = group.memory().events().expect("events").oom_kill;
        assert_eq!(beside, 0);
        group.memory().set_max(Bytes::mib(4)).expect("it is taken");
        assert_eq!(cat(group.path(), "memory.max"), (4 << 20).to_string());
        // The write returns when the usage is below it.
        assert!(group.memory().current().expect("current") <= Bytes::mib(4));
        assert!(group.memory().events().expect("events").oom_kill > 0);
        group.remove(LIMIT).expect("remove");
        killed(child);
        faultkit::reap_orphans();
    });
}

#[test]
fn a_peak_begins_anew_for_one_descriptor_only() {
    faultkit::require!(root, cgroup2("memory"));
    faultkit::isolated!(|| {
        let group = memory_group("peak");
        let memory = group.memory();
        let take = |mib| {
            let status = command_in(group.path(), &taking(mib, "true")).status().expect("sh");
            assert!(status.success());
        };
        take(12);
        let Some(peak) = where_there_is(&group, "memory.peak", "5.19", |memory| memory.peak()) else { return };
        assert!(peak > Bytes::mib(12), "{peak}");
        assert_eq!(cat(group.path(), "memory.peak"), peak.to_string());
        let writable = !fs::metadata(group.path().join("memory.peak")).expect("stat").permissions().readonly();
        let first = match memory.watch_peak() {
            Ok(watch) => watch,
            Err(error) => {
                assert!(!writable, "{error}");
                assert_eq!((error.kind(), error.operation()), (ErrorKind::Unsupported, "open memory.peak"));
                assert!(error.to_string().contains("Linux 6.12 or newer"), "{error}");
                let swap = memory.watch_swap_peak().expect_err("neither");
                assert_eq!(swap.kind(), ErrorKind::Unsupported, "{swap}");
                group.remove(LIMIT).expect("remove");
                return;
            }
        };
        assert!(writable);
        assert!(first.peak().expect("peak") < Bytes::mib(8));
        take(9);
        assert!(first.peak().expect("peak") > Bytes::mib(9));
        let second = memory.watch_peak().expect("second");
        assert!(second.peak().expect("peak") < Bytes::mib(8));
        assert!(first.peak().expect("peak") > Bytes::mib(9), "what was read is kept");
        first.reset().expect("reset");
        assert!(first.peak().expect("peak") < Bytes::mib(8));
        // The file itself is as it was.
        assert_eq!((memory.peak().expect("peak"), cat(group.path(), "memory.peak")), (peak, peak.to_string()));
        if group.path().join("memory.swap.peak").exists() {
            assert_eq!(memory.watch_swap_peak().expect("swap").peak().expect("peak"), Bytes(0));
        }
        group.remove(LIMIT).expect("remove");
        assert_eq!(first.peak().expect_err("gone").kind(), ErrorKind::Gone);
        assert_eq!(second.reset().expect_err("gone").kind(), ErrorKind::Gone);
    });
}

#[test]
fn what_is_reclaimed_is_gone_from_the_groups_memory() {
    faultkit::require!(root, cgroup2("memory"), program("losetup"));
    faultkit::isolated!(|| {
        let group = memory_group("cache");
        let memory = group.memory();
        let disk = LoopDisk::new(16);
        // While it is open, what was read of it stays in the page cache.
        let open = File::open(disk.path()).expect("open");
        let read = || {
            let script = format!("exec dd if={} of=/dev/null bs=1M status=none", disk.path().display());
            assert!(command_in(group.path(), &script).status().expect("dd").success());
            let before = memory.current().expect("current");
            assert!(before > Bytes::mib(15), "{before}");
            before
        };
        let before = read();
        let Some(reclaimed) = where_there_is(&group, "memory.reclaim", "5.19", |memory| memory.reclaim(Bytes::mib(8)))
        else {
            return;
        };
        assert_eq!(reclaimed, Reclaimed::All);
        let after: u64 = cat(group.path(), "memory.current").parse().expect("number");
        assert!(after < before.0 - (6 << 20), "{before} to {after}");
        assert_eq!(memory.reclaim(Bytes::gib(1)).expect("reclaim"), Reclaimed::Less);
        assert!(memory.current().expect("current") < Bytes::mib(4));

        // With the swappiness of one's own where the kernel knows it.
        let before = read();
        match memory.reclaim_with(Bytes::mib(8), Swappiness::FILE_FIRST) {
            Ok(reclaimed) => {
                assert_eq!(reclaimed, Reclaimed::All);
                assert!(memory.current().expect("current").0 < before.0 - (6 << 20));
            }
            Err(error) => {
                assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Unsupported, Some(22)), "{error}");
                assert!(error.to_string().contains("Linux 6.9 or newer"), "{error}");
                assert!(fs::read_to_string("/proc/version").expect("version").contains("version 6.1."));
            }
        }
        // There is no anonymous memory to speak of, so that less than this is found; older kernels do not know the word.
        match memory.reclaim_with(Bytes::mib(64), Swappiness::ANON_ONLY) {
            Ok(reclaimed) => assert_eq!(reclaimed, Reclaimed::Less),
            Err(error) => assert!(error.to_string().contains("Linux 6.16 or newer"), "{error}"),
        }

        // What is above a new memory.high is reclaimed before the write returns.
        read();
        memory.set_high(Bytes::mib(4)).expect("high");
        assert!(memory.current().expect("current") < Bytes::mib(5));
        drop(open);
        group.remove(LIMIT).expect("remove");
    });
}

/// Compressed memory as swap, for the emulated machine only: elsewhere swap is the machine's own business.
struct Zram;

impl Zram {
    fn swap_on() -> Option<Self> {
        std::env::var_os("CELLKIT_VM")?;
        fs::write("/sys/block/zram0/disksize", "64M").expect("zram");
        let run = |program: &str| {
            let status = Command::new(program).arg("/dev/zram0").stdout(Stdio::null()).status();
            assert!(status.expect(program).success());
        };
        run("mkswap");
        run("swapon");
        Some(Self)
    }
}

impl Drop for Zram {
    fn drop(&mut self) {
        assert!(Command::new("swapoff").arg("/dev/zram0").status().expect("swapoff").success());
        fs::write("/sys/block/zram0/reset", "1").expect("reset");
    }
}

#[test]
fn swap_is_limited_alone() {
    faultkit::require!(root, cgroup2("memory"), program("mkswap"), program("swapon"), program("swapoff"));
    faultkit::isolated!(|| {
        let zram = Zram::swap_on();
        let group = memory_group("swapping");
        let memory = group.memory();
        memory.set_max(Bytes::mib(8)).expect("max");
        memory.set_swap_max(SwapOnly(Max::Max)).expect("swap.max");
        assert_eq!(cat(group.path(), "memory.swap.max"), "max");
        if zram.is_none() {
            println!("values only: this is not the emulated machine, whose swap may be changed");
            return group.remove(LIMIT).expect("remove");
        }
        // More than its memory fits, as long as there is swap.
        let status = command_in(group.path(), &taking(16, "true")).status().expect("sh");
        assert!(status.success());
        assert_eq!(memory.events().expect("events").oom_kill, 0);
        where_there_is(&group, "memory.swap.peak", "6.5", |memory| {
            let peak = memory.swap_peak()?;
            assert!(peak > Bytes::mib(6), "{peak}");
            Ok(())
        });
        // With less swap it does not.
        memory.set_swap_max(SwapOnly(Bytes::mib(2).into())).expect("swap.max");
        let mut child = command_in(group.path(), &taking(16, "sleep 1000")).spawn().expect("sh");
        until("killed", || memory.events().expect("events").oom_kill > 0);
        let events = memory.swap_events().expect("swap.events");
        assert!(events.other.is_empty(), "{events:?}");
        assert!(memory.swap_current().expect("current") <= Bytes::mib(2));
        assert!(cat(group.path(), "memory.swap.events").lines().any(|line| line == format!("max {}", events.max)));
        group.remove(LIMIT).expect("remove");
        child.wait().expect("wait");
        faultkit::reap_orphans();
        drop(zram);
    });
}

#[test]
fn nothing_is_read_from_or_written_to_a_removed_group() {
    faultkit::require!(root, cgroup2("memory"));
    faultkit::isolated!(|| {
        let group = memory_group("short");
        fs::remove_dir(group.path()).expect("rmdir");
        let memory = group.memory();
        let outcomes = [
            memory.max().map(drop),
            memory.set_max(Bytes::mib(1)),
            memory.current().map(drop),
            memory.stat().map(drop),
            memory.events_local().map(drop),
            memory.oom_group().map(drop),
            memory.set_low(Max::Max),
            memory.peak().map(drop),
            memory.watch_peak().map(drop),
            memory.reclaim(Bytes(4096)).map(drop),
            memory.reclaim_with(Bytes(4096), Swappiness::FILE_FIRST).map(drop),
            memory.swap_max().map(drop),
            memory.zswap_writeback().map(drop),
        ];
        for outcome in outcomes {
            let error = outcome.expect_err("gone");
            assert_eq!(error.kind(), ErrorKind::Gone, "{error}");
        }
    });
}

#[test]
fn a_group_without_the_controller_says_so() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let group = place().create(&name("without"), &cgroupfs::Limits::new(), &mut ()).expect("create");
        if cat(group.path(), "cgroup.controllers").split(' ').any(|controller| controller == "memory") {
            // It is handed down to every group here; then its files are there.
            assert!(group.memory().max().is_ok());
        } else {
            let error = group.memory().set_max(Bytes::mib(1)).expect_err("no controller");
            assert_eq!((error.kind(), error.operation()), (ErrorKind::Unsupported, "write memory.max"));
            assert!(error.to_string().contains("the memory controller (not enabled for this group)"), "{error}");
            assert_eq!(group.memory().watch_peak().expect_err("none").kind(), ErrorKind::Unsupported);
        }
        group.remove(LIMIT).expect("remove");
    });
}

#[test]
fn the_root_has_no_limits_but_numbers() {
    faultkit::require!(root, cgroup2("memory"));
    // Not in a namespace of its own, whose root is not the root of everything. Nothing is changed.
    let root = Hierarchy::detect().expect("hierarchy").open("/").expect("root");
    assert!(root.memory().stat().expect("stat").anon > 0);
    match root.memory().max() {
        Ok(_) => assert!(root.path().join("memory.max").exists()),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains("memory.max at the root of the hierarchy"), "{error}");
        }
    }
}
