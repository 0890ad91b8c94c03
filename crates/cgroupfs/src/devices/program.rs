//! Rules as a program that the kernel runs at each opening and making of a device.
//!
//! # Theory of operation
//!
//! The kernel calls the program with three numbers and allows what it answers with 1:
//!
//! ```text
//!   r1 ──► struct bpf_cgroup_dev_ctx { access_type: access << 16 | kind, major, minor }
//! ```
//!
//! Order has been worked out of the rules before ([`Table`]), so the program need not keep account of anything: it finds
//! the device in the table, and what was asked for is in what is allowed of it, or is not. A device that is named costs
//! one comparison, and all of the same kind, major and minor are behind one test each:
//!
//! ```text
//!       r2 = kind, r3 = access, r4 = major, r5 = minor          only those that the table asks for
//!       if r2 == BLOCK goto block                               only if the kinds differ
//!       if r4 != 1 goto next                                    a row …
//!       if r5 == 3 goto rwm                                     … its minors …
//!       goto m                                                  … any other of them
//! next: …
//! m:    if r3 & ~m goto none                                    an ending for each set that occurs: eight at most
//!       return 1
//! none: return 0
//! ```
//!
//! Where there are many rows, or many minors in one, a comparison halves them first.
//!
//! All jumps go forward, and no register changes after the beginning, so the verifier has little to look at: an ending is
//! the same to it wherever it is reached from. Registers are compared as 32 bits wide (BPF_JMP32, Linux 5.1), because an
//! immediate number would be extended by its sign in a comparison of 64.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::table::{Bits, KindTable, Row, Table};
use crate::{DeviceAccess, DeviceRules, Error, Result};

/// A program of type BPF_PROG_TYPE_CGROUP_DEVICE, made from [`DeviceRules`].
///
/// [`Devices::attach`](crate::Devices::attach) compiles and loads it by itself; have one to look at it, or to load it by
/// other means. It prints in the words of the kernel's verifier:
///
/// ```
/// use cgroupfs::DeviceRules;
///
/// let program = "allow c 1:3 rw".parse::<DeviceRules>()?.compile()?;
/// assert_eq!(program.to_string().lines().next(), Some("0: r2 = *(u32 *)(r1 +0)"));
/// assert_eq!(program.as_bytes().len(), 8 * program.to_string().lines().count());
/// // Rules that mean the same make the same program.
/// assert_eq!(program, "allow c 1:3 w\nallow c 1:3 r".parse::<DeviceRules>()?.compile()?);
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See bpf(2): <https://man7.org/linux/man-pages/man2/bpf.2.html>.
#[derive(Clone, PartialEq, Eq)]
pub struct DeviceProgram {
    code: Vec<u8>,
    text: Vec<String>,
}

impl DeviceRules {
    /// Makes the program. Pure: the kernel is not asked.
    ///
    /// # Errors
    /// Invalid when it would be too long for the kernel's jumps, at about 30,000 devices by number.
    pub fn compile(&self) -> Result<DeviceProgram> {
        Assembler::new(&Table::new(self)).finish()
    }
}

impl DeviceProgram {
    /// The instructions, 8 bytes each, in this machine's byte order: an array of the kernel's `struct bpf_insn`.
    #[doc(alias = "bpf_insn")]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.code
    }
}

impl fmt::Display for DeviceProgram {
    /// One instruction a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.iter().enumerate().try_for_each(|(number, text)| writeln!(f, "{number}: {text}"))
    }
}

impl fmt::Debug for DeviceProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceProgram").field("instructions", &self.text.len()).finish_non_exhaustive()
    }
}

/// Registers, as the program uses them throughout.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// BPF_DEVCG_DEV_BLOCK and BPF_DEVCG_DEV_CHAR. There is no third.
const BLOCK: u32 = 1;
const CHAR: u32 = 2;
const ALL: Bits = DeviceAccess::ALL.bits();

/// Where a jump goes to: a place that is bound to an instruction later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    /// The ending for devices of which this is allowed.
    Ending(Bits),
    /// Any other place.
    Place(usize),
}

