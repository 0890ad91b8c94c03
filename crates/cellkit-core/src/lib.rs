//! What the cellkit crates share, and nothing else.
//!
//! * [`Error`]: one word wide, one line long, and it says what went wrong: the kernel's operation, its subject,
//!   the errno and what to do about it. Every cellkit crate re-exports it as its own `Error`.
//! * [`HintTable`]: how a crate turns an (operation, errno) pair into the sentence a user would have wanted.
//! * [`StepText`] and [`Observer`]: one system call of a plan in words, and who is told when it was made.
//! * [`ChildStep`]: the contract for code that runs between `clone3` and `execve`, where nothing may allocate.
//! * [`ProcFd`]: a private procfs that nobody can mount over.
//!
//! You rarely depend on this crate directly: `ns-core`, `cgroupfs`, `mountkit`, `vethnet` and `idmap` re-export what
//! their own interfaces need.
#![deny(unsafe_code)]

mod child;
mod errno;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod hint;
mod kind;
#[doc(hidden)]
pub mod mountinfo;
mod proc;
mod step;
mod subject;
#[doc(hidden)]
pub mod sys;

pub use child::{ChildFds, ChildStep, ChildSteps, Slot};
pub use errno::Errno;
pub use error::{Error, Result};
pub use hint::{HintRow, HintTable};
pub use kind::ErrorKind;
pub use proc::{ProcFd, ProcView, ProcessDir};
pub use step::{Observer, StepText};
pub use subject::Subject;
