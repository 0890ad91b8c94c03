//! The caller's terminal while a container has one of its own: raw, of the same size, bytes carried both ways.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cellkit_core::{Error, Result, Subject};
use nix::poll::PollFlags;
use nix::sys::termios::{self, SetArg, Termios};

use crate::sys;

/// The caller's terminal in raw mode, and the container's other end. Dropping it restores the caller's settings.
#[derive(Debug)]
pub struct TerminalGuard {
    master: File,
    /// A duplicate of standard input, read without the standard library's buffer.
    stdin: File,
    before: Termios,
    input: Direction,
    output: Direction,
    /// Standard output takes nothing more.
    lost: bool,
}

/// Bytes on their way.
#[derive(Debug, Default)]
struct Direction {
    buffer: VecDeque<u8>,
    /// The source has no more.
    ended: bool,
}

const MOST: usize = 64 << 10;

/// Fails when standard input is no terminal.
///
/// # Errors
/// ENOTTY.
pub fn require() -> Result<()> {
    match termios::tcgetattr(io::stdin()) {
        Ok(_) => Ok(()),
        Err(errno) => Err(Error::from_errno("ioctl TCGETS", errno as i32)
            .on(Subject::Thing("standard input".into()))
            .with_hint("-t wants a terminal on standard input: leave it out when input comes from a file or pipe")),
    }
}

impl TerminalGuard {
    /// Takes the container's end, gives it the size of the caller's terminal, and makes that raw.
    ///
    /// # Errors
    /// ENOTTY when standard input is no terminal.
    pub fn new(master: OwnedFd) -> Result<Self> {
        let fail = |call: &'static str| {
            move |errno: nix::errno::Errno| {
                Error::from_errno(call, errno as i32).on(Subject::Thing("standard input".into()))
            }
        };
        let before = termios::tcgetattr(io::stdin()).map_err(fail("ioctl TCGETS"))?;
        let flags = nix::fcntl::OFlag::O_NONBLOCK;
        nix::fcntl::fcntl(&master, nix::fcntl::FcntlArg::F_SETFL(flags)).map_err(fail("fcntl F_SETFL"))?;
        let (input, output) = (Direction::default(), Direction::default());
        let stdin = io::stdin().as_fd().try_clone_to_owned().map(File::from);
        let stdin = stdin.map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", &error))?;
        let guard = Self { master: master.into(), stdin, before, input, output, lost: false };
        guard.resize();
        let mut raw = guard.before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw).map_err(fail("ioctl TCSETSW"))?;
        Ok(guard)
    }

    /// Gives the container's terminal the size of the caller's. A terminal that does not tell its size keeps the old one.
    pub fn resize(&self) {
        let _ = sys::copy_window_size(self.stdin.as_fd(), self.master.as_fd());
    }

    /// What to poll for, on standard input and on the container's end. One from which nothing is wanted is left out: poll(2)
    /// would report its hang-up again and again.
    #[must_use]
    pub fn interest(&self) -> [Option<(BorrowedFd<'_>, PollFlags)>; 2] {
        let mut input = PollFlags::empty();
        let mut master = PollFlags::empty();
        input.set(PollFlags::POLLIN, !self.input.ended && self.input.buffer.len() < MOST);
        master.set(PollFlags::POLLIN, !self.output.ended && self.output.buffer.len() < MOST);
        master.set(PollFlags::POLLOUT, !self.input.buffer.is_empty());
        let wanted = |fd, flags: PollFlags| (!flags.is_empty()).then_some((fd, flags));
        [wanted(self.stdin.as_fd(), input), wanted(self.master.as_fd(), master)]
    }

    /// Carries what there is, in both directions. `stdin` is whether standard input is readable (or has ended).
    pub fn carry(&mut self, stdin: bool) {
        if stdin && !self.input.ended && self.input.buffer.len() < MOST {
            let mut chunk = [0; 4096];
            match self.stdin.read(&mut chunk) {
                Ok(length) if length > 0 => self.input.buffer.extend(chunk.iter().take(length)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => self.input.ended = true,
            }
        }
        while !self.input.buffer.is_empty() {
            let (first, _) = self.input.buffer.as_slices();
            match self.master.write(first) {
                Ok(written) if written > 0 => drop(self.input.buffer.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        self.drain();
    }

    /// Whether no process has the container's terminal open. One may open it again: look from time to time.
    #[must_use]
    pub fn is_hung_up(&self) -> bool {
        self.output.ended && !self.lost
    }

    /// Reads what the container wrote and writes it to standard output.
    pub fn drain(&mut self) {
        let mut chunk = [0; 4096];
        self.output.ended = self.lost;
        while !self.output.ended {
            match self.master.read(&mut chunk) {
                Ok(length) if length > 0 => {
                    let mut out = io::stdout().lock();
                    if out.write_all(chunk.get(..length).unwrap_or(&[])).and_then(|()| out.flush()).is_err() {
                        self.lost = true;
                        self.output.ended = true;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // EIO: the last process with the terminal open has gone.
                _ => self.output.ended = true,
            }
        }
    }
}

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.before);
    }
}
