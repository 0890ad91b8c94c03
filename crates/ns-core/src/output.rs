//! A child's whole output, and its input, without a deadlock.
//!
//! A child that is given input while nobody reads its output stops when its pipe is full, and so does whoever feeds it. So
//! the three pipes are served together, each when it is ready, until the outputs end, or until there is no time left: a
//! pipe is emptied a piece at a time, since one that somebody keeps filling would never be seen empty.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use cellkit_core::{Errno, Error, Result};

use crate::stdio::Ours;
use crate::{Child, ExitStatus, sys};

/// How a child ended, and all that it wrote to the pipes it was given.
///
/// It converts into [`std::process::Output`].
///
/// ```
/// use ns_core::Command;
///
/// let output = Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]).output()?;
/// assert_eq!((&*output.stdout, &*output.stderr), (&b"out\n"[..], &b"err\n"[..]));
/// assert_eq!(output.status.code(), Some(3));
/// let std: std::process::Output = output.into();
/// assert_eq!(std.status.code(), Some(3));
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See pipe(7), waitid(2): <https://man7.org/linux/man-pages/man7/pipe.7.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output, if that was a pipe.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error, if that was a pipe.
    pub stderr: Vec<u8>,
    /// Whether a [limit](Child::wait_with_output_timeout) on the time passed first. If the child still ran then, it was
    /// killed, and `status` says so.
    pub timed_out: bool,
}

impl From<Output> for std::process::Output {
    fn from(output: Output) -> Self {
        Self { status: output.status.into(), stdout: output.stdout, stderr: output.stderr }
    }
}

impl Child {
    /// Reads all that the child writes to its pipes, and waits for its end. Its standard input ends at once.
    ///
    /// This returns when the child has ended *and* every process that has inherited its pipes has closed them: a daemon
    /// that the child leaves behind keeps it waiting, if there is no [limit](Self::wait_with_output_timeout).
    ///
    /// All of it is kept in memory. Of a child that may write without end, take the pipe and read what you want:
    /// [`take_stdout`](Self::take_stdout).
    ///
    /// * C calls: ppoll(2), read(2), waitid(2). Blocks.
    ///
    /// ```
    /// use ns_core::{Command, Stdio};
    ///
    /// let child = Command::new("echo").arg("hello").stdout(Stdio::Pipe).spawn()?;
    /// assert_eq!(child.wait_with_output()?.stdout, b"hello\n");
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`wait`](Self::wait), and those of reading; the child is then killed and reaped.
    ///
    /// See pipe(7), poll(2): <https://man7.org/linux/man-pages/man7/pipe.7.html>.
    pub fn wait_with_output(self) -> Result<Output> {
        self.wait_with_output_from(&[])
    }

    /// As [`wait_with_output`](Self::wait_with_output), and writes `input` to the pipe of its standard input. A child that
    /// ends before it has read all of it is no error, and no SIGPIPE for the caller.
    ///
    /// ```
    /// use ns_core::{Command, Stdio};
    ///
    /// let sort = Command::new("sort").stdin(Stdio::Pipe).stdout(Stdio::Pipe).spawn()?;
    /// assert_eq!(sort.wait_with_output_from(b"b\na\n")?.stdout, b"a\nb\n");
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`wait_with_output`](Self::wait_with_output).
    #[doc(alias = "communicate")]
    pub fn wait_with_output_from(self, input: &[u8]) -> Result<Output> {
        self.collect(input, None)
    }

    /// As [`wait_with_output_from`](Self::wait_with_output_from), for no longer than `limit`: then a child that still runs
    /// is killed and reaped. What was written until then is in the answer, which says that it
    /// [timed out](Output::timed_out).
    ///
    /// It blocks the thread; in async code it is something for `tokio::task::spawn_blocking`, and with a limit safe there.
    ///
    /// In a pid namespace of its own all that the child has started dies with it. Elsewhere that runs on, and is not waited
    /// for. It makes no difference here how much the child writes, or who holds its pipes.
    ///
    /// ```
    /// use std::time::Duration;
    /// use ns_core::{Command, Stdio};
    ///
    /// let child = Command::new("sh").args(["-c", "cat; exec sleep 100"]).stdin(Stdio::Pipe).stdout(Stdio::Pipe).spawn()?;
    /// let output = child.wait_with_output_timeout(b"so far", Duration::from_millis(100))?;
    /// assert!(output.timed_out);
    /// assert_eq!((output.stdout.as_slice(), output.status.signal()), (&b"so far"[..], Some(9)));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`wait_with_output`](Self::wait_with_output); Permission for a child that may not be killed, as one that has run a
    /// set-user-ID program: it runs on.
    #[doc(alias("timeout", "communicate"))]
    pub fn wait_with_output_timeout(self, input: &[u8], limit: Duration) -> Result<Output> {
        self.collect(input, Instant::now().checked_add(limit))
    }

    fn collect(mut self, input: &[u8], deadline: Option<Instant>) -> Result<Output> {
        self.exchange(input, deadline).inspect_err(|_| {
            if self.kill().is_ok() {
                let _ = self.wait();
            }
        })
    }

    fn exchange(&mut self, input: &[u8], deadline: Option<Instant>) -> Result<Output> {
        // Its terminal, if there is one, stays open: it would hang up.
        let mut pipes = Pipes::of(&mut self.ends)?;
        let served = pipes.serve(input, deadline)?;
        let ended = match deadline {
            None => Some(self.wait()?),
            Some(deadline) => self.wait_timeout(deadline.saturating_duration_since(Instant::now()))?,
        };
        let status = match ended {
            Some(status) => status,
            None => {
                self.kill()?;
                self.wait()?
            }
        };
        if !served {
            pipes.take_the_rest()?;
        }
        let timed_out = !served || ended.is_none();
        Ok(Output { status, stdout: pipes.stdout.text, stderr: pipes.stderr.text, timed_out })
    }
}

