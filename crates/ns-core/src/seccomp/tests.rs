#![forbid(unsafe_code)]

use proptest::prelude::*;

use super::validate::code;
use super::*;

fn op(code: u16, jt: u8, jf: u8, k: u32) -> BpfInstruction {
    BpfInstruction { code, jt, jf, k }
}

const ALLOW: u32 = 0x7fff_0000;

#[test]
fn programs_that_the_kernel_would_refuse() {
    let ret = op(code::RET_K, 0, 0, ALLOW);
    for (program, said) in [
        (vec![], "1 to 4096"),
        (vec![ret; 4097], "1 to 4096"),
        (vec![op(code::LD_ABS, 0, 0, 0)], "ends with a return"),
        (vec![op(code::LD_ABS, 0, 0, 2), ret], "16 words"),
        (vec![op(code::LD_ABS, 0, 0, 64), ret], "16 words"),
        // A load of a byte, of a half, by X; a modulo; a return of X.
        (vec![op(0x30, 0, 0, 0), ret], "no filter may"),
        (vec![op(0x28, 0, 0, 0), ret], "no filter may"),
        (vec![op(0x40, 0, 0, 0), ret], "no filter may"),
        (vec![op(0x94, 0, 0, 3), ret], "no filter may"),
        (vec![op(0x0e, 0, 0, 3)], "no filter may"),
        (vec![op(0xffff, 0, 0, 0), ret], "no filter may"),
        (vec![op(code::JMP | code::JA, 0, 0, 1), ret], "jumps out"),
        (vec![op(code::JMP | code::JA, 0, 0, u32::MAX), ret], "jumps out"),
        (vec![op(code::JMP | code::JEQ, 0, 1, 0), ret], "jumps out"),
        (vec![op(code::JMP | code::JEQ, 1, 0, 0), ret], "jumps out"),
        (vec![op(code::ALU | code::DIV, 0, 0, 0), ret], "divides by zero"),
        (vec![op(code::ALU | code::LSH, 0, 0, 32), ret], "shifts"),
        (vec![op(code::ST, 0, 0, 16), ret], "16 cells"),
        (vec![op(code::LD_MEM, 0, 0, 0), ret], "not written"),
        // Written on one way only.
        (
            vec![op(code::JMP | code::JEQ, 0, 1, 0), op(code::ST, 0, 0, 1), op(code::LD_MEM, 0, 0, 1), ret],
            "not written",
        ),
    ] {
        let error = Seccomp::new(program.iter().copied()).expect_err(said);
        assert!(error.to_string().contains(said), "{said}: {error}");
        assert_eq!((error.kind(), error.operation()), (cellkit_core::ErrorKind::Invalid, "seccomp"));
    }
    let both = [
        op(code::JMP | code::JEQ, 0, 2, 0),
        op(code::ST, 0, 0, 1),
        op(code::JMP | code::JA, 0, 0, 1),
        op(code::ST, 0, 0, 1),
        op(code::LD_MEM, 0, 0, 1),
        ret,
    ];
    assert!(Seccomp::new(both).is_ok());
    assert!(Seccomp::new(vec![ret; 4096]).is_ok());
}

#[test]
fn bytes() {
    let program = [op(0x20, 0, 0, 4), op(0x06, 0, 0, ALLOW)];
    let bytes: Vec<u8> = program
        .iter()
        .flat_map(|op| [&op.code.to_ne_bytes()[..], &[op.jt, op.jf], &op.k.to_ne_bytes()].concat())
        .collect();
    assert_eq!(Seccomp::from_bytes(&bytes).expect("program").program(), program);
    for wrong in [&bytes[..15], &bytes[..8], &[]] {
        assert!(Seccomp::from_bytes(wrong).is_err());
    }
}

