//! Waiting for the mount table to change.
#![forbid(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use cellkit_core::{Error, Result, Subject};

use super::read::{Ids, from_mountinfo, own_mountinfo};
use super::{MountDiff, MountTable};
use crate::hint::HINTS;
use crate::sys::statmount as sys;

/// The mount table of the calling thread's namespace, kept while it changes.
///
/// The kernel marks an open mountinfo when a mount of its namespace comes, goes or is moved, or its attributes are set
/// (`mount -o remount`, mount_setattr(2)). It counts nothing: what happened between two looks is one change, and what came
/// and went between them is none. It does not mark that the propagation was set by mount(2) (`mount --make-shared`), or that
/// a directory on the way to a mount was renamed: both are found at the next change of another kind.
///
/// There is no inotify, and no thread. Dropped, it is gone.
///
/// ```no_run
/// use mountkit::MountWatch;
///
/// let mut watch = MountWatch::new()?;
/// while let Some(diff) = watch.changed(None)? {
///     print!("{diff}");
/// }
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// In an event loop, wait for its descriptor: with `poll` or `epoll` for POLLPRI, which in tokio is
/// `AsyncFd::with_interest(watch, Interest::PRIORITY)`. Then ask [`changed`](Self::changed) with no time.
///
/// See proc_pid_mountinfo(5): <https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html>.
#[derive(Debug)]
#[doc(alias = "POLLPRI")]
pub struct MountWatch {
    mountinfo: File,
    before: MountTable,
    table: MountTable,
    /// There was a change that is not read yet.
    stale: bool,
}

impl MountWatch {
    /// Begins to watch, and reads the table.
    ///
    /// # Errors
    /// Those of [`MountTable::read`], but that it needs /proc.
    pub fn new() -> Result<Self> {
        // First this, so that what changes while the table is read is a change.
        let mountinfo = own_mountinfo()?;
        let table = from_mountinfo(own_mountinfo()?, Ids::Own)?;
        Ok(Self { mountinfo, before: MountTable::new(), table, stale: false })
    }

    /// The table as of the beginning or of the last change.
    #[must_use]
    pub fn table(&self) -> &MountTable {
        &self.table
    }

    /// Waits for a change up to `timeout` (`None`: for ever), reads the table and says what is different. `None` when the
    /// time has passed. It blocks.
    ///
    /// A change that leaves everything as it was is none: the wait goes on.
    ///
    /// # Errors
    /// Those of [`MountTable::read`]; what could not be read then is read the next time.
    #[doc(alias = "poll")]
    pub fn changed(&mut self, timeout: Option<Duration>) -> Result<Option<MountDiff<'_>>> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if self.stale {
                let table = from_mountinfo(own_mountinfo()?, Ids::Own)?;
                self.stale = false;
                self.before = std::mem::replace(&mut self.table, table);
                if !self.before.diff(&self.table).is_empty() {
                    return Ok(Some(self.before.diff(&self.table)));
                }
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            // Up to a whole millisecond, so that the end of the time is not waited for in a loop without rest.
            let milliseconds = left.map_or(-1, |left| left.as_micros().div_ceil(1000).try_into().unwrap_or(i32::MAX));
            match sys::await_change(self.mountinfo.as_fd(), milliseconds) {
                Ok(true) => self.stale = true,
                Ok(false) if left.is_none_or(|left| left > Duration::from_millis(i32::MAX as u64)) => continue,
                Ok(false) => return Ok(None),
                Err(errno) if errno.0 == libc::EINTR => continue,
                Err(errno) => {
                    let subject = Subject::Thing("the mount table".into());
                    return Err(Error::from_errno("poll", errno.0).on(subject).with_hints(&HINTS));
                }
            }
        }
    }
}

impl AsFd for MountWatch {
    /// For poll(2) with POLLPRI.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mountinfo.as_fd()
    }
}
