//! `/proc/PID/fdinfo/FD` of a pidfd: the number of the process.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| cellkit_core::fuzzing::fdinfo(bytes));
