//! Files of one value: amounts, limits, weights, shares and switches.
#![no_main]

use cgroupfs::fuzzing::round_trip;
use cgroupfs::{
    Bytes, CpuBurst, CpuIdle, Depth, DescendantCount, Max, MemoryPlusSwap, NiceWeight, OomGroup, PidsMax, Quota,
    SwapOnly, Swappiness, Uclamp, Weight, ZswapWriteback,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    round_trip::<Bytes>(text);
    round_trip::<Max<Bytes>>(text);
    round_trip::<Max<PidsMax>>(text);
    round_trip::<Max<u64>>(text);
    round_trip::<Max<Depth>>(text);
    round_trip::<Max<DescendantCount>>(text);
    round_trip::<Quota>(text);
    round_trip::<CpuBurst>(text);
    round_trip::<Weight>(text);
    round_trip::<NiceWeight>(text);
    round_trip::<CpuIdle>(text);
    round_trip::<Uclamp>(text);
    round_trip::<SwapOnly>(text);
    round_trip::<MemoryPlusSwap>(text);
    round_trip::<OomGroup>(text);
    round_trip::<Swappiness>(text);
    round_trip::<ZswapWriteback>(text);
    if let Ok(quota) = Quota::parse_cpus(text) {
        assert_eq!(quota.to_string().parse::<Quota>().ok(), Some(quota));
    }
});
