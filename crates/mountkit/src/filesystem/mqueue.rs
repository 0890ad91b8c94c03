//! Message queues.
#![forbid(unsafe_code)]

use cellkit_core::Result;

use super::as_a_mount;
use super::recipe::{MountOptions, Recipe};
use crate::MountAttr;

/// The POSIX message queues of the caller's ipc namespace: `mount -t mqueue`, as a detached mount (nosuid, nodev,
/// noexec).
///
/// It has no options. All mounts made in one ipc namespace are of one file system.
///
/// * Calls: those of [`Filesystem`](crate::Filesystem).
/// * Privileges: CAP_SYS_ADMIN in the user namespaces that own the caller's mount namespace and its ipc namespace.
///
/// ```no_run
/// use mountkit::{Mqueue, RootFd};
///
/// Mqueue::new().mount()?.attach(&RootFd::open("/srv/c1")?, "dev/mqueue")?;
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// See mq_overview(7): <https://man7.org/linux/man-pages/man7/mq_overview.7.html>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "it is made by `mount`"]
#[non_exhaustive]
pub struct Mqueue {
    mount: MountOptions,
}

as_a_mount!(Mqueue);

impl Mqueue {
    /// With the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn recipe(&self) -> Result<Recipe> {
        self.mount.recipe(c"mqueue", MountAttr::INERT, Vec::new())
    }
}
