//! A child that has been cloned and waits for its parent.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cellkit_core::{Errno, Error, Observer, Result, Subject};

use crate::Child;
use crate::dumpable::DumpableGuard;
use crate::namespaces::Kind;
use crate::ns_fd::NsFd;
use crate::plan::{Body, tell};
use crate::sys::{self, Start, Started};

/// A process that exists, in its new namespaces and its cgroup, and waits before its first own step.
///
/// Dropping it kills it and waits for its end: nothing is left behind.
#[must_use = "a paused child that is dropped is killed"]
pub struct PausedChild {
    // `finish` takes these out; they are there until then.
    waiting: Option<Waiting>,
    body: Arc<Body>,
    pid: i32,
}

struct Waiting {
    pidfd: OwnedFd,
    sync: OwnedFd,
    start: Start,
    /// Whether the child changes ids while it shares this process's memory.
    needs_guard: bool,
}

impl PausedChild {
    pub(crate) fn new(body: Arc<Body>, started: Started, sync: OwnedFd, needs_guard: bool) -> Self {
        let Started { pid, pidfd, start } = started;
        Self { waiting: Some(Waiting { pidfd, sync, start, needs_guard }), body, pid }
    }

    /// The number of the process in the caller's pid namespace: for messages, not for system calls.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// A handle on one of the child's namespaces, for its parent to work on: `child.namespace::<Net>()`.
    ///
    /// # Errors
    /// As [`NsFd::of_process`].
    pub fn namespace<K: Kind>(&self) -> Result<NsFd<K>> {
        NsFd::of_process(self)
    }

    /// Lets the child run its plan, and returns when it has executed its program. Tells `observer` of every step, if the
    /// plan is [timed](crate::Command::timed).
    ///
    /// Blocks until then.
    ///
    /// # Errors
    /// The error of the step that failed: the system call, its subject, the errno, the hint, and what the kernel said. The
    /// child has then ended and been reaped.
    pub fn resume(mut self, observer: &mut dyn Observer) -> Result<Child> {
        let Some(Waiting { pidfd, sync, start, needs_guard }) = self.waiting.take() else {
            return Err(Error::other("resume", "this child was resumed before"));
        };
        // Not before: a child that waits has changed nothing, and may wait for long.
        let guard = needs_guard.then(DumpableGuard::new);
        // A child that was killed while it waited is found by the end of file below.
        let _ = sys::send(sync.as_fd(), b"g");
        let mut terminal = None;
        let mut fault = None;
        let mut buffer = [0; sys::FAULT_SIZE];
        loop {
            match sys::receive(sync.as_fd(), &mut buffer) {
                Ok((0, _)) => break,
                Ok((_, Some(fd))) if buffer.first() == Some(&sys::MESSAGE_TERMINAL) => terminal = Some(fd),
                Ok((length, _)) => fault = buffer.get(..length).and_then(|message| self.fault(message)).or(fault),
                Err(errno) => {
                    // The child may still use this memory: end it before giving the memory back.
                    end(pidfd.as_fd());
                    return Err(Error::from_errno("recvmsg", errno.0).on(Subject::Pid(self.pid)));
                }
            }
        }
        if let Some(times) = start.times().filter(|_| observer.listens()) {
            let starts: Vec<u64> = times.get().iter().map(|time| time.load(Ordering::Relaxed)).collect();
            let made = starts.iter().take_while(|&&time| time != 0).count();
            tell(&self.body, starts.get(..made).unwrap_or(&[]), sys::now(), observer);
        }
        // End of file: the child has left this memory, by execve or by death.
        drop((start, guard));
        match fault {
            None => Ok(Child::new(pidfd, self.pid, terminal)),
            Some(error) => {
                let _ = sys::wait(pidfd.as_fd(), 0);
                Err(error)
            }
        }
    }

    fn fault(&self, message: &[u8]) -> Option<Error> {
        let (head, text) = message.split_at_checked(sys::FAULT_HEAD)?;
        let (&sys::MESSAGE_FAULT, numbers) = head.split_first()? else { return None };
        let (step, errno) = numbers.split_at_checked(4)?;
        let step = u32::from_ne_bytes(step.try_into().ok()?);
        let errno = Errno(i32::from_ne_bytes(errno.try_into().ok()?));
        // A number that the plan does not have was not sent by this crate's child.
        let step = self.body.step(step as usize)?;
        let error = Error::at_step(step.describe(), errno).with_kernel_text(String::from_utf8_lossy(text));
        Some(match step.hints() {
            Some(hints) => error.with_hints(hints),
            None => error,
        })
    }
}

/// Kills and reaps. Neither can fail for a child of our own but by somebody else having reaped it.
fn end(pidfd: BorrowedFd<'_>) {
    let _ = sys::pidfd_send_signal(pidfd, libc::SIGKILL);
    let _ = sys::wait(pidfd, 0);
}

impl Drop for PausedChild {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            end(waiting.pidfd.as_fd());
            // The memory of `start` is given back here, after the death.
        }
    }
}

impl AsFd for PausedChild {
    /// The pidfd.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.waiting {
            Some(waiting) => waiting.pidfd.as_fd(),
            // Only `resume`, which consumes self, and `drop` take it out.
            None => cellkit_core::sys::AT_FDCWD,
        }
    }
}

impl fmt::Debug for PausedChild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PausedChild").field("pid", &self.pid).finish_non_exhaustive()
    }
}
