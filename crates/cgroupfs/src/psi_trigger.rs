//! Pressure stall information that wakes: a threshold, written to a pressure file, and the wait for it.
//!
//! The descriptor that the threshold was written to answers POLLPRI when processes stalled for so long within the window,
//! at most once a window. Who polls it takes that away: it is said once. When the group is removed it answers POLLERR.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use cellkit_core::{Errno, ProcFd, ProcView, Subject};
use nix::poll::{PollFd, PollFlags, PollTimeout};

use crate::hint::HINTS;
use crate::tree::vanished;
use crate::watch::WatchedGroup;
use crate::{Cgroup, Error, ErrorKind, Result, pressure};

const WINDOW_LEAST: Duration = Duration::from_millis(500);
const WINDOW_MOST: Duration = Duration::from_secs(10);

/// On what processes wait, of which pressure stall information tells.
///
/// ```
/// use cgroupfs::PsiResource;
///
/// assert_eq!("memory".parse::<PsiResource>()?, PsiResource::Memory);
/// assert_eq!(PsiResource::Io.file(), "io.pressure");
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/accounting/psi.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PsiResource {
    /// A processor.
    Cpu,
    /// Memory: reclaim, swapping in, and pages that were just dropped.
    Memory,
    /// A disk.
    Io,
    /// A processor that serves interrupts. Linux 6.1, with CONFIG_IRQ_TIME_ACCOUNTING; `full` only.
    Irq,
}

impl PsiResource {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Io, Self::Irq];

    /// Its file in a group.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Cpu => "cpu.pressure",
            Self::Memory => "memory.pressure",
            Self::Io => "io.pressure",
            Self::Irq => "irq.pressure",
        }
    }

    fn name(self) -> &'static str {
        self.file().strip_suffix(".pressure").unwrap_or_default()
    }
}

impl fmt::Display for PsiResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PsiResource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|resource| resource.name() == text).ok_or_else(|| {
            Error::invalid("parse resource of pressure", "it is none of cpu, memory, io, irq")
                .on(Subject::Value(text.to_owned()))
        })
    }
}

/// Of how many processes a stall counts.
///
/// ```
/// use cgroupfs::PsiShare;
///
/// assert_eq!(PsiShare::Full.to_string(), "full");
/// ```
///
/// See <https://docs.kernel.org/accounting/psi.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PsiShare {
    /// At least one process waits.
    Some,
    /// All processes that could run wait, so that nothing is done.
    Full,
}

impl fmt::Display for PsiShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Some => "some",
            Self::Full => "full",
        })
    }
}

/// When a [`PsiTrigger`] fires: processes stalled for so long within a window of time.
///
/// It prints and reads as the kernel has it, in microseconds. What it holds is checked when a trigger is made of it.
///
/// ```
/// use cgroupfs::PsiThreshold;
/// use std::time::Duration;
///
/// let threshold = PsiThreshold::some(Duration::from_millis(150)).within(Duration::from_secs(2));
/// assert_eq!(threshold.to_string(), "some 150000 2000000");
/// assert_eq!("some 150000 2000000".parse::<PsiThreshold>()?, threshold);
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/accounting/psi.html#monitoring-for-pressure-thresholds>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct PsiThreshold {
    share: PsiShare,
    stall_usec: u64,
    window_usec: u64,
}

impl PsiThreshold {
    /// At least one process waited for `stall`, in all, within two seconds.
    pub fn some(stall: Duration) -> Self {
        Self { share: PsiShare::Some, stall_usec: usec(stall), window_usec: 2_000_000 }
    }

    /// All processes that could run waited for `stall`, in all, within two seconds.
    pub fn full(stall: Duration) -> Self {
        Self { share: PsiShare::Full, ..Self::some(stall) }
    }

    /// Within `window` instead: half a second to 10 s. Without CAP_SYS_RESOURCE it must be a multiple of 2 s.
    pub fn within(self, window: Duration) -> Self {
        Self { window_usec: usec(window), ..self }
    }

