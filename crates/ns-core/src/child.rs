//! A child that runs its program.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::time::{Duration, Instant};

use cellkit_core::{Errno, Error, Result, Subject};

use crate::hint::HINTS;
use crate::namespaces::Kind;
use crate::ns_fd::NsFd;
use crate::stdio::Ours;
use crate::{ExitStatus, ProcessId, ProcessInfo, ResourceUsage, process, sys};

/// A child that runs its program, known by its pidfd: its number may be reused, the handle never means another process.
///
/// Dropping it lets it run on, as in the standard library; wait for it, or its zombie stays until this process ends.
///
/// * C calls: waitid(2) with P_PIDFD, pidfd_send_signal(2), ppoll(2) of the pidfd. No privileges, but to signal a child of
///   another user.
///
/// ```
/// use std::io::Write;
///
/// use ns_core::{Command, Stdio};
///
/// let mut child = Command::new("sh").args(["-c", "read line; exit $line"]).stdin(Stdio::Pipe).spawn()?;
/// assert_eq!(child.try_wait()?, None); // it reads
/// child.take_stdin().expect("a pipe").write_all(b"7\n").unwrap();
/// assert_eq!(child.wait()?.code(), Some(7));
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See pidfd_open(2): <https://man7.org/linux/man-pages/man2/pidfd_open.2.html>.
#[doc(alias = "pidfd")]
#[must_use = "wait for it, or a zombie is left"]
#[derive(Debug)]
pub struct Child {
    pidfd: OwnedFd,
    pid: i32,
    pub(crate) ends: Ours,
    listener: Option<OwnedFd>,
    status: Option<ExitStatus>,
    usage: Option<ResourceUsage>,
}

impl Child {
    pub(crate) fn new(pidfd: OwnedFd, pid: i32, ends: Ours) -> Self {
        Self { pidfd, pid, ends, listener: None, status: None, usage: None }
    }

    pub(crate) fn with_listener(self, listener: Option<OwnedFd>) -> Self {
        Self { listener, ..self }
    }

