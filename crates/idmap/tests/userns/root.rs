//! As root, in processes of their own.
#![forbid(unsafe_code)]

mod cache;
mod faults;
mod made;
mod nobody_notices;

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

use idmap::{Caller, IdMaps, MapPlan, SubIds, UsernsFd};

fn plan(text: &str) -> MapPlan {
    let maps: IdMaps = text.parse().expect("maps");
    let caller = Caller::current().expect("caller");
    MapPlan::explicit(maps, &caller, &SubIds::of(&caller).expect("subids")).expect("plan")
}

/// Runs a program in it with util-linux's nsenter(1), as its root, and answers what it says, with single blanks.
fn inside(userns: &UsernsFd, words: &[&str]) -> String {
    let path = format!("--user=/proc/{}/fd/{}", std::process::id(), userns.as_fd().as_raw_fd());
    let output = Command::new("nsenter").arg(path).args(words).output().expect("nsenter");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The children of all threads, zombies too, as the kernel lists them.
fn children() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").expect("task");
    let lists = tasks.filter_map(|task| fs::read_to_string(task.expect("task").path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}
