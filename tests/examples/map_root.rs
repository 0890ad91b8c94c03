use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{example, stdout};

/// Who it is inside, by id(1); a file; and then it waits to be looked at.
const SCRIPT: &str =
    "echo $(id -u) $(id -g) $$; touch made; read line; grep -h . /proc/self/[ug]id_map /proc/self/setgroups";

/// Runs the script by `program` in `dir`, and looks at it from outside while it runs.
fn is_root_inside_and_who_ran_it_outside(mut program: Command, dir: &Path, uid: u32, gid: u32) {
    program.args(["sh", "-c", SCRIPT]).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = program.spawn().expect("start");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let mut line = || lines.next().expect("a line").expect("text");
    let first = line();
    let pid = first.strip_prefix("0 0 ").unwrap_or_else(|| panic!("id says {first}"));

    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let ids = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect(key);
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(ids("Uid:"), vec![uid.to_string(); 4]);
    assert_eq!(ids("Gid:"), vec![gid.to_string(); 4]);
    assert_ne!(ids("CapEff:"), ["0000000000000000"], "it has capabilities, in its namespace");
    let own = std::fs::read_link("/proc/self/ns/user").expect("link");
    assert_ne!(std::fs::read_link(format!("/proc/{pid}/ns/user")).expect("link"), own);
    let made = loop {
        match std::fs::metadata(dir.join("made")) {
            Ok(made) => break made,
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(1)),
        }
    };
    assert_eq!((made.uid(), made.gid()), (uid, gid));

    child.stdin.take().expect("stdin").write_all(b"\n").expect("write");
    let blanks = |line: String| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let rest: Vec<String> = lines.map(|line| blanks(line.expect("text"))).collect();
    assert_eq!(rest, [format!("0 {uid} 1"), format!("0 {gid} 1"), "deny".into()]);
    assert!(child.wait().expect("wait").success());
    std::fs::remove_file(dir.join("made")).expect("rm");
}

mod root {
    use super::*;

    #[test]
    fn root_is_root_and_alice_is_alice_as_with_unshare() {
        faultkit::require!(root, program("unshare"));
        faultkit::isolated!(|| {
            let alice = faultkit::ordinary_user();
            let own = alice.copy_of(faultkit::built_example("map_root"));
            is_root_inside_and_who_ran_it_outside(alice.command(own), alice.home(), alice.uid(), alice.gid());
            let mut theirs = alice.command("unshare");
            theirs.arg("--map-root-user");
            is_root_inside_and_who_ran_it_outside(theirs, alice.home(), alice.uid(), alice.gid());

            let dir = faultkit::TempDir::new();
            is_root_inside_and_who_ran_it_outside(example("map_root"), dir.path(), 0, 0);
        });
    }
}

mod rootless {
    use super::*;

    #[test]
    fn whoever_runs_it() {
        faultkit::require!(user, userns);
        faultkit::isolated!(|| {
            let number = |flag: &str| stdout(Command::new("id").arg(flag)).trim().parse().expect("a number");
            let dir = faultkit::TempDir::new();
            is_root_inside_and_who_ran_it_outside(example("map_root"), dir.path(), number("-u"), number("-g"));
        });
    }

    #[test]
    fn statuses_and_usage() {
        faultkit::require!(userns);
        faultkit::isolated!(|| {
            let code = |args: &[&str]| example("map_root").args(args).status().expect("start").code();
            assert_eq!(code(&["sh", "-c", "exit 7"]), Some(7));
            assert_eq!(code(&[]), Some(2));
        });
    }
}
