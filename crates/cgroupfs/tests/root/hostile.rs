//! Containers that own what is below their group, and work against who manages it.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cgroupfs::{Cgroup, CgroupName, ErrorKind, Hierarchy, Limits};
use nix::unistd::{Uid, seteuid};

use super::{LIMIT, cat, group, killed, name, place, start_in};

const MANAGER: u32 = 12345;
const CONTAINER: u32 = 23456;

/// Runs `body` with the effective id of a manager that is not root.
fn as_manager<T>(body: impl FnOnce() -> T) -> T {
    seteuid(Uid::from_raw(MANAGER)).expect("seteuid");
    let outcome = body();
    seteuid(Uid::from_raw(0)).expect("seteuid");
    outcome
}

/// A group of the manager's, with one below it that the container has closed to everybody, and a process in that.
fn closed(place: &cgroupfs::Place) -> (Cgroup, std::process::Child) {
    let top = group(place, "top");
    for entry in ["", "cgroup.procs", "cgroup.kill", "cgroup.freeze"] {
        chown(top.path().join(entry), Some(MANAGER), Some(MANAGER)).expect("chown");
    }
    let below = top.create_child(&name("closed")).expect("closed");
    let child = start_in(below.path(), "exec sleep 1000");
    chown(below.path(), Some(CONTAINER), Some(CONTAINER)).expect("chown");
    fs::set_permissions(below.path(), fs::Permissions::from_mode(0o000)).expect("chmod");
    (top, child)
}

#[test]
fn a_group_closed_to_its_manager_is_frozen_and_killed_all_the_same() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let (top, child) = closed(&place);
        as_manager(|| {
            assert!(fs::read_dir(top.path().join("closed")).is_err(), "it is open");
            top.freeze(LIMIT)?.thaw(LIMIT)?;
            top.kill()
        })
        .expect("freeze and kill");
        assert!(killed(child));
        top.remove(LIMIT).expect("remove");
    });
}

/// What is refused to a caller who is in the group, however that is found out.
fn refuses_the_caller(group: &Cgroup) {
    let kill = group.kill().expect_err("the caller is in it");
    let freeze = group.freeze(Duration::from_millis(1)).expect_err("the caller is in it");
    for error in [kill, freeze] {
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:#}");
        assert!(error.to_string().contains("the calling process is in this group"), "{error:#}");
    }
}

#[test]
fn the_caller_is_found_wherever_it_is() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let home = place.hierarchy().own_group().expect("own");
        let deep = place.group().create_nested(&["a", "b", "c"].map(name)).expect("nested");
        let a = place.group().open_child("a").expect("a");
        let b = a.open_child("b").expect("b");
        let beside = b.create_nested(&["beside", "it"].map(name)).expect("beside");
        let beside = beside.parent().expect("parent").expect("parent");
        // From the top of the mount, and through a hierarchy that begins below it.
        let views = |path: &Path| {
            let below = Hierarchy::at(&a).expect("at");
            let rest = path.strip_prefix(a.path()).expect("below a").to_owned();
            [Cgroup::open(path).expect("open"), below.open(rest).expect("open")]
        };
        for at in [&deep, &b, &a] {
            at.attach_self().expect("enter");
            for group in [&a, &b, &deep] {
                for view in views(group.path()) {
                    if at.path().starts_with(group.path()) {
                        refuses_the_caller(&view);
                    } else {
                        view.kill().expect("kill");
                        view.freeze(LIMIT).expect("freeze").thaw(LIMIT).expect("thaw");
                    }
                }
            }
            beside.kill().expect("kill");
        }
        home.attach_self().expect("home");
        // In a threaded subtree one thread is enough.
        beside.open_child("it").expect("it").make_threaded().expect("threaded");
        beside.attach_self().expect("enter");
        let threads = beside.open_child("it").expect("it");
        threads.attach_this_thread().expect("enter");
        for group in [&threads, &beside, &b, &a] {
            refuses_the_caller(group);
        }
        home.attach_self().expect("home");
        a.remove(LIMIT).expect("remove");
    });
}

