//! Waiting without blocking a thread, with feature `tokio`.
//!
//! A pidfd is readable when its process has ended, so that tokio's reactor wakes whoever waits: no thread, no SIGCHLD
//! handler, and no list of children that some library would have to own.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cellkit_core::{Error, Result, Subject};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use crate::{Child, ExitStatus, Process};

impl Child {
    /// As [`wait`](Self::wait), without blocking the thread. With feature `tokio`.
    ///
    /// It can be given up at any point and called again, or another kind of wait: nothing is lost. The child's pipes become
    /// tokio's by `tokio::process::ChildStdout::from_std(child.take_stdout()…)` and its like.
    ///
    /// * C calls: epoll_ctl(2) on a duplicate of the pidfd, waitid(2).
    ///
    /// ```
    /// use ns_core::Command;
    ///
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    /// # runtime.block_on(async {
    /// let mut child = Command::new("true").spawn()?;
    /// assert!(child.wait_async().await?.success());
    /// # Ok::<(), ns_core::Error>(())
    /// # })?;
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`wait`](Self::wait); [`Limit`](crate::ErrorKind::Limit) when there are too many descriptors; Invalid outside of
    /// a tokio runtime.
    ///
    /// # Panics
    /// In a runtime that was built without `enable_io`.
    ///
    /// See epoll(7): <https://man7.org/linux/man-pages/man7/epoll.7.html>.
    pub async fn wait_async(&mut self) -> Result<ExitStatus> {
        drop(self.ends.stdin.take());
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        let (pid, pidfd) = (self.pid(), watched(self.as_fd(), self.pid())?);
        loop {
            let mut ready = pidfd.readable().await.map_err(|error| failed(&error, pid))?;
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            // A debugger sees its end first, and then there is another event.
            ready.clear_ready();
        }
    }
}

impl Process {
    /// As [`wait_end`](Self::wait_end), for as long as it takes and without blocking the thread. With feature `tokio`. It
    /// can be given up at any point, and called by several at once.
    ///
    /// * C call: epoll_ctl(2) on a duplicate of the pidfd.
    ///
    /// ```
    /// use ns_core::{Command, Process};
    ///
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    /// # runtime.block_on(async {
    /// let mut child = Command::new("true").spawn()?;
    /// let process = Process::open(child.pid())?;
    /// process.wait_end_async().await?;
    /// assert!(process.has_ended()?);
    /// child.wait()?;
    /// # Ok::<(), ns_core::Error>(())
    /// # })?;
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Child::wait_async`].
    ///
    /// # Panics
    /// In a runtime that was built without `enable_io`.
    ///
    /// See epoll(7): <https://man7.org/linux/man-pages/man7/epoll.7.html>.
    pub async fn wait_end_async(&self) -> Result<()> {
        let pidfd = watched(self.as_fd(), self.pid())?;
        pidfd.readable().await.map(drop).map_err(|error| failed(&error, self.pid()))
    }
}

/// A duplicate of the pidfd in tokio's reactor, which takes each descriptor only once.
fn watched(pidfd: BorrowedFd<'_>, pid: i32) -> Result<AsyncFd<OwnedFd>> {
    if Handle::try_current().is_err() {
        return Err(Error::invalid("epoll_ctl", "this wait needs a tokio runtime")
            .on(Subject::Pid(pid))
            .with_hint("call it inside Runtime::block_on of a runtime built with enable_io"));
    }
    let pidfd = pidfd.try_clone_to_owned().map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", &error))?;
    // An owned descriptor stays the same until it is dropped, which is what the newer, unsafe constructor asks for.
    #[allow(deprecated, reason = "works with older tokio as well, and is sound here")]
    AsyncFd::with_interest(pidfd, Interest::READABLE).map_err(|error| failed(&error, pid))
}

fn failed(error: &std::io::Error, pid: i32) -> Error {
    Error::from_io("epoll_ctl", error).on(Subject::Pid(pid))
}
