//! Whether the out-of-memory killer takes one process or all: `memory.oom.group`.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::{Error, Result};

/// Whom the out-of-memory killer kills when the group is out of memory: `memory.oom.group`.
///
/// ```
/// use cgroupfs::OomGroup;
///
/// assert_eq!("1\n".parse::<OomGroup>()?, OomGroup::KillAll);
/// assert_eq!(OomGroup::KillOne.to_string(), "0");
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OomGroup {
    /// `0`: one process, the one that gains most. A new group begins so.
    #[default]
    KillOne,
    /// `1`: all processes in the group and below it, for what is left would be of no use. Only those with an
    /// `oom_score_adj` of -1000 are spared.
    KillAll,
}

impl fmt::Display for OomGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KillOne => "0",
            Self::KillAll => "1",
        })
    }
}

impl FromStr for OomGroup {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.trim() {
            "0" => Ok(Self::KillOne),
            "1" => Ok(Self::KillAll),
            _ => Err(Error::invalid("parse memory.oom.group", "neither 0 nor 1").on(Subject::Value(text.to_owned()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn zero_and_one() {
        for policy in [OomGroup::KillOne, OomGroup::KillAll] {
            assert_eq!(policy.to_string().parse::<OomGroup>().expect("text"), policy);
        }
        for text in ["", "2", "-1", "yes", "01"] {
            assert_eq!(text.parse::<OomGroup>().expect_err(text).kind(), ErrorKind::Invalid);
        }
    }
}
