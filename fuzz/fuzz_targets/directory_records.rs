//! What getdents64(2) writes, and the numbers of processes in it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ns_core::fuzzing::directory_records(bytes));
