//! How much uid 0 still means.
#![forbid(unsafe_code)]

use std::fmt;

bitflags::bitflags! {
    /// How much uid 0 still means to the payload and whatever it starts: for
    /// [`Command::securebits`](crate::Command::securebits).
    ///
    /// Each has a lock, which keeps it as it is, set or not, for good. SECBIT_KEEP_CAPS is not here, since every execve
    /// clears it; its lock is.
    ///
    /// Setting them needs CAP_SETPCAP, but for the two of Linux 6.14.
    ///
    /// ```
    /// use ns_core::{Capabilities, CapabilitySet, Securebits};
    ///
    /// // uid 0 without its powers: execve gives it nothing, for good.
    /// let bits = Securebits::NOROOT | Securebits::NOROOT_LOCKED;
    /// let all = Capabilities::from(CapabilitySet::FULL);
    /// assert!(all.after_execve(0, bits).effective.is_empty());
    /// assert!(!all.after_execve(0, Securebits::empty()).effective.is_empty());
    /// ```
    ///
    /// See <https://man7.org/linux/man-pages/man2/PR_SET_SECUREBITS.2const.html>.
    #[doc(alias = "PR_SET_SECUREBITS")]
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Securebits: u32 {
        /// execve as uid 0, or of a program that is set-user-id to it, gives no capabilities.
        #[doc(alias = "SECBIT_NOROOT")]
        const NOROOT = 1 << 0;
        /// [`NOROOT`](Self::NOROOT) stays as it is.
        #[doc(alias = "SECBIT_NOROOT_LOCKED")]
        const NOROOT_LOCKED = 1 << 1;
        /// A change from or to uid 0 leaves the capability sets alone.
        #[doc(alias = "SECBIT_NO_SETUID_FIXUP")]
        const NO_SETUID_FIXUP = 1 << 2;
        /// [`NO_SETUID_FIXUP`](Self::NO_SETUID_FIXUP) stays as it is.
        #[doc(alias = "SECBIT_NO_SETUID_FIXUP_LOCKED")]
        const NO_SETUID_FIXUP_LOCKED = 1 << 3;
        /// PR_SET_KEEPCAPS has no effect any more.
        #[doc(alias = "SECBIT_KEEP_CAPS_LOCKED")]
        const KEEP_CAPS_LOCKED = 1 << 5;
        /// Nothing can be added to the ambient set. Linux 4.3.
        #[doc(alias = "SECBIT_NO_CAP_AMBIENT_RAISE")]
        const NO_CAP_AMBIENT_RAISE = 1 << 6;
        /// [`NO_CAP_AMBIENT_RAISE`](Self::NO_CAP_AMBIENT_RAISE) stays as it is.
        #[doc(alias = "SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED")]
        const NO_CAP_AMBIENT_RAISE_LOCKED = 1 << 7;
        /// Interpreters are asked to check each script they run with AT_EXECVE_CHECK. Linux 6.14.
        #[doc(alias = "SECBIT_EXEC_RESTRICT_FILE")]
        const EXEC_RESTRICT_FILE = 1 << 8;
        /// [`EXEC_RESTRICT_FILE`](Self::EXEC_RESTRICT_FILE) stays as it is.
        #[doc(alias = "SECBIT_EXEC_RESTRICT_FILE_LOCKED")]
        const EXEC_RESTRICT_FILE_LOCKED = 1 << 9;
        /// Interpreters are asked to take no commands from a terminal. Linux 6.14.
        #[doc(alias = "SECBIT_EXEC_DENY_INTERACTIVE")]
        const EXEC_DENY_INTERACTIVE = 1 << 10;
        /// [`EXEC_DENY_INTERACTIVE`](Self::EXEC_DENY_INTERACTIVE) stays as it is.
        #[doc(alias = "SECBIT_EXEC_DENY_INTERACTIVE_LOCKED")]
        const EXEC_DENY_INTERACTIVE_LOCKED = 1 << 11;
    }
}

impl fmt::Display for Securebits {
    /// `NOROOT|NOROOT_LOCKED`, or `0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_empty() {
            true => f.write_str("0"),
            false => f.write_str(&self.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join("|")),
        }
    }
}
