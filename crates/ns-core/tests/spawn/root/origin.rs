//! Numbers chosen, parents that die with whole containers, and clone(2) with namespaces and groups.

use std::path::{Path, PathBuf};

use ns_core::{Backend, Capability, Command, ErrorKind, Namespaces, NsFd, Pid};

use crate::container::Container;
use crate::parent::end_of;
use crate::{output, sh, sys};

const ALL: Namespaces = Namespaces::CONTAINER.difference(Namespaces::USER);

#[test]
fn numbers_are_chosen_from_the_inside_out() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let mut child =
            Command::new("sleep").arg("100").namespaces(Namespaces::PID).set_tid([1, 4242]).spawn().expect("start");
        assert_eq!(child.pid(), 4242);
        let status = std::fs::read_to_string("/proc/4242/status").expect("status");
        assert!(status.contains("NSpid:\t4242\t1\n"), "{status}");
        // In use.
        let error = Command::new("/bin/true").set_tid([4242]).spawn().expect_err("in use");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:#}");
        assert!(error.to_string().contains("4242") && error.hint().is_some(), "{error:#}");
        child.kill().expect("kill");
        child.wait().expect("wait");
        let mut child = Command::new("/bin/true").set_tid([4242]).spawn().expect("free again");
        assert!(child.pid() == 4242 && child.wait().expect("wait").success());
        for wrong in [vec![i32::MAX], vec![4243; 20]] {
            let error = Command::new("/bin/true").set_tid(wrong).spawn().expect_err("wrong");
            assert_eq!((error.operation(), error.raw_os_error()), ("clone3", Some(libc::EINVAL)), "{error:#}");
            assert!(error.hint().expect("hint").contains("pid_max"), "{error:#}");
        }
        sys::checked_in_a_fork(|| {
            sys::drop_capability(Capability::SYS_ADMIN as u8);
            sys::drop_capability(Capability::CHECKPOINT_RESTORE as u8);
            let error = Command::new("/bin/true").set_tid([4242]).spawn().expect_err("no power");
            assert_eq!(error.kind(), ErrorKind::Permission);
            assert!(error.hint().expect("hint").contains("CAP_CHECKPOINT_RESTORE"), "{error:#}");
        });
        for wrong in [vec![0], vec![-1], vec![1; 34]] {
            let error = Command::new("/bin/true").set_tid(wrong).plan().expect_err("wrong");
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
        let new = Command::new("/bin/true").namespaces(Namespaces::PID).set_tid([4242]);
        assert_eq!(new.plan().expect_err("not 1").kind(), ErrorKind::Invalid);
    });
}

#[test]
fn pid_1_has_no_siblings() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        sys::checked_in_a_fork(|| {
            ns_core::unshare(Namespaces::PID).expect("unshare");
            sys::checked_in_a_fork(|| {
                let error = sh("true").sibling().spawn().expect_err("this is PID 1");
                assert_eq!(error.kind(), ErrorKind::Invalid);
                assert!(error.hint().expect("hint").contains("no siblings"), "{error:#}");
            });
        });
    });
}

#[test]
fn whole_containers_die_with_the_process() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let script = "sleep 1000 & exec sleep 1000";
        for init in [false, true] {
            let pid = sys::in_a_fork(|| {
                let command = sh(script).namespaces(ALL).new_session().kill_with_parent();
                let command = if init { command.init() } else { command };
                command.spawn().expect("start").pid()
            });
            // What was in its pid namespace is gone with it, says the ledger.
            assert!(end_of(pid).is_some(), "init: {init}");
        }
        let container = Container::new(&["--pid"], "ready");
        let namespace: NsFd<Pid> = NsFd::of_process(container.pidfd()).expect("pid");
        let pid = sys::in_a_fork(|| {
            Command::new("sleep").arg("1000").join(namespace).kill_with_parent().spawn().expect("start").pid()
        });
        assert!(end_of(pid).is_some(), "the successor is watched too");
    });
}

#[test]
fn clone_makes_the_same_namespaces() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        for errno in [libc::ENOSYS, libc::EPERM] {
            sys::checked_in_a_fork(|| {
                sys::hide_clone3(errno);
                let six = || sh("echo $$; hostname").namespaces(ALL).hostname("web");
                assert!(six().plan().expect("plan").shares_memory());
                assert_eq!(output(six()).expect("start").1, "1\nweb\n");
                assert_eq!(output(six().init()).expect("start").1, "2\nweb\n");
                let paused = six().spawn_paused().expect("paused");
                assert_eq!(paused.backend(), Backend::Clone);
                for kind in ["pid", "mnt", "net", "uts", "ipc", "cgroup"] {
                    let theirs = std::fs::read_link(format!("/proc/{}/ns/{kind}", paused.pid())).expect(kind);
                    assert_ne!(theirs, std::fs::read_link(format!("/proc/self/ns/{kind}")).expect(kind), "{kind}");
                }
                drop(paused);
                // What clone itself refuses is its own error, and what clone3 refuses was clone3's.
                sys::drop_capability(Capability::SYS_ADMIN as u8);
                let error = six().spawn().expect_err("no power");
                assert_eq!((error.operation(), error.kind()), ("clone", ErrorKind::Permission), "{error:#}");
                assert!(error.hint().is_some());
            });
        }
        sys::checked_in_a_fork(|| {
            sys::drop_capability(Capability::SYS_ADMIN as u8);
            let error = sh("true").namespaces(Namespaces::UTS).spawn().expect_err("no power");
            assert_eq!((error.operation(), error.kind()), ("clone3", ErrorKind::Permission), "{error:#}");
        });
    });
}

/// A new group of the test's own.
fn group(name: &str) -> PathBuf {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let mount = table.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
    let dir = Path::new(mount.expect("cgroup2")).join(format!("cellkit-test-{name}-{}", std::process::id()));
    std::fs::create_dir(&dir).expect("mkdir");
    dir
}

#[test]
fn a_child_of_clone_moves_into_its_group_before_anything_else() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let dir = group("clone");
        let open = std::fs::File::open(&dir).expect("group");
        sys::checked_in_a_fork(|| {
            sys::hide_clone3(libc::ENOSYS);
            let command = || sh("cat /proc/self/cgroup").namespaces(ALL).cgroup(&open);
            let paused = command().spawn_paused().expect("paused");
            // It is there when spawn_paused returns.
            let procs = std::fs::read_to_string(dir.join("cgroup.procs")).expect("procs");
            assert_eq!(procs.trim(), paused.pid().to_string());
            drop(paused);
            // And the root of its cgroup namespace is the group.
            let (_, text) = output(command()).expect("start");
            assert!(text.lines().any(|line| line == "0::/"), "{text}");
        });
        std::fs::remove_dir(&dir).expect("rmdir");
        sys::checked_in_a_fork(|| {
            sys::hide_clone3(libc::ENOSYS);
            let error = sh("true").cgroup(&open).spawn().expect_err("a removed group");
            assert!(["openat2", "write cgroup.procs"].contains(&error.operation()), "{error:#}");
        });
    });
}
