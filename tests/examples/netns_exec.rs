use std::process::Command;

use super::{example, stdout};

mod root {
    use super::*;

    #[test]
    fn as_ip_netns_exec() {
        faultkit::require!(root, program("ip"));
        faultkit::isolated!(|| {
            let names = || stdout(Command::new("ip").args(["netns", "list"]));
            // A namespace made for the command: its own, with nothing but a loopback interface, and gone afterwards.
            let here = stdout(Command::new("readlink").arg("/proc/self/ns/net"));
            let seen = stdout(example("netns_exec").args([
                "web",
                "sh",
                "-c",
                "readlink /proc/self/ns/net; ip -br link; ip netns list",
            ]));
            assert!(!seen.contains(here.trim()) && seen.contains("\nlo ") && seen.ends_with("web\n"), "{seen}");
            assert_eq!(names(), "");
            // One that is there: the same as ip's, and it stays.
            stdout(Command::new("ip").args(["netns", "add", "web"]));
            stdout(Command::new("ip").args("-n web address add 10.1.0.2/24 dev lo".split(' ')));
            let look = ["web", "ip", "address"];
            let theirs = stdout(Command::new("ip").args(["netns", "exec"]).args(look));
            assert_eq!(stdout(example("netns_exec").args(look)), theirs);
            assert!(theirs.contains("10.1.0.2/24"), "{theirs}");
            assert!(names().starts_with("web"));
            stdout(Command::new("ip").args(["netns", "delete", "web"]));

            // A command that fails, one that is missing, a name that is none: nothing is left.
            for (arguments, code, said) in [
                (["web", "false"], 1, ""),
                (["web", "/no/such"], 1, "execve \"/no/such\": no such file"),
                (["../web", "true"], 1, "no slash"),
            ] {
                let output = example("netns_exec").args(arguments).output().expect("start");
                assert_eq!(output.status.code(), Some(code));
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(text.contains(said), "{text}");
            }
            assert_eq!(example("netns_exec").status().expect("start").code(), Some(2));
            assert_eq!(names(), "");
            stdout(Command::new("umount").arg("/run/netns"));
            std::fs::remove_dir("/run/netns").expect("empty");
        });
    }
}
