//! What is changed of a mount, in one call.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::AsFd;

use cellkit_core::Errno;

use crate::sys::{self, RawMountAttr};
use crate::{Atime, MountAttr, Propagation};

/// Attributes, access times and propagation of a mount, all changed by one call or none.
///
/// For [`DetachedMount::change`](crate::DetachedMount::change) and [`Mount::change`](crate::Mount::change). The last word about
/// an attribute counts.
///
/// ```
/// use mountkit::{Atime, MountAttr, MountChange, Propagation};
///
/// let sealed = MountChange::new()
///     .set(MountAttr::RDONLY | MountAttr::NODEV)
///     .clear(MountAttr::NOEXEC)
///     .atime(Atime::Never)
///     .propagation(Propagation::Slave)
///     .recursive();
/// assert_eq!(sealed.to_string(), "+ro,nodev -noexec noatime slave, recursive");
/// ```
///
/// See mount_setattr(2): <https://man7.org/linux/man-pages/man2/mount_setattr.2.html>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[doc(alias = "mount_attr")]
#[must_use = "it is made by `change`"]
#[non_exhaustive]
pub struct MountChange {
    pub(crate) set: MountAttr,
    pub(crate) clear: MountAttr,
    pub(crate) atime: Option<Atime>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) recursive: bool,
}

impl MountChange {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `attrs`, and leaves the others as they are.
    #[doc(alias = "attr_set")]
    pub fn set(mut self, attrs: MountAttr) -> Self {
        self.set |= attrs;
        self.clear -= attrs;
        self
    }

    /// Clears `attrs`, and leaves the others as they are.
    #[doc(alias = "attr_clr")]
    pub fn clear(mut self, attrs: MountAttr) -> Self {
        self.clear |= attrs;
        self.set -= attrs;
        self
    }

    /// When reading writes access times.
    #[doc(alias = "MOUNT_ATTR__ATIME")]
    pub fn atime(mut self, atime: Atime) -> Self {
        self.atime = Some(atime);
        self
    }

    /// How what is mounted below it propagates.
    pub fn propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = Some(propagation);
        self
    }

    /// Of all that is mounted below it too.
    #[doc(alias = "AT_RECURSIVE")]
    pub fn recursive(mut self) -> Self {
        self.recursive = true;
        self
    }

    /// As the call takes it.
    pub(crate) fn raw(&self) -> RawMountAttr {
        // The access time is one choice of several: the old one is cleared as the new one is set.
        let (atime, old_atime) = match self.atime {
            Some(atime) => (atime.bits(), libc::MOUNT_ATTR__ATIME),
            None => (0, 0),
        };
        RawMountAttr {
            attr_set: self.set.bits() | atime,
            attr_clr: self.clear.bits() | old_atime,
            propagation: self.propagation.map_or(0, Propagation::flag),
            userns_fd: 0,
        }
    }

    /// AT_RECURSIVE or nothing.
    pub(crate) fn reach(&self) -> u32 {
        if self.recursive { libc::AT_RECURSIVE as u32 } else { 0 }
    }

    /// mount_setattr(2) of the mount that `mount` is the root of.
    pub(crate) fn apply(&self, mount: &impl AsFd) -> Result<(), Errno> {
        sys::mount::set_attr(mount, self.reach() | libc::AT_EMPTY_PATH as u32, &self.raw())
    }
}

impl fmt::Display for MountChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if !self.set.is_empty() {
            words.push(format!("+{}", self.set));
        }
        if !self.clear.is_empty() {
            words.push(format!("-{}", self.clear));
        }
        words.extend(self.atime.map(|atime| atime.to_string()));
        words.extend(self.propagation.map(|propagation| propagation.to_string()));
        if words.is_empty() {
            words.push("nothing".to_owned());
        }
        f.pad(&format!("{}{}", words.join(" "), if self.recursive { ", recursive" } else { "" }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts() {
        let change = MountChange::new().set(MountAttr::INERT).clear(MountAttr::NODEV).set(MountAttr::RDONLY);
        assert_eq!(change.set, MountAttr::NOSUID | MountAttr::NOEXEC | MountAttr::RDONLY);
        assert_eq!(change.clear, MountAttr::NODEV);
        assert_eq!(change.clear(MountAttr::RDONLY).set(MountAttr::RDONLY), change);
        assert_eq!(MountChange::new().to_string(), "nothing");
    }

    #[test]
    fn an_access_time_replaces_another() {
        let raw = MountChange::new().atime(Atime::Strict).raw();
        assert_eq!((raw.attr_set, raw.attr_clr), (libc::MOUNT_ATTR_STRICTATIME, libc::MOUNT_ATTR__ATIME));
        let raw = MountChange::new().atime(Atime::Relative).raw();
        assert_eq!((raw.attr_set, raw.attr_clr), (0, libc::MOUNT_ATTR__ATIME));
    }
}
