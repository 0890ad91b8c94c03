//! The contract for code that runs in a cloned child.
//!
//! Between `clone3` and `execve` the child of a cellkit start may share its memory with its parent, and with every other
//! thread of its parent: `CLONE_VM` on a private stack, so that a start costs the same from a small program and from one
//! that holds gigabytes. What runs there is therefore data: a list of [`ChildStep`]s made, checked and printable before
//! the clone. A step makes one system call, or a few that only make sense together, on what was prepared for it.
// The declaration of the unsafe trait is the only unsafe word here; there is no unsafe operation.
#![allow(unsafe_code)]

use std::fmt;
use std::os::fd::{BorrowedFd, RawFd};

use crate::{Errno, HintTable, StepText};

/// A place for a file descriptor that one step opens and a later one uses.
///
/// It counts within one [`ChildSteps`]: lists made by different crates do not know each other's slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u32);

impl fmt::Display for Slot {
    /// As plans print it: `fd#3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fd#{}", self.0)
    }
}

/// The child's file descriptors, by [`Slot`]. It lives on the child's own stack.
#[derive(Debug)]
pub struct ChildFds<'a>(&'a mut [RawFd]);

impl<'a> ChildFds<'a> {
    /// What an empty slot holds: no file descriptor, so that using it is EBADF.
    pub const EMPTY: RawFd = -1;

    /// A view of `fds`, one entry a slot, each [`EMPTY`](Self::EMPTY).
    pub fn new(fds: &'a mut [RawFd]) -> Self {
        Self(fds)
    }

    /// The descriptor in `slot`.
    ///
    /// # Errors
    /// EBADF when no step has put one there.
    pub fn get(&self, slot: Slot) -> Result<RawFd, Errno> {
        match self.0.get(slot.0 as usize) {
            Some(&fd) if fd >= 0 => Ok(fd),
            _ => Err(Errno(libc::EBADF)),
        }
    }

    /// Puts `fd` into `slot`. What the slot held is forgotten, not closed.
    ///
    /// # Errors
    /// EBADF for a slot of another list.
    pub fn set(&mut self, slot: Slot, fd: RawFd) -> Result<(), Errno> {
        match self.0.get_mut(slot.0 as usize) {
            Some(place) => {
                *place = fd;
                Ok(())
            }
            None => Err(Errno(libc::EBADF)),
        }
    }
}

/// A step that runs in a cloned child, before `execve`.
///
/// It is implemented by `ns-core` and `mountkit`; users compose what those offer and write no `unsafe`.
///
/// # Safety
/// [`run`](ChildStep::run) is called in a process that may share its memory with the caller's running threads, any of
/// which may hold any lock. An implementation promises that `run`:
///
/// * makes raw system calls only (`cellkit_core::sys`), never through the C library, whose `errno` it would overwrite in
///   a thread of the parent;
/// * does not allocate, free, lock, log, panic, unwind or drop anything that owns a resource;
/// * reads only `self` and what `self` owns, writes only its stack, `fds`, and nothing else;
/// * returns in bounded time, but for the calls whose purpose is to wait.
pub unsafe trait ChildStep: Send + Sync + fmt::Debug {
    /// The step in words. Called in the parent.
    fn describe(&self) -> StepText;

    /// A descriptor of the parent that the step uses, which the child therefore keeps. Called in the parent.
    fn inherits(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// The hints of the crate that the step is of, for the error it may become. Called in the parent.
    fn hints(&self) -> Option<&'static HintTable> {
        None
    }

    /// Does it. Called in the child.
    ///
    /// # Errors
    /// The errno of the system call that failed: the child reports it and ends.
    fn run(&self, fds: &mut ChildFds<'_>) -> Result<(), Errno>;

    /// After [`run`](ChildStep::run) failed: copies what the kernel itself had to say into `buffer` and returns its
    /// length. Called in the child, under the same rules.
    fn kernel_text(&self, fds: &ChildFds<'_>, buffer: &mut [u8]) -> usize {
        let _ = (fds, buffer);
        0
    }
}

/// A list of [`ChildStep`]s with the slots they share: what `mountkit` hands to `ns-core`.
#[derive(Debug, Default)]
pub struct ChildSteps {
    steps: Vec<Box<dyn ChildStep>>,
    slots: u32,
}

impl ChildSteps {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A new slot, for the steps of this list.
    pub fn slot(&mut self) -> Slot {
        let slot = Slot(self.slots);
        self.slots += 1;
        slot
    }

    /// Adds a step at the end.
    pub fn push(&mut self, step: impl ChildStep + 'static) {
        self.push_boxed(Box::new(step));
    }

    /// As [`push`](Self::push), of a step in a box: lists are put together of steps of several types.
    pub fn push_boxed(&mut self, step: Box<dyn ChildStep>) {
        self.steps.push(step);
    }

    /// How many slots the steps use.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots as usize
    }

    /// The steps in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &dyn ChildStep> {
        self.steps.iter().map(|step| &**step)
    }

    /// How many steps there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is no step.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The steps in words, in order.
    #[must_use]
    pub fn describe(&self) -> Vec<StepText> {
        self.iter().map(ChildStep::describe).collect()
    }
}

impl fmt::Display for ChildSteps {
    /// A numbered list, a line each: `  1  chdir("/")  # the working directory is inside`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in (1..).zip(self.iter()) {
            let text = step.describe();
            let end = if number < self.len() { "\n" } else { "" };
            write!(f, "{number:3}  {text}  # {}{end}", text.reason)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_of_another_list_is_ebadf_not_a_panic() {
        let mut list = ChildSteps::new();
        let (first, second) = (list.slot(), list.slot());
        let mut table = [ChildFds::EMPTY; 1];
        let mut fds = ChildFds::new(&mut table);
        assert_eq!(fds.get(first), Err(Errno(libc::EBADF)));
        assert_eq!(fds.set(first, 7), Ok(()));
        assert_eq!(fds.get(first), Ok(7));
        assert_eq!(fds.set(second, 8), Err(Errno(libc::EBADF)));
        assert_eq!(fds.get(second), Err(Errno(libc::EBADF)));
    }
}
