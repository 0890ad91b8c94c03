use std::fs;
use std::process::Command;

use super::{example, stdout};

/// The first line, which is all that nproc says.
fn count(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

mod root {
    use super::*;
    use cgroupfs::Hierarchy;

    #[test]
    fn the_least_of_quotas_above_and_of_processors() {
        faultkit::require!(root, cgroup2("cpu"), cgroup2("cpuset"), cgroup2("memory"), program("nproc"));
        faultkit::isolated!(|| {
            let top = Hierarchy::detect().expect("hierarchy").mount_point().to_owned();
            let outer = top.join("outer");
            let inner = outer.join("inner");
            fs::create_dir(&outer).expect("mkdir");
            fs::write(outer.join("cgroup.subtree_control"), "+cpu +cpuset +memory").expect("enable");
            fs::create_dir(&inner).expect("mkdir");
            let look = || {
                let script = r#"echo $$ > "$1/cgroup.procs" && exec "$0""#;
                let path = faultkit::built_example("effective_cpus");
                stdout(Command::new("sh").args(["-c", script]).arg(path).arg(&inner))
            };
            let all = stdout(&mut Command::new("nproc")).trim().to_owned();
            assert_eq!(count(&look()), all);
            // A limit of a group above holds, whatever the one below asks for.
            fs::write(outer.join("cpu.max"), "50000 100000").expect("quota");
            fs::write(inner.join("cpu.max"), "400000 100000").expect("quota");
            let text = look();
            assert_eq!(count(&text), "1");
            assert!(text.contains(&format!("cpu.max 50000 100000 of {}\n", outer.display())), "{text}");
            // One and a half is two, where there are two.
            fs::write(outer.join("cpu.max"), "30000 20000").expect("quota");
            assert_eq!(count(&look()), if all == "1" { "1" } else { "2" });
            fs::write(outer.join("cpuset.cpus"), "0").expect("cpus");
            let text = look();
            assert_eq!(count(&text), "1");
            assert!(text.contains("processors 0\n"), "{text}");
            fs::write(outer.join("memory.max"), "67108864").expect("memory");
            fs::write(inner.join("memory.high"), "33554432").expect("memory");
            let text = look();
            assert!(text.contains("memory 33554432 of "), "{text}");
            assert!(text.contains(&format!("memory.max 67108864 of {}\n", outer.display())), "{text}");
            fs::remove_dir(&inner).expect("rmdir");
            fs::remove_dir(&outer).expect("rmdir");
        });
    }
}

mod rootless {
    use super::*;

    #[test]
    fn without_a_quota_as_nproc_says() {
        faultkit::require!(program("nproc"), program("taskset"));
        let quota = |text: &str| !text.contains("cpu.max none");
        let text = stdout(&mut example("effective_cpus"));
        let theirs: usize = stdout(&mut Command::new("nproc")).trim().parse().expect("number");
        let ours: usize = count(&text).parse().expect("number");
        assert!(ours == theirs || quota(&text) && ours < theirs, "nproc {theirs}: {text}");
        // On one processor both say one.
        let on_one = |program: &mut Command| {
            let first = stdout(Command::new("taskset").args(["-cp", &std::process::id().to_string()]));
            let first =
                first.rsplit(' ').next().expect("list").trim().split([',', '-']).next().expect("one").to_owned();
            stdout(Command::new("taskset").args(["-c", &first]).arg(program.get_program()))
        };
        assert_eq!(count(&on_one(&mut example("effective_cpus"))), "1");
        assert_eq!(on_one(&mut Command::new("nproc")).trim(), "1");
    }
}
