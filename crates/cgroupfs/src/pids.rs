//! The pids controller's files.
#![forbid(unsafe_code)]

use crate::keyed::flat_keyed;
use crate::{Cgroup, Max, PidsMax, Result};

/// The files of the pids controller of a group: `pids.*`. Made by [`Cgroup::pids`].
///
/// A task is a process or a thread. Where the controller is not enabled for the group, and at the root of the hierarchy,
/// each is [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
///
/// ```no_run
/// use cgroupfs::{Hierarchy, PidsMax};
///
/// let group = Hierarchy::detect()?.own_group()?;
/// group.pids().set_max(PidsMax::try_from(64)?)?;
/// println!("{} tasks, {} forks refused", group.pids().current()?, group.pids().events()?.max);
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#pid-interface-files>.
#[derive(Clone, Copy, Debug)]
pub struct Pids<'a>(&'a Cgroup);

impl Cgroup {
    /// The files of the pids controller.
    #[must_use]
    pub fn pids(&self) -> Pids<'_> {
        Pids(self)
    }
}

impl Pids<'_> {
    /// `pids.max`: tasks it may hold. It may be 0, if somebody wrote that: then nothing can start in it.
    ///
    /// # Errors
    /// Unsupported when the controller is not enabled for the group, and at the root of the hierarchy; Gone.
    #[doc(alias = "pids.max")]
    pub fn max(self) -> Result<Max<u64>> {
        self.0.get("pids.max")
    }

    /// Writes `pids.max`. Beyond it fork and clone fail with EAGAIN; when there are more already, nothing is killed. Moving
    /// a process into the group is never refused for it.
    ///
    /// # Errors
    /// As [`max`](Self::max); Permission, for the limits of a delegated group belong to the giver.
    #[doc(alias = "pids.max")]
    pub fn set_max(self, limit: impl Into<Max<PidsMax>>) -> Result<()> {
        self.0.set("pids.max", limit.into())
    }

    /// `pids.current`: tasks in the group and below it. Those that have ended count until they are waited for.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "pids.current")]
    pub fn current(self) -> Result<u64> {
        self.0.number("pids.current")
    }

    /// `pids.peak`: the most tasks there were at once. Linux 6.1.
    ///
    /// # Errors
    /// As [`max`](Self::max); Unsupported on an older kernel.
    #[doc(alias = "pids.peak")]
    pub fn peak(self) -> Result<u64> {
        self.0.number("pids.peak")
    }

    /// `pids.events`: how often a fork was refused. Since Linux 6.11 it counts what this group's limit refused, to itself
    /// and to those below it; before, what was refused to this group, by its limit or one above.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "pids.events")]
    pub fn events(self) -> Result<PidsEvents> {
        self.0.get("pids.events")
    }

    /// `pids.events.local`: how often a fork in this very group was refused, by its limit or one above. Linux 6.11.
    ///
    /// # Errors
    /// As [`max`](Self::max); Unsupported on an older kernel.
    #[doc(alias = "pids.events.local")]
    pub fn events_local(self) -> Result<PidsEvents> {
        self.0.get("pids.events.local")
    }
}

flat_keyed! {
    /// `pids.events`, `pids.events.local`: how often the limit of tasks was felt.
    ///
    /// ```
    /// use cgroupfs::PidsEvents;
    ///
    /// let events: PidsEvents = "max 7\n".parse()?;
    /// assert_eq!(events.max, 7);
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#pid-interface-files>.
    PidsEvents of "pids.events" {
        /// Forks that were refused.
        max: u64 = "max",
    }
}
