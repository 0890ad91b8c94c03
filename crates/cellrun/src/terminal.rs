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
///
/// Nothing here blocks: a reader of standard output that stops must not make cellrun deaf to signals, and one that goes
/// away must not stop the container.
#[derive(Debug)]
pub struct TerminalGuard {
    master: File,
    /// Duplicates, used without the standard library's buffers.
    stdin: File,
    stdout: File,
    before: Termios,
    to_container: VecDeque<u8>,
    to_caller: VecDeque<u8>,
    /// Standard input has no more.
    stdin_ended: bool,
    /// No process has the container's terminal open. One may open it again.
    hung_up: bool,
    /// Standard output takes nothing more: what the container writes is read and forgotten.
    lost: bool,
}

/// How much is kept for a side that does not take it.
const MOST: usize = 64 << 10;
/// What a pipe that poll(2) calls writable takes without blocking.
const PIPE_BUF: usize = 4096;

/// What to poll for: standard input, standard output, the container's end.
pub type Interest<'a> = [Option<(BorrowedFd<'a>, PollFlags)>; 3];

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

/// The size of the terminal on standard input, if it has one: rows and columns.
#[must_use]
pub fn size() -> Option<(u16, u16)> {
    sys::window_size(io::stdin().as_fd()).ok().filter(|size| *size != (0, 0))
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
        let duplicate = |fd: BorrowedFd<'_>| {
            let fd = fd.try_clone_to_owned().map(File::from);
            fd.map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", &error))
        };
        let guard = Self {
            master: master.into(),
            stdin: duplicate(io::stdin().as_fd())?,
            stdout: duplicate(io::stdout().as_fd())?,
            before,
            to_container: VecDeque::new(),
            to_caller: VecDeque::new(),
            stdin_ended: false,
            hung_up: false,
            lost: false,
        };
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

    /// What to poll for. A descriptor from which nothing is wanted is left out: poll(2) would report its hang-up again and
    /// again.
    #[must_use]
    pub fn interest(&self) -> Interest<'_> {
        let flags = |pairs: &[(PollFlags, bool)]| {
            pairs.iter().filter(|(_, wanted)| *wanted).fold(PollFlags::empty(), |all, (flag, _)| all | *flag)
        };
        let wanted = |fd, flags: PollFlags| (!flags.is_empty()).then_some((fd, flags));
        let stdin = flags(&[(PollFlags::POLLIN, !self.stdin_ended && self.to_container.len() < MOST)]);
        let stdout = flags(&[(PollFlags::POLLOUT, !self.to_caller.is_empty())]);
        let master = flags(&[
            (PollFlags::POLLIN, !self.hung_up && self.to_caller.len() < MOST),
            (PollFlags::POLLOUT, !self.hung_up && !self.to_container.is_empty()),
        ]);
        [wanted(self.stdin.as_fd(), stdin), wanted(self.stdout.as_fd(), stdout), wanted(self.master.as_fd(), master)]
    }

    /// Carries what can be carried without waiting, in both directions. `stdin` and `stdout` are whether poll(2) found them
    /// ready.
    pub fn carry(&mut self, stdin: bool, stdout: bool) {
        if stdin {
            let mut chunk = [0; PIPE_BUF];
            match self.stdin.read(&mut chunk) {
                Ok(length) if length > 0 => self.to_container.extend(chunk.iter().take(length)),
                Err(error) if is_later(&error) => {}
                _ => self.stdin_ended = true,
            }
        }
        while !self.to_container.is_empty() {
            let (first, _) = self.to_container.as_slices();
            match self.master.write(first) {
                Ok(written) if written > 0 => drop(self.to_container.drain(..written)),
                _ => break,
            }
        }
        self.read_master();
        if stdout && !self.to_caller.is_empty() {
            let (first, _) = self.to_caller.as_slices();
            match self.stdout.write(first.get(..PIPE_BUF).unwrap_or(first)) {
                Ok(written) => drop(self.to_caller.drain(..written)),
                Err(error) if is_later(&error) => {}
                Err(_) => {
                    self.lost = true;
                    self.to_caller.clear();
                }
            }
        }
    }

    fn read_master(&mut self) {
        let mut chunk = [0; PIPE_BUF];
        while self.to_caller.len() < MOST {
            match self.master.read(&mut chunk) {
                Ok(length) if length > 0 => {
                    self.hung_up = false;
                    if !self.lost {
                        self.to_caller.extend(chunk.iter().take(length));
                    }
                }
                Err(error) if is_later(&error) => {
                    self.hung_up = false;
                    return;
                }
                // EIO: the last process with the terminal open has gone.
                _ => {
                    self.hung_up = true;
                    return;
                }
            }
        }
    }

    /// Whether no process has the container's terminal open: look again from time to time.
    #[must_use]
    pub fn is_hung_up(&self) -> bool {
        self.hung_up
    }

    /// Whether all that the container wrote has been passed on.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.to_caller.is_empty()
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.before);
    }
}