/// An instruction, before its jump has a distance.
#[derive(Clone, Copy, Debug)]
enum Op {
    /// `dst = *(u32 *)(r1 + offset)`
    Load { dst: u8, offset: i16 },
    /// `dst = src`
    Copy { dst: u8, src: u8 },
    /// `dst &= imm`
    And { dst: u8, imm: u32 },
    /// `dst >>= imm`
    Shift { dst: u8, imm: u32 },
    /// `if dst == imm goto to`
    IfEqual { dst: u8, imm: u32, to: Label },
    /// `if dst != imm goto to`
    IfNotEqual { dst: u8, imm: u32, to: Label },
    /// `if dst >= imm goto to`
    IfAtLeast { dst: u8, imm: u32, to: Label },
    /// `if dst & imm goto to`
    IfAnyOf { dst: u8, imm: u32, to: Label },
    /// `goto to`
    Goto(Label),
    /// `r0 = imm`
    Answer(u32),
    /// `exit`
    Exit,
}

#[derive(Debug, Default)]
struct Assembler {
    ops: Vec<Op>,
    bound: BTreeMap<Label, usize>,
    places: usize,
}

impl Assembler {
    fn new(table: &Table) -> Self {
        let mut program = Self::default();
        // The simpler kind is jumped to.
        let (number, kind, rest) = match table.char.uniform() {
            Some(_) => (CHAR, &table.char, &table.block),
            None => (BLOCK, &table.block, &table.char),
        };
        if table.char == table.block {
            program.kind(rest);
        } else if let Some(bits) = kind.uniform() {
            program.ops.push(Op::IfEqual { dst: KIND, imm: number, to: Label::Ending(bits) });
            program.kind(rest);
        } else {
            let place = program.place();
            program.ops.push(Op::IfEqual { dst: KIND, imm: number, to: place });
            program.kind(rest);
            program.bind(place);
            program.kind(kind);
        }
        program.endings();
        program.without_idle_jumps();
        program.beginning();
        program
    }

    fn place(&mut self) -> Label {
        self.places += 1;
        Label::Place(self.places)
    }

    fn bind(&mut self, label: Label) {
        self.bound.insert(label, self.ops.len());
    }

    fn kind(&mut self, table: &KindTable) {
        let other = self.place();
        let rows: Vec<(u32, &Row)> = table.majors.iter().map(|(&major, row)| (major, row)).collect();
        self.rows(&rows, &table.other, other);
        self.bind(other);
        self.minors(&list(&table.other.minors), Label::Ending(table.other.other));
    }

    fn rows(&mut self, rows: &[(u32, &Row)], table_other: &Row, other: Label) {
        if let Some((below, rest, from)) = halves(rows) {
            let upper = self.place();
            self.ops.push(Op::IfAtLeast { dst: MAJOR, imm: from, to: upper });
            self.rows(below, table_other, other);
            self.bind(upper);
            return self.rows(rest, table_other, other);
        }
        for &(major, row) in rows {
            if row.minors.is_empty() && table_other.minors.is_empty() {
                self.ops.push(Op::IfEqual { dst: MAJOR, imm: major, to: Label::Ending(row.other) });
                continue;
            }
            let next = self.place();
            self.ops.push(Op::IfNotEqual { dst: MAJOR, imm: major, to: next });
            // Either all that differs within the row, or all that differs from the row of any other major.
            let apart = differences(row, table_other);
            if row.other == table_other.other && apart.len() < row.minors.len() {
                self.minors(&apart, other);
            } else {
                self.minors(&list(&row.minors), Label::Ending(row.other));
            }
            self.bind(next);
        }
        self.ops.push(Op::Goto(other));
    }

    fn minors(&mut self, minors: &[(u32, Bits)], other: Label) {
        if let Some((below, rest, from)) = halves(minors) {
            let upper = self.place();
            self.ops.push(Op::IfAtLeast { dst: MINOR, imm: from, to: upper });
            self.minors(below, other);
            self.bind(upper);
            return self.minors(rest, other);
        }
        for &(minor, bits) in minors {
            self.ops.push(Op::IfEqual { dst: MINOR, imm: minor, to: Label::Ending(bits) });
        }
        self.ops.push(Op::Goto(other));
    }

    /// The endings that are jumped to, first the one that the last jump goes to; last that which all refusals go to.
    fn endings(&mut self) {
        let mut wanted: Vec<Bits> =
            self.ops.iter().rev().filter_map(|op| op.ending()).filter(|&bits| bits != 0).collect();
        let mut seen = [false; 1 + ALL as usize];
        wanted.retain(|&bits| seen.get_mut(usize::from(bits)).is_some_and(|seen| !std::mem::replace(seen, true)));
        for bits in wanted {
            self.bind(Label::Ending(bits));
            if bits != ALL {
                let refused = ALL & !bits;
                self.ops.push(Op::IfAnyOf { dst: ACCESS, imm: refused.into(), to: Label::Ending(0) });
            }
            self.ops.extend([Op::Answer(1), Op::Exit]);
        }
        if self.ops.iter().any(|op| op.ending() == Some(0)) {
            self.bind(Label::Ending(0));
            self.ops.extend([Op::Answer(0), Op::Exit]);
        }
    }

