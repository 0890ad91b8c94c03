//! The priority class that a group's requests get: `io.prio.class`.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::{Error, Result};

/// What is done to the priority class of a group's requests: `io.prio.class`.
///
/// Writeback of the page cache is covered too, which `ioprio_set(2)` is not.
///
/// ```
/// use cgroupfs::IoPriorityClass;
///
/// assert_eq!("restrict-to-be".parse::<IoPriorityClass>()?, IoPriorityClass::RestrictToBe);
/// assert_eq!(IoPriorityClass::Idle.to_string(), "idle");
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#io-priority>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IoPriorityClass {
    /// `no-change`: each request keeps its own. A new group begins so.
    #[default]
    NoChange,
    /// `promote-to-rt`: what is not real-time becomes real-time, at level 4. Linux 6.5.
    PromoteToRt,
    /// `restrict-to-be`: what has no class, or is real-time, becomes best-effort.
    RestrictToBe,
    /// `idle`: everything becomes idle.
    Idle,
    /// `none-to-rt`: what has no class becomes real-time. Since Linux 6.5 the kernel's other name of `promote-to-rt`.
    NoneToRt,
}

impl IoPriorityClass {
    /// All that kernels know.
    pub const ALL: [Self; 5] = [Self::NoChange, Self::PromoteToRt, Self::RestrictToBe, Self::Idle, Self::NoneToRt];

    /// The kernel's word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoChange => "no-change",
            Self::PromoteToRt => "promote-to-rt",
            Self::RestrictToBe => "restrict-to-be",
            Self::Idle => "idle",
            Self::NoneToRt => "none-to-rt",
        }
    }
}

impl fmt::Display for IoPriorityClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for IoPriorityClass {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|class| class.name() == text.trim()).ok_or_else(|| {
            Error::invalid("parse io.prio.class", "none of no-change, promote-to-rt, restrict-to-be, idle, none-to-rt")
                .on(Subject::Value(text.to_owned()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn words_are_the_kernels() {
        for class in IoPriorityClass::ALL {
            assert_eq!(format!("{class}\n").parse::<IoPriorityClass>().expect("word"), class);
        }
        for text in ["", "rt", "Idle", "none", "promote_to_rt", "idle 4"] {
            assert_eq!(text.parse::<IoPriorityClass>().expect_err(text).kind(), ErrorKind::Invalid);
        }
    }
}
