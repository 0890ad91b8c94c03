//! Causes that only root can make, each in namespaces of the test's own.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use faultkit::TempDir;
use idmap::{Found, Obstacle, Probe, probe};

use super::{row, sys};

const ANN: u32 = 12345;

fn run(words: &[&str]) {
    assert!(std::env::var_os("CELLKIT_ISOLATED").is_some(), "never in the machine's own mount namespace");
    let output = Command::new(words[0]).args(&words[1..]).output().expect(words[0]);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// /etc with these rows for subordinate ids, for as long as the caller's mount namespace lives.
fn etc(rows: &str) -> TempDir {
    let dir = TempDir::new();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    for (name, content) in [
        ("passwd", "root:x:0:0::/:\nann:x:12345:12345::/:\n"),
        ("group", "ann:x:12345:\n"),
        ("subuid", rows),
        ("subgid", rows),
    ] {
        fs::write(dir.path().join(name), content).expect(name);
    }
    run(&["mount", "--bind", dir.path().to_str().expect("a path"), "/etc"]);
    dir
}

fn wait_a_little() -> bool {
    std::thread::sleep(std::time::Duration::from_millis(10));
    false
}

#[track_caller]
fn why(probe: &Probe) -> (Obstacle, String) {
    let seen = probe.why_not().unwrap_or_else(|| panic!("nothing in the way in\n{probe}"));
    let Found::No(obstacle) = seen.found else { panic!("{seen}") };
    assert!(!probe.can_make());
    (obstacle, seen.to_string())
}

#[track_caller]
fn ids(probe: &Probe) -> (Found, String) {
    let seen = probe.get("more ids").unwrap_or_else(|| panic!("no more ids in\n{probe}"));
    (seen.found, seen.to_string())
}

#[test]
fn everything_works_for_root_and_nothing_is_left() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let here = probe().expect("probe");
        assert!(here.can_make() && here.can_map_many(), "{here}");
        assert_eq!(here.obstacles().count(), 0, "{here}");
        assert_eq!(row(&here, "idmapped mounts"), "idmapped mounts: Yes: of most file systems: ");
        assert_eq!(row(&here, "chroot"), "chroot: Fact: none: ");
        // 33 below the initial one.
        assert!(row(&here, "nested below the caller's").contains(": Fact: 33 fit into each other"), "{here}");
    });
}

#[test]
fn an_ordinary_user_with_ranges_and_without() {
    faultkit::require!(root, program("newuidmap"));
    faultkit::isolated!(|| {
        sys::in_fork(|| {
            sys::own_mounts();
            let _etc = etc("ann:300000:1000\n");
            sys::as_user(ANN, || {
                let here = probe().expect("probe");
                assert!(here.can_make() && here.can_map_many(), "{here}");
                assert_eq!(ids(&here).1, "more ids: 1001 uids and 1001 gids, by newuidmap and newgidmap");
                assert_eq!(row(&here, "caller"), "caller: Fact: ann, uid 12345, gid 12345: ");
            });
            sys::as_user(ANN, || {
                sys::set_no_new_privs();
                let here = probe().expect("probe");
                assert!(here.can_make() && !here.can_map_many(), "{here}");
                let (found, said) = ids(&here);
                assert_eq!(found, Found::No(Obstacle::NoNewPrivs), "{said}");
                assert!(said.contains("NoNewPrivileges="), "{said}");
            });
        });
        sys::in_fork(|| {
            sys::own_mounts();
            let _etc = etc("bob:300000:1000\n");
            sys::as_user(ANN, || {
                let here = probe().expect("probe");
                assert!(here.can_make() && !here.can_map_many(), "{here}");
                let (found, said) = ids(&here);
                assert_eq!(found, Found::No(Obstacle::NoSubIds), "{said}");
                assert!(said.contains("the line \"ann:301000:65536\" to /etc/subuid"), "{said}");
            });
        });
    });
}

