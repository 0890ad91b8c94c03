//! Mounts that are attached: changed, moved, taken away.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use mountkit::{Attach, Bind, ErrorKind, Mount, MountAttr, MountChange, Propagation, Rename, RootFd, Tmpfs, Unmounted};

use super::{dir_with, host, line_of, table, text};

#[test]
fn is_changed_where_it_is() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = dir_with(&["at"]);
        let root = RootFd::open(&*dir).expect("root");
        let mount = Tmpfs::new().mount().expect("mount").attach(&root, "at").expect("attach");
        let open = fs::File::create(dir.join("at/file")).expect("create");
        let read_only = MountChange::new().set(MountAttr::RDONLY).clear(MountAttr::NOSUID);
        let error = mount.change(&read_only).expect_err("a file is open for writing");
        assert_eq!((error.operation(), error.kind()), ("mount_setattr", ErrorKind::Busy));
        assert!(format!("{error:#}").contains("+ro -nosuid"), "{error:#}");
        assert!(line_of(&dir.join("at")).is_some_and(|line| line.contains(" rw,nosuid,nodev,")), "all or nothing");
        drop(open);
        mount.change(&read_only).expect("now");
        assert!(line_of(&dir.join("at")).is_some_and(|line| line.contains(" ro,nodev,")));
        drop(mount);
        // It stays without its handle, and can be taken again.
        Mount::open(&root, "at").expect("open").unmount().expect("umount");
        assert_eq!(line_of(&dir.join("at")), None);
    });
}

#[test]
fn only_what_is_mounted_is_taken() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = dir_with(&["plain"]);
        let error = Mount::open(&RootFd::open(&*dir).expect("root"), "plain").expect_err("a plain directory");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("nothing is mounted there"), "{error}");
        // Every process has a root that is a mount, and that cannot be unmounted.
        let own = Mount::open(&RootFd::open("/").expect("root"), "/").expect("open");
        let error = own.unmount().expect_err("the root");
        assert!(error.to_string().contains("root directory"), "{error}");
    });
}

#[test]
fn a_busy_one_is_busy_or_goes_when_it_is_unused() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = dir_with(&["at"]);
        let root = RootFd::open(&*dir).expect("root");
        let mount = || Tmpfs::new().mount().expect("mount").attach(&root, "at").expect("attach");
        let first = mount();
        let open = fs::File::create(dir.join("at/file")).expect("create");
        let error = first.unmount().expect_err("a file is open");
        assert_eq!((error.operation(), error.kind()), ("umount2", ErrorKind::Busy));
        assert!(error.hint().is_some_and(|hint| hint.contains("fuser")) && error.can_retry());
        let again = Mount::open(&root, "at").expect("it is still there");
        assert_eq!(again.unmount_or_detach().expect("umount"), Unmounted::WhenUnused);
        assert_eq!(line_of(&dir.join("at")), None);
        drop(open);
        assert_eq!(mount().unmount_or_detach().expect("umount"), Unmounted::Now);
        let second = mount();
        let open = fs::File::create(dir.join("at/file")).expect("create");
        second.detach().expect("detach");
        assert_eq!(line_of(&dir.join("at")), None);
        drop(open);
    });
}

#[test]
fn is_found_wherever_it_is_by_now_and_nothing_else_is_unmounted() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let dir = dir_with(&["a", "b"]);
        let root = RootFd::open(&*dir).expect("root");
        let tmpfs = |name: &str| Tmpfs::new().source(name).mount().expect("mount");
        // Moved by somebody else, on a mount point with bytes that mean nothing to anybody.
        let mut mount = tmpfs("one").attach(&root, "a").expect("attach");
        let odd = dir.join(std::ffi::OsStr::from_bytes(b"odd \n\\\xff (deleted)"));
        fs::create_dir(&odd).expect("mkdir");
        assert!(
            std::process::Command::new("mount")
                .arg("--move")
                .arg(dir.join("a"))
                .arg(&odd)
                .status()
                .expect("mount")
                .success()
        );
        mount.change(&MountChange::new().set(MountAttr::NOEXEC)).expect("change");
        mount.move_to(&Attach::at(&root, "b")).expect("move");
        assert!(line_of(&dir.join("b")).is_some_and(|line| line.contains("noexec") && line.contains("tmpfs one")));
        // Something on top of it is not taken for it.
        let top = tmpfs("top").attach(&root, "b").expect("attach");
        let error = mount.detach().expect_err("covered");
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(error.hint().is_some_and(|hint| hint.contains("on top of it")), "{error:#}");
        assert!(line_of(&dir.join("b")).is_some_and(|line| line.contains("tmpfs top")));
        top.unmount().expect("umount");
        // And one that somebody else has unmounted is gone.
        let mount = Mount::open(&root, "b").expect("open");
        host("umount", &["-l", text(&dir.join("b"))]);
        let other = tmpfs("other").attach(&root, "b").expect("attach");
        assert_eq!(mount.unmount().expect_err("gone").kind(), ErrorKind::Gone);
        other.unmount().expect("umount");
        assert!(!table().contains(text(&dir)));
    });
}

#[test]
fn one_whose_source_was_removed_is_unmounted_too() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = dir_with(&["from", "to"]);
        let root = RootFd::open(&*dir).expect("root");
        let mount = Bind::new(dir.join("from")).mount().expect("clone").attach(&root, "to").expect("attach");
        fs::remove_dir(dir.join("from")).expect("rmdir");
        mount.unmount().expect("umount");
        assert_eq!(line_of(&dir.join("to")), None);
    });
}

