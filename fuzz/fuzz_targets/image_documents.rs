//! The JSON documents of an image: whatever they are, an answer, and nothing in it that a path or a program would stumble over.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| mountkit::fuzzing::image_documents(json));
