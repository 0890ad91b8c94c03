//! `memory.stat`, `memory.numa_stat` and `hugetlb.*.numa_stat`.
#![no_main]

use cgroupfs::fuzzing::round_trip;
use cgroupfs::{HugetlbNumaStat, MemoryNumaStat};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    round_trip::<HugetlbNumaStat>(text);
    round_trip::<MemoryNumaStat>(text);
});
