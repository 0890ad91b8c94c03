//! What a filter answers, found as the kernel finds it.
//!
//! Of the calls that the child makes once its filter is installed not everything is known beforehand: the address of a
//! buffer on its stack, the number of a descriptor. A word that is not known stays so through arithmetic; where a condition
//! depends on it, both ways are followed. A program only ever jumps forward, so every way ends.
#![forbid(unsafe_code)]

use super::validate::code;
use super::{BpfInstruction, DATA_SIZE, SeccompAction, SeccompCall};

/// A word of `seccomp_data`, or of the machine: `None` when it is not known.
pub(crate) type Word = Option<u32>;

/// How many instructions are followed, over all ways, before the question is given up.
const PATIENCE: usize = 1 << 16;

/// Every answer there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcomes {
    /// These, each once.
    All(Vec<SeccompAction>),
    /// An answer that is computed from what is not known, or too many ways to follow.
    Undetermined,
}

/// The sixteen words of `seccomp_data`. Of the arguments, those that are not known are `None`.
pub(crate) fn words_of(number: i32, arch: u32, pointer: Option<u64>, arguments: [Option<u64>; 6]) -> [Word; 16] {
    let mut words = [
        Some(number as u32),
        Some(arch),
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
    ];
    let longs = std::iter::once(pointer).chain(arguments);
    let (halves, _) = words.split_at_mut(16);
    for (place, long) in halves.chunks_mut(2).skip(1).zip(longs) {
        let (low, high) = (long.map(|long| long as u32), long.map(|long| (long >> 32) as u32));
        let pair = if cfg!(target_endian = "little") { [low, high] } else { [high, low] };
        place.copy_from_slice(&pair);
    }
    words
}

/// The answer to a call of which everything is known.
pub(super) fn answer(program: &[BpfInstruction], call: &SeccompCall) -> u32 {
    let words = words_of(call.number, call.arch, Some(call.instruction_pointer), call.arguments.map(Some));
    let mut machine = Machine::default();
    loop {
        match machine.step(program, &words) {
            Next::Go => {}
            Next::Answer(answer) => return answer.unwrap_or(0),
            // Nothing is unknown, so nothing forks.
            Next::Fork(_) => return 0,
        }
    }
}

/// Every answer to a call of which some words are not known.
pub(super) fn outcomes(program: &[BpfInstruction], words: &[Word; 16]) -> Outcomes {
    let mut waiting = vec![Machine::default()];
    let mut found: Vec<SeccompAction> = Vec::new();
    let mut patience = PATIENCE;
    while let Some(mut machine) = waiting.pop() {
        loop {
            if patience == 0 {
                return Outcomes::Undetermined;
            }
            patience -= 1;
            match machine.step(program, words) {
                Next::Go => {}
                Next::Fork(other) => waiting.push(other),
                Next::Answer(Some(answer)) => {
                    let action = SeccompAction::from_answer(answer);
                    if !found.contains(&action) {
                        found.push(action);
                    }
                    break;
                }
                // Computed from what is not known: anything.
                Next::Answer(None) => return Outcomes::Undetermined,
            }
        }
    }
    Outcomes::All(found)
}

#[derive(Clone, Copy, Debug)]
struct Machine {
    at: usize,
    a: Word,
    x: Word,
    cells: [Word; 16],
}

impl Default for Machine {
    /// As the kernel starts it: the registers are zero, and scratch memory is not read before it is written.
    fn default() -> Self {
        Self { at: 0, a: Some(0), x: Some(0), cells: [Some(0); 16] }
    }
}

enum Next {
    Go,
    Answer(Word),
    /// This machine goes one way, that one the other.
    Fork(Machine),
}

