//! A child that runs its program.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cellkit_core::{Error, Result, Subject};

use crate::hint::HINTS;
use crate::namespaces::Kind;
use crate::ns_fd::NsFd;
use crate::sys;

/// A child that runs its program, known by its pidfd: its number may be reused, the handle never means another process.
///
/// Dropping it lets it run on, as in the standard library; wait for it, or its zombie stays until this process ends.
#[must_use = "wait for it, or a zombie is left"]
#[derive(Debug)]
pub struct Child {
    pidfd: OwnedFd,
    pid: i32,
    terminal: Option<OwnedFd>,
    status: Option<ExitStatus>,
}

impl Child {
    pub(crate) fn new(pidfd: OwnedFd, pid: i32, terminal: Option<OwnedFd>) -> Self {
        Self { pidfd, pid, terminal, status: None }
    }

    /// The number of the process in the caller's pid namespace: for messages, not for system calls.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Takes the caller's end of the terminal that [`Command::terminal`](crate::Command::terminal) asked for.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// A handle on one of the child's namespaces: `child.namespace::<Net>()`.
    ///
    /// # Errors
    /// As [`NsFd::of_process`].
    pub fn namespace<K: Kind>(&self) -> Result<NsFd<K>> {
        NsFd::of_process(self)
    }

    /// Sends a signal.
    ///
    /// * C call: pidfd_send_signal(2), Linux 5.1.
    ///
    /// # Errors
    /// [`Gone`](crate::ErrorKind::Gone) when it has been reaped; Invalid for a number that is no signal; Permission.
    pub fn signal(&self, signal: i32) -> Result<()> {
        sys::pidfd_send_signal(self.pidfd.as_fd(), signal)
            .map_err(|errno| Error::from_errno("pidfd_send_signal", errno.0).on(Subject::Pid(self.pid)).or_gone())
    }

    /// Sends SIGKILL.
    ///
    /// # Errors
    /// As [`signal`](Self::signal).
    pub fn kill(&self) -> Result<()> {
        self.signal(libc::SIGKILL)
    }

    /// Waits for the end of the child, and reaps it. Later calls give the same answer.
    ///
    /// * C call: waitid(2) with P_PIDFD, Linux 5.4. Blocks.
    ///
    /// # Errors
    /// ECHILD when somebody else has reaped it.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        match self.reap(0)? {
            Some(status) => Ok(status),
            None => Err(Error::other("waitid", "the kernel returned without a status").on(Subject::Pid(self.pid))),
        }
    }

    /// As [`wait`](Self::wait), but `None` at once when it still runs.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.reap(libc::WNOHANG)
    }

    fn reap(&mut self, options: i32) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = sys::wait(self.pidfd.as_fd(), options)
                .map_err(|errno| Error::from_errno("waitid", errno.0).on(Subject::Pid(self.pid)).with_hints(&HINTS))?
                .map(|(code, status)| ExitStatus::new(code, status));
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

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitStatus {
    /// It called exit with this status.
    Exited(i32),
    /// This signal killed it.
    Signaled {
        /// The signal's number.
        signal: i32,
        /// Whether it dumped core.
        core_dumped: bool,
    },
}

impl ExitStatus {
    pub(crate) fn new(code: i32, status: i32) -> Self {
        match code {
            libc::CLD_EXITED => Self::Exited(status),
            _ => Self::Signaled { signal: status, core_dumped: code == libc::CLD_DUMPED },
        }
    }

    /// Whether it exited with status 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }

    /// As a shell's `$?` shows it: the status, or 128 and the signal.
    #[must_use]
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Exited(status) => status,
            Self::Signaled { signal, .. } => 128 + signal,
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exit status {status}"),
            Self::Signaled { signal, core_dumped: false } => write!(f, "signal {signal}"),
            Self::Signaled { signal, core_dumped: true } => write!(f, "signal {signal}, core dumped"),
        }
    }
}