    /// The number of the process in the caller's pid namespace: for messages, not for system calls.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// What tells the process from every other, to be written down and found again: see [`ProcessId`].
    ///
    /// ```
    /// use ns_core::{Command, ErrorKind};
    ///
    /// let mut child = Command::new("sleep").arg("100").spawn()?;
    /// let id = child.id()?; // while it lives
    /// child.kill()?;
    /// child.wait()?;
    /// assert_eq!(id.open().unwrap_err().kind(), ErrorKind::Gone);
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`ProcessId::of`].
    pub fn id(&self) -> Result<ProcessId> {
        ProcessId::of(self)
    }

    /// Takes the caller's end of the pipe that [`Stdio::Pipe`](crate::Stdio::Pipe) asked for.
    ///
    /// See pipe(7): <https://man7.org/linux/man-pages/man7/pipe.7.html>.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.ends.stdin.take().map(ChildStdin::from)
    }

    /// Takes the caller's end of the pipe that [`Stdio::Pipe`](crate::Stdio::Pipe) asked for.
    ///
    /// ```
    /// use std::io::{BufRead, BufReader};
    ///
    /// use ns_core::{Command, Stdio};
    ///
    /// let mut child = Command::new("seq").arg("3").stdout(Stdio::Pipe).spawn()?;
    /// let lines = BufReader::new(child.take_stdout().expect("a pipe")).lines();
    /// assert_eq!(lines.map_while(Result::ok).collect::<String>(), "123");
    /// child.wait()?;
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.ends.stdout.take().map(ChildStdout::from)
    }

    /// Takes the caller's end of the pipe that [`Stdio::Pipe`](crate::Stdio::Pipe) asked for.
    pub fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.ends.stderr.take().map(ChildStderr::from)
    }

    /// Takes the caller's end of the terminal that [`Command::terminal`](crate::Command::terminal) asked for.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.ends.terminal.take()
    }

    /// Takes the listener of the filter that [`Seccomp::listener`](crate::Seccomp::listener) asked for: readable, for poll(2)
    /// and its kin, when there is a call to answer by ioctl(2) SECCOMP_IOCTL_NOTIF_RECV and SECCOMP_IOCTL_NOTIF_SEND.
    ///
    /// When it is closed, also by dropping this handle with it, such calls answer ENOSYS.
    ///
    /// ```
    /// use ns_core::{BpfInstruction, Command, Seccomp};
    ///
    /// let op = |code, jt, jf, k| BpfInstruction { code, jt, jf, k };
    /// let asks_about_uname = Seccomp::new([
    ///     op(0x20, 0, 0, 0),
    ///     op(0x15, 0, 1, libc::SYS_uname as u32),
    ///     op(0x06, 0, 0, 0x7fc0_0000), // SECCOMP_RET_USER_NOTIF
    ///     op(0x06, 0, 0, 0x7fff_0000), // SECCOMP_RET_ALLOW
    /// ])?
    /// .listener();
    /// let mut child = Command::new("uname").no_new_privs().seccomp(asks_about_uname).spawn()?;
    /// // Nobody answers: ENOSYS.
    /// drop(child.take_seccomp_listener().expect("a listener"));
    /// assert_eq!(child.wait()?.code(), Some(1));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See <https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html>.
    #[doc(alias = "SECCOMP_FILTER_FLAG_NEW_LISTENER")]
    pub fn take_seccomp_listener(&mut self) -> Option<OwnedFd> {
        self.listener.take()
    }

    /// A handle on one of the child's namespaces: `child.namespace::<Net>()`.
    ///
    /// ```
    /// use ns_core::{Command, NsFd, Uts};
    ///
    /// let mut child = Command::new("sleep").arg("100").spawn()?;
    /// assert_eq!(child.namespace::<Uts>()?, NsFd::of_this_thread()?); // none of its own was asked for
    /// child.kill()?;
    /// child.wait()?;
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`NsFd::of_process`].
    pub fn namespace<K: Kind>(&self) -> Result<NsFd<K>> {
        NsFd::of_process(self)
    }

    /// What the kernel knows about the child: its parent, ids and cgroup.
    ///
    /// ```
    /// use ns_core::{Command, ErrorKind};
    ///
    /// let mut child = Command::new("sleep").arg("100").spawn()?;
    /// match child.info() {
    ///     Ok(info) => assert_eq!((info.pid, info.parent), (child.pid(), std::process::id() as i32)),
    ///     Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported), // before Linux 6.13
    /// }
    /// child.kill()?;
    /// child.wait()?;
    /// # Ok::<(), ns_core::Error>(())
    /// ```
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
    /// ```
    /// use ns_core::Command;
    ///
    /// let mut child = Command::new("sleep").arg("100").spawn()?;
    /// child.signal(15)?;
    /// assert_eq!(child.wait()?.signal(), Some(15));
    /// assert!(child.signal(15).is_err());
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Gone`](crate::ErrorKind::Gone) when it has been reaped; Invalid for a number that is no signal; Permission.
    ///
    /// See <https://man7.org/linux/man-pages/man2/pidfd_send_signal.2.html>.
    #[doc(alias("kill", "pidfd_send_signal"))]
    pub fn signal(&self, signal: i32) -> Result<()> {
        process::signal(self.pidfd.as_fd(), self.pid, signal)
    }

    /// Sends SIGKILL.
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    ///
    /// See signal(7): <https://man7.org/linux/man-pages/man7/signal.7.html>.
    pub fn kill(&self) -> Result<()> {
        self.signal(libc::SIGKILL)
    }

    /// Waits for its end and reaps it. Later calls give the same answer.
    ///
    /// The caller's end of a pipe to its standard input is closed first, unless it was taken: a child that reads to the
    /// end would never see one. A child that writes more to a pipe than this holds (64 KiB) waits for a reader and does not
    /// end: [`wait_with_output`](Self::wait_with_output) reads.
    ///
    /// * C call: waitid(2) with P_PIDFD, Linux 5.4. Blocks; interrupted waits are taken up again.
    /// * When somebody else has reaped it (the process ignores SIGCHLD, or another library waits for every child), the
    ///   status is the one that the kernel keeps for holders of a pidfd: ioctl(2) PIDFD_GET_INFO with PIDFD_INFO_EXIT,
    ///   Linux 6.15.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// let mut child = Command::new("sh").args(["-c", "exit 3"]).spawn()?;
    /// assert_eq!(child.wait()?.code(), Some(3));
    /// assert_eq!(child.wait()?.code(), Some(3));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// ECHILD when somebody else has reaped it, on older kernels.
    ///
    /// See <https://man7.org/linux/man-pages/man2/waitid.2.html>.
    #[doc(alias("waitid", "waitpid", "P_PIDFD"))]
    pub fn wait(&mut self) -> Result<ExitStatus> {
        drop(self.ends.stdin.take());
        match self.reap(0)? {
            Some(status) => Ok(status),
            None => Err(Error::other("waitid", "the kernel returned without a status").on(Subject::Pid(self.pid))),
        }
    }

    /// As [`wait`](Self::wait), but `None` at once when it still runs.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// let mut child = Command::new("sleep").arg("100").spawn()?;
    /// assert_eq!(child.try_wait()?, None);
    /// child.kill()?;
    /// child.wait()?;
    /// assert!(child.try_wait()?.is_some());
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    #[doc(alias = "WNOHANG")]
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.reap(libc::WNOHANG)
    }

    /// As [`wait`](Self::wait), but `None` when it still runs after `limit`. It then runs on: kill it, or wait again.
    ///
    /// * C call: ppoll(2) on the pidfd (Linux 5.3), then waitid(2).
    ///
    /// ```
    /// use std::time::Duration;
    /// use ns_core::Command;
    ///
    /// let mut child = Command::new("sleep").arg("100").spawn()?;
    /// if child.wait_timeout(Duration::from_millis(10))?.is_none() {
    ///     child.kill()?;
    /// }
    /// assert_eq!(child.wait()?.signal(), Some(9));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`wait`](Self::wait), and those of ppoll(2).
    ///
    /// See poll(2): <https://man7.org/linux/man-pages/man2/poll.2.html>.
    #[doc(alias("poll", "timeout"))]
    pub fn wait_timeout(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        drop(self.ends.stdin.take());
        let deadline = Instant::now().checked_add(limit);
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(Some(status));
            }
            if !process::wait_end(self.pidfd.as_fd(), self.pid, deadline)? {
                return self.try_wait();
            }
            if self.status.is_none() && self.try_wait()?.is_none() {
                // A debugger sees its end first.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// What the child used, once it has been waited for here: not when somebody else has reaped it.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// let mut child = Command::new("sh").args(["-c", "i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done"]).spawn()?;
    /// child.wait()?;
    /// assert!(child.usage().is_some_and(|usage| !usage.user_time.is_zero() || !usage.system_time.is_zero()));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See getrusage(2): <https://man7.org/linux/man-pages/man2/getrusage.2.html>.
    #[doc(alias("getrusage", "RUSAGE_CHILDREN"))]
    #[must_use]
    pub fn usage(&self) -> Option<ResourceUsage> {
        self.usage
    }

    fn reap(&mut self, options: i32) -> Result<Option<ExitStatus>> {
        if self.status.is_some() {
            return Ok(self.status);
        }
        match sys::wait(self.pidfd.as_fd(), options) {
            Ok(Some(ended)) => {
                self.status = Some(ExitStatus::of(&ended));
                self.usage = Some(ResourceUsage::of(&ended));
            }
            Ok(None) => {}
            Err(errno) => {
                let kept = match errno {
                    Errno(libc::ECHILD) => process::status_from_the_reaper(self.pidfd.as_fd(), self.pid),
                    // Nobody has taken it: there was no wait.
                    _ => process::kept_status(self.pidfd.as_fd()),
                };
                self.status = Some(kept.ok_or_else(|| {
                    Error::from_errno("waitid", errno.0).on(Subject::Pid(self.pid)).with_hints(&HINTS)
                })?);
            }
        }
        Ok(self.status)
    }
}

impl From<Child> for OwnedFd {
    /// The pidfd.
    fn from(child: Child) -> Self {
        child.pidfd
    }
}

impl AsFd for Child {
    /// The pidfd: readable, for poll(2) and its kin, when the child has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
