//! pivot_root.
#![forbid(unsafe_code)]

use mountkit::Reason;

use super::{Scratch, host, text};
use crate::because;
use crate::calls::{chroot, in_fork, pivot_root, unshare};

#[test]
fn new_roots_that_are_none() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let scratch = Scratch::new();
        let (dir, shared, file) = (scratch.dir("dir"), scratch.tmpfs("shared", &[]), scratch.path("file"));
        std::fs::write(&file, "").expect("write");
        host("mount", &["--make-shared", text(&shared)]);
        scratch.tmpfs("shared/in", &[]);
        in_fork(|| {
            unshare(libc::CLONE_NEWNS).expect("unshare");
            let error = pivot_root(&dir).expect_err("no mount point");
            because(&error, libc::EINVAL, Reason::NotAMountPoint, "mount --bind");
            let error = pivot_root(&shared).expect_err("shared");
            because(&error, libc::EINVAL, Reason::Shared, "mount --make-rprivate");
            let error = pivot_root(&shared.join("in")).expect_err("below a shared one");
            because(&error, libc::EINVAL, Reason::Shared, "mount --make-rprivate");
            let error = pivot_root("/".as_ref()).expect_err("the root itself");
            because(&error, libc::EBUSY, Reason::AlreadyRoot, "the root already");
            let error = pivot_root(&file).expect_err("a file");
            because(&error, libc::ENOTDIR, Reason::NotADirectory, "not a directory");
        });
    });
}

#[test]
fn a_root_that_was_entered_by_chroot() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let scratch = Scratch::new();
        let jail = scratch.dir("jail");
        scratch.tmpfs("jail/new", &[]);
        // What explanations are made of.
        host("mount", &["--rbind", "/proc", text(&scratch.dir("jail/proc"))]);
        in_fork(|| {
            unshare(libc::CLONE_NEWNS).expect("unshare");
            chroot(&jail);
            std::env::set_current_dir("/").expect("chdir");
            let error = pivot_root("/new".as_ref()).expect_err("chroot");
            because(&error, libc::EINVAL, Reason::NotAMountPoint, "as after chroot");
        });
    });
}
