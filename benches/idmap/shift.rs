//! A tree whose owners are shifted: the call, from an open directory to the result.
#![forbid(unsafe_code)]

use std::fs::File;
use std::time::{Duration, Instant};

use idmap::{IdMaps, Shift};

/// `out` shifts the tree to the ids outside, `in` back, and `check` looks only.
pub(crate) fn time(way: &str, dir: &str) -> Duration {
    let maps: IdMaps = "100000:100000:65536".parse().expect("maps");
    let tree = File::open(dir).expect("directory");
    let begun = Instant::now();
    let shifted = match way {
        "out" => Shift::to_outside(&maps).apply(&tree),
        "in" => Shift::to_inside(&maps).apply(&tree),
        "check" => Shift::to_outside(&maps).check(&tree),
        _ => panic!("what is {way}?"),
    };
    let time = begun.elapsed();
    let shifted = shifted.expect("shift");
    assert!(shifted.changed > 0 && shifted.settled == 0, "{shifted:?}");
    time
}
