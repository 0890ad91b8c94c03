use std::process::Command;

use super::{example, stdout};

mod root {
    use super::*;

    /// What a command sees of its namespaces: which are not those of `$1`, its number, the network, the mounts.
    const LOOK: &str = r#"for kind in cgroup ipc mnt net pid time user uts; do
            [ "$(readlink /proc/self/ns/$kind)" = "$(readlink /proc/$1/ns/$kind)" ] || echo $kind; done
        echo $$; ip -o link | cut -d: -f2; findmnt -no PROPAGATION /; hostname here 2>&1; uname -n; grep CapEff /proc/self/status"#;

    #[test]
    fn every_kind_as_unshare_makes_it() {
        faultkit::require!(root, program("unshare"), program("ip"), program("findmnt"));
        faultkit::isolated!(|| {
            let own = std::process::id().to_string();
            for flags in [
                vec!["--fork", "--pid", "--net", "--ipc", "--uts", "--mount", "--cgroup"],
                vec!["--fork", "--net", "--uts"],
                vec!["--fork", "--uts", "--mount"],
                vec!["-f", "-p", "-u"],
            ] {
                let look = |program: &mut Command| stdout(program.args(&flags).args(["sh", "-c", LOOK, "sh", &own]));
                let numbered = flags.iter().any(|flag| ["--pid", "-p"].contains(flag));
                // Outside of a new pid namespace every process has another number.
                let plain = |text: String| {
                    let number = |line: &&str| numbered || line.parse::<u32>().is_err();
                    text.lines().filter(number).map(str::to_owned).collect::<Vec<_>>()
                };
                let theirs = plain(look(&mut Command::new("unshare")));
                let ours = plain(look(&mut example("unshare")));
                assert_eq!(ours, theirs, "{flags:?}");
                assert!(ours.contains(&"uts".to_owned()) && ours.contains(&"here".to_owned()), "{ours:?}");
            }
        });
    }

    #[test]
    fn statuses_and_usage() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let code = |args: &[&str]| example("unshare").args(args).status().expect("start").code();
            assert_eq!(code(&["--uts", "sh", "-c", "exit 7"]), Some(7));
            assert_eq!(code(&["--pid", "--fork", "sh", "-c", "exit 8"]), Some(8));
            assert_eq!(code(&["--no-such", "true"]), Some(2));
            assert_eq!(code(&[]), Some(2));
        });
    }
}

mod rootless {
    use super::*;

    #[test]
    fn root_in_a_user_namespace_of_ones_own() {
        faultkit::require!(userns, program("unshare"));
        faultkit::isolated!(|| {
            let args = ["--map-root-user", "--uts", "sh", "-c"];
            let script = "id -u; id -g; hostname mine; uname -n; cat /proc/self/uid_map /proc/self/setgroups";
            let theirs = stdout(Command::new("unshare").args(args).arg(script));
            assert_eq!(stdout(example("unshare").args(args).arg(script)), theirs);
            assert!(theirs.starts_with("0\n0\nmine\n"), "{theirs}");
        });
    }
}
