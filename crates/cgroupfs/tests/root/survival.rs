#![forbid(unsafe_code)]

use std::fs;

use cgroupfs::{Cgroup, CgroupName, Controller, Error, Hierarchy, Limits, PidsMax, StatsParts, Watch};
use faultkit::{Counted, End, Failure, Fault, Run, Sweep};

use super::{LIMIT, cat, command_in, group, killed, name, place, start_in, start_sleep_in, until};

fn failure(error: &Error) -> Failure {
    Failure::new(error.operation(), error.raw_os_error(), format!("{error:#}"))
}

/// An injected error is reported, or was got round; what must not be is a fault without a word that matters.
fn reported(run: &Run) -> Result<(), String> {
    match &run.end {
        End::Returned(Err(failure)) if failure.text.is_empty() => Err("an error without words".to_owned()),
        _ => Ok(()),
    }
}

/// How frozen each group of the test is, as the kernel has it.
fn ice(top: &std::path::Path) -> Vec<String> {
    ["", "below"].map(|group| fs::read_to_string(top.join(group).join("cgroup.freeze")).unwrap_or_default()).into()
}

#[test]
fn freezing_never_leaves_ice_whatever_call_fails() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(limit_secs = 300, || {
        let top = group(&place(), "top");
        let below = top.create_child(&name("below")).expect("below");
        let child = start_sleep_in(below.path());
        let path = top.path().to_owned();
        let sweep = Sweep::new(|counted: &Counted<'_>| {
            counted.run(|| top.freeze(LIMIT).and_then(|frozen| frozen.thaw(LIMIT))).map_err(|error| failure(&error))
        })
        .observe(|| ice(&path));
        for errno in [libc::EMFILE, libc::EINTR, libc::ENOMEM] {
            let swept = sweep.each(Fault::Fail(errno), reported);
            assert!(swept.runs > 5, "{swept:?}");
        }
        until("thawed", || cat(&path, "cgroup.events").contains("frozen 0"));
        drop(sweep);
        top.remove(LIMIT).expect("remove");
        assert!(killed(child));
    });
}

#[test]
fn making_and_enabling_leave_nothing_whatever_call_fails() {
    faultkit::require!(root, cgroup2("hugetlb"));
    faultkit::isolated!(limit_secs = 300, || {
        let top = group(&place(), "top");
        let names = ["a", "b", "c"].map(|each| CgroupName::new(each).expect(each));
        let sweep = Sweep::new(|counted: &Counted<'_>| {
            counted.run(|| top.create_nested(&names)).map_err(|error| failure(&error))?;
            top.open_child("a").and_then(|a| a.remove(LIMIT)).map_err(|error| failure(&error))
        })
        .spare("rmdir of what was made: what cannot be removed is said", |call| call.name == "unlinkat");
        for errno in [libc::EMFILE, libc::EBUSY, libc::ENOMEM] {
            sweep.each(Fault::Fail(errno), reported);
        }
        drop(sweep);

        let deep = top.create_nested(&names).expect("nested");
        let control = |path: &str| fs::read_to_string(top.path().join(path).join("cgroup.subtree_control"));
        let controls = || ["", "a", "a/b"].map(|path| control(path).unwrap_or_default()).to_vec();
        let sweep = Sweep::new(|counted: &Counted<'_>| {
            let outcome = counted.run(|| top.enable_down_to(&deep, Controller::Hugetlb));
            if outcome.is_ok() {
                for path in ["a/b", "a", ""] {
                    fs::write(top.path().join(path).join("cgroup.subtree_control"), "-hugetlb").expect("disable");
                }
            }
            outcome.map_err(|error| failure(&error))
        })
        .observe(controls);
        for errno in [libc::EMFILE, libc::EBUSY, libc::EIO] {
            sweep.each(Fault::Fail(errno), reported);
        }
        drop(sweep);
        top.remove(LIMIT).expect("remove");
    });
}

#[test]
fn giving_away_is_all_or_nothing_whatever_call_fails() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(limit_secs = 300, || {
        use std::os::unix::fs::{MetadataExt, chown};
        let top = group(&place(), "top");
        let owners = || {
            let files = ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "cgroup.max.depth"];
            files.map(|file| fs::metadata(top.path().join(file)).expect("stat").uid().to_string()).to_vec()
        };
        let sweep = Sweep::new(|counted: &Counted<'_>| {
            let outcome = counted.run(|| top.delegate(12345, 12345));
            for file in outcome.iter().flatten().map(String::as_str).chain([""]) {
                if outcome.is_ok() {
                    chown(top.path().join(file), Some(0), Some(0)).expect("chown");
                }
            }
            outcome.map(drop).map_err(|error| failure(&error))
        })
        .observe(owners);
        for errno in [libc::EMFILE, libc::EPERM, libc::EIO] {
            sweep.each(Fault::Fail(errno), reported);
        }
        drop(sweep);
        top.remove(LIMIT).expect("remove");
    });
}

