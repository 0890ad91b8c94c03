//! What /proc says of control groups: mountinfo, `/proc/PID/cgroup`, `/proc/cgroups`, fdinfo; and lists of processes.
#![no_main]

use cgroupfs::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    fuzzing::mountinfo(bytes);
    fuzzing::membership(bytes);
    fuzzing::tables(bytes);
    fuzzing::procs(&String::from_utf8_lossy(bytes));
});
