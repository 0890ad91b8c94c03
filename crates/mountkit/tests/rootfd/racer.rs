//! Somebody keeps exchanging directories for links out of the root, and moves directories out of it while `..` of them is
//! looked up.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use faultkit::TempDir;
use mountkit::{Rename, RootFd};

use crate::{census, roots};

/// Without openat2 both resolvers are the one that was raced already.
fn rounds() -> usize {
    if std::env::var_os(crate::without_openat2::MARK).is_some() { 500 } else { 5_000 }
}

/// A root and the directory it is in: `inside/a` is a directory and `inside/b` a link out; `outside` has the same names.
pub(crate) struct Arena(pub(crate) TempDir);

impl Arena {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("inside/a/t")).expect("mkdir");
        fs::create_dir_all(path("inside/x/y/z")).expect("mkdir");
        fs::create_dir_all(path("inside/x/t")).expect("mkdir");
        fs::create_dir_all(path("outside/t")).expect("mkdir");
        for (name, content) in [("inside/a/file", "inside"), ("inside/x/file", "inside"), ("outside/file", "outside")] {
            fs::write(path(name), content).expect("write");
        }
        // As a link of the caller's own it would lead to the outside; and so would one `..` too many.
        symlink("../outside", path("inside/b")).expect("symlink");
        Self(dir)
    }

    pub(crate) fn inside(&self) -> std::path::PathBuf {
        self.0.path().join("inside")
    }

    pub(crate) fn outside(&self) -> std::path::PathBuf {
        self.0.path().join("outside")
    }

    /// Runs `work` beside two racers.
    pub(crate) fn race(&self, work: impl FnOnce()) {
        let done = AtomicBool::new(false);
        let everything = RootFd::open(self.0.path()).expect("both");
        let [top, inside, x] = ["/", "inside", "inside/x"].map(|path| everything.open_dir(path).expect("open"));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    inside.rename("a", &inside, "b", Rename::Exchange).expect("exchange");
                }
            });
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    x.rename("y", &top, "moved", Rename::Keep).expect("out");
                    top.rename("moved", &x, "y", Rename::Keep).expect("and in again");
                }
            });
            let stop = Stop(&done);
            work();
            drop(stop);
        });
        if fs::symlink_metadata(self.inside().join("a")).expect("stat").is_symlink() {
            inside.rename("a", &inside, "b", Rename::Exchange).expect("exchange");
        }
    }
}

/// Ends the racers also when the work panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// 20,000 directories made and files read with each resolver.
#[test]
fn gains_nothing() {
    for number in [0, 1] {
        let arena = Arena::new();
        let (resolver, root) = roots(&arena.inside()).into_iter().nth(number).expect("two");
        let before = census(&arena.outside());
        let (mut good, mut bad) = ([0; 4], [0; 4]);
        arena.race(|| {
            for round in 0..rounds() {
                let read =
                    |path: &str| root.read(path, 100).map(|content| assert_eq!(content, b"inside", "{resolver:?}"));
                let answers = [
                    root.mkdir(format!("a/made{round}"), 0o755),
                    read("a/file"),
                    root.mkdir(format!("x/y/z/../../made{round}"), 0o755),
                    read("x/y/../file"),
                ];
                for (number, answer) in answers.iter().enumerate() {
                    match answer {
                        Ok(()) => good[number] += 1,
                        Err(_) => bad[number] += 1,
                    }
                }
            }
        });
        assert_eq!(census(&arena.outside()), before, "{resolver:?}");
        // Nothing beside the two, and every directory that was made is where it was to be.
        let mut names: Vec<_> =
            fs::read_dir(arena.0.path()).expect("readdir").map(|entry| entry.expect("entry").file_name()).collect();
        names.sort();
        assert_eq!(names, ["inside", "outside"], "{resolver:?}");
        let made = |dir: &Path| {
            let names = fs::read_dir(dir).expect("readdir").map(|entry| entry.expect("entry").file_name());
            names.filter(|name| name.to_string_lossy().starts_with("made")).count()
        };
        let counted = [made(&arena.inside().join("a")), made(&arena.inside().join("x"))];
        assert_eq!(counted, [good[0], good[2]], "{resolver:?}");
        assert!(good.iter().all(|&count| count > 0), "{resolver:?}: no work: {good:?} {bad:?}");
        assert!(bad.iter().sum::<usize>() > 0, "{resolver:?}: no race: {good:?} {bad:?}");
    }
}

/// A tree is removed while its directories are moved out and in: what is outside already stays as it was.
#[test]
fn removes_nothing_outside() {
    for number in [0, 1] {
        let arena = Arena::new();
        let (resolver, root) = roots(&arena.inside()).into_iter().nth(number).expect("two");
        let before = census(&arena.outside());
        arena.race(|| {
            for round in 0..300 {
                let made = root.mkdir_all(format!("w/{round}/1/2/3/4/5/6/7/8/9/10"), 0o755);
                made.expect("mkdir").symlink("../../../../../../../../../../../../outside", "out").expect("symlink");
                root.remove_all("w").expect("removed");
                let _ = root.remove_all("b/t");
            }
        });
        assert_eq!(census(&arena.outside()), before, "{resolver:?}");
    }
}
