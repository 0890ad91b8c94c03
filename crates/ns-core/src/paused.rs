//! A child that has been cloned and waits for its parent.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cellkit_core::{Errno, Error, Observer, Result, StepText, Subject};

use crate::dumpable::DumpableGuard;
use crate::hint::HINTS;
use crate::namespaces::Kind;
use crate::ns_fd::NsFd;
use crate::plan::{Body, tell};
use crate::stdio::Ours;
use crate::sys::{self, Received, Start, Started};
use crate::watch::Watch;
use crate::{Backend, Child, ExitStatus, ProcessId};

/// How often it is looked whether a child among others stands still, and how often that is borne.
const LOOK_FOR_STOPS: Duration = Duration::from_millis(100);
const STOPS_BORNE: u32 = 20;

/// A process that exists, in its new namespaces and its cgroup, and waits before its first own step.
///
/// Dropping it kills it and waits for its end: nothing is left behind.
///
/// ```
/// use std::fs;
///
/// use ns_core::Command;
///
/// let paused = Command::new("sleep").arg("100").spawn_paused()?;
/// let pid = paused.pid();
/// // It exists, and is this program still.
/// assert!(fs::exists(format!("/proc/{pid}/exe")).unwrap());
/// drop(paused);
/// assert!(!fs::exists(format!("/proc/{pid}")).unwrap());
///
/// let mut child = Command::new("true").spawn_paused()?.resume(&mut ())?;
/// assert!(child.wait()?.success());
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See clone(2): <https://man7.org/linux/man-pages/man2/clone.2.html>.
#[doc(alias = "clone3")]
#[must_use = "a paused child that is dropped is killed"]
pub struct PausedChild {
    // `finish` takes these out; they are there until then.
    waiting: Option<Waiting>,
    body: Arc<Body>,
    pid: i32,
    backend: Backend,
    clone_step: StepText,
}

struct Waiting {
    pidfd: OwnedFd,
    sync: OwnedFd,
    ends: Ours,
    start: Start,
    /// Whether the child changes ids while it shares this process's memory.
    needs_guard: bool,
    /// The thread that the child's life hangs on, if it is not to outlive this process.
    watch: Option<Watch>,
}

impl PausedChild {
    pub(crate) fn new(
        body: Arc<Body>,
        clone_step: StepText,
        started: Started,
        sync: OwnedFd,
        ends: Ours,
        needs_guard: bool,
        watch: Option<Watch>,
    ) -> Self {
        let Started { pid, pidfd, start, backend } = started;
        Self { waiting: Some(Waiting { pidfd, sync, ends, start, needs_guard, watch }), body, pid, backend, clone_step }
    }

    /// Waits until a child that clone3 could not put into its group has moved itself.
    pub(crate) fn await_group(&self) -> Result<()> {
        let (Backend::Clone, Some(waiting)) = (self.backend, &self.waiting) else { return Ok(()) };
        let mut buffer = [0; sys::FAULT_SIZE];
        match sys::receive(waiting.sync.as_fd(), &mut buffer) {
            Ok(Received { length: 0, .. }) => Err(Error::gone("write cgroup.procs", None).on(Subject::Pid(self.pid))),
            Ok(Received { length, .. }) => {
                let message = buffer.get(..length).unwrap_or(&[]);
                match self.fault(message) {
                    Some(error) => Err(error),
                    None if message == [sys::MESSAGE_IN_GROUP] => Ok(()),
                    None => Err(Error::other("recvmsg", "the child sent what was not expected")),
                }
            }
            Err(errno) => Err(Error::from_errno("recvmsg", errno.0).on(Subject::Pid(self.pid))),
        }
    }

    /// Which system call made it.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The call that made it, in words, as it was really made: for an observer, beside those that
    /// [`resume`](Self::resume) tells of.
    #[must_use]
    pub fn clone_step(&self) -> &StepText {
        &self.clone_step
    }

    /// The number of the process in the caller's pid namespace: for messages, not for system calls.
    ///
    /// A child that joins a pid namespace gets another number when it is resumed: see [`Child::pid`].
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// What tells the process from every other, to be written down before it is let go: see [`ProcessId`].
    ///
    /// # Errors
    /// As [`ProcessId::of`].
    pub fn id(&self) -> Result<ProcessId> {
        ProcessId::of(self)
    }

