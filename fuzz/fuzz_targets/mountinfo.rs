//! `/proc/PID/mountinfo`: the mounts of nsfs, and with `/proc/PID/cgroup` (up to the first NUL) the group that counts processes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ns_core::fuzzing::mountinfo(bytes));
