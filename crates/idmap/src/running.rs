//! A program that runs for a while: listened to, limited, killed and reaped.
//!
//! It was started with pipes, and is waited for through a pidfd, so that nothing here hangs: not on a program that does
//! not end, nor on one whose children keep its pipes open, nor on one that talks without end.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use cellkit_core::{Error, Result, sys as core_sys};

use crate::sys;

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` when somebody else took the status.
    pub(crate) status: Option<ExitStatus>,
    /// What it wrote to standard error, the first 4 KiB of it.
    pub(crate) said: String,
    /// What it wrote to standard output; `None` when that was more than was allowed.
    pub(crate) answer: Option<Vec<u8>>,
}

impl Ended {
    /// What was wrong with its end, if something was and anybody knows.
    pub(crate) fn failure(&self) -> Option<String> {
        let status = self.status.filter(|status| !status.success())?;
        Some(match (status.code(), status.signal()) {
            (Some(code), _) => format!("it refused, with exit status {code}"),
            (None, Some(signal)) => format!("it was killed by signal {signal}"),
            (None, None) => status.to_string(),
        })
    }
}

/// Why the end of a program was not seen, and what it had said.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) said: String,
    pub(crate) error: Error,
}

/// A running program: killed and reaped when it is dropped before its end.
#[derive(Debug)]
pub(crate) struct Running {
    program: &'static str,
    child: Child,
    /// `None` when the program had ended, and been reaped by somebody else, before it could be opened.
    pidfd: Option<OwnedFd>,
    ended: bool,
}

/// Kept of what a program says.
const SAID_LIMIT: usize = 4096;
/// Given to a killed program to go.
const KILL_LIMIT: Duration = Duration::from_secs(1);

impl Running {
    pub(crate) fn new(program: &'static str, mut child: Child) -> Result<Self, Failed> {
        let opened = core_sys::pidfd_open(child.id() as i32).map_err(|errno| Error::from_errno("pidfd_open", errno.0));
        // Where somebody else takes the status of all children, the number may be another's by now.
        let own = |pidfd: OwnedFd| match sys::is_own_child(pidfd.as_fd()) {
            Ok(own) => Ok(own.then_some(pidfd)),
            Err(errno) => Err(Error::from_errno("waitid", errno.0)),
        };
        let pidfd = match opened.and_then(own) {
            Ok(pidfd) => pidfd,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => None,
            Err(error) => {
                // It has not been waited for, so the number is its own; there is nothing to do about a second error.
                let _ = child.kill().and_then(|()| child.wait());
                return Err(Failed { said: String::new(), error });
            }
        };
        Ok(Self { program, child, pidfd, ended: false })
    }

    /// Waits for its end, with what it writes to those of its standard output and standard error that are pipes: up to
    /// `answer` bytes of the former.
    pub(crate) fn wait(mut self, limit: Duration, answer: usize) -> Result<Ended, Failed> {
        let mut stderr = Pipe::new(self.child.stderr.take().map(OwnedFd::from), SAID_LIMIT);
        let mut stdout = Pipe::new(self.child.stdout.take().map(OwnedFd::from), answer);
        let result = self.wait_listening(limit, &mut stderr, &mut stdout);
        let said = String::from_utf8_lossy(&stderr.kept).trim().to_owned();
        match result {
            Ok(status) => Ok(Ended { status, said, answer: (!stdout.overflowed).then_some(stdout.kept) }),
            Err(error) => Err(Failed { said, error }),
        }
    }

    fn wait_listening(&mut self, limit: Duration, stderr: &mut Pipe, stdout: &mut Pipe) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        for pipe in [&stderr, &stdout] {
            let Some(fd) = pipe.fd() else { continue };
            sys::set_nonblocking(fd).map_err(|errno| Error::from_errno("fcntl F_SETFL", errno.0))?;
        }
        loop {
            let Some(pidfd) = &self.pidfd else {
                [stderr, stdout].into_iter().for_each(Pipe::listen);
                break;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::timed_out(self.program, limit)
                    .with_hint("it asks the account database: a directory service that does not answer?"));
            }
            // Rounded up: poll must not come back early and spin.
            let [ended, said, answered] =
                sys::wait_readable([Some(pidfd.as_fd()), stderr.fd(), stdout.fd()], left + Duration::from_millis(1))
                    .map_err(|errno| Error::from_errno("poll", errno.0))?;
            for (pipe, ready) in [(&mut *stderr, said), (&mut *stdout, answered)] {
                if ready || ended {
                    pipe.listen();
                }
            }
            if ended {
                break;
            }
        }
        self.status()
    }

    /// Reaps the program, which has ended.
    fn status(&mut self) -> Result<Option<ExitStatus>> {
        self.ended = true;
        match self.child.wait() {
            Ok(status) => Ok(Some(status)),
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
            Err(error) => {
                // A wait that failed has not reaped; there is nothing to do about a second error.
                let _ = self.child.wait();
                Err(Error::from_io("wait4", &error))
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(pidfd) = &self.pidfd else { return };
        if self.ended || sys::kill(pidfd.as_fd()).is_err() {
            return;
        }
        // A killed program may be stuck in the kernel; then it is better left than waited for.
        if matches!(sys::wait_readable([Some(pidfd.as_fd())], KILL_LIMIT), Ok([true])) {
            // Nothing is left to do about an error: somebody else reaped it.
            let _ = self.child.wait();
        }
    }
}

/// Our end of what a program writes to.
#[derive(Debug)]
struct Pipe {
    /// `None` when there was none, or will be no more.
    file: Option<File>,
    kept: Vec<u8>,
    limit: usize,
    overflowed: bool,
}

impl Pipe {
    fn new(fd: Option<OwnedFd>, limit: usize) -> Self {
        Self { file: fd.map(File::from), kept: Vec::new(), limit, overflowed: false }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// Reads what is there without waiting.
    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(file) = &mut self.file {
            match file.read(&mut buffer) {
                Ok(0) => self.file = None,
                Ok(read) => {
                    let room = self.limit - self.kept.len();
                    self.kept.extend(buffer.iter().take(read.min(room)));
                    self.overflowed |= read > room;
                    if room == 0 {
                        // Enough is kept; what follows is read no further than this, so that nobody can keep us here.
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => self.file = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn an_answer_is_kept_whole_or_not_at_all() {
        let run = |limit: usize| {
            let child = Command::new("/bin/echo").arg("12345").stdout(Stdio::piped()).spawn().expect("echo");
            let running = Running::new("echo", child).map_err(|failed| failed.error).expect("a pidfd");
            let ended = running.wait(Duration::from_secs(60), limit).map_err(|failed| failed.error).expect("an end");
            assert_eq!(ended.failure(), None);
            ended.answer
        };
        assert_eq!(run(6).as_deref(), Some(b"12345\n".as_slice()));
        assert_eq!(run(5), None);
        assert_eq!(run(0), None);
    }
}
