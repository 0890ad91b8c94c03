//! What is hidden stays hidden, and what is protected protected.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::symlink;

use faultkit::TempDir;
use mountkit::{Rootfs, Sys};

use super::{complete, with_usr};
use crate::child::{Who, inside};
use crate::tree::skeleton;

#[test]
fn machine_wide_files_are_empty_and_knobs_read_only() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let script = "
            test -d /proc/1 || echo no proc
            for file in interrupts kcore keys timer_list; do test ! -s /proc/$file || echo $file; cat /proc/$file; done
            for dir in /proc/acpi /proc/scsi /sys/firmware; do ls -A $dir 2>/dev/null; touch $dir/x 2>/dev/null && echo $dir; done
            for file in /proc/interrupts /proc/keys; do (echo x >$file) 2>/dev/null && echo wrote $file; done
            for knob in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/kernel/mm/ksm/run; do
                test -e $knob || continue
                (cat /dev/null >>$knob) 2>&1 | grep -q 'Read-only\\|denied' || echo open: $knob
            done
            umount /proc/sys 2>/dev/null; true";
        for who in [Who::Root, Who::Ordinary] {
            let rootfs = complete(Rootfs::overlay_of_host());
            let rootfs = if who == Who::Ordinary { rootfs.unprivileged() } else { rootfs };
            assert_eq!(inside(who, &rootfs, script), "", "{who:?}");
        }
    });
}

#[test]
fn a_hostile_dev_null_is_not_what_hides_things() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        skeleton(&dir);
        fs::create_dir(dir.join("dev")).expect("mkdir");
        symlink("/proc/sys/kernel/core_pattern", dir.join("dev/null")).expect("symlink");
        let script = "readlink /proc/interrupts; stat -c '%F %s' /proc/interrupts; cat /proc/interrupts; \
                      (echo x >/proc/interrupts) 2>/dev/null || echo refused; \
                      (echo x >/proc/sys/kernel/core_pattern) 2>/dev/null || echo refused";
        // With its own /dev and without.
        for rootfs in [with_usr(Rootfs::overlay(&*dir)).proc(), with_usr(Rootfs::overlay(&*dir)).proc().dev()] {
            let said = inside(Who::Root, &rootfs.mask_defaults(), script);
            assert_eq!(said, "regular empty file 0\nrefused\nrefused\n");
        }
    });
}

#[test]
fn paths_of_the_caller() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        skeleton(&dir);
        fs::create_dir_all(dir.join("secret/dir")).expect("mkdir");
        fs::write(dir.join("secret/dir/file"), "secret").expect("write");
        fs::write(dir.join("secret/file"), "secret").expect("write");
        // A link out of the root means the root: it hides what is at that place of the root, or nothing.
        symlink("/secret/file", dir.join("link")).expect("symlink");
        symlink("../../../../nowhere", dir.join("dangling")).expect("symlink");
        let rootfs = with_usr(Rootfs::overlay(&*dir))
            .mask(["/secret/dir", "/link", "/dangling", "/no/such", "/etc/name/not-a-dir"])
            .read_only_paths(["/etc", "/nowhere"]);
        let script = "cat /secret/file /link; ls /secret/dir; touch /etc/a 2>&1; touch /b && cat /etc/name";
        let said = inside(Who::Root, &rootfs, script);
        assert!(said.contains("Read-only") && said.ends_with("skeleton\n") && !said.contains("secret"), "{said}");
        assert_eq!(fs::read(dir.join("secret/file")).expect("read"), b"secret");
    });
}

#[test]
fn sys_of_the_host_is_read_only_with_all_below_it() {
    faultkit::require!(root, program("findmnt"));
    faultkit::isolated!(|| {
        let rootfs = Rootfs::overlay_of_host().proc().sys(Sys::BindOfHost).mask_defaults();
        let script = "findmnt -Rrno VFS-OPTIONS /sys | grep -vc '^ro,nosuid,nodev,noexec'; ls /sys/class/net";
        let said = inside(Who::Root, &rootfs, script);
        let mut devices: Vec<_> = fs::read_dir("/sys/class/net")
            .expect("sysfs")
            .map(|e| e.expect("entry").file_name().into_string())
            .collect();
        devices.sort();
        let devices: Vec<_> = devices.into_iter().map(|name| name.expect("UTF-8")).collect();
        assert_eq!(said.split_whitespace().collect::<Vec<_>>(), [vec!["0".to_owned()], devices].concat(), "{said}");
        let fresh = Rootfs::overlay_of_host().sys(Sys::Fresh);
        assert_eq!(inside(Who::Root, &fresh, "ls /sys/class/net"), "lo\n");
        assert_eq!(inside(Who::Ordinary, &fresh.unprivileged(), "ls /sys/class/net"), "lo\n");
        let bind = Rootfs::overlay_of_host().proc().sys(Sys::BindOfHost).unprivileged();
        assert!(inside(Who::Ordinary, &bind, "findmnt -rno VFS-OPTIONS /sys").starts_with("ro,nosuid,nodev,noexec"));
    });
}
