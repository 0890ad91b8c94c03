//! Whether pages may go from compressed memory to disk: `memory.zswap.writeback`.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::{Error, Result};

/// Whether the group's pages may be written to swap on disk: `memory.zswap.writeback`. It matters where zswap is in use.
///
/// ```
/// use cgroupfs::ZswapWriteback;
///
/// assert_eq!("0\n".parse::<ZswapWriteback>()?, ZswapWriteback::Disabled);
/// assert_eq!(ZswapWriteback::default().to_string(), "1");
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ZswapWriteback {
    /// `1`: they may, unless a group above forbids it. A new group begins so.
    #[default]
    Enabled,
    /// `0`: they stay in compressed memory. What does not fit there stays in memory.
    Disabled,
}

impl fmt::Display for ZswapWriteback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enabled => "1",
            Self::Disabled => "0",
        })
    }
}

impl FromStr for ZswapWriteback {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.trim() {
            "1" => Ok(Self::Enabled),
            "0" => Ok(Self::Disabled),
            _ => {
                Err(Error::invalid("parse memory.zswap.writeback", "neither 0 nor 1")
                    .on(Subject::Value(text.to_owned())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn zero_and_one() {
        for policy in [ZswapWriteback::Enabled, ZswapWriteback::Disabled] {
            assert_eq!(policy.to_string().parse::<ZswapWriteback>().expect("text"), policy);
        }
        for text in ["", "2", "-1", "yes"] {
            assert_eq!(text.parse::<ZswapWriteback>().expect_err(text).kind(), ErrorKind::Invalid);
        }
    }
}
