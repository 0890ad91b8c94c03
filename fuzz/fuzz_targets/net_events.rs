//! What the kernel tells by itself of links, addresses, routes and neighbours, message after message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vethnet::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::events(bytes));
