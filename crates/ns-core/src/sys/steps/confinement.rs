//! Runs the steps that confine the payload: raw system calls on prepared data, and nothing else.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

use cellkit_core::sys::syscall;
use cellkit_core::{ChildFds, ChildStep, Errno, HintTable, StepText};

use super::{Done, numbers};
use crate::BpfInstruction;
use crate::step::ConfinementStep;
use crate::sys::message::{MESSAGE_LISTENER, send_with};

// SAFETY: every arm makes raw system calls on data that `self` owns or on its own stack, and does nothing else: no
// allocation, no C library, no lock, no panic.
unsafe impl ChildStep for ConfinementStep {
    fn describe(&self) -> StepText {
        self.text()
    }

    fn inherits(&self) -> Option<BorrowedFd<'_>> {
        self.inherited()
    }

    fn hints(&self) -> Option<&'static HintTable> {
        Some(&crate::hint::HINTS)
    }

    fn run(&self, fds: &mut ChildFds<'_>) -> Done {
        match self {
            Self::Landlock { ruleset } => {
                numbers(libc::SYS_landlock_restrict_self, [ruleset.as_raw_fd() as usize, 0, 0, 0, 0]).map(drop)
            }
            Self::Seccomp { filter, listener } => {
                let answer = install(filter.program(), filter.flags())?;
                if filter.has_listener() { fds.set(*listener, answer as RawFd) } else { Ok(()) }
            }
            // The kernel has marked the listener close-on-exec: the payload does not get it.
            Self::SendListener { listener, sync } => {
                send_with(fds.get(*sync)?, &[MESSAGE_LISTENER], Some(fds.get(*listener)?))
            }
        }
    }
}

/// seccomp(2): installs a filter; with a listener, answers its descriptor.
fn install(program: &[BpfInstruction], flags: u32) -> Result<usize, Errno> {
    const SECCOMP_SET_MODE_FILTER: usize = 1;
    /// `struct sock_fprog`.
    #[repr(C)]
    struct Program {
        length: u16,
        filter: *const BpfInstruction,
    }
    let program = Program { length: program.len() as u16, filter: program.as_ptr() };
    let args = [SECCOMP_SET_MODE_FILTER, flags as usize, ptr::from_ref(&program) as usize, 0, 0, 0];
    // SAFETY: the kernel reads one sock_fprog and as many instructions as it says, which have the layout of sock_filter.
    unsafe { syscall(libc::SYS_seccomp, args) }
}

/// Whether `fd` is a landlock ruleset: a rule of a kind that there is not is refused after the descriptor was looked at.
pub(in crate::sys) fn is_landlock_ruleset(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    match numbers(libc::SYS_landlock_add_rule, [fd.as_raw_fd() as usize, u32::MAX as usize, 0, 0, 0]) {
        Err(Errno(libc::EBADFD)) => Ok(false),
        Ok(_) | Err(Errno(libc::EINVAL)) => Ok(true),
        Err(errno) => Err(errno),
    }
}
