#![forbid(unsafe_code)]

use std::fs;
use std::time::Duration;

use cgroupfs::ErrorKind;

use super::{LIMIT, cat, killed, name, place, start_in, until};

/// Whether the shell in the group still counts: it writes a line each millisecond.
fn counts(file: &std::path::Path) -> bool {
    let length = || fs::metadata(file).map_or(0, |data| data.len());
    let before = length();
    std::thread::sleep(Duration::from_millis(100));
    length() > before
}

#[test]
fn what_is_frozen_stands_still_until_the_guard_goes() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let group = place().group().create_child(&name("group")).expect("group");
        let below = group.create_child(&name("below")).expect("below");
        let file = std::env::temp_dir().join("counter");
        let script = format!("while :; do echo >> {}; sleep 0.001; done", file.display());
        let child = start_in(below.path(), &script);
        until("it counts", || counts(&file));

        let frozen = group.freeze(LIMIT).expect("freeze");
        assert!(cat(group.path(), "cgroup.events").contains("frozen 1"));
        assert!(cat(below.path(), "cgroup.events").contains("frozen 1"));
        assert!(!counts(&file));
        // A group below cannot thaw alone, and says who holds it.
        let error = below.thaw(LIMIT).expect_err("frozen above");
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.hint().expect("hint").contains(&format!("{:?}", group.path())), "{error:#}");
        frozen.thaw(LIMIT).expect("thaw");
        assert_eq!(cat(group.path(), "cgroup.freeze"), "0");
        until("it counts again", || counts(&file));
        assert!(cat(group.path(), "cgroup.events").contains("frozen 0"));

        drop(group.freeze(LIMIT).expect("freeze"));
        assert_eq!(cat(group.path(), "cgroup.freeze"), "0");
        group.freeze(LIMIT).expect("freeze").keep_frozen();
        assert_eq!((cat(group.path(), "cgroup.freeze"), group.is_told_to_freeze().expect("told")), ("1".into(), true));
        // It is another's now: a second guard leaves it.
        group.freeze(LIMIT).expect("again").thaw(LIMIT).expect("not ours");
        drop(group.freeze(LIMIT).expect("again"));
        assert_eq!(cat(group.path(), "cgroup.freeze"), "1");
        group.thaw(LIMIT).expect("thaw");
        until("it counts once more", || counts(&file));
        group.remove(LIMIT).expect("remove");
        assert!(killed(child));
        faultkit::reap_orphans();
        fs::remove_file(file).expect("rm");
    });
}

#[test]
fn an_empty_group_freezes_and_what_enters_it_stops() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let group = place().group().create_child(&name("group")).expect("group");
        let frozen = group.freeze(LIMIT).expect("freeze");
        let child = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep");
        group.attach_pid(child.id() as i32).expect("attach");
        until("stopped", || cat(group.path(), "cgroup.events").contains("frozen 1"));
        drop(frozen);
        until("thawed", || cat(group.path(), "cgroup.events").contains("frozen 0"));
        group.remove(LIMIT).expect("remove");
        assert!(killed(child));
    });
}

#[test]
fn never_the_caller_and_never_left_frozen() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let own = place.hierarchy().own_group().expect("own");
        for group in [place.group(), &own] {
            let error = group.freeze(LIMIT).expect_err("the caller is in it");
            assert_eq!((error.kind(), error.operation()), (ErrorKind::Invalid, "write cgroup.freeze"));
            assert_eq!(cat(group.path(), "cgroup.freeze"), "0");
        }
        // Without time to wait, those that run are not stopped yet: an error, and no ice.
        let group = place.group().create_child(&name("group")).expect("group");
        let children: Vec<_> = (0..8).map(|_| start_in(group.path(), "while :; do :; done")).collect();
        let mut refused = 0;
        for _ in 0..50 {
            match group.freeze(Duration::ZERO) {
                Ok(guard) => guard.thaw(LIMIT).expect("thaw"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:#}");
                    refused += 1;
                }
            }
            assert_eq!(cat(group.path(), "cgroup.freeze"), "0");
        }
        assert!(refused > 0);
        group.remove(LIMIT).expect("remove");
        assert!(children.into_iter().all(killed));
    });
}