    /// Takes out jumps to where the program goes anyway.
    fn without_idle_jumps(&mut self) {
        for index in (0..self.ops.len()).rev() {
            let Some(&Op::Goto(to)) = self.ops.get(index) else { continue };
            let next_goes_there = matches!(self.ops.get(index + 1), Some(&Op::Goto(next)) if next == to);
            if next_goes_there || self.bound.get(&to) == Some(&(index + 1)) {
                self.ops.remove(index);
                self.bound.values_mut().filter(|bound| **bound > index).for_each(|bound| *bound -= 1);
            }
        }
    }

    /// Loads the registers that are looked at. It is put before everything else, which is where no jump goes to.
    fn beginning(&mut self) {
        let looks_at = |register| self.ops.iter().any(|op| op.looks_at() == Some(register));
        let mut beginning = Vec::new();
        match (looks_at(KIND), looks_at(ACCESS)) {
            (false, false) => {}
            (true, false) => beginning.extend([Op::Load { dst: KIND, offset: 0 }, Op::And { dst: KIND, imm: 0xffff }]),
            (false, true) => {
                beginning.extend([Op::Load { dst: ACCESS, offset: 0 }, Op::Shift { dst: ACCESS, imm: 16 }])
            }
            (true, true) => beginning.extend([
                Op::Load { dst: KIND, offset: 0 },
                Op::Copy { dst: ACCESS, src: KIND },
                Op::And { dst: KIND, imm: 0xffff },
                Op::Shift { dst: ACCESS, imm: 16 },
            ]),
        }
        for (register, offset) in [(MAJOR, 4), (MINOR, 8)] {
            if looks_at(register) {
                beginning.push(Op::Load { dst: register, offset });
            }
        }
        for index in self.bound.values_mut() {
            *index += beginning.len();
        }
        self.ops.splice(..0, beginning);
    }

    fn finish(self) -> Result<DeviceProgram> {
        let mut program = DeviceProgram { code: Vec::with_capacity(8 * self.ops.len()), text: Vec::new() };
        for (index, op) in self.ops.iter().enumerate() {
            let distance = match op.target() {
                None => 0,
                Some(label) => self.distance(index, label).ok_or_else(|| {
                    let why = format!("{} instructions, but a jump reaches 32,767", self.ops.len());
                    Error::invalid("compile device rules", why).with_hint("name fewer devices: * stands for any number")
                })?,
            };
            program.code.extend(op.encode(distance));
            program.text.push(op.text(distance));
        }
        Ok(program)
    }

    /// How many instructions a jump passes over.
    fn distance(&self, index: usize, label: Label) -> Option<i16> {
        let target = *self.bound.get(&label)?;
        i16::try_from(target.checked_sub(index + 1)?).ok()
    }
}

/// The minors of which `row` says something else than `other` does.
fn differences(row: &Row, other: &Row) -> Vec<(u32, Bits)> {
    let named: BTreeSet<u32> = row.minors.keys().chain(other.minors.keys()).copied().collect();
    named.into_iter().map(|minor| (minor, row.get(minor))).filter(|&(minor, bits)| bits != other.get(minor)).collect()
}

fn list(minors: &BTreeMap<u32, Bits>) -> Vec<(u32, Bits)> {
    minors.iter().map(|(&minor, &bits)| (minor, bits)).collect()
}

/// Of each number something, in their order.
type Numbered<T> = [(u32, T)];

/// A long list as two, and the number that the second begins with. The verifier does not follow more than 8,192
/// comparisons in a row, and the machine has better things to do, too.
fn halves<T>(sorted: &Numbered<T>) -> Option<(&Numbered<T>, &Numbered<T>, u32)> {
    const LONG: usize = 32;
    let (below, rest) = sorted.split_at_checked(sorted.len() / 2).filter(|_| sorted.len() > LONG)?;
    Some((below, rest, rest.first()?.0))
}

