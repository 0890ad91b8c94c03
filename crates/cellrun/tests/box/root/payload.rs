//! What the payload is and has: its place, its name, its privileges, and nothing of the caller's by accident.

use std::fs;
use std::process::Command;

use super::tree;
use crate::run::{Running, boxed, cellrun, host, inside, nothing_is_left, program, say};
use crate::status::{mask, value};

/// What Docker gives: see the list in the documentation of `docker run --cap-add`.
const DOCKER: u64 = 0xa804_25fb;
const CAP_NET_RAW: u64 = 1 << 13;
const CAP_SYS_ADMIN: u64 = 1 << 21;

#[test]
fn is_alone_in_namespaces_of_its_own() {
    faultkit::require!(root, cgroup2);
    faultkit::isolated!(|| {
        let script = "echo $$; cat /proc/sys/kernel/hostname; echo /proc/[0-9]*; cat /proc/self/cgroup; \
                      ls /sys/class/net; echo ready; read line";
        let before = host("cat /proc/sys/kernel/hostname");
        let mut web = Running::boxed(&["--net", "none", "--name", "web", "--", "bash", "-c", script]);
        assert_eq!(web.line(), "1");
        assert_eq!(web.line(), "web");
        // The shell, and the program that asks is none: the shell expands the pattern itself.
        assert_eq!(web.line(), "/proc/1");
        let mut rest = Vec::new();
        loop {
            match web.line() {
                line if line == "ready" => break,
                line => rest.push(line),
            }
        }
        // On a hybrid machine other lines name the groups of cgroup v1, which the container shares.
        assert!(rest.contains(&"0::/".to_owned()), "{rest:?}");
        assert_eq!(rest.last().map(String::as_str), Some("lo"));

        let pid = web.payload();
        let ns = |of: &str, kind: &str| fs::read_link(format!("/proc/{of}/ns/{kind}")).expect("readlink");
        for kind in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
            assert_ne!(ns(&pid.to_string(), kind), ns("self", kind), "{kind}");
        }
        for kind in ["user", "time"] {
            assert_eq!(ns(&pid.to_string(), kind), ns("self", kind), "{kind}");
        }
        let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("cgroup");
        assert!(group.lines().any(|line| line.starts_with("0::/cellrun-web-")), "{group}");

        // Mounts go neither way.
        host("mount -t tmpfs late /mnt");
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("mountinfo");
        assert!(!mounts.contains(" late "), "{mounts}");
        assert!(!mounts.contains(" shared:") && !mounts.contains(" master:"), "{mounts}");
        host("umount /mnt");
        web.write("go\n");
        assert_eq!(web.end().ok(), "");
        assert_eq!(host("cat /proc/sys/kernel/hostname"), before);
        nothing_is_left();
    });
}

#[test]
fn environment_directory_names_and_users() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let mut command = cellrun(["box", "--net", "none", "--name", "web", "-e", "A=1=2", "-e", "GIVEN", "-e", "B="]);
        command.args(["-e", "UNSET", "--", "env"]).env("GIVEN", "caller's").env("SECRET", "x");
        let mut lines = say(&mut command).lines();
        lines.sort();
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        assert_eq!(lines, ["A=1=2", "B=", "GIVEN=caller's", "HOME=/root", "HOSTNAME=web", path]);

        assert_eq!(inside(&["-w", "/usr/bin"], "pwd; readlink /proc/self/cwd"), "/usr/bin\n/usr/bin\n");
        assert_eq!(
            inside(&["--hostname", "other.example"], "hostname; echo $HOSTNAME"),
            "other.example\nother.example\n"
        );

        let root = tree::make();
        let root = root.to_str().expect("UTF-8");
        let id = |user: &str| {
            let options = ["--rootfs", root, tree::USR[0], tree::USR[1], "--user", user];
            inside(&options, "echo $(id -u) $(id -g) $(id -G) $HOME; grep CapEff /proc/self/status | tr '\\t' ' '")
        };
        let nothing = "CapEff: 0000000000000000\n";
        assert_eq!(id("web"), format!("33 34 34 4 /srv/web\n{nothing}"));
        assert_eq!(id("33"), format!("33 34 34 4 /srv/web\n{nothing}"));
        assert_eq!(id("web:adm"), format!("33 5 5 /srv/web\n{nothing}"));
        assert_eq!(id("1000:1001"), format!("1000 1001 1001 /\n{nothing}"));
        assert_eq!(id("1000"), format!("1000 0 0 /\n{nothing}"));
        nothing_is_left();
    });
}

