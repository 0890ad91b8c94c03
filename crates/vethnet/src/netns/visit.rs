//! Work inside another network namespace, on a thread made for it.
//!
//! setns(2) changes the calling thread, for all it does afterwards. So it is never called on a thread of the caller:
//! a thread is made, enters, does the work and ends. What it opened stays in the namespace it was opened in.
#![forbid(unsafe_code)]

use std::os::fd::{BorrowedFd, OwnedFd};
use std::thread;

use cellkit_core::{Error, Result};
use nix::sched::{CloneFlags, setns};

use crate::hint::HINTS;

pub(crate) fn enter(netns: &OwnedFd) -> Result<()> {
    setns(netns, CloneFlags::CLONE_NEWNET).map_err(|errno| Error::from_errno("setns", errno as i32).with_hints(&HINTS))
}

/// A thread whose work is the caller's own: of the stack size that the standard library gives.
pub(super) fn builder() -> thread::Builder {
    thread::Builder::new().name("vethnet".into())
}

/// A thread for the caller's own work.
pub(super) fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<thread::JoinHandle<T>> {
    builder().spawn(work).map_err(|error| Error::from_io("clone", &error).with_hints(&HINTS))
}

pub(crate) fn spawn_small<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<thread::JoinHandle<T>> {
    builder().stack_size(256 << 10).spawn(work).map_err(|error| Error::from_io("clone", &error).with_hints(&HINTS))
}

pub(crate) fn died() -> Error {
    Error::other("clone", "the thread that worked inside the network namespace died")
}

pub(crate) fn duplicate(netns: BorrowedFd<'_>) -> Result<OwnedFd> {
    netns.try_clone_to_owned().map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", &error))
}

/// Does `work` inside `netns` and waits for it, blocking.
pub(crate) fn inside_blocking<T: Send + 'static>(
    netns: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let netns = duplicate(netns)?;
    on_a_thread(move || enter(&netns).and_then(|()| work()))
}

/// Does `work` on a thread of its own, which may change its namespaces, and waits for it, blocking.
pub(super) fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    spawn_small(work)?.join().map_err(|_| died())?
}

/// Does `work` inside `netns`, as [`apart`] does.
pub(crate) async fn inside<T: Send + 'static>(
    netns: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let netns = duplicate(netns)?;
    apart(move || {
        let result = enter(&netns).and_then(|()| work());
        // Before the answer, so that whoever gets it finds nothing of ours holding the namespace but this thread.
        drop(netns);
        result
    })
    .await
}

/// Does blocking `work` on a thread of its own, in the network namespace of the calling thread.
///
/// When the future is dropped, it waits for the work to end, which blocks: or what is undone next could be done again
/// by a thread that nobody knows of any more.
pub(crate) async fn apart<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    let _joined = JoinGuard(Some(spawn_small(move || {
        // Nobody listens when the future was dropped.
        let _ = answer.send(work());
    })?));
    answered.await.map_err(|_| died())?
}

/// Waits for a thread when dropped.
#[derive(Debug)]
pub(crate) struct JoinGuard(pub(crate) Option<thread::JoinHandle<()>>);

impl Drop for JoinGuard {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // A panic in it is told of by the answer that never came.
            let _ = thread.join();
        }
    }
}
