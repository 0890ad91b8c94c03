use std::process::Command;

use super::{example, stdout};

/// What both are asked, and must answer alike.
const LOOK: &str = "hostname; pwd; id -u; for kind in cgroup ipc mnt net pid time user uts; do \
                    readlink /proc/self/ns/$kind; done; ls /proc | grep -c '^[0-9]'; grep CapEff /proc/self/status";

mod root {
    use super::*;
    use ns_core::Namespaces;

    #[test]
    fn each_kind_and_all_of_them_as_nsenter_does() {
        faultkit::require!(root, program("nsenter"));
        faultkit::isolated!(|| {
            // A container with a procfs of its own, as unshare(1) makes it.
            let script = "hostname inside; mount -t proc proc /proc; sleep 100";
            let mut child = Command::new("unshare")
                .args(["-m", "-u", "-i", "-n", "-p", "-C", "--fork", "--kill-child", "sh", "-c", script])
                .spawn()
                .expect("unshare");
            let pid = super::sleeping_inside(child.id());
            let both = |options: &[&str], look: &str| {
                let args = [&["--target", &pid][..], options, &["sh", "-c", look]].concat();
                let real = stdout(Command::new("nsenter").args(&args));
                assert_eq!(stdout(example("nsenter").args(&args)), real, "{options:?}");
                real
            };
            for kind in ["--uts", "--ipc", "--net", "--cgroup"] {
                assert!(!both(&[kind], "readlink /proc/self/ns/*; hostname").is_empty());
            }
            let all = ["--net", "--mount", "--pid", "--ipc", "--uts", "--cgroup"];
            assert!(both(&all, LOOK).starts_with("inside\n/\n0\n"));
            both(&["--pid"], "readlink /proc/self/ns/net");

            // A status is passed on, and so is what goes wrong.
            let ended = example("nsenter").args(["--target", &pid, "--uts", "sh", "-c", "exit 7"]).status();
            assert_eq!(ended.expect("start").code(), Some(7));
            let wrong = example("nsenter").args(["--target", &pid, "--net=/dev/null", "true"]).output().expect("start");
            let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
            assert!(!wrong.status.success() && said.contains("this is no namespace"), "{said}");
            assert_eq!(example("nsenter").args(["--net", "true"]).status().expect("start").code(), Some(2));

            child.kill().expect("kill");
            child.wait().expect("wait");
            // The container is an orphan now, which --kill-child ends.
            while faultkit::reap_orphans() == 0 {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        });
    }

    #[test]
    fn a_user_namespace_and_its_network() {
        faultkit::require!(root, program("nsenter"));
        faultkit::isolated!(|| {
            let paused = ns_core::Command::new("/bin/sleep")
                .arg("100")
                .namespaces(Namespaces::USER | Namespaces::NET | Namespaces::UTS)
                .spawn_paused()
                .expect("paused");
            let pid = paused.pid();
            for file in ["uid_map", "gid_map"] {
                std::fs::write(format!("/proc/{pid}/{file}"), "0 5000 1").expect(file);
            }
            let mut child = paused.resume(&mut ()).expect("resume");
            let look =
                "readlink /proc/self/ns/net /proc/self/ns/user /proc/self/ns/uts; id -u; id -g; cat /proc/self/uid_map";
            let args = ["--target", &pid.to_string(), "--user", "--net", "--uts", "sh", "-c", look];
            let real = stdout(Command::new("nsenter").args(args));
            assert_eq!(stdout(example("nsenter").args(args)), real);
            assert!(real.contains("5000"), "{real}");
            child.kill().expect("kill");
            child.wait().expect("wait");
        });
    }
}

/// The number of the sleep that a shell below this process runs in the end.
fn sleeping_inside(top: u32) -> String {
    for _ in 0..1000 {
        let listed = Command::new("ps").args(["-e", "-o", "pid=,ppid=,comm="]).output().expect("ps");
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        let below = |parent: &str, name: &str| {
            let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            rows.into_iter().find(|row| row[1] == parent && row[2] == name).map(|row| row[0].to_owned())
        };
        if let Some(sleep) = below(&top.to_string(), "sh").and_then(|shell| below(&shell, "sleep")) {
            return sleep;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("nothing sleeps below {top}");
}
