//! The machine's devices.
#![forbid(unsafe_code)]

use cellkit_core::Result;

use super::as_a_mount;
use super::recipe::{MountOptions, Recipe};
use crate::MountAttr;

/// The devices of the machine, and of the network namespace of the caller: `mount -t sysfs`, as a detached mount (nosuid,
/// nodev, noexec).
///
/// It has no options. All mounts made in one network namespace are of one file system. In a user namespace the kernel
/// allows one only where a whole sysfs is visible already, with nothing mounted over parts of it.
///
/// * Calls: those of [`Filesystem`](crate::Filesystem).
/// * Privileges: CAP_SYS_ADMIN in the user namespaces that own the caller's mount namespace and its network namespace.
///
/// ```no_run
/// use mountkit::{MountAttr, RootFd, Sysfs};
///
/// Sysfs::new().attrs(MountAttr::RDONLY).mount()?.attach(&RootFd::open("/srv/c1")?, "sys")?;
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// See sysfs(5): <https://man7.org/linux/man-pages/man5/sysfs.5.html>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "it is made by `mount`"]
#[non_exhaustive]
pub struct Sysfs {
    mount: MountOptions,
}

as_a_mount!(Sysfs);

impl Sysfs {
    /// With the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn recipe(&self) -> Result<Recipe> {
        self.mount.recipe(c"sysfs", MountAttr::INERT, Vec::new())
    }
}
