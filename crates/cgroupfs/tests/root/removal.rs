#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use cgroupfs::{Cgroup, ErrorKind, Limits};

use super::{LIMIT, cat, command_in, group, killed, name, place, start_in, until};

#[test]
fn fifty_in_a_row() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let started = Instant::now();
        for _ in 0..50 {
            let group = group(&place, "again");
            let child = command_in(group.path(), "exec sleep 1000").spawn().expect("sh");
            let path = group.path().to_owned();
            group.remove(LIMIT).expect("remove");
            assert!(!path.exists());
            // It was killed in the group, or found no group to enter.
            let status = child.wait_with_output().expect("wait").status;
            assert!(status.signal() == Some(9) || status.code() == Some(2) || status.code() == Some(1), "{status}");
        }
        assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
    });
}

#[test]
fn processes_that_fork_without_end_in_groups_below_groups() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(limit_secs = 300, || {
        let place = place();
        let top = group(&place, "bomb");
        let mut paths = vec![top.path().to_owned()];
        for below in ["a", "b", "c"] {
            let deeper = paths.last().expect("one").join(below);
            fs::create_dir(&deeper).expect("mkdir");
            fs::create_dir(deeper.join("empty")).expect("mkdir");
            paths.push(deeper);
        }
        // Fifty shells, each of which starts one short process after another.
        let fork = "while :; do sleep 0.001 & wait; done";
        // All begin at once, when the group thaws.
        top.raw("cgroup.freeze").write("1").expect("freeze");
        let children: Vec<_> = (0..50).map(|n| start_in(&paths[n % paths.len()], fork)).collect();
        top.raw("cgroup.freeze").write("0").expect("thaw");
        std::thread::sleep(Duration::from_millis(300));
        let started = Instant::now();
        let path = top.path().to_owned();
        top.remove(LIMIT).expect("remove");
        println!("removed after {:?}", started.elapsed());
        assert!(!path.exists());
        assert!(children.into_iter().all(killed));
        faultkit::reap_orphans();
    });
}

#[test]
fn frozen_and_stopped_processes() {
    faultkit::require!(root, cgroup2, program("kill"));
    faultkit::isolated!(|| {
        let place = place();
        let frozen = group(&place, "frozen");
        let child = start_in(frozen.path(), "exec sleep 1000");
        frozen.raw("cgroup.freeze").write("1").expect("freeze");
        until("frozen", || frozen.events().expect("events").frozen == Some(true));
        let stopped_in = group(&place, "stopped");
        let stopped = start_in(stopped_in.path(), "exec sleep 1000");
        let status = std::process::Command::new("kill").args(["-STOP", &stopped.id().to_string()]).status();
        assert!(status.expect("kill").success());
        frozen.remove(LIMIT).expect("remove");
        stopped_in.remove(LIMIT).expect("remove");
        assert!(killed(child) && killed(stopped));
    });
}

#[test]
fn a_zombie_is_no_reason_to_wait() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let group = group(&place(), "zombie");
        let mut child = start_in(group.path(), "exec sleep 1000");
        child.kill().expect("kill");
        let stat = format!("/proc/{}/stat", child.id());
        until("a zombie", || fs::read_to_string(&stat).expect("stat").contains(") Z "));
        group.remove(Duration::from_secs(1)).expect("remove");
        assert!(killed(child));
    });
}

#[test]
fn deep_and_wide_trees_with_few_descriptors() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let top = group(&place(), "tree");
        let mut deep = top.path().to_owned();
        for _ in 0..200 {
            deep.push("d");
            fs::create_dir(&deep).expect("mkdir");
        }
        for n in 0..200 {
            fs::create_dir(top.path().join(n.to_string())).expect("mkdir");
        }
        let child = start_in(&deep, "exec sleep 1000");
        let (path, before) = (top.path().to_owned(), limit_of_open_files(24));
        let removed = top.remove(LIMIT);
        limit_of_open_files(before);
        removed.expect("remove");
        assert!(!path.exists());
        assert!(killed(child));
    });
}

/// Sets the soft limit of open files and answers what it was.
fn limit_of_open_files(soft: u64) -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (before, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("getrlimit");
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("setrlimit");
    before
}

#[test]
fn another_group_of_the_same_name_is_left_alone() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let old = group(&place, "same");
        fs::remove_dir(old.path()).expect("rmdir");
        let new = group(&place, "same");
        old.remove(LIMIT).expect("it is gone");
        assert!(new.path().is_dir());
        assert!(new.procs().expect("procs").is_empty());
        new.remove(LIMIT).expect("remove");
    });
}

#[test]
fn two_who_remove_the_same_group() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        for _ in 0..10 {
            let one = group(&place, "shared");
            let other = Cgroup::open(one.path()).expect("open");
            let children: Vec<_> = (0..4).map(|_| start_in(one.path(), "exec sleep 1000")).collect();
            std::thread::scope(|scope| {
                let both = [scope.spawn(|| one.remove(LIMIT)), scope.spawn(|| other.remove(LIMIT))];
                both.into_iter().for_each(|removed| removed.join().expect("thread").expect("remove"));
            });
            assert!(children.into_iter().all(killed));
        }
        assert_eq!(place.hierarchy().open("/shared").expect_err("removed").kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_group_that_is_mounted_by_itself_says_so() {
    faultkit::require!(root, cgroup2, program("mount"));
    faultkit::isolated!(|| {
        let place = place();
        let group = group(&place, "mounted");
        fs::create_dir("/run/only").expect("mkdir");
        let mount = |program: &str, arguments: &[&str]| {
            assert!(std::process::Command::new(program).args(arguments).status().expect(program).success());
        };
        mount("mount", &["--bind", group.path().to_str().expect("text"), "/run/only"]);
        let only = Cgroup::open("/run/only").expect("open");
        let in_hierarchy = only.path_in_hierarchy();
        let removed = only.remove(LIMIT);
        mount("umount", &["/run/only"]);
        fs::remove_dir("/run/only").expect("rmdir");
        assert_eq!(in_hierarchy, std::path::Path::new("/"));
        let error = removed.expect_err("at the top of its mount");
        assert_eq!(error.raw_os_error(), Some(libc::EXDEV));
        assert!(error.hint().expect("hint").contains("the group above"));
        assert_eq!(cat(group.path(), "cgroup.procs"), "");
        group.remove(LIMIT).expect("remove");
        place.create(&name("mounted"), &Limits::new(), &mut ()).expect("free again").remove(LIMIT).expect("remove");
    });
}
