//! Files whose content is the caller's.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::symlink;

use faultkit::TempDir;
use mountkit::{ErrorKind, Rootfs};

use super::with_usr;
use crate::child::{Who, inside};
use crate::tree::{census, skeleton};

#[test]
fn it_is_there_and_the_host_has_nothing_of_it() {
    faultkit::require!(root, userns);
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        skeleton(&dir);
        fs::create_dir_all(dir.join("etc")).expect("mkdir");
        fs::write(dir.join("etc/hosts"), "the host's\n").expect("write");
        symlink("hosts", dir.join("etc/link")).expect("symlink");
        std::os::unix::fs::chown(dir.join("etc"), Some(12345), Some(12345)).expect("chown");
        std::os::unix::fs::chown(&*dir, Some(12345), Some(12345)).expect("chown");
        let before = census(&dir);
        let look = "cat /etc/hosts /new/name; stat -c '%a %u:%g %s' /etc/hosts; echo more >>/etc/hosts; wc -c </etc/hosts; \
                    findmnt -no OPTIONS /etc/hosts | grep -o -w -e nosuid -e nodev";
        let words = "one\n\0two\n644 0:0 5\n10\nnosuid\nnodev\n";
        for (who, base) in [(Who::Root, Rootfs::overlay(&*dir)), (Who::Ordinary, Rootfs::overlay(&*dir).unprivileged())]
        {
            let rootfs = with_usr(base).proc().file("/etc/link", "one\n\0").file("/new/name", "two\n");
            assert_eq!(inside(who, &rootfs, look), words, "{who:?}");
        }
        let large = "x".repeat(1 << 20);
        let rootfs = with_usr(Rootfs::overlay(&*dir).read_only()).file("/large", large.as_str()).file("/empty", "");
        assert_eq!(
            inside(Who::Root, &rootfs, "wc -c </large; wc -c </empty; echo x >/empty; cat /empty"),
            "1048576\n0\nx\n"
        );
        assert_eq!(census(&dir), before, "nothing of it is in the directory");
    });
}

#[test]
fn what_is_refused() {
    faultkit::require!(root);
    let error = Rootfs::overlay("/usr").file("/f", vec![0; (1 << 20) + 1]).check().expect_err("too much");
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Invalid, "move_mount"));
    let error = Rootfs::overlay("/usr").file("/f", "").file("/f/g", "").check().expect_err("below a file");
    assert!(error.to_string().contains("where a file is mounted"), "{error}");
    let error = Rootfs::overlay("/usr").file("/proc/f", "").check().expect_err("the kernel's");
    assert!(error.to_string().contains("the container's own /proc"), "{error}");
}
