//! A call (68 bytes) and a seccomp filter in the kernel's form for it to meet: a filter that is taken gives an answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ns_core::{Seccomp, SeccompCall};

fuzz_target!(|bytes: &[u8]| {
    let Some((call, program)) = bytes.split_first_chunk::<68>() else { return };
    let (number, words) = call.split_at(4);
    let word = |at: usize| u64::from_ne_bytes(words[8 * at..][..8].try_into().unwrap());
    let call = SeccompCall {
        number: i32::from_ne_bytes(number.try_into().unwrap()),
        arch: word(0) as u32,
        instruction_pointer: word(1),
        arguments: std::array::from_fn(|at| word(2 + at)),
    };
    if let Ok(filter) = Seccomp::from_bytes(program) {
        let _ = filter.evaluate(&call);
        assert_eq!(Seccomp::new(filter.program().iter().copied()).ok(), Some(filter));
    }
});
