//! A step that finds out how many user namespaces fit into each other here, and answers by failing.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use cellkit_core::sys::{close, syscall, write};
use cellkit_core::{ChildFds, ChildStep, Errno, StepText};

/// More than any kernel allows.
const DEEPER_THAN_ALLOWED: u8 = 99;

/// Puts the child into user namespaces, each below the one before, until one is refused.
#[derive(Debug)]
pub(crate) struct NestUsers {
    /// A procfs.
    pub(crate) proc: OwnedFd,
    /// `0 UID 1` and `0 GID 1`, in the caller's numbers.
    pub(crate) maps: [Box<[u8]>; 2],
}

// SAFETY: `run` does nothing; `kernel_text` makes raw system calls on what `self` owns and on its own stack, without
// allocation, lock or panic, a bounded number of times.
unsafe impl ChildStep for NestUsers {
    fn describe(&self) -> StepText {
        StepText::new("unshare", "CLONE_NEWUSER, until it is refused", "how deep user namespaces can be nested")
    }

    fn inherits(&self) -> Option<BorrowedFd<'_>> {
        Some(self.proc.as_fd())
    }

    /// Always fails: what there is to tell is told as the text of an error.
    fn run(&self, _: &mut ChildFds<'_>) -> Result<(), Errno> {
        Err(Errno(libc::ECANCELED))
    }

    /// The number in decimal.
    fn kernel_text(&self, _: &ChildFds<'_>, buffer: &mut [u8]) -> usize {
        let mut levels = 0u8;
        while levels < DEEPER_THAN_ALLOWED && self.one_more(levels == 0).is_ok() {
            levels += 1;
        }
        let digits = [b'0' + levels / 10, b'0' + levels % 10];
        for (place, digit) in buffer.iter_mut().zip(digits) {
            *place = digit;
        }
        digits.len()
    }
}

impl NestUsers {
    fn one_more(&self, first: bool) -> Result<(), Errno> {
        // SAFETY: no pointers; this process has one thread and memory of its own.
        unsafe { syscall(libc::SYS_unshare, [libc::CLONE_NEWUSER as usize, 0, 0, 0, 0, 0]) }?;
        // Whoever has no number inside may not make the next one.
        let [uid_map, gid_map] = &self.maps;
        self.write(c"self/setgroups", b"deny")?;
        self.write(c"self/uid_map", if first { uid_map } else { b"0 0 1" })?;
        self.write(c"self/gid_map", if first { gid_map } else { b"0 0 1" })
    }

    fn write(&self, path: &CStr, text: &[u8]) -> Result<(), Errno> {
        let proc = self.proc.as_raw_fd();
        let args = [proc as usize, path.as_ptr() as usize, (libc::O_WRONLY | libc::O_CLOEXEC) as usize, 0, 0, 0];
        // SAFETY: path ends in NUL; the kernel only reads it.
        let fd = unsafe { syscall(libc::SYS_openat, args) }? as RawFd;
        let written = write(fd, text);
        // SAFETY: just opened, used by nobody else.
        unsafe { close(fd) };
        written.map(drop)
    }
}
