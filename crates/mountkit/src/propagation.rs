//! Where a mount made below another one appears as well.
#![forbid(unsafe_code)]

use std::fmt;

/// Whether mounts and unmounts *below* a mount are repeated on the copies of it: `mount --make-private` and its kin.
///
/// A copy of a shared mount (a bind, or all mounts of a new mount namespace) is its *peer*; a slave has a *master*.
///
/// | type | what is mounted below it | what is mounted below its peers or master | may be cloned |
/// |---|---|---|---|
/// | `Private` | stays | does not arrive | yes |
/// | `Shared` | appears at all peers and slaves | arrives | yes |
/// | `Slave` | stays | arrives | yes |
/// | `Unbindable` | stays | does not arrive | no |
///
/// As a drawing, for a shared original and a copy of it that is given a type:
///
/// ```text
///                original                    copy
///                --------                    ----
///  private       /a   what is mounted here   /a   what is mounted here
///  unbindable         stays                       stays
///
///  shared        /a   ────────────────────►  /a
///                     ◄────────────────────
///
///  slave         /a   ────────────────────►  /a   what is mounted here
///                                                 stays
/// ```
///
/// A slave that is then made shared passes on to its own peers what it gets, and gives nothing back to its master. A mount
/// that is made or attached by this crate is private unless asked; in a new mount namespace the copies of shared mounts are
/// shared until [`Mount::change`](crate::Mount::change) of `/` makes them something else, all of them with
/// [`recursive`](crate::MountChange::recursive):
///
/// ```no_run
/// use mountkit::{Mount, MountChange, Propagation, RootFd};
///
/// let all = Mount::open(&RootFd::open("/")?, "/")?;
/// all.change(&MountChange::new().propagation(Propagation::Slave).recursive())?;
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// ```
/// use mountkit::Propagation;
///
/// assert_eq!(Propagation::Slave.to_string(), "slave");
/// assert_eq!(Propagation::default(), Propagation::Private);
/// ```
///
/// See mount_namespaces(7): <https://man7.org/linux/man-pages/man7/mount_namespaces.7.html>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Propagation {
    /// Nothing goes either way.
    #[default]
    #[doc(alias = "MS_PRIVATE")]
    Private,
    /// Both ways, among all peers.
    #[doc(alias = "MS_SHARED")]
    Shared,
    /// From the master only. What is not shared before stays as it is.
    #[doc(alias = "MS_SLAVE")]
    Slave,
    /// As private, and it cannot be cloned or bound.
    #[doc(alias = "MS_UNBINDABLE")]
    Unbindable,
}

impl Propagation {
    /// The value of `propagation` in struct mount_attr.
    pub(crate) fn flag(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Shared => libc::MS_SHARED,
            Self::Slave => libc::MS_SLAVE,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

impl fmt::Display for Propagation {
    /// The word of findmnt(8).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Private => "private",
            Self::Shared => "shared",
            Self::Slave => "slave",
            Self::Unbindable => "unbindable",
        })
    }
}
