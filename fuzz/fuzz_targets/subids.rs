//! `/etc/subuid` and `/etc/subgid`, which others may have had a hand in.
#![no_main]

use std::sync::LazyLock;

use idmap::{Caller, IdRange, SubIds};
use libfuzzer_sys::fuzz_target;

static CALLER: LazyLock<Caller> = LazyLock::new(|| Caller::current().expect("caller"));

/// Whose ranges do not overlap, whatever the rows do.
fn check(ranges: &[IdRange]) {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|range| range.start());
    for (low, high) in sorted.iter().zip(sorted.iter().skip(1)) {
        assert!(low.last() < high.start(), "{low} and {high}");
    }
}

fuzz_target!(|bytes: &[u8]| {
    // Two files with a byte between them that neither has.
    let (subuid, rest) = bytes.split_at(bytes.iter().position(|&byte| byte == 1).unwrap_or(bytes.len()));
    let subgid = rest.get(1..).unwrap_or_default();
    let subids = SubIds::parse(&*CALLER, subuid, subgid);
    check(subids.uids());
    check(subids.gids());
    // A row at the end changes no id that was mapped before.
    if !subuid.contains(&0) {
        let longer = [subuid, format!("\n{}:4000000000:1000\n", CALLER.uid()).as_bytes()].concat();
        let more = SubIds::parse(&*CALLER, &longer, subgid);
        assert!(more.uids().starts_with(subids.uids()), "{more:?}");
        check(more.uids());
    }
});
