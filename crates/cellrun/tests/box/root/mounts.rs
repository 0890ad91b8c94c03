//! What the container's root is made of, as findmnt reads it inside, and where writes go.

use std::fs;
use std::path::Path;

use faultkit::TempDir;

use super::tree;
use crate::run::{boxed, host, inside, nothing_is_left};

/// What every container has: target, type, and the flags that matter.
const KERNEL: [&str; 18] = [
    "/proc proc rw,nosuid,nodev,noexec",
    "/sys sysfs ro,nosuid,nodev,noexec",
    "/sys/fs/cgroup cgroup2 ro,nosuid,nodev,noexec",
    "/dev tmpfs rw,nosuid,nodev,noexec",
    "/dev/full device ro,nosuid,noexec",
    "/dev/null device ro,nosuid,noexec",
    "/dev/random device ro,nosuid,noexec",
    "/dev/tty device ro,nosuid,noexec",
    "/dev/urandom device ro,nosuid,noexec",
    "/dev/zero device ro,nosuid,noexec",
    "/dev/pts devpts rw,nosuid,noexec",
    "/dev/shm tmpfs rw,nosuid,nodev,noexec",
    "/dev/mqueue mqueue rw,nosuid,nodev,noexec",
    "/proc/interrupts tmpfs ro,nosuid,nodev,noexec",
    "/proc/bus proc ro,nosuid,nodev,noexec",
    "/proc/irq proc ro,nosuid,nodev,noexec",
    "/proc/sys proc ro,nosuid,nodev,noexec",
    "/sys/firmware tmpfs ro,nosuid,nodev,noexec",
];
/// What hides or protects files that not every kernel has.
const SOME: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/fs",
    "/proc/sysrq-trigger",
    "/sys/devices/virtual/powercap",
];
/// Where an overlay of the machine's root is empty.
const VOLATILE: [&str; 2] = ["/run tmpfs rw,nosuid,nodev", "/tmp tmpfs rw,nosuid,nodev"];

/// The table inside: `target type flags`, without what not every machine has.
#[track_caller]
fn table(options: &[&str]) -> Vec<String> {
    let of_host = host("findmnt -rno TARGET");
    let found = inside(options, "findmnt -rno TARGET,FSTYPE,VFS-OPTIONS");
    let golden: Vec<&str> = KERNEL.iter().chain(&VOLATILE).filter_map(|line| line.split(' ').next()).collect();
    let mut lines = Vec::new();
    for line in found.lines() {
        let [target, kind, all] = line.split(' ').collect::<Vec<_>>().try_into().expect("three columns");
        let has = |flag: &str| all.split(',').any(|word| word == flag);
        let flags: Vec<&str> = ["ro", "rw", "nosuid", "nodev", "noexec"].into_iter().filter(|flag| has(flag)).collect();
        if SOME.contains(&target) {
            assert!(has("ro"), "{line}");
            continue;
        }
        // The nodes are the machine's own, whatever file system it has them in.
        let is_node = KERNEL.iter().any(|line| line.starts_with(&format!("{target} device ")));
        let kind = if is_node { "device" } else { kind };
        // The machine's own mounts are under the throw-away layer too.
        if target != "/" && !golden.contains(&target) && of_host.lines().any(|mount| mount == target) {
            assert_eq!(kind, "overlay", "{line}");
            continue;
        }
        lines.push(format!("{target} {kind} {}", flags.join(",")));
    }
    lines.sort();
    lines
}

#[track_caller]
fn assert_table(options: &[&str], own: &[&[&str]]) {
    let mut expected: Vec<&str> = KERNEL.iter().chain(own.iter().copied().flatten()).copied().collect();
    expected.sort_unstable();
    assert_eq!(table(options), expected, "{options:?}");
}