#[test]
fn newuidmap_missing_or_without_its_power() {
    faultkit::require!(root, program("newuidmap"));
    faultkit::isolated!(|| {
        for (setup, obstacle, word) in [
            ("rm newuidmap", Obstacle::HelperMissing, "apt install uidmap"),
            ("chmod u-s newuidmap", Obstacle::HelperPowerless, "chmod u+s"),
            ("chmod 4644 newgidmap", Obstacle::HelperPowerless, "look at its mode"),
            ("mount --bind . . && mount -o remount,bind,nosuid .", Obstacle::HelperPowerless, "findmnt"),
        ] {
            // Removed when the mounts on it are gone with the fork's mount namespace.
            let dir = TempDir::new();
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
            sys::in_fork(|| {
                sys::own_mounts();
                let _etc = etc("ann:300000:1000\n");
                let shown = dir.path().to_str().expect("a path");
                run(&["cp", "-p", "/usr/bin/newuidmap", "/usr/bin/newgidmap", shown]);
                run(&["sh", "-c", &format!("cd {shown} && {setup}")]);
                // Where newuidmap is looked for. /bin is a link to it, or it has none.
                run(&["mount", "--rbind", shown, "/usr/bin"]);
                sys::as_user(ANN, || {
                    let (found, said) = ids(&probe().expect("probe"));
                    assert_eq!(found, Found::No(obstacle), "{setup}: {said}");
                    assert!(said.contains(word), "{setup}: {said}");
                });
            });
        }
    });
}

#[test]
fn limits_here_and_around() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let sysctl = "/proc/sys/user/max_user_namespaces";
        sys::in_user_namespace("0 0 10", || {
            fs::write(sysctl, "0").expect("sysctl");
            let (obstacle, said) = why(&probe().expect("probe"));
            assert_eq!(obstacle, Obstacle::MaxUserNamespaces, "{said}");
            assert!(said.contains("ENOSPC") && said.contains("sysctl -w user.max_user_namespaces"), "{said}");

            fs::write(sysctl, "2").expect("sysctl");
            let here = probe().expect("probe");
            assert!(here.can_make(), "{here}");
            assert!(row(&here, "nested below the caller's").contains("2 fit into each other"), "{here}");
            // The kernel counts what is gone for a moment longer.
            let nest = || assert!((0..500).any(|_| sys::nest() || wait_a_little()), "the count does not go down");
            sys::in_fork(|| {
                nest();
                nest();
                let (obstacle, said) = why(&probe().expect("probe"));
                assert_eq!(obstacle, Obstacle::OutsideLimit, "its own limit is not reached: {said}");
                assert!(said.contains("an outer user namespace allows no more"), "{said}");
            });
            fs::write(sysctl, "100").expect("sysctl");
            let held = Command::new("unshare").args(["--user", "sleep", "1000"]).spawn();
            let again = Command::new("unshare").args(["--user", "sleep", "1000"]).spawn();
            let mut held = [held.expect("unshare"), again.expect("unshare")];
            for child in &held {
                let comm = format!("/proc/{}/comm", child.id());
                while fs::read_to_string(&comm).expect("comm") != "sleep\n" {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
            }
            fs::write(sysctl, "2").expect("sysctl");
            let (obstacle, said) = why(&probe().expect("probe"));
            assert_eq!(obstacle, Obstacle::MaxUserNamespacesReached, "{said}");
            assert!(said.contains("2 are allowed, and are in use by this user"), "{said}");
            for child in &mut held {
                child.kill().expect("kill");
                child.wait().expect("wait");
            }
        });
    });
}

#[test]
fn nested_until_it_ends() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        sys::in_fork(|| {
            for left in (1..=33).rev() {
                let here = probe().expect("probe");
                let shown = row(&here, "nested below the caller's");
                assert!(shown.contains(&format!(": Fact: {left} fit into each other")), "{left}: {here}");
                assert_eq!(row(&here, "initial user namespace").contains("in it"), left == 33);
                assert!(sys::nest(), "{left}");
            }
            assert!(!sys::nest());
            let (obstacle, said) = why(&probe().expect("probe"));
            assert_eq!(obstacle, Obstacle::OutsideLimit, "{said}");
            assert!(said.contains("33 are nested already"), "{said}");
        });
    });
}