#[test]
fn what_is_not_known_is_followed_both_ways() {
    let asks_argument = [
        op(code::LD_ABS, 0, 0, 16),
        op(code::JMP | code::JEQ, 0, 1, 7),
        op(code::RET_K, 0, 0, 0x0005_0001),
        op(code::RET_K, 0, 0, ALLOW),
    ];
    let filter = Seccomp::new(asks_argument).expect("program");
    let words = |first| words_of(1, 2, None, [first, Some(0), Some(0), Some(0), Some(0), Some(0)]);
    let low = if cfg!(target_endian = "little") { 7u64 } else { 7 << 32 };
    assert_eq!(filter.outcomes(&words(Some(low))), Outcomes::All(vec![SeccompAction::Errno(1)]));
    assert_eq!(filter.outcomes(&words(Some(0))), Outcomes::All(vec![SeccompAction::Allow]));
    let Outcomes::All(mut both) = filter.outcomes(&words(None)) else { panic!("two ways") };
    both.sort_by_key(|action| action.lets_through());
    assert_eq!(both, [SeccompAction::Errno(1), SeccompAction::Allow]);
    // The answer itself depends on it; or there are more ways than anybody follows.
    let returns_it = Seccomp::new([op(code::LD_ABS, 0, 0, 16), op(code::RET_A, 0, 0, 0)]).expect("program");
    assert_eq!(returns_it.outcomes(&words(None)), Outcomes::Undetermined);
    let fork = [op(code::LD_ABS, 0, 0, 16), op(code::JMP | code::JSET, 0, 1, 1), op(code::ST, 0, 0, 0)];
    let mut many: Vec<_> = std::iter::repeat_n(fork, 100).flatten().collect();
    many.push(op(code::RET_K, 0, 0, ALLOW));
    assert_eq!(Seccomp::new(many).expect("program").outcomes(&words(None)), Outcomes::Undetermined);
}

#[test]
fn divisions_by_what_may_be_zero() {
    let program =
        [op(code::LDX_IMM, 0, 0, 0), op(code::ALU | code::DIV | code::SOURCE_X, 0, 0, 0), op(code::RET_K, 0, 0, ALLOW)];
    let call = SeccompCall::native(0, [0; 6]);
    assert_eq!(Seccomp::new(program).expect("program").evaluate(&call), SeccompAction::KillThread);
    let unknown = [
        op(code::LD_ABS, 0, 0, 16),
        op(code::TAX, 0, 0, 0),
        op(code::ALU | code::DIV | code::SOURCE_X, 0, 0, 0),
        op(code::RET_K, 0, 0, ALLOW),
    ];
    let words = words_of(1, 2, None, [None; 6]);
    let Outcomes::All(found) = Seccomp::new(unknown).expect("program").outcomes(&words) else { panic!("two ways") };
    assert!(found.contains(&SeccompAction::KillThread) && found.contains(&SeccompAction::Allow));
}

/// Instructions that mostly make sense, so that whole programs do now and then.
fn instruction() -> impl Strategy<Value = BpfInstruction> {
    let codes = prop::sample::select(vec![
        0x00u16, 0x20, 0x60, 0x80, 0x01, 0x61, 0x81, 0x02, 0x03, 0x04, 0x0c, 0x14, 0x1c, 0x24, 0x34, 0x3c, 0x44, 0x54,
        0x64, 0x6c, 0x74, 0x7c, 0x84, 0xa4, 0xac, 0x05, 0x15, 0x1d, 0x25, 0x35, 0x45, 0x4d, 0x06, 0x16, 0x07, 0x87,
    ]);
    (codes, 0u8..3, 0u8..3, prop_oneof![0u32..20, any::<u32>()]).prop_map(|(code, jt, jf, k)| op(code, jt, jf, k))
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = Seccomp::from_bytes(&bytes);
    }

    #[test]
    fn one_known_call_has_one_answer(
        program in prop::collection::vec(instruction(), 1..20),
        number: i32,
        arguments: [u64; 6],
    ) {
        let mut program = program;
        program.push(op(code::RET_A, 0, 0, 0));
        if let Ok(filter) = Seccomp::new(program) {
            let call = SeccompCall::native(number, arguments);
            let words = words_of(number, call.arch, Some(0), arguments.map(Some));
            prop_assert_eq!(filter.outcomes(&words), Outcomes::All(vec![filter.evaluate(&call)]));
            // Knowing less, the same answer is among those there may be.
            let less = words_of(number, call.arch, None, [None; 6]);
            if let Outcomes::All(found) = filter.outcomes(&less) {
                prop_assert!(found.contains(&filter.evaluate(&call)));
            }
        }
    }
}