#[test]
fn nothing_is_moved_away_from_a_shared_mount() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let dir = dir_with(&["shared", "private"]);
        let shared = Tmpfs::new().mount().expect("mount").attach(&RootFd::open(&*dir).expect("root"), "shared");
        let shared = shared.expect("attach");
        shared.change(&MountChange::new().propagation(Propagation::Shared)).expect("share");
        fs::create_dir(dir.join("shared/at")).expect("mkdir");
        let inside = RootFd::open(dir.join("shared")).expect("root");
        let place = Attach::at(&inside, "at").with_peers();
        let mut mount = Tmpfs::new().mount().expect("mount").attach_to(&place).expect("attach");
        let private = RootFd::open(dir.join("private")).expect("root");
        let error = mount.move_to(&Attach::at(&private, ".")).expect_err("its parent is shared");
        assert_eq!((error.operation(), error.kind()), ("move_mount", ErrorKind::Invalid));
        assert!(error.hint().is_some_and(|hint| hint.contains("shared")), "{error:#}");
        mount.unmount().expect("umount");
        drop(inside);
        shared.unmount().expect("umount");
    });
}

#[test]
fn the_callers_own_directory_stays_what_it_is() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = dir_with(&["at"]);
        let before = std::env::current_dir().expect("getcwd");
        std::env::set_current_dir(&*dir).expect("chdir");
        let root = RootFd::open(".").expect("root");
        let mount = Tmpfs::new().mount().expect("mount").attach(&root, "at").expect("attach");
        mount.unmount().expect("umount");
        assert_eq!(fs::read_link("/proc/self/cwd").expect("readlink"), *dir);
        std::env::set_current_dir(before).expect("chdir");
    });
}

#[test]
fn beside_somebody_who_renames_on_the_way_every_one_is_taken_away() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 200, || {
        let dir = dir_with(&["a", "a/at", "inside", "inside/at", "other", "other/at"]);
        std::os::unix::fs::symlink("inside", dir.join("link")).expect("symlink");
        let root = RootFd::open(&*dir).expect("root");
        // Wherever it is by now.
        let real = RootFd::from(root.open_dir("a").expect("a"));
        let rounds = if std::env::var_os("CELLKIT_VM").is_some() { 60 } else { 400 };
        let (done, exchanges) = (AtomicBool::new(false), AtomicU32::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let at = root.open_dir(".").expect("the root");
                // A link to one that looks the same, and a directory that looks the same: twice each.
                for name in ["link", "link", "other", "other"].into_iter().cycle() {
                    at.rename("a", &at, name, Rename::Exchange).expect("exchange");
                    exchanges.fetch_add(1, Ordering::Relaxed);
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            let outcome = std::panic::catch_unwind(|| {
                for round in 0..rounds {
                    let mount =
                        Tmpfs::new().source("raced").mount().expect("mount").attach(&real, "at").expect("attach");
                    match round % 3 {
                        0 => mount.detach().expect("detach"),
                        1 => mount.unmount().expect("umount"),
                        _ => assert_eq!(mount.unmount_or_detach().expect("umount"), Unmounted::Now),
                    }
                    assert!(!table().contains(" raced "), "round {round}");
                }
            });
            done.store(true, Ordering::Relaxed);
            outcome.expect("every round");
        });
        assert!(exchanges.load(Ordering::Relaxed) > rounds, "there was no race");
    });
}

/// Where the other process finds the folders; it runs [`the_renamer`].
const RENAMES: &str = "CELLKIT_TEST_RENAMES";

/// Not a test of its own: the process that exchanges two folders, in a mount namespace where nothing is mounted on them.
#[test]
#[ignore = "run by another test, in another mount namespace"]
fn the_renamer() {
    let Some(dir) = std::env::var_os(RENAMES).map(PathBuf::from) else { return };
    fs::write(dir.join("ready"), "").expect("write");
    while !dir.join("stop").exists() {
        for (from, to) in [("a", "t"), ("b", "a"), ("t", "b")] {
            fs::rename(dir.join(from), dir.join(to)).expect("rename");
        }
    }
}

#[test]
fn what_is_detached_is_what_was_meant_whatever_is_renamed_meanwhile() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let dir = dir_with(&["a", "b"]);
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "private"]).arg(std::env::current_exe().expect("exe"));
        command.args(["root::mount::the_renamer", "--exact", "--ignored", "--test-threads=1"]);
        let mut renamer = command.env(RENAMES, &*dir).stdout(Stdio::null()).spawn().expect("unshare");
        while !dir.join("ready").exists() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let root = RootFd::open(&*dir).expect("root");
        let of_dir = || table().lines().filter(|line| line.contains(text(&dir))).map(str::to_owned).collect::<Vec<_>>();
        // Between two renames there is no such folder.
        let attached = || Tmpfs::new().mount().expect("mount").attach(&root, "a").ok();
        let kept = (0..1000).find_map(|_| attached()).expect("attach");
        let line = of_dir().pop().expect("a line");
        let id = line.split_once(' ').expect("an id").0;
        let mut detached = 0;
        for _ in 0..1000 {
            detached += usize::from(attached().is_some_and(|mount| mount.detach().is_ok()));
            let is_there = of_dir().iter().any(|line| line.split_once(' ').is_some_and(|(first, _)| first == id));
            assert!(is_there, "another one was detached, after {detached}");
        }
        assert!(detached > 50, "{detached}");
        fs::write(dir.join("stop"), "").expect("write");
        assert!(renamer.wait().expect("wait").success());
        drop(kept);
        while let Some(mount) = ["a", "b"].iter().find_map(|name| Mount::open(&root, name).ok()) {
            mount.detach().expect("umount");
        }
    });
}
