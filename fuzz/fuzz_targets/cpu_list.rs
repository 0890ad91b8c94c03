//! Sets of processors and memory nodes: what is read prints as what reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ns_core::{CpuSet, NodeSet};

fuzz_target!(|text: &str| {
    if let Ok(set) = text.parse::<CpuSet>() {
        assert!(!set.is_empty() && set.iter().all(|number| number < CpuSet::END && set.contains(number)));
        assert_eq!(set.to_string().parse::<CpuSet>().ok(), Some(set));
    }
    if let Ok(set) = text.parse::<NodeSet>() {
        assert_eq!(set.to_string().parse::<NodeSet>().ok(), Some(set));
    }
});
