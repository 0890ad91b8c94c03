//! Limits that bite, where cgroup v2 has the controllers.

use crate::run::{boxed, nothing_is_left};

#[test]
fn memory() {
    faultkit::require!(root, cgroup2("memory"));
    faultkit::isolated!(|| {
        let said = boxed(&["--net", "none", "--memory", "64m", "--", "cat", "/sys/fs/cgroup/memory.max"]);
        assert_eq!(said.ok(), "67108864\n");
        // tail keeps the one endless line in memory.
        let hog = "exec tail /dev/zero";
        let swap = ["--memory", "64m", "--memory-swap", "64m"];
        let said = boxed(&[&["--net", "none"], &swap[..], &["--", "sh", "-c", hog]].concat());
        assert_eq!(said.status, 137, "{said:?}");
        assert!(said.failure().starts_with("out of memory: "), "{said:?}");
        assert!(said.err.contains("memory.events"), "{said:?}");
        // Below the limit, and killed by somebody else, it says nothing.
        let said = boxed(&["--net", "none", "--memory", "64m", "--init", "--", "sh", "-c", "kill -9 $$"]);
        assert_eq!((said.status, said.err.as_str()), (137, ""));
        nothing_is_left();
    });
}

#[test]
fn cpus() {
    faultkit::require!(root, cgroup2("cpu"));
    faultkit::isolated!(|| {
        let script = "cat /sys/fs/cgroup/cpu.max; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done & \
                      sleep 1; kill $!; cat /sys/fs/cgroup/cpu.stat";
        let said = boxed(&["--net", "none", "--cpus", "0.2", "--", "sh", "-c", script]).ok();
        assert!(said.starts_with("20000 100000\n"), "{said}");
        let throttled = said.lines().find_map(|line| line.strip_prefix("nr_throttled ")).expect("nr_throttled");
        assert!(throttled.parse::<u32>().expect("a number") > 0, "{said}");
        nothing_is_left();
    });
}

#[test]
fn pids() {
    faultkit::require!(root, cgroup2("pids"), program("perl"));
    faultkit::isolated!(|| {
        // It is the first of twenty itself. A refused fork ends the loop, and would-be bombs are refused for as long as the
        // others sleep.
        let script = "for (1 .. 60) { $pid = fork; last unless defined $pid; unless ($pid) { sleep 100; exit } $n++ }
            print \"$n forks\\n\"; open F, '/sys/fs/cgroup/pids.events'; print <F>";
        let said = boxed(&["--net", "none", "--pids", "20", "--", "perl", "-e", script]).ok();
        let (forks, events) = said.split_once('\n').expect("two lines");
        assert_eq!(forks, "19 forks", "{said}");
        assert!(events.lines().any(|line| line == "max 1"), "{said}");
        nothing_is_left();
    });
}
