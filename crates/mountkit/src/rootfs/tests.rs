#![forbid(unsafe_code)]

use cellkit_core::Error;

use super::*;
use crate::Atime;
use cellkit_core::ErrorKind;

fn refused(rootfs: Rootfs, word: &str) -> Error {
    let error = rootfs.check().expect_err(word);
    let line = error.to_string();
    assert!(line.contains(word) && !line.contains('\n'), "{line:?} lacks {word:?}");
    error
}

#[test]
fn the_root_directory() {
    let error = refused(Rootfs::overlay("/no/such/dir"), r#"open "/no/such/dir": "#);
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    let error = refused(Rootfs::bind("/etc/passwd"), r#"open "/etc/passwd": "#);
    assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR));
    assert_eq!(refused(Rootfs::bind(""), "empty").kind(), ErrorKind::Invalid);
    assert_eq!(refused(Rootfs::overlay("/a\0b"), "NUL").kind(), ErrorKind::Invalid);
    assert_eq!(refused(Rootfs::bind("/usr/.."), "overlay_of_host").kind(), ErrorKind::Invalid);
}

#[test]
fn targets() {
    let with = |target: &str| Rootfs::overlay_of_host().dev().volume(Volume::bind("/usr", target));
    for (target, word) in [
        ("usr", "begin with"),
        ("/", "root itself"),
        ("/.", "root itself"),
        ("/a/../b", "`..`"),
        ("", "empty"),
        ("/a\0", "NUL"),
        ("/proc", "belongs"),
        ("/proc/sys", "belongs"),
        ("//sys/./fs", "belongs"),
        ("/dev", "belongs"),
        ("/dev/null", "belongs"),
        ("/dev/pts/0", "belongs"),
    ] {
        assert_eq!(refused(with(target), word).kind(), ErrorKind::Invalid, "{target}");
    }
    for target in ["/dev/fuse", "/process", "/usr/proc"] {
        with(target).check().expect(target);
    }
}

#[test]
fn a_mount_must_not_hide_an_earlier_one() {
    let twice = Rootfs::overlay_of_host().tmpfs("/a/b", Tmpfs::new());
    refused(twice.clone().tmpfs("/a/b/", Tmpfs::new()), "hide");
    refused(twice.clone().volume(Volume::bind("/usr", "/a")), "hide");
    twice.clone().tmpfs("/a/b/c", Tmpfs::new()).check().expect("below is fine");
    refused(twice.clone().mask(["/a"]), "would hide what is mounted on \"/a/b\"");
    twice.clone().mask(["/a/b/c"]).read_only_paths(["/a"]).check().expect("hides nothing that was asked for");
    refused(
        twice.volume(Volume::bind("/etc/passwd", "/file")).tmpfs("/file/below", Tmpfs::new()),
        "where a file is mounted",
    );
}

#[test]
fn what_a_user_namespace_may_not() {
    let with = |volume: Volume| Rootfs::overlay_of_host().unprivileged().volume(volume);
    let usr = || Volume::bind("/usr", "/mnt");
    refused(with(usr().propagation(Propagation::Shared)), "nothing can go to the host");
    with(usr().propagation(Propagation::Slave)).check().expect("arrives all the same");
    // /sys and /proc have mounts below them wherever tests run; /usr has its own access time.
    refused(with(Volume::bind("/", "/mnt").without_mounts_below()), "take the host's mounts apart");
    refused(with(usr().atime(Atime::Strict)), "access times");
    refused(Rootfs::overlay_of_host().unprivileged().dev().device_nodes(DeviceNodes::Made), "DeviceNodes::Bound");
}

#[test]
fn places_below_a_read_only_root_must_be_there() {
    let dir = faultkit::TempDir::new();
    std::fs::create_dir_all(dir.path().join("there/below")).expect("mkdir");
    std::os::unix::fs::symlink("/there", dir.path().join("link")).expect("symlink");
    let root = || Rootfs::bind(dir.path()).read_only();
    for target in ["/there", "/there/below", "/link/below", "/link/whoever/knows"] {
        root().tmpfs(target, Tmpfs::new()).check().expect(target);
    }
    for rootfs in [root().tmpfs("/missing", Tmpfs::new()), root().proc(), root().dev()] {
        let error = refused(rootfs, "read-only file system");
        assert_eq!((error.operation(), error.raw_os_error()), ("openat2", Some(libc::EROFS)));
    }
    // What is in another mount is that mount's to have.
    root().tmpfs("/there", Tmpfs::new()).volume(Volume::bind("/usr", "/there/new")).check().expect("made in a tmpfs");
    Rootfs::bind(dir.path()).tmpfs("/missing", Tmpfs::new()).check().expect("can be made");
}

#[test]
fn devices_and_consoles() {
    let host = || Rootfs::overlay_of_host().dev();
    for (path, word) in [
        ("/dev/null", "own /dev"),
        ("/dev/pts/0", "own /dev"),
        ("/dev", "below /dev"),
        ("/etc/passwd", "below /dev"),
        ("/dev/no-such-device", "open"),
        ("dev/null", "begin with"),
    ] {
        refused(host().device(path), word);
    }
    refused(Rootfs::overlay_of_host().device("/dev/null"), "say dev()");
    refused(Rootfs::overlay_of_host().console(), "say dev()");
    refused(host().console_of(std::fs::File::open("/dev/null").expect("open")), "pseudo terminal");
    refused(host().shm_size(0), "no size");
    host().shm_size(1).console().check().expect("fine");
}

#[test]
fn a_descriptor_that_is_no_mount() {
    let fd = || DetachedMount::from(std::os::fd::OwnedFd::from(std::fs::File::open("/usr/bin").expect("open")));
    refused(Rootfs::from(fd()), "not that of a mount");
    refused(Rootfs::overlay_of_host().mount(fd(), "/a"), "not that of a mount");
}

#[test]
fn sources_sizes_and_masks() {
    let host = Rootfs::overlay_of_host;
    let error = refused(host().volume(Volume::bind("/no/such", "/a")), r#"open "/no/such""#);
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    refused(host().volume(Volume::bind("", "/a")), "empty");
    refused(host().tmpfs("/a", Tmpfs::new().size(0)), "no limit");
    refused(host().mask(["proc/kcore"]), "begin with");
    refused(host().read_only_paths(["/"]), "root itself");
    refused(host().tty_gid(u32::MAX), "not a group");
}
