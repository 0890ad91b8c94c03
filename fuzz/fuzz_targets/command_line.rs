//! `/proc/PID/cmdline` and `comm`: what a process shows of itself.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ns_core::fuzzing::command_line(bytes));
