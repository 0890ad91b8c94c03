//! A child's whole output, and its input, without a deadlock.
//!
//! A child that is given input while nobody reads its output stops when its pipe is full, and so does whoever feeds it. So
//! the three pipes are served together, each when it is ready, until the outputs end.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use cellkit_core::{Errno, Error, Result};

use crate::stdio::Ours;
use crate::{Child, ExitStatus, sys};

/// How a child ended, and all that it wrote to the pipes it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output, if that was a pipe.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error, if that was a pipe.
    pub stderr: Vec<u8>,
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
    /// that the child leaves behind keeps it waiting.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), and those of reading; the child is then killed and reaped.
    pub fn wait_with_output(self) -> Result<Output> {
        self.wait_with_output_from(&[])
    }

    /// As [`wait_with_output`](Self::wait_with_output), and writes `input` to the pipe of its standard input. A child that
    /// ends before it has read all of it is no error, and no SIGPIPE for the caller.
    ///
    /// # Errors
    /// As [`wait_with_output`](Self::wait_with_output).
    #[doc(alias = "communicate")]
    pub fn wait_with_output_from(mut self, input: &[u8]) -> Result<Output> {
        let ends = std::mem::take(&mut self.ends);
        match exchange(input, ends) {
            Ok((stdout, stderr)) => Ok(Output { status: self.wait()?, stdout, stderr }),
            Err(error) => {
                let _ = self.kill();
                let _ = self.wait();
                Err(error)
            }
        }
    }
}

/// Serves the pipes until the outputs have ended.
fn exchange(mut input: &[u8], ends: Ours) -> Result<(Vec<u8>, Vec<u8>)> {
    let Ours { stdin, stdout, stderr, terminal: _terminal } = ends;
    let mut stdin = stdin.filter(|_| !input.is_empty());
    let (mut stdout, mut stderr) = (Reader::new(stdout), Reader::new(stderr));
    let [first, second] = [&stdout, &stderr].map(|reader| reader.fd.as_ref().map(File::as_fd));
    for fd in [stdin.as_ref().map(OwnedFd::as_fd), first, second].into_iter().flatten() {
        sys::set_nonblocking(fd).map_err(|errno| Error::from_errno("fcntl F_SETFL", errno.0))?;
    }
    while stdin.is_some() || stdout.fd.is_some() || stderr.fd.is_some() {
        let wanted = [
            stdin.as_ref().map(|fd| (fd.as_fd(), libc::POLLOUT)),
            stdout.fd.as_ref().map(|fd| (fd.as_fd(), libc::POLLIN)),
            stderr.fd.as_ref().map(|fd| (fd.as_fd(), libc::POLLIN)),
        ];
        let [feed, first, second] = sys::poll(wanted, None).map_err(|errno| Error::from_errno("ppoll", errno.0))?;
        if let (Some(fd), true) = (&stdin, feed) {
            match sys::write_without_signal(fd.as_fd(), input) {
                Ok(written) => input = input.get(written..).unwrap_or_default(),
                Err(Errno(libc::EAGAIN | libc::EINTR)) => {}
                // It has stopped reading: what is left is not wanted.
                Err(Errno(libc::EPIPE)) => input = &[],
                Err(errno) => return Err(Error::from_errno("write", errno.0)),
            }
            if input.is_empty() {
                stdin = None;
            }
        }
        if first {
            stdout.read()?;
        }
        if second {
            stderr.read()?;
        }
    }
    Ok((stdout.text, stderr.text))
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

    /// Reads what is there.
    fn read(&mut self) -> Result<()> {
        let Some(file) = &mut self.fd else { return Ok(()) };
        // Reads on until the pipe is empty, growing the buffer as it goes; what was read before an error stays.
        match file.read_to_end(&mut self.text) {
            Ok(_) => self.fd = None,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(Error::from_io("read", &error)),
        }
        Ok(())
    }
}
