//! Where the payload's descriptors come from, and what each start makes anew for them: pipes, and a terminal.
//!
//! A plan is started as often as you like, also at the same time; a pipe or a terminal belongs to one start. So the plan
//! says only which are wanted ([`Fresh`]), each start makes them ([`Fresh::make`]), and the child finds its ends in the
//! slots that [`EndSlots`] names, next to its end of the socket pair.
#![forbid(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{ChildStderr, ChildStdin, ChildStdout};

use cellkit_core::{ChildSteps, Errno, Error, Result, Slot};

use crate::hint::HINTS;
use crate::sys;

/// Where one of the payload's three standard descriptors comes from.
///
/// Files, sockets and the ends of other children's pipes convert into it:
///
/// ```
/// use ns_core::{Command, Stdio};
///
/// let mut from = Command::new("echo").arg("abc").stdout(Stdio::Pipe).spawn()?;
/// let reader = from.take_stdout().expect("a pipe");
/// let said = Command::new("tr").args(["a-c", "A-C"]).stdin(reader).output()?;
/// assert_eq!(said.stdout, b"ABC\n");
/// from.wait()?;
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See pipe(2), dup(2): <https://man7.org/linux/man-pages/man2/pipe.2.html>.
#[doc(alias("pipe2", "dup2"))]
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Stdio {
    /// The caller's own; `/dev/null` when the caller has none, or has something else there by now: what closes on execve.
    #[default]
    Inherit,
    /// `/dev/null` of the caller's machine.
    Null,
    /// A pipe(2), a new one each time that the plan is started. The caller's end is
    /// [`Child::take_stdin`](crate::Child::take_stdin) and its like. It is owned by the payload's
    /// [`user`](crate::Command::user), where the caller may give it away, so that `/dev/stdout` can be opened.
    Pipe,
    /// This descriptor. A directory is refused: it would be a way out of the payload's root.
    Fd(OwnedFd),
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Self {
        Self::Fd(fd)
    }
}

macro_rules! from_owner_of_a_descriptor {
    ($($owner:ty),+) => {$(
        impl From<$owner> for Stdio {
            fn from(owner: $owner) -> Self {
                Self::Fd(owner.into())
            }
        }
    )+};
}

from_owner_of_a_descriptor!(File, ChildStdin, ChildStdout, ChildStderr, std::os::unix::net::UnixStream);

/// The first slots of the lists that close and place descriptors: the child's end of the socket pair, and what a start
/// has made. An end that was not asked for leaves its slot empty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndSlots {
    pub(crate) sync: Slot,
    pub(crate) pipes: [Slot; 3],
    pub(crate) terminal: Slot,
}

/// How many those are.
pub(crate) const ENDS: usize = 5;

impl EndSlots {
    /// In a list that has no slot yet.
    pub(crate) fn first_of(steps: &mut ChildSteps) -> Self {
        Self { sync: steps.slot(), pipes: [steps.slot(), steps.slot(), steps.slot()], terminal: steps.slot() }
    }

    pub(crate) fn all(&self) -> [Slot; ENDS] {
        let [stdin, stdout, stderr] = self.pipes;
        [self.sync, stdin, stdout, stderr, self.terminal]
    }
}

/// What each start makes anew.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fresh {
    /// Which standard descriptors are pipes.
    pub(crate) pipes: [bool; 3],
    /// A terminal of the caller's devpts, with this size.
    pub(crate) terminal: Option<Option<(u16, u16)>>,
}

/// The caller's ends.
#[derive(Debug, Default)]
pub(crate) struct Ours {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) terminal: Option<OwnedFd>,
}

/// The child's ends, which the caller closes when the child has been cloned. All are above 2.
#[derive(Debug, Default)]
pub(crate) struct Theirs {
    pipes: [Option<OwnedFd>; 3],
    terminal: Option<OwnedFd>,
}

impl Theirs {
    /// In the order of [`EndSlots::all`], without the socket.
    pub(crate) fn numbers(&self) -> [RawFd; ENDS - 1] {
        let number = |fd: &Option<OwnedFd>| fd.as_ref().map_or(cellkit_core::ChildFds::EMPTY, AsRawFd::as_raw_fd);
        let [stdin, stdout, stderr] = self.pipes.each_ref().map(number);
        [stdin, stdout, stderr, number(&self.terminal)]
    }
}

impl Fresh {
    pub(crate) fn make(&self) -> Result<(Ours, Theirs)> {
        let (mut ours, mut theirs) = (Ours::default(), Theirs::default());
        let pipe = || sys::pipe().map_err(|errno| failed("pipe2", errno));
        let [stdin, stdout, stderr] = &mut theirs.pipes;
        if self.pipes[0] {
            let (reader, writer) = pipe()?;
            (*stdin, ours.stdin) = (Some(reader), Some(writer));
        }
        if self.pipes[1] {
            let (reader, writer) = pipe()?;
            (*stdout, ours.stdout) = (Some(writer), Some(reader));
        }
        if self.pipes[2] {
            let (reader, writer) = pipe()?;
            (*stderr, ours.stderr) = (Some(writer), Some(reader));
        }
        if let Some(size) = self.terminal {
            let (master, peer) = open_terminal(size)?;
            (ours.terminal, theirs.terminal) = (Some(master), Some(peer));
        }
        Ok((ours, theirs))
    }
}

fn failed(call: &'static str, errno: Errno) -> Error {
    Error::from_errno(call, errno.0).with_hints(&HINTS)
}

/// A pseudo-terminal of the caller's own devpts: its master and its peer.
fn open_terminal(size: Option<(u16, u16)>) -> Result<(OwnedFd, OwnedFd)> {
    let path = Path::new("/dev/ptmx");
    let file = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path);
    let master: OwnedFd = file.map_err(|error| Error::from_io("openat", &error).on(path).with_hints(&HINTS))?.into();
    let peer = sys::terminal_peer(&master, size).map_err(|errno| failed("ioctl TIOCGPTPEER", errno).on(path))?;
    Ok((master, peer))
}
