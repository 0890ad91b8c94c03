#![forbid(unsafe_code)]

mod changes;
mod faults;
mod others;
mod same;

use std::path::PathBuf;

use mountkit::MountTable;

/// Where things are mounted, as the text of mountinfo has it: the fifth field.
fn points_in_text() -> Vec<Vec<u8>> {
    let text = std::fs::read("/proc/thread-self/mountinfo").expect("mountinfo");
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| line.split(|&byte| byte == b' ').nth(4).expect("a fifth field").to_vec()).collect()
}

fn points(table: &MountTable) -> Vec<PathBuf> {
    table.iter().map(|mount| mount.path().to_owned()).collect()
}
