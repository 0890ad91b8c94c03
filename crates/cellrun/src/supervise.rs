//! While the container runs: signals are passed on, the terminal is served, and the end is awaited.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;
use std::path::Path;

use cellkit_core::{Error, ErrorKind, ProcFd, ProcView, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use ns_core::{Child, ExitStatus};

use crate::sys;
use crate::terminal::TerminalGuard;

/// Signals that a person or a service manager sends to a program in the foreground: the container gets them instead.
const PASSED_ON: [Signal; 9] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];

/// How many ending signals make a person's patience: as Docker counts.
const INSIST: u32 = 3;

/// How often a terminal that nobody has open is looked at, in milliseconds.
const HUNG_UP_LOOK: u8 = 200;

/// Signals to this process, held back from the moment it is made: none can end cellrun between making something and
/// removing it.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Takes the signals of `PASSED_ON` off their usual way, and the end of children to where it can be waited for: a
    /// careless caller may have had SIGCHLD ignored.
    ///
    /// # Errors
    /// Those of signalfd(2).
    pub fn take() -> Result<Self> {
        sys::settle_signals().map_err(|errno| Error::from_errno("rt_sigaction", errno.0))?;
        let set: SigSet = PASSED_ON.into_iter().collect();
        let fail = |call: &'static str| move |errno: nix::errno::Errno| Error::from_errno(call, errno as i32);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).map_err(fail("rt_sigprocmask"))?;
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map(Self).map_err(fail("signalfd4"))
    }

    /// The next one that has come.
    fn next(&self) -> Option<Signal> {
        let info = self.0.read_signal().ok().flatten()?;
        Signal::try_from(info.ssi_signo as i32).ok()
    }
}

/// What the container's first process does with signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pid1 {
    /// What the payload's author thought of.
    Payload,
    /// The reaper passes every one on.
    Reaper,
}

/// Waits for the end of the container.
///
/// # Errors
/// Those of poll(2) and waitid(2).
pub fn until_it_ends(
    child: &mut Child,
    pid1: Pid1,
    signals: &Signals,
    mut terminal: Option<TerminalGuard>,
) -> Result<ExitStatus> {
    // The signal that ended it in our name, where PID 1 would not have heard it.
    let mut ended_by = None;
    let mut insisted = 0;
    let mut status = None;
    loop {
        let mut fds = vec![PollFd::new(signals.0.as_fd(), PollFlags::POLLIN)];
        if status.is_none() {
            fds.push(PollFd::new(child.as_fd(), PollFlags::POLLIN));
        }
        let mut timeout = PollTimeout::NONE;
        // Where standard input, standard output and the container's end are among the descriptors.
        let mut places = [None; 3];
        if let Some(terminal) = &terminal {
            for (place, interest) in places.iter_mut().zip(terminal.interest()) {
                *place = interest.map(|(fd, flags)| {
                    fds.push(PollFd::new(fd, flags));
                    fds.len() - 1
                });
            }
            if terminal.is_hung_up() {
                timeout = HUNG_UP_LOOK.into();
            }
        }
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(Error::from_errno("poll", errno as i32)),
        }
        let ready = |index: usize| fds.get(index).and_then(PollFd::any).unwrap_or(false);
        let (signaled, ended) = (ready(0), status.is_none() && ready(1));
        let [stdin, stdout, _] = places.map(|place| place.is_some_and(ready));
        if let Some(terminal) = &mut terminal {
            terminal.carry(stdin, stdout);
        }
        if ended {
            status = Some(match (child.wait()?, ended_by) {
                (ExitStatus::Signaled { signal: libc::SIGKILL, .. }, Some(signal)) => {
                    ExitStatus::Exited(128 + signal as i32)
                }
                (status, _) => status,
            });
            if let Some(terminal) = &mut terminal {
                terminal.carry(false, false);
            }
        }
        while let Some(signal) = if signaled { signals.next() } else { None } {
            match (signal, &terminal, status) {
                (Signal::SIGWINCH, Some(terminal), _) => terminal.resize(),
                // It has ended, and nobody takes its last words.
                (signal, _, Some(status)) if ends(signal) => return Ok(status),
                (_, _, Some(_)) => {}
                (signal, _, None) => {
                    insisted += u32::from(ends(signal));
                    ended_by = pass_on(child, pid1, signal, insisted >= INSIST)?.or(ended_by);
                }
            }
        }
        match status {
            Some(status) if terminal.as_ref().is_none_or(TerminalGuard::is_drained) => return Ok(status),
            _ => {}
        }
    }
}

/// Whether a signal ends a process that has not thought of it.
fn ends(signal: Signal) -> bool {
    !matches!(signal, Signal::SIGCONT | Signal::SIGWINCH)
}

/// Sends `signal` to the container's first process. The kernel drops signals to a PID 1 that has not set a handler, so
/// that a plain `sleep` could not be ended by Ctrl-C: one that would have ended any other process ends this one too, by
/// SIGKILL, and is answered so that the status can say which it was.
///
/// Whoever insists, by the third such signal, has it ended whatever it listens to.
fn pass_on(child: &Child, pid1: Pid1, signal: Signal, insists: bool) -> Result<Option<Signal>> {
    // The reaper has them blocked, which its status does not show: rt_sigtimedwait unblocks what it waits for.
    // A zombie has an empty mask in its status: what it caught no longer matters.
    let dropped = ends(signal) && (insists || (pid1 == Pid1::Payload && !listens(child, signal)));
    let sent = child.signal(if dropped { libc::SIGKILL } else { signal as i32 });
    match sent {
        Err(error) if error.kind() == ErrorKind::Gone => Ok(None),
        sent => sent.map(|()| dropped.then_some(signal)),
    }
}

/// Whether the process catches, blocks or deliberately ignores the signal.
fn listens(child: &Child, signal: Signal) -> bool {
    let status = ProcFd::open(ProcView::Processes)
        .and_then(|proc| proc.process(child))
        .and_then(|process| process.read(Path::new("status")));
    match status {
        Ok(status) => heard(&String::from_utf8_lossy(&status)) & 1 << (signal as i32 - 1) != 0,
        Err(_) => true,
    }
}

/// The signals that `/proc/PID/status` says are blocked, ignored or caught.
fn heard(status: &str) -> u64 {
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| u64::from_str_radix(value.trim(), 16).ok()).unwrap_or(0)
    };
    mask("SigBlk:") | mask("SigIgn:") | mask("SigCgt:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_read() {
        let status = "Name:\tsh\nSigPnd:\t0000000000000001\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000000004\nSigCgt:\t0000000000000008\n";
        assert_eq!(heard(status), 2 | 4 | 8);
        assert_eq!(heard(""), 0);
    }
}
