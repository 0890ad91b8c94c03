//! Pressure stall information that wakes: a threshold, written to a pressure file, and the wait for it.
//!
//! The descriptor that the threshold was written to answers POLLPRI when processes stalled for so long within the window,
//! at most once a window. Who polls it takes that away: it is said once. When the group is removed it answers POLLERR.
#![forbid(unsafe_code)]

mod threshold;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cellkit_core::{Errno, ProcFd, ProcView};
use nix::poll::{PollFd, PollFlags, PollTimeout};

use crate::hint::HINTS;
use crate::tree::vanished;
use crate::watch::WatchedGroup;
use crate::{Cgroup, Error, ErrorKind, Result, pressure};
pub use threshold::{PsiResource, PsiShare, PsiThreshold};

/// That a [`PsiTrigger`] fired.
///
/// ```no_run
/// use cgroupfs::{PsiResource, PsiThreshold, PsiTrigger};
/// use std::time::Duration;
///
/// let threshold = PsiThreshold::full(Duration::from_millis(100));
/// let mut trigger = PsiTrigger::of_system(PsiResource::Io, threshold)?;
/// if let Some(stalled) = trigger.next_within(Duration::from_secs(10))? {
///     println!("waited for {} us since the machine started", stalled.total_usec);
/// }
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/accounting/psi.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stalled {
    /// How long processes have waited since the group was made, or the system started, in microseconds: `total` of the line.
    pub total_usec: u64,
}

/// Wakes when processes of a group, or of the whole system, stall: pressure stall information with a threshold.
///
/// It ends when it is dropped. As an iterator it waits without a limit, and ends when the group is gone; a
/// [`Watch`](crate::Watch) takes it among other things ([`add_trigger`](crate::Watch::add_trigger)); with feature `tokio` it is
/// a stream.
///
/// * Kernel files: `cpu.pressure`, `memory.pressure`, `io.pressure` and `irq.pressure` of the group, or
///   `/proc/pressure/cpu` and so on; poll(2) for POLLPRI.
/// * Kernel: 5.2; `irq` 6.1. No fallback: a kernel without is [`ErrorKind::Unsupported`].
/// * Privileges: CAP_SYS_RESOURCE. Since Linux 6.5 also without, for windows that are a multiple of 2 s, if the file may be
///   written. With it, the kernel runs a thread for the group while there is such a trigger.
/// * Descriptors: one.
///
/// In a loop of one's own, wait for POLLPRI of [`AsFd`]: the poll that says it takes it away.
///
/// ```no_run
/// use cgroupfs::{Hierarchy, PsiResource, PsiThreshold, PsiTrigger};
/// use std::time::Duration;
///
/// let group = Hierarchy::detect()?.open("/web")?;
/// let threshold = PsiThreshold::some(Duration::from_millis(200)).within(Duration::from_secs(2));
/// for stalled in PsiTrigger::new(&group, PsiResource::Memory, threshold)? {
///     println!("short of memory: {} us in all", stalled?.total_usec);
/// }
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/accounting/psi.html#monitoring-for-pressure-thresholds>.
#[derive(Debug)]
#[doc(alias = "memory.pressure")]
#[doc(alias = "cpu.pressure")]
#[doc(alias = "io.pressure")]
#[doc(alias = "irq.pressure")]
pub struct PsiTrigger {
    file: File,
    group: WatchedGroup,
    resource: PsiResource,
    threshold: PsiThreshold,
    total_usec: u64,
    has_ended: bool,
}

impl PsiTrigger {
    /// Writes the threshold to the group's pressure file.
    ///
    /// # Errors
    /// Invalid, before anything is done, when the window is none of 500 ms to 10 s, or the stall longer than that;
    /// Unsupported where the kernel has no pressure stall information or it is switched off, for the machine or for the
    /// group; Permission and Invalid (EPERM, EINVAL) without CAP_SYS_RESOURCE, as said above; Gone.
    pub fn new(group: &Cgroup, resource: PsiResource, threshold: PsiThreshold) -> Result<Self> {
        threshold.check(resource)?;
        let operation = || format!("write {}", resource.file());
        let name = WatchedGroup { id: crate::watch::id_of(group, group.path())?, path: group.path().into() };
        let explain = |error| pressure::explain(group, resource.file(), error);
        let file = File::from(group.open_file(resource.file(), libc::O_RDWR, &operation).map_err(explain)?);
        Self::arm(file, name, resource, threshold).map_err(|errno| explain(group.fail(operation(), errno)))
    }

