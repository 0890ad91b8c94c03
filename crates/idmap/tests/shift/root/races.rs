//! Somebody moves things about in the tree while it is shifted.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use idmap::{IdMaps, Shift, Unmapped};

use crate::sys::{become_id, exchange, in_fork};
use crate::tree::{look, open, sh};

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
fn the_old_owner_of_a_directory_cannot_use_it_any_more() {
    faultkit::require!(root);
    faultkit::isolated!(limit_secs = 300, || {
        const OLD: u32 = 100_000;
        let dir = faultkit::TempDir::new();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        fs::create_dir(&outside).expect("mkdir");
        fs::write(outside.join("passwd"), "").expect("write");
        let before = look(&outside);
        fs::create_dir(&tree).expect("mkdir");
        for number in 0..300 {
            fs::write(tree.join(format!("f{number:03}")), "").expect("write");
        }
        symlink(outside.join("passwd"), tree.join("link")).expect("link");
        // A file of an id that must not become another's: 42 outside is nobody in the map.
        for number in 0..20 {
            fs::write(tree.join(format!("shadow{number}")), "").expect("write");
            chown(tree.join(format!("shadow{number}")), Some(42), Some(42)).expect("chown");
        }
        let shadows: Vec<u64> =
            (0..20).map(|n| fs::metadata(tree.join(format!("shadow{n}"))).expect("stat").ino()).collect();
        let maps: IdMaps = "100000:100000:65536".parse().expect("maps");
        let give_back = || {
            // First, or the racer exchanges what is looked at here.
            fs::set_permissions(&tree, fs::Permissions::from_mode(0o755)).expect("chmod");
            for entry in fs::read_dir(&tree).expect("read") {
                let path = entry.expect("entry").path();
                let m = fs::symlink_metadata(&path).expect("stat");
                if !shadows.contains(&m.ino()) {
                    lchown(&path, Some(OLD), Some(OLD)).expect("chown");
                }
            }
            chown(&tree, Some(OLD), Some(OLD)).expect("chown");
        };
        give_back();
        for opens_it in [false, true] {
            let (counts, stop) = (outside.with_file_name("counts"), outside.with_file_name("stop"));
            let (_, _) = (fs::remove_file(&stop), fs::remove_file(&counts));
            // The racer works as the old owner, from a working directory in the tree and a descriptor of it.
            fs::write(&counts, [0; 16]).expect("write");
            chown(&counts, Some(OLD), None).expect("chown");
            let mut racer = std::process::Command::new(std::env::current_exe().expect("exe"))
                .args(["root::races::the_old_owner", "--exact", "--ignored", "--test-threads=1"])
                .env("SHIFT_OPENS", if opens_it { "1" } else { "0" })
                .env("SHIFT_COUNTS", &counts)
                .env("SHIFT_STOP", &stop)
                .env_remove("CELLKIT_ISOLATED")
                .current_dir(&tree)
                .stdout(std::process::Stdio::null())
                .spawn()
                .expect("this test");
            let done = || fs::read(&counts).map_or(0, |text| u64::from_ne_bytes(text[..8].try_into().expect("count")));
            while done() == 0 {
                assert!(racer.try_wait().expect("wait").is_none(), "the racer ended");
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            let (begun, mut after) = (done(), 0);
            for _ in 0..300 {
                let shift = Shift::to_inside(&maps).unmapped(Unmapped::Leave);
                shift.apply(open(&tree)).expect("shift");
                assert_eq!(look(&outside), before, "a link led out");
                let stat = fs::metadata(&tree).expect("stat");
                assert_eq!(stat.uid(), 0);
                for entry in fs::read_dir(&tree).expect("read") {
                    let entry = entry.expect("entry");
                    let m = fs::symlink_metadata(entry.path()).expect("stat");
                    let is_shadow = shadows.contains(&m.ino());
                    assert_eq!(m.uid() == 42, is_shadow, "{:?} has uid {}", entry.file_name(), m.uid());
                }
                if stat.mode() & 0o022 == 0 {
                    let names = || sh(&tree, "ls -i");
                    let first = names();
                    std::thread::sleep(std::time::Duration::from_micros(300));
                    assert_eq!(names(), first, "the old owner moved something in the caller's directory");
                    after += 1;
                }
                give_back();
            }
            let exchanged = done() - begun;
            fs::write(&stop, "").expect("write");
            assert!(racer.wait().expect("wait").success());
            assert!(exchanged > 300, "{exchanged} exchanges");
            assert!(after > 0, "the directory was always open to others");
        }
    });
}

#[test]
#[ignore = "run by the_old_owner_of_a_directory_cannot_use_it_any_more: the racer"]
fn the_old_owner() {
    use std::os::unix::fs::FileExt;
    let path = |name| std::path::PathBuf::from(std::env::var_os(name).expect("SHIFT_OPENS, SHIFT_COUNTS, SHIFT_STOP"));
    let (counts, stop, opens) = (path("SHIFT_COUNTS"), path("SHIFT_STOP"), path("SHIFT_OPENS") == Path::new("1"));
    let held = open(Path::new("."));
    let counts = fs::File::options().write(true).open(counts).expect("open");
    in_fork(|| {
        become_id(100_000);
        let by_fd = std::path::PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held)));
        let mut times = 0u64;
        while !stop.exists() {
            for number in 0..20 {
                let (mine, theirs) = (format!("f{:03}", number * 13), format!("shadow{number}"));
                times += u64::from(exchange(Path::new(&mine), Path::new(&theirs)));
                times += u64::from(exchange(&by_fd.join(&mine), Path::new("link")));
                if opens && number % 7 == 0 {
                    let mode = if number % 2 == 0 { 0o777 } else { 0o755 };
                    let _ = fs::set_permissions(".", fs::Permissions::from_mode(mode));
                }
            }
            counts.write_all_at(&times.to_ne_bytes(), 0).expect("write");
        }
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
