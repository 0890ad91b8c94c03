//! What the tests do to themselves that no library offers safely.
#![allow(unsafe_code)]

/// prctl(2) PR_GET_DUMPABLE.
pub(crate) fn dumpable() -> i32 {
    // SAFETY: no pointers.
    unsafe { libc::prctl(libc::PR_GET_DUMPABLE) }
}
