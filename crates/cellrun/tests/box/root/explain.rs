//! `--explain` does nothing; `--trace` lists the same; and both list what strace(1) sees.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use faultkit::{Ledger, TempDir};

use crate::run::{cellrun, nothing_is_left, program, say};

/// The steps of a list without their numbers, times and reasons.
pub fn steps(list: &str) -> Vec<String> {
    let mut steps = Vec::new();
    for line in list.lines() {
        // Reasons are indented further than any number.
        if line.starts_with("       ") || line.starts_with("note: ") {
            continue;
        }
        let (number, rest) = line.trim_start().split_once(". ").unwrap_or_else(|| panic!("no step: {line}"));
        assert_eq!(number, (steps.len() + 1).to_string(), "{line}");
        // A time is a number and µs.
        let rest = match rest.split_once(" µs  ") {
            Some((time, rest)) if time.trim().parse::<f64>().is_ok() => rest,
            _ => rest,
        };
        steps.push(settled(rest));
    }
    steps
}

/// A step without what every start draws anew: the token in names outside, and what is derived from it.
fn settled(step: &str) -> String {
    let is_address = |word: &str| word.len() == 17 && word.split(':').all(|byte| u8::from_str_radix(byte, 16).is_ok());
    let words = step.split_inclusive([' ', '.', '"', ',', ')', '}']).map(|word| {
        let end = word.trim_end_matches([' ', '.', '"', ',', ')', '}']);
        let rest = word.get(end.len()..).unwrap_or("");
        match end {
            host if host.starts_with("vh") && host.len() == 15 => format!("HOST_END{rest}"),
            address if is_address(address) => format!("MAC{rest}"),
            token => match token.split_once("same-") {
                Some((before, _)) => format!("{before}same-TOKEN{rest}"),
                None => word.to_owned(),
            },
        }
    });
    words.collect()
}

const VARIANTS: [&[&str]; 6] = [
    &["--net", "none"],
    &["--net", "bridge", "-p", "8080:80"],
    &["--net", "none", "--init", "--read-only", "--user", "1000:1000", "--cap-drop", "ALL"],
    &["--net", "none", "--userns", "100000:100000:65536"],
    &["--net", "host", "--cgroup", "none", "-v", "/etc:/e:ro", "--tmpfs", "/t", "-w", "/t"],
    &["--net", "none", "--boottime", "100"],
];

fn kernel_can(options: &[&str]) -> bool {
    // Clocks need Linux 6.3.
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("release");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    !options.contains(&"--boottime") || (numbers.next(), numbers.next()) >= (Some(6), Some(3))
}

#[test]
fn explain_does_nothing_and_trace_lists_the_same() {
    faultkit::require!(root, program("ip"), program("nft"));
    faultkit::isolated!(|| {
        for options in VARIANTS.into_iter().filter(|options| kernel_can(options)) {
            let ledger = Ledger::take();
            let run = |mode: &str| say(cellrun(["box", mode, "--name", "same"]).args(options).args(["--", "true"]));
            let explained = run("--explain").ok();
            assert!(!Path::new("/run/cellrun").exists(), "{options:?}: no folder");
            ledger.assert_same();
            let traced = run("--trace");
            assert_eq!((traced.status, traced.out.as_str()), (0, ""), "{options:?}");
            let (explained, traced) = (steps(&explained), steps(&traced.err));
            assert!(explained.len() > 80, "{options:?}");
            for (number, (plan, made)) in explained.iter().zip(&traced).enumerate() {
                assert_eq!(plan, made, "step {} of {options:?}", number + 1);
            }
            assert_eq!(explained.len(), traced.len(), "{options:?}");
            nothing_is_left();
        }
    });
}

#[test]
fn explain_needs_no_terminal_and_a_closed_pipe_is_no_error() {
    faultkit::require!(root);
    faultkit::isolated!(|| {
        assert!(say(&mut cellrun(["box", "--explain", "-t", "--net", "none"])).ok().contains("/dev/console"));
        let line = format!("'{}' box --net none --explain | head -1; echo ${{PIPESTATUS[0]}}", program().display());
        let said = say(Command::new("bash").args(["-c", &line])).ok();
        assert!(said.ends_with("\n0\n"), "{said}");
        nothing_is_left();
    });
}

