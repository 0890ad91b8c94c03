//! Being somebody else for a while.
#![allow(unsafe_code)]

/// The process is `uid`, without effective capabilities, until this is dropped: then it is root again, as which the ledger
/// is compared. What it runs has nothing to return to.
pub struct AsUser(());

impl AsUser {
    pub fn new(uid: u32) -> Self {
        // SAFETY: the list is empty.
        assert_eq!(unsafe { libc::setgroups(0, std::ptr::null()) }, 0, "setgroups");
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::setresgid(uid, uid, 0) }, 0, "setresgid");
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::setresuid(uid, uid, 0) }, 0, "setresuid");
        // SAFETY: no pointers. Changing ids cleared it, and what is not dumpable has a /proc/self that is root's.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, 0, "prctl");
        Self(())
    }
}

impl Drop for AsUser {
    fn drop(&mut self) {
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::setresuid(0, 0, 0) }, 0, "setresuid");
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::setresgid(0, 0, 0) }, 0, "setresgid");
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, 0, "prctl");
    }
}
