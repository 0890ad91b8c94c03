//! What a user namespace may not do.
#![forbid(unsafe_code)]

use mountkit::{Reason, Rootfs};

use super::{Scratch, host, text};
use crate::because;
use crate::calls::{clone_tree, enter_user_namespace, in_fork, make, mknod, set_attributes, unmount};
use crate::child::{Who, try_inside};

#[test]
fn flags_and_mounts_that_are_locked() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let scratch = Scratch::new();
        let mount = scratch.tmpfs("mount", &["-o", "nosuid,nodev"]);
        scratch.tmpfs("mount/below", &[]);
        in_fork(|| {
            enter_user_namespace(libc::CLONE_NEWNS);
            let error = set_attributes(&mount, 0, libc::MOUNT_ATTR_NOSUID).expect_err("locked");
            because(&error, libc::EPERM, Reason::LockedFlags, "has nosuid,nodev");
            let error = clone_tree(&mount, false).expect_err("a mount below");
            because(&error, libc::EINVAL, Reason::LockedMounts, "has a mount below it");
            let error = unmount(&mount.join("below"), 0).expect_err("locked");
            because(&error, libc::EINVAL, Reason::LockedMounts, "is locked to them");
        });
    });
}

#[test]
fn an_id_map_of_what_the_machine_mounted() {
    // A tmpfs takes id maps since 6.3.
    faultkit::require!(root, kernel(6.3), program("mount"));
    faultkit::isolated!(|| {
        let scratch = Scratch::new();
        let mount = scratch.tmpfs("mount", &[]);
        in_fork(|| {
            enter_user_namespace(libc::CLONE_NEWNS);
            let mine = std::fs::File::open("/proc/self/ns/user").expect("open");
            let error = mountkit::Bind::new(&mount).recursive().idmap(&mine).mount().expect_err("not its file system");
            // Flags that are locked have no part in it.
            because(&error, libc::EPERM, Reason::IdMap, "DetachedMount::send");
        });
    });
}

#[test]
fn file_systems_that_show_namespaces_of_others() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        in_fork(|| {
            enter_user_namespace(libc::CLONE_NEWNS);
            for (fs, word) in [("sysfs", "network namespace"), ("mqueue", "IPC namespace"), ("proc", "pid namespace")] {
                let error = make(fs, &[], None).expect_err(fs);
                because(&error, libc::EPERM, Reason::ForeignNamespace, word);
            }
            let error = make("securityfs", &[], None).expect_err("securityfs");
            // Where the kernel has it at all.
            if error.raw_os_error() == Some(libc::EPERM) {
                because(&error, libc::EPERM, Reason::NotInUserNamespace, "first user namespace");
            }
            let error = make("debugfs", &[], None).expect_err("debugfs");
            because(&error, libc::EPERM, Reason::NotInUserNamespace, "first user namespace");
            let error = mknod("/run/null".as_ref()).expect_err("a device");
            because(&error, libc::EPERM, Reason::NotInUserNamespace, "bind the host's");
        });
    });
}

#[test]
fn a_mount_namespace_of_somebody_else() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        in_fork(|| {
            enter_user_namespace(0);
            let error = make("tmpfs", &[], None).expect_err("not its own");
            because(&error, libc::EPERM, Reason::NotOwner, "belongs to another user namespace");
            let error = clone_tree("/usr".as_ref(), false).expect_err("not its own");
            because(&error, libc::EPERM, Reason::NotOwner, "belongs to another user namespace");
        });
    });
}

#[test]
fn a_proc_that_is_covered_in_part() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        // As in a container: a part of every /proc the child can see is covered. Ours lies on the host's own.
        host("mount", &["--move", "/proc", "/mnt"]);
        for covered in ["/proc/sys", "/mnt/sys"] {
            host("mount", &["-t", "tmpfs", "mask", covered]);
        }
        let outcome = try_inside(Who::Ordinary, &Rootfs::overlay_of_host().unprivileged().proc(), "true");
        // Asked while it can still be seen: what follows takes its time, and uncovers it.
        if let Err(error) = &outcome {
            because(error, libc::EPERM, Reason::Revealing, "");
        }
        for covered in ["/proc/sys", "/mnt/sys"] {
            host("umount", &[covered]);
        }
        host("mount", &["--move", "/mnt", "/proc"]);
        outcome.expect_err("the kernel would have to show what is covered");

        let whole = Scratch::new();
        host("mount", &["-t", "proc", "proc", text(&whole.dir("proc"))]);
        try_inside(Who::Ordinary, &Rootfs::overlay_of_host().unprivileged().proc(), "true").expect("one that is whole");
    });
}
