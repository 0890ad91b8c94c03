//! Control groups.
#![forbid(unsafe_code)]

use cellkit_core::Result;

use super::as_a_mount;
use super::recipe::{MountOptions, Recipe, Setting};
use crate::MountAttr;

/// The control groups of the machine, as the caller's cgroup namespace shows them: `mount -t cgroup2`, as a detached mount
/// (nosuid, nodev, noexec).
///
/// # Options are the machine's, not the mount's
/// There is one cgroup2 hierarchy, and its options are the same at every mount of it. A mount made *in the machine's first
/// cgroup namespace* sets all of them, for everybody: those that it does not name are **switched off**, `nsdelegate` among
/// them, on which the safety of delegated groups rests. So there name what the machine has already (`findmnt -t
/// cgroup2`), or make a [`Bind`](crate::Bind) of the mount that is there. Made in any other cgroup namespace, as a
/// container's is, a mount leaves the options alone, and those given here have no effect.
///
/// * Calls: those of [`Filesystem`](crate::Filesystem).
/// * Privileges: CAP_SYS_ADMIN in the user namespaces that own the caller's mount namespace and its cgroup namespace.
///
/// ```no_run
/// use mountkit::{Cgroup2, MountAttr, RootFd};
///
/// // In a cgroup namespace of its own: no options.
/// Cgroup2::new().attrs(MountAttr::RDONLY).mount()?.attach(&RootFd::open("/srv/c1")?, "sys/fs/cgroup")?;
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// See the kernel's page on cgroup2: <https://docs.kernel.org/admin-guide/cgroup-v2.html#mounting>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[doc(alias = "cgroup")]
#[must_use = "it is made by `mount`"]
#[non_exhaustive]
pub struct Cgroup2 {
    options: Vec<Setting>,
    mount: MountOptions,
}

as_a_mount!(Cgroup2);

impl Cgroup2 {
    /// Without options.
    pub fn new() -> Self {
        Self::default()
    }

    fn option(mut self, setting: Setting) -> Self {
        if !self.options.contains(&setting) {
            self.options.push(setting);
        }
        self
    }

    /// `nsdelegate`: a cgroup namespace is a border of delegation. A process inside can neither move processes across it
    /// nor write the files of its root that set limits on all of it.
    pub fn nsdelegate(self) -> Self {
        self.option(Setting::flag(c"nsdelegate"))
    }

    /// `memory_recursiveprot`: `memory.min` and `memory.low` of a group protect all below it. Linux 5.7.
    pub fn memory_recursiveprot(self) -> Self {
        self.option(Setting::flag(c"memory_recursiveprot"))
    }

    /// `memory_localevents`: `memory.events` counts those of the group alone, and not of those below it. Linux 5.3.
    pub fn memory_localevents(self) -> Self {
        self.option(Setting::flag(c"memory_localevents"))
    }

    /// `memory_hugetlb_accounting`: huge pages of hugetlbfs count as memory of a group. Linux 6.6.
    pub fn memory_hugetlb_accounting(self) -> Self {
        self.option(Setting::flag(c"memory_hugetlb_accounting").since("6.6"))
    }

    /// `pids_localevents`: `pids.events` counts those of the group alone, and not of those below it. Linux 6.11.
    pub fn pids_localevents(self) -> Self {
        self.option(Setting::flag(c"pids_localevents").since("6.11"))
    }

    /// `favordynmods`: processes move between groups faster, and fork and exit are slower. Linux 6.0.
    pub fn favordynmods(self) -> Self {
        self.option(Setting::flag(c"favordynmods").since("6.0"))
    }

    pub(crate) fn recipe(&self) -> Result<Recipe> {
        self.mount.recipe(c"cgroup2", MountAttr::INERT, self.options.clone())
    }
}
