//! Flat and nested keyed files: those of unknown keys, and those that are declared.
#![no_main]

use std::collections::BTreeMap;

use cgroupfs::fuzzing::round_trip;
use cgroupfs::{
    CgroupEvents, CgroupStat, CgroupStatLocal, CpuStat, CpuStatLocal, HugetlbEvents, MemoryEvents, MemoryStat,
    PidsEvents, SwapEvents,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(keys) = cgroupfs::parse_flat_keyed(text) {
        let printed: String = keys.iter().map(|(key, number)| format!("{key} {number}\n")).collect();
        assert_eq!(cgroupfs::parse_flat_keyed(&printed).ok(), Some(keys));
    }
    // A NUL at the end of a line is passed over, and another pair may be the last when it is printed.
    if !text.contains('\0') {
        let keys = cgroupfs::parse_nested_keyed(text);
        let line = |pairs: &BTreeMap<String, String>| -> String {
            pairs.iter().map(|(name, value)| format!(" {name}={value}")).collect()
        };
        let printed: String = keys.iter().map(|(key, pairs)| format!("{key}{}\n", line(pairs))).collect();
        assert_eq!(cgroupfs::parse_nested_keyed(&printed), keys);
    }
    round_trip::<CgroupEvents>(text);
    round_trip::<CpuStat>(text);
    round_trip::<CpuStatLocal>(text);
    round_trip::<HugetlbEvents>(text);
    round_trip::<MemoryEvents>(text);
    round_trip::<PidsEvents>(text);
    round_trip::<CgroupStat>(text);
    round_trip::<CgroupStatLocal>(text);
    round_trip::<MemoryStat>(text);
    round_trip::<SwapEvents>(text);
    cgroupfs::fuzzing::statistics(text);
});
