//! Names of capabilities, and sets of them: what is read prints as what reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ns_core::{Capability, CapabilitySet};

fuzz_target!(|text: &str| {
    if let Ok(capability) = text.parse::<Capability>() {
        assert_eq!(capability.name().parse::<Capability>().ok(), Some(capability));
    }
    if let Ok(set) = text.parse::<CapabilitySet>() {
        assert_eq!(set.to_string().parse::<CapabilitySet>().ok(), Some(set));
    }
});
