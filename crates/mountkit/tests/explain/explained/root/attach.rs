//! open_tree, move_mount, mount_setattr, umount2.
#![forbid(unsafe_code)]

use std::process::{Command, Stdio};

use mountkit::{Reason, explain};

use super::{Scratch, host, text};
use crate::because;
use crate::calls::{attach, clone_tree, in_fork, move_mount, set_attributes, unmount, unshare};

#[test]
fn a_directory_and_a_file() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let scratch = Scratch::new();
        let (dir, file) = (scratch.dir("dir"), scratch.path("file"));
        std::fs::write(&file, "").expect("write");
        let error = attach(&clone_tree(&dir, false).expect("clone"), &file).expect_err("a file");
        because(&error, libc::EINVAL, Reason::FileAndDirectory, "file is a regular file, and a directory cannot");
        let error = attach(&clone_tree(&file, false).expect("clone"), &dir).expect_err("a directory");
        because(&error, libc::EINVAL, Reason::FileAndDirectory, "dir is a directory, and a file cannot");
    });
}

#[test]
fn propagation_is_in_the_way() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let scratch = Scratch::new();
        let (shared, unbindable) = (scratch.tmpfs("shared", &[]), scratch.tmpfs("unbindable", &[]));
        host("mount", &["--make-shared", text(&shared)]);
        host("mount", &["--make-unbindable", text(&unbindable)]);
        let (inner, target) = (scratch.tmpfs("shared/inner", &[]), scratch.dir("target"));
        let error = move_mount(&inner, &target).expect_err("its parent is shared");
        because(&error, libc::EINVAL, Reason::Shared, "shared, which is shared");
        let error = clone_tree(&unbindable, false).expect_err("unbindable");
        because(&error, libc::EINVAL, Reason::Unbindable, "mount --make-private");
        let below = scratch.dir("shared/below");
        let error = move_mount(&unbindable, &below).expect_err("unbindable, below a shared one");
        because(&error, libc::EINVAL, Reason::Unbindable, "cloned to its peers");
    });
}

#[test]
fn a_mount_below_itself_and_one_of_another_namespace() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let scratch = Scratch::new();
        let mount = scratch.tmpfs("mount", &[]);
        let below = scratch.dir("mount/below");
        let error = move_mount(&mount, &below).expect_err("below itself");
        because(&error, libc::ELOOP, Reason::Loop, "below the very mount");
        // A place of this namespace, asked for from another one.
        let dir = std::fs::File::open(&mount).expect("open");
        in_fork(|| {
            unshare(libc::CLONE_NEWNS).expect("unshare");
            let by_fd = std::path::PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&dir)));
            let error = clone_tree(&by_fd, false).expect_err("of another namespace");
            because(&error, libc::EINVAL, Reason::OtherMountNamespace, "is not in this process's mount namespace");
            let error = set_attributes(&by_fd, libc::MOUNT_ATTR_RDONLY, 0).expect_err("of another namespace");
            because(&error, libc::EINVAL, Reason::OtherMountNamespace, "is not in this process's mount namespace");
        });
    });
}

#[test]
fn what_is_no_mount_point_and_what_is_written_to() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let scratch = Scratch::new();
        let (dir, mount) = (scratch.dir("dir"), scratch.tmpfs("mount", &[]));
        let error = set_attributes(&dir, libc::MOUNT_ATTR_RDONLY, 0).expect_err("no mount point");
        because(&error, libc::EINVAL, Reason::NotAMountPoint, "mount --bind");
        let error = unmount(&dir, 0).expect_err("no mount point");
        because(&error, libc::EINVAL, Reason::NotAMountPoint, "nothing is mounted");

        let file = std::fs::File::create(mount.join("file")).expect("create");
        let error = set_attributes(&mount, libc::MOUNT_ATTR_RDONLY, 0).expect_err("written to");
        let me = format!("process {} (", std::process::id());
        because(&error, libc::EBUSY, Reason::InUse, &me);
        drop(file);
        set_attributes(&mount, libc::MOUNT_ATTR_RDONLY, 0).expect("nobody writes");
    });
}

#[test]
fn who_keeps_a_mount() {
    faultkit::require!(root, program("mount"), program("sleep"));
    faultkit::isolated!(|| {
        let scratch = Scratch::new();
        let mount = scratch.tmpfs("mount", &[]);
        let mut sleeper =
            Command::new("sleep").arg("100").current_dir(&mount).stdout(Stdio::null()).spawn().expect("sleep");
        let error = unmount(&mount, 0).expect_err("somebody's working directory");
        let who = format!("process {} (\"sleep\", its working directory)", sleeper.id());
        because(&error, libc::EBUSY, Reason::InUse, &who);
        sleeper.kill().expect("kill");
        sleeper.wait().expect("wait");

        let file = std::fs::File::create(mount.join("file")).expect("create");
        let error = unmount(&mount, 0).expect_err("an open file");
        because(&error, libc::EBUSY, Reason::InUse, ", an open file)");
        drop(file);

        let inner = scratch.tmpfs("mount/inner", &[]);
        let error = unmount(&mount, 0).expect_err("a mount below");
        because(&error, libc::EBUSY, Reason::InUse, "there is a mount below");
        // The look at it is no use of it.
        assert!(!explain(&error).to_string().contains("in use by"), "{}", explain(&error));
        unmount(&inner, 0).expect("inner");
        unmount(&mount, 0).expect("nobody uses it");
    });
}

#[test]
fn programs_that_run_from_another_mount_do_not_keep_this_one() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        let scratch = Scratch::new();
        // The same file system that every process has its program mapped from.
        let bound = scratch.dir("bound");
        host("mount", &["--bind", "/usr", text(&bound)]);
        let inner = bound.join("bin");
        host("mount", &["-t", "tmpfs", "test", text(&inner)]);
        let error = unmount(&bound, 0).expect_err("a mount below");
        because(&error, libc::EBUSY, Reason::InUse, "there is a mount below");
        assert!(!explain(&error).to_string().contains("in use by"), "{}", explain(&error));
        unmount(&inner, 0).expect("inner");

        keeps_its_mount(&bound, "bin/sleep");

        // An overlay has another device than its layers.
        let layers = scratch.tmpfs("layers", &[]);
        host(
            "sh",
            &["-ec", "cd $1; mkdir lower upper work at; cp \"$(command -v sleep)\" lower/sleep", "sh", text(&layers)],
        );
        let shown = text(&layers);
        let options = format!("lowerdir={shown}/lower,upperdir={shown}/upper,workdir={shown}/work");
        let at = layers.join("at");
        host("mount", &["-t", "overlay", "-o", &options, "none", text(&at)]);
        keeps_its_mount(&at, "sleep");
    });
}

/// A program that runs from a mount is told to use it, which then is unmounted.
fn keeps_its_mount(mount: &std::path::Path, name: &str) {
    let mut program = Command::new(mount.join(name)).arg("100").spawn().expect("sleep");
    // It has been started when it has its memory, and only then gets its program into it.
    let maps = format!("/proc/{}/maps", program.id());
    while !std::fs::read_to_string(&maps).expect("maps").contains(text(&mount.join(name))) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let error = unmount(mount, 0).expect_err("a program runs from it");
    because(&error, libc::EBUSY, Reason::InUse, &format!("process {} (\"sleep\", a mapped file)", program.id()));
    program.kill().expect("kill");
    program.wait().expect("wait");
    unmount(mount, 0).expect("nobody uses it");
}