impl Op {
    fn target(self) -> Option<Label> {
        match self {
            Self::IfEqual { to, .. }
            | Self::IfNotEqual { to, .. }
            | Self::IfAtLeast { to, .. }
            | Self::IfAnyOf { to, .. }
            | Self::Goto(to) => Some(to),
            _ => None,
        }
    }

    fn ending(self) -> Option<Bits> {
        match self.target() {
            Some(Label::Ending(bits)) => Some(bits),
            _ => None,
        }
    }

    /// The register that a comparison is about.
    fn looks_at(self) -> Option<u8> {
        match self {
            Self::IfEqual { dst, .. }
            | Self::IfNotEqual { dst, .. }
            | Self::IfAtLeast { dst, .. }
            | Self::IfAnyOf { dst, .. } => Some(dst),
            _ => None,
        }
    }

    /// `struct bpf_insn`: an opcode, two registers of four bits, an offset, an immediate number.
    fn encode(self, distance: i16) -> [u8; 8] {
        const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
        const COPY: u8 = 0xbc; // BPF_ALU | BPF_MOV | BPF_X
        const AND: u8 = 0x54; // BPF_ALU | BPF_AND | BPF_K
        const SHIFT: u8 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
        const MOVE: u8 = 0xb4; // BPF_ALU | BPF_MOV | BPF_K
        const IF_EQUAL: u8 = 0x16; // BPF_JMP32 | BPF_JEQ | BPF_K
        const IF_NOT_EQUAL: u8 = 0x56; // BPF_JMP32 | BPF_JNE | BPF_K
        const IF_AT_LEAST: u8 = 0x36; // BPF_JMP32 | BPF_JGE | BPF_K
        const IF_ANY_OF: u8 = 0x46; // BPF_JMP32 | BPF_JSET | BPF_K
        const GOTO: u8 = 0x05; // BPF_JMP | BPF_JA
        const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT
        let (code, dst, src, offset, imm) = match self {
            Self::Load { dst, offset } => (LOAD_WORD, dst, CONTEXT, offset, 0),
            Self::Copy { dst, src } => (COPY, dst, src, 0, 0),
            Self::And { dst, imm } => (AND, dst, 0, 0, imm),
            Self::Shift { dst, imm } => (SHIFT, dst, 0, 0, imm),
            Self::IfEqual { dst, imm, .. } => (IF_EQUAL, dst, 0, distance, imm),
            Self::IfNotEqual { dst, imm, .. } => (IF_NOT_EQUAL, dst, 0, distance, imm),
            Self::IfAtLeast { dst, imm, .. } => (IF_AT_LEAST, dst, 0, distance, imm),
            Self::IfAnyOf { dst, imm, .. } => (IF_ANY_OF, dst, 0, distance, imm),
            Self::Goto(_) => (GOTO, 0, 0, distance, 0),
            Self::Answer(imm) => (MOVE, ANSWER, 0, 0, imm),
            Self::Exit => (EXIT, 0, 0, 0, 0),
        };
        // Two bit fields in one byte, which a compiler lays out from the end that the machine begins with.
        let registers = if cfg!(target_endian = "little") { src << 4 | dst } else { dst << 4 | src };
        let [o0, o1] = offset.to_ne_bytes();
        let [i0, i1, i2, i3] = imm.to_ne_bytes();
        [code, registers, o0, o1, i0, i1, i2, i3]
    }

    fn text(self, distance: i16) -> String {
        match self {
            Self::Load { dst, offset } => format!("r{dst} = *(u32 *)(r{CONTEXT} +{offset})"),
            Self::Copy { dst, src } => format!("w{dst} = w{src}"),
            Self::And { dst, imm } => format!("w{dst} &= {imm:#x}"),
            Self::Shift { dst, imm } => format!("w{dst} >>= {imm}"),
            Self::IfEqual { dst, imm, .. } => format!("if w{dst} == {imm:#x} goto pc+{distance}"),
            Self::IfNotEqual { dst, imm, .. } => format!("if w{dst} != {imm:#x} goto pc+{distance}"),
            Self::IfAtLeast { dst, imm, .. } => format!("if w{dst} >= {imm:#x} goto pc+{distance}"),
            Self::IfAnyOf { dst, imm, .. } => format!("if w{dst} & {imm:#x} goto pc+{distance}"),
            Self::Goto(_) => format!("goto pc+{distance}"),
            Self::Answer(imm) => format!("w{ANSWER} = {imm}"),
            Self::Exit => "exit".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