    /// Whether one process that waits is enough.
    #[must_use]
    pub fn share(&self) -> PsiShare {
        self.share
    }

    /// How long a stall fires.
    #[must_use]
    pub fn stall(&self) -> Duration {
        Duration::from_micros(self.stall_usec)
    }

    /// Within how long.
    #[must_use]
    pub fn window(&self) -> Duration {
        Duration::from_micros(self.window_usec)
    }

    fn check(&self, resource: PsiResource) -> Result<()> {
        let why = if self.window() < WINDOW_LEAST || self.window() > WINDOW_MOST {
            "the window must be 500 ms to 10 s"
        } else if self.stall_usec == 0 {
            "a stall of nothing would always be there"
        } else if self.stall_usec > self.window_usec {
            "the stall is longer than the window"
        } else if (resource, self.share) == (PsiResource::Irq, PsiShare::Some) {
            "of irq there is only full"
        } else {
            return Ok(());
        };
        let value = Subject::Value(self.to_string());
        Err(Error::invalid(format!("write {}", resource.file()), why).on(value))
    }
}

fn usec(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl fmt::Display for PsiThreshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.share, self.stall_usec, self.window_usec)
    }
}

impl FromStr for PsiThreshold {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.split_ascii_whitespace();
        let share = match words.next() {
            Some("some") => Some(PsiShare::Some),
            Some("full") => Some(PsiShare::Full),
            _ => None,
        };
        let mut number = || words.next().filter(|word| !word.starts_with('+'))?.parse().ok();
        match (share, number(), number(), words.next()) {
            (Some(share), Some(stall_usec), Some(window_usec), None) => Ok(Self { share, stall_usec, window_usec }),
            _ => Err(Error::invalid("parse threshold of pressure", "it is not some|full STALL_US WINDOW_US")
                .on(Subject::Value(text.to_owned()))),
        }
    }
}

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
        Ok(total_of(buffer.get(..length).unwrap_or_default(), self.threshold.share))
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

    fn why(threshold: PsiThreshold, resource: PsiResource) -> String {
        threshold.check(resource).expect_err("refused").to_string()
    }

    #[test]
    fn limits_are_the_kernels() {
        let some =
            |stall, window| PsiThreshold::some(Duration::from_micros(stall)).within(Duration::from_micros(window));
        for (stall, window) in [(1, 500_000), (500_000, 500_000), (10_000_000, 10_000_000)] {
            some(stall, window).check(PsiResource::Memory).expect("good");
        }
        assert!(why(some(1, 499_999), PsiResource::Cpu).contains("window"));
        assert!(why(some(1, 10_000_001), PsiResource::Cpu).contains("window"));
        assert!(why(some(0, 2_000_000), PsiResource::Cpu).contains("nothing"));
        assert!(why(some(2_000_001, 2_000_000), PsiResource::Cpu).contains("longer"));
        let text = why(some(1, 2_000_000), PsiResource::Irq);
        assert_eq!(text, r#"write irq.pressure "some 1 2000000": of irq there is only full"#);
        PsiThreshold::full(Duration::from_micros(1)).check(PsiResource::Irq).expect("good");
    }

    #[test]
    fn the_total_of_a_line() {
        let text =
            b"some avg10=0.00 avg60=0.18 avg300=2.13 total=665\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!((total_of(text, PsiShare::Some), total_of(text, PsiShare::Full)), (665, 7));
        assert_eq!(total_of(b"full total=x", PsiShare::Full), 0);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(full: bool, stall_usec: u64, window_usec: u64) {
            let share = if full { PsiShare::Full } else { PsiShare::Some };
            let threshold = PsiThreshold { share, stall_usec, window_usec };
            prop_assert_eq!(threshold.to_string().parse::<PsiThreshold>().unwrap(), threshold);
        }

        #[test]
        fn no_text_panics(text in "\\PC*", bytes: Vec<u8>) {
            let _ = (text.parse::<PsiThreshold>(), text.parse::<PsiResource>(), total_of(&bytes, PsiShare::Some));
        }
    }
}