#[test]
fn a_tree_deeper_than_any_path() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(limit_secs = 300, || {
        let place = place();
        let top = group(&place, "top");
        let long = name(&"d".repeat(255));
        let mut deepest = top.try_clone().expect("clone");
        for _ in 0..40 {
            deepest = deepest.create_child(&long).expect("create");
        }
        assert!(deepest.path().as_os_str().len() > 2 * libc::PATH_MAX as usize);
        let groups: Vec<Cgroup> = top.descendants().expect("walk").collect::<Result<_, _>>().expect("each");
        assert_eq!(groups.len(), 40);
        assert_eq!(groups.last().expect("last").id().expect("id"), deepest.id().expect("id"));
        // What a record of its path and id finds.
        let id = deepest.id().expect("id");
        assert_eq!(Cgroup::open(deepest.path()).expect("open").id().expect("id"), id);
        let found = place.hierarchy().open(deepest.path_in_hierarchy()).expect("open");
        assert_eq!(found.id().expect("id"), id);
        assert_eq!(place.hierarchy().open_by_id(id).expect("by id").path(), deepest.path());
        top.remove(LIMIT).expect("remove");
        assert_eq!(deepest.events().expect_err("removed").kind(), ErrorKind::Gone);
    });
}

#[test]
fn a_thousand_faults_are_not_a_thousand_errors() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(limit_secs = 300, || {
        let place = place();
        let (top, child) = closed(&place);
        for number in 0..200 {
            let other = top.create_child(&name(&format!("other-{number}"))).expect("create");
            other.create_child(&name("below")).expect("create");
        }
        let path = top.path().to_owned();
        // What is below them is root's.
        let error = as_manager(|| top.remove(Duration::from_secs(2))).expect_err("not the manager's");
        assert!((1..100).contains(&error.also().len()), "{} errors", error.also().len());
        assert!(killed(child));
        Cgroup::open(path).expect("open").remove(LIMIT).expect("remove");
    });
}

#[test]
fn no_time_limit_at_all() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let top = group(&place(), "top");
        // So many that they are not frozen at once.
        let children: Vec<_> = (0..4).map(|_| start_in(top.path(), "while :; do :; done")).collect();
        for _ in 0..5 {
            top.freeze(Duration::MAX).expect("freeze").thaw(Duration::MAX).expect("thaw");
        }
        top.remove(Duration::MAX).expect("remove");
        assert!(children.into_iter().all(killed));
    });
}

/// A neighbour with write access to the group makes groups in it, deeper and deeper, while it is removed.
#[test]
fn a_tree_that_grows_while_it_is_removed() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(limit_secs = 300, || {
        let place = place();
        let top = group(&place, "top");
        let path = top.path().to_owned();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let one = CgroupName::new("d").expect("name");
                while !done.load(Ordering::Relaxed) {
                    let Ok(mut here) = Cgroup::open(&path) else { continue };
                    while let Ok(next) = here.create_child(&one) {
                        here = next;
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                }
            });
            let started = Instant::now();
            std::thread::sleep(Duration::from_millis(100));
            let walked = top.descendants().expect("walk").count();
            let outcome = top.remove(Duration::from_secs(5));
            done.store(true, Ordering::Relaxed);
            // Either is right; that it comes to an end is what counts.
            if let Err(error) = &outcome {
                assert_eq!(error.kind(), ErrorKind::Busy, "{error:#}");
            }
            println!("{walked} groups, {outcome:?} after {:?}", started.elapsed());
            assert!(started.elapsed() < LIMIT);
        });
        if path.exists() {
            Cgroup::open(&path).expect("open").remove(LIMIT).expect("remove");
        }
    });
}

#[test]
fn a_record_of_a_group_that_was_made_anew() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let first = group(&place, "web");
        let (path, id) = (first.path().to_owned(), first.id().expect("id"));
        assert_eq!(Cgroup::open_with_id(&path, id).expect("the same").path(), path);
        first.remove(LIMIT).expect("remove");
        assert_eq!(Cgroup::open_with_id(&path, id).expect_err("none").kind(), ErrorKind::Gone);
        let other = place.create(&name("web"), &Limits::new(), &mut ()).expect("create");
        let error = Cgroup::open_with_id(&path, id).expect_err("another");
        assert_eq!(error.kind(), ErrorKind::Gone, "{error:#}");
        assert!(error.to_string().contains(path.to_str().expect("text")), "{error}");
        assert_eq!(cat(&path, "cgroup.procs"), "");
        other.remove(LIMIT).expect("remove");
    });
}

