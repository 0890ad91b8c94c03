//! What a mount allows, as a set.
#![forbid(unsafe_code)]

use std::fmt;

bitflags::bitflags! {
    /// Attributes of one mount, whatever the file system below it allows: the `ro`, `nosuid`, ... of mount(8).
    ///
    /// They belong to the mount, not to the file system: two mounts of one file system may differ. When the access time is
    /// written is not a set of flags but a choice of one: [`Atime`].
    ///
    /// A user namespace may not clear what the mount had when it was copied into it: such attributes are *locked*.
    ///
    /// ```
    /// use mountkit::MountAttr;
    ///
    /// let inert = MountAttr::NOSUID | MountAttr::NODEV | MountAttr::NOEXEC;
    /// assert_eq!(inert, MountAttr::INERT);
    /// assert_eq!((inert | MountAttr::RDONLY).to_string(), "ro,nosuid,nodev,noexec"); // as mount(8) has them
    /// ```
    ///
    /// See mount_setattr(2): <https://man7.org/linux/man-pages/man2/mount_setattr.2.html>.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct MountAttr: u64 {
        /// Nothing on it can be changed through this mount.
        #[doc(alias = "MOUNT_ATTR_RDONLY")]
        #[doc(alias = "MS_RDONLY")]
        const RDONLY = 0x0000_0001;
        /// Set-user-id and set-group-id bits and file capabilities have no effect.
        #[doc(alias = "MOUNT_ATTR_NOSUID")]
        #[doc(alias = "MS_NOSUID")]
        const NOSUID = 0x0000_0002;
        /// Device nodes cannot be opened.
        #[doc(alias = "MOUNT_ATTR_NODEV")]
        #[doc(alias = "MS_NODEV")]
        const NODEV = 0x0000_0004;
        /// Programs cannot be executed.
        #[doc(alias = "MOUNT_ATTR_NOEXEC")]
        #[doc(alias = "MS_NOEXEC")]
        const NOEXEC = 0x0000_0008;
        /// The access times of directories are not written.
        #[doc(alias = "MOUNT_ATTR_NODIRATIME")]
        #[doc(alias = "MS_NODIRATIME")]
        const NODIRATIME = 0x0000_0080;
        /// Symbolic links on it are not followed. Linux 5.14.
        #[doc(alias = "MOUNT_ATTR_NOSYMFOLLOW")]
        #[doc(alias = "MS_NOSYMFOLLOW")]
        const NOSYMFOLLOW = 0x0020_0000;
    }
}

impl MountAttr {
    /// What no file system of the kernel's own needs: nosuid, nodev, noexec.
    pub const INERT: Self = Self::NOSUID.union(Self::NODEV).union(Self::NOEXEC);
}

impl fmt::Display for MountAttr {
    /// The words of mount(8) with `,` between; `rw` for the empty set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.pad("rw");
        }
        let words: Vec<_> = WORDS.iter().filter(|(attr, _)| self.contains(*attr)).map(|(_, word)| *word).collect();
        f.pad(&words.join(","))
    }
}

const WORDS: [(MountAttr, &str); 6] = [
    (MountAttr::RDONLY, "ro"),
    (MountAttr::NOSUID, "nosuid"),
    (MountAttr::NODEV, "nodev"),
    (MountAttr::NOEXEC, "noexec"),
    (MountAttr::NODIRATIME, "nodiratime"),
    (MountAttr::NOSYMFOLLOW, "nosymfollow"),
];

/// When reading a file writes its access time.
///
/// ```
/// use mountkit::Atime;
///
/// assert_eq!(Atime::Never.to_string(), "noatime");
/// ```
///
/// See mount_setattr(2): <https://man7.org/linux/man-pages/man2/mount_setattr.2.html>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Atime {
    /// When it is older than the last change, or a day old. The kernel's default.
    #[default]
    #[doc(alias = "MOUNT_ATTR_RELATIME")]
    Relative,
    /// Never.
    #[doc(alias = "MOUNT_ATTR_NOATIME")]
    Never,
    /// Always.
    #[doc(alias = "MOUNT_ATTR_STRICTATIME")]
    Strict,
}

impl Atime {
    /// The value of the bits of MOUNT_ATTR__ATIME.
    pub(crate) fn bits(self) -> u64 {
        match self {
            Self::Relative => libc::MOUNT_ATTR_RELATIME,
            Self::Never => libc::MOUNT_ATTR_NOATIME,
            Self::Strict => libc::MOUNT_ATTR_STRICTATIME,
        }
    }
}

impl fmt::Display for Atime {
    /// The word of mount(8).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Relative => "relatime",
            Self::Never => "noatime",
            Self::Strict => "strictatime",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_bits() {
        for (attr, bit) in [
            (MountAttr::RDONLY, libc::MOUNT_ATTR_RDONLY),
            (MountAttr::NOSUID, libc::MOUNT_ATTR_NOSUID),
            (MountAttr::NODEV, libc::MOUNT_ATTR_NODEV),
            (MountAttr::NOEXEC, libc::MOUNT_ATTR_NOEXEC),
            (MountAttr::NODIRATIME, libc::MOUNT_ATTR_NODIRATIME),
            (MountAttr::NOSYMFOLLOW, libc::MOUNT_ATTR_NOSYMFOLLOW),
        ] {
            assert_eq!(attr.bits(), bit, "{attr}");
        }
        assert_eq!(MountAttr::all().iter().count(), WORDS.len());
    }
}
