//! Containers within containers, and boxes of the root of a user namespace.

use std::process::Stdio;

use faultkit::OrdinaryUser;

use super::accounts::Ann;
use crate::run::{Said, assert_no_records, host, nothing_is_left, program_for, say};

/// `unshare OPTIONS cellrun box ARGS`, by the user.
fn below_unshare(user: &OrdinaryUser, options: &str, args: &[&str]) -> Said {
    let mut command = user.command("unshare");
    say(command.arg(options).arg(program_for(user)).arg("box").args(args).stdin(Stdio::null()))
}

#[test]
fn a_box_in_a_box() {
    faultkit::require!(root, userns, program("newuidmap"), program("newgidmap"));
    faultkit::isolated!(|| {
        for ann in [Ann::without_ranges as fn() -> Ann, Ann::with_ranges] {
            let ann = ann();
            let user = &ann.user;
            let program = program_for(user);
            host(&format!("install -D -m 755 {} {}/bin/cellrun", program.display(), user.home().display()));
            let volume = format!("{}/bin:/mnt:ro", user.home().display());
            let run = |options: &[&str], script: &str| {
                let mut command = user.command(&program);
                command.args(["box", "--net", "none", "-v", &volume]).args(options).args(["--", "sh", "-c", script]);
                say(command.stdin(Stdio::null()))
            };
            let inner = "/mnt/cellrun box --net none -- sh -c 'id -u; echo $$; ls /sys/class/net; touch /usr/made && ls /usr/made'";
            let look = format!("{inner}; ls /usr/made 2>/dev/null; ls -A /run/cellrun");
            assert_eq!(run(&["--unmask"], &look).ok(), "0\n1\nlo\n/usr/made\n.lock\n");
            // The outer one hides parts of /proc unless told not to, and then there is no other /proc.
            let said = run(&[], inner);
            assert_eq!((said.status, said.out.as_str()), (125, ""));
            assert!(said.err.contains("fsmount proc: operation not permitted"), "{said:?}");
            assert!(said.err.contains("/proc is covered in part"), "{said:?}");
            assert_no_records(&user.runtime_dir().join("cellrun"));
        }
        nothing_is_left();
    });
}

#[test]
fn the_root_of_a_user_namespace() {
    faultkit::require!(root, userns);
    faultkit::isolated!(|| {
        let user = faultkit::ordinary_user();
        let script = ["--", "sh", "-c", "id -u; tr -s ' ' </proc/self/uid_map; ls /sys/class/net"];
        // It owns no network, no /run and no ids: an ordinary user.
        for options in ["-Ur", "-Urm", "-Urn", "-Urnm"] {
            assert_eq!(below_unshare(&user, options, &script).ok(), "0\n 0 0 1\nlo\n", "{options}");
        }
        let said = below_unshare(&user, "-Ur", &["--net", "bridge", "--", "true"]);
        assert_eq!(said.status, 125);
        said.failure();
        assert_no_records(&user.runtime_dir().join("cellrun"));
        nothing_is_left();
    });
}

#[test]
fn a_container_that_is_not_there_is_told_of_in_two_lines() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let said = crate::run::boxed(&["--net", "container:nosuch", "--", "true"]);
        let hint = "  hint: no container of this name is running: see the --name it was started with\n";
        assert_eq!(
            said.err,
            format!("cellrun: --net \"container:nosuch\": no such file or directory (ENOENT)\n{hint}")
        );
        nothing_is_left();
    });
}