#[test]
fn golden_tables() {
    faultkit::require!(root, cgroup2, program("findmnt"));
    faultkit::isolated!(|| {
        assert_table(&[], &[&VOLATILE, &["/ overlay rw,nodev"]]);
        assert_table(&["--read-only"], &[&VOLATILE, &["/ overlay ro,nodev"]]);

        let careful =
            ["/v tmpfs rw,nosuid,nodev,noexec", "/w tmpfs ro,nosuid,nodev,noexec", "/t tmpfs rw,nosuid,nodev"];
        host("mount -t tmpfs -o nosuid,nodev,noexec careful /mnt");
        let options = ["-v", "/mnt:/v", "-v", "/mnt:/w:ro", "--tmpfs", "/t:size=1m"];
        assert_table(&options, &[&VOLATILE, &careful, &["/ overlay rw,nodev"]]);
        host("umount /mnt");

        let dir = tree::make();
        let fstype = host(&format!("findmnt -rno FSTYPE -T {}", dir.display()));
        let of_usr = host("findmnt -rno FSTYPE,VFS-OPTIONS -T /usr");
        let mut flags = vec!["ro"];
        // No volume has devices; other flags are those it has outside.
        flags.extend(["nosuid"].into_iter().filter(|flag| of_usr.contains(flag)).chain(["nodev"]));
        let usr = format!("/usr {} {}", of_usr.split(' ').next().expect("type"), flags.join(","));
        let path = dir.to_str().expect("UTF-8");
        let root = ["--rootfs", path, tree::USR[0], tree::USR[1]];
        let options = |more: &[&'static str]| root.iter().chain(more).copied().map(str::to_owned).collect::<Vec<_>>();
        for (more, kind, access) in
            [(&[][..], "overlay", "rw"), (&["--read-only"], "overlay", "ro"), (&["--writable"], fstype.trim(), "rw")]
        {
            let options = options(more);
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            let found = table(&options);
            let line = found.iter().find(|line| line.starts_with("/ ")).expect("a root");
            assert!(line.starts_with(&format!("/ {kind} {access}")), "{more:?}: {line}");
            let rest: Vec<&String> = found.iter().filter(|line| !line.starts_with("/ ")).collect();
            let mut expected: Vec<&str> = KERNEL.to_vec();
            expected.push(&usr);
            expected.sort_unstable();
            assert_eq!(rest, expected, "{more:?}");
        }
        nothing_is_left();
    });
}

/// Every file below, with its size.
fn census(dir: &Path) -> String {
    host(&format!("find {} -mindepth 1 -printf '%P %y %m %U:%G %s %l\\n' | sort", dir.display()))
}

#[test]
fn writes_go_where_they_should() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        // The machine's root, and a mount below it.
        host("mount -t tmpfs below /mnt; echo old >/mnt/kept");
        let mark = format!("cellrun-test-{}", std::process::id());
        let script = format!(
            "set -e; for dir in / /etc /usr /var /root /tmp /run /mnt; do touch $dir/{mark}; test -e $dir/{mark}; done
             rm /mnt/kept /etc/passwd; echo gone >/etc/group; chmod 700 /usr; chown 1:1 /var"
        );
        let before = host("stat -c '%n %a %u %g %Y' / /etc /usr /var /root /etc/passwd /etc/group; cat /etc/group");
        assert_eq!(inside(&[], &script), "");
        assert_eq!(
            before,
            host("stat -c '%n %a %u %g %Y' / /etc /usr /var /root /etc/passwd /etc/group; cat /etc/group")
        );
        assert_eq!(host(&format!("ls /{mark} /*/{mark} 2>/dev/null || true; cat /mnt/kept; ls /mnt")), "old\nkept\n");
        host("umount /mnt");
        let said =
            boxed(&["--net", "none", "--read-only", "--", "sh", "-c", "touch /x /usr/x; touch /tmp/x && echo tmp"]);
        assert_eq!(said.err.matches("Read-only file system").count(), 2, "{said:?}");
        assert_eq!(said.out, "tmp\n");

        // A directory.
        let dir = tree::make();
        let path = dir.to_str().expect("UTF-8");
        let root = ["--rootfs", path, tree::USR[0], tree::USR[1]];
        let before = census(&dir);
        let script = "set -e; echo new >/dir/new; rm /etc/passwd; mkdir /srv/sub";
        inside(&root, script);
        assert_eq!(census(&dir), before, "under a throw-away layer");
        inside(&[root.as_slice(), &["--writable"]].concat(), script);
        assert_eq!(
            host(&format!("cat {path}/dir/new; ls {path}/srv {path}/etc")).lines().collect::<Vec<_>>(),
            ["new", &format!("{path}/etc:"), "group", "", &format!("{path}/srv:"), "sub", "web"]
        );

        // Volumes: a directory, a read-only one, a file.
        let volume = TempDir::new();
        fs::write(volume.join("file"), "old\n").expect("write");
        let source = volume.to_str().expect("UTF-8");
        let (rw, ro, file) = (format!("{source}:/vol"), format!("{source}:/ro:ro"), format!("{source}/file:/etc/file"));
        let script = "cat /ro/file; echo new >/etc/file; echo made >/vol/made; touch /ro/x 2>&1; cat /ro/made";
        let said = inside(&["-v", &rw, "-v", &ro, "-v", &file], script);
        assert!(said.starts_with("old\n") && said.ends_with("made\n") && said.contains("Read-only"), "{said}");
        assert_eq!(host(&format!("cd {source}; ls; cat file made")), "file\nmade\nnew\nmade\n");

        // A tmpfs of a size.
        let script = "ls -A /t; stat -c %a /t; df -Pk /t | tail -1; head -c 2m /dev/zero >/t/x 2>&1; stat -c %s /t/x";
        let said = inside(&["--tmpfs", "/t:size=1m,mode=700"], script);
        assert!(said.starts_with("700\n") && said.contains(" 1024 ") && said.ends_with("1048576\n"), "{said}");
        nothing_is_left();
    });
}

