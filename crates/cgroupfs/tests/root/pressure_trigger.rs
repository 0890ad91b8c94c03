//! Triggers of pressure, on real stalls.
#![forbid(unsafe_code)]

use std::fs;
use std::time::Duration;

use cgroupfs::{ErrorKind, Event, PsiResource, PsiThreshold, PsiTrigger, Watch, What};

use super::watch::{A_WHILE, is_removed, rmdir, told_until};
use super::{LIMIT, cat, group, killed, place, start_in};

/// Two processes for each processor: some always wait.
fn busy(processors: usize) -> String {
    format!("for i in $(seq {}); do while :; do :; done & done; wait", 2 * processors)
}

fn processors() -> usize {
    std::thread::available_parallelism().expect("processors").get()
}

/// What anybody may write, of Linux 6.5 and newer.
fn threshold() -> PsiThreshold {
    PsiThreshold::some(Duration::from_millis(100)).within(Duration::from_secs(2))
}

fn total(group: &cgroupfs::Cgroup) -> u64 {
    let text = cat(group.path(), "cpu.pressure");
    let some = text.lines().next().and_then(|line| line.split_once("total=")).expect("total").1;
    some.parse().expect("number")
}

#[test]
fn fires_when_processes_wait_and_not_when_idle() {
    faultkit::require!(root, cgroup2, kernel(6.5));
    faultkit::isolated!(|| {
        let group = group(&place(), "stalled");
        let mut trigger = PsiTrigger::new(&group, PsiResource::Cpu, threshold()).expect("trigger");
        assert_eq!(trigger.next_within(Duration::from_secs(3)).expect("idle"), None);
        let child = start_in(group.path(), &busy(processors()));
        let stalled = trigger.next_within(LIMIT).expect("next").expect("fires");
        assert!(stalled.total_usec >= 100_000 && stalled.total_usec <= total(&group), "{stalled:?}");
        // As an iterator, and again.
        let again = trigger.next().expect("goes on").expect("fires");
        assert!(again.total_usec > stalled.total_usec);
        group.remove(LIMIT).expect("remove");
        assert!(killed(child));
        faultkit::reap_orphans();
        let last = trigger.by_ref().find_map(Result::err).expect("the end");
        assert_eq!(last.kind(), ErrorKind::Gone, "{last:#}");
        assert!(trigger.next().is_none());
    });
}

#[test]
fn among_other_things_that_are_watched() {
    faultkit::require!(root, cgroup2, kernel(6.5));
    faultkit::isolated!(|| {
        let place = place();
        let (stalled, idle) = (group(&place, "stalled"), group(&place, "idle"));
        let mut watch = Watch::new().expect("watch");
        let name = watch.add(&stalled).expect("add");
        for group in [&stalled, &idle] {
            let trigger = PsiTrigger::new(group, PsiResource::Cpu, threshold()).expect("trigger");
            watch.add_trigger(trigger).expect("add");
        }
        let child = start_in(stalled.path(), &busy(processors()));
        let told = told_until(&mut watch, |event| matches!(event.what, What::Stalled { .. }));
        let last = told.last().expect("fires");
        assert_eq!(last.group, name);
        assert!(
            matches!(&last.what, What::Stalled { resource: PsiResource::Cpu, threshold: asked, .. } if *asked == threshold())
        );
        // Found by a poll of somebody else, which takes the kernel's answer away.
        let again = loop {
            let mut files = [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&watch), nix::poll::PollFlags::POLLIN)];
            assert_eq!(nix::poll::poll(&mut files, 60_000u16).expect("poll"), 1);
            if let Some(event) = watch.try_next().expect("next") {
                break event;
            }
        };
        assert!(matches!(again.what, What::Stalled { .. }), "{again:?}");

        // The group's end is told once; of one that only has a trigger too.
        stalled.remove(LIMIT).expect("remove");
        assert!(killed(child));
        faultkit::reap_orphans();
        let told = told_until(&mut watch, is_removed);
        assert!(told.iter().all(|event| event.group == name));
        let path = idle.path().to_owned();
        rmdir(&path);
        let told = told_until(&mut watch, is_removed);
        assert_eq!((told.len(), told[0].group.path()), (1, &*path));
        assert!(watch.is_empty());
    });
}

#[test]
fn what_the_kernel_would_refuse() {
    faultkit::require!(root, cgroup2, kernel(6.5));
    faultkit::isolated!(|| {
        let group = group(&place(), "refused");
        let before = fs::read_dir("/proc/self/fd").expect("fd").count();
        let new = |threshold| PsiTrigger::new(&group, PsiResource::Memory, threshold).map(drop);
        let short = threshold().within(Duration::from_millis(499));
        assert_eq!(new(short).expect_err("too short").kind(), ErrorKind::Invalid);
        // One second is the right of whoever has CAP_SYS_RESOURCE.
        let second = new(threshold().within(Duration::from_secs(1)));
        let status = fs::read_to_string("/proc/self/status").expect("status");
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).expect("CapEff");
        let can = u64::from_str_radix(effective, 16).expect("hexadecimal") >> 24 & 1 == 1;
        match second {
            Ok(()) => assert!(can),
            Err(error) => {
                assert!(!can, "{error:#}");
                assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
                assert!(error.hint().expect("hint").contains("2 s"), "{error:#}");
            }
        }
        // Without a group it is the machine's.
        PsiTrigger::of_system(PsiResource::Cpu, threshold()).map(drop).expect("of the system");
        assert_eq!(fs::read_dir("/proc/self/fd").expect("fd").count(), before);
        // Switched off for the group.
        let cgroup_pressure = group.path().join("cgroup.pressure");
        fs::write(&cgroup_pressure, "0").expect("off");
        let error = new(threshold()).expect_err("switched off");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}");
        assert!(error.hint().expect("hint").contains("cgroup.pressure"), "{error:#}");
        rmdir(group.path());
        assert_eq!(new(threshold()).expect_err("gone").kind(), ErrorKind::Gone);
    });
}

/// A process that is kept at its limit waits for memory all the time.
#[test]
fn a_group_that_is_short_of_memory() {
    faultkit::require!(root, cgroup2("memory"));
    faultkit::isolated!(|| {
        let place = place();
        let limits = cgroupfs::Limits::new().memory_max(cgroupfs::Bytes::mib(64));
        let group = place.create(&super::name("short"), &limits, &mut ()).expect("create");
        fs::write(group.path().join("memory.high"), "8M").expect("memory.high");
        let mut watch = Watch::new().expect("watch");
        let trigger = PsiTrigger::new(&group, PsiResource::Memory, threshold()).expect("trigger");
        watch.add_trigger(trigger).expect("add");
        assert_eq!(watch.next_within(A_WHILE).expect("idle"), None);
        let child = start_in(group.path(), "exec tail /dev/zero");
        let told: Vec<Event> = told_until(&mut watch, |event| matches!(event.what, What::Stalled { .. }));
        assert_eq!(told.len(), 1);
        group.remove(LIMIT).expect("remove");
        assert!(killed(child));
        faultkit::reap_orphans();
    });
}
