//! Whose keys the payload can reach.
#![forbid(unsafe_code)]

use std::ffi::OsString;

/// Whose keys the payload can reach, for [`Command::keyring`](crate::Command::keyring).
///
/// Whatever is chosen, the *user* keyring of the payload's uid stays reachable: only a user namespace of its own parts it
/// from that. Each new keyring counts against `kernel.keys.maxkeys` of the caller (200 for users other than root).
///
/// ```
/// use ns_core::{Command, Keyring};
///
/// let plan = Command::new("/bin/true").keyring(Keyring::Named("web".into())).plan()?;
/// assert!(plan.to_string().contains("KEYCTL_JOIN_SESSION_KEYRING, \"web\""));
/// let plan = Command::new("/bin/true").keyring(Keyring::Keep).plan()?;
/// assert!(!plan.to_string().contains("keyctl"));
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See session-keyring(7): <https://man7.org/linux/man-pages/man7/session-keyring.7.html>.
#[doc(alias("keyctl", "KEYCTL_JOIN_SESSION_KEYRING"))]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keyring {
    /// A new, empty, anonymous session keyring.
    #[default]
    New,
    /// A session keyring of this name: a new one, unless there is one that lets its user search it, which is then joined.
    /// The name must not be empty, begin with a dot or have more than 4,095 bytes.
    Named(OsString),
    /// The caller's session keyring, with the keys in it.
    Keep,
}
