//! Another view of a directory or file.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cellkit_core::{Error, Result};

use crate::hint::HINTS;
use crate::{Atime, DetachedMount, MountAttr, sys};

/// A directory or file that is to be seen elsewhere too: `mount --bind`, as a detached mount.
///
/// ```no_run
/// use mountkit::{Bind, MountAttr};
///
/// let data = Bind::new("/srv/data").recursive().attrs(MountAttr::RDONLY | MountAttr::NOSUID).mount()?;
/// # drop(data);
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// See open_tree(2): <https://man7.org/linux/man-pages/man2/open_tree.2.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(alias = "MS_BIND")]
#[doc(alias = "OPEN_TREE_CLONE")]
#[must_use]
pub struct Bind {
    source: PathBuf,
    recursive: bool,
    attrs: MountAttr,
    atime: Option<Atime>,
}

impl Bind {
    /// The directory or file `source`; links in it are followed.
    pub fn new(source: impl AsRef<Path>) -> Self {
        Self { source: source.as_ref().into(), recursive: false, attrs: MountAttr::empty(), atime: None }
    }

    /// With all that is mounted below it, and what is set is set on all of it.
    #[doc(alias = "MS_REC")]
    #[doc(alias = "AT_RECURSIVE")]
    pub fn recursive(mut self) -> Self {
        self.recursive = true;
        self
    }

    /// Sets `attrs`, beside those that the source's mount has.
    pub fn attrs(mut self, attrs: MountAttr) -> Self {
        self.attrs |= attrs;
        self
    }

    /// When reading writes access times; without it, as the source's mount.
    #[doc(alias = "MOUNT_ATTR__ATIME")]
    pub fn atime(mut self, atime: Atime) -> Self {
        self.atime = Some(atime);
        self
    }

    /// `open_tree(OPEN_TREE_CLONE)` and `mount_setattr`: makes it, detached.
    ///
    /// # Errors
    /// NotFound (ENOENT), Permission (EPERM: no CAP_SYS_ADMIN; EACCES), Invalid (an empty path, a NUL byte; EINVAL: the
    /// source's mount is unbindable).
    pub fn mount(&self) -> Result<DetachedMount> {
        let fail = |operation, errno: cellkit_core::Errno| {
            Error::from_errno(operation, errno.0).on(&*self.source).with_hints(&HINTS)
        };
        let source = CString::new(self.source.as_os_str().as_bytes())
            .map_err(|_| Error::invalid("open_tree", "the path has a NUL byte in it").on(&*self.source))?;
        let reach = if self.recursive { libc::AT_RECURSIVE as u32 } else { 0 };
        let fd = sys::mount::clone_tree(None, &source, reach).map_err(|errno| fail("open_tree", errno))?;
        let mount = DetachedMount::new(fd, &*self.source);
        // The access time is one choice of several: the old one is cleared as the new one is set.
        let (attr_set, attr_clr) = match self.atime {
            Some(atime) => (self.attrs.bits() | atime.bits(), libc::MOUNT_ATTR__ATIME),
            None => (self.attrs.bits(), 0),
        };
        let attr = sys::RawMountAttr { attr_set, attr_clr, ..Default::default() };
        if attr != Default::default() {
            let flags = reach | libc::AT_EMPTY_PATH as u32;
            sys::mount::set_attr(&mount, flags, &attr).map_err(|errno| fail("mount_setattr", errno))?;
        }
        Ok(mount)
    }
}
