//! Lists of processors and memory nodes, and partitions with the kernel's words for what is wrong with one.
#![no_main]

use cgroupfs::fuzzing::round_trip;
use cgroupfs::{CpuList, MemNodeList, Partition, PartitionState};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    round_trip::<CpuList>(text);
    round_trip::<MemNodeList>(text);
    round_trip::<Partition>(text);
    round_trip::<PartitionState>(text);
});
