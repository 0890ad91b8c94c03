#![forbid(unsafe_code)]

use std::fs;
use std::sync::Barrier;
use std::time::Duration;

use cellkit_core::StepText;
use cgroupfs::{Bytes, Cgroup, CgroupName, Controller, ErrorKind, Limits, PidsMax};

use super::{LIMIT, cat, group, killed, name, place, start_in, until};

#[test]
fn makes_what_it_says_and_removes_it() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let plan = place.describe_create(&name("web"), &Limits::new());
        let mut made: Vec<(StepText, Duration)> = Vec::new();
        let group = place.create(&name("web"), &Limits::new(), &mut made).expect("create");
        let made: Vec<StepText> = made.into_iter().map(|(step, _)| step).collect();
        assert_eq!(made, plan);
        assert_eq!(made.iter().map(|step| &*step.call).collect::<Vec<_>>(), ["mkdirat", "openat2"]);

        assert!(group.path().is_dir());
        let child = start_in(group.path(), "exec sleep 1000");
        let line = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).expect("cgroup");
        assert!(line.lines().any(|line| line == "0::/web"), "{line}");
        assert_eq!(group.procs().expect("procs"), [child.id() as i32]);
        assert!(group.events().expect("events").populated);
        assert!(cat(group.path(), "cgroup.events").contains("populated 1"));
        assert!(group.cpu().stat().expect("cpu.stat").usage_usec > 0);
        let path = group.path().to_owned();
        group.remove(LIMIT).expect("remove");
        assert!(!path.exists());
        assert!(killed(child));
    });
}

#[test]
fn a_name_that_is_taken_is_refused_and_left_alone() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let first = group(&place, "taken");
        let child = start_in(first.path(), "exec sleep 1000");
        let error = place.create(&name("taken"), &Limits::new(), &mut ()).expect_err("taken");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(error.operation(), "mkdirat");
        assert!(error.hint().expect("hint").contains("left behind"));
        assert_eq!(cat(first.path(), "cgroup.procs"), child.id().to_string());
        first.remove(LIMIT).expect("remove");
        assert!(killed(child));
    });
}

#[test]
fn of_racers_for_one_name_one_wins() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let start = Barrier::new(16);
        let won: Vec<_> = std::thread::scope(|scope| {
            let racer = || {
                start.wait();
                place.create(&name("race"), &Limits::new(), &mut ())
            };
            let racers: Vec<_> = (0..16).map(|_| scope.spawn(racer)).collect();
            racers.into_iter().map(|racer| racer.join().expect("racer")).collect()
        });
        let (won, lost): (Vec<_>, Vec<_>) = won.into_iter().partition(Result::is_ok);
        assert_eq!((won.len(), lost.len()), (1, 15));
        assert!(lost.into_iter().all(|lost| lost.expect_err("lost").kind() == ErrorKind::AlreadyExists));
        won.into_iter().for_each(|won| won.expect("won").remove(LIMIT).expect("remove"));
    });
}

#[test]
fn a_limit_without_its_controller_is_refused_before_anything_is_made() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let limits = Limits::new().memory_max(Bytes::mib(64)).pids_max(PidsMax::LEAST);
        let missing: Vec<_> = limits.controllers().iter().filter_map(|one| place.why_not(one)).collect();
        let mut made: Vec<(StepText, Duration)> = Vec::new();
        match place.create(&name("limited"), &limits, &mut made) {
            Ok(group) => {
                assert!(missing.is_empty(), "{missing:?}");
                assert_eq!(cat(group.path(), "memory.max"), (64 << 20).to_string());
                group.remove(LIMIT).expect("remove");
            }
            Err(error) => {
                assert_eq!(error.also().len() + 1, missing.len(), "{error:#}");
                assert_eq!(error.kind(), ErrorKind::Unsupported);
                assert!(made.is_empty());
                assert!(!place.group().path().join("limited").exists());
                let text = error.to_string();
                let mount_point = place.hierarchy().mount_point();
                // The tasks are written first, so they are asked for first.
                let start = format!("write pids.max {mount_point:?}: the pids controller (");
                assert!(text.starts_with(&start), "{text}");
                assert_eq!(
                    error.hint().map(str::to_owned),
                    place.why_not(Controller::Pids).map(|why| why.what_to_do())
                );
            }
        }
    });
}

