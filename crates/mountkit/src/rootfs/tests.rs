#![forbid(unsafe_code)]

use super::*;
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
    twice.tmpfs("/a/b/c", Tmpfs::new()).check().expect("below is fine");
}

#[test]
fn sources_sizes_and_masks() {
    let host = Rootfs::overlay_of_host;
    let error = refused(host().volume(Volume::bind("/no/such", "/a")), r#"open "/no/such""#);
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    refused(host().volume(Volume::bind("", "/a")), "empty");
    refused(host().tmpfs("/a", Tmpfs::new().size(0)), "no limit");
    refused(host().mask(["proc/kcore"]), "begin with");
    refused(host().readonly_paths(["/"]), "root itself");
    refused(host().tty_gid(u32::MAX), "not a group");
}
