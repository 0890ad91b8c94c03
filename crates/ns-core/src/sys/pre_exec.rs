//! A closure of the caller's that runs in the child: the way out for what this crate has no step for.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::mem;
use std::sync::Arc;

use cellkit_core::{ChildFds, ChildStep, Errno, StepText};

use crate::Command;

/// What [`Command::pre_exec`] was given.
#[derive(Clone)]
pub(crate) struct PreExec(Arc<dyn Fn() -> io::Result<()> + Send + Sync>);

impl fmt::Debug for PreExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PreExec(..)")
    }
}

// SAFETY: who made it has promised that the closure does what a child may. The plan gives the child a copy of the memory
// (see `Command::into_plan`), so that what the closure writes, the C library's errno too, is the child's own. The error is
// forgotten and not dropped: it may own memory.
unsafe impl ChildStep for PreExec {
    fn describe(&self) -> StepText {
        StepText::new("pre_exec", "", "a closure of the caller's")
    }

    fn run(&self, _: &mut ChildFds<'_>) -> Result<(), Errno> {
        (self.0)().map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(libc::EINVAL);
            mem::forget(error);
            Errno(errno)
        })
    }
}

/// # What there is no setter for
impl Command {
    /// Runs a closure in the child, as its last act before execve: with the payload's ids, capabilities, descriptors and
    /// working directory, and with all signals blocked. Several run in the order in which they were added. Its errno is
    /// reported as that of any other step; an error without one as EINVAL.
    ///
    /// It is the way out for what this crate has no setter for. The plan can only say that it is there, and the child gets
    /// a copy of the caller's memory instead of sharing it, with a start that costs accordingly: see
    /// [`Plan::shares_memory`](crate::Plan::shares_memory).
    ///
    /// ```no_run
    /// use ns_core::Command;
    ///
    /// let command = Command::new("/usr/sbin/service");
    /// // SAFETY: one system call, on no memory.
    /// let command = unsafe {
    ///     command.pre_exec(|| match libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) {
    ///         -1 => Err(std::io::Error::last_os_error()),
    ///         _ => Ok(()),
    ///     })
    /// };
    /// command.status()?;
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Safety
    /// As for [`std::os::unix::process::CommandExt::pre_exec`]: the closure runs in a copy of one thread of a program that
    /// may have many. Any lock may be held by a thread that is not there, also that of the allocator. It must only do what
    /// signal-safety(7) allows: no allocation, no lock, no log line, no panic.
    #[doc(alias("fork", "before_exec"))]
    pub unsafe fn pre_exec(mut self, closure: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> Self {
        self.pre_exec.push(PreExec(Arc::new(closure)));
        self
    }
}
