//! Tables of other processes, of other namespaces, of other roots, and of parts.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use mountkit::{Bind, ErrorKind, MountEntry, MountTable, TableSource};

use super::points;
use crate::scene::{Scene, Sleeper};
use crate::sys;

fn points_of(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("mountinfo");
    text.lines().map(|line| line.split(' ').nth(4).expect("field").to_owned()).collect()
}

fn texts(table: &MountTable) -> Vec<String> {
    points(table).iter().map(|path| path.to_str().expect("ASCII").to_owned()).collect()
}

#[test]
fn of_a_process_and_of_its_namespace() {
    faultkit::require!(root, program("unshare"));
    faultkit::isolated!(|| {
        let other = Sleeper::shell("mount -t tmpfs theirs /mnt; mkdir /mnt/x; mount -t tmpfs theirs-too /mnt/x");
        let pid = other.0.id();
        let table = MountTable::of_process(sys::pidfd(pid)).expect("of the process");
        assert_eq!(texts(&table), points_of(pid));
        assert!(texts(&table).contains(&"/mnt/x".into()) && MountTable::read().expect("own").at("/mnt/x").is_none());
        let namespace = File::open(format!("/proc/{pid}/ns/mnt")).expect("open");
        let by_fd = MountTable::of_namespace(&namespace).expect("of the namespace");
        assert_eq!(texts(&by_fd), points_of(pid));
        assert!(table.diff(&by_fd).is_empty());
        match by_fd.namespace_id() {
            Some(id) => {
                assert_eq!(table.namespace_id(), Some(id));
                assert_ne!(MountTable::read().expect("own").namespace_id(), Some(id));
                match MountTable::of_namespace_id(id) {
                    // Beside the root and the mount it lies on there are others, as what an initramfs left behind.
                    Err(error) if sys::mounts_in(&namespace) > Some(points_of(pid).len() + 1) => {
                        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                    }
                    by_id => {
                        let by_id = by_id.expect("by its number");
                        assert_eq!(texts(&by_id), points_of(pid));
                        assert!(by_id.iter().map(MountEntry::unique_id).eq(table.iter().map(MountEntry::unique_id)));
                    }
                }
            }
            None => {
                let error = MountTable::of_namespace_id(1).expect_err("no such call");
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            }
        }
        drop(other);
        let error =
            MountTable::of_namespace(File::open("/proc/self/ns/uts").expect("open")).expect_err("no mounts in it");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        let error = MountTable::of_process(File::open("/dev/null").expect("open")).expect_err("not a pidfd");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    });
}

#[test]
fn of_a_process_that_has_another_root() {
    faultkit::require!(root, program("unshare"), program("chroot"));
    faultkit::isolated!(|| {
        let script =
            "mount -t tmpfs root /mnt; cd /mnt; mkdir usr a; mount --rbind /usr usr; ln -s usr/bin usr/lib usr/lib64 .
            mount -t tmpfs below a; exec chroot . sh -c 'echo ready; exec sleep 1000'";
        let other =
            Sleeper::new(Command::new("unshare").args(["--mount", "--propagation", "private", "sh", "-ec", script]));
        let pid = other.0.id();
        let table = MountTable::of_process(sys::pidfd(pid)).expect("of the process");
        assert_eq!(texts(&table), points_of(pid));
        assert_eq!(table.at("/a").and_then(MountEntry::source), Some("below".as_ref()));
        let whole = MountTable::of_namespace(File::open(format!("/proc/{pid}/ns/mnt")).expect("open")).expect("whole");
        assert_eq!(whole.at("/mnt/a").and_then(MountEntry::source), Some("below".as_ref()));
        if table.source() == TableSource::Both {
            assert_eq!(whole.at("/mnt/a").map(MountEntry::unique_id), table.at("/a").map(MountEntry::unique_id));
            assert!(table.at("/a").is_some_and(|mount| mount.unique_id().is_some()));
        }
    });
}

#[test]
fn of_a_process_outside_of_the_callers_root() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let scene = Scene::empty();
        scene.tmpfs("outside", 0, "");
        let root = scene.dir("root");
        fs::create_dir(root.join("in")).expect("mkdir");
        sys::mount("in", &root.join("in"), "tmpfs", 0, "");
        let own = MountTable::read().expect("table");
        let pidfd = sys::pidfd(std::process::id());
        let namespace = File::open("/proc/self/ns/mnt").expect("open");
        let (of_process, of_namespace) =
            sys::in_chroot(&root, || (MountTable::of_process(&pidfd), MountTable::of_namespace(&namespace)));
        for table in [of_process.expect("of the process"), of_namespace.expect("of the namespace")] {
            assert_eq!(points(&table), points(&own));
            if table.source() == TableSource::Both {
                assert!(table.iter().all(|mount| mount.unique_id().is_some()));
                assert!(table.diff(&own).is_empty());
            }
        }
    });
}

#[test]
fn what_a_root_does_not_reach_is_not_seen() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let scene = Scene::empty();
        scene.tmpfs("outside", 0, "");
        let root = scene.dir("root");
        fs::create_dir(root.join("in")).expect("mkdir");
        sys::mount("in", &root.join("in"), "tmpfs", 0, "");
        let outside = MountTable::read().expect("outside");
        let (text, calls) = sys::in_chroot(&root, || {
            // There is no /proc, so root makes one of its own.
            (MountTable::read().expect("table"), MountTable::read_from(TableSource::Statmount))
        });
        assert_eq!(points(&text), [Path::new("/in")]);
        assert_eq!(text.covering("/in/x").and_then(MountEntry::source), Some("in".as_ref()));
        assert_eq!((text.covering("/"), text.roots().count()), (None, 1));
        let same = outside.at(root.join("in")).expect("there");
        let there = text.at("/in").expect("there");
        assert_eq!((there.unique_id(), there.unique_parent_id()), (same.unique_id(), same.unique_parent_id()));
        match calls {
            Ok(calls) => assert_eq!(points(&calls), [Path::new("/in")]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
        }
    });
}

#[test]
fn of_a_part() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let scene = Scene::full();
        let whole = MountTable::read().expect("table");
        for dir in ["", "over", "shared", "on file", "\u{0}".trim_matches('\0')] {
            let path = scene.0.join(dir);
            let path = path.as_path();
            let part = MountTable::of_tree(File::open(path).expect("open")).expect("part");
            let top = whole.covering(path).expect("there");
            let expected: Vec<_> =
                whole.iter().filter(|mount| *mount == top || mount.ancestors().any(|above| above == top)).collect();
            assert_eq!(points(&part), expected.iter().map(|mount| mount.path()).collect::<Vec<_>>());
            assert!(part.iter().map(MountEntry::unique_id).eq(expected.iter().map(|mount| mount.unique_id())));
            assert_eq!(part.roots().count(), 1);
            let one = MountTable::of_mount(File::open(path).expect("open")).expect("one");
            assert_eq!((one.len(), points(&one)), (1, vec![top.path().to_owned()]));
        }
    });
}

#[test]
fn what_is_detached_is_in_no_table() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let scene = Scene::empty();
        let before = MountTable::read().expect("table");
        let detached = Bind::new(&scene.0).mount().expect("clone");
        let after = MountTable::read().expect("table");
        assert!(before.diff(&after).is_empty());
        assert_eq!(after.covering_fd(&detached).expect("statx"), None);
        for error in [MountTable::of_tree(&detached), MountTable::of_mount(&detached)] {
            let error = error.expect_err("it is nowhere");
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
    });
}