#[test]
fn privileges_are_those_asked_for() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let own = mask(&fs::read_to_string("/proc/self/status").expect("status"), "CapEff");
        let rows: [(&[&str], u64, &str); 8] = [
            (&[], DOCKER, "1"),
            (&["--cap-drop", "ALL"], 0, "1"),
            (&["--cap-drop", "ALL", "--cap-add", "NET_RAW"], CAP_NET_RAW, "1"),
            (&["--cap-add", "sys_admin"], DOCKER | CAP_SYS_ADMIN, "1"),
            (&["--cap-add", "CAP_SYS_ADMIN", "--cap-drop", "net_raw"], (DOCKER | CAP_SYS_ADMIN) & !CAP_NET_RAW, "1"),
            (&["--cap-add", "NET_RAW", "--cap-drop", "NET_RAW"], DOCKER & !CAP_NET_RAW, "1"),
            (&["--new-privileges"], DOCKER, "0"),
            (&["--init"], DOCKER, "1"),
        ];
        for (options, expected, no_new_privs) in rows {
            let status = inside(options, "cat /proc/self/status");
            for set in ["CapEff", "CapPrm", "CapBnd"] {
                assert_eq!(mask(&status, set), expected & own, "{set} of {options:?}");
            }
            assert_eq!(mask(&status, "CapInh") | mask(&status, "CapAmb"), 0, "{options:?}");
            assert_eq!(value(&status, "NoNewPrivs"), no_new_privs, "{options:?}");
        }
        // Another way to see the same.
        let said = boxed(&["--net", "none", "--", "mount", "-t", "tmpfs", "x", "/tmp"]);
        assert_ne!(said.status, 0, "{said:?}");
        inside(&["--cap-add", "SYS_ADMIN"], "mount -t tmpfs x /tmp");
        nothing_is_left();
    });
}

#[test]
fn all_capabilities_are_those_the_caller_has() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let own = mask(&fs::read_to_string("/proc/self/status").expect("status"), "CapEff");
        let status = inside(&["--cap-add", "ALL"], "cat /proc/self/status");
        assert_eq!((mask(&status, "CapEff"), mask(&status, "CapBnd")), (own, own));
        nothing_is_left();
    });
}

#[test]
fn inherits_nothing_by_accident() {
    faultkit::require!(root, program("bash"), program("taskset"));
    faultkit::isolated!(|| {
        // A caller as careless as can be: signals ignored and blocked, a strange umask, one processor, fifty descriptors
        // that survive execve, and no standard input.
        let script = "trap '' PIPE USR1 INT QUIT TERM CHLD; umask 077
            for fd in {10..59}; do eval \"exec $fd</etc/passwd\"; done
            exec env --block-signal=USR2,HUP,RTMIN taskset -c 0 \"$0\" box --net none \"$@\" -- \
                $COMMAND 0<&-";
        // All that there are, whatever whoever runs this test is bound to.
        let all = host("taskset -c $(cat /sys/devices/system/cpu/possible) cat /proc/self/status");
        let allowed = value(&all, "Cpus_allowed");
        for options in [&[][..], &["--init"]] {
            let run = |command: &str| {
                say(Command::new("bash").args(["-c", script]).arg(program()).args(options).env("COMMAND", command)).ok()
            };
            let said = run("cat /proc/self/status");
            assert_eq!(mask(&said, "SigIgn"), 0, "{options:?}: {said}");
            assert_eq!(mask(&said, "SigBlk"), 0, "{options:?}: {said}");
            assert_eq!(value(&said, "Umask"), "0022", "{options:?}");
            assert_eq!(value(&said, "Cpus_allowed"), allowed, "{options:?}");
            // ls has one more, which it lists with.
            assert_eq!(run("ls /proc/self/fd"), "0\n1\n2\n3\n", "{options:?}");
            assert_eq!(run("readlink /proc/self/fd/0"), "/dev/null\n", "{options:?}");
        }
        nothing_is_left();
    });
}

#[test]
fn clocks_of_its_own() {
    faultkit::require!(root, kernel(6.3));
    faultkit::isolated!(|| {
        let uptime = |text: &str| text.split(' ').next().and_then(|up| up.parse::<f64>().ok()).expect("seconds");
        let outside = uptime(&host("cat /proc/uptime"));
        let said =
            inside(&["--boottime", "864000", "--monotonic", "500"], "cat /proc/uptime /proc/self/timens_offsets");
        let gap = uptime(&said) - outside;
        assert!((864_000.0..864_060.0).contains(&gap), "{said}");
        let offsets: Vec<Vec<&str>> = said.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(offsets, [["monotonic", "500", "0"], ["boottime", "864000", "0"]]);
        assert!(uptime(&host("cat /proc/uptime")) < outside + 60.0);
        let said = boxed(&["--net", "none", "--boottime", "-999999999", "--", "true"]);
        assert_eq!(said.status, 125, "{said:?}");
        assert!(said.failure().contains("timens_offsets"), "{said:?}");
        nothing_is_left();
    });
}

#[test]
fn a_directory_is_no_standard_input() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = std::fs::File::open("/").expect("/");
        let said = say(cellrun(["box", "--net", "none", "--", "true"]).stdin(dir));
        assert_eq!(said.status, 125, "{said:?}");
        assert!(said.err.contains("way out"), "{said:?}");
        nothing_is_left();
    });
}
