//! What the kernel demands of a filter, instruction by instruction.
//!
//! It refuses with a bare EINVAL; this says which instruction, and why. The rules are those of the kernel's own two checks:
//! one for all classic BPF (jumps, shifts, divisions, scratch memory, the end), one for seccomp (which instructions and which
//! loads).
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result, Subject};

use super::{BpfInstruction, DATA_SIZE, MAX_LENGTH};

/// The operations by their numbers: class, then size or source, then mode or operation.
pub(super) mod code {
    pub const LD_IMM: u16 = 0x00;
    pub const LD_ABS: u16 = 0x20;
    pub const LD_MEM: u16 = 0x60;
    pub const LD_LEN: u16 = 0x80;
    pub const LDX_IMM: u16 = 0x01;
    pub const LDX_MEM: u16 = 0x61;
    pub const LDX_LEN: u16 = 0x81;
    pub const ST: u16 = 0x02;
    pub const STX: u16 = 0x03;
    pub const ALU: u16 = 0x04;
    pub const JMP: u16 = 0x05;
    pub const RET_K: u16 = 0x06;
    pub const RET_A: u16 = 0x16;
    pub const TAX: u16 = 0x07;
    pub const TXA: u16 = 0x87;
    /// Where an operation or a condition takes its second value from: X, or else the constant.
    pub const SOURCE_X: u16 = 0x08;
    pub const ADD: u16 = 0x00;
    pub const SUB: u16 = 0x10;
    pub const MUL: u16 = 0x20;
    pub const DIV: u16 = 0x30;
    pub const OR: u16 = 0x40;
    pub const AND: u16 = 0x50;
    pub const LSH: u16 = 0x60;
    pub const RSH: u16 = 0x70;
    pub const NEG: u16 = 0x80;
    pub const XOR: u16 = 0xa0;
    pub const JA: u16 = 0x00;
    pub const JEQ: u16 = 0x10;
    pub const JGT: u16 = 0x20;
    pub const JGE: u16 = 0x30;
    pub const JSET: u16 = 0x40;
    /// The class, in the lowest bits.
    pub const CLASS: u16 = 0x07;
    /// The operation of ALU and JMP.
    pub const OPERATION: u16 = 0xf0;
}

pub(super) fn check(program: &[BpfInstruction]) -> Result<()> {
    if program.is_empty() || program.len() > MAX_LENGTH {
        return Err(Error::invalid("seccomp", "a filter has 1 to 4096 instructions"));
    }
    // Which cells of scratch memory have been written on every way to each instruction.
    let mut written: Vec<u16> = vec![u16::MAX; program.len()];
    // Those that have been written on the way here, straight down; nothing is known before the first.
    let mut cells = 0u16;
    for (number, instruction) in program.iter().enumerate() {
        cells &= written.get(number).copied().unwrap_or(0);
        let rest = program.len() - number - 1;
        let wrong = |why| Err(Error::invalid("seccomp", why).on(Subject::Thing(place(number, instruction))));
        if let Some(why) = alone(instruction) {
            return wrong(why);
        }
        let cell = 1u16 << (instruction.k & 15);
        match instruction.code {
            code::ST | code::STX => cells |= cell,
            code::LD_MEM | code::LDX_MEM if cells & cell == 0 => {
                return wrong("it reads scratch memory that is not written on every way here");
            }
            code if code & code::CLASS == code::JMP => {
                let distances = match code & code::OPERATION {
                    code::JA => [instruction.k; 2],
                    _ => [instruction.jt.into(), instruction.jf.into()],
                };
                for distance in distances {
                    // The kernel allows nothing that is not before the end.
                    let Some(place) = usize::try_from(distance)
                        .ok()
                        .filter(|distance| *distance < rest)
                        .and_then(|distance| written.get_mut(number + 1 + distance))
                    else {
                        return wrong("it jumps out of the program");
                    };
                    *place &= cells;
                }
                // What comes next is reached by jumps only.
                cells = u16::MAX;
            }
            _ => {}
        }
    }
    match program.last() {
        Some(last) if [code::RET_K, code::RET_A].contains(&last.code) => Ok(()),
        Some(last) => {
            let error = Error::invalid("seccomp", "a filter ends with a return");
            Err(error.on(Subject::Thing(place(program.len() - 1, last))))
        }
        None => Ok(()),
    }
}

fn place(number: usize, instruction: &BpfInstruction) -> String {
    let BpfInstruction { code, jt, jf, k } = instruction;
    format!("instruction {number} (code {code:#06x}, jt {jt}, jf {jf}, k {k:#x})")
}

/// What is wrong with an instruction wherever it stands.
fn alone(instruction: &BpfInstruction) -> Option<&'static str> {
    let BpfInstruction { code, k, .. } = *instruction;
    match code {
        code::LD_ABS if k % 4 != 0 || k >= DATA_SIZE => Some("a load is of one of the 16 words of seccomp_data"),
        code::LD_MEM | code::LDX_MEM | code::ST | code::STX if k > 15 => Some("scratch memory has 16 cells"),
        code::LD_ABS | code::LD_IMM | code::LD_MEM | code::LD_LEN => None,
        code::LDX_IMM | code::LDX_MEM | code::LDX_LEN | code::ST | code::STX => None,
        code::RET_K | code::RET_A | code::TAX | code::TXA => None,
        code if code & code::CLASS == code::ALU => alu(code, k),
        code if code & code::CLASS == code::JMP => jump(code),
        _ => Some("no filter may have such an instruction"),
    }
}

fn alu(code: u16, k: u32) -> Option<&'static str> {
    let of_constant = code & code::SOURCE_X == 0;
    if code & !(code::CLASS | code::SOURCE_X | code::OPERATION) != 0 {
        return Some("no filter may have such an instruction");
    }
    match code & code::OPERATION {
        code::DIV if of_constant && k == 0 => Some("it divides by zero"),
        code::LSH | code::RSH if of_constant && k >= 32 => Some("it shifts by more than 31"),
        code::NEG if !of_constant => Some("no filter may have such an instruction"),
        code::ADD | code::SUB | code::MUL | code::DIV | code::OR | code::AND | code::LSH | code::RSH | code::NEG => {
            None
        }
        code::XOR => None,
        _ => Some("no filter may have such an instruction"),
    }
}

fn jump(code: u16) -> Option<&'static str> {
    let known = code & !(code::CLASS | code::SOURCE_X | code::OPERATION) == 0;
    match code & code::OPERATION {
        code::JA if known && code & code::SOURCE_X == 0 => None,
        code::JEQ | code::JGT | code::JGE | code::JSET if known => None,
        _ => Some("no filter may have such an instruction"),
    }
}
