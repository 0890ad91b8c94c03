use std::fs;
use std::process::{Child, Command};
use std::time::Duration;

use cgroupfs::{Cgroup, CgroupName, Hierarchy, Limits};

use super::{example, stdout};

mod root {
    use super::*;

    fn start_in(group: &Cgroup, script: &str) -> Child {
        let script = format!("echo $$ > \"$0/cgroup.procs\" && {script}");
        Command::new("sh").args(["-c", &script]).arg(group.path()).spawn().expect("sh")
    }

    #[test]
    fn the_busy_group_is_first() {
        faultkit::require!(root, cgroup2);
        faultkit::isolated!(|| {
            let place = Hierarchy::detect().expect("hierarchy").place().expect("place");
            let make = |name: &str| {
                place.create(&CgroupName::new(name).expect("name"), &Limits::new(), &mut ()).expect("create")
            };
            let (idle, busy) = (make("a-idle"), make("b-busy"));
            let children = [start_in(&idle, "exec sleep 1000"), start_in(&busy, "while :; do :; done")];
            let usage = || {
                let text = fs::read_to_string(busy.path().join("cpu.stat")).expect("cpu.stat");
                let usec = text.lines().find_map(|line| line.strip_prefix("usage_usec ")).expect("usage_usec");
                usec.parse::<u64>().expect("number")
            };
            let (before, started) = (usage(), std::time::Instant::now());
            let table = stdout(example("cgtop").args(["--once", "--delay", "1.5"]));
            let (used, passed) = (usage() - before, started.elapsed());
            let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
            assert_eq!(lines[0], ["CPU%", "MEMORY", "IO/S", "TASKS", "GROUP"]);
            let at = |group: &str| lines.iter().position(|line| line.last() == Some(&group)).expect(&table);
            assert!(at("/b-busy") < at("/a-idle"), "{table}");
            let percent: u64 = lines[at("/b-busy")][0].parse().expect("percent");
            // All that it used, over the shorter time in between.
            assert!(percent > 0 && percent <= used / 15_000 + 1 && passed >= Duration::from_millis(1500), "{table}");
            assert_eq!(lines[at("/a-idle")][0], "0", "{table}");
            // Of a part of the tree, with names from there.
            let table = stdout(example("cgtop").args(["--once", "--delay", "0.1", "/b-busy"]));
            assert_eq!(table.lines().count(), 2, "{table}");
            for group in [idle, busy] {
                group.remove(Duration::from_secs(60)).expect("remove");
            }
            for mut child in children {
                child.wait().expect("wait");
            }
        });
    }

    #[test]
    fn usage() {
        faultkit::require!(root);
        faultkit::isolated!(|| {
            let code = |args: &[&str]| example("cgtop").args(args).output().expect("start").status.code();
            for args in [&["--order", "x"][..], &["--delay", "-1"], &["--count", "x"], &["--no-such"]] {
                assert_eq!(code(args), Some(2), "{args:?}");
            }
        });
    }
}
