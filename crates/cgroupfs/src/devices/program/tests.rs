#![forbid(unsafe_code)]

use super::*;
use crate::devices::rules::tests::any_rules;
use crate::{DevNum, DeviceKind, DeviceMatch, DeviceRule, ErrorKind, OrAny};
use proptest::prelude::*;

/// Runs a program as the kernel would, from its bytes alone, and refuses what the verifier would: jumps backwards or out of
/// the program, registers that were not written, memory that is not the context, an answer that is neither 0 nor 1.
///
/// It knows the instruction set as the kernel documents it (Documentation/bpf/standardization/instruction-set.rst), of
/// which it has somewhat more than is emitted; anything else is an error, and so is an unused field that is not zero.
fn run(code: &[u8], context: [u32; 3]) -> Result<bool, String> {
    assert_eq!(code.len() % 8, 0);
    let mut registers: [Option<u64>; 11] = [None; 11];
    // Where the context is, as if at an address.
    const CONTEXT_AT: u64 = 0xffff_8880_0000_0000;
    registers[1] = Some(CONTEXT_AT);
    registers[10] = Some(0xffff_c900_0000_0000);
    let mut at = 0;
    loop {
        let insn: [u8; 8] =
            code.get(8 * at..8 * at + 8).ok_or(format!("{at}: beyond the program"))?.try_into().unwrap();
        let (opcode, offset) = (insn[0], i16::from_ne_bytes([insn[2], insn[3]]));
        let imm = i32::from_ne_bytes([insn[4], insn[5], insn[6], insn[7]]);
        let [low, high] = [insn[1] & 15, insn[1] >> 4];
        let (dst, src) = if cfg!(target_endian = "little") { (low, high) } else { (high, low) };
        let (dst, src) = (usize::from(dst), usize::from(src));
        let read = |register: usize| {
            registers.get(register).copied().flatten().ok_or(format!("{at}: r{register} was never written"))
        };
        let (class, from_register) = (opcode & 7, opcode & 8 != 0);
        let mut next = at + 1;
        match class {
            1 => {
                // BPF_LDX: a word of memory.
                if opcode != 0x61 || imm != 0 {
                    return Err(format!("{at}: a load {opcode:#x} that is not of a word"));
                }
                let place = read(src)?.wrapping_add_signed(offset.into()).wrapping_sub(CONTEXT_AT);
                let word =
                    usize::try_from(place / 4).ok().and_then(|word| context.get(word)).filter(|_| place % 4 == 0);
                registers[dst] = Some((*word.ok_or(format!("{at}: reads outside of the context"))?).into());
            }
            4 | 7 => {
                // BPF_ALU, of 32 bits with the upper ones cleared, and BPF_ALU64.
                let operand = match (from_register, imm, src) {
                    (true, 0, _) => read(src)?,
                    (false, _, 0) => imm as u64, // with its sign
                    _ => return Err(format!("{at}: an unused field is used")),
                };
                let wide = class == 7;
                let result = match opcode >> 4 {
                    0xb => operand,
                    0x5 => read(dst)? & operand,
                    0x7 if operand < 32 && wide => read(dst)? >> operand,
                    0x7 if operand < 32 => u64::from(read(dst)? as u32 >> operand),
                    other => return Err(format!("{at}: arithmetic {other:#x}")),
                };
                if offset != 0 {
                    return Err(format!("{at}: an unused field is used"));
                }
                registers[dst] = Some(if wide { result } else { u64::from(result as u32) });
            }
            5 | 6 => {
                // BPF_JMP and BPF_JMP32.
                if opcode == 0x95 {
                    return match (read(0)?, insn[1], offset, imm) {
                        (answer @ (0 | 1), 0, 0, 0) => Ok(answer == 1),
                        other => Err(format!("{at}: exit with {other:?}")),
                    };
                }
                let operand = if from_register { read(src)? } else { imm as u64 };
                let narrow = |value: u64| if class == 6 { u64::from(value as u32) } else { value };
                let taken = match opcode >> 4 {
                    0x0 if class == 5 && imm == 0 && dst == 0 => true,
                    0x1 => narrow(read(dst)?) == narrow(operand),
                    0x5 => narrow(read(dst)?) != narrow(operand),
                    0x3 => narrow(read(dst)?) >= narrow(operand),
                    0x4 => narrow(read(dst)?) & narrow(operand) != 0,
                    other => return Err(format!("{at}: a jump {other:#x}")),
                };
                if offset < 0 {
                    return Err(format!("{at}: a jump backwards"));
                }
                next += if taken { usize::from(offset.unsigned_abs()) } else { 0 };
            }
            other => return Err(format!("{at}: class {other}")),
        }
        at = next;
    }
}

