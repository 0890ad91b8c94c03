//! A directory or file of the host, mounted in the root.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use cellkit_core::{Error, Result};

/// A directory or file of the host that the container sees at another path: `mount --rbind SOURCE ROOT/TARGET`.
///
/// The source is cloned with everything mounted below it, made read-only where asked for *before* anybody can reach it,
/// and put on the target, which is made if it is missing. Flags of the source's mount (ro, nosuid, nodev, noexec) stay.
///
/// * Calls: [open_tree(2)](https://man7.org/linux/man-pages/man2/open_tree.2.html) with OPEN_TREE_CLONE and
///   AT_RECURSIVE (Linux 5.2), [mount_setattr(2)](https://man7.org/linux/man-pages/man2/mount_setattr.2.html) (5.12),
///   [move_mount(2)](https://man7.org/linux/man-pages/man2/move_mount.2.html) (5.2).
/// * Privileges: none beyond those of the new mount namespace.
///
/// ```
/// use mountkit::{Rootfs, Volume};
///
/// let rootfs = Rootfs::overlay_of_host().volume(Volume::bind("/etc", "/mnt/etc").read_only());
/// rootfs.check()?;
/// # Ok::<(), mountkit::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(alias = "MS_BIND")]
#[doc(alias = "OPEN_TREE_CLONE")]
#[must_use]
pub struct Volume {
    source: PathBuf,
    target: PathBuf,
    read_only: bool,
}

impl Volume {
    /// `source` of the host at `target` of the container. Checked by [`Rootfs::check`](crate::Rootfs::check).
    pub fn bind(source: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        Self { source: source.as_ref().into(), target: target.as_ref().into(), read_only: false }
    }

    /// The container cannot write to it, nor to anything mounted below it.
    #[doc(alias = "MOUNT_ATTR_RDONLY")]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// The path on the host.
    #[must_use]
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// The path in the container.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Whether the source is a directory.
    pub(crate) fn check(&self) -> Result<bool> {
        if self.source.as_os_str().is_empty() {
            return Err(Error::invalid("open_tree", "the source of a volume is an empty path").on(&*self.target));
        }
        let metadata = std::fs::metadata(&self.source).map_err(|error| {
            crate::rootfs::io_error("open", &error, &self.source).context("look at a volume's source")
        })?;
        Ok(metadata.is_dir())
    }
}
