//! `net:[4026531840]`, as `/proc/PID/ns` and `/proc/PID/fd` have it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ns_core::fuzzing::namespace_link(bytes));
