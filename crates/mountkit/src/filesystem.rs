//! File systems made new, as detached mounts.
//!
//! The general one is [`Filesystem`]: a type by its name, and options by theirs. Those that containers need of the kernel
//! have a builder each, which knows their options. What such a builder amounts to is a `Recipe`, from which both its
//! `mount()` and the steps of a [`Rootfs`](crate::Rootfs) are made, so that the two cannot disagree.
#![forbid(unsafe_code)]

mod binfmt_misc;
mod cgroup2;
mod context;
mod devpts;
mod hugetlbfs;
mod mqueue;
mod proc;
mod recipe;
mod reconfigure;
mod sysfs;
mod tmpfs;

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use cellkit_core::{Error, Result, Subject};

use crate::{Atime, DetachedMount, MountAttr};

pub use binfmt_misc::BinfmtMisc;
pub use cgroup2::Cgroup2;
pub(crate) use context::{Context, Superblock};
pub use devpts::Devpts;
pub use hugetlbfs::{HugePageSize, Hugetlbfs};
pub use mqueue::Mqueue;
pub use proc::{HidePid, Proc};
pub(crate) use recipe::{Recipe, Value};
pub use reconfigure::Reconfigure;
pub use sysfs::Sysfs;
pub use tmpfs::{HugePages, Tmpfs};

/// The kernel copies keys and values of this many bytes, with their NUL.
const LONGEST: usize = 256;

/// The value of an option.
#[derive(Clone, Debug)]
enum Argument<'a> {
    Text(OsString),
    Flag,
    Fd(BorrowedFd<'a>),
}

/// A file system of any type, by the kernel's names for its type and its options: `mount -t TYPE -o …`, as a detached
/// mount.
///
/// Options are set one by one, in the order given, and are not parsed: a value may hold commas and any other byte but NUL. The
/// kernel's own words about one that it refuses are in the error. A value has at most 255 bytes; what is longer is
/// refused and never cut. There are builders that know the options of [`Tmpfs`], [`Proc`], [`Sysfs`], [`Devpts`],
/// [`Mqueue`], [`Cgroup2`], [`Hugetlbfs`] and [`BinfmtMisc`].
///
/// * Calls: [fsopen(2)](https://man7.org/linux/man-pages/man2/fsopen.2.html),
///   [fsconfig(2)](https://man7.org/linux/man-pages/man2/fsconfig.2.html),
///   [fsmount(2)](https://man7.org/linux/man-pages/man2/fsmount.2.html). Linux 5.2; no fallback.
/// * Privileges: CAP_SYS_ADMIN in the user namespace that owns the mount namespace; for a file system that user namespaces
///   may not mount, such as every one on a disk, in the machine's first one.
///
/// ```no_run
/// use mountkit::{Filesystem, MountAttr, RootFd};
///
/// let image = Filesystem::new("erofs").source("/dev/loop0").attrs(MountAttr::RDONLY | MountAttr::NODEV).mount()?;
/// image.attach(&RootFd::open("/run/images")?, "web")?;
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// See fsopen(2): <https://man7.org/linux/man-pages/man2/fsopen.2.html>.
#[derive(Clone, Debug)]
#[doc(alias("mount", "fsopen", "fsconfig", "fsmount"))]
#[must_use = "it is made by `mount`"]
pub struct Filesystem<'a> {
    fs: OsString,
    arguments: Vec<(OsString, Argument<'a>)>,
    superblock: Superblock,
    attrs: MountAttr,
    atime: Option<Atime>,
}

impl<'a> Filesystem<'a> {
    /// One of the type `fs`: a name that /proc/filesystems has, or whose module the kernel can load.
    pub fn new(fs: impl AsRef<OsStr>) -> Self {
        Self {
            fs: fs.as_ref().into(),
            arguments: Vec::new(),
            superblock: Superblock::NewOrShared,
            attrs: MountAttr::empty(),
            atime: None,
        }
    }

    /// What it is made of: the path of a block device, or whatever the type takes for it. mount(8) shows it in its first
    /// column.
    #[doc(alias = "FSCONFIG_SET_STRING")]
    pub fn source(self, source: impl AsRef<OsStr>) -> Self {
        self.set("source", source)
    }

    /// The option `key=value`.
    #[doc(alias = "FSCONFIG_SET_STRING")]
    pub fn set(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.arguments.push((key.as_ref().into(), Argument::Text(value.as_ref().into())));
        self
    }

    /// The option `key`, which has no value.
    #[doc(alias = "FSCONFIG_SET_FLAG")]
    pub fn flag(mut self, key: impl AsRef<OsStr>) -> Self {
        self.arguments.push((key.as_ref().into(), Argument::Flag));
        self
    }

    /// The option `key`, whose value is a descriptor. Few options take one: `fd` of fuse, `lowerdir+` of overlay (6.13).
    #[doc(alias = "FSCONFIG_SET_FD")]
    pub fn set_fd(mut self, key: impl AsRef<OsStr>, fd: &'a impl AsFd) -> Self {
        self.arguments.push((key.as_ref().into(), Argument::Fd(fd.as_fd())));
        self
    }

