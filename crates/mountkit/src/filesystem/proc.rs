//! The processes of a pid namespace.
#![forbid(unsafe_code)]

use cellkit_core::Result;

use super::as_a_mount;
use super::recipe::{self, MountOptions, Recipe, Setting};
use crate::MountAttr;

const FS: &str = "proc";

/// What a [`Proc`] shows of processes of other users: `hidepid=`.
///
/// ```
/// use mountkit::{HidePid, Proc};
///
/// let proc = Proc::new().hidepid(HidePid::Invisible).gid(100);
/// # let _ = proc;
/// ```
///
/// See proc(5): <https://man7.org/linux/man-pages/man5/proc.5.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HidePid {
    /// `hidepid=0`: everything, as far as the permissions of each file go. The kernel's default.
    Off,
    /// `hidepid=1`: that they exist, and nothing more.
    NoAccess,
    /// `hidepid=2`: not even that they exist.
    Invisible,
    /// `hidepid=4`: only those that the reader may ptrace, whoever the reader is. Linux 5.8.
    Ptraceable,
}

impl HidePid {
    fn number(self) -> u32 {
        match self {
            Self::Off => 0,
            Self::NoAccess => 1,
            Self::Invisible => 2,
            Self::Ptraceable => 4,
        }
    }
}

/// The processes of the caller's pid namespace: `mount -t proc`, as a detached mount (nosuid, nodev, noexec).
///
/// Each is a file system of its own, with options of its own. In a user namespace the kernel allows one only where a whole
/// procfs is visible already, with nothing mounted over parts of it.
///
/// * Calls: those of [`Filesystem`](crate::Filesystem). `subset=` and options of one's own: Linux 5.8.
/// * Privileges: CAP_SYS_ADMIN in the user namespaces that own the caller's mount namespace and its pid namespace.
///
/// ```no_run
/// use mountkit::{Proc, RootFd};
///
/// // Processes only: no /proc/sys, no /proc/kcore, nothing that needs a mask.
/// Proc::new().only_processes().mount()?.attach(&RootFd::open("/srv/c1")?, "proc")?;
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// See proc(5): <https://man7.org/linux/man-pages/man5/proc.5.html>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[doc(alias = "procfs")]
#[must_use = "it is made by `mount`"]
#[non_exhaustive]
pub struct Proc {
    only_processes: bool,
    hidepid: Option<HidePid>,
    gid: Option<u32>,
    mount: MountOptions,
}

as_a_mount!(Proc);

impl Proc {
    /// With the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// `subset=pid`: the directories of processes only, and not `/proc/sys` and its like. Linux 5.8.
    #[doc(alias = "subset=pid")]
    pub fn only_processes(mut self) -> Self {
        self.only_processes = true;
        self
    }

    /// `hidepid=`: what is shown of other users' processes.
    pub fn hidepid(mut self, hidepid: HidePid) -> Self {
        self.hidepid = Some(hidepid);
        self
    }

    /// `gid=`: the group whose members [`hidepid`](Self::hidepid) hides nothing from, by its number in the user
    /// namespace of whoever makes it.
    pub fn gid(mut self, gid: u32) -> Self {
        self.gid = Some(gid);
        self
    }

    pub(crate) fn recipe(&self) -> Result<Recipe> {
        let mut settings = Vec::new();
        if self.only_processes {
            settings.push(Setting::text(c"subset", "pid"));
        }
        if let Some(hidepid) = self.hidepid {
            settings.push(Setting::text(c"hidepid", hidepid.number()));
        }
        if let Some(gid) = self.gid {
            settings.push(recipe::id(FS, c"gid", gid)?);
        }
        self.mount.recipe(c"proc", MountAttr::INERT, settings)
    }
}