    /// A handle on one of the child's namespaces, for its parent to work on: `child.namespace::<Net>()`.
    ///
    /// ```
    /// use ns_core::{Command, Namespaces, Net, NsFd};
    /// # if !ns_core::probe()?.can_make.contains(Namespaces::NET) { return Ok(()) }
    ///
    /// let paused = Command::new("cat").arg("/proc/net/dev").namespaces(Namespaces::NET).spawn_paused()?;
    /// let net: NsFd<Net> = paused.namespace()?;
    /// // … move an interface there, and then
    /// assert_ne!(net, NsFd::of_this_thread()?);
    /// paused.resume(&mut ())?.wait()?;
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`NsFd::of_process`].
    pub fn namespace<K: Kind>(&self) -> Result<NsFd<K>> {
        NsFd::of_process(self)
    }

    /// Lets the child run its plan, and returns when it has executed its program. Tells `observer` of every step, if the
    /// plan is [timed](crate::Command::timed).
    ///
    /// Blocks until then. A child that joins namespaces may be stopped by whoever has power over them: it is woken, and after
    /// twenty times ended. A process that another thread forks during the start, and that executes no program, holds the
    /// child's socket too: this returns when that one has ended.
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// let paused = Command::new("/no/such/program").spawn_paused()?;
    /// let error = paused.resume(&mut ()).unwrap_err();
    /// println!("{error}"); // what was called, on what, and what the kernel said
    /// assert_eq!((error.operation(), error.raw_os_error()), ("execve", Some(libc::ENOENT)));
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// The error of the step that failed: the system call, its subject, the errno, the hint, and what the kernel said.
    /// [`Limit`](crate::ErrorKind::Limit) when there is no number left for a descriptor that the child sends. A child that somebody kills on the way is an error of kind [`Other`](crate::ErrorKind::Other) at the step it was in; one
    /// that is killed in its execve has started, and its status says so. The child has then ended and been reaped.
    ///
    /// See clone(2), execve(2): <https://man7.org/linux/man-pages/man2/execve.2.html>.
    pub fn resume(mut self, observer: &mut dyn Observer) -> Result<Child> {
        let Some(Waiting { mut pidfd, sync, mut ends, start, needs_guard, watch }) = self.waiting.take() else {
            return Err(Error::other("resume", "this child was resumed before"));
        };
        let for_watch = |pidfd: &OwnedFd| match &watch {
            Some(_) => pidfd.try_clone().map(Some).map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", &error)),
            None => Ok(None),
        };
        let mut watched = match for_watch(&pidfd) {
            Ok(watched) => watched,
            Err(error) => {
                end(pidfd.as_fd(), sync, start);
                return Err(error);
            }
        };
        // Not before: a child that waits has changed nothing, and may wait for long.
        let guard = match needs_guard.then(DumpableGuard::new).transpose() {
            Ok(guard) => guard,
            Err(errno) => {
                end(pidfd.as_fd(), sync, start);
                return Err(Error::from_errno("prctl PR_GET_DUMPABLE", errno.0));
            }
        };
        let ready = match self.body.succeeds {
            true => sys::ask_for_senders(sync.as_fd()).map_err(|errno| Error::from_errno("setsockopt", errno.0)),
            false => Ok(()),
        };
        if let Err(error) = ready.and_then(|()| self.go(sync.as_fd())) {
            end(pidfd.as_fd(), sync, start);
            return Err(error);
        }
        let mut listener = None;
        let mut fault = None;
        let mut stops = 0;
        let mut succeeded = !self.body.succeeds;
        let mut buffer = [0; sys::FAULT_SIZE];
        loop {
            if self.body.joins {
                if let Err(error) = self.await_message(sync.as_fd(), pidfd.as_fd(), &mut stops) {
                    end_both(pidfd.as_fd(), sync, start, succeeded);
                    return Err(error);
                }
            }
            match sys::receive(sync.as_fd(), &mut buffer) {
                Ok(Received { length: 0, .. }) => break,
                Ok(Received { length, fd, sender }) => match (buffer.first(), fd) {
                    (Some(&sys::MESSAGE_TERMINAL), Some(fd)) => ends.terminal = Some(fd),
                    (Some(&sys::MESSAGE_LISTENER), Some(fd)) => listener = Some(fd),
                    // It was sent one, and this process had no number left for it.
                    (Some(&(sys::MESSAGE_TERMINAL | sys::MESSAGE_LISTENER)), None) => {
                        end(pidfd.as_fd(), sync, start);
                        let error = Error::from_errno("recvmsg", libc::EMFILE).on(Subject::Pid(self.pid));
                        return Err(error.with_hints(&HINTS));
                    }
                    (Some(&sys::MESSAGE_SUCCESSOR), fd) => {
                        let Some(number) = successor(&buffer, length, sender).filter(|_| !succeeded) else { continue };
                        succeeded = true;
                        // The first has done its part and ends.
                        let _ = sys::wait(pidfd.as_fd(), 0);
                        // There is no descriptor when this process has reached its limit. The number is our child's until
                        // we reap it, in any case.
                        let next = fd.map_or_else(|| cellkit_core::sys::pidfd_open(number), Ok);
                        let next =
                            next.map_err(|errno| Error::from_errno("pidfd_open", errno.0).on(Subject::Pid(number)));
                        match next.and_then(|next| Ok((for_watch(&next)?, next))) {
                            Ok((watch, next)) => (watched, pidfd, self.pid) = (watch, next, number),
                            Err(error) => {
                                end_number(number, sync);
                                return Err(error.with_hints(&HINTS));
                            }
                        }
                        if let Err(error) = self.go(sync.as_fd()) {
                            end(pidfd.as_fd(), sync, start);
                            return Err(error);
                        }
                    }
                    _ => fault = buffer.get(..length).and_then(|message| self.fault(message)).or(fault),
                },
                // It ended before it read the "go": what it said is behind this error, which comes once.
                Err(Errno(libc::ECONNRESET)) => {}
                Err(errno) => {
                    end_both(pidfd.as_fd(), sync, start, succeeded);
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
        let (reached, failed) = start.reached();
        drop((start, guard));
        let fault = fault.or_else(|| failed.and_then(|errno| self.failed(reached, errno)));
        match fault.or_else(|| self.ended_early(pidfd.as_fd(), reached)) {
            None => {
                if let (Some(watch), Some(watched)) = (watch, watched) {
                    watch.over(watched);
                }
                Ok(Child::new(pidfd, self.pid, ends).with_listener(listener))
            }
            Some(error) => {
                let _ = sys::wait(pidfd.as_fd(), 0);
                Err(error)
            }
        }
    }

    /// Waits for a message of a child that is among others, who may stop it as soon as they see it: it is woken, and ended
    /// when that does not help, or this process would wait as long as they like.
    fn await_message(&self, sync: BorrowedFd<'_>, pidfd: BorrowedFd<'_>, stops: &mut u32) -> Result<()> {
        loop {
            match sys::poll([Some((sync, libc::POLLIN))], Some(LOOK_FOR_STOPS)) {
                Ok([false]) => {}
                Ok([true]) => return Ok(()),
                Err(errno) => return Err(Error::from_errno("ppoll", errno.0).on(Subject::Pid(self.pid))),
            }
            if !sys::was_stopped(pidfd) {
                continue;
            }
            *stops += 1;
            if *stops > STOPS_BORNE {
                return Err(Error::other("execve", format!("the child was stopped {stops} times before it got there"))
                    .on(Subject::Pid(self.pid))
                    .with_hint("somebody in the namespaces that it joins sends it SIGSTOP, as root there may"));
            }
            let _ = sys::pidfd_send_signal(pidfd, libc::SIGCONT);
        }
    }

    /// The error of a child that ended in step `reached` without a word: somebody killed it, the out-of-memory killer for
    /// one. End of file alone looks the same as an execve, which is the last step: who is killed in that is a child whose
    /// status says so.
    fn ended_early(&self, pidfd: BorrowedFd<'_>, reached: usize) -> Option<Error> {
        if reached + 1 >= self.body.count() {
            return None;
        }
        let step = self.body.step(reached)?.describe();
        let ended = sys::wait(pidfd, 0).ok().flatten().map(|ended| ExitStatus::of(&ended));
        let why = match ended {
            Some(status) => format!("the child ended at this step: {status}"),
            None => "the child ended at this step".to_owned(),
        };
        let error = match ended.map(ExitStatus::shell_code) {
            Some(137) => Error::other(step.call, why).with_hint(
                "somebody killed it: the kernel's log and memory.events of its cgroup tell of the out-of-memory killer",
            ),
            _ => Error::other(step.call, why),
        };
        Some(match step.subject {
            Some(subject) => error.on(subject),
            None => error,
        })
    }

    /// The error of step `number`, which could not send what it was: it had a filter before it.
    fn failed(&self, number: usize, errno: Errno) -> Option<Error> {
        let step = self.body.step(number)?;
        let error = Error::at_step(step.describe(), errno);
        Some(match step.hints() {
            Some(hints) => error.with_hints(hints),
            None => error,
        })
    }

    /// Tells the child to go on. One that never heard of it would wait for ever; one that has ended meanwhile is found by
    /// the end of file.
    fn go(&self, sync: BorrowedFd<'_>) -> Result<()> {
        match sys::send(sync, b"g") {
            Ok(()) | Err(Errno(libc::EPIPE | libc::ECONNRESET)) => Ok(()),
            Err(errno) => Err(Error::from_errno("sendto", errno.0).on(Subject::Pid(self.pid))),
        }
    }

    fn fault(&self, message: &[u8]) -> Option<Error> {
        let (head, text) = message.split_at_checked(sys::FAULT_HEAD)?;
        let (&sys::MESSAGE_FAULT, numbers) = head.split_first()? else { return None };
        let (step, errno) = numbers.split_at_checked(4)?;
        let step = u32::from_ne_bytes(step.try_into().ok()?);
        let errno = Errno(i32::from_ne_bytes(errno.try_into().ok()?));
        let text = String::from_utf8_lossy(text);
        let before_the_plan = match step {
            sys::FAULT_IN_GROUP_MOVE => Some("write cgroup.procs"),
            sys::FAULT_IN_GROUP_NAMESPACE => Some("unshare"),
            _ => None,
        };
        if let Some(call) = before_the_plan {
            let subject = Subject::Thing("the child's cgroup".into());
            return Some(Error::from_errno(call, errno.0).on(subject).with_hints(&HINTS));
        }
        // A number that the plan does not have was not sent by this crate's child.
        let step = self.body.step(step as usize)?;
        let error = Error::at_step(step.describe(), errno);
        let error = match error.operation() {
            // One step joins several, and says which it was that could not be joined.
            "setns" if !text.is_empty() => error.on(Subject::Namespace(text.into_owned())),
            _ => error.with_kernel_text(text),
        };
        Some(match step.hints() {
            Some(hints) => error.with_hints(hints),
            None => error,
        })
    }
}

/// The number in a message about a successor: as its maker says it, or of the successor that sent it.
fn successor(buffer: &[u8], length: usize, sender: Option<i32>) -> Option<i32> {
    let said = buffer.get(1..length).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    said.or(sender).filter(|&number| number > 0)
}

/// Ends a child and, if it has one that is not known yet, its successor: what that one says is still to come. Both have
/// memory of their own then.
fn end_both(pidfd: BorrowedFd<'_>, sync: OwnedFd, start: Start, succeeded: bool) {
    if succeeded {
        return end(pidfd, sync, start);
    }
    let _ = sys::pidfd_send_signal(pidfd, libc::SIGKILL);
    let _ = sys::wait(pidfd, 0);
    end_successor(sync);
}

/// The first child has been ended. If it has made a successor by then, that one says so.
fn end_successor(sync: OwnedFd) {
    let mut buffer = [0; sys::FAULT_SIZE];
    while let Ok(Received { length: length @ 1.., sender, fd: _ }) = sys::receive(sync.as_fd(), &mut buffer) {
        let successor = successor(&buffer, length, sender).filter(|_| buffer.first() == Some(&sys::MESSAGE_SUCCESSOR));
        if let Some(number) = successor {
            end_number(number, sync);
            return;
        }
    }
}

/// Ends a child of which only the number is known. It waits for the word that it may go on, and ends at the end of file,
/// unless somebody has stopped it.
fn end_number(number: i32, sync: OwnedFd) {
    drop(sync);
    // The number of the socket has become free: there is one more than when this was tried.
    if let Ok(pidfd) = cellkit_core::sys::pidfd_open(number) {
        let _ = sys::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
    }
    sys::reap(number);
}

/// Kills and reaps, and gives back the memory that the child may be using until it has ended.
///
/// A caller that has given up its privileges may not be allowed to kill what it started with them: the end of file on its
/// socket ends a child that still waits, too. A child of our parent is not ours to reap.
fn end(pidfd: BorrowedFd<'_>, sync: OwnedFd, start: Start) {
    let _ = sys::pidfd_send_signal(pidfd, libc::SIGKILL);
    drop(sync);
    let ended = sys::await_end(pidfd);
    let ended = match sys::wait(pidfd, 0) {
        Ok(_) => true,
        Err(Errno(libc::ECHILD)) => ended,
        Err(_) => false,
    };
    if !ended {
        // Not even that could be asked: better to lose the memory than to take it away from a child that lives.
        std::mem::forget(start);
    }
}

impl Drop for PausedChild {
    fn drop(&mut self) {
        if let Some(Waiting { pidfd, sync, start, .. }) = self.waiting.take() {
            end(pidfd.as_fd(), sync, start);
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