impl Machine {
    /// Runs one instruction of a program that was checked. Running off its end, which cannot be, kills.
    fn step(&mut self, program: &[BpfInstruction], words: &[Word; 16]) -> Next {
        let Some(&BpfInstruction { code, jt, jf, k }) = program.get(self.at) else { return Next::Answer(Some(0)) };
        self.at += 1;
        let cell = (k & 15) as usize;
        let second = if code & code::SOURCE_X == 0 { Some(k) } else { self.x };
        match code {
            code::LD_IMM => self.a = Some(k),
            code::LD_ABS => self.a = words.get(k as usize / 4).copied().flatten(),
            code::LD_MEM => self.a = self.cells.get(cell).copied().flatten(),
            code::LD_LEN => self.a = Some(DATA_SIZE),
            code::LDX_IMM => self.x = Some(k),
            code::LDX_MEM => self.x = self.cells.get(cell).copied().flatten(),
            code::LDX_LEN => self.x = Some(DATA_SIZE),
            code::ST => self.store(cell, self.a),
            code::STX => self.store(cell, self.x),
            code::RET_K => return Next::Answer(Some(k)),
            code::RET_A => return Next::Answer(self.a),
            code::TAX => self.x = self.a,
            code::TXA => self.a = self.x,
            _ if code & code::CLASS == code::ALU => return self.alu(code & code::OPERATION, second),
            _ => return self.jump(code & code::OPERATION, second, [jt.into(), jf.into()], k),
        }
        Next::Go
    }

    fn store(&mut self, cell: usize, value: Word) {
        if let Some(place) = self.cells.get_mut(cell) {
            *place = value;
        }
    }

    fn alu(&mut self, operation: u16, second: Word) -> Next {
        // A division by an X that is zero ends the program with zero, which kills the thread.
        if operation == code::DIV && second == Some(0) {
            return Next::Answer(Some(0));
        }
        let unsure = operation == code::DIV && second.is_none();
        self.a = match (operation, self.a, second) {
            (code::NEG, Some(a), _) => Some(a.wrapping_neg()),
            (code::ADD, Some(a), Some(b)) => Some(a.wrapping_add(b)),
            (code::SUB, Some(a), Some(b)) => Some(a.wrapping_sub(b)),
            (code::MUL, Some(a), Some(b)) => Some(a.wrapping_mul(b)),
            (code::DIV, Some(a), Some(b)) => a.checked_div(b),
            (code::OR, Some(a), Some(b)) => Some(a | b),
            (code::AND, Some(a), Some(b)) => Some(a & b),
            (code::XOR, Some(a), Some(b)) => Some(a ^ b),
            // By the lowest five bits of X, as the kernel's translation has it.
            (code::LSH, Some(a), Some(b)) => Some(a.wrapping_shl(b)),
            (code::RSH, Some(a), Some(b)) => Some(a.wrapping_shr(b)),
            // Whatever the other may be.
            (code::AND, Some(0), None) | (code::AND, None, Some(0)) => Some(0),
            _ => None,
        };
        match unsure {
            // The other way is the one that ends: a place where no instruction is answers zero.
            true => Next::Fork(Self { at: usize::MAX - 1, ..*self }),
            false => Next::Go,
        }
    }

    fn jump(&mut self, operation: u16, second: Word, [jt, jf]: [usize; 2], k: u32) -> Next {
        let truth = match (operation, self.a, second) {
            (code::JA, ..) => {
                self.at = self.at.saturating_add(k as usize);
                return Next::Go;
            }
            (code::JEQ, Some(a), Some(b)) => Some(a == b),
            (code::JGT, Some(a), Some(b)) => Some(a > b),
            (code::JGE, Some(a), Some(b)) => Some(a >= b),
            (code::JSET, Some(a), Some(b)) => Some(a & b != 0),
            _ => None,
        };
        let other = Self { at: self.at + jf, ..*self };
        match truth {
            Some(true) => self.at += jt,
            Some(false) => self.at += jf,
            None if jt == jf => self.at += jt,
            None => {
                self.at += jt;
                return Next::Fork(other);
            }
        }
        Next::Go
    }
}
