//! Trees with one of everything.
#![forbid(unsafe_code)]

use std::fs;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use idmap::{IdMaps, Shift, Unmapped};

use crate::sys::memfd;
use crate::tree::{expected, look, make, open, sh};

fn maps(text: &str) -> IdMaps {
    text.parse().expect("maps")
}

#[test]
fn owners_modes_lists_and_capabilities_there_and_back() {
    faultkit::require!(root, program("getfacl"), program("setcap"));
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        fs::create_dir(&outside).expect("mkdir");
        fs::write(outside.join("file"), "").expect("write");
        make(&tree, &outside);
        let before = look(&tree);
        let outside_before = look(&outside);
        let maps = maps("100000:200000:65536");
        for threads in [1, 2, 7] {
            let threads = NonZero::new(threads).expect("threads");
            let met = Arc::new(AtomicU64::new(0));
            let shift = Shift::to_outside(&maps).threads(threads).progress(Arc::clone(&met));
            let would = shift.check(open(&tree)).expect("check");
            assert_eq!(look(&tree), before, "a check changes nothing");
            let names: u64 = sh(&tree, "find . | wc -l").trim().parse().expect("number");
            assert_eq!(met.load(Ordering::Relaxed), names);
            let shifted = shift.apply(open(&tree)).expect("shift");
            // A second name finds its file changed.
            assert_eq!((would.changed, would.settled), (names, 0));
            assert_eq!((shifted.changed, shifted.settled), (names - 2, 2));
            let now = look(&tree);
            assert_eq!(now, expected(&before, |id| id + 100_000, |id| id + 200_000));
            assert!(now.iter().any(|line| line.contains("cap_net_raw=ep [rootid=100000]")), "{now:#?}");

            let again = shift.apply(open(&tree)).expect("shift");
            assert_eq!((again.changed, again.settled), (0, names));
            assert_eq!(look(&tree), now);

            Shift::to_inside(&maps).threads(threads).apply(open(&tree)).expect("shift back");
            assert_eq!(look(&tree), before);
        }
        assert_eq!(look(&outside), outside_before, "links lead nowhere");
    });
}

#[test]
fn from_one_container_to_another() {
    faultkit::require!(root, program("getfacl"), program("setcap"));
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        let tree = dir.path().join("tree");
        make(&tree, dir.path());
        let before = look(&tree);
        let (old, new) = (maps("100000:100000:65536"), maps("700000:800000:65536"));
        Shift::to_outside(&old).apply(open(&tree)).expect("shift");
        Shift::between(&old, &new).apply(open(&tree)).expect("shift");
        assert_eq!(look(&tree), expected(&before, |id| id + 700_000, |id| id + 800_000));
    });
}

#[test]
fn ids_that_are_old_and_new() {
    faultkit::require!(root, program("getfacl"), program("setcap"));
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        let tree = dir.path().join("tree");
        make(&tree, dir.path());
        let before = look(&tree);
        // As an ordinary user has it, and one where every id moves to another's.
        let rootless = |id: u32| if id == 0 { 1000 } else { 99_999 + id };
        for (text, to) in [
            ("0:1000:1,1:100000:65536", &rootless as &dyn Fn(u32) -> u32),
            ("0:1:5000", &|id| id + 1),
            ("0:1000:1000,1000:0:1000,2000:2000:60000", &|id| if id < 1000 { id + 1000 } else { id - 1000 }),
        ] {
            let maps = IdMaps::new(text.parse().expect("map"), text.parse().expect("map"));
            let shift = Shift::to_outside(&maps);
            let error = shift.apply(open(&tree)).expect_err("no journal");
            assert!(error.hint().is_some_and(|hint| hint.contains("apply_with_journal")), "{error:#}");
            assert_eq!(look(&tree), before, "{text}");

            let journal = memfd();
            shift.apply_with_journal(open(&tree), &journal).expect("shift");
            let now = look(&tree);
            assert_eq!(now, expected(&before, to, to), "{text}");
            let nothing = shift.apply_with_journal(open(&tree), &journal).expect("done before");
            assert_eq!(nothing, idmap::Shifted::default());
            assert_eq!(look(&tree), now, "{text}");

            Shift::to_inside(&maps).apply_with_journal(open(&tree), memfd()).expect("shift back");
            assert_eq!(look(&tree), before, "{text}");
        }
    });
}

#[test]
fn what_is_not_in_the_map_stays() {
    faultkit::require!(root, program("getfacl"), program("setcap"));
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        let tree = dir.path().join("tree");
        make(&tree, dir.path());
        let before = look(&tree);
        // Not root, and neither 1000 nor the list entries of 33 and 44.
        let known = |id: u32| matches!(id, 1..=20);
        let to = |id: u32| if known(id) { id + 100_000 } else { id };
        let maps = IdMaps::new("1:100001:20".parse().expect("map"), "1:100001:20".parse().expect("map"));
        let shifted = Shift::to_outside(&maps).unmapped(Unmapped::Leave).apply(open(&tree)).expect("shift");
        assert_eq!(look(&tree), expected(&before, to, to));
        assert!(shifted.unmapped > 10 && shifted.changed >= 5, "{shifted:?}");
    });
}

#[test]
fn other_mounts_are_left_alone_unless_told() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let dir = faultkit::TempDir::new();
        let (tree, other) = (dir.path().join("tree"), dir.path().join("other"));
        fs::create_dir_all(tree.join("mnt")).expect("mkdir");
        fs::create_dir(&other).expect("mkdir");
        fs::write(tree.join("file"), "").expect("write");
        fs::write(tree.join("bound"), "").expect("write");
        fs::write(other.join("theirs"), "").expect("write");
        // The same file system: its number does not tell.
        sh(&tree, "mount --bind ../other mnt; mount --bind ../other/theirs bound");
        let maps = maps("100000:100000:65536");
        let shifted = Shift::to_outside(&maps).apply(open(&tree)).expect("shift");
        assert_eq!((shifted.changed, shifted.other_mounts), (2, 2));
        let owners = |path: &str| sh(&tree, &format!("stat -c %u:%g {path}"));
        assert_eq!(
            (owners("file"), owners("mnt/theirs"), owners("mnt")),
            ("100000:100000\n".into(), "0:0\n".into(), "0:0\n".into())
        );
        let shifted = Shift::to_outside(&maps).cross_mounts().apply(open(&tree)).expect("shift");
        assert_eq!((shifted.changed, shifted.other_mounts), (2, 0));
        assert_eq!(owners("mnt/theirs bound mnt"), "100000:100000\n".repeat(3));
        sh(&tree, "umount mnt bound");
        assert_eq!(owners("mnt bound"), "0:0\n".repeat(2), "what the mounts hid");
    });
}