#[test]
fn a_controller_that_is_not_passed_down_yet_is_enabled_after_the_group_is_made() {
    faultkit::require!(root, cgroup2("pids"));
    faultkit::isolated!(|| {
        let place = place();
        let control = place.group().path().join("cgroup.subtree_control");
        let before = fs::read_to_string(&control).expect("subtree_control");
        fs::write(&control, "-pids").expect("disable");
        let limits = Limits::new().pids_max(PidsMax::try_from(7).expect("7"));
        let plan = place.describe_create(&name("limited"), &limits);
        let calls: Vec<String> =
            plan.iter().map(ToString::to_string).filter(|call| call.starts_with("write")).collect();
        assert_eq!(calls, [r#"write cgroup.subtree_control("+pids")"#, r#"write pids.max("7")"#]);
        let group = place.create(&name("limited"), &limits, &mut ()).expect("create");
        assert_eq!(cat(group.path(), "pids.max"), "7");
        group.remove(LIMIT).expect("remove");
        assert_eq!(fs::read_to_string(&control).expect("subtree_control"), before);
    });
}

#[test]
fn everything_about_a_removed_group_is_gone() {
    faultkit::require!(root, cgroup2, program("rmdir"));
    faultkit::isolated!(|| {
        let group = group(&place(), "short");
        let status = std::process::Command::new("rmdir").arg(group.path()).status().expect("rmdir");
        assert!(status.success());
        assert_eq!(group.procs().expect_err("gone").kind(), ErrorKind::Gone);
        assert_eq!(group.events().expect_err("gone").kind(), ErrorKind::Gone);
        assert_eq!(group.memory().events().expect_err("gone").kind(), ErrorKind::Gone);
        assert_eq!(group.raw("cgroup.freeze").write("1").expect_err("gone").kind(), ErrorKind::Gone);
        group.kill().expect("nothing to kill");
        group.remove(LIMIT).expect("nothing to remove");
    });
}

#[test]
fn a_file_that_is_absent_is_explained() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let above = group(&place, "above");
        // Nothing is passed down to it.
        let below = above.path().join("below");
        fs::create_dir(&below).expect("mkdir");
        assert_eq!(cat(&below, "cgroup.controllers"), "");
        let group = Cgroup::open(&below).expect("open");
        let error = group.memory().max().expect_err("no controller");
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Unsupported, Some(libc::ENOENT)));
        assert!(error.to_string().contains("the memory controller (not enabled for this group)"), "{error}");
        assert!(error.hint().expect("hint").contains("+memory in its cgroup.subtree_control"), "{error:#}");
        let error = group.raw("io.cost.qos").read().expect_err("not here");
        assert!(error.to_string().contains("below the root of the hierarchy"), "{error}");
        let unknown = group.raw("no.such.file").read().expect_err("unknown");
        assert_eq!(unknown.kind(), ErrorKind::NotFound);
        above.remove(LIMIT).expect("remove");
    });
}

#[test]
fn any_file_by_name_and_nothing_but_files() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let group = group(&place, "raw");
        group.raw("cgroup.max.depth").write("3").expect("write");
        assert_eq!(cat(group.path(), "cgroup.max.depth"), "3");
        assert_eq!(group.raw("cgroup.max.depth").read().expect("read"), "3\n");
        assert_eq!(group.raw("cgroup.stat").flat_keyed().expect("stat")["nr_descendants"], 0);
        for file in ["", ".", "..", "../cgroup.procs", "a/b", "/etc/passwd", "x\0y"] {
            assert_eq!(group.raw(file).read().expect_err(file).kind(), ErrorKind::Invalid);
        }
        let error = group.raw("no.such").read().expect_err("none");
        assert_eq!((error.kind(), error.operation()), (ErrorKind::NotFound, "read no.such"));
        assert!(error.hint().expect("hint").contains("not enabled"));
        let error = group.raw("cgroup.freeze").write("2").expect_err("not 0 or 1");
        assert_eq!((error.operation(), error.raw_os_error()), ("write cgroup.freeze", Some(libc::ERANGE)));
        assert!(error.to_string().starts_with(&format!("write cgroup.freeze {:?}: ", group.path())), "{error}");

        // The depth is a limit of its own kind.
        group.raw("cgroup.max.depth").write("0").expect("write");
        let below = cgroupfs::Hierarchy::at(&group).expect("at");
        assert_eq!(below.place().expect_err("own group is not below").kind(), ErrorKind::NotFound);
        place.group().raw("cgroup.max.descendants").write("2").expect("write");
        let refused = place.create(&name("one-too-many"), &Limits::new(), &mut ()).expect_err("a limit");
        place.group().raw("cgroup.max.descendants").write("max").expect("write");
        assert_eq!(refused.kind(), ErrorKind::Limit);
        assert!(refused.hint().expect("hint").contains("cgroup.max.descendants"));
        group.remove(LIMIT).expect("remove");
    });
}

#[test]
fn kills_all_at_once_but_never_the_caller() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let below = place.group();
        for refused in [below.kill(), place.hierarchy().own_group().expect("own").kill()] {
            let error = refused.expect_err("the caller is in it");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        }
        let own = place.hierarchy().own_group().expect("own");
        assert_eq!(own.remove(LIMIT).expect_err("the caller is in it").kind(), ErrorKind::Invalid);

        let group = group(&place, "killed");
        let children: Vec<_> = (0..5).map(|_| start_in(group.path(), "exec sleep 1000")).collect();
        group.kill().expect("kill");
        assert!(children.into_iter().all(killed));
        until("empty", || cat(group.path(), "cgroup.events").contains("populated 0"));
        group.kill().expect("nothing to kill");
        group.remove(LIMIT).expect("remove");
    });
}

#[test]
fn names_come_from_outside_and_stay_names() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        for odd in ["-rf", "web@1:2+x", "..a", &"a".repeat(255)] {
            let group = place.create(&CgroupName::new(odd).expect(odd), &Limits::new(), &mut ()).expect(odd);
            assert_eq!(group.path().parent(), Some(place.group().path()));
            assert!(group.path().is_dir());
            group.remove(LIMIT).expect(odd);
        }
    });
}
