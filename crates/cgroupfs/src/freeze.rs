//! Freezing a group and thawing it again.
//!
//! A write to `cgroup.freeze` only asks; the kernel says in `cgroup.events` when the last task has stopped, and that is
//! what is waited for. Whoever froze a group owes it the thaw: so the state is a guard, and every way that fails on the way
//! to it thaws too. A group that was frozen before is somebody else's, and left so.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::await_events::EventsFile;
use crate::children::with_more;
use crate::{Cgroup, CgroupEvents, Error, ErrorKind, Result};

const FILE: &str = "cgroup.freeze";

/// A group that is frozen as long as this lives. Made by [`Cgroup::freeze`].
///
/// Dropping it thaws the group, without waiting and without saying whether that worked; [`thaw`](Self::thaw) does both.
///
/// ```no_run
/// use cgroupfs::Hierarchy;
/// use std::time::Duration;
///
/// let group = Hierarchy::detect()?.open("/web")?;
/// let frozen = group.freeze(Duration::from_secs(5))?;
/// // … nothing in the group runs now …
/// frozen.thaw(Duration::from_secs(5))?;
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#core-interface-files>.
#[derive(Debug)]
#[must_use = "dropping it thaws the group"]
pub struct FrozenGuard<'a> {
    group: &'a Cgroup,
    /// Whether the group was thawed before, so that the thaw is ours.
    thaws: bool,
}

impl FrozenGuard<'_> {
    /// Thaws the group and waits until it is. One that was frozen when the guard was made is left frozen.
    ///
    /// # Errors
    /// As [`Cgroup::thaw`].
    pub fn thaw(mut self, time_limit: Duration) -> Result<()> {
        if !std::mem::replace(&mut self.thaws, false) {
            return Ok(());
        }
        self.group.thaw(time_limit)
    }

    /// Leaves the group frozen: somebody will call [`Cgroup::thaw`].
    pub fn keep_frozen(mut self) {
        self.thaws = false;
    }
}

impl Drop for FrozenGuard<'_> {
    fn drop(&mut self) {
        if self.thaws {
            let _ = self.group.write_thaw();
        }
    }
}

impl Cgroup {
    /// `cgroup.freeze`: whether this group was told to freeze. Whether it and everything in it has stopped, which a group
    /// above can cause too, is [`events`](Self::events).
    ///
    /// * Kernel: 5.2.
    ///
    /// # Errors
    /// Unsupported at the root of the hierarchy; Gone.
    #[doc(alias = "cgroup.freeze")]
    pub fn is_told_to_freeze(&self) -> Result<bool> {
        Ok(self.read(FILE)?.trim() == "1")
    }

    /// Writes `cgroup.freeze` and waits until every task of the group and of those below it has stopped. What is put into
    /// the group meanwhile stops too. The group thaws when the guard is dropped.
    ///
    /// A frozen process can be killed and traced; other signals wait until it thaws.
    ///
    /// * Kernel: 5.2. The waiting is poll(2) for POLLPRI on `cgroup.events`.
    /// * Privileges: write access to the file.
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#core-interface-files>.
    ///
    /// # Errors
    /// Invalid when the calling process is in the group, which would not come back; TimedOut when something does not stop,
    /// such as a process in an uninterruptible sleep: then, as after every error, the group is thawed again. Unsupported at
    /// the root of the hierarchy; Gone.
    #[doc(alias = "cgroup.freeze")]
    pub fn freeze(&self, time_limit: Duration) -> Result<FrozenGuard<'_>> {
        let before = self.is_told_to_freeze()?;
        self.refuse_own_group("write cgroup.freeze")?;
        let events = EventsFile::open(self)?;
        let guard = FrozenGuard { group: self, thaws: !before };
        let stopped = self.write(FILE, "1").and_then(|()| events.wait_for(time_limit, is_frozen));
        let error = match stopped {
            Ok(true) => return Ok(guard),
            Ok(false) => Error::timed_out("write cgroup.freeze", time_limit).on(self.path()).with_hint(
                "something in it does not stop: /proc/PID/wchan and /proc/PID/stack of what cgroup.procs lists, here and \
                 below, say what it waits for",
            ),
            Err(error) => error,
        };
        let mut guard = guard;
        if !std::mem::replace(&mut guard.thaws, false) {
            return Err(error);
        }
        Err(match self.write_thaw() {
            // A group that is gone is not frozen.
            Err(more) if more.kind() == ErrorKind::Gone => error,
            undone => with_more(error, undone),
        })
    }

    /// Writes `cgroup.freeze` and waits until the group is not frozen any more, whoever froze it.
    ///
    /// * Kernel: 5.2.
    /// * Privileges: write access to the file.
    ///
    /// # Errors
    /// Busy when a group above is frozen: this one then is too, until that one thaws. TimedOut; Unsupported at the root of
    /// the hierarchy; Gone.
    #[doc(alias = "cgroup.freeze")]
    pub fn thaw(&self, time_limit: Duration) -> Result<()> {
        self.write_thaw()?;
        let events = EventsFile::open(self)?;
        // Most are thawed by now.
        if !is_frozen(&events.read()?) {
            return Ok(());
        }
        if let Some(above) = self.frozen_above()? {
            return Err(Error::from_errno("write cgroup.freeze", libc::EBUSY).on(self.path()).with_hint(format!(
                "the group {:?} above is frozen, and this one with it: thaw that one",
                above.path()
            )));
        }
        match events.wait_for(time_limit, |events| !is_frozen(events))? {
            true => Ok(()),
            false => Err(Error::timed_out("write cgroup.freeze", time_limit).on(self.path())),
        }
    }

    /// The thaw alone. A group must not stay frozen for want of a second try.
    pub(crate) fn write_thaw(&self) -> Result<()> {
        match self.write(FILE, "0") {
            Err(error) if error.kind() != ErrorKind::Gone => self.write(FILE, "0"),
            outcome => outcome,
        }
    }

    fn frozen_above(&self) -> Result<Option<Self>> {
        let mut here = self.parent()?;
        while let Some(group) = here {
            if group.is_told_to_freeze().unwrap_or(false) {
                return Ok(Some(group));
            }
            here = group.parent()?;
        }
        Ok(None)
    }
}

fn is_frozen(events: &CgroupEvents) -> bool {
    events.frozen == Some(true)
}
