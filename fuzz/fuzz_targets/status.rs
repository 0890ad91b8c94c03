//! `/proc/PID/status`: capability sets, and single fields.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ns_core::{Capabilities, fuzzing};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(sets) = Capabilities::from_status(&String::from_utf8_lossy(bytes)) {
        let lines = [sets.bounding, sets.permitted, sets.effective, sets.inheritable, sets.ambient];
        let names = ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"];
        let text: String =
            names.iter().zip(lines).map(|(name, set)| format!("{name}:\t{:016x}\n", set.bits())).collect();
        assert_eq!(Capabilities::from_status(&text).ok(), Some(sets));
    }
    fuzzing::status_fields(bytes);
});
