//! A process that is not a child of ours: to signal it, and to wait for its end.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use cellkit_core::{Errno, Error, Result, Subject};

use crate::hint::HINTS;
use crate::namespaces::Kind;
use crate::ns_fd::NsFd;
use crate::{ExitStatus, ProcessId, ProcessInfo, sys};

/// Any process, known by its pidfd: its number may be reused, the handle never means another process.
///
/// It is had from a [`ProcessId`] that was written down, or from a number, which is only safe for a process whose number
/// cannot be reused meanwhile. For children of one's own there is [`Child`](crate::Child).
///
/// * C calls: pidfd_open(2), pidfd_send_signal(2), ppoll(2) of the pidfd. No privileges, but to signal a process of another
///   user.
///
/// ```
/// use std::time::Duration;
///
/// use ns_core::Process;
///
/// // A child that the standard library has made.
/// let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
/// let process = Process::open(child.id() as i32)?;
/// assert!(!process.wait_end(Duration::from_millis(10))?);
/// process.kill()?;
/// assert!(process.wait_end(Duration::from_secs(60))?);
/// child.wait().unwrap(); // it is its parent's to reap
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See pidfd_open(2): <https://man7.org/linux/man-pages/man2/pidfd_open.2.html>.
#[doc(alias("pidfd", "pidfd_open"))]
#[derive(Debug)]
pub struct Process {
    pidfd: OwnedFd,
    pid: i32,
}

impl Process {
    /// The process that has this number now.
    ///
    /// * C call: pidfd_open(2), Linux 5.3. No privileges.
    ///
    /// ```
    /// let me = ns_core::Process::open(std::process::id() as i32)?;
    /// assert!(!me.has_ended()?);
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// NotFound when no process has it; Invalid for a number below 1, and for that of a thread;
    /// [`Limit`](crate::ErrorKind::Limit) when there are too many descriptors.
    ///
    /// See <https://man7.org/linux/man-pages/man2/pidfd_open.2.html>.
    #[doc(alias = "pidfd_open")]
    pub fn open(pid: i32) -> Result<Self> {
        let pidfd = cellkit_core::sys::pidfd_open(pid)
            .map_err(|errno| Error::from_errno("pidfd_open", errno.0).on(Subject::Pid(pid)).with_hints(&HINTS))?;
        Ok(Self { pidfd, pid })
    }

    /// The process of a pidfd that comes from somewhere else, such as SO_PEERPIDFD of a socket.
    ///
    /// * C call: ioctl(2) PIDFD_GET_INFO, Linux 6.13; before that the pidfd's `/proc/self/fdinfo`.
    ///
    /// ```
    /// use std::os::fd::OwnedFd;
    ///
    /// use ns_core::{ErrorKind, Process};
    ///
    /// let pidfd = OwnedFd::from(Process::open(std::process::id() as i32)?);
    /// assert_eq!(Process::from_fd(pidfd)?.pid(), std::process::id() as i32);
    /// let file = std::fs::File::open("/dev/null").unwrap();
    /// assert_eq!(Process::from_fd(file.into()).unwrap_err().kind(), ErrorKind::Invalid);
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Invalid for what is no pidfd; [`Gone`](crate::ErrorKind::Gone) when the process has ended and been reaped.
    ///
    /// See pidfd_open(2): <https://man7.org/linux/man-pages/man2/pidfd_open.2.html>.
    #[doc(alias = "SO_PEERPIDFD")]
    pub fn from_fd(pidfd: OwnedFd) -> Result<Self> {
        let pid = crate::process_id::number(pidfd.as_fd())?;
        Ok(Self { pidfd, pid })
    }

    /// `pid` is its number in the caller's pid namespace.
    pub(crate) fn new(pidfd: OwnedFd, pid: i32) -> Self {
        Self { pidfd, pid }
    }

    /// Its number in the caller's pid namespace: for messages, not for system calls.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// What tells the process from every other.
    ///
    /// # Errors
    /// As [`ProcessId::of`].
    pub fn id(&self) -> Result<ProcessId> {
        ProcessId::of(self)
    }

    /// A handle on one of its namespaces: `process.namespace::<Net>()`.
    ///
    /// # Errors
    /// As [`NsFd::of_process`].
    pub fn namespace<K: Kind>(&self) -> Result<NsFd<K>> {
        NsFd::of_process(self)
    }

    /// What the kernel knows about it: its parent, ids and cgroup.
    ///
    /// # Errors
    /// As [`ProcessInfo::of`].
    pub fn info(&self) -> Result<ProcessInfo> {
        ProcessInfo::of(self)
    }

    /// Sends a signal.
    ///
    /// * C call: pidfd_send_signal(2), Linux 5.1.
    /// * Privileges: to the caller's own user's processes none, to others CAP_KILL.
    ///
    /// # Errors
    /// [`Gone`](crate::ErrorKind::Gone) when it has been reaped; Invalid for a number that is no signal; Permission.
    ///
    /// See <https://man7.org/linux/man-pages/man2/pidfd_send_signal.2.html>.
    #[doc(alias("kill", "pidfd_send_signal"))]
    pub fn signal(&self, signal: i32) -> Result<()> {
        self::signal(self.pidfd.as_fd(), self.pid, signal)
    }

