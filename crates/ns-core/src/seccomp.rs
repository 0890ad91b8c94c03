//! A seccomp filter: which system calls the payload may make.
//!
//! The kernel runs a small program of classic BPF at every system call and does what it answers. This crate does not write
//! such programs: libseccomp, `seccompiler`, minijail's compiler and others do. It takes one, checks it as the kernel will
//! (`seccomp/validate.rs`), can say what it answers to a call (`seccomp/evaluate.rs`), and installs it as the very last
//! thing before execve, so that it needs to allow next to nothing for the start itself.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use cellkit_core::{Error, Result, Subject};

mod evaluate;
mod validate;

pub(crate) use evaluate::{Outcomes, Word, words_of};

/// `struct seccomp_data` in bytes.
const DATA_SIZE: u32 = 64;
/// The most instructions of one filter: BPF_MAXINSNS.
const MAX_LENGTH: usize = 4096;

/// One instruction of classic BPF: `struct sock_filter`, eight bytes.
///
/// ```
/// use ns_core::{BpfInstruction, Seccomp};
///
/// // BPF_RET | BPF_K, SECCOMP_RET_ALLOW: a filter that forbids nothing.
/// let allow = BpfInstruction { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 };
/// assert_eq!(Seccomp::new([allow])?.program(), [allow]);
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See <https://man7.org/linux/man-pages/man2/seccomp.2.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
#[doc(alias("sock_filter", "BPF_STMT", "BPF_JUMP"))]
pub struct BpfInstruction {
    /// What it does: BPF_LD, BPF_JMP, BPF_RET and their kin.
    pub code: u16,
    /// How many instructions to skip where a condition is true.
    pub jt: u8,
    /// How many to skip where it is false.
    pub jf: u8,
    /// Its constant.
    pub k: u32,
}

/// What a filter answers to a system call.
///
/// ```
/// use ns_core::SeccompAction;
///
/// let denied = SeccompAction::from_answer(0x0005_0000 | 1); // SECCOMP_RET_ERRNO | EPERM
/// assert_eq!(denied, SeccompAction::Errno(1));
/// assert!(!denied.lets_through() && SeccompAction::Log.lets_through());
/// ```
///
/// See <https://man7.org/linux/man-pages/man2/seccomp.2.html>.
#[doc(alias = "SECCOMP_RET_DATA")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SeccompAction {
    /// The process ends, by SIGSYS. So it does for every answer that the kernel does not know.
    #[doc(alias = "SECCOMP_RET_KILL_PROCESS")]
    KillProcess,
    /// The thread ends.
    #[doc(alias = "SECCOMP_RET_KILL_THREAD")]
    KillThread,
    /// SIGSYS, with this number.
    #[doc(alias = "SECCOMP_RET_TRAP")]
    Trap(u16),
    /// The call is not made, and answers this errno.
    #[doc(alias = "SECCOMP_RET_ERRNO")]
    Errno(u16),
    /// The call waits for what the listener answers. Linux 5.0.
    #[doc(alias = "SECCOMP_RET_USER_NOTIF")]
    UserNotif,
    /// A tracer is told, with this number; without one the call answers ENOSYS.
    #[doc(alias = "SECCOMP_RET_TRACE")]
    Trace(u16),
    /// The call is made, and logged.
    #[doc(alias = "SECCOMP_RET_LOG")]
    Log,
    /// The call is made.
    #[doc(alias = "SECCOMP_RET_ALLOW")]
    Allow,
}

impl SeccompAction {
    /// What the kernel makes of a filter's answer.
    #[must_use]
    pub fn from_answer(answer: u32) -> Self {
        let data = answer as u16;
        match answer & 0xffff_0000 {
            0x0000_0000 => Self::KillThread,
            0x0003_0000 => Self::Trap(data),
            0x0005_0000 => Self::Errno(data.min(4095)),
            0x7fc0_0000 => Self::UserNotif,
            0x7ff0_0000 => Self::Trace(data),
            0x7ffc_0000 => Self::Log,
            0x7fff_0000 => Self::Allow,
            _ => Self::KillProcess,
        }
    }

