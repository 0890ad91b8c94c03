//! A directory or file of the host, mounted in the root.
#![forbid(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use cellkit_core::{Error, Result};

use crate::shared_fd::SharedFd;
use crate::{Atime, MountAttr, Propagation, sys};

/// How much of a volume is read-only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ReadOnly {
    #[default]
    None,
    /// The topmost mount.
    Top,
    /// What is mounted below it as well.
    All,
}

/// A directory or file of the host that the container sees at another path: `mount --rbind SOURCE ROOT/TARGET`.
///
/// The source is cloned with everything mounted below it; what it may do is set *before* anybody can reach it; then it is
/// put on the target, which is made if it is missing. Flags of the source's mount (ro, nosuid, nodev, noexec) stay, those
/// of mounts below it too. Device nodes in a directory cannot be opened unless [`devices`](Self::devices) is said; a
/// device that is a volume of its own can.
///
/// * Calls: [open_tree(2)](https://man7.org/linux/man-pages/man2/open_tree.2.html) with OPEN_TREE_CLONE and
///   AT_RECURSIVE (Linux 5.2), [mount_setattr(2)](https://man7.org/linux/man-pages/man2/mount_setattr.2.html) (5.12),
///   [move_mount(2)](https://man7.org/linux/man-pages/man2/move_mount.2.html) (5.2).
/// * Privileges: none beyond those of the new mount namespace; for [`idmap`](Self::idmap) see there.
///
/// ```
/// use mountkit::{MountAttr, Rootfs, Volume};
///
/// let rootfs = Rootfs::overlay_of_host()
///     .volume(Volume::bind("/etc", "/mnt/etc").read_only())
///     .volume(Volume::bind("/usr", "/mnt/usr").attrs(MountAttr::NOSUID | MountAttr::NOEXEC));
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
    read_only: ReadOnly,
    alone: bool,
    devices: bool,
    set_user_id: bool,
    attrs: MountAttr,
    atime: Option<Atime>,
    propagation: Propagation,
    idmap: Option<SharedFd>,
}

impl Volume {
    /// `source` of the host at `target` of the container. Checked by [`Rootfs::check`](crate::Rootfs::check).
    pub fn bind(source: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        Self {
            source: source.as_ref().into(),
            target: target.as_ref().into(),
            read_only: ReadOnly::None,
            alone: false,
            devices: false,
            set_user_id: false,
            attrs: MountAttr::empty(),
            atime: None,
            propagation: Propagation::Private,
            idmap: None,
        }
    }

    /// `rro`: the container cannot write to it, nor to anything mounted below it.
    #[doc(alias = "MOUNT_ATTR_RDONLY")]
    #[doc(alias = "rro")]
    pub fn read_only(mut self) -> Self {
        self.read_only = ReadOnly::All;
        self
    }

    /// `ro` as mount(8) and the OCI runtime specification have it: the container cannot write to it, but to what is
    /// mounted below it as the host can.
    #[doc(alias = "ro")]
    pub fn read_only_topmost(mut self) -> Self {
        self.read_only = ReadOnly::Top;
        self
    }

    /// `bind` and not `rbind`: without what is mounted below it. A new user namespace may not take the host's mounts
    /// apart: there it is an error when there are any.
    #[doc(alias = "MS_REC")]
    pub fn without_mounts_below(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Sets `attrs` (nosuid, noexec, ...) on it and on what is mounted below it, beside those that are there. None is
    /// ever cleared: the host had its reasons, and a user namespace may not.
    #[doc(alias = "MS_NOEXEC")]
    pub fn attrs(mut self, attrs: MountAttr) -> Self {
        self.attrs |= attrs;
        self
    }

    /// When reading writes access times; without it, as the source's mount. A user namespace may not change it.
    #[doc(alias = "MOUNT_ATTR__ATIME")]
    pub fn atime(mut self, atime: Atime) -> Self {
        self.atime = Some(atime);
        self
    }

    /// Device nodes in it can be opened, where the host's mount allows it.
    #[doc(alias = "MS_NODEV")]
    pub fn devices(mut self) -> Self {
        self.devices = true;
        self
    }

    /// What comes of mounts made below it later, on either side. By default nothing.
    ///
    /// * `Slave`: what the host mounts below the source arrives in the container (hot-plug), if the source's mount is
    ///   shared there; nothing goes back.
    /// * `Shared`: both ways: *what the container mounts below it appears on the host*, and stays there until somebody
    ///   unmounts it. Only for a container that may do that to the machine. Refused for an unprivileged one, whose copies
    ///   the kernel makes slaves.
    /// * `Unbindable`: as private, and the container cannot bind it elsewhere.
    #[doc(alias = "rslave")]
    #[doc(alias = "rshared")]
    #[doc(alias = "MS_SLAVE")]
    #[doc(alias = "MS_SHARED")]
    pub fn propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = propagation;
        self
    }

    /// Shows the owners of its files through the id maps of the user namespace `userns`: an id of the file system that
    /// is the number N inside `userns` is seen as what N is outside. It is nosuid, unless
    /// [`set_user_id`](Self::set_user_id) is said: else a container's root could leave a set-user-id program of the host's
    /// root on the host's disk.
    ///
    /// A child in the machine's first user namespace makes it itself. For one in a new user namespace
    /// ([`Rootfs::unprivileged`](crate::Rootfs::unprivileged)), which may not,
    /// [`Rootfs::steps`](crate::Rootfs::steps) makes it, detached, with the caller's privileges; such steps serve one
    /// start.
    ///
    /// * Kernel: Linux 5.12, and a file system that can (ext4, xfs, btrfs; tmpfs 6.3, overlay 5.19 on such layers):
    ///   else Invalid (EINVAL).
    /// * Privileges: CAP_SYS_ADMIN in the user namespace of the file system: else Permission (EPERM).
    #[doc(alias = "MOUNT_ATTR_IDMAP")]
    pub fn idmap(mut self, userns: impl Into<OwnedFd>) -> Self {
        self.idmap = Some(userns.into().into());
        self
    }

