//! Datagrams of netlink as the kernel may send them, and the attributes in them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vethnet::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    fuzzing::framing(bytes);
    fuzzing::attributes(bytes);
});
