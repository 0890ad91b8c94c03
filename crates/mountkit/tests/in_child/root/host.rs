//! What the host sees of a container, and the container of the host: nothing.
#![forbid(unsafe_code)]

use std::fs;

use faultkit::TempDir;
use mountkit::Rootfs;

use super::{complete, host};
use crate::child::{Who, inside};

fn mountinfo() -> String {
    fs::read_to_string("/proc/self/mountinfo").expect("mountinfo")
}

#[test]
fn mounts_do_not_come_back_to_a_shared_host() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        host("mount", &["--make-rshared", "/"]);
        let before = mountinfo();
        assert!(before.contains("shared:"), "{before}");
        for _ in 0..5 {
            let inner = inside(
                Who::Root,
                &complete(Rootfs::overlay_of_host()),
                "mount -t tmpfs later /mnt; cat /proc/self/mountinfo",
            );
            assert!(!inner.contains("shared:") && !inner.contains("master:"), "{inner}");
            assert!(inner.contains(" - tmpfs later "), "{inner}");
        }
        assert_eq!(mountinfo(), before);
        host("mount", &["--make-rprivate", "/"]);
    });
}

#[test]
fn nothing_of_the_old_root_is_left() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let canary = TempDir::new();
        fs::write(canary.join("canary"), "").expect("write");
        let dir = canary.to_str().expect("UTF-8");
        // TMPDIR is below /tmp or /run, where a container has its own. A lookup of `..` crosses to what is on top.
        let script = format!(
            "ls -d {dir} /..{dir} /../..{dir} 2>/dev/null; stat -c %d:%i / /.. /proc/1/root; pwd; cat /proc/self/mountinfo"
        );
        for who in [Who::Root, Who::Ordinary] {
            let rootfs = complete(Rootfs::overlay_of_host());
            let rootfs = if who == Who::Ordinary { rootfs.unprivileged() } else { rootfs };
            let said = inside(who, &rootfs, &script);
            let lines: Vec<_> = said.lines().collect();
            assert_eq!((lines[0], lines[1]), (lines[1], lines[0]), "{said}");
            assert_eq!(lines[3], "/", "{said}");
            let roots = lines[4..].iter().filter(|line| line.split(' ').nth(4) == Some("/")).count();
            assert_eq!(roots, 1, "{said}");
            assert!(!said.contains(dir), "{said}");
        }
    });
}

#[test]
fn a_host_with_mounts_on_its_own_root_is_left_too() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        // Lookups of this process start below both.
        host("mount", &["-t", "tmpfs", "first", "/"]);
        host("mount", &["-t", "tmpfs", "second", "/"]);
        let said = inside(Who::Root, &Rootfs::overlay_of_host().proc(), "cat /proc/self/mountinfo");
        assert_eq!(said.lines().filter(|line| line.split(' ').nth(4) == Some("/")).count(), 1, "{said}");
        assert!(!said.contains("first") && !said.contains("second"), "{said}");
        // umount takes the topmost.
        for _ in 0..2 {
            host("umount", &["/.."]);
        }
    });
}

#[test]
fn what_is_written_stays_in_the_container() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let script = "set -e; mv /etc /etc2; mkdir /etc; echo changed >/etc/passwd; rm -rf /etc2; echo x >/cellkit-canary; \
                      ls /etc; cat /etc/passwd; test ! -e /etc2";
        let before = fs::read("/etc/passwd").expect("read");
        let said = inside(Who::Root, &Rootfs::overlay_of_host(), script);
        assert_eq!(said, "passwd\nchanged\n");
        assert_eq!(fs::read("/etc/passwd").expect("read"), before);
        assert!(!fs::exists("/etc2").expect("stat"));
        assert!(!fs::exists("/cellkit-canary").expect("stat"));
    });
}

#[test]
fn a_directory_below_the_root_that_is_a_mount_of_its_own() {
    faultkit::require!(root, program("mount"));
    faultkit::isolated!(|| {
        host("mount", &["-t", "tmpfs", "-o", "nosuid,mode=750", "srv", "/srv"]);
        fs::write("/srv/file", "of the host\n").expect("write");
        host("chown", &["12:34", "/srv"]);
        let script =
            "cat /srv/file; echo changed >/srv/file; stat -c '%a %u:%g' /srv; findmnt -rno FSTYPE,VFS-OPTIONS /srv";
        let said = inside(Who::Root, &Rootfs::overlay_of_host().proc(), script);
        assert_eq!(said, "of the host\n750 12:34\noverlay rw,nosuid,nodev,relatime\n");
        assert_eq!(fs::read_to_string("/srv/file").expect("read"), "of the host\n");
        let said =
            inside(Who::Root, &Rootfs::overlay_of_host().read_only(), "touch /srv/a /b 2>&1; touch /tmp/a /run/a");
        assert_eq!(said.matches("Read-only").count(), 2, "{said}");
        host("umount", &["/srv"]);
    });
}

#[test]
fn the_modes_of_the_host() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let script = "stat -c '%n %a %u:%g' / /etc /usr /root /tmp /run /var/tmp";
        let wanted =
            host("stat", &["-c", "%n %a %u:%g", "/", "/etc", "/usr", "/root"]) + "/tmp 1777 0:0\n/run 755 0:0\n";
        let said = inside(Who::Root, &Rootfs::overlay_of_host(), script);
        assert_eq!(said, wanted + &host("stat", &["-c", "%n %a %u:%g", "/var/tmp"]));
        assert_eq!(inside(Who::Root, &Rootfs::overlay_of_host(), "ls -A /tmp /run"), "/run:\n\n/tmp:\n");
    });
}
