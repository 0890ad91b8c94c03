//! resolv.conf and hosts files, as any program or image may have left them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vethnet::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::files(bytes));
