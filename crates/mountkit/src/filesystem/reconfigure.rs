//! A file system that exists, with other options.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd};

use cellkit_core::{Error, Result, Subject};

use super::context::Context;
use super::word;
use crate::hint::HINTS;
use crate::sys;

/// Other options for a file system that is mounted: `mount -o remount`, by a descriptor.
///
/// It changes the *file system*, wherever it is mounted: `ro` makes every mount of it read-only. What only one mount is to
/// be, [`DetachedMount::set`](crate::DetachedMount::set) does. Which options can be changed is up to the type: a
/// tmpfs changes its size and number of inodes, most others only `ro` and `rw`. What is not named stays as it is.
///
/// * Calls: [fspick(2)](https://man7.org/linux/man-pages/man2/fspick.2.html) with FSPICK_EMPTY_PATH, and
///   [fsconfig(2)](https://man7.org/linux/man-pages/man2/fsconfig.2.html) FSCONFIG_CMD_RECONFIGURE. Linux 5.2; no
///   fallback.
/// * Privileges: CAP_SYS_ADMIN in the user namespace that the file system was made in, and in that of the caller's mount
///   namespace.
///
/// ```no_run
/// use mountkit::{Reconfigure, Tmpfs};
///
/// let scratch = Tmpfs::new().size(1 << 20).mount()?;
/// Reconfigure::new().set("size", "2097152").apply(&scratch)?;
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// See fspick(2): <https://man7.org/linux/man-pages/man2/fspick.2.html>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[doc(alias("MS_REMOUNT", "fspick", "remount"))]
#[must_use = "it is done by `apply`"]
pub struct Reconfigure {
    arguments: Vec<(OsString, Option<OsString>)>,
}

impl Reconfigure {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The option `key=value`.
    #[doc(alias = "FSCONFIG_SET_STRING")]
    pub fn set(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.arguments.push((key.as_ref().into(), Some(value.as_ref().into())));
        self
    }

    /// The option `key`, which has no value: `ro`, `rw`, `sync`.
    #[doc(alias = "FSCONFIG_SET_FLAG")]
    pub fn flag(mut self, key: impl AsRef<OsStr>) -> Self {
        self.arguments.push((key.as_ref().into(), None));
        self
    }

    /// `fspick`, `fsconfig`: changes the file system that `root` is the root of a mount of.
    ///
    /// # Errors
    /// Invalid (an option, in the kernel's words; EINVAL from fspick: `root` is not the root of a mount), Permission
    /// (EPERM), Busy (EBUSY: `ro` while a file is open for writing).
    #[doc(alias("fspick", "FSCONFIG_CMD_RECONFIGURE"))]
    pub fn apply(&self, root: &impl AsFd) -> Result<()> {
        let subject = Subject::Thing(format!("fd {}", root.as_fd().as_raw_fd()));
        let mut arguments = Vec::with_capacity(self.arguments.len());
        for (key, value) in &self.arguments {
            let value = value.as_ref().map(|value| word(value, &subject)).transpose()?;
            arguments.push((word(key, &subject)?, value));
        }
        let picked = sys::mount::pick(root.as_fd());
        let fd = picked.map_err(|errno| Error::from_errno("fspick", errno.0).on(subject.clone()).with_hints(&HINTS))?;
        let context = Context::of(fd, subject);
        for (key, value) in &arguments {
            match value {
                Some(value) => context.set(key, value)?,
                None => context.flag(key)?,
            }
        }
        context.reconfigure()
    }
}
