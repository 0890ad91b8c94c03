//! The flags that every mount ends up with, as findmnt reads them inside.
#![forbid(unsafe_code)]

use std::path::Path;

use faultkit::TempDir;
use mountkit::{Rootfs, Tmpfs, Volume};

use super::{complete, with_usr};
use crate::child::{Who, inside};
use crate::tree::skeleton;

/// `target fstype flags`, for what every machine has.
const GOLDEN: [&str; 20] = [
    "/ overlay rw,nosuid,nodev,relatime",
    "/usr - ro",
    "/scratch tmpfs rw,nosuid,nodev,noexec,relatime",
    "/proc proc rw,nosuid,nodev,noexec,relatime",
    "/sys sysfs ro,nosuid,nodev,noexec,relatime",
    "/sys/fs/cgroup cgroup2 ro,nosuid,nodev,noexec,relatime",
    "/dev tmpfs rw,nosuid,nodev,noexec,relatime",
    "/dev/null devtmpfs ro,nosuid,noexec,relatime",
    "/dev/zero devtmpfs ro,nosuid,noexec,relatime",
    "/dev/full devtmpfs ro,nosuid,noexec,relatime",
    "/dev/random devtmpfs ro,nosuid,noexec,relatime",
    "/dev/urandom devtmpfs ro,nosuid,noexec,relatime",
    "/dev/tty devtmpfs ro,nosuid,noexec,relatime",
    "/dev/pts devpts rw,nosuid,noexec,relatime",
    "/dev/shm tmpfs rw,nosuid,nodev,noexec,relatime",
    "/dev/mqueue mqueue rw,nosuid,nodev,noexec,relatime",
    "/proc/interrupts tmpfs ro,nosuid,nodev,noexec,relatime",
    "/proc/bus proc ro,nosuid,nodev,noexec,relatime",
    "/proc/irq proc ro,nosuid,nodev,noexec,relatime",
    "/proc/sys proc ro,nosuid,nodev,noexec,relatime",
];

/// Lines of findmnt, with those of /usr, which are the machine's own business, reduced to what is asked for.
fn table(who: Who, rootfs: &Rootfs) -> Vec<String> {
    inside(who, rootfs, "findmnt -rno TARGET,FSTYPE,VFS-OPTIONS,PROPAGATION")
        .lines()
        .map(|line| {
            let line = line.strip_suffix(" private").unwrap_or_else(|| panic!("not private: {line}"));
            if line.starts_with("/usr ") {
                let read_only = line.split([' ', ',']).any(|word| word == "ro");
                return format!("/usr - {}", if read_only { "ro" } else { "rw" });
            }
            line.to_owned()
        })
        .collect()
}

/// Masks of files that only some machines have.
fn is_optional(line: &str) -> bool {
    let optional =
        ["acpi", "asound", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list", "timer_stats"]
            .map(|name| format!("/proc/{name} tmpfs ro,nosuid,nodev,noexec,relatime"));
    optional.iter().any(|mask| line == mask)
        || line == "/sys/firmware tmpfs ro,nosuid,nodev,noexec,relatime"
        || line == "/sys/devices/virtual/powercap tmpfs ro,nosuid,nodev,noexec,relatime"
        || line == "/proc/fs proc ro,nosuid,nodev,noexec,relatime"
        || line == "/proc/sysrq-trigger proc ro,nosuid,nodev,noexec,relatime"
}

#[track_caller]
fn assert_golden(who: Who, rootfs: &Rootfs, expected: &[String]) {
    let found = table(who, rootfs);
    let required: Vec<_> = found.iter().filter(|line| !is_optional(line)).cloned().collect();
    assert_eq!(required, expected, "of {found:#?}");
}

fn subject(dir: &Path) -> Rootfs {
    complete(with_usr(Rootfs::overlay(dir))).tmpfs("/scratch", Tmpfs::new().size(1 << 20).no_exec())
}

/// A root directory on a mount that is nosuid and nodev.
fn on_a_careful_mount() -> TempDir {
    let dir = TempDir::new();
    super::host("mount", &["-t", "tmpfs", "-o", "nosuid,nodev,mode=755", "careful", dir.to_str().expect("UTF-8")]);
    skeleton(&dir);
    dir
}

fn done_with(dir: &TempDir) {
    super::host("umount", &[dir.to_str().expect("UTF-8")]);
}

#[test]
fn of_a_privileged_child() {
    faultkit::require!(root, program("findmnt"));
    faultkit::isolated!(|| {
        let dir = on_a_careful_mount();
        let expected = GOLDEN.map(str::to_owned);
        assert_golden(Who::Root, &subject(&dir), &expected);
        let mut read_only = expected;
        read_only[0] = "/ overlay ro,nosuid,nodev,relatime".into();
        assert_golden(Who::Root, &subject(&dir).read_only(), &read_only);
        done_with(&dir);
    });
}

#[test]
fn of_an_unprivileged_child() {
    faultkit::require!(root, program("findmnt"));
    faultkit::isolated!(|| {
        let dir = on_a_careful_mount();
        let expected = GOLDEN.map(str::to_owned);
        assert_golden(Who::Ordinary, &subject(&dir).unprivileged(), &expected);
        let mut read_only = expected;
        read_only[0] = "/ overlay ro,nosuid,nodev,relatime".into();
        assert_golden(Who::Ordinary, &subject(&dir).unprivileged().read_only(), &read_only);
        done_with(&dir);
    });
}

#[test]
fn locked_flags_of_a_volume_stay() {
    faultkit::require!(root, program("findmnt"));
    faultkit::isolated!(|| {
        let source = on_a_careful_mount();
        let dir = TempDir::new();
        super::host("mount", &["-t", "tmpfs", "-o", "mode=755", "plain", dir.to_str().expect("UTF-8")]);
        skeleton(&dir);
        super::host("mount", &["-o", "remount,bind,ro,nosuid,nodev,noexec", source.to_str().expect("UTF-8")]);
        let rootfs = with_usr(Rootfs::overlay(&*dir)).proc().unprivileged().volume(Volume::bind(&*source, "/vol"));
        let script = "findmnt -rno VFS-OPTIONS /vol; mount -o remount,bind,rw /vol 2>&1; findmnt -rno VFS-OPTIONS /vol";
        let said = inside(Who::Ordinary, &rootfs, script);
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.first(), Some(&"ro,nosuid,nodev,noexec,relatime"), "{said}");
        assert_eq!(lines.last(), lines.first(), "{said}");
        assert!(said.contains("permission denied"), "{said}");
        done_with(&source);
        done_with(&dir);
    });
}

#[test]
fn a_read_only_volume_is_read_only_all_the_way_down() {
    faultkit::require!(root, program("findmnt"));
    faultkit::isolated!(|| {
        let source = TempDir::new();
        let below = source.join("below");
        std::fs::create_dir(&below).expect("mkdir");
        super::host("mount", &["-t", "tmpfs", "below", below.to_str().expect("UTF-8")]);
        let volume = Volume::bind(&*source, "/vol").read_only();
        let rootfs = Rootfs::overlay_of_host().proc().volume(volume);
        let script = "touch /vol/a 2>&1; touch /vol/below/a 2>&1; findmnt -rno TARGET /vol/below";
        let said = inside(Who::Root, &rootfs, script);
        assert_eq!(said.matches("Read-only file system").count(), 2, "{said}");
        assert!(said.ends_with("/vol/below\n"), "{said}");
        super::host("umount", &[below.to_str().expect("UTF-8")]);
    });
}