    /// Whether the call is made as if there were no filter.
    #[must_use]
    pub fn lets_through(self) -> bool {
        matches!(self, Self::Allow | Self::Log)
    }
}

impl fmt::Display for SeccompAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KillProcess => f.write_str("SECCOMP_RET_KILL_PROCESS"),
            Self::KillThread => f.write_str("SECCOMP_RET_KILL_THREAD"),
            Self::Trap(data) => write!(f, "SECCOMP_RET_TRAP {data}"),
            Self::Errno(errno) => write!(f, "SECCOMP_RET_ERRNO {}", cellkit_core::Errno((*errno).into())),
            Self::UserNotif => f.write_str("SECCOMP_RET_USER_NOTIF"),
            Self::Trace(data) => write!(f, "SECCOMP_RET_TRACE {data}"),
            Self::Log => f.write_str("SECCOMP_RET_LOG"),
            Self::Allow => f.write_str("SECCOMP_RET_ALLOW"),
        }
    }
}

/// One system call as a filter sees it: `struct seccomp_data`.
///
/// ```
/// use ns_core::{BpfInstruction, Seccomp, SeccompAction, SeccompCall};
///
/// let kill = Seccomp::new([BpfInstruction { code: 0x06, jt: 0, jf: 0, k: 0x8000_0000 }])?;
/// // openat(AT_FDCWD, …), as a program for this processor makes it.
/// let call = SeccompCall::native(libc::SYS_openat as i32, [libc::AT_FDCWD as u64, 0, 0, 0, 0, 0]);
/// assert_eq!(kill.evaluate(&call), SeccompAction::KillProcess);
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See seccomp(2): <https://man7.org/linux/man-pages/man2/seccomp.2.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "seccomp_data")]
pub struct SeccompCall {
    /// Which call: `libc::SYS_*`.
    pub number: i32,
    /// The processor's AUDIT_ARCH_* number.
    pub arch: u32,
    /// Where the call was made from.
    pub instruction_pointer: u64,
    /// Its arguments.
    pub arguments: [u64; 6],
}

impl SeccompCall {
    /// The AUDIT_ARCH_* number of the processor this is compiled for, 0 for one that has no name here.
    pub const NATIVE_ARCH: u32 = match () {
        () if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) => 0xc000_003e,
        () if cfg!(target_arch = "x86") => 0x4000_0003,
        () if cfg!(target_arch = "aarch64") => 0xc000_00b7,
        () if cfg!(target_arch = "arm") => 0x4000_0028,
        () if cfg!(target_arch = "riscv64") => 0xc000_00f3,
        () if cfg!(target_arch = "loongarch64") => 0xc000_0102,
        () if cfg!(target_arch = "s390x") => 0x8000_0016,
        () if cfg!(all(target_arch = "powerpc64", target_endian = "little")) => 0xc000_0015,
        () => 0,
    };

    /// A call of a program for this processor.
    #[must_use]
    pub fn native(number: i32, arguments: [u64; 6]) -> Self {
        Self { number, arch: Self::NATIVE_ARCH, instruction_pointer: 0, arguments }
    }
}

