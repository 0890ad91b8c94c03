//! A process that a later cellrun can find again, and be sure that it is the same one.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use cellkit_core::{Error, ErrorKind, ProcFd, ProcView, Result, Subject};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

/// A process, told from another with the same number by when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number, in the pid namespace of the cellrun that started it.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks since boot.
    pub start: u64,
}

impl Process {
    /// The process of `pidfd`.
    ///
    /// # Errors
    /// [`ErrorKind::Gone`] when it has died.
    pub fn of(proc: &ProcFd, pidfd: BorrowedFd<'_>) -> Result<Self> {
        let process = proc.process(pidfd)?;
        let stat = process.read(Path::new("stat"))?;
        let start = start_time(&stat)
            .ok_or_else(|| Error::parse("read stat", "field 22 is no number").on(Subject::Pid(process.pid())))?;
        Ok(Self { pid: process.pid(), start })
    }

    /// A pidfd of it, if it is still the same process.
    ///
    /// # Errors
    /// [`ErrorKind::Gone`] when it has died, also when its number is another's by now.
    pub fn open(self) -> Result<OwnedFd> {
        let gone = |errno| Error::gone("pidfd_open", errno).on(Subject::Pid(self.pid));
        let pidfd = cellkit_core::sys::pidfd_open(self.pid).map_err(|errno| gone(Some(errno.0)))?;
        let now = Self::of(&ProcFd::open(ProcView::Processes)?, pidfd.as_fd())?;
        if now == self { Ok(pidfd) } else { Err(gone(None)) }
    }

    /// Kills it, if it is still the same process, and waits until it has ended.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] when it does not die within `limit`; Permission.
    pub fn end(self, limit: Duration) -> Result<()> {
        let pidfd = match self.open() {
            Err(error) if error.kind() == ErrorKind::Gone => return Ok(()),
            pidfd => pidfd?,
        };
        let fail = |call: &'static str, errno: i32| Error::from_errno(call, errno).on(Subject::Pid(self.pid));
        match cellkit_core::sys::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL) {
            Ok(()) | Err(cellkit_core::Errno(libc::ESRCH)) => {}
            Err(errno) => return Err(fail("pidfd_send_signal", errno.0)),
        }
        let begun = Instant::now();
        loop {
            let left = limit.saturating_sub(begun.elapsed());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) => return Err(Error::timed_out("poll", limit).on(Subject::Pid(self.pid))),
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(fail("poll", errno as i32)),
            }
        }
    }
}

/// Field 22 of proc_pid_stat(5). Field 2 is a name in parentheses, which may hold any byte, parentheses too.
fn start_time(stat: &[u8]) -> Option<u64> {
    let after_name = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(stat.get(after_name + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_time_behind_an_odd_name() {
        let stat = b"7 (a) b) (c) S 1 7 7 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0\n";
        assert_eq!(start_time(stat), Some(4242));
        assert_eq!(start_time(b"7 (a S 1"), None);
        assert_eq!(start_time(b""), None);
    }
}
