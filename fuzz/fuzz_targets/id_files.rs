//! What decides who may map what: files of /etc, the answer of getsubids, the words of the kernel.
#![no_main]

use idmap::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    fuzzing::accounts(bytes);
    fuzzing::getsubids(bytes);
    fuzzing::surroundings(bytes);
});