#[test]
fn who_is_killed_while_removing_leaves_what_the_next_one_removes() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(limit_secs = 300, || {
        let place = place();
        let path = place.group().path().join("top");
        let prepare = || {
            let top = place.group().create_child(&name("top")).expect("top");
            let below = top.create_nested(&[name("a"), name("b")]).expect("nested");
            fs::write(below.path().join("cgroup.freeze"), "1").expect("freeze");
            top
        };
        let sweep = Sweep::new(|counted: &Counted<'_>| {
            let top = prepare();
            let outcome = counted.run(|| top.remove(LIMIT));
            if outcome.is_err() {
                Cgroup::open(&path).and_then(|top| top.remove(LIMIT)).map_err(|error| failure(&error))?;
            }
            outcome.map_err(|error| failure(&error))
        })
        .recover(|| {
            if path.exists() {
                Cgroup::open(&path).expect("open").remove(LIMIT).expect("remove");
            }
        });
        sweep.each(Fault::KillCaller, reported);
        sweep.each(Fault::Fail(libc::EMFILE), reported);
    });
}

/// Whoever manages groups may be in one that lets it start nothing: no process, and no thread.
#[test]
fn a_caller_alone_in_a_group_of_one_task_does_everything() {
    faultkit::require!(root, cgroup2("pids"));
    faultkit::isolated!(|| {
        let place = place();
        let limits = Limits::new().pids_max(PidsMax::LEAST);
        let alone = place.create(&name("alone"), &limits, &mut ()).expect("create");
        let other = group(&place, "other");
        let child = start_in(other.path(), "exec sleep 1000");
        assert_eq!(cat(alone.path(), "pids.max"), "1");
        alone.attach_self().expect("in");
        let refused = std::thread::Builder::new().spawn(|| ()).err().and_then(|error| error.raw_os_error());

        let outcome = (|| {
            let place = Hierarchy::detect()?.place()?;
            let made = place.hierarchy().open("/other")?.create_nested(&["a", "b"].map(name))?;
            other.freeze(LIMIT)?.thaw(LIMIT)?;
            let mut watch = Watch::new()?;
            watch.add(&other)?;
            let stats = other.stats(StatsParts::ALL)?;
            place.hierarchy().open_by_id(made.id()?)?;
            assert!(!other.apply(&Limits::new().pids_max(PidsMax::LEAST))?.is_unchanged());
            other.remove(LIMIT)?;
            Ok::<_, Error>(stats.pids_current)
        })();
        place.hierarchy().open("/test").and_then(|home| home.attach_self()).expect("out");
        assert_eq!(refused, Some(libc::EAGAIN), "no thread could be started");
        assert_eq!(outcome.expect("everything"), Some(1));
        assert!(killed(child));
        // A second one fits into it by being moved, and its own child does not.
        let script = "sleep 0 || exit 7";
        let first = start_in(alone.path(), "exec sleep 1000");
        let second = command_in(alone.path(), script).stderr(std::process::Stdio::null()).status().expect("sh");
        assert!(!second.success());
        assert_eq!(alone.pids().current().expect("current"), 1);
        assert!(alone.pids().events().expect("events").max > 0);
        alone.remove(LIMIT).expect("remove");
        assert!(killed(first));
    });
}

/// The bomb is another user's, whom the kernel allows 64 tasks: it would end the machine without.
#[test]
fn a_fork_bomb_under_a_cap_in_a_frozen_nested_tree() {
    faultkit::require!(root, cgroup2, program("prlimit"));
    faultkit::isolated!(|| {
        let top = group(&place(), "bomb");
        let deep = top.create_nested(&["a", "b", "c"].map(name)).expect("nested");
        // A shell that cannot fork gives up, so that one of root's, who is not counted, lights it again and again.
        let bomb = "while :; do prlimit --nproc=64 setpriv --reuid 34567 --clear-groups \
                    sh -c 'b() { b & b & sleep 1; }; b'; done";
        let child = command_in(deep.path(), bomb).stderr(std::process::Stdio::null()).spawn().expect("sh");
        until("it goes off", || cat(deep.path(), "cgroup.procs").lines().count() > 10);
        top.raw("cgroup.freeze").write("1").expect("freeze");
        let path = top.path().to_owned();
        top.remove(LIMIT).expect("remove");
        assert!(!path.exists());
        // The first shell may have given up by itself, when it could not fork.
        assert!(!child.wait_with_output().expect("wait").status.success());
        faultkit::reap_orphans();
    });
}