    /// Set-user-id programs have effect on an idmapped volume too.
    #[doc(alias = "MS_NOSUID")]
    pub fn set_user_id(mut self) -> Self {
        self.set_user_id = true;
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

    pub(crate) fn read_only_part(&self) -> ReadOnly {
        self.read_only
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.alone
    }

    pub(crate) fn propagates(&self) -> Propagation {
        self.propagation
    }

    pub(crate) fn id_map(&self) -> Option<&SharedFd> {
        self.idmap.as_ref()
    }

    /// What is set on all of it, and what is cleared for that; `is_dir` says what the source is.
    pub(crate) fn attributes(&self, is_dir: bool) -> sys::RawMountAttr {
        let mut attrs = self.attrs;
        attrs.set(MountAttr::RDONLY, self.read_only == ReadOnly::All || attrs.contains(MountAttr::RDONLY));
        attrs.set(MountAttr::NODEV, is_dir && !self.devices || attrs.contains(MountAttr::NODEV));
        let foreign = self.idmap.is_some() && !self.set_user_id;
        attrs.set(MountAttr::NOSUID, foreign || attrs.contains(MountAttr::NOSUID));
        // The access time is one choice of several: the old one is cleared as the new one is set.
        let (atime, attr_clr) = self.atime.map_or((0, 0), |atime| (atime.bits(), libc::MOUNT_ATTR__ATIME));
        sys::RawMountAttr { attr_set: attrs.bits() | atime, attr_clr, ..Default::default() }
    }

    /// Whether the source is a directory.
    pub(crate) fn is_dir(&self) -> Result<bool> {
        if self.source.as_os_str().is_empty() {
            return Err(Error::invalid("open_tree", "the source of a volume is an empty path").on(&*self.target));
        }
        let metadata = std::fs::metadata(&self.source).map_err(|error| {
            crate::host_path::io_error("open", &error, &self.source).context("look at a volume's source")
        })?;
        Ok(metadata.is_dir())
    }

    /// What the kernel would refuse a child in a new user namespace, which got the host's mounts with their flags locked.
    pub(crate) fn check_locked(&self, table: &crate::MountTable) -> Result<()> {
        let refuse = |operation, why: &str| Err(Error::invalid(operation, why.to_owned()).on(&*self.source));
        if self.propagation == Propagation::Shared {
            return refuse("mount_setattr", "in a user namespace every mount is a slave: nothing can go to the host");
        }
        let place = crate::host_path::open_place(&self.source)?;
        if let Some(atime) = self.atime {
            let flags = sys::mount_flags(place.as_raw_fd())
                .map_err(|errno| Error::from_errno("fstatfs", errno.0).on(&*self.source))?;
            if atime != atime_of(flags) {
                return refuse("mount_setattr", "a user namespace may not change when access times are written");
            }
        }
        let real = std::fs::canonicalize(&self.source)
            .map_err(|error| crate::host_path::io_error("realpath", &error, &self.source))?;
        if self.alone && !table.below(&real).is_empty() {
            let why = "a user namespace may not take the host's mounts apart, and there are some below it";
            return refuse("open_tree", why);
        }
        Ok(())
    }
}

/// What statvfs(3)'s flags say of the access time.
fn atime_of(flags: u64) -> Atime {
    const ST_NOATIME: u64 = 1024;
    const ST_RELATIME: u64 = 4096;
    match (flags & ST_NOATIME != 0, flags & ST_RELATIME != 0) {
        (true, _) => Atime::Never,
        (false, true) => Atime::Relative,
        (false, false) => Atime::Strict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_on_it() {
        let volume = || Volume::bind("/a", "/b");
        let set = |volume: Volume, is_dir| volume.attributes(is_dir).attr_set;
        assert_eq!(set(volume(), false), 0);
        assert_eq!(set(volume(), true), libc::MOUNT_ATTR_NODEV);
        assert_eq!(set(volume().devices(), true), 0);
        assert_eq!(set(volume().devices().attrs(MountAttr::NODEV), true), libc::MOUNT_ATTR_NODEV);
        assert_eq!(set(volume().read_only(), false), libc::MOUNT_ATTR_RDONLY);
        assert_eq!(set(volume().read_only_topmost(), false), 0);
        let userns = || OwnedFd::from(std::fs::File::open("/proc/self/ns/user").expect("open"));
        assert_eq!(set(volume().idmap(userns()), false), libc::MOUNT_ATTR_NOSUID);
        assert_eq!(set(volume().idmap(userns()).set_user_id(), false), 0);
        let attr = volume().atime(Atime::Never).attributes(false);
        assert_eq!((attr.attr_set, attr.attr_clr), (libc::MOUNT_ATTR_NOATIME, libc::MOUNT_ATTR__ATIME));
    }

    #[test]
    fn access_times() {
        assert_eq!(atime_of(0), Atime::Strict);
        assert_eq!(atime_of(4096), Atime::Relative);
        assert_eq!(atime_of(1024 | 4096), Atime::Never);
    }
}
