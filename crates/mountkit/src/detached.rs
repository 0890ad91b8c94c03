//! A tree of mounts that is mounted nowhere yet.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use cellkit_core::{Errno, Error, Result, Subject};

use crate::hint::HINTS;
use crate::sys::{self, RawMountAttr};
use crate::{MountAttr, Propagation, RootFd};

/// A mount, or a tree of mounts, that is nowhere in the directory tree: a descriptor is all that holds it.
///
/// Whatever it is to be (read-only, nosuid, private, idmapped) is set while nobody can reach it; then
/// [`attach`](Self::attach) makes it visible in one step. Dropped before that, it is gone, and so it is when the process
/// is killed.
///
/// * Calls: what made it is [open_tree(2)](https://man7.org/linux/man-pages/man2/open_tree.2.html) with OPEN_TREE_CLONE or
///   [fsmount(2)](https://man7.org/linux/man-pages/man2/fsmount.2.html) (Linux 5.2).
/// * Privileges: CAP_SYS_ADMIN in the user namespace that owns the caller's mount namespace.
///
/// ```no_run
/// use mountkit::{Bind, MountAttr, RootFd};
///
/// let data = Bind::new("/srv/data").attrs(MountAttr::RDONLY).mount()?;
/// data.attach(&RootFd::open("/run/c1/root")?, "data")?;
/// # Ok::<(), mountkit::Error>(())
/// ```
#[derive(Debug)]
#[doc(alias = "open_tree")]
#[doc(alias = "fsmount")]
#[must_use = "a detached mount is gone as soon as it is dropped"]
pub struct DetachedMount {
    fd: OwnedFd,
    /// What it is a mount of, as errors name it.
    subject: Subject,
}

impl DetachedMount {
    pub(crate) fn new(fd: OwnedFd, subject: impl Into<Subject>) -> Self {
        Self { fd, subject: subject.into() }
    }

    fn fail(&self, operation: &'static str, errno: Errno) -> Error {
        Error::from_errno(operation, errno.0).on(self.subject.clone()).with_hints(&HINTS)
    }

    fn change(&self, attr: &RawMountAttr) -> Result<()> {
        sys::mount_setattr(self.fd.as_raw_fd(), c"", libc::AT_EMPTY_PATH as u32, attr)
            .map_err(|errno| self.fail("mount_setattr", errno))
    }

    /// `mount_setattr`: sets `attrs` on its topmost mount, and leaves the others as they are.
    ///
    /// # Errors
    /// Permission (EPERM).
    #[doc(alias = "mount_setattr")]
    pub fn set(&self, attrs: MountAttr) -> Result<()> {
        self.change(&RawMountAttr { attr_set: attrs.bits(), ..RawMountAttr::default() })
    }

    /// `mount_setattr`: clears `attrs` on its topmost mount, and leaves the others as they are.
    ///
    /// # Errors
    /// Permission (EPERM): one of them is locked.
    #[doc(alias = "mount_setattr")]
    pub fn clear(&self, attrs: MountAttr) -> Result<()> {
        self.change(&RawMountAttr { attr_clr: attrs.bits(), ..RawMountAttr::default() })
    }

    /// `mount_setattr`: sets the propagation of its topmost mount.
    ///
    /// # Errors
    /// Permission (EPERM), Limit (ENOSPC): no more peer group ids.
    #[doc(alias = "mount_setattr")]
    pub fn set_propagation(&self, propagation: Propagation) -> Result<()> {
        self.change(&RawMountAttr { propagation: propagation.flag(), ..RawMountAttr::default() })
    }

    /// `move_mount`: makes it visible at `path`, which is looked up inside `root` only and must exist.
    ///
    /// # Errors
    /// As [`RootFd::open_dir`]; Permission (EPERM); Invalid (ENOTDIR: one is a directory and the other is not); Limit
    /// (ENOSPC: /proc/sys/fs/mount-max). The mount is gone then, as nobody holds it.
    #[doc(alias = "move_mount")]
    pub fn attach(self, root: &RootFd, path: impl AsRef<Path>) -> Result<()> {
        let place = root.place(path.as_ref())?;
        sys::move_mount(self.fd.as_raw_fd(), place.as_raw_fd(), c"").map_err(|errno| self.fail("move_mount", errno))
    }
}

impl AsFd for DetachedMount {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for DetachedMount {
    /// Takes a descriptor of a detached mount, such as another process has sent. Errors show it as `fd N`.
    fn from(fd: OwnedFd) -> Self {
        let subject = Subject::Thing(format!("fd {}", fd.as_raw_fd()));
        Self { fd, subject }
    }
}

impl From<DetachedMount> for OwnedFd {
    fn from(mount: DetachedMount) -> Self {
        mount.fd
    }
}
