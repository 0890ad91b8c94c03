//! Sizes of huge pages, and the files of rdma, misc and dmem, with a line for each resource.
#![no_main]

use cgroupfs::fuzzing::round_trip;
use cgroupfs::{Bytes, HugePageSize, Max, MiscEvents, PerResource, RdmaLimit, ResourceName};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    round_trip::<HugePageSize>(text);
    round_trip::<ResourceName>(text);
    round_trip::<RdmaLimit>(text);
    round_trip::<PerResource<RdmaLimit>>(text);
    round_trip::<PerResource<Max<u64>>>(text);
    round_trip::<PerResource<Bytes>>(text);
    round_trip::<PerResource<Max<Bytes>>>(text);
    round_trip::<MiscEvents>(text);
});
