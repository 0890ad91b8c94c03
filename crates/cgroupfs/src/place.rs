//! Where the calling process may make groups and put processes into them.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;
use std::path::PathBuf;

use cellkit_core::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::AccessFlags;

use crate::{Cgroup, Error, Hierarchy, Result, hint};

/// A group below which the calling process may make groups and start processes in them. See [`Hierarchy::place`].
///
/// ```no_run
/// use cgroupfs::{CgroupName, Hierarchy, Limits, PidsMax};
///
/// let place = Hierarchy::detect()?.place()?;
/// let limits = Limits::new().pids_max(PidsMax::try_from(64)?);
/// let group = place.create(&CgroupName::new("web")?, &limits, &mut ())?;
/// println!("{:?}", group.path());
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#delegation>.
#[derive(Debug)]
pub struct Place {
    hierarchy: Hierarchy,
    group: Cgroup,
}

impl Hierarchy {
    /// faccessat(2): the topmost group, from the root down to the calling process's own, where the caller may make groups
    /// and move its children into them.
    ///
    /// For root that is the root of what is mounted. For an ordinary user it is the topmost group delegated to that user
    /// above its own processes: making a directory needs write access to it, and putting a process into a group needs
    /// write access to `cgroup.procs` of that group and of the nearest group that is above both it and the group the
    /// process comes from (so CLONE_INTO_CGROUP would be refused anywhere else).
    ///
    /// # Errors
    /// Permission, with how to get a delegated group, when there is none; as [`own_group`](Self::own_group).
    pub fn place(&self) -> Result<Place> {
        let own = self.own_below()?;
        let mut path = PathBuf::from("/");
        let mut refused = None;
        for part in std::iter::once(None).chain(own.components().map(Some)) {
            path.extend(part.as_ref());
            match self.open(&path).and_then(Place::usable) {
                Ok(group) => return Ok(Place { hierarchy: self.clone(), group }),
                Err(error) => refused = Some(error),
            }
        }
        let error = refused.unwrap_or_else(|| Error::from_errno("faccessat", libc::EACCES).on(self.mount_point()));
        Err(error.with_hints(&hint::HINTS).context("no group may be made here"))
    }
}

impl Place {
    fn usable(group: Cgroup) -> Result<Cgroup> {
        group.require_access(".", AccessFlags::W_OK | AccessFlags::X_OK)?;
        group.require_writable("cgroup.procs")?;
        group.require_writable("cgroup.subtree_control")?;
        Ok(group)
    }

    /// The group itself.
    #[must_use]
    pub fn group(&self) -> &Cgroup {
        &self.group
    }

    /// The hierarchy it is in.
    #[must_use]
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }
}

impl Cgroup {
    pub(crate) fn require_writable(&self, file: &str) -> Result<()> {
        self.require_access(file, AccessFlags::W_OK)
    }

    /// faccessat(2) with the effective ids: the owner, the capabilities and a read-only mount all count.
    fn require_access(&self, file: &str, how: AccessFlags) -> Result<()> {
        nix::unistd::faccessat(self.dir.as_fd(), file, how, AtFlags::AT_EACCESS)
            .map_err(|errno| self.fail("faccessat", Errno(errno as i32)))
    }
}
