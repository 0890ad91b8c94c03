//! The state of the process itself, which a library must leave as it was.
#![forbid(unsafe_code)]

use std::fs;

use crate::ledger::{Kind, Lines};

/// The lines of `status` that only a deliberate call changes.
const STATUS: [&str; 15] = [
    "Umask",
    "Uid",
    "Gid",
    "Groups",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Cpus_allowed",
];

pub fn add(lines: &mut Lines) {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_else(|e| panic!("read status: {e}"));
    for line in status.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        if STATUS.contains(&key) {
            lines.add(Kind::State, format!("{key} {}", value.trim()));
        }
    }
    let cwd = fs::read_link("/proc/thread-self/cwd").unwrap_or_default();
    let root = fs::read_link("/proc/thread-self/root").unwrap_or_default();
    lines.add(Kind::State, format!("working directory {}", cwd.display()));
    lines.add(Kind::State, format!("root {}", root.display()));
    let cgroup = fs::read_to_string("/proc/thread-self/cgroup").unwrap_or_default();
    for line in cgroup.lines() {
        lines.add(Kind::State, format!("cgroup {line}"));
    }
    for (name, value) in std::env::vars_os() {
        lines.add(Kind::State, format!("environment {}={}", name.to_string_lossy(), value.to_string_lossy()));
    }
}
