//! What cannot be done is said in one line, and leaves nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use faultkit::{Ledger, TempDir};

use crate::run::{Running, boxed, cellrun, host, nothing_is_left, program_for, say};

/// What is typed, the exit status, and what the line has to name.
type Row<'a> = (&'a [&'a str], i32, &'a [&'a str]);

#[track_caller]
fn assert_rows(common: &[&str], rows: &[Row<'_>]) {
    for (args, status, named) in rows {
        let said = say(cellrun(["box"]).args(common).args(*args));
        assert_eq!(said.status, *status, "{args:?}: {said:#?}");
        let line = said.failure();
        for name in *named {
            assert!(line.contains(name), "{args:?} does not name {name}: {line}");
        }
    }
}

#[test]
fn command_lines() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        let path = |name: &str| dir.join(name).to_str().expect("UTF-8").to_owned();
        fs::write(dir.join("script"), "no interpreter named\n").expect("write");
        fs::set_permissions(dir.join("script"), fs::Permissions::from_mode(0o755)).expect("chmod");
        fs::write(dir.join("lost"), "#!/no/such/interpreter\n").expect("write");
        fs::set_permissions(dir.join("lost"), fs::Permissions::from_mode(0o755)).expect("chmod");
        let scripts = format!("{}:/scripts", path(""));
        let (nosuch, file) = (path("nosuch"), path("script"));
        let from_nosuch = format!("{nosuch}:/x");
        let long = "x".repeat(65);
        let rows: &[Row<'_>] = &[
            (&["--nosuch"], 125, &["--nosuch"]),
            (&["--memory"], 125, &["--memory"]),
            (&["--writable", "--", "true"], 125, &["--rootfs"]),
            (&["--rootfs", &nosuch, "--", "true"], 125, &["nosuch", "ENOENT"]),
            (&["--rootfs", &file, "--", "true"], 125, &["script", "ENOTDIR"]),
            (&["--rootfs", "", "--", "true"], 125, &[]),
            (&["--", "nosuch"], 127, &["execve", "nosuch", "ENOENT"]),
            (&["--", "/no/such"], 127, &["execve", "/no/such", "ENOENT"]),
            (&["--", "/etc/passwd"], 126, &["execve", "/etc/passwd", "EACCES"]),
            (&["--", "/usr"], 126, &["execve", "/usr", "EACCES"]),
            (&["-v", &scripts, "--", "/scripts/script"], 126, &["execve", "/scripts/script", "ENOEXEC"]),
            (&["-v", &scripts, "--", "/scripts/lost"], 127, &["execve", "/scripts/lost", "ENOENT"]),
            (&["--", ""], 125, &["command", "empty"]),
            (&["--memory", "0", "--", "true"], 125, &["memory"]),
            (&["--memory", "-1", "--", "true"], 125, &["--memory", "negative"]),
            (&["--memory", "99999999999999999999g", "--", "true"], 125, &["--memory", "99999999999999999999g"]),
            (&["--memory", "", "--", "true"], 125, &["--memory"]),
            (&["--memory", "1m1", "--", "true"], 125, &["--memory", "1m1"]),
            (&["--memory-swap", "1g", "--", "true"], 125, &["--memory-swap", "--memory"]),
            (&["--pids", "0", "--", "true"], 125, &["--pids"]),
            (&["--pids", "-1", "--", "true"], 125, &["--pids"]),
            (&["--pids", "4194305", "--", "true"], 125, &["--pids"]),
            (&["--cpus", "0", "--", "true"], 125, &["--cpus"]),
            (&["--cpus", "-1", "--", "true"], 125, &["--cpus"]),
            (&["--cpus", "1e99", "--", "true"], 125, &["--cpus"]),
            (&["--cpus", "inf", "--", "true"], 125, &["--cpus"]),
            (&["--io-max", "/dev/null:rbps=1", "--", "true"], 125, &["--io-max", "/dev/null"]),
            (&["--io-max", "nosuch", "--", "true"], 125, &["--io-max"]),
            (&["--cgroup", "mine", "--", "true"], 125, &["--cgroup", "mine"]),
            (&["--cgroup", "none", "--pids", "9", "--", "true"], 125, &["--cgroup"]),
            (&["--userns", "nosuch", "--", "true"], 125, &["--userns", "nosuch"]),
            (&["--userns", "0:0:0", "--", "true"], 125, &["--userns"]),
            (&["--userns", "4294967295:0:1", "--", "true"], 125, &["--userns"]),
            (&["--userns", "4294967290:0:100", "--", "true"], 125, &["--userns"]),
            (&["-v", &from_nosuch, "--", "true"], 125, &["nosuch", "ENOENT"]),
            (&["-v", "/etc:/", "--", "true"], 125, &["\"/\""]),
            (&["-v", "/etc:/../..", "--", "true"], 125, &["/../.."]),
            (&["-v", "/etc:etc", "--", "true"], 125, &["\"etc\""]),
            (&["-v", "/etc:/dev/null", "--", "true"], 125, &["/dev/null"]),
            (&["-v", "/etc:/x:rx", "--", "true"], 125, &["-v", "/etc:/x:rx"]),
            (&["-v", "/etc", "--", "true"], 125, &["-v"]),
            (&["--tmpfs", "/", "--", "true"], 125, &["\"/\""]),
            (&["--tmpfs", "/x:size=0", "--", "true"], 125, &["/x"]),
            (&["--tmpfs", "/x:mode=99", "--", "true"], 125, &["--tmpfs", "mode=99"]),
            (&["--tmpfs", "/x:suid", "--", "true"], 125, &["--tmpfs", "suid"]),
            (&["-e", "=x", "--", "true"], 125, &["-e"]),
            (&["-w", "usr", "--", "true"], 125, &["--workdir", "usr"]),
            (&["-w", "/no/such", "--", "true"], 125, &["chdir", "/no/such", "ENOENT"]),
            (&["-w", "/etc/passwd", "--", "true"], 125, &["chdir", "/etc/passwd", "ENOTDIR"]),
            (&["--user", "no-such-user", "--", "true"], 125, &["--user", "no-such-user"]),
            (&["--user", "4294967295", "--", "true"], 125, &["--user", "4294967295"]),
            (&["--user", "", "--", "true"], 125, &["--user"]),
            (&["--hostname", "", "--", "true"], 125, &["sethostname"]),
            (&["--hostname", &long, "--", "true"], 125, &["sethostname"]),
            (&["--name", "../up", "--", "true"], 125, &["--name", "../up"]),
            (&["--name", "", "--", "true"], 125, &["--name"]),
            (&["--cap-add", "NOSUCH", "--", "true"], 125, &["--cap-add", "NOSUCH"]),
            (&["--cap-drop", "NOSUCH", "--", "true"], 125, &["--cap-drop", "NOSUCH"]),
            (&["-p", "80:80", "--", "true"], 125, &["-p"]),
            (&["--subnet", "10.0.0.0/24", "--", "true"], 125, &["--subnet"]),
            (&["--boottime", "x", "--", "true"], 125, &["--boottime"]),
            (&["-t", "--", "true"], 125, &["ENOTTY"]),
            (&["--trace", "--explain", "--", "true"], 125, &["--explain"]),
        ];
        assert_rows(&["--net", "none"], rows);
        nothing_is_left();
    });
}

