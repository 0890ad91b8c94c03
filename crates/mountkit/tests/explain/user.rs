//! What an ordinary user meets.
#![forbid(unsafe_code)]

use std::path::Path;

use mountkit::{Bind, Evidence, Reason, RootFd, explain};

use crate::because;
use crate::calls::{mkdir, openat2};

#[test]
fn the_part_of_a_path_that_is_wrong() {
    let dir = faultkit::TempDir::new();
    let file = dir.join("file");
    std::fs::write(&file, "").expect("write");
    let error = mkdir(&dir.join("a/b")).expect_err("no a");
    because(&error, libc::ENOENT, Reason::Missing, "has no \"a\" in it");
    let error = Bind::new(dir.join("a")).mount().expect_err("no a");
    if error.raw_os_error() == Some(libc::ENOENT) {
        because(&error, libc::ENOENT, Reason::Missing, "has no \"a\" in it");
    }
    let error = mkdir(&file.join("b")).expect_err("a file");
    because(&error, libc::ENOTDIR, Reason::NotADirectory, "file is a regular file, not a directory");
    std::os::unix::fs::symlink("nowhere", dir.join("dangling")).expect("symlink");
    let error = mkdir(&dir.join("dangling/b")).expect_err("leads nowhere");
    because(&error, libc::ENOENT, Reason::Missing, "a symbolic link to \"nowhere\", which does not exist");
    std::os::unix::fs::symlink("round", dir.join("round")).expect("symlink");
    let error = mkdir(&dir.join("round/b")).expect_err("a circle");
    because(&error, libc::ELOOP, Reason::SymbolicLink, "round is a symbolic link");
    let error = openat2(&dir.join("dangling"), libc::O_PATH, libc::RESOLVE_NO_SYMLINKS).expect_err("a link");
    because(&error, libc::ELOOP, Reason::SymbolicLink, "dangling is a symbolic link");
}

#[test]
fn names_move_no_cursor() {
    let dir = faultkit::TempDir::new();
    std::fs::create_dir(dir.join("a\u{1b}[2J\nb")).expect("mkdir");
    let error = RootFd::open(&dir).expect("root").open_dir("a\u{1b}[2J\nb/c").expect_err("no c");
    because(&error, libc::ENOENT, Reason::Missing, r"a\u{1b}[2J\nb is there, and has no");
}

#[test]
fn the_part_of_a_path_inside_a_root() {
    let dir = faultkit::TempDir::new();
    std::fs::write(dir.join("file"), "").expect("write");
    // Outside it would lead somewhere.
    std::os::unix::fs::symlink("/usr", dir.join("dangling")).expect("symlink");
    let root = RootFd::open(&dir).expect("root");
    let error = root.open_dir("etc/x").expect_err("no etc");
    because(&error, libc::ENOENT, Reason::Missing, &format!("{} is there, and has no \"etc\" in it", dir.display()));
    let error = root.open_dir("dangling").expect_err("leads nowhere");
    let inside = format!("to \"/usr\", and inside {} that does not exist", dir.display());
    because(&error, libc::ENOENT, Reason::Missing, &inside);
    let error = root.open_dir("file/x").expect_err("a file");
    because(&error, libc::ENOTDIR, Reason::NotADirectory, "file is a regular file");
}

#[test]
fn who_may_not_mount_is_told_so() {
    faultkit::require!(user);
    let error = Bind::new("/usr").mount().expect_err("an ordinary user");
    because(&error, libc::EPERM, Reason::Capability, "CAP_SYS_ADMIN");
    let error = mkdir(Path::new("/root/x")).expect_err("an ordinary user");
    because(&error, libc::EACCES, Reason::NoAccess, "/root has mode 07");
}

#[test]
fn nothing_is_made_up() {
    // What the library refused says itself why.
    let error = mountkit::Error::invalid("move_mount", "the target is relative");
    assert!(explain(&error).causes().is_empty());
    // A subject that is gone, an operation that nobody knows, an errno that says nothing.
    let error = mountkit::Error::from_errno("frobnicate", libc::EPERM).on(Path::new("/no/such/place"));
    assert!(explain(&error).evident().all(|cause| cause.reason != Reason::Missing), "{}", explain(&error));
    // The hint is the last resort.
    let error = mountkit::Error::from_errno("pivot_root", libc::EPERM).with_hint("only this").on(Path::new("/usr"));
    let why = explain(&error);
    assert!(why.causes().iter().all(|cause| cause.evidence != Evidence::Known || cause.text == "only this"), "{why}");
}