/// The system call of a step: `prctl PR_CAPBSET_DROP(…)` is prctl. A mask whose target does not exist here ends with
/// looking for it, and a priority that the caller has not raised with asking for it.
fn call_of(step: &str) -> &str {
    let name = step.split(['(', ' ']).next().unwrap_or_default();
    match name {
        _ if step.contains("(open_tree(") => "openat2",
        "sched_setattr" => "sched_getattr",
        "ioprio_set" => "ioprio_get",
        _ => name,
    }
}

/// The calls of the process that became the payload, in order, as strace wrote them.
fn calls_of_child(log: &str, command: &str) -> Vec<String> {
    let exec = format!("\"/usr/bin/{command}\"");
    let line = log.lines().rfind(|line| line.contains("execve(") && line.contains(&exec)).expect("execve");
    let pid = line.split_whitespace().next().expect("a pid");
    let own = log.lines().filter_map(|line| line.strip_prefix(pid)?.strip_prefix(' '));
    let calls = own.filter_map(|line| {
        let line = line.trim_start();
        // The second half of a call that another process interrupted.
        if line.starts_with("<...") {
            return None;
        }
        let (name, _) = line.split_once('(')?;
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then(|| name.to_owned())
    });
    let mut calls: Vec<String> = calls.collect();
    // What the payload itself does is none of the plan's.
    let last = calls.iter().rposition(|name| name == "execve").expect("execve");
    calls.truncate(last + 1);
    calls
}

/// Checks that the child made the calls of the plan in their order, and nothing beyond it that makes or changes something.
#[track_caller]
pub fn assert_strace_saw(plan: &[String], log: &str, what: &str) {
    let begin = plan.iter().position(|step| step.starts_with("close_range(")).expect("the child's part");
    let plan = &plan[begin..];
    let calls = calls_of_child(log, "true");

    let mut seen = calls.iter();
    for (number, step) in plan.iter().enumerate() {
        let wanted = call_of(step);
        assert!(seen.any(|call| call == wanted), "{what}: after {} steps no {wanted} for {step}\nin {calls:?}", number);
    }
    // Nothing that makes or changes something is done beyond the plan.
    let mut planned = BTreeMap::<&str, usize>::new();
    for step in plan {
        *planned.entry(call_of(step)).or_default() += 1;
    }
    for name in [
        "fsopen",
        "fsmount",
        "mknodat",
        "symlinkat",
        "pivot_root",
        "setsid",
        "capset",
        "sethostname",
        "keyctl",
        "umask",
        "setgroups",
        "setresuid",
        "setresgid",
        "unshare",
        "setns",
        "mkdir",
        "mkdirat",
        "chroot",
        "mount",
    ] {
        let done = calls.iter().filter(|call| *call == name).count();
        let planned = planned.get(name).copied().unwrap_or(0);
        if name == "mkdirat" {
            // The place for a mount is made where the root lacks it.
            assert!(done >= planned, "{what}: {name}");
        } else {
            assert_eq!(done, planned, "{what}: {name} in {calls:?}");
        }
    }
}

#[test]
fn strace_sees_the_plan_in_its_order() {
    faultkit::require!(root, program("strace"));
    faultkit::isolated!(|| {
        let dir = TempDir::new();
        let log = dir.join("log");
        for options in [VARIANTS[0], VARIANTS[3]] {
            let args = |mode: &'static [&str]| {
                ["box", "--name", "same"].iter().chain(mode).chain(options).copied().collect::<Vec<_>>()
            };
            let plan = steps(&say(cellrun(args(&["--explain"])).args(["--", "true"])).ok());
            let said = say(Command::new("strace")
                .args(["-f", "-qq", "-s", "200", "-o"])
                .arg(&log)
                .arg(program())
                .args(args(&[]))
                .args(["--", "true"]));
            assert_eq!(said.status, 0, "{said:?}");
            let log = fs::read_to_string(&log).expect("the log");
            assert_strace_saw(&plan, &log, &format!("{options:?}"));
        }
        nothing_is_left();
    });
}
