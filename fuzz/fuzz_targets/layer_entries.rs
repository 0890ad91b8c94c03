//! A layer as a tar archive: any bytes end, and no entry says what its writer could not mean.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|archive: &[u8]| mountkit::fuzzing::layer_entries(archive));
