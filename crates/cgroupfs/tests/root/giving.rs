#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::MetadataExt;

use cgroupfs::{Controller, DelegateFiles, ErrorKind, Hierarchy, Layout, Max, PressureAccounting, Reason};

use super::{LIMIT, cat, killed, name, place, start_in};

#[test]
fn exactly_the_kernels_list_is_given() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let group = place().group().create_child(&name("given")).expect("group");
        let given = group.delegate(12345, 23456).expect("delegate");
        let listed = match fs::read_to_string("/sys/kernel/cgroup/delegate") {
            Ok(text) => text.lines().map(str::to_owned).collect(),
            Err(_) => DelegateFiles::built_in().names().map(str::to_owned).collect::<Vec<_>>(),
        };
        let owner = |path: &std::path::Path| fs::metadata(path).map(|data| (data.uid(), data.gid())).expect("stat");
        assert_eq!(owner(group.path()), (12345, 23456));
        for entry in fs::read_dir(group.path()).expect("list") {
            let file = entry.expect("entry").file_name().into_string().expect("text");
            let expected = if listed.contains(&file) { (12345, 23456) } else { (0, 0) };
            assert_eq!(owner(&group.path().join(&file)), expected, "{file}");
            assert_eq!(given.contains(&file), listed.contains(&file), "{file}");
        }
        for (uid, gid) in [(u32::MAX, 0), (0, u32::MAX)] {
            assert_eq!(group.delegate(uid, gid).expect_err("as it is").kind(), ErrorKind::Invalid);
        }
        group.remove(LIMIT).expect("remove");
    });
}

#[test]
fn depth_number_counts_and_pressure() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let group = place().group().create_child(&name("group")).expect("group");
        assert_eq!((group.max_depth().expect("depth"), group.max_descendants().expect("number")), (Max::Max, Max::Max));
        group.set_max_depth("3".parse::<cgroupfs::Depth>().expect("3")).expect("set");
        group.set_max_descendants("7".parse::<cgroupfs::DescendantCount>().expect("7")).expect("set");
        assert_eq!(
            (cat(group.path(), "cgroup.max.depth"), cat(group.path(), "cgroup.max.descendants")),
            ("3".into(), "7".into())
        );
        group.create_nested(&[name("a"), name("b")]).expect("nested");
        let stat = group.stat().expect("stat");
        assert!(cat(group.path(), "cgroup.stat").contains(&format!("nr_descendants {}", stat.nr_descendants)));
        assert_eq!(stat.nr_descendants, 2);
        match group.set_pressure_accounting(PressureAccounting::Off) {
            Ok(()) => {
                assert_eq!(cat(group.path(), "cgroup.pressure"), "0");
                assert_eq!(group.pressure_accounting().expect("pressure"), PressureAccounting::Off);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:#}");
                assert!(!group.path().join("cgroup.pressure").exists());
            }
        }
        match group.stat_local() {
            Ok(stat) => assert!(stat.frozen_usec.is_some()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported);
                assert!(!group.path().join("cgroup.stat.local").exists());
            }
        }
        group.remove(LIMIT).expect("remove");
    });
}

#[test]
fn reasons_above_a_group() {
    faultkit::require!(root, cgroup2("hugetlb"));
    faultkit::isolated!(|| {
        let one = Controller::Hugetlb;
        let place = place();
        let top = place.group().create_child(&name("top")).expect("top");
        let [a, b] = [&["a"][..], &["a", "b"]]
            .map(|path| top.create_nested(&path.iter().map(|each| name(each)).collect::<Vec<_>>()).expect("nested"));
        assert_eq!(top.why_not(one), None);
        assert_eq!(top.why_not_below(one), None);
        let reason = |why_not: Option<cgroupfs::WhyNot>| why_not.expect("a reason").reason().clone();
        assert_eq!(reason(b.why_not(one)), Reason::NotPassedDown { group: top.path().to_owned() });
        top.enable(one).expect("enable");
        assert_eq!(reason(b.why_not(one)), Reason::NotPassedDown { group: a.path().to_owned() });
        // Processes in the inner node: said of it, and of what is below.
        let child = start_in(a.path(), "exec sleep 1000");
        let held = Reason::HoldsProcesses { group: a.path().to_owned(), processes: 1 };
        assert_eq!(reason(b.why_not(one)), held);
        assert_eq!(reason(a.why_not_below(one)), held);
        assert_eq!(a.enable(one).expect_err("the kernel agrees").kind(), ErrorKind::Busy);
        // What is threaded has no domain controllers.
        let pool = place.group().create_child(&name("pool")).expect("pool");
        pool.create_child(&name("threads")).expect("threads").make_threaded().expect("threaded");
        assert_eq!(reason(pool.why_not_below(one)), Reason::Threaded { group: pool.path().to_owned() });
        assert_eq!(pool.enable(one).expect_err("the kernel agrees").kind(), ErrorKind::Unsupported);
        pool.remove(LIMIT).expect("remove");
        top.remove(LIMIT).expect("remove");
        assert!(killed(child));
    });
}

#[test]
fn paths_as_the_namespace_has_them() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let place = place();
        let hierarchy = place.hierarchy();
        let deep = place.group().create_nested(&[name("a"), name("b")]).expect("nested");
        let child = start_in(deep.path(), "exec sleep 1000");
        let line = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).expect("cgroup");
        let theirs = line.lines().find_map(|line| line.strip_prefix("0::")).expect("version 2");
        assert_eq!(hierarchy.path_in_namespace(&deep).expect("path"), std::path::Path::new(theirs));
        // A cgroup namespace hides what is above it.
        assert_eq!(hierarchy.path_in_initial_namespace(&deep).expect("path"), None);
        let at = Hierarchy::at(&deep).expect("at");
        assert_eq!(at.path_in_namespace(&at.open("/").expect("top")).expect("path"), std::path::Path::new(theirs));
        let pidfd = cellkit_core::sys::pidfd_open(child.id() as i32).expect("pidfd");
        assert_eq!(hierarchy.group_of(&pidfd).expect("group").path(), deep.path());
        assert_eq!(Layout::detect().expect("layout"), hierarchy.layout());
        place.group().open_child("a").expect("a").remove(LIMIT).expect("remove");
        assert!(killed(child));
        assert_eq!(hierarchy.group_of(&pidfd).expect_err("dead").kind(), ErrorKind::Gone);
    });
}
