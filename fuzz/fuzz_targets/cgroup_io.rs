//! The files of the io controller, with a line for each device.
#![no_main]

use cgroupfs::fuzzing::round_trip;
use cgroupfs::{
    BfqWeight, DevNum, IoCostLatency, IoCostModel, IoCostQos, IoLatency, IoMax, IoPriorityClass, IoStat, IoWeight,
    IoWeights, PerDevice, Percentile, ScalePercent,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    // The path of a device would be looked up.
    if text.contains('/') {
        return;
    }
    round_trip::<DevNum>(text);
    round_trip::<IoMax>(text);
    round_trip::<IoLatency>(text);
    round_trip::<IoCostQos>(text);
    round_trip::<IoCostModel>(text);
    round_trip::<IoPriorityClass>(text);
    round_trip::<PerDevice<IoMax>>(text);
    round_trip::<PerDevice<IoLatency>>(text);
    round_trip::<PerDevice<IoCostQos>>(text);
    round_trip::<PerDevice<IoCostModel>>(text);
    round_trip::<IoWeights<IoWeight>>(text);
    round_trip::<IoWeights<BfqWeight>>(text);
    round_trip::<IoCostLatency>(text);
    round_trip::<Percentile>(text);
    round_trip::<ScalePercent>(text);
    // The kernel's own, which is never written.
    let _ = text.parse::<PerDevice<IoStat>>();
});