fn asked(kind: DeviceKind, device: DevNum, access: u32) -> [u32; 3] {
    // enum in the kernel's <linux/bpf.h>: BPF_DEVCG_DEV_BLOCK, BPF_DEVCG_DEV_CHAR.
    let kind = match kind {
        DeviceKind::Block => 1,
        DeviceKind::Char => 2,
    };
    [access << 16 | kind, device.major, device.minor]
}

/// One rule after the other, for one access at a time: as naive as can be.
fn naive(rules: &DeviceRules, kind: DeviceKind, device: DevNum, access: u32) -> bool {
    let decided = |bit: u32| {
        let mut allowed = false;
        for rule in rules.rules() {
            let (DeviceRule::Allow(devices) | DeviceRule::Deny(devices)) = rule;
            let same = |wanted: OrAny<u32>, number| wanted == OrAny::Any || wanted == OrAny::Only(number);
            let kind = devices.kind == OrAny::Any || devices.kind == OrAny::Only(kind);
            let names = match bit {
                1 => devices.access.contains(DeviceAccess::MKNOD),
                2 => devices.access.contains(DeviceAccess::READ),
                _ => devices.access.contains(DeviceAccess::WRITE),
            };
            if kind && same(devices.major, device.major) && same(devices.minor, device.minor) && names {
                allowed = matches!(rule, DeviceRule::Allow(_));
            }
        }
        allowed
    };
    let mut asked = [1, 2, 4].into_iter().filter(|bit| access & bit != 0);
    match access {
        // access(2) with X_OK asks for none of the three: whoever may do something may know that.
        0 => [1, 2, 4].into_iter().any(decided),
        _ => asked.all(decided),
    }
}

