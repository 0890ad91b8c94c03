//! Files of a million rows: time and memory grow with the file and no faster.
#![forbid(unsafe_code)]

use crate::{SubIdTable, SubIds, User};

/// What `/proc/self/status` says of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

#[test]
fn a_million_rows_of_everybody_and_of_one() {
    let ann = User { uid: 1000, gid: Some(1000), names: vec!["ann".into()] };
    let others: String = (0..1_000_000_u32).map(|n| format!("user{n}:{}:4\n", 100_000 + n * 4)).collect();
    let mine: String = (0..1_000_000_u32).rev().map(|n| format!("ann:{}:3\n", 100_000 + n * 4)).collect();
    for (text, ranges) in [(&others, 0), (&mine, 1_000_000)] {
        let (before, begun) = (resident(), std::time::Instant::now());
        let subids = SubIds::parse(&ann, text.as_bytes(), b"");
        assert_eq!(subids.uids().len(), ranges);
        let kib = resident().saturating_sub(before);
        println!("SubIds, {ranges} of a million rows: {:?}, {kib} KiB", begun.elapsed());
        assert!(kib < 400 << 10, "{kib} KiB for a file of {} KiB", text.len() >> 10);
    }
    let (before, begun) = (resident(), std::time::Instant::now());
    let table = SubIdTable::parse(others.as_bytes(), b"", b"", b"");
    assert_eq!(table.owners_of_uid(4_099_999).len(), 1);
    assert_eq!(table.conflicts(), []);
    let kib = resident().saturating_sub(before);
    println!("SubIdTable, a million rows, and their conflicts: {:?}, {kib} KiB", begun.elapsed());
    assert!(kib < 600 << 10, "{kib} KiB for a file of {} KiB", others.len() >> 10);
}
