//! Runs the steps that make the payload's table of descriptors.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use cellkit_core::{ChildFds, ChildStep, Errno, HintTable, StepText};

use super::{Done, numbers};
use crate::step::{DescriptorStep, MOST_LIFTED, Source};

// SAFETY: every arm makes raw system calls on data that `self` owns, and does nothing else.
unsafe impl ChildStep for DescriptorStep {
    fn describe(&self) -> StepText {
        self.text()
    }

    fn inherits(&self) -> Option<BorrowedFd<'_>> {
        self.inherited()
    }

    fn hints(&self) -> Option<&'static HintTable> {
        Some(&crate::hint::HINTS)
    }

    fn run(&self, fds: &mut ChildFds<'_>) -> Done {
        match self {
            Self::Lift { source, above, out } => {
                let fd = match source {
                    Source::Owned(fd) => fd.as_raw_fd(),
                    Source::Slot(slot) => fds.get(*slot)?,
                };
                fds.set(*out, lift(fd, *above)?)
            }
            Self::Place { from, target } => {
                let args = [fds.get(*from)? as usize, *target as usize, 0, 0, 0];
                numbers(libc::SYS_dup3, args).map(drop)
            }
            Self::Grant { fd, uid } => {
                let args = [fds.get(*fd)? as usize, *uid as usize, u32::MAX as usize, 0, 0];
                match numbers(libc::SYS_fchown, args) {
                    // Not ours to give: the payload has it open all the same. Its id is not mapped: setresuid will say so.
                    Err(Errno(libc::EPERM | libc::EINVAL)) => Ok(()),
                    answer => answer.map(drop),
                }
            }
            Self::LiftSync { sync, above } => {
                let lifted = lift(fds.get(*sync)?, *above)?;
                fds.set(*sync, lifted)
            }
            Self::CloseOthers { sync, keep, lifted } => {
                let mut more = [ChildFds::EMPTY; MOST_LIFTED + 1];
                for (place, slot) in more.iter_mut().zip([sync].into_iter().chain(lifted)) {
                    *place = fds.get(*slot)?;
                }
                close_all_but(0, keep, &more)
            }
        }
    }
}

fn lift(fd: RawFd, above: RawFd) -> Result<RawFd, Errno> {
    let args = [fd as usize, libc::F_DUPFD_CLOEXEC as usize, above as usize, 0, 0];
    numbers(libc::SYS_fcntl, args).map(|fd| fd as RawFd)
}

fn close_range(first: RawFd, last: RawFd) -> Done {
    if first > last {
        return Ok(());
    }
    numbers(libc::SYS_close_range, [first as usize, last as u32 as usize, 0, 0, 0]).map(drop)
}

/// Closes every descriptor from `first` on, but for those in `keep` (ascending) and in `more` (few, in any order).
pub(super) fn close_all_but(first: RawFd, keep: &[RawFd], more: &[RawFd]) -> Done {
    let mut keep = keep.iter().copied().peekable();
    let mut next = first;
    loop {
        while keep.next_if(|fd| *fd < next).is_some() {}
        let others = more.iter().copied().filter(|fd| *fd >= next);
        let Some(kept) = others.chain(keep.peek().copied()).min() else {
            return close_range(next, RawFd::MAX);
        };
        close_range(next, kept.saturating_sub(1))?;
        next = kept.saturating_add(1);
    }
}

/// What the reaper in `reaper.rs` needs too.
pub(in crate::sys) fn close_everything() -> Done {
    close_range(0, RawFd::MAX)
}