#[test]
fn networks() {
    faultkit::require!(root, program("ip"), program("nft"));
    faultkit::isolated!(|| {
        let rows: &[Row<'_>] = &[
            (&["--net", "nosuch", "--", "true"], 125, &["--net", "nosuch"]),
            (&["--net", "container:", "--", "true"], 125, &[]),
            (&["--net", "container:nosuch", "--", "true"], 125, &["nosuch", "ENOENT"]),
            (&["-p", "0:80", "--", "true"], 125, &["-p", "0:80"]),
            (&["-p", "65536:80", "--", "true"], 125, &["-p", "65536:80"]),
            (&["-p", "80", "--", "true"], 125, &["-p"]),
            (&["-p", "80:80/icmp", "--", "true"], 125, &["-p", "icmp"]),
            (&["-p", "8080:80", "-p", "8080:81", "--", "true"], 125, &["8080"]),
            (&["--subnet", "10.0.0.0", "--", "true"], 125, &["--subnet"]),
            (&["--subnet", "10.0.0.0/33", "--", "true"], 125, &["--subnet"]),
            (&["--subnet", "127.0.0.0/8", "--", "true"], 125, &["--subnet"]),
            (&["--", "nosuch"], 127, &["execve", "nosuch"]),
            (&["-w", "/no/such", "--", "true"], 125, &["chdir"]),
        ];
        assert_rows(&[], rows);
        nothing_is_left();
    });
}

