//! What a new mount namespace keeps to itself.
#![forbid(unsafe_code)]

/// How the mounts of a new mount namespace hang together with those they are copies of, for
/// [`Command::propagation`](crate::Command::propagation).
///
/// A new mount namespace begins with a copy of the caller's mounts. Where those are shared, as on every machine with
/// systemd, each copy is a peer of its original: what is mounted on the one appears on the other. These are the words of
/// unshare(1) `--propagation`; each concerns the whole tree.
///
/// ```
/// use ns_core::{Command, MountPropagation, Namespaces};
///
/// // Disks that are plugged in later appear inside; what is mounted inside does not appear outside.
/// let command = Command::new("/bin/sh").namespaces(Namespaces::MOUNT).propagation(MountPropagation::Slave);
/// assert!(command.plan()?.to_string().contains("MS_REC|MS_SLAVE"));
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See mount_namespaces(7): <https://man7.org/linux/man-pages/man7/mount_namespaces.7.html>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MountPropagation {
    /// Nothing goes either way.
    #[default]
    #[doc(alias = "MS_PRIVATE")]
    Private,
    /// What the caller mounts appears inside; what is mounted inside does not appear outside.
    #[doc(alias = "MS_SLAVE")]
    Slave,
    /// What is mounted on either side appears on the other, where the caller's mounts are shared; where they are not, the
    /// copies become shared among themselves.
    #[doc(alias = "MS_SHARED")]
    Shared,
    /// As the copies are: no system call is made. The only choice where the root directory is not a mount point, as after
    /// chroot(2).
    Unchanged,
}

impl MountPropagation {
    /// The flag of mount(2) and its name; none where nothing is changed.
    pub(crate) fn flag(self) -> Option<(libc::c_ulong, &'static str)> {
        match self {
            Self::Private => Some((libc::MS_PRIVATE, "MS_PRIVATE")),
            Self::Slave => Some((libc::MS_SLAVE, "MS_SLAVE")),
            Self::Shared => Some((libc::MS_SHARED, "MS_SHARED")),
            Self::Unchanged => None,
        }
    }
}