    /// Sends SIGKILL.
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    pub fn kill(&self) -> Result<()> {
        self.signal(libc::SIGKILL)
    }

    /// Whether it has ended, reaped by its parent or not.
    ///
    /// * C call: ppoll(2) on the pidfd, Linux 5.3. Does not block.
    ///
    /// # Errors
    /// Those of ppoll(2).
    ///
    /// See pidfd_open(2): <https://man7.org/linux/man-pages/man2/pidfd_open.2.html>.
    pub fn has_ended(&self) -> Result<bool> {
        self.wait_end(Duration::ZERO)
    }

    /// Waits until it has ended, for at most `limit`, and answers whether it has. Its parent may not have reaped it yet.
    ///
    /// * C call: ppoll(2) on the pidfd, Linux 5.3.
    ///
    /// # Errors
    /// Those of ppoll(2).
    ///
    /// See pidfd_open(2): <https://man7.org/linux/man-pages/man2/pidfd_open.2.html>.
    #[doc(alias = "poll")]
    pub fn wait_end(&self, limit: Duration) -> Result<bool> {
        wait_end(self.pidfd.as_fd(), self.pid, Instant::now().checked_add(limit))
    }

    /// How it ended: known once its parent has reaped it, for as long as somebody holds a pidfd that is older than that.
    ///
    /// * C call: ioctl(2) PIDFD_GET_INFO with PIDFD_INFO_EXIT, Linux 6.15. On older kernels the answer is `None`.
    ///
    /// ```
    /// use ns_core::{Command, Process};
    ///
    /// let mut child = Command::new("sh").args(["-c", "read nothing; exit 3"]).stdin(ns_core::Stdio::Pipe).spawn()?;
    /// let process = Process::open(child.pid())?;
    /// assert_eq!(process.exit_status(), None);
    /// child.wait()?; // as a parent elsewhere would
    /// if let Some(status) = process.exit_status() {
    ///     assert_eq!(status.code(), Some(3));
    /// }
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See pidfd_open(2): <https://man7.org/linux/man-pages/man2/pidfd_open.2.html>.
    #[doc(alias = "PIDFD_INFO_EXIT")]
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        kept_status(self.pidfd.as_fd())
    }
}

pub(crate) fn signal(pidfd: BorrowedFd<'_>, pid: i32, signal: i32) -> Result<()> {
    sys::pidfd_send_signal(pidfd, signal).map_err(|errno| {
        Error::from_errno("pidfd_send_signal", errno.0).on(Subject::Pid(pid)).with_hints(&HINTS).or_gone()
    })
}

/// Whether the process has ended before `deadline`; without one it waits for ever.
pub(crate) fn wait_end(pidfd: BorrowedFd<'_>, pid: i32, deadline: Option<Instant>) -> Result<bool> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let [ended] = sys::poll([Some((pidfd, libc::POLLIN))], left)
            .map_err(|errno| Error::from_errno("ppoll", errno.0).on(Subject::Pid(pid)))?;
        if ended {
            return Ok(true);
        }
        // Not only when poll says so: an interrupted one answers the same.
        if left == Some(Duration::ZERO) {
            return Ok(false);
        }
    }
}

/// The status that the kernel keeps for holders of a pidfd when a process has been reaped.
pub(crate) fn kept_status(pidfd: BorrowedFd<'_>) -> Option<ExitStatus> {
    let info = end_info(pidfd)?;
    (info.mask & sys::PIDFD_INFO_EXIT != 0).then(|| ExitStatus::from_raw(info.exit_code))
}

/// The kernel looks for the status first and for the process then: one that goes in between is found at the second look.
fn end_info(pidfd: BorrowedFd<'_>) -> Option<sys::PidfdInfo> {
    let ask = || sys::pidfd_info(pidfd, sys::PIDFD_INFO_EXIT);
    match ask() {
        Err(Errno(libc::ESRCH)) => ask().ok(),
        answer => answer.ok(),
    }
}

/// How long it may take from the moment in which somebody else reaps a child to that in which it is gone.
const REAPING: Duration = Duration::from_secs(10);

/// The status of a child of this process that somebody else has reaped, or is just about to: whoever waits for it hears that
/// there is no such child as soon as the other one has taken it, and the kernel keeps its status a moment later.
pub(crate) fn status_from_the_reaper(pidfd: BorrowedFd<'_>, pid: i32) -> Option<ExitStatus> {
    let until = Instant::now() + REAPING;
    loop {
        let info = end_info(pidfd)?;
        if info.mask & sys::PIDFD_INFO_EXIT != 0 {
            return Some(ExitStatus::from_raw(info.exit_code));
        }
        // The child of another may be a zombie for as long as that one likes.
        let is_ours = info.parent == std::process::id();
        let has_ended = || wait_end(pidfd, pid, Some(Instant::now())).unwrap_or(false);
        if !is_ours || !has_ended() || Instant::now() >= until {
            return None;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

impl From<Process> for OwnedFd {
    /// The pidfd.
    fn from(process: Process) -> Self {
        process.pidfd
    }
}

impl AsFd for Process {
    /// The pidfd: readable, for poll(2) and its kin, when the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