#[test]
fn a_filter_that_refuses_and_one_that_kills() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        for (action, word) in [
            (libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, "operation not permitted (EPERM)"),
            (libc::SECCOMP_RET_ERRNO | libc::EACCES as u32, "permission denied (EACCES)"),
            (libc::SECCOMP_RET_KILL_PROCESS, "was killed"),
            (libc::SECCOMP_RET_TRAP, "was killed"),
        ] {
            sys::in_fork(|| {
                sys::filter_user_namespaces(action);
                let here = probe().expect("probe");
                let (obstacle, said) = why(&here);
                assert_eq!(obstacle, Obstacle::Seccomp, "{said}");
                assert!(said.contains(word) && said.contains("profile"), "{said}");
                assert_eq!(row(&here, "seccomp"), "seccomp: Fact: the caller has a filter: ");
            });
        }
        // One that is about other things is not the reason.
        sys::as_user(ANN, || {
            sys::filter_user_namespaces(libc::SECCOMP_RET_ALLOW);
            let here = probe().expect("probe");
            assert!(here.can_make(), "clone does what clone3 may not: {here}");
        });
    });
}

#[test]
fn a_chroot_into_a_directory_and_into_a_mount() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let prepare = |root: &Path| {
            fs::create_dir_all(root.join("proc")).expect("mkdir");
            run(&["mount", "-t", "proc", "proc", root.join("proc").to_str().expect("a path")]);
        };
        let plain = dir.path().join("plain");
        prepare(&plain);
        let mounted = dir.path().join("mounted");
        fs::create_dir(&mounted).expect("mkdir");
        let shown = mounted.to_str().expect("a path");
        run(&["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", shown]);
        prepare(&mounted);
        for root in [&plain, &mounted] {
            for uid in [0, ANN] {
                sys::in_fork(|| {
                    sys::chroot(root);
                    if uid != 0 {
                        sys::become_user(uid);
                    }
                    let (obstacle, said) = why(&probe().expect("probe"));
                    assert_eq!(obstacle, Obstacle::Chroot, "{}, uid {uid}: {said}", root.display());
                    assert!(said.contains("EPERM") && said.contains("pivot_root"), "{said}");
                });
            }
        }
        for mount in [plain.join("proc"), mounted.join("proc"), mounted] {
            run(&["umount", mount.to_str().expect("a path")]);
        }
    });
}

#[test]
fn somebody_without_a_number() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        sys::in_user_namespace("", || {
            let (obstacle, said) = why(&probe().expect("probe"));
            assert_eq!(obstacle, Obstacle::UnmappedIds, "{said}");
            assert!(said.contains("/proc/self/uid_map"), "{said}");
        });
        // Mapped, but not this one.
        sys::in_user_namespace("0 1000 10", || {
            let (obstacle, said) = why(&probe().expect("probe"));
            assert_eq!(obstacle, Obstacle::UnmappedIds, "{said}");
        });
    });
}

#[test]
fn uid_0_without_setfcap() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        sys::in_fork(|| {
            sys::drop_setfcap();
            let (obstacle, said) = why(&probe().expect("probe"));
            assert_eq!(obstacle, Obstacle::SetFcap, "{said}");
            assert!(said.contains("write uid_map: operation not permitted (EPERM)"), "{said}");
        });
    });
}

#[test]
fn a_proc_that_something_covers() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        sys::in_fork(|| {
            sys::own_mounts();
            run(&["mount", "--bind", "/dev/null", "/proc/version"]);
            for uid in [0, ANN] {
                sys::in_fork(|| {
                    if uid != 0 {
                        sys::become_user(uid);
                    }
                    let here = probe().expect("probe");
                    assert!(here.can_make(), "{here}");
                    let seen = here.get("a procfs of its own").expect("a row");
                    assert_eq!(seen.found, Found::No(Obstacle::ProcCovered), "uid {uid}: {seen}");
                    assert!(seen.to_string().contains("unmask"), "{seen}");
                });
            }
        });
    });
}
