//! A child that does not outlive the process that started it.
//!
//! The kernel's parent-death signal (PR_SET_PDEATHSIG) is sent when the *thread* that made the child ends. Threads of a
//! pool end while their process lives on, and would take the child along. So the child is made by a thread of its own,
//! which lives as long as the child does: it ends before the child only if the whole process ends, by exit, by a signal,
//! or by execve, which ends every thread but one.
//!
//! The thread is started by the thread that asks for the child, from which it has its namespaces and credentials, and
//! so has the child. It waits with every signal blocked, and does nothing else.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};

use cellkit_core::{Error, Result};

use crate::sys;

/// The small part of a stack that a clone and a wait need, in a debug build too.
const STACK_SIZE: usize = 128 << 10;

/// The thread that a child's life hangs on. When this is dropped before [`over`](Self::over), the thread ends.
#[derive(Debug)]
pub(crate) struct Watch(Sender<OwnedFd>);

impl Watch {
    /// Lets the thread live as long as this process.
    pub(crate) fn over(self, pidfd: OwnedFd) {
        // It waits for this: only a process that is ending has lost it.
        let _ = self.0.send(pidfd);
    }
}

/// Runs `start` on a new thread that then stays for the [`Watch`].
pub(crate) fn on_a_thread<T: Send + 'static>(start: impl FnOnce() -> T + Send + 'static) -> Result<(T, Watch)> {
    let (answer, started) = channel();
    let (watch, children): (Sender<OwnedFd>, Receiver<OwnedFd>) = channel();
    let body = move || {
        let started = start();
        // Not before: a reaper keeps the name that its maker has.
        sys::name_this_thread(c"ns-core watch");
        let _ = answer.send(started);
        if let Ok(pidfd) = children.recv() {
            sys::await_end(pidfd.as_fd());
        }
    };
    // The new thread inherits the mask: no handler of this program's ever runs on its small stack.
    let signals = sys::BlockedSignals::new().map_err(|errno| Error::from_errno("rt_sigprocmask", errno.0))?;
    let thread = std::thread::Builder::new().stack_size(STACK_SIZE).spawn(body);
    drop(signals);
    thread.map_err(|error| {
        let refused = Error::from_io("pthread_create", &error);
        match refused.raw_os_error() {
            Some(libc::EINVAL) => refused.with_hint(
                "kill_with_parent needs a thread, and the children of this one are to be in other namespaces: it starts none",
            ),
            _ => refused.with_hint("a limit on threads is reached: see ulimit -u, pids.max"),
        }
    })?;
    match started.recv() {
        Ok(answer) => Ok((answer, Watch(watch))),
        Err(_) => Err(Error::other("clone3", "the thread that was to make the child ended")),
    }
}