/// How much is read at a time: what a pipe holds, if nobody asked for more.
const PIECE: u64 = 1 << 16;
/// The most that a pipe holds, if fs.pipe-max-size is the kernel's own, in such pieces.
const MOST_PIECES: usize = 16;

/// The caller's ends of a child's pipes.
struct Pipes {
    stdin: Option<OwnedFd>,
    stdout: Reader,
    stderr: Reader,
}

impl Pipes {
    fn of(ends: &mut Ours) -> Result<Self> {
        let (stdin, stdout, stderr) = (ends.stdin.take(), ends.stdout.take(), ends.stderr.take());
        for fd in [&stdin, &stdout, &stderr].into_iter().flatten() {
            sys::set_nonblocking(fd.as_fd()).map_err(|errno| Error::from_errno("fcntl F_SETFL", errno.0))?;
        }
        Ok(Self { stdin, stdout: Reader::new(stdout), stderr: Reader::new(stderr) })
    }

    /// Serves them until the outputs have ended, and answers whether they had before the deadline.
    fn serve(&mut self, mut input: &[u8], deadline: Option<Instant>) -> Result<bool> {
        if input.is_empty() {
            self.stdin = None;
        }
        while self.stdin.is_some() || self.stdout.fd.is_some() || self.stderr.fd.is_some() {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let wanted = [
                self.stdin.as_ref().map(|fd| (fd.as_fd(), libc::POLLOUT)),
                self.stdout.fd.as_ref().map(|fd| (fd.as_fd(), libc::POLLIN)),
                self.stderr.fd.as_ref().map(|fd| (fd.as_fd(), libc::POLLIN)),
            ];
            let ready = sys::poll(wanted, left).map_err(|errno| Error::from_errno("ppoll", errno.0))?;
            let [feed, first, second] = ready;
            if let (Some(fd), true) = (&self.stdin, feed) {
                match sys::write_without_signal(fd.as_fd(), input) {
                    Ok(written) => input = input.get(written..).unwrap_or_default(),
                    Err(Errno(libc::EAGAIN | libc::EINTR)) => {}
                    // It has stopped reading: what is left is not wanted.
                    Err(Errno(libc::EPIPE)) => input = &[],
                    Err(errno) => return Err(Error::from_errno("write", errno.0)),
                }
                if input.is_empty() {
                    self.stdin = None;
                }
            }
            if first {
                self.stdout.read()?;
            }
            if second {
                self.stderr.read()?;
            }
            // A pipe that is always ready must not keep it from being seen.
            if left == Some(Duration::ZERO) && !ready.contains(&true) || deadline.is_some_and(|at| at <= Instant::now())
            {
                return Ok(self.stdin.is_none() && self.stdout.fd.is_none() && self.stderr.fd.is_none());
            }
        }
        Ok(true)
    }

    /// Reads what is in the pipes, and no more: somebody may still be filling them.
    fn take_the_rest(&mut self) -> Result<()> {
        for reader in [&mut self.stdout, &mut self.stderr] {
            for _ in 0..MOST_PIECES {
                if !reader.read()? {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// One output, until its end.
struct Reader {
    fd: Option<File>,
    text: Vec<u8>,
}

impl Reader {
    fn new(fd: Option<OwnedFd>) -> Self {
        Self { fd: fd.map(File::from), text: Vec::new() }
    }

    /// Reads a piece, and answers whether there may be more at once.
    fn read(&mut self) -> Result<bool> {
        let Some(file) = &self.fd else { return Ok(false) };
        // Reads on until the pipe is empty, growing the buffer as it goes; what was read before an error stays.
        match file.take(PIECE).read_to_end(&mut self.text) {
            Ok(read) if read as u64 == PIECE => return Ok(true),
            Ok(_) => self.fd = None,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(Error::from_io("read", &error)),
        }
        Ok(false)
    }
}
