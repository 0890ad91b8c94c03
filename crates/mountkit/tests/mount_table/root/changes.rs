//! Tables while mounts come and go, and watches.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mountkit::{MountAttr, MountEntry, MountTable, MountWatch, Propagation, TableSource};

use super::points;
use crate::scene::{Scene, Sleeper};
use crate::sys::{mount, unmount};

fn names<'t>(scene: &Scene, mounts: impl IntoIterator<Item = &'t MountEntry<'t>>) -> Vec<PathBuf> {
    mounts.into_iter().map(|mount| mount.path().strip_prefix(&scene.0).expect("in the scene").to_owned()).collect()
}

#[test]
fn what_became_different() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let scene = Scene::empty();
        let [stays, goes, moves] = ["stays", "goes", "moves"].map(|name| scene.tmpfs(name, 0, ""));
        std::fs::create_dir(moves.join("below")).expect("mkdir");
        mount("below", &moves.join("below"), "tmpfs", 0, "");
        let changes = scene.tmpfs("changes", 0, "");
        let [before, text_before] =
            [TableSource::Both, TableSource::Mountinfo].map(|from| MountTable::read_from(from).expect("table"));
        // In this order, so that the new one does not get the numbers of the one that goes.
        scene.tmpfs("new", 0, "");
        unmount(&goes);
        let to = scene.dir("moved");
        mount(moves.to_str().expect("ASCII"), &to, "", libc::MS_MOVE, "");
        mount("", &changes, "", libc::MS_REMOUNT | libc::MS_BIND | libc::MS_NOSUID, "");
        mount("", &stays, "", libc::MS_SHARED, "");
        for (before, from) in [(&before, TableSource::Both), (&text_before, TableSource::Mountinfo)] {
            let after = MountTable::read_from(from).expect("table");
            let diff = before.diff(&after);
            assert_eq!(names(&scene, &diff.removed), [Path::new("goes")]);
            assert_eq!(names(&scene, &diff.added), [Path::new("new")]);
            let pairs = |pairs: &[(MountEntry<'_>, MountEntry<'_>)]| {
                pairs.iter().flat_map(|(old, new)| names(&scene, [old, new])).collect::<Vec<_>>()
            };
            assert_eq!(pairs(&diff.moved), ["moves", "moved", "moves/below", "moved/below"].map(PathBuf::from));
            assert_eq!(pairs(&diff.changed), ["stays", "stays", "changes", "changes"].map(PathBuf::from));
            assert_eq!(diff.changed[0].1.propagation(), Propagation::Shared);
            assert_eq!(diff.changed[1].1.attrs(), MountAttr::NOSUID);
        }
    });
}

#[test]
fn an_id_that_is_used_again_is_another_mount() {
    faultkit::require!(root, kernel(6.8));
    faultkit::isolated!(|| {
        let scene = Scene::empty();
        let path = scene.tmpfs("again", 0, "");
        let before = MountTable::read().expect("table");
        let old = before.at(&path).expect("there");
        // The same file system at the same place; the kernel gives out the smallest number that is free.
        let mut after = before.clone();
        for _ in 0..100 {
            unmount(&path);
            mount("again", &path, "tmpfs", 0, "");
            after = MountTable::read().expect("table");
            if after.at(&path).expect("there").id() == old.id() {
                break;
            }
        }
        let diff = before.diff(&after);
        assert_eq!(
            (names(&scene, &diff.removed), names(&scene, &diff.added)),
            (vec!["again".into()], vec!["again".into()])
        );
        assert!(diff.changed.is_empty() && diff.moved.is_empty());
    });
}

#[test]
fn a_watch_tells_what_happens() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let scene = Scene::empty();
        let mut watch = MountWatch::new().expect("watch");
        let short = Some(Duration::from_millis(30));
        let begun = Instant::now();
        assert_eq!(watch.changed(short).expect("wait"), None);
        assert!(begun.elapsed() >= Duration::from_millis(30));
        let path = scene.tmpfs("new", 0, "");
        let diff = watch.changed(None).expect("wait").expect("a change");
        assert_eq!(names(&scene, &diff.added), [Path::new("new")]);
        assert!(watch.table().at(&path).is_some());
        assert_eq!(watch.changed(Some(Duration::ZERO)).expect("look"), None);
        // From another process, which has no other mount namespace.
        assert!(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(&path).status().expect("mount").success());
        let diff = watch.changed(None).expect("wait").expect("a change");
        assert_eq!(diff.changed.first().map(|(_, later)| later.attrs()), Some(MountAttr::RDONLY));
        // What came and went is nothing.
        scene.tmpfs("short", 0, "");
        unmount(&scene.0.join("short"));
        assert_eq!(watch.changed(short).expect("wait"), None);
        unmount(&path);
        let diff = watch.changed(None).expect("wait").expect("a change");
        assert_eq!(names(&scene, &diff.removed), [Path::new("new")]);
    });
}

#[test]
fn while_mounts_come_and_go() {
    faultkit::require!(root, program("pgrep"));
    faultkit::isolated!(limit_secs = 200, || {
        let scene = Scene::empty();
        let steady: Vec<PathBuf> = (0..300).map(|number| scene.tmpfs(format!("steady {number}"), 0, "")).collect();
        let moving = scene.dir("moving");
        let script = "mkdir -p a b c; echo ready
            while :; do
                mount -t tmpfs x a; mount -t tmpfs y b; mount --move a c; umount b; umount c
            done";
        let mut churn = Command::new("sh");
        churn.args(["-c", script]).current_dir(&moving).stdout(Stdio::piped());
        let churn = Sleeper::new(&mut churn);
        let mut settled = 0;
        let mut sizes = BTreeSet::new();
        for round in 0..200 {
            let from = if round % 2 == 0 { TableSource::Both } else { TableSource::Statmount };
            let table = match MountTable::read_from(from) {
                Err(error) if error.kind() == mountkit::ErrorKind::Unsupported => continue,
                table => table.expect("table"),
            };
            settled += usize::from(table.is_settled());
            sizes.insert(table.len());
            let found = table.iter().filter(|mount| mount.path().to_string_lossy().contains("steady")).count();
            assert_eq!(found, steady.len());
            for mount in table.below(&moving) {
                assert!(["a", "b", "c"].iter().any(|name| mount.path() == moving.join(name)), "{mount}");
                assert!(mount.fs_type() == "tmpfs");
            }
            let ids: BTreeSet<_> = table.iter().map(MountEntry::id).collect();
            assert_eq!(ids.len(), table.len());
        }
        assert!(settled > 0 && sizes.len() > 1, "{settled} {sizes:?}");
        drop(churn);
        // What the shell had started becomes this process's child, and ends.
        let sees = |word: &str| {
            Command::new("pgrep").args(["-x", word]).stdout(Stdio::null()).status().expect("pgrep").success()
        };
        while sees("mount") || sees("umount") {
            faultkit::reap_orphans();
        }
        assert!(points(&MountTable::read().expect("table")).contains(&scene.0));
    });
}
