#![forbid(unsafe_code)]

use std::process::Command;

use cellkit_core::sys::pidfd_open;
use cgroupfs::{CgroupType, ErrorKind};

use super::{LIMIT, cat, killed, name, place, start_in, until};

#[test]
fn by_pidfd_by_number_and_oneself() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let group = place.group().create_child(&name("group")).expect("group");
        let child = Command::new("sleep").arg("1000").spawn().expect("sleep");
        let pid = child.id() as i32;
        let pidfd = pidfd_open(pid).expect("pidfd_open");
        group.attach(&pidfd).expect("attach");
        assert_eq!(cat(group.path(), "cgroup.procs"), pid.to_string());
        let other = place.group().create_child(&name("other")).expect("other");
        other.attach_pid(pid).expect("attach_pid");
        assert_eq!(
            (cat(group.path(), "cgroup.procs"), cat(other.path(), "cgroup.procs")),
            ("".into(), pid.to_string())
        );
        for nobody in [0, -1, i32::MIN] {
            assert_eq!(other.attach_pid(nobody).expect_err("nobody").kind(), ErrorKind::Invalid);
            assert_eq!(other.attach_tid(nobody).expect_err("nobody").kind(), ErrorKind::Invalid);
        }
        assert_eq!(other.attach_pid(i32::MAX).expect_err("nobody").kind(), ErrorKind::Gone);
        assert_eq!(group.attach(std::io::stdin()).expect_err("no pidfd").kind(), ErrorKind::Invalid);
        assert_eq!(group.attach_thread(&pidfd).expect_err("of a process").kind(), ErrorKind::Invalid);

        let own = place.hierarchy().own_group().expect("own");
        group.attach_self().expect("attach_self");
        assert!(cat(group.path(), "cgroup.procs").lines().any(|line| line == std::process::id().to_string()));
        own.attach_self().expect("back");

        let path = other.path().to_owned();
        other.remove(LIMIT).expect("remove");
        assert!(killed(child) && !path.exists());
        let error = group.attach(&pidfd).expect_err("dead");
        assert_eq!(error.kind(), ErrorKind::Gone, "{error:#}");
        group.remove(LIMIT).expect("remove");
    });
}

/// The threads by the kernel's file: a program that is started in the group would be one of them.
fn listed(group: &cgroupfs::Cgroup) -> String {
    std::fs::read_to_string(group.path().join("cgroup.threads")).expect("threads").trim().to_owned()
}

#[test]
fn threads_in_a_threaded_subtree() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let top = place.group().create_child(&name("pool")).expect("top");
        let [one, two, plain] = ["one", "two", "plain"].map(|each| top.create_child(&name(each)).expect(each));
        assert_eq!(top.cgroup_type().expect("type"), CgroupType::Domain);
        one.make_threaded().expect("threaded");
        two.make_threaded().expect("threaded");
        let types = [&top, &one, &plain].map(|group| group.cgroup_type().expect("type"));
        assert_eq!(types, [CgroupType::DomainThreaded, CgroupType::Threaded, CgroupType::DomainInvalid]);
        assert_eq!([&top, &one, &plain].map(|group| cat(group.path(), "cgroup.type")), types.map(|t| t.to_string()));

        let own = place.hierarchy().own_group().expect("own");
        top.attach_self().expect("enter");
        let (tid, seen) = std::thread::spawn({
            let one = one.path().to_owned();
            move || {
                let group = cgroupfs::Cgroup::open(one).expect("open");
                group.attach_this_thread().expect("move");
                let tid = cellkit_core::sys::gettid();
                (tid, listed(&group))
            }
        })
        .join()
        .expect("thread");
        assert_eq!(seen, tid.to_string());
        let tid = cellkit_core::sys::gettid();
        two.attach_tid(tid).expect("move");
        assert_eq!((two.threads().expect("threads"), listed(&two)), (vec![tid], tid.to_string()));
        // A threaded group has no list of processes, an invalid one takes nobody.
        let error = one.procs().expect_err("threaded");
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::Unsupported, Some(libc::EOPNOTSUPP)));
        let error = plain.attach_self().expect_err("invalid");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.hint().expect("hint").contains("cgroup.type"));
        // Whoever is in it is not killed with it.
        assert_eq!(two.kill().expect_err("the caller").kind(), ErrorKind::Invalid);
        own.attach_self().expect("back");
        top.remove(LIMIT).expect("remove");
    });
}

#[test]
fn the_processes_of_a_threaded_group_are_killed_and_it_is_removed() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let top = place().group().create_child(&name("pool")).expect("top");
        let threaded = top.create_child(&name("threaded")).expect("threaded");
        threaded.make_threaded().expect("threaded");
        // Its one thread is in the threaded group, the process belongs to the one above.
        let child = start_in(top.path(), "echo $$ > \"$0/threaded/cgroup.threads\" && exec sleep 1000");
        until("moved", || cat(threaded.path(), "cgroup.threads") == child.id().to_string());
        let path = threaded.path().to_owned();
        threaded.remove(LIMIT).expect("remove");
        assert!(!path.exists());
        assert!(killed(child));
        top.remove(LIMIT).expect("remove");
    });
}
