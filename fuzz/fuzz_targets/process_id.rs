//! Process ids from a state file: what is read prints as the very same text.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(id) = text.parse::<ns_core::ProcessId>() {
        assert_eq!(id.to_string(), text);
    }
});
