use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::{example, stdout};

/// The words of each line, without how they are aligned. findmnt escapes nothing that is mounted here.
fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

fn theirs(arguments: &[&str]) -> String {
    let columns = ["--notruncate", "--output", "TARGET,SOURCE,FSTYPE,OPTIONS"];
    stdout(Command::new("findmnt").args(columns).args(arguments).env("LC_ALL", "C.UTF-8"))
}

#[track_caller]
fn sh(script: &str) {
    assert!(Command::new("sh").args(["-ec", script]).status().expect("sh").success(), "{script}");
}

mod root {
    use super::*;

    #[test]
    fn the_tree_is_findmnts() {
        faultkit::require!(root, program("findmnt"), program("mount"));
        faultkit::isolated!(|| {
            sh("cd /run; mkdir a a/b c; mount -t tmpfs -o size=64k,nosuid one a; mkdir a/b a/d
                mount -t tmpfs -o ro two a/b; mount --bind a/d c; mount -o remount,bind,ro,noatime c; mount --make-shared a");
            assert_eq!(rows(&stdout(&mut example("findmnt"))), rows(&theirs(&[])));
            let own = std::process::id().to_string();
            assert_eq!(rows(&stdout(example("findmnt").args(["--task", &own]))), rows(&theirs(&["--task", &own])));
            let part = stdout(example("findmnt").args(["--target", "/run/a/d"]));
            assert_eq!(rows(&part), rows(&theirs(&["--submounts", "--mountpoint", "/run/a"])));
            assert_eq!(part.lines().count(), 3);
            assert!(part.lines().any(|line| line.starts_with("└─/run/a/b two")), "{part}");
            sh("cd /run; umount c a/b a; rmdir a/b a c");
        });
    }

    #[test]
    fn changes_are_told_as_they_happen() {
        faultkit::require!(root, program("mount"));
        faultkit::isolated!(|| {
            sh("mkdir /run/a");
            let mut command = example("findmnt");
            let mut child = command.arg("--poll").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start");
            let mut line = String::new();
            BufReader::new(child.stderr.take().expect("stderr")).read_line(&mut line).expect("read");
            assert_eq!(line, "waiting\n");
            let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
            let mut next = || lines.next().expect("a line").expect("read");
            sh("mount -t tmpfs -o size=64k new /run/a");
            assert!(next().starts_with("+ tmpfs \"new\" on \"/run/a\" (rw,relatime,size=64k"));
            sh("mount -o remount,bind,ro /run/a");
            assert!(next().starts_with("~ tmpfs \"new\" on \"/run/a\" (ro,relatime,size=64k"));
            sh("umount /run/a; rmdir /run/a");
            assert!(next().starts_with("- tmpfs \"new\" on \"/run/a\""));
            child.kill().expect("kill");
            child.wait().expect("wait");
        });
    }
}

mod rootless {
    use super::*;

    #[test]
    fn anybody_may_look() {
        faultkit::require!(program("findmnt"));
        faultkit::isolated!(|| {
            assert_eq!(rows(&stdout(&mut example("findmnt"))).len(), rows(&theirs(&[])).len());
            for wrong in [&["--task", "x"][..], &["--tree"]] {
                assert_eq!(example("findmnt").args(wrong).output().expect("start").status.code(), Some(2));
            }
            let output = example("findmnt").args(["--target", "/no/such"]).output().expect("start");
            assert!(String::from_utf8_lossy(&output.stderr).contains("open \"/no/such\": no such file"), "{output:?}");
        });
    }
}
