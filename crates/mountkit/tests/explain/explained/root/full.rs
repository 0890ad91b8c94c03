//! Limits that are reached for real.
#![forbid(unsafe_code)]

use std::fs::File;
use std::path::Path;

use mountkit::{Bind, ErrorKind, Reason, RootFd, Rootfs};

use super::{Scratch, text};
use crate::because;
use crate::calls::{bind, enter_user_namespace, in_fork, mkdir, unshare};
use crate::child::{Who, try_inside};

#[test]
fn a_tmpfs_without_blocks_and_one_without_inodes() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let scratch = Scratch::new();
        let small = scratch.tmpfs("small", &["-o", "size=64k"]);
        std::io::copy(&mut std::io::repeat(1), &mut File::create(small.join("file")).expect("create"))
            .expect_err("full");
        let error = mkdir(&small.join("dir"));
        // A directory of a tmpfs takes no block, so a file that is grown stands for it.
        if let Err(error) = error {
            because(&error, libc::ENOSPC, Reason::NoSpace, "no space left");
        }
        let error = std::fs::write(small.join("file2"), [1; 4096]).expect_err("full");
        let error = mountkit::Error::from_io("write", &error).on(&*small.join("file2"));
        because(&error, libc::ENOSPC, Reason::NoSpace, "no space left");

        let few = scratch.tmpfs("few", &["-o", "nr_inodes=4"]);
        let error = (0..8).find_map(|number| mkdir(&few.join(format!("{number}"))).err()).expect("no inode left");
        because(&error, libc::ENOSPC, Reason::NoInodes, "nr_inodes=");
        // The same through a root.
        let error = RootFd::open(&few).expect("root").mkdir_all("x/y", 0o755).expect_err("no inode left");
        because(&error, libc::ENOSPC, Reason::NoInodes, "df -i");
        assert_eq!(error.kind(), ErrorKind::Limit);
    });
}

/// Mounts below `dir` until the namespace holds no more, by copies of copies.
fn fill(dir: &Path) {
    for name in ["new", "to"] {
        std::fs::create_dir(dir.join(name)).expect("mkdir");
    }
    let step = |name: String, from: &Path| {
        let target = dir.join(name);
        std::fs::create_dir(&target).expect("mkdir");
        bind(from, &target)
    };
    let mut doublings = 0;
    let error = loop {
        assert!(doublings < 30, "there is no limit");
        match step(format!("{doublings}"), dir) {
            Ok(()) => doublings += 1,
            Err(error) => break error,
        }
    };
    because(&error, libc::ENOSPC, Reason::MountMax, "fs.mount-max");
    // Each of them is half as large as the next one. Then the few that are left, one by one.
    for number in (0..doublings).rev() {
        let _ = step(format!("again{number}"), &dir.join(number.to_string()));
    }
    let one = dir.join("new");
    for number in 0.. {
        if step(format!("one{number}"), &one).is_err() {
            return;
        }
    }
}

#[test]
fn a_mount_namespace_that_is_full() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(limit_secs = 300, || {
        let scratch = Scratch::new();
        let full = scratch.tmpfs("full", &[]);
        fill(&full);
        // Made it can be, for it is nowhere yet; and dropped it is gone.
        let mount = Bind::new(full.join("new")).mount().expect("a detached mount");
        let error = mount.attach(&RootFd::open(&full).expect("root"), "to").expect_err("full");
        assert_eq!((error.operation(), error.kind()), ("move_mount", ErrorKind::Limit), "{error:#}");
        because(&error, libc::ENOSPC, Reason::MountMax, "fs.mount-max");
        // A start ends at its first mount, and leaves nothing: the ledger is compared after this.
        let error = try_inside(Who::Root, &Rootfs::overlay_of_host().proc(), "true").expect_err("full");
        assert_eq!((error.operation(), error.kind()), ("move_mount", ErrorKind::Limit), "{error:#}");
        because(&error, libc::ENOSPC, Reason::MountMax, "fs.mount-max");
        // With room again it comes up.
        crate::calls::unmount(&full, libc::MNT_DETACH).expect("umount");
        try_inside(Who::Root, &Rootfs::overlay_of_host().proc(), "true").expect("room");
    });
}

#[test]
fn no_more_namespaces() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        in_fork(|| {
            enter_user_namespace(0);
            std::fs::write("/proc/sys/user/max_mnt_namespaces", "0").expect("a limit of this user namespace");
            let error = unshare(libc::CLONE_NEWNS).expect_err("none");
            because(&error, libc::ENOSPC, Reason::NamespaceMax, "user.max_mnt_namespaces is 0");
        });
    });
}

#[test]
fn a_root_that_is_full() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let scratch = Scratch::new();
        // Room for one more name, and /proc, /sys and /dev are wanted.
        let root = scratch.tmpfs("root", &["-o", "nr_inodes=4"]);
        std::fs::create_dir(root.join("usr")).expect("mkdir");
        let error = try_inside(Who::Root, &Rootfs::bind(&root).proc().sys(mountkit::Sys::Fresh).dev(), "true");
        let error = error.expect_err("no room");
        assert_eq!(error.kind(), ErrorKind::Limit, "{error:#}");
        because(&error, libc::ENOSPC, Reason::NoInodes, text(&root));
    });
}
