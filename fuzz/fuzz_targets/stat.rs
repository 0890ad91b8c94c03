//! `/proc/PID/stat`: the time of a process's start, behind a name that may hold any byte.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ns_core::fuzzing::stat(bytes));
