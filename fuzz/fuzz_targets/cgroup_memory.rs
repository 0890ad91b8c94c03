//! `memory.stat`, `memory.numa_stat` and `hugetlb.*.numa_stat`.
#![no_main]

use cgroupfs::HugetlbNumaStat;
use cgroupfs::fuzzing::round_trip;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    round_trip::<HugetlbNumaStat>(text);
});
