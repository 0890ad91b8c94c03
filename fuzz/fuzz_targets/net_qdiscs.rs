//! Options of queueing disciplines, of every kind that is understood.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vethnet::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::qdiscs(bytes));