/// Asks the program and the rules for every device that the rules can tell from others, with every access; of very many,
/// for each `stride`-th.
fn agree(rules: &DeviceRules, stride: usize) {
    let program = rules.compile().expect("compile");
    let numbers = |number: fn(&DeviceMatch) -> OrAny<u32>| {
        let mut all: Vec<u32> = vec![9, 1 << 20, u32::MAX, 1 << 31];
        for rule in rules.rules() {
            if let OrAny::Only(number) = number(rule.devices()) {
                all.push(number);
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    };
    let (majors, minors) = (numbers(|devices| devices.major), numbers(|devices| devices.minor));
    let devices = majors.iter().flat_map(|&major| minors.iter().map(move |&minor| DevNum { major, minor }));
    let questions = devices.flat_map(|device| [(DeviceKind::Char, device), (DeviceKind::Block, device)]);
    for ((kind, device), access) in
        questions.flat_map(|question| (0..8).map(move |access| (question, access))).step_by(stride)
    {
        let answer = run(program.as_bytes(), asked(kind, device, access));
        let wanted = naive(rules, kind, device, access);
        assert_eq!(answer, Ok(wanted), "{kind} {device} {access}\n{rules}{program}");
        if let Some(access) = DeviceAccess::from_bits(access as u8) {
            assert_eq!(rules.allows(kind, device, access), wanted);
        }
    }
}

fn compile(text: &str) -> DeviceProgram {
    text.parse::<DeviceRules>().expect("rules").compile().expect("compile")
}

#[test]
fn what_it_looks_like() {
    assert_eq!(compile("").to_string(), "0: w0 = 0\n1: exit\n");
    assert_eq!(compile("deny c 1:3 r\nallow a").to_string(), "0: w0 = 1\n1: exit\n");
    let wanted = "\
        0: r3 = *(u32 *)(r1 +0)\n1: w3 >>= 16\n2: if w3 & 0x4 goto pc+2\n3: w0 = 1\n4: exit\n5: w0 = 0\n6: exit\n";
    assert_eq!(compile("allow a\ndeny a *:* w").to_string(), wanted);
    let wanted = "\
        0: r2 = *(u32 *)(r1 +0)\n1: w2 &= 0xffff\n2: r4 = *(u32 *)(r1 +4)\n3: r5 = *(u32 *)(r1 +8)\n\
        4: if w2 == 0x1 goto pc+5\n5: if w4 != 0x1 goto pc+1\n6: if w5 == 0x3 goto pc+1\n7: goto pc+2\n\
        8: w0 = 1\n9: exit\n10: w0 = 0\n11: exit\n";
    assert_eq!(compile("allow c 1:3 rwm").to_string(), wanted);
    // A block for each rule, as other runtimes make them, comes to 64.
    let default = DeviceRules::oci_default().compile().expect("compile");
    assert_eq!(default.as_bytes().len() / 8, 27, "{default}");
}

#[test]
fn the_set_of_every_container() {
    agree(&DeviceRules::oci_default(), 1);
}

#[test]
fn a_thousand_devices() {
    let mut rules = DeviceRules::deny_all();
    for number in 0..1000 {
        let access = DeviceAccess::from_bits((number % 7 + 1) as u8).expect("access");
        rules = rules.allow(DeviceMatch::new(DeviceKind::Block, number % 30, number, access));
    }
    let program = rules.compile().expect("compile");
    assert!(program.as_bytes().len() / 8 < 1200, "{program:?}");
    for number in 0..1000 {
        let device = DevNum { major: number % 30, minor: number };
        for access in 0..8 {
            let answer = run(program.as_bytes(), asked(DeviceKind::Block, device, access));
            assert_eq!(answer, Ok(naive(&rules, DeviceKind::Block, device, access)));
        }
    }
}

#[test]
fn too_many_for_the_kernels_jumps() {
    let device = |minor| DeviceRule::Allow(DeviceMatch::new(DeviceKind::Char, 1, minor, DeviceAccess::ALL));
    let most: DeviceRules = (0..28_000).map(device).collect();
    assert!(most.compile().is_ok());
    let error = (0..33_000).map(device).collect::<DeviceRules>().compile().expect_err("too many");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.to_string(), "compile device rules: 35521 instructions, but a jump reaches 32,767");
}

proptest! {
    #[test]
    fn program_and_rules_agree(rules in any_rules(40)) {
        agree(&rules, 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn program_and_hundreds_of_rules_agree(rules in any_rules(400)) {
        agree(&rules, 13);
    }
}

#[test]
fn the_interpreter_refuses_what_the_kernel_would() {
    let insn = |op: Op| op.encode(0);
    let run = |ops: &[[u8; 8]]| run(ops.as_flattened(), [0; 3]).expect_err("refused");
    assert!(run(&[insn(Op::Exit)]).contains("r0 was never written"));
    assert!(run(&[insn(Op::Answer(2)), insn(Op::Exit)]).contains("exit with"));
    assert!(run(&[insn(Op::Answer(1))]).contains("beyond the program"));
    assert!(run(&[insn(Op::Load { dst: 0, offset: 12 })]).contains("outside"));
    assert!(run(&[insn(Op::Load { dst: 0, offset: 2 })]).contains("outside"));
    assert!(run(&[Op::Goto(Label::Ending(0)).encode(-1)]).contains("backwards"));
    assert!(run(&[[0x07, 0, 0, 0, 1, 0, 0, 0]]).contains("arithmetic"));
    assert!(run(&[[0x85, 0, 0, 0, 1, 0, 0, 0]]).contains("a jump"));
}
