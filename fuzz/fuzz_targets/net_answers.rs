//! What the kernel says of links, addresses, routes, neighbours, qdiscs and nf_tables.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vethnet::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    fuzzing::answers(bytes);
    fuzzing::netfilter(bytes);
});
