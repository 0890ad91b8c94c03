//! A root for the process that calls; and one where pivot_root is not to be had.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

use faultkit::TempDir;
use mountkit::{Bind, ErrorKind, NoPivot, RootFd, Rootfs, Tmpfs};

use crate::sys::{go_to_the_initramfs, in_fork, unmount};
use crate::tree::{census, skeleton};

fn mount_points() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    table.lines().map(|line| line.split(' ').nth(4).expect("a target").to_owned()).collect()
}

#[test]
fn the_caller_is_in_the_root_and_nothing_else_is_changed() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        skeleton(&dir);
        let before = census(&dir);
        in_fork(|| {
            let kept = fs::read_dir("/proc/self/fd").expect("readdir").count();
            let umask = || {
                let status = fs::read_to_string("/proc/self/status").expect("status");
                status.lines().find(|line| line.starts_with("Umask:")).expect("Umask").to_owned()
            };
            let had = umask();
            Rootfs::overlay(&*dir).proc().dev().tmpfs("/tmp", Tmpfs::new()).enter().expect("enter");
            assert_eq!(std::env::current_dir().expect("getcwd"), Path::new("/"));
            assert_eq!(fs::read_to_string("/etc/name").expect("read"), "skeleton\n");
            fs::write("/etc/name", "changed").expect("write");
            assert!(fs::exists("/dev/null").expect("stat") && !fs::exists("/usr").expect("stat"));
            assert_eq!(fs::read_dir("/proc/self/fd").expect("readdir").count(), kept, "descriptors are left");
            assert_eq!(umask(), had);
            let points = mount_points();
            assert_eq!(points.iter().filter(|point| *point == "/").count(), 1, "{points:?}");
            assert!(points.contains(&"/dev/pts".to_owned()), "{points:?}");
        });
        assert_eq!(census(&dir), before);
    });
}

#[test]
fn not_with_threads_and_not_for_everybody() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let (dir, before) = (TempDir::new(), mount_points());
        // The test's process is in the mount namespace of its PID 1.
        let error = Rootfs::bind(&*dir).enter().expect_err("it is everybody's");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("PID 1") && error.hint().is_some(), "{error:#}");
        in_fork(|| {
            let (sender, receiver) = std::sync::mpsc::channel::<()>();
            let thread = std::thread::spawn(move || receiver.recv());
            let error = Rootfs::bind(&*dir).enter().expect_err("a thread");
            assert!(error.to_string().contains("2 threads"), "{error:#}");
            drop(sender);
            let _ = thread.join();
        });
        assert_eq!(mount_points(), before);
    });
}

/// In the initramfs, with a root directory on `/mnt` and procfs on `/proc`. What had to be made there is removed again.
fn in_the_initramfs(dir: &Path, body: impl FnOnce()) {
    let root = Bind::new(dir).mount().expect("bind");
    let proc = Bind::new("/proc").mount().expect("bind");
    go_to_the_initramfs(1);
    let top = RootFd::open("/").expect("open");
    let mut made = Vec::new();
    for place in ["/proc", "/mnt"] {
        match fs::create_dir(place) {
            Ok(()) => made.push(place),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists, "{place}"),
        }
    }
    root.attach(&top, "mnt").expect("attach");
    proc.attach(&top, "proc").expect("attach");
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let first = table.lines().next().expect("a line").to_owned();
    assert!(first.contains(" - rootfs ") || first.contains(" - tmpfs ") || first.contains(" - ramfs "), "{table}");
    // In a mount namespace of its own, so that this one is after it as it was before, whatever became of it.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| in_fork(body)));
    // A directory that something is mounted on can only be removed where that is in another mount namespace.
    for place in [c"/mnt", c"/proc"] {
        unmount(place);
    }
    for place in made {
        top.rmdir(place).expect(place);
    }
    outcome.expect("the body");
}

#[test]
fn pivot_root_cannot_leave_an_initramfs_and_says_what_to_do() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        skeleton(&dir);
        in_fork(|| {
            in_the_initramfs(&dir, || {
                let error = Rootfs::bind("/mnt").enter().expect_err("an initramfs cannot be left");
                assert_eq!((error.operation(), error.raw_os_error()), ("pivot_root", Some(libc::EINVAL)), "{error:#}");
                assert!(error.hint().is_some_and(|hint| hint.contains("without_pivot_root")), "{error:#}");
            });
        });
    });
}

#[test]
fn a_root_on_an_initramfs_by_chroot_and_what_that_is_worth() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        skeleton(&dir);
        in_fork(|| {
            in_the_initramfs(&dir, || {
                let rootfs = Rootfs::bind("/mnt").proc().dev().tmpfs("/tmp", Tmpfs::new());
                // An initramfs has no device nodes to bind.
                let rootfs = rootfs.device_nodes(mountkit::DeviceNodes::Made);
                rootfs.without_pivot_root(NoPivot::InitramfsStaysBelow).enter().expect("enter");
                assert_eq!(fs::read_to_string("/etc/name").expect("read"), "skeleton\n");
                assert_eq!(std::env::current_dir().expect("getcwd"), Path::new("/"));
                // A process in a chroot sees the mounts below it only.
                let points = mount_points();
                assert!(points.contains(&"/dev/pts".to_owned()) && points.contains(&"/".to_owned()), "{points:?}");
                // What the documentation says of it. A second chroot and `..` lead back to what is on "/", the new root; ...
                fs::create_dir("/way-out").expect("mkdir");
                std::os::unix::fs::chroot("/way-out").expect("chroot");
                for _ in 0..8 {
                    std::env::set_current_dir("..").expect("chdir");
                }
                std::os::unix::fs::chroot(".").expect("chroot");
                assert_eq!(fs::read_to_string("/etc/name").expect("still inside"), "skeleton\n");
                // ... but whoever may unmount that is in the initramfs, without the mounts that were in it.
                go_to_the_initramfs(2);
                assert!(!fs::exists("/etc/name").expect("stat") && fs::exists("/mnt").expect("stat"));
                assert!(!fs::exists("/proc/self").expect("stat") && !fs::exists("/mnt/etc").expect("stat"));
            });
        });
        fs::remove_dir(dir.join("way-out")).expect("rmdir");
    });
}
