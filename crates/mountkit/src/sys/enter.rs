//! The steps of a root, run in this very process.
#![allow(unsafe_code)]

use std::os::fd::AsRawFd;

use cellkit_core::{ChildFds, ChildSteps, Error, Result};

/// Runs `steps` here and closes what they opened. An error is that of the first step that failed.
pub(crate) fn run_here(steps: &ChildSteps) -> Result<()> {
    let mut table = vec![ChildFds::EMPTY; steps.slots()];
    let mut fds = ChildFds::new(&mut table);
    let outcome = steps.iter().try_for_each(|step| {
        step.run(&mut fds).map_err(|errno| {
            let mut text = [0; 512];
            let length = step.kernel_text(&fds, &mut text);
            let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned();
            Error::at_step(step.describe(), errno).with_hints(&crate::HINTS).with_kernel_text(text)
        })
    });
    // Some are the plan's own.
    let kept: Vec<_> = steps.iter().filter_map(|step| step.inherits().map(|fd| fd.as_raw_fd())).collect();
    table.into_iter().filter(|fd| *fd >= 0 && !kept.contains(fd)).for_each(super::shut);
    outcome
}

/// Runs `work` with a umask of 0, and puts back what it was.
pub(crate) fn without_umask<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: no pointers; it cannot fail.
    let before = unsafe { libc::umask(0) };
    let answer = work();
    // SAFETY: as above.
    unsafe { libc::umask(before) };
    answer
}

/// A pidfd of PID 1 of the caller's pid namespace.
pub(crate) fn pidfd_of_init() -> std::result::Result<std::os::fd::OwnedFd, cellkit_core::Errno> {
    cellkit_core::sys::pidfd_open(1)
}
