//! Boxes of an ordinary user, started by root's test as one; and a user namespace of root's choice.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use faultkit::{OrdinaryUser, TempDir};

use crate::run::{Running, Said, assert_no_records, host, inside, nothing_is_left, program_for, say};
use crate::status::{mask, value};

fn boxed(user: &OrdinaryUser, args: &[&str]) -> Said {
    say(user.command(program_for(user)).arg("box").args(args).stdin(std::process::Stdio::null()))
}

/// What a shell script prints inside. It has to succeed in silence.
#[track_caller]
fn inside_of(user: &OrdinaryUser, options: &[&str], script: &str) -> String {
    boxed(user, &[options, &["--", "sh", "-c", script]].concat()).ok()
}

/// Nothing in the user's folders but what was there.
#[track_caller]
fn assert_clean(user: &OrdinaryUser, made: &[&str]) {
    assert_no_records(&user.runtime_dir().join("cellrun"));
    let found = host(&format!("find {} -mindepth 1 -printf '%P\\n' | sort", user.home().display()));
    let found: Vec<&str> = found.lines().filter(|name| *name != "cellrun").collect();
    let mut expected = made.to_vec();
    expected.push("run");
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn root_inside_is_the_user_outside() {
    faultkit::require!(root, userns);
    faultkit::isolated!(|| {
        let user = OrdinaryUser::new(23456, 23456);
        let script = "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups | tr -s ' '; \
                      echo $$; ls /sys/class/net; cat /sys/class/net/lo/operstate; whoami";
        let said = inside_of(&user, &[], script);
        assert_eq!(said, "0\n0\n 0 23456 1\n 0 23456 1\ndeny\n1\nlo\nunknown\nroot\n");

        // As the kernel sees it from outside.
        let mut command = user.command(program_for(&user));
        let mut running = Running::start(command.args(["box", "--", "sh", "-c", "echo ready; read line || true"]));
        running.until("ready");
        let pid = running.payload();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
        assert_eq!(value(&status, "Uid").split_whitespace().collect::<Vec<_>>(), ["23456"; 4]);
        assert_eq!(value(&status, "NoNewPrivs"), "1");
        assert_eq!(mask(&status, "CapInh") | mask(&status, "CapAmb"), 0);
        assert_ne!(fs::read_link(format!("/proc/{pid}/ns/user")).ok(), fs::read_link("/proc/self/ns/user").ok());
        // The caller's own cgroup: this one has none to give.
        let group = |pid: &str| fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroup");
        assert_eq!(group(&pid.to_string()), group("self"));
        running.write("\n");
        assert_eq!(running.end().ok(), "");

        // Writes to the root are thrown away, and a file of root's cannot be read.
        let script =
            "echo x >/usr/made && cat /usr/made; cat /etc/shadow 2>/dev/null || echo unreadable; touch /tmp/x /run/x";
        assert_eq!(inside_of(&user, &[], script), "x\nunreadable\n");
        assert!(!Path::new("/usr/made").exists());
        assert_eq!(inside_of(&user, &["--init"], "echo $PPID"), "1\n");
        assert_eq!(inside_of(&user, &["--read-only"], "touch /etc/x 2>/dev/null || echo no"), "no\n");

        // Files made in a volume are the caller's.
        let volume = user.home().join("volume");
        host(&format!("mkdir {0}; chown 23456:23456 {0}", volume.display()));
        let option = format!("{}:/vol", volume.display());
        inside_of(&user, &["-v", &option], "touch /vol/made; mkdir /vol/dir");
        for name in ["made", "dir"] {
            let meta = fs::metadata(volume.join(name)).expect("made");
            assert_eq!((meta.uid(), meta.gid()), (23456, 23456), "{name}");
        }
        assert_eq!(host(&format!("find /tmp -maxdepth 1 -uid {}", user.uid())), "", "nothing left in /tmp");
        assert_clean(&user, &["volume", "volume/dir", "volume/made"]);
        nothing_is_left();
    });
}

#[test]
fn what_is_lacking_is_said() {
    faultkit::require!(root, userns);
    faultkit::isolated!(|| {
        let user = faultkit::ordinary_user();
        let said = boxed(&user, &["--memory", "64m", "--", "true"]);
        assert_eq!(said.status, 125);
        assert!(said.failure().contains("no group may be made"), "{said:?}");
        assert!(said.err.contains("  hint: "), "{said:?}");
        let said = boxed(&user, &["--explain", "--", "true"]).ok();
        let notes: Vec<&str> = said.lines().filter(|line| line.starts_with("note: ")).collect();
        assert!(notes.iter().any(|note| note.contains("the caller's") && note.contains("cgroup")), "{notes:?}");
        assert!(notes.iter().any(|note| note.contains("only root exists")), "{notes:?}");
        assert!(!user.runtime_dir().join("cellrun").exists(), "--explain makes nothing");
        // The list is the one that is run.
        let said = boxed(&user, &["--trace", "--", "true"]);
        assert_eq!(said.status, 0, "{said:?}");
        // A killed one leaves its record, and the next one removes it.
        let mut command = user.command(program_for(&user));
        let mut running =
            Running::start(command.args(["box", "--name", "x", "--", "sh", "-c", "echo ready; read line || true"]));
        running.until("ready");
        running.kill();
        assert!(user.runtime_dir().join("cellrun/x.json").exists());
        assert_eq!(boxed(&user, &["--", "true"]).ok(), "");
        assert_clean(&user, &[]);
        nothing_is_left();
    });
}

#[test]
fn a_range_of_ids_by_newuidmap() {
    faultkit::require!(root, userns, program("newuidmap"), program("newgidmap"));
    faultkit::isolated!(|| {
        let user = faultkit::ordinary_user();
        let etc = TempDir::new();
        let lines = [
            ("passwd", format!("cellkit:x:12345:12345::{}:/bin/sh\n", user.home().display())),
            ("group", "cellkit:x:12345:\n".to_owned()),
            ("subuid", "cellkit:300000:65536\n".to_owned()),
            ("subgid", "cellkit:400000:65536\n".to_owned()),
        ];
        for (name, line) in &lines {
            let old = if name.starts_with("sub") {
                String::new()
            } else {
                fs::read_to_string(format!("/etc/{name}")).expect("read")
            };
            fs::write(etc.join(name), old + line).expect("write");
            host(&format!("mount --bind {}/{name} /etc/{name}", etc.display()));
        }
        let maps = "cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '";
        assert_eq!(inside_of(&user, &[], maps), " 0 12345 1\n 1 300000 65536\n 0 12345 1\n 1 400000 65536\n");
        // Groups are those asked for, files are owned by the ranges.
        host(&format!("mkdir -m 777 {0}/volume; chown 12345:12345 {0}/volume", user.home().display()));
        let option = format!("{}/volume:/vol", user.home().display());
        let said = inside_of(&user, &["-v", &option, "--user", "1000:1001"], "touch /vol/made; id -u; id -g; id -G");
        assert_eq!(said, "1000\n1001\n1001\n");
        let meta = fs::metadata(user.home().join("volume/made")).expect("made");
        assert_eq!((meta.uid(), meta.gid()), (300_999, 401_000));
        let said = inside_of(&user, &["-v", &option], "chown 5:5 /vol/made; stat -c %u:%g /vol/made");
        assert_eq!(said, "5:5\n");
        for (name, _) in &lines {
            host(&format!("umount /etc/{name}"));
        }
        assert_clean(&user, &["volume", "volume/made"]);
        nothing_is_left();
    });
}

#[test]
fn a_user_namespace_of_roots_choice() {
    faultkit::require!(root, program("ip"), program("nft"));
    faultkit::isolated!(|| {
        let options = ["--userns", "200000:300000:65536"];
        let said = inside(&options, "cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '; id -u; id -G");
        assert_eq!(said, " 0 200000 65536\n 0 300000 65536\n0\n0\n");
        // On a bridge, too.
        let mut command = Command::new(crate::run::program());
        let said = say(command.args([
            "box",
            "--userns",
            "200000:300000:65536",
            "--",
            "ip",
            "-4",
            "-o",
            "addr",
            "show",
            "eth0",
        ]));
        assert!(said.ok().contains("inet 10.209.0.2/22"));
        nothing_is_left();
    });
}