#[test]
fn a_name_that_is_taken() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        let mut first =
            Running::boxed(&["--net", "none", "--name", "web", "--", "sh", "-c", "echo ready; read line || true"]);
        assert_eq!(first.line(), "ready");
        let ledger = Ledger::take();
        let said = boxed(&["--net", "none", "--name", "web", "--", "true"]);
        assert_eq!(said.status, 125);
        assert!(said.failure().contains("web") && said.failure().contains("EEXIST"), "{said:?}");
        assert!(said.err.contains("--name"), "a way out: {said:?}");
        ledger.assert_same();
        for net in ["bridge", "host"] {
            let said = boxed(&["--net", net, "--name", "web", "--", "true"]);
            assert!(said.failure().contains("EEXIST") && said.err.contains("--name"), "{said:?}");
        }
        ledger.assert_same();
        assert_eq!(first.end().status, 0);
        assert_eq!(boxed(&["--net", "none", "--name", "web", "--", "true"]).ok(), "");
        nothing_is_left();
    });
}

#[test]
fn limits_whose_controller_is_elsewhere() {
    faultkit::require!(root, cgroup2);
    // The machine this is about has the controllers with cgroup v1: that is its state, not a lack.
    let held = |name: &str| host("findmnt -rno TARGET -t cgroup || true").lines().any(|mount| mount.ends_with(name));
    faultkit::isolated!(|| {
        for (option, value, controller) in
            [("--memory", "64m", "memory"), ("--pids", "10", "pids"), ("--cpus", "0.5", "cpu")]
        {
            let said = boxed(&["--net", "none", option, value, "--", "true"]);
            if !held(controller) {
                assert_eq!(said.ok(), "", "{option} on cgroup v2");
                continue;
            }
            assert_eq!(said.status, 125, "{option}: {said:?}");
            let line = said.failure();
            let mount = host("findmnt -rno TARGET -t cgroup");
            let mount = mount.lines().find(|mount| mount.ends_with(controller)).expect("a v1 mount");
            assert!(line.contains(&format!("the {controller} controller")) && line.contains(mount), "{line}");
            assert!(said.err.contains(&format!("cgroup_no_v1={controller}")), "{said:?}");
        }
        nothing_is_left();
    });
}

#[test]
fn what_an_ordinary_user_may_not() {
    faultkit::require!(root, userns);
    faultkit::isolated!(|| {
        let user = faultkit::ordinary_user();
        let program = program_for(&user);
        let ledger = Ledger::take();
        let rows: &[Row<'_>] = &[
            (&["--net", "bridge", "--", "true"], 125, &["EPERM"]),
            (&["--userns", "host", "--", "true"], 125, &["EPERM"]),
            (&["--net", "container:x", "--", "true"], 125, &["setns"]),
            (&["--memory", "64m", "--", "true"], 125, &["no group may be made"]),
            (&["--userns", "0:0:65536", "--", "true"], 125, &["0"]),
            (&["--rootfs", "/root/nosuch", "--", "true"], 125, &["/root/nosuch"]),
            (&["-v", "/etc/shadow:/x", "--", "cat", "/etc/shadow"], 1, &[]),
        ];
        for (args, status, named) in rows {
            let said = say(user.command(&program).arg("box").args(*args));
            assert_eq!(said.status, *status, "{args:?}: {said:#?}");
            if *status == 125 {
                let line = said.failure();
                for name in *named {
                    assert!(line.contains(name), "{args:?} does not name {name}: {line}");
                }
            }
            ledger_without_state(&ledger, &user.runtime_dir().join("cellrun"));
        }
        nothing_is_left();
    });
}

/// The state folder may stay.
#[track_caller]
fn ledger_without_state(ledger: &Ledger, state: &std::path::Path) {
    crate::run::assert_no_records(state);
    ledger.assert_same();
}