    /// Writes the threshold to `/proc/pressure/cpu` and so on, for all processes of the machine.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_system(resource: PsiResource, threshold: PsiThreshold) -> Result<Self> {
        threshold.check(resource)?;
        let shown = PathBuf::from("/proc/pressure").join(resource.name());
        let fail = |errno: Errno| {
            let error = Error::from_errno(format!("write {}", resource.file()), errno.0).on(shown.as_path());
            switched_off(error.with_hints(&HINTS))
        };
        let path = Path::new("pressure").join(resource.name());
        let opened = ProcFd::open(ProcView::Whole)?.open_file(&path, libc::O_RDWR);
        let file = opened.map_err(|error| match error.raw_os_error() {
            Some(errno) => fail(Errno(errno)),
            None => error,
        })?;
        let name = WatchedGroup { id: 0, path: PathBuf::from("/proc/pressure").into() };
        Self::arm(file, name, resource, threshold).map_err(fail)
    }

    fn arm(mut file: File, group: WatchedGroup, resource: PsiResource, threshold: PsiThreshold) -> Result<Self, Errno> {
        let errno = |error: &std::io::Error| Errno(error.raw_os_error().unwrap_or(libc::EIO));
        // The kernel puts a NUL in place of the last byte.
        file.write_all(format!("{threshold}\0").as_bytes()).map_err(|error| errno(&error))?;
        let mut trigger = Self { file, group, resource, threshold, total_usec: 0, has_ended: false };
        trigger.total_usec = trigger.read_total()?;
        Ok(trigger)
    }

    /// What it is about.
    #[must_use]
    pub fn resource(&self) -> PsiResource {
        self.resource
    }

    /// When it fires.
    pub fn threshold(&self) -> PsiThreshold {
        self.threshold
    }

    /// Whose processes; the number of the whole system is 0.
    #[must_use]
    pub fn group(&self) -> &WatchedGroup {
        &self.group
    }

    /// The next time it fires; `None` when it did not within `limit`.
    ///
    /// # Errors
    /// Gone, when the group has been removed.
    pub fn next_within(&mut self, limit: Duration) -> Result<Option<Stalled>> {
        self.next_until(Instant::now().checked_add(limit))
    }

    fn next_until(&mut self, end: Option<Instant>) -> Result<Option<Stalled>> {
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            // Rounded up, or the last millisecond would be spent in circles.
            let timeout = left.map_or(PollTimeout::NONE, |left| {
                u16::try_from(left.as_nanos().div_ceil(1_000_000))
                    .map_or(PollTimeout::from(u16::MAX), PollTimeout::from)
            });
            let mut files = [PollFd::new(self.file.as_fd(), PollFlags::POLLPRI)];
            let flags = match nix::poll::poll(&mut files, timeout) {
                Ok(_) => files.first().and_then(PollFd::revents).unwrap_or(PollFlags::empty()),
                Err(nix::errno::Errno::EINTR) => PollFlags::empty(),
                Err(errno) => return Err(Error::from_errno("poll", errno as i32).on(self.group.path())),
            };
            let fired = self.fired(flags.contains(PollFlags::POLLPRI), flags.contains(PollFlags::POLLERR))?;
            if fired.is_some() || left.is_some_and(|left| left.is_zero()) {
                return Ok(fired);
            }
        }
    }

    /// What a wake-up means. One that says nothing may be that somebody else's poll took it, or that another trigger of the
    /// same file fired: then the time that was stalled since decides.
    pub(crate) fn fired(&mut self, has_fired: bool, is_gone: bool) -> Result<Option<Stalled>> {
        if is_gone {
            return Err(self.gone(None));
        }
        let before = self.total_usec;
        self.total_usec = match self.read_total() {
            Ok(total) => total,
            Err(errno) if vanished(errno) => return Err(self.gone(Some(errno))),
            Err(errno) => return Err(Error::from_errno(self.operation(), errno.0).on(self.group.path())),
        };
        let stalled = self.total_usec.saturating_sub(before) >= self.threshold.stall_usec;
        if !has_fired && !stalled {
            // Not the beginning of a new count: the rest of the stall may come.
            self.total_usec = before;
            return Ok(None);
        }
        Ok(Some(Stalled { total_usec: self.total_usec }))
    }

    fn operation(&self) -> String {
        format!("read {}", self.resource.file())
    }

    fn gone(&self, errno: Option<Errno>) -> Error {
        Error::gone(self.operation(), errno.map(|errno| errno.0)).on(self.group.path())
    }

    /// `total` of the line that the threshold is about.
    fn read_total(&self) -> Result<u64, Errno> {
        let mut buffer = [0; 512];
        let length = self.file.read_at(&mut buffer, 0);
        let length = length.map_err(|error| Errno(error.raw_os_error().unwrap_or(libc::EIO)))?;
        Ok(total_of(buffer.get(..length).unwrap_or_default(), self.threshold.share()))
    }
}

fn total_of(text: &[u8], share: PsiShare) -> u64 {
    let text = String::from_utf8_lossy(text);
    let line = text.lines().find_map(|line| line.strip_prefix(&*share.to_string()));
    let total = line.and_then(|line| line.split_once("total="));
    total.and_then(|(_, total)| total.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// What a machine says whose pressure stall information is not there: no such file, or psi=0 on its command line.
fn switched_off(error: Error) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::EOPNOTSUPP) if error.kind() != ErrorKind::Gone => {
            error.as_unsupported("pressure stall information", Some("4.20")).with_hint(
                "the kernel needs CONFIG_PSI, and psi=1 on its command line where it is off by default; for irq also \
                 CONFIG_IRQ_TIME_ACCOUNTING (Linux 6.1)",
            )
        }
        _ => error,
    }
}

impl AsFd for PsiTrigger {
    /// For POLLPRI.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Iterator for PsiTrigger {
    type Item = Result<Stalled>;

    /// The next time it fires, whenever that is. After an error, the first of which is mostly Gone, it ends.
    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let next = self.next_until(None).transpose();
        self.has_ended = next.as_ref().is_none_or(Result::is_err);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_total_of_a_line() {
        let text =
            b"some avg10=0.00 avg60=0.18 avg300=2.13 total=665\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!((total_of(text, PsiShare::Some), total_of(text, PsiShare::Full)), (665, 7));
        assert_eq!(total_of(b"full total=x", PsiShare::Full), 0);
    }

    proptest! {
        #[test]
        fn no_text_panics(bytes: Vec<u8>) {
            total_of(&bytes, PsiShare::Some);
        }
    }
}
