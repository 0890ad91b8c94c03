//! What can be mounted in a root, beside volumes.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;

use cellkit_core::Result;

use crate::filesystem::Recipe;
use crate::shared_fd::SharedFd;
use crate::{BinfmtMisc, Cgroup2, DetachedMount, Devpts, Hugetlbfs, Mqueue, Proc, Sysfs, Tmpfs};

/// What [`Rootfs::mount`](crate::Rootfs::mount) takes: a file system that the child makes new, or a tree that the caller
/// made.
///
/// It is made `From` a [`Tmpfs`], [`Proc`], [`Sysfs`], [`Devpts`], [`Mqueue`], [`Cgroup2`], [`Hugetlbfs`] or [`BinfmtMisc`],
/// which the child makes, in its own namespaces, by fsopen(2); or from a [`DetachedMount`], which the child attaches. Every
/// other file system is a detached mount: [`Filesystem`](crate::Filesystem).
///
/// ```
/// use mountkit::{HidePid, Mqueue, Proc, Rootfs, Tmpfs};
///
/// let rootfs = Rootfs::overlay_of_host()
///     .mount(Proc::new().hidepid(HidePid::Invisible), "/mnt/proc")
///     .mount(Tmpfs::new().size(1 << 20), "/scratch")
///     .mount(Mqueue::new(), "/queues");
/// rootfs.check()?;
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// See fsopen(2): <https://man7.org/linux/man-pages/man2/fsopen.2.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSource(pub(crate) Source);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Tmpfs(Tmpfs),
    Proc(Proc),
    Sysfs(Sysfs),
    Devpts(Devpts),
    Mqueue(Mqueue),
    Cgroup2(Cgroup2),
    Hugetlbfs(Hugetlbfs),
    BinfmtMisc(BinfmtMisc),
    Detached(SharedFd),
}

/// How a [`Source`] is had in the child.
pub(crate) enum Made<'a> {
    Here(Recipe),
    ByTheCaller(&'a SharedFd),
}

impl Source {
    pub(crate) fn made(&self) -> Result<Made<'_>> {
        let recipe = match self {
            Self::Tmpfs(fs) => fs.recipe(),
            Self::Proc(fs) => fs.recipe(),
            Self::Sysfs(fs) => fs.recipe(),
            Self::Devpts(fs) => fs.recipe(),
            Self::Mqueue(fs) => fs.recipe(),
            Self::Cgroup2(fs) => fs.recipe(),
            Self::Hugetlbfs(fs) => fs.recipe(),
            Self::BinfmtMisc(fs) => fs.recipe(),
            Self::Detached(fd) => return Ok(Made::ByTheCaller(fd)),
        };
        recipe.map(Made::Here)
    }
}

macro_rules! from {
    ($($builder:ident),+) => {
        $(impl From<$builder> for MountSource {
            fn from(fs: $builder) -> Self {
                Self(Source::$builder(fs))
            }
        })+
    };
}

from!(Tmpfs, Proc, Sysfs, Devpts, Mqueue, Cgroup2, Hugetlbfs, BinfmtMisc);

impl From<DetachedMount> for MountSource {
    fn from(mount: DetachedMount) -> Self {
        Self(Source::Detached(OwnedFd::from(mount).into()))
    }
}