    /// A file system of its own, or none: EBUSY where the kernel would give another mount of one that is there already,
    /// and forget the options. Linux 6.6.
    #[doc(alias = "FSCONFIG_CMD_CREATE_EXCL")]
    pub fn exclusive(mut self) -> Self {
        self.superblock = Superblock::New;
        self
    }

    /// Sets attributes of the mount.
    pub fn attrs(mut self, attrs: MountAttr) -> Self {
        self.attrs |= attrs;
        self
    }

    /// When reading writes access times.
    #[doc(alias = "MOUNT_ATTR__ATIME")]
    pub fn atime(mut self, atime: Atime) -> Self {
        self.atime = Some(atime);
        self
    }

    /// `fsopen`, `fsconfig`, `fsmount`: makes it, detached.
    ///
    /// # Errors
    /// NotFound (ENODEV: no such type; ENOENT: the source), Permission (EPERM), Invalid (a NUL byte, a value that is too
    /// long; EINVAL: an option, in the kernel's words), Busy (EBUSY: the source is in use, or not
    /// [`exclusive`](Self::exclusive)), Unsupported (`exclusive` before Linux 6.6).
    #[doc(alias("fsopen", "fsconfig", "fsmount"))]
    pub fn mount(&self) -> Result<DetachedMount> {
        let subject = Subject::Thing(self.fs.to_string_lossy().into_owned());
        let mut arguments = Vec::with_capacity(self.arguments.len());
        for (key, argument) in &self.arguments {
            let value = match argument {
                Argument::Text(value) => Prepared::Text(word(value, &subject)?),
                Argument::Flag => Prepared::Flag,
                Argument::Fd(fd) => Prepared::Fd(*fd),
            };
            arguments.push((word(key, &subject)?, value));
        }
        let context = Context::open(&word(&self.fs, &subject)?, subject)?;
        for (key, value) in &arguments {
            match value {
                Prepared::Text(value) => context.set(key, value)?,
                Prepared::Flag => context.flag(key)?,
                Prepared::Fd(fd) => context.set_fd(key, *fd)?,
            }
        }
        context.create(self.superblock)?;
        context.mount(self.attrs, self.atime)
    }
}

/// A value as the call takes it.
enum Prepared<'a> {
    Text(CString),
    Flag,
    Fd(BorrowedFd<'a>),
}

/// The name of a type or option, or the value of one, as the kernel takes it.
fn word(text: &OsStr, subject: &Subject) -> Result<CString> {
    let refuse = |why: String| Error::invalid("fsconfig", why).on(subject.clone());
    if text.is_empty() {
        return Err(refuse("a name or a value is empty".into()));
    }
    if text.as_bytes().len() >= LONGEST {
        return Err(refuse(format!("a value has {} bytes, of which the kernel takes 255", text.as_bytes().len())));
    }
    CString::new(text.to_os_string().into_vec()).map_err(|_| refuse("a name or a value has a NUL byte in it".into()))
}

/// What each builder of a file system has beside its own options: setters for the mount, and the call that makes it.
macro_rules! as_a_mount {
    ($builder:ty) => {
        impl $builder {
            /// Sets attributes of the mount, beside those it has by default.
            pub fn attrs(mut self, attrs: crate::MountAttr) -> Self {
                self.mount.set(attrs);
                self
            }

            /// Takes attributes away that it has by default.
            pub fn clear(mut self, attrs: crate::MountAttr) -> Self {
                self.mount.clear(attrs);
                self
            }

            /// When reading writes access times.
            #[doc(alias = "MOUNT_ATTR__ATIME")]
            pub fn atime(mut self, atime: crate::Atime) -> Self {
                self.mount.atime = Some(atime);
                self
            }

            /// The name that mount(8) shows in its first column, for people to know it by: `none` without it. At most 255
            /// bytes.
            pub fn source(mut self, name: impl AsRef<std::ffi::OsStr>) -> Self {
                self.mount.source = Some(name.as_ref().into());
                self
            }

            /// `fsopen`, `fsconfig`, `fsmount`: makes it, detached.
            ///
            /// # Errors
            /// Invalid (a value that cannot be, before anything is done; EINVAL: an option, in the kernel's words),
            /// Permission (EPERM), NotFound (ENODEV: the kernel has no such file system), Unsupported (an option that
            /// this kernel does not know), OutOfMemory (ENOMEM).
            #[doc(alias("fsopen", "fsconfig", "fsmount"))]
            pub fn mount(&self) -> cellkit_core::Result<crate::DetachedMount> {
                self.recipe()?.mount()
            }
        }
    };
}
use as_a_mount;

#[cfg(test)]
mod tests {
    use super::*;
    use cellkit_core::ErrorKind;

    #[test]
    fn what_is_refused_before_anything_is_made() {
        let long = "x".repeat(256);
        for (filesystem, why) in [
            (Filesystem::new(""), "empty"),
            (Filesystem::new("tm\0pfs"), "NUL"),
            (Filesystem::new("tmpfs").set("size", "1\0"), "NUL"),
            (Filesystem::new("tmpfs").set("", "1"), "empty"),
            (Filesystem::new("tmpfs").flag(&long), "255"),
            (Filesystem::new("tmpfs").source(&long), "256 bytes"),
        ] {
            let error = filesystem.mount().expect_err(why);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
