#![forbid(unsafe_code)]

use cgroupfs::{Cgroup, Controller, ErrorKind, Place};

use super::{LIMIT, cat, killed, name, place, start_in};

/// A controller of this machine's cgroup2 and one that it lacks.
fn one_and_missing(place: &Place) -> (Controller, Option<Controller>) {
    let offered = place.group().controllers().expect("controllers");
    let one = offered.iter().find(|one| !one.is_threaded()).expect("a domain controller");
    (one, Controller::ALL.into_iter().find(|&other| !offered.contains(other)))
}

fn has(group: &Cgroup, file: &str, controller: Controller) -> bool {
    cat(group.path(), file).split_whitespace().any(|word| word == controller.name())
}

#[test]
fn down_a_path_and_back_where_a_level_refuses() {
    faultkit::require!(root, cgroup2("hugetlb"));
    faultkit::isolated!(|| {
        let place = place();
        let (one, missing) = one_and_missing(&place);
        let top = place.group().create_child(&name("top")).expect("top");
        let deep = top.create_nested(&["a", "b", "c"].map(name)).expect("nested");
        assert!(has(&top, "cgroup.controllers", one));
        assert!(!has(&deep, "cgroup.controllers", one));
        top.enable_down_to(&deep, one).expect("enable");
        assert!(has(&deep, "cgroup.controllers", one) && deep.controllers().expect("controllers").contains(one));
        assert!(!has(&deep, "cgroup.subtree_control", one));
        // In the wrong order it is refused, and said why.
        let error = top.disable(one).expect_err("a is passing it on");
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.hint().expect("hint").contains("further down"));
        let [a, b] = ["a", "a/b"].map(|path| Cgroup::open(top.path().join(path)).expect(path));
        for group in [&b, &a, &top] {
            group.disable(one).expect("disable");
            group.disable(one).expect("again");
            assert_eq!(cat(group.path(), "cgroup.subtree_control"), "");
        }

        // A process in a group on the way: what was enabled above it is taken back, and the error names that group.
        let child = start_in(b.path(), "exec sleep 1000");
        let error = top.enable_down_to(&deep, one).expect_err("b has a process");
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Busy, "write cgroup.subtree_control"));
        assert!(error.to_string().contains(&format!("{:?}", b.path())), "{error}");
        assert!(error.also().is_empty(), "{error:#}");
        for group in [&b, &a, &top] {
            assert_eq!(cat(group.path(), "cgroup.subtree_control"), "");
        }
        // One that this group was not given does not cost the other.
        if let Some(missing) = missing {
            let error = top.enable_down_to(&b, [one, missing]).expect_err("missing");
            // A controller that this group was not given, or one that the kernel has not heard of.
            assert_eq!((error.kind(), error.operation()), (ErrorKind::Unsupported, "write cgroup.subtree_control"));
            assert!([Some(libc::ENOENT), Some(libc::EINVAL)].contains(&error.raw_os_error()), "{error:#}");
            // Which it is, who has it, and what to do: ENOENT says none of that.
            let why_not = top.why_not_below(missing).expect("it cannot be had");
            assert!(error.to_string().contains(&format!("the {missing} controller ({})", why_not.reason())), "{error}");
            assert_eq!(error.hint(), Some(&*why_not.what_to_do()));
            assert!(error.also().is_empty());
            assert!(has(&b, "cgroup.controllers", one));
            assert!(has(&top, "cgroup.subtree_control", one));
        }
        for elsewhere in [&top, place.group()] {
            assert_eq!(top.enable_down_to(elsewhere, one).expect_err("not below").kind(), ErrorKind::Invalid);
        }
        top.remove(LIMIT).expect("remove");
        assert!(killed(child));
    });
}

#[test]
fn an_inner_group_is_evacuated_on_request() {
    faultkit::require!(root, cgroup2("hugetlb"));
    faultkit::isolated!(|| {
        let place = place();
        let (one, _) = one_and_missing(&place);
        let inner = place.group().create_child(&name("inner")).expect("inner");
        let leaf = inner.create_child(&name("leaf")).expect("leaf");
        let children: Vec<_> = (0..8).map(|_| start_in(inner.path(), "exec sleep 1000")).collect();
        assert_eq!(inner.enable(one).expect_err("busy").kind(), ErrorKind::Busy);
        assert_eq!(cat(inner.path(), "cgroup.procs").lines().count(), 8);
        inner.enable_evacuating(one, &leaf).expect("enable");
        assert_eq!(cat(inner.path(), "cgroup.procs"), "");
        assert_eq!(cat(leaf.path(), "cgroup.procs").lines().count(), 8);
        assert!(has(&leaf, "cgroup.controllers", one));
        for wrong in [&inner, place.group()] {
            assert_eq!(inner.evacuate(wrong).expect_err("not below").kind(), ErrorKind::Invalid);
        }
        inner.evacuate(&leaf).expect("nothing to move");
        inner.remove(LIMIT).expect("remove");
        assert!(children.into_iter().all(killed));
    });
}

#[test]
fn what_forks_while_it_is_moved_is_moved_whole() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let inner = place().group().create_child(&name("inner")).expect("inner");
        let leaf = inner.create_child(&name("leaf")).expect("leaf");
        let fork = "while :; do sleep 0.001 & wait; done";
        let children: Vec<_> = (0..12).map(|_| start_in(inner.path(), fork)).collect();
        inner.evacuate(&leaf).expect("evacuate");
        // Nobody is left who could make more.
        for _ in 0..5 {
            assert_eq!(cat(inner.path(), "cgroup.procs"), "");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        inner.remove(LIMIT).expect("remove");
        assert!(children.into_iter().all(killed));
        faultkit::reap_orphans();
    });
}

#[test]
fn a_threaded_controller_does_not_make_a_populated_group_threaded_by_surprise() {
    faultkit::require!(root, cgroup2("pids"));
    faultkit::isolated!(|| {
        let inner = place().group().create_child(&name("inner")).expect("inner");
        inner.create_child(&name("below")).expect("below");
        let child = start_in(inner.path(), "exec sleep 1000");
        for wanted in [vec![Controller::Pids], vec![Controller::Pids, Controller::Memory]] {
            let wanted = wanted.into_iter().collect::<cgroupfs::Controllers>();
            assert_eq!(inner.enable(wanted).expect_err("busy").kind(), ErrorKind::Busy, "{wanted}");
            assert_eq!(cat(inner.path(), "cgroup.type"), "domain");
            assert_eq!(cat(inner.path(), "cgroup.subtree_control"), "");
        }
        // The kernel would have done it.
        std::fs::write(inner.path().join("cgroup.subtree_control"), "+pids").expect("by hand");
        assert_eq!(cat(inner.path(), "cgroup.type"), "domain threaded");
        assert_eq!(cat(inner.path().join("below"), "cgroup.type"), "domain invalid");
        inner.remove(LIMIT).expect("remove");
        assert!(killed(child));
    });
}
