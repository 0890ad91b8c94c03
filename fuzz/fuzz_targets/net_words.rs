//! Names, addresses, ranges and ports as people write them, and records as files have them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vethnet::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        fuzzing::words(text);
    }
    fuzzing::records(bytes);
});
