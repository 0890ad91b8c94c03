//! Pressure stall information: shares of a hundred without rounding.
#![no_main]

use cgroupfs::fuzzing::round_trip;
use cgroupfs::{Percent, Pressure, PressureStall, PsiResource, PsiThreshold};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    round_trip::<PressureStall>(text);
    round_trip::<Pressure>(text);
    round_trip::<Percent>(text);
    round_trip::<PsiResource>(text);
    round_trip::<PsiThreshold>(text);
});