/// A filter of system calls that the kernel will take, for [`Command::seccomp`](crate::Command::seccomp).
///
/// A program comes from whatever compiles them: libseccomp's seccomp_export_bpf(3), `seccompiler`, or a person:
///
/// ```
/// use ns_core::{BpfInstruction, Seccomp, SeccompAction, SeccompCall};
///
/// let op = |code, jt, jf, k| BpfInstruction { code, jt, jf, k };
/// let no_chroot = Seccomp::new([
///     // To programs for another processor, 32-bit ones, a number means another call: they are not let in at all.
///     op(0x20, 0, 0, 4),                          // A = seccomp_data.arch
///     op(0x15, 1, 0, SeccompCall::NATIVE_ARCH),   // unless A == this processor's
///     op(0x06, 0, 0, 0x8000_0000),                //     return SECCOMP_RET_KILL_PROCESS
///     op(0x20, 0, 0, 0),                          // A = seccomp_data.nr
///     op(0x35, 0, 1, 0x4000_0000),                // if A >= __X32_SYSCALL_BIT, which x86-64 has for them
///     op(0x06, 0, 0, 0x8000_0000),                //     return SECCOMP_RET_KILL_PROCESS
///     op(0x15, 0, 1, libc::SYS_chroot as u32),    // if A == chroot
///     op(0x06, 0, 0, 0x0005_0000 | 1),            //     return SECCOMP_RET_ERRNO | EPERM
///     op(0x06, 0, 0, 0x7fff_0000),                // return SECCOMP_RET_ALLOW
/// ])?;
/// // What will it answer?
/// let chroot = SeccompCall::native(libc::SYS_chroot as i32, [0; 6]);
/// assert_eq!(no_chroot.evaluate(&chroot), SeccompAction::Errno(1));
/// assert_eq!(no_chroot.evaluate(&SeccompCall { arch: 0, ..chroot }), SeccompAction::KillProcess);
/// assert_eq!(no_chroot.evaluate(&SeccompCall::native(libc::SYS_read as i32, [0; 6])), SeccompAction::Allow);
/// // A program that the kernel would refuse is refused here, with what is wrong where.
/// assert!(Seccomp::new([op(0x20, 0, 0, 2)]).is_err());
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See <https://man7.org/linux/man-pages/man2/seccomp.2.html>.
#[doc(alias("sock_fprog", "SECCOMP_SET_MODE_FILTER"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seccomp {
    program: Arc<[BpfInstruction]>,
    flags: u32,
}

impl Seccomp {
    const LOG: u32 = 1 << 1;
    const SPEC_ALLOW: u32 = 1 << 2;
    const NEW_LISTENER: u32 = 1 << 3;
    const WAIT_KILLABLE_RECV: u32 = 1 << 5;

    /// A filter of these instructions.
    ///
    /// # Errors
    /// Invalid for everything that the kernel would refuse with EINVAL, with the instruction's number: no or more than 4,096
    /// instructions, an instruction that no filter may have, a jump out of the program, a load that is not one of the 16
    /// words of `seccomp_data`, a read of scratch memory that was not written, an end without a return.
    pub fn new(program: impl IntoIterator<Item = BpfInstruction>) -> Result<Self> {
        // One more than there may be is enough to see that there are too many.
        let program: Arc<[BpfInstruction]> = program.into_iter().take(MAX_LENGTH + 1).collect();
        validate::check(&program)?;
        Ok(Self { program, flags: 0 })
    }