/// What stays where it is is found, whatever comes and goes beside it while the tree is gone through.
#[test]
fn nothing_hides_behind_groups_that_come_and_go() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(limit_secs = 300, || {
        let top = group(&place(), "top");
        let stays: Vec<_> = (0..30)
            .map(|number| {
                let stays = top.create_child(&name(&format!("stays-{number}"))).expect("create");
                stays.create_child(&name("below")).expect("create").path().to_owned()
            })
            .collect();
        let done = AtomicBool::new(false);
        let top_path = top.path();
        std::thread::scope(|scope| {
            for number in 0..3 {
                let done = &done;
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        let mut path = top_path.join(format!("a-{number}"));
                        let _ = fs::create_dir(&path);
                        for each in ["b", "c", "d"] {
                            path.push(each);
                            let _ = fs::create_dir(&path);
                        }
                        while path != top_path {
                            let _ = fs::remove_dir(&path);
                            path.pop();
                        }
                    }
                });
            }
            for _ in 0..150 {
                let found: Vec<_> =
                    top.descendants().expect("walk").map(|group| group.expect("open").path().to_owned()).collect();
                let missing: Vec<_> = stays.iter().filter(|stays| !found.contains(stays)).collect();
                if !missing.is_empty() {
                    done.store(true, Ordering::Relaxed);
                    panic!("{missing:?} of {}", found.len());
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        top.remove(LIMIT).expect("remove");
    });
}

#[test]
fn a_watched_group_that_is_made_anew_under_its_name() {
    use cgroupfs::{Watch, What};
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let mut watch = Watch::new().expect("watch");
        let mut before = None;
        for _ in 0..20 {
            let group = group(&place, "same");
            let watched = watch.add(&group).expect("add");
            assert_ne!(Some(&watched), before.as_ref(), "two groups are one");
            if let Some(before) = &before {
                assert!(!watch.stop(before), "what is gone is watched");
            }
            group.remove(LIMIT).expect("remove");
            before = Some(watched);
            // The next one is there before the end of this one is told.
            let next = super::group(&place, "same");
            let other = watch.add(&next).expect("add");
            let mut removed = 0;
            while let Some(event) = watch.next_within(Duration::from_millis(200)).expect("next") {
                assert_eq!(Some(&event.group), before.as_ref(), "{event:?}");
                removed += usize::from(matches!(event.what, What::Removed { .. }));
            }
            assert_eq!(removed, 1);
            assert_eq!(watch.what_is_watched().len(), 1);
            assert!(watch.stop(&other));
            next.remove(LIMIT).expect("remove");
        }
        assert!(watch.is_empty());
    });
}

/// The kernel lets a group have any name without a slash and a newline.
#[test]
fn names_that_look_like_something_else() {
    use std::os::unix::ffi::OsStrExt;
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(limit_secs = 300, || {
        let place = place();
        let hierarchy = place.hierarchy();
        let home = hierarchy.own_group().expect("own");
        let top = group(&place, "top");
        let long = "n".repeat(255);
        let names: [&[u8]; 9] =
            [b"gone (deleted)", b"\xff\xfe", b" ", b"a b\\040", b"0::", b"...", b"--", b"\x1b[2J\t", long.as_bytes()];
        for wanted in names {
            let path = top.path().join(std::ffi::OsStr::from_bytes(wanted));
            fs::create_dir(&path).expect("mkdir");
            let child = start_in(&path, "exec sleep 1000");
            let pidfd = cellkit_core::sys::pidfd_open(child.id() as i32).expect("pidfd");
            let found = hierarchy.group_of(&pidfd).expect("group");
            assert_eq!(found.path(), path);
            found.attach_self().expect("enter");
            assert_eq!(Hierarchy::detect().expect("hierarchy").own_group().expect("own").path(), path);
            refuses_the_caller(&top);
            home.attach_self().expect("home");
            assert_eq!(hierarchy.open_by_id(found.id().expect("id")).expect("by id").path(), path);
            found.kill().expect("kill");
            assert!(killed(child));
        }
        assert_eq!(top.children().expect("children").len(), names.len());
        // What it says of them is one line.
        let error = top.open_child("gone (deleted)").and_then(|group| group.open_child("x\ny")).expect_err("none");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
        top.remove(LIMIT).expect("remove");
    });
}

#[cfg(feature = "systemd")]
#[test]
fn a_set_id_program_does_not_ask_its_environment() {
    use std::future::Future;
    faultkit::require!(root);
    // No runtime is needed to be refused.
    let ask = || {
        let asked = std::pin::pin!(cgroupfs::systemd::Connection::user_by_environment());
        match asked.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(outcome) => outcome.expect_err("no bus"),
            std::task::Poll::Pending => panic!("it waits"),
        }
    };
    faultkit::isolated!(|| {
        let trusting = ask();
        let set_id = as_manager(ask);
        assert_ne!(trusting.to_string(), set_id.to_string());
        assert_eq!(set_id.kind(), ErrorKind::Invalid);
        assert!(set_id.to_string().contains("set-id"), "{set_id}");
    });
}
