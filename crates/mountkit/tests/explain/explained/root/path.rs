//! Places where nothing can be made.
#![forbid(unsafe_code)]

use std::fs::File;
use std::os::unix::fs::PermissionsExt;

use mountkit::{Reason, RootFd, Rootfs};

use super::{Scratch, host, text};
use crate::because;
use crate::calls::{become_ordinary, hide, in_fork, make, mkdir, mknod, openat2, set_attributes, set_immutable};
use crate::child::{Who, try_inside};

#[test]
fn read_only_mounts_and_read_only_file_systems() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let scratch = Scratch::new();
        let (fs, mount) = (scratch.tmpfs("fs", &["-o", "ro"]), scratch.tmpfs("mount", &[]));
        set_attributes(&mount, libc::MOUNT_ATTR_RDONLY, 0).expect("read-only");
        let error = mkdir(&mount.join("dir")).expect_err("read-only");
        because(&error, libc::EROFS, Reason::ReadOnly, "the mount on");
        set_attributes(&fs, 0, libc::MOUNT_ATTR_RDONLY).expect("the mount is not");
        let error = RootFd::open(&fs).expect("root").mkdir_all("a/b", 0o755).expect_err("read-only");
        because(&error, libc::EROFS, Reason::ReadOnly, "the file system on");
        let error = try_inside(Who::Root, &Rootfs::bind(&fs).proc(), "true").expect_err("no place for /proc");
        because(&error, libc::EROFS, Reason::ReadOnly, "the file system on");
    });
}

#[test]
fn attributes_that_even_root_does_not_get_past() {
    // tmpfs has them since then.
    faultkit::require!(root, kernel(6.0), program("mount"));
    faultkit::isolated!(|| {
        let scratch = Scratch::new();
        let dir = scratch.dir("dir");
        let open = File::open(&dir).expect("open");
        set_immutable(&open, true).expect("chattr +i");
        let error = mkdir(&dir.join("x")).expect_err("immutable");
        because(&error, libc::EPERM, Reason::Immutable, "chattr -i");
        set_immutable(&open, false).expect("chattr -i");
    });
}

#[test]
fn directories_that_may_not_be_passed() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let scratch = Scratch::new();
        let closed = scratch.dir("closed");
        for dir in [scratch.path(""), scratch.path("").parent().expect("above").to_owned()] {
            std::fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).expect("chmod");
        }
        std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).expect("chmod");
        in_fork(|| {
            become_ordinary();
            let error = mkdir(&closed.join("x")).expect_err("closed");
            because(&error, libc::EACCES, Reason::NoAccess, "closed has mode 0700 and belongs to 0:0");
            let error = mknod(&closed.with_file_name("null")).expect_err("no privilege");
            if error.raw_os_error() == Some(libc::EPERM) {
                because(&error, libc::EPERM, Reason::Capability, "CAP_MKNOD");
            }
            let error = make("tmpfs", &[], None).expect_err("no privilege");
            because(&error, libc::EPERM, Reason::Capability, "CAP_SYS_ADMIN");
        });
    });
}

#[test]
fn calls_that_a_filter_hides() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let scratch = Scratch::new();
        let mount = scratch.tmpfs("mount", &[]);
        in_fork(|| {
            hide(libc::SYS_mount_setattr);
            let error = set_attributes(&mount, libc::MOUNT_ATTR_RDONLY, 0).expect_err("hidden");
            because(&error, libc::ENOSYS, Reason::Filter, "(since 5.12): a seccomp filter hides it");
            // Also where that takes away what explanations are made with.
            hide(libc::SYS_openat2);
            let error = openat2(&mount, libc::O_PATH, 0).expect_err("hidden");
            because(&error, libc::ENOSYS, Reason::Filter, "(since 5.6): a seccomp filter hides it");
        });
    });
}

#[test]
fn links_where_real_directories_have_to_be() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let scratch = Scratch::new();
        let root = scratch.dir("root");
        host("ln", &["-s", "/etc", text(&scratch.path("root/proc"))]);
        let error = try_inside(Who::Root, &Rootfs::bind(&root).proc(), "true").expect_err("a link");
        because(&error, libc::ELOOP, Reason::SymbolicLink, "proc is a symbolic link");
    });
}
