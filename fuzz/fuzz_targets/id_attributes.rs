//! File capabilities and access control lists of a tree that is shifted.
#![no_main]

use idmap::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzing::attributes(bytes));
