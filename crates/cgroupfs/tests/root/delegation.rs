#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use cgroupfs::{Cgroup, Controller, ErrorKind, Hierarchy, Limits, Reason};
use nix::unistd::{Uid, seteuid};

use super::{LIMIT, cat, killed, name};

const USER: u32 = 12345;

/// Groups made by hand, as an administrator would, and the test's own process in one of them. Removed in the end.
struct Machine {
    top: PathBuf,
    made: Vec<PathBuf>,
}

impl Machine {
    fn new() -> Self {
        Self { top: Hierarchy::detect().expect("hierarchy").mount_point().to_owned(), made: Vec::new() }
    }

    fn make(&mut self, path: &str) -> PathBuf {
        let path = self.top.join(path);
        fs::create_dir(&path).expect("mkdir");
        self.made.push(path.clone());
        path
    }

    fn delegated(&mut self, path: &str) -> PathBuf {
        let path = self.make(path);
        for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
            chown(path.join(file), Some(USER), Some(USER)).expect("chown");
        }
        path
    }

    fn enter(&self, group: &Path) {
        fs::write(group.join("cgroup.procs"), std::process::id().to_string()).expect("enter");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.enter(&self.top.join("test"));
        for path in self.made.iter().rev() {
            fs::remove_dir(path).expect("rmdir");
        }
    }
}

/// Runs `body` with the effective ids of an ordinary user, who has no capabilities.
fn as_user<T>(body: impl FnOnce() -> T) -> T {
    struct Root;
    impl Drop for Root {
        fn drop(&mut self) {
            seteuid(Uid::from_raw(0)).expect("seteuid");
        }
    }
    seteuid(Uid::from_raw(USER)).expect("seteuid");
    let _root = Root;
    body()
}

#[test]
fn a_user_without_a_delegated_group_is_told_how_to_get_one() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let error = as_user(|| Hierarchy::detect().expect("hierarchy").place().expect_err("no place"));
        assert_eq!(error.kind(), ErrorKind::Permission);
        assert!(format!("{error:#}").starts_with("no group may be made here: faccessat"), "{error:#}");
        assert!(error.hint().expect("hint").contains("systemd-run --user --scope -p Delegate=yes"));
        assert_eq!(error.also().len(), 0);
    });
}

#[test]
fn a_user_gets_the_topmost_delegated_group() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let mut machine = Machine::new();
        machine.make("slice");
        let delegated = machine.delegated("slice/user");
        let inner = machine.delegated("slice/user/session");
        machine.enter(&inner);
        let (place, made) = as_user(|| {
            let place = Hierarchy::detect().expect("hierarchy").place().expect("place");
            let group = place.create(&name("mine"), &Limits::new(), &mut ()).expect("create");
            // A process that the user starts can be moved into it: the nearest group above both is the user's.
            let child = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep");
            group.raw("cgroup.procs").write(child.id().to_string()).expect("move");
            let listed = cat(group.path(), "cgroup.procs") == child.id().to_string();
            let path = group.path().to_owned();
            group.remove(LIMIT).expect("remove");
            assert!(killed(child));
            (place.group().path().to_owned(), (path, listed))
        });
        assert_eq!(place, delegated);
        assert_eq!(made, (delegated.join("mine"), true));
        drop(machine);
    });
}

#[test]
fn half_a_delegation_is_none() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
            let mut machine = Machine::new();
            let delegated = machine.delegated("user");
            chown(delegated.join(file), Some(0), Some(0)).expect("chown");
            machine.enter(&delegated);
            let refused = as_user(|| Hierarchy::detect().expect("hierarchy").place().map(|_| ()));
            assert_eq!(refused.expect_err("half").kind(), ErrorKind::Permission, "{file:?}");
        }
    });
}

#[test]
fn a_group_that_has_the_callers_own_process_passes_nothing_down() {
    faultkit::require!(root, cgroup2("memory"));
    faultkit::isolated!(|| {
        let mut machine = Machine::new();
        let delegated = machine.delegated("user");
        machine.enter(&delegated);
        let (reason, refused) = as_user(|| {
            let place = Hierarchy::detect().expect("hierarchy").place().expect("place");
            let why_not = place.why_not(Controller::Memory).expect("a reason");
            let refused = Cgroup::open(&delegated).expect("open").raw("cgroup.subtree_control").write("+memory");
            (why_not.reason().clone(), refused)
        });
        assert_eq!(reason, Reason::HoldsProcesses { group: delegated.clone(), processes: 1 });
        // The kernel agrees, and its answer is explained.
        let error = refused.expect_err("busy");
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.hint().expect("hint").contains("processes of its own"));
        drop(machine);
    });
}

#[test]
fn names_the_group_above_that_does_not_pass_a_controller_down() {
    faultkit::require!(root, cgroup2("memory"));
    faultkit::isolated!(|| {
        let mut machine = Machine::new();
        let slice = machine.make("slice");
        let delegated = machine.delegated("slice/user");
        let inner = machine.delegated("slice/user/session");
        machine.enter(&inner);
        let ask =
            || as_user(|| Hierarchy::detect().expect("hierarchy").place().expect("place").why_not(Controller::Memory));
        assert_eq!(ask().expect("a reason").reason(), &Reason::NotPassedDown { group: slice.clone() });
        fs::write(slice.join("cgroup.subtree_control"), "+memory").expect("enable");
        assert_eq!(ask(), None);
        assert!(cat(&delegated, "cgroup.controllers").contains("memory"));
        drop(machine);
    });
}
