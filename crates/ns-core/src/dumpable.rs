//! Keeps a change of ids in a child that shares memory from marking this process for good.
//!
//! `dumpable` belongs to the memory, not to the process: when a child that shares ours changes its uid or gid, the kernel
//! clears it for both. That is what protects us while they share it: nobody of the new uid may trace the child and
//! so reach our memory. Once the last such child has left, this process gets back what it had, without which a
//! program run by an ordinary user could no longer read its own `/proc/self`.
#![forbid(unsafe_code)]

use std::sync::{Mutex, PoisonError};

use cellkit_core::Errno;

use crate::sys;

/// Process-wide because the flag is: how many children share memory and change ids, and what the flag was before.
static SHARED: Mutex<(usize, i32)> = Mutex::new((0, 0));

/// Held while a child that changes ids shares this process's memory.
#[derive(Debug)]
pub(crate) struct DumpableGuard(());

impl DumpableGuard {
    /// Fails where the flag cannot be read: it could not be given back.
    pub(crate) fn new() -> Result<Self, Errno> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.0 == 0 {
            shared.1 = sys::dumpable()?;
        }
        shared.0 += 1;
        Ok(Self(()))
    }
}

impl Drop for DumpableGuard {
    fn drop(&mut self) {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.0 -= 1;
        // The kernel sets it to fs.suid_dumpable, which can be 2: who had 0 gets that back too.
        if shared.0 == 0 && matches!(shared.1, 0 | 1) && sys::dumpable() != Ok(shared.1) {
            sys::set_dumpable(shared.1);
        }
    }
}
