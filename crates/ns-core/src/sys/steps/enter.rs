//! Enters namespaces that the clone did not make.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use cellkit_core::sys::{self as raw, OpenHow};
use cellkit_core::{ChildFds, ChildStep, HintTable, ProcFd, StepText};

use super::{Done, numbers};
use crate::step::EnterStep;

// SAFETY: every arm makes raw system calls on data that `self` owns or on its own stack, and does nothing else: no
// allocation, no C library, no lock, no panic.
unsafe impl ChildStep for EnterStep {
    fn describe(&self) -> StepText {
        self.text()
    }

    fn inherits(&self) -> Option<BorrowedFd<'_>> {
        self.inherited()
    }

    fn hints(&self) -> Option<&'static HintTable> {
        Some(&crate::hint::HINTS)
    }

    fn run(&self, _: &mut ChildFds<'_>) -> Done {
        match self {
            Self::Join { fd, flag, .. } => {
                numbers(libc::SYS_setns, [fd.as_raw_fd() as usize, *flag as usize, 0, 0, 0]).map(drop)
            }
            Self::UnshareTime => numbers(libc::SYS_unshare, [libc::CLONE_NEWTIME as usize, 0, 0, 0, 0]).map(drop),
            Self::TimeOffsets { proc, text } => time_offsets(proc, text.as_bytes()),
        }
    }
}

fn time_offsets(proc: &ProcFd, text: &[u8]) -> Done {
    let how = OpenHow {
        flags: (libc::O_WRONLY | libc::O_CLOEXEC) as u64,
        mode: 0,
        // "self" is a symbolic link of procfs' own; nothing may be mounted below.
        resolve: libc::RESOLVE_BENEATH | libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_MAGICLINKS,
    };
    let fd = raw::openat2(proc.as_fd().as_raw_fd(), c"self/timens_offsets", &how)?;
    let written = raw::write(fd, text);
    // SAFETY: opened above, used by nobody else.
    unsafe { raw::close(fd) };
    written.map(drop)
}