#[test]
fn no_other_device_can_be_opened() {
    faultkit::require!(root, program("mknod"));
    faultkit::isolated!(|| {
        let dir = tree::make();
        let volume = TempDir::new();
        let option = format!("{}:/vol", volume.display());
        let root = ["--rootfs", dir.to_str().expect("UTF-8"), "--writable", tree::USR[0], tree::USR[1]];
        // The kernel's log: 1:11. Root may make the node wherever it may write, and open it nowhere.
        let script = "for dir in / /dev /tmp /run /vol /t /dev/shm /srv /dir; do
                test -d $dir && mknod $dir/kmsg c 1 11 || continue
                if (exec 3<$dir/kmsg) 2>/dev/null; then echo opened in $dir; fi
            done; echo done";
        assert_eq!(inside(&["-v", &option, "--tmpfs", "/t"], script), "done\n");
        host(&format!("rm -f {}/kmsg", volume.display()));
        assert_eq!(inside(&[&root[..], &["-v", &option, "--tmpfs", "/t"]].concat(), script), "done\n");
        nothing_is_left();
    });
}

/// No driver answers for 240:3, so that whoever is let through is told of no such device, and others of no permission.
#[test]
fn a_filter_keeps_devices_from_who_can_mount() {
    faultkit::require!(root, cgroup2, program("mknod"), program("mount"));
    faultkit::isolated!(|| {
        let open = "(exec 3<$dir/x) 2>&1 | grep -o 'not permitted\\|No such device'";
        let make = format!("dir=/mnt; mount -t tmpfs none $dir && mknod $dir/x c 240 3 && {open}");
        let mounter = ["--cap-add", "SYS_ADMIN"];
        assert_eq!(inside(&mounter, &make), "not permitted\n");
        assert_eq!(inside(&[&mounter[..], &["--cgroup", "none"]].concat(), &make), "No such device\n");

        // One that is a volume was asked for.
        host("mkdir /run/nodes && mount -t tmpfs none /run/nodes && mknod /run/nodes/x c 240 3");
        assert_eq!(inside(&["-v", "/run/nodes/x:/x"], &format!("dir=; {open}")), "No such device\n");
        host("umount /run/nodes && rmdir /run/nodes");
        let explained = boxed(&["--explain", "--net", "none", "--", "true"]).ok();
        assert!(explained.contains("BPF_PROG_ATTACH("), "{explained}");
        let explained = boxed(&["--explain", "--net", "none", "--userns", "100000:100000:65536", "--", "true"]).ok();
        assert!(explained.contains("note: no device filter: in a user namespace"), "{explained}");
        assert!(!explained.contains("BPF_PROG_ATTACH"), "{explained}");
        nothing_is_left();
    });
}

#[test]
fn devices() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let script = "cd /dev; stat -c '%n %F %t:%T %a %u:%g' $(ls | sort); readlink fd ptmx stdin stdout stderr; \
                      stat -f -c %T /dev/pts /dev/shm; echo x >null; head -c 3 zero | od -An -tx1; \
                      head -c 8 urandom | wc -c; head -c 1 zero 2>&1 >full | grep -c 'No space'";
        let expected = "fd symbolic link 0:0 777 0:0
full character special file 1:7 666 0:0
mqueue directory 0:0 1777 0:0
null character special file 1:3 666 0:0
ptmx symbolic link 0:0 777 0:0
pts directory 0:0 755 0:0
random character special file 1:8 666 0:0
shm directory 0:0 1777 0:0
stderr symbolic link 0:0 777 0:0
stdin symbolic link 0:0 777 0:0
stdout symbolic link 0:0 777 0:0
tty character special file 5:0 666 0:0
urandom character special file 1:9 666 0:0
zero character special file 1:5 666 0:0
/proc/self/fd
pts/ptmx
/proc/self/fd/0
/proc/self/fd/1
/proc/self/fd/2
devpts
tmpfs
 00 00 00
8
1
";
        assert_eq!(inside(&[], script), expected);
        nothing_is_left();
    });
}
