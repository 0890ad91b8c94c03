//! Where writes go.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use faultkit::TempDir;
use mountkit::{Rootfs, Tmpfs, Volume};

use super::{complete, with_usr};
use crate::child::{Who, inside};
use crate::tree::{census, skeleton};

/// Names that mean something to somebody on the way.
const ODD: [&str; 8] = ["plain", "a:b", "a,b", "a\\b", "a b\tc\nd", "a:b,c\\:d upperdir=x", "-o", "ü\u{1f980}"];

#[test]
fn an_overlay_leaves_the_directory_alone_whatever_it_is_called() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let base = TempDir::new();
        let long = "x".repeat(200) + "/" + &"y".repeat(200);
        for name in ODD.into_iter().chain([long.as_str()]) {
            let dir = base.join(name);
            fs::create_dir_all(&dir).expect("mkdir");
            skeleton(&dir);
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o711)).expect("chmod");
            let before = census(&dir);
            let script =
                "set -e; cat /etc/name; echo x >/etc/name; rm -r /etc; mkdir /etc; : >/etc/new; ls /etc; stat -c %a /";
            for who in [Who::Root, Who::Ordinary] {
                let rootfs = complete(with_usr(Rootfs::overlay(&dir)));
                let rootfs = if who == Who::Ordinary { rootfs.unprivileged() } else { rootfs };
                // The unprivileged child is nobody to root's files: it makes what it needs.
                let script =
                    if who == Who::Ordinary { "set -e; cat /etc/name; : >/new; ls /new; stat -c %a /" } else { script };
                let said = inside(who, &rootfs, script);
                let expected = if who == Who::Ordinary { "skeleton\n/new\n711\n" } else { "skeleton\nnew\n711\n" };
                assert_eq!(said, expected, "{name:?}");
                assert_eq!(census(&dir), before, "{name:?}");
            }
        }
    });
}

#[test]
fn a_bind_is_written_to() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        skeleton(&dir);
        let rootfs = with_usr(Rootfs::bind(&*dir)).proc().dev();
        inside(Who::Root, &rootfs, "echo written >/etc/name; umask >/umask");
        assert_eq!(fs::read_to_string(dir.join("etc/name")).expect("read"), "written\n");
        for made in ["proc", "dev", "usr"] {
            assert_eq!(fs::read_dir(dir.join(made)).expect(made).count(), 0, "{made} is a place and nothing more");
        }
    });
}

#[test]
fn a_read_only_bind_is_not() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        skeleton(&dir);
        for place in ["usr", "proc", "dev", "sys", "scratch"] {
            fs::create_dir(dir.join(place)).expect("mkdir");
        }
        let before = census(&dir);
        let rootfs = complete(with_usr(Rootfs::bind(&*dir))).read_only().tmpfs("/scratch", Tmpfs::new());
        let said = inside(Who::Root, &rootfs, "touch /a /etc/name 2>&1; touch /scratch/a /dev/shm/a; : >/dev/null");
        assert_eq!(said.matches("Read-only").count(), 2, "{said}");
        assert_eq!(census(&dir), before);
        let missing = with_usr(Rootfs::bind(&*dir)).read_only().volume(Volume::bind("/etc", "/nowhere"));
        let error = crate::child::try_inside(Who::Root, &missing, "true").expect_err("nowhere to mount it");
        assert_eq!((error.operation(), error.raw_os_error()), ("openat2", Some(libc::EROFS)), "{error:#}");
        assert!(error.to_string().contains("\"nowhere\" under"), "{error}");
        assert!(error.hint().is_some(), "{error:#}");
        assert_eq!(census(&dir), before);
    });
}

#[test]
fn volumes_of_directories_and_files_on_places_that_are_missing() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let source = TempDir::new();
        fs::create_dir(source.join("dir")).expect("mkdir");
        fs::write(source.join("file"), "content\n").expect("write");
        let rootfs = Rootfs::overlay_of_host()
            .proc()
            .dev()
            .volume(Volume::bind(source.join("dir"), "/deep/er/dir"))
            .volume(Volume::bind(source.join("file"), "/deep/er/file"))
            .volume(Volume::bind(source.join("file"), "/etc/hostname").read_only())
            .volume(Volume::bind(source.join("file"), "/dev/extra"))
            .tmpfs("/deep/er/dir/inner", Tmpfs::new().mode(0o700).size(1 << 16));
        let script = "set -e; cat /deep/er/file /etc/hostname /dev/extra; echo in >/deep/er/dir/new; \
                      stat -c '%a %U' /deep /deep/er /deep/er/dir/inner; findmnt -bno SIZE /deep/er/dir/inner; \
                      echo x 2>&1 >/etc/hostname || true";
        let said = inside(Who::Root, &rootfs, script);
        assert!(said.starts_with("content\ncontent\ncontent\n755 root\n755 root\n700 root\n"), "{said}");
        assert!(said.contains("65536"), "{said}");
        assert_eq!(fs::read_to_string(source.join("dir/new")).expect("written"), "in\n");
        assert_eq!(fs::read_to_string(source.join("file")).expect("kept"), "content\n");
    });
}

#[test]
fn sources_are_relative_to_the_caller() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        skeleton(&dir);
        let before = std::env::current_dir().expect("getcwd");
        std::env::set_current_dir(&*dir).expect("chdir");
        let rootfs = with_usr(Rootfs::overlay(".")).volume(Volume::bind("etc", "/vol"));
        assert_eq!(inside(Who::Root, &rootfs, "cat /vol/name; pwd"), "skeleton\n/\n");
        std::env::set_current_dir(before).expect("chdir");
    });
}
