//! Signals that wait while a child is made.

use std::ptr;

use cellkit_core::Errno;
use cellkit_core::sys::syscall;

/// Every signal of the calling thread blocked, until it is dropped: a child is born so, and runs no handler of the
/// caller's.
pub(super) struct BlockedSignals(u64);

impl BlockedSignals {
    /// The kernel's own signal set has 64 signals, two of which the C library would hide.
    pub(super) fn new() -> Result<Self, Errno> {
        let (all, mut old) = (u64::MAX, 0u64);
        let how = libc::SIG_SETMASK as usize;
        let args = [how, ptr::from_ref(&all) as usize, ptr::from_mut(&mut old) as usize, 8, 0, 0];
        // SAFETY: both sets are eight bytes, as said.
        unsafe { syscall(libc::SYS_rt_sigprocmask, args) }.map(|_| Self(old))
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        let args = [libc::SIG_SETMASK as usize, ptr::from_ref(&self.0) as usize, 0, 8, 0, 0];
        // SAFETY: the set is eight bytes, as said; no old one is asked for.
        let _ = unsafe { syscall(libc::SYS_rt_sigprocmask, args) };
    }
}