    /// A filter in the form in which the kernel reads it and `seccomp_export_bpf(3)` writes it: eight bytes an instruction,
    /// in the byte order of this processor.
    ///
    /// ```
    /// use ns_core::Seccomp;
    ///
    /// let allow = [0x06_u16.to_ne_bytes().as_slice(), &[0, 0], &0x7fff_0000_u32.to_ne_bytes()].concat();
    /// assert_eq!(Seccomp::from_bytes(&allow)?.program().len(), 1);
    /// assert!(Seccomp::from_bytes(&allow[1..]).is_err());
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Self::new); Invalid for a length that is no multiple of eight.
    ///
    /// See seccomp_export_bpf(3): <https://man7.org/linux/man-pages/man3/seccomp_export_bpf.3.html>.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let records = bytes.chunks_exact(8);
        if !records.remainder().is_empty() {
            let error = Error::invalid("seccomp", "an instruction has eight bytes");
            return Err(error.on(Subject::Thing(format!("a program of {} bytes", bytes.len()))));
        }
        Self::new(records.filter_map(|record| match *record {
            [a, b, jt, jf, c, d, e, f] => {
                Some(BpfInstruction { code: u16::from_ne_bytes([a, b]), jt, jf, k: u32::from_ne_bytes([c, d, e, f]) })
            }
            _ => None,
        }))
    }

    /// Logs what the filter does other than to allow, as far as `kernel.seccomp.actions_logged` says so. Linux 4.14.
    ///
    /// See seccomp(2): <https://man7.org/linux/man-pages/man2/seccomp.2.html>.
    #[doc(alias = "SECCOMP_FILTER_FLAG_LOG")]
    #[must_use]
    pub fn log(mut self) -> Self {
        self.flags |= Self::LOG;
        self
    }

    /// Does without the protection from speculative execution that older kernels put on whoever has a filter. Linux 4.17.
    #[doc(alias = "SECCOMP_FILTER_FLAG_SPEC_ALLOW")]
    #[must_use]
    pub fn allow_speculation(mut self) -> Self {
        self.flags |= Self::SPEC_ALLOW;
        self
    }

    /// Gives the caller a descriptor, [`Child::take_seccomp_listener`](crate::Child::take_seccomp_listener), on which it is
    /// asked about every call that the filter answers with [`UserNotif`](SeccompAction::UserNotif). Linux 5.0.
    ///
    /// Those calls wait until they are answered, and answer ENOSYS once the descriptor is closed everywhere.
    ///
    /// See <https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html>.
    #[doc(alias("SECCOMP_FILTER_FLAG_NEW_LISTENER", "seccomp_unotify"))]
    #[must_use]
    pub fn listener(mut self) -> Self {
        self.flags |= Self::NEW_LISTENER;
        self
    }

    /// With a [`listener`](Self::listener): a call that has been read from it is interrupted by fatal signals only, so that
    /// what the listener has done for it is not done again. Linux 5.19.
    #[doc(alias = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")]
    #[must_use]
    pub fn wait_killable(mut self) -> Self {
        self.flags |= Self::WAIT_KILLABLE_RECV;
        self
    }

    /// The instructions.
    #[must_use]
    pub fn program(&self) -> &[BpfInstruction] {
        &self.program
    }

    /// What the filter answers to `call`, as the kernel would find it. Nothing is installed.
    #[must_use]
    pub fn evaluate(&self, call: &SeccompCall) -> SeccompAction {
        SeccompAction::from_answer(evaluate::answer(&self.program, call))
    }

    /// Every answer that there may be to a call of which only some words are known.
    pub(crate) fn outcomes(&self, words: &[Word; 16]) -> Outcomes {
        evaluate::outcomes(&self.program, words)
    }

    pub(crate) fn has_listener(&self) -> bool {
        self.flags & Self::NEW_LISTENER != 0
    }

    pub(crate) fn flags(&self) -> u32 {
        self.flags
    }

    /// What only makes sense together.
    pub(crate) fn check(&self) -> Result<()> {
        match self.flags & Self::WAIT_KILLABLE_RECV != 0 && !self.has_listener() {
            true => Err(Error::invalid("seccomp", "there is nothing to wait for without a listener")
                .with_hint("add Seccomp::listener, or leave out wait_killable")),
            false => Ok(()),
        }
    }

    /// The flags as strace prints them.
    pub(crate) fn flag_names(&self) -> String {
        let names = [
            (Self::LOG, "SECCOMP_FILTER_FLAG_LOG"),
            (Self::SPEC_ALLOW, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
            (Self::NEW_LISTENER, "SECCOMP_FILTER_FLAG_NEW_LISTENER"),
            (Self::WAIT_KILLABLE_RECV, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"),
        ];
        let set = names.iter().filter(|(flag, _)| self.flags & flag != 0).map(|(_, name)| *name);
        match set.collect::<Vec<_>>().join("|").as_str() {
            "" => "0".to_owned(),
            text => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
