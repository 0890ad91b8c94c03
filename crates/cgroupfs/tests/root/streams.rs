//! Watches and triggers as streams.
#![forbid(unsafe_code)]

use std::fs;
use std::time::Duration;

use cgroupfs::{ErrorKind, PsiResource, PsiThreshold, PsiTrigger, Watch, What};

use super::{LIMIT, group, killed, place, start_in};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn in_a_runtime(work: impl AsyncFnOnce()) {
    runtime().block_on(work());
}

#[test]
fn a_watch_wakes_its_task() {
    faultkit::require!(root, cgroup2);
    // The first runtime of a process may make sockets for signals, which stay.
    drop(runtime());
    faultkit::isolated!(|| in_a_runtime(async || {
        let place = place();
        let group = group(&place, "watched");
        let mut watch = Watch::new().expect("watch");
        let name = watch.add(&group).expect("add");
        let mut events = watch.into_stream().expect("stream");
        let nothing = tokio::time::timeout(Duration::from_millis(200), events.next()).await;
        assert!(nothing.is_err(), "{nothing:?}");
        let path = group.path().to_owned();
        let starter = std::thread::spawn(move || {
            // When the task waits already.
            std::thread::sleep(Duration::from_millis(100));
            start_in(path, "exec sleep 1000")
        });
        assert_eq!(events.next().await.expect("goes on").expect("event").what, What::Populated);
        let child = starter.join().expect("starter");
        fs::write(group.path().join("cgroup.freeze"), "1").expect("freeze");
        assert_eq!(events.next().await.expect("goes on").expect("event").what, What::Frozen);
        group.remove(LIMIT).expect("remove");
        assert!(killed(child));
        let mut last = None;
        while let Some(event) = events.next().await {
            last = Some(event.expect("event"));
        }
        let last = last.expect("an end");
        assert_eq!((last.group, last.what), (name, What::Removed { uncounted: Vec::new() }));
        assert!(events.watch().is_empty());
    }));
}

#[test]
fn a_trigger_wakes_its_task() {
    faultkit::require!(root, cgroup2, kernel(6.5));
    // The first runtime of a process may make sockets for signals, which stay.
    drop(runtime());
    faultkit::isolated!(|| in_a_runtime(async || {
        let group = group(&place(), "stalled");
        let threshold = PsiThreshold::some(Duration::from_millis(100));
        let trigger = PsiTrigger::new(&group, PsiResource::Cpu, threshold).expect("trigger");
        let mut stalls = trigger.into_stream().expect("stream");
        let processors = std::thread::available_parallelism().expect("processors").get();
        let busy = format!("for i in $(seq {}); do while :; do :; done & done; wait", 2 * processors);
        let child = start_in(group.path(), &busy);
        let first = stalls.next().await.expect("goes on").expect("fires").total_usec;
        let second = stalls.next().await.expect("goes on").expect("fires").total_usec;
        assert!(first >= 100_000 && second > first, "{first} {second}");
        group.remove(LIMIT).expect("remove");
        assert!(killed(child));
        faultkit::reap_orphans();
        let mut last = stalls.next().await.expect("an end");
        while last.is_ok() {
            last = stalls.next().await.expect("an end");
        }
        assert_eq!(last.expect_err("gone").kind(), ErrorKind::Gone);
        assert!(stalls.next().await.is_none());
    }));
}

#[test]
fn outside_of_a_runtime() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let before = fs::read_dir("/proc/self/fd").expect("fd").count();
        let error = Watch::new().expect("watch").into_stream().expect_err("no runtime");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.hint().expect("hint").contains("enable_io"));
        assert_eq!(fs::read_dir("/proc/self/fd").expect("fd").count(), before);
    });
}
