//! Somebody moves things about in the tree while it is shifted.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use idmap::{IdMaps, Shift, Unmapped};

use crate::sys::exchange;
use crate::tree::{look, open};

/// Lets the racers end, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Exchanges each pair in a thread of its own until `work` is done, and answers how often that was.
fn while_exchanging(pairs: &[(&Path, &Path)], work: impl FnOnce()) -> u64 {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let racers: Vec<_> = pairs
            .iter()
            .map(|(a, b)| {
                let stop = &stop;
                scope.spawn(move || {
                    let mut times = 0;
                    while !stop.load(Ordering::Relaxed) {
                        times += u64::from(exchange(a, b));
                    }
                    times
                })
            })
            .collect();
        let ended = Stop(&stop);
        work();
        drop(ended);
        racers.into_iter().map(|racer| racer.join().expect("racer")).min().unwrap_or_default()
    })
}

#[test]
fn no_link_leads_out() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 300, || {
        let dir = faultkit::TempDir::new();
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        fs::create_dir_all(outside.join("deep")).expect("mkdir");
        fs::write(outside.join("deep/passwd"), "").expect("write");
        fs::write(outside.join("passwd"), "").expect("write");
        fs::set_permissions(outside.join("passwd"), fs::Permissions::from_mode(0o4755)).expect("chmod");
        fs::create_dir_all(tree.join("a/deep")).expect("mkdir");
        for name in ["a/deep/passwd", "a/passwd", "f"] {
            fs::write(tree.join(name), "").expect("write");
        }
        fs::set_permissions(tree.join("f"), fs::Permissions::from_mode(0o4755)).expect("chmod");
        symlink(&outside, tree.join("b")).expect("link");
        symlink(outside.join("passwd"), tree.join("g")).expect("link");
        let before = look(&outside);
        let maps: IdMaps = "100000:100000:65536".parse().expect("maps");
        let pairs = [(tree.join("a"), tree.join("b")), (tree.join("f"), tree.join("g"))];
        let pairs: Vec<_> = pairs.iter().map(|(a, b)| (a.as_path(), b.as_path())).collect();
        // In a directory of the caller's own, where names are used, and in one that anybody may write to.
        for mode in [0o755, 0o777] {
            let mut rounds = 0;
            let exchanged = while_exchanging(&pairs, || {
                for _ in 0..300 {
                    Shift::to_outside(&maps).apply(open(&tree)).expect("shift");
                    Shift::to_inside(&maps).apply(open(&tree)).expect("shift back");
                    fs::set_permissions(&tree, fs::Permissions::from_mode(mode)).expect("chmod");
                    rounds += 1;
                }
            });
            assert!(exchanged > rounds, "{exchanged} exchanges in {rounds} rounds");
            assert_eq!(look(&outside), before, "a link led out");
        }
    });
}

#[test]
fn nobody_gets_the_file_of_another() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 300, || {
        let dir = faultkit::TempDir::new();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).expect("mkdir");
        // The directory belongs to 33, who may put a file of root in the place of one of their own.
        for (name, id) in [("mine", 33), ("roots", 0), ("also-mine", 33), ("shadow", 42)] {
            fs::write(tree.join(name), "").expect("write");
            chown(tree.join(name), Some(id), Some(id)).expect("chown");
        }
        chown(&tree, Some(33), Some(33)).expect("chown");
        let ids = || -> BTreeMap<u64, (u32, u32)> {
            let entries = fs::read_dir(&tree).expect("read").map(|entry| entry.expect("entry").path());
            entries
                .map(|path| fs::symlink_metadata(path).expect("stat"))
                .map(|m| (m.ino(), (m.uid(), m.gid())))
                .collect()
        };
        let before = ids();
        let (a, b) = (tree.join("mine"), tree.join("roots"));
        let (c, d) = (tree.join("also-mine"), tree.join("shadow"));
        let maps: IdMaps = "100000:100000:65536".parse().expect("maps");
        let mut missed = 0;
        let exchanged = while_exchanging(&[(&a, &b), (&c, &d)], || {
            for _ in 0..1000 {
                Shift::to_outside(&maps).apply(open(&tree)).expect("shift");
                for (inode, (uid, gid)) in ids() {
                    let (old_uid, old_gid) = before[&inode];
                    // A file whose name was elsewhere at each look may have been missed; it never gets another's ids.
                    missed += u32::from(uid == old_uid);
                    assert!([old_uid, old_uid + 100_000].contains(&uid), "{old_uid} became {uid}");
                    assert!([old_gid, old_gid + 100_000].contains(&gid), "{old_gid} became {gid}");
                }
                Shift::to_inside(&maps).apply(open(&tree)).expect("shift back");
                Shift::to_inside(&maps).apply(open(&tree)).expect("shift back, also what was missed");
            }
        });
        assert!(exchanged > 1000, "{exchanged} exchanges, {missed} missed");
    });
}

#[test]
fn files_that_come_and_go() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 300, || {
        let dir = faultkit::TempDir::new();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).expect("mkdir");
        for number in 0..200 {
            fs::write(tree.join(format!("stays-{number}")), "").expect("write");
        }
        let maps: IdMaps = "100000:100000:65536".parse().expect("maps");
        let stop = AtomicBool::new(false);
        let mut vanished = 0;
        std::thread::scope(|scope| {
            for who in 0..2 {
                let (stop, tree) = (&stop, &tree);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        for number in 0..40 {
                            let (file, dir) = (format!("file-{who}-{number}"), format!("dir-{who}-{number}"));
                            fs::write(tree.join(&file), "").expect("write");
                            fs::create_dir_all(tree.join(&dir).join("below")).expect("mkdir");
                            fs::remove_file(tree.join(&file)).expect("remove");
                            fs::remove_dir_all(tree.join(&dir)).expect("remove");
                        }
                    }
                });
            }
            let ended = Stop(&stop);
            for _ in 0..200 {
                let shift = Shift::to_outside(&maps).unmapped(Unmapped::Leave);
                vanished += shift.apply(open(&tree)).expect("shift").vanished;
                for number in 0..200 {
                    let stat = fs::metadata(tree.join(format!("stays-{number}"))).expect("stat");
                    assert_eq!((stat.uid(), stat.gid()), (100_000, 100_000), "{number}");
                }
                vanished +=
                    Shift::to_inside(&maps).unmapped(Unmapped::Leave).apply(open(&tree)).expect("back").vanished;
            }
            drop(ended);
        });
        assert!(vanished > 0, "nothing vanished in time");
    });
}
