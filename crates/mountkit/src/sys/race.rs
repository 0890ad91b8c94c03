//! Somebody exchanges a directory with a link out of the root while mounts are made below it, twenty thousand times, by
//! both resolvers in turn.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use faultkit::TempDir;

use super::resolve::{Resolver, Root};
use super::*;
use crate::in_root::InRootPath;

/// How many mounts are made. The emulated machine is ten times slower.
fn rounds() -> u32 {
    if std::env::var_os("CELLKIT_VM").is_some() { 2_000 } else { 20_000 }
}

/// Below a directory: each name with its kind, inode and content.
fn census(dir: &Path) -> Vec<(PathBuf, u64, Vec<u8>)> {
    use std::os::unix::fs::MetadataExt;
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("readdir") {
        let path = entry.expect("entry").path();
        let metadata = fs::symlink_metadata(&path).expect("lstat");
        let content = if metadata.is_file() { fs::read(&path).expect("read") } else { Vec::new() };
        found.push((path.clone(), metadata.ino(), content));
        if metadata.is_dir() {
            found.extend(census(&path));
        }
    }
    found.sort();
    found
}

/// Mounts a clone of `source` on what `find` opens; whether it came to that. They pile up there.
fn mount(source: RawFd, find: impl FnOnce() -> Result<RawFd, Errno>) -> bool {
    let Ok(target) = find() else { return false };
    let clone = clone_of(source);
    let mounted = move_mount(clone, target, c"");
    shut(target);
    shut(clone);
    mounted.is_ok()
}

fn clone_of(mount: RawFd) -> RawFd {
    open_tree(mount, c"", libc::OPEN_TREE_CLONE | libc::AT_EMPTY_PATH as u32).expect("open_tree")
}

fn attach(mount: RawFd, dir: &Path) {
    let dir = CString::new(dir.as_os_str().as_bytes()).expect("no NUL");
    move_mount(mount, libc::AT_FDCWD, &dir).expect("move_mount");
}

fn new_tmpfs() -> RawFd {
    let context = cellkit_core::sys::fsopen(c"tmpfs", libc::FSOPEN_CLOEXEC).expect("fsopen");
    cellkit_core::sys::fsconfig(context, libc::FSCONFIG_CMD_CREATE, None, None, 0).expect("fsconfig");
    let mount = cellkit_core::sys::fsmount(context, libc::FSMOUNT_CLOEXEC, 0).expect("fsmount");
    shut(context);
    mount
}

/// Unmounts what `mount` is the root of, with all that is mounted below it, and forgets it.
fn detach(mount: RawFd) {
    fchdir(mount).expect("fchdir");
    detach_here().expect("umount2");
    chdir(c"/").expect("chdir");
    shut(mount);
}

fn mountinfo() -> Vec<u8> {
    // proc: a test, whose process has a procfs of its own.
    fs::read("/proc/self/mountinfo").expect("mountinfo")
}

mod root {
    use super::*;

    #[test]
    fn twenty_thousand_mounts_beside_a_racer_stay_inside() {
        faultkit::require!(root);
        faultkit::isolated!(limit_secs = 300, || {
            let caller = fs::File::open(".").expect("open");
            let before = mountinfo();
            // The tree is a tmpfs, seen twice: the racer works in one view of it, the mounts are made in another.
            let (tree, bed, aside, outside) = (TempDir::new(), TempDir::new(), TempDir::new(), TempDir::new());
            let (view, source) = (new_tmpfs(), new_tmpfs());
            attach(view, &tree);
            // Only an attached mount can be cloned before Linux 6.15.
            attach(source, &aside);
            for dir in [tree.join("a/sub"), tree.join("inside/sub"), outside.join("sub")] {
                fs::create_dir_all(dir).expect("mkdir");
            }
            for file in [tree.join("a/file"), outside.join("file"), outside.join("sub/canary")] {
                fs::write(file, "content").expect("write");
            }
            // One leads to nothing in the root, one to a place in it where the same names are.
            symlink(&*outside, tree.join("out")).expect("symlink");
            let up: PathBuf = std::iter::repeat_n("..", 12).chain(["inside"]).collect();
            symlink(up, tree.join("up")).expect("symlink");
            let seen = (census(&outside), mountinfo());

            let [sub, deep, file] = ["a/sub", "a/sub/made/deep", "a/file"]
                .map(|path| InRootPath::new("openat2", Path::new(path)).expect("a good path"));
            let done = AtomicBool::new(false);
            let (mut inside, mut refused, mut by) = (0, 0, [0; 2]);
            std::thread::scope(|scope| {
                let (a, others, done) = (tree.join("a"), ["out", "up"].map(|name| tree.join(name)), &done);
                scope.spawn(move || {
                    for other in others.iter().cycle() {
                        exchange(&a, other);
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                        // So that each is in place for some lookups, and many meet the moment between.
                        std::thread::sleep(std::time::Duration::from_micros(20));
                    }
                });
                let mut batch = 0;
                while inside < rounds() {
                    batch += 1;
                    let place = clone_of(view);
                    attach(place, &bed);
                    let resolver = if batch % 2 == 0 { Resolver::Kernel } else { Resolver::UserSpace };
                    let root = Root { fd: place, resolver };
                    for round in 0..600 {
                        let mounted = match round % 3 {
                            0 => mount(source, || ensure_dir(root, &sub, 0o755, Links::Inside)),
                            1 => mount(source, || ensure_dir(root, &deep, 0o755, Links::Inside)),
                            // A directory cannot be mounted on a file: making it is what matters.
                            _ => mount(source, || ensure_file(root, &file, 0o644)),
                        };
                        if mounted {
                            inside += 1;
                            by[batch % 2] += 1;
                        } else {
                            refused += 1;
                        }
                    }
                    // One umount2 for all of them, as each waits for every processor.
                    detach(place);
                    assert!(mountinfo() == seen.1, "a mount is outside");
                    assert!(refused < rounds() * 50, "{inside} mounted, {refused} not");
                }
                done.store(true, Ordering::Relaxed);
            });
            assert!(by.iter().all(|mounted| *mounted > rounds() / 10), "one resolver did not take part: {by:?}");
            assert!(refused > inside / 2 + inside / 100, "there was no race: {inside} mounted, {refused} not");
            assert!((census(&outside), mountinfo()) == seen, "outside changed");
            detach(view);
            detach(source);
            fchdir(std::os::fd::AsRawFd::as_raw_fd(&caller)).expect("fchdir");
            assert!(mountinfo() == before, "left behind");
        });
    }
}
