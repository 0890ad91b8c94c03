//! Enters namespaces that the clone did not make.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use cellkit_core::sys::{self as raw, OpenHow, syscall};
use cellkit_core::{ChildFds, ChildStep, HintTable, ProcFd, StepText};

use super::{Done, await_go, numbers, prctl};
use crate::step::EnterStep;
use crate::sys::clone::{CLONE_PARENT, CLONE_PIDFD};
use crate::sys::join::join_all;
use crate::sys::message::{MESSAGE_SUCCESSOR, send_raw, send_with};
use crate::sys::{exit, legacy};

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

    fn kernel_text(&self, fds: &ChildFds<'_>, buffer: &mut [u8]) -> usize {
        let Self::Join { shown, failed, .. } = self else { return 0 };
        // Not what the kernel said but what it said it of: which of the namespaces.
        let shown = fds.get(*failed).ok().and_then(|index| shown.get(index as usize));
        let bytes = shown.map_or(&[][..], |shown| shown.as_bytes());
        for (place, byte) in buffer.iter_mut().zip(bytes) {
            *place = *byte;
        }
        bytes.len().min(buffer.len())
    }

    fn run(&self, fds: &mut ChildFds<'_>) -> Done {
        match self {
            Self::Hide => prctl(libc::PR_SET_DUMPABLE, 0),
            Self::Join { targets, failed, .. } => join_all(targets).map_err(|not_joined| {
                // A slot of this list, which is there.
                let _ = fds.set(*failed, not_joined.index as RawFd);
                not_joined.errno
            }),
            Self::LetGo(namespaces) => {
                for namespace in namespaces {
                    // SAFETY: this process has a copy of its parent's table, and no step uses the number after this one.
                    unsafe { raw::close(namespace.as_fd().as_raw_fd()) };
                }
                Ok(())
            }
            Self::UnshareTime => numbers(libc::SYS_unshare, [libc::CLONE_NEWTIME as usize, 0, 0, 0, 0]).map(drop),
            Self::TimeOffsets { proc, text } => write_to_proc(proc, c"self/timens_offsets", text.as_bytes()),
            Self::Succeed { sync } => succeed(fds.get(*sync)?),
        }
    }
}

/// Makes a sibling that goes on with a copy of everything, tells the parent of it, and ends.
///
/// The sibling goes on when the parent has taken it over, and not before: until then nobody would reap it. It makes itself
/// known as well, by a message whose sender the kernel tells: either of the two may be killed before it has said a word,
/// and the parent would wait for ever.
fn succeed(sync: RawFd) -> Done {
    let mut pidfd: RawFd = -1;
    let [a, b, c, d, e] = legacy::arguments(CLONE_PARENT | CLONE_PIDFD, 0, &mut pidfd);
    // SAFETY: without CLONE_VM this is a fork: the sibling goes on with a copy of everything; the kernel writes one
    // descriptor, here.
    let number = unsafe { syscall(libc::SYS_clone, [a, b, c, d, e, 0]) }?;
    if number != 0 {
        let mut message = [MESSAGE_SUCCESSOR, 0, 0, 0, 0];
        for (place, byte) in message.iter_mut().skip(1).zip((number as i32).to_ne_bytes()) {
            *place = byte;
        }
        // Where no descriptor can be sent, its number has to do.
        if send_with(sync, &message, Some(pidfd)).is_err() {
            let _ = send_with(sync, &message, None);
        }
        exit(0)
    }
    send_raw(sync, &[MESSAGE_SUCCESSOR]);
    await_go(sync)
}

/// Writes to a file about this process, such as `self/timens_offsets`.
pub(super) fn write_to_proc(proc: &ProcFd, name: &CStr, text: &[u8]) -> Done {
    let how = OpenHow {
        flags: (libc::O_WRONLY | libc::O_CLOEXEC) as u64,
        mode: 0,
        // "self" is a symbolic link of procfs' own; nothing may be mounted below.
        resolve: libc::RESOLVE_BENEATH | libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_MAGICLINKS,
    };
    let fd = raw::openat2(proc.as_fd().as_raw_fd(), name, &how)?;
    let written = raw::write(fd, text);
    // SAFETY: opened above, used by nobody else.
    unsafe { raw::close(fd) };
    written.map(drop)
}
