//! Interpreters of programs.
#![forbid(unsafe_code)]

use cellkit_core::{ErrorKind, Result};

use super::recipe::{MountOptions, Recipe};
use crate::{DetachedMount, MountAttr, sys};

/// The formats of programs that have an interpreter, such as those of another processor: `mount -t binfmt_misc`, as a
/// detached mount (nosuid, nodev, noexec).
///
/// It has no options. Each user namespace in which it is mounted has its own formats; where it is not mounted, those of the
/// nearest namespace above count. The machine's first user namespace has one, which containers without a user namespace
/// share.
///
/// * Calls: those of [`Filesystem`](crate::Filesystem).
/// * Kernel: in a user namespace since Linux 6.7; before it is Unsupported there.
/// * Privileges: CAP_SYS_ADMIN in the user namespace that owns the caller's mount namespace.
///
/// ```no_run
/// use mountkit::{BinfmtMisc, RootFd};
///
/// BinfmtMisc::new().mount()?.attach(&RootFd::open("/srv/c1")?, "proc/sys/fs/binfmt_misc")?;
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// See the kernel's page on it: <https://docs.kernel.org/admin-guide/binfmt-misc.html>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "it is made by `mount`"]
#[non_exhaustive]
pub struct BinfmtMisc {
    mount: MountOptions,
}

impl BinfmtMisc {
    /// With the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets attributes of the mount, beside those it has by default.
    pub fn attrs(mut self, attrs: MountAttr) -> Self {
        self.mount.set(attrs);
        self
    }

    pub(crate) fn recipe(&self) -> Result<Recipe> {
        self.mount.recipe(c"binfmt_misc", MountAttr::INERT, Vec::new())
    }

    /// `fsopen`, `fsconfig`, `fsmount`: makes it, detached.
    ///
    /// # Errors
    /// NotFound (ENODEV: the kernel was built without it), Permission (EPERM), Unsupported (in a user namespace before
    /// Linux 6.7).
    #[doc(alias("fsopen", "fsconfig", "fsmount"))]
    pub fn mount(&self) -> Result<DetachedMount> {
        self.recipe()?.mount().map_err(|error| {
            let refused = error.operation() == "fsconfig" && error.kind() == ErrorKind::Permission;
            let too_old = sys::mount::kernel_release().is_some_and(|release| release < (6, 7));
            if refused && too_old {
                return error.as_unsupported("binfmt_misc in a user namespace", Some("6.7"));
            }
            error
        })
    }
}
