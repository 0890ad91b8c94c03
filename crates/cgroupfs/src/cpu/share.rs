//! A group's share of processor time in other words than `cpu.weight`: `cpu.weight.nice` and `cpu.idle`.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::{Error, Result};

const PARSE_NICE: &str = "parse cpu.weight.nice";

/// A group's share of processor time as a nice value, -20 (most) to 19 (least): `cpu.weight.nice`.
///
/// It is another view of `cpu.weight`, coarser: the kernel answers the nice value nearest to the weight.
///
/// ```
/// use cgroupfs::NiceWeight;
///
/// assert_eq!("-5".parse::<NiceWeight>()?, NiceWeight::try_from(-5)?);
/// let error = NiceWeight::try_from(20).unwrap_err();
/// assert_eq!(error.to_string(), r#"parse cpu.weight.nice "20": not between -20 and 19"#);
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NiceWeight(i8);

impl NiceWeight {
    /// The least nice, with the greatest share.
    pub const LEAST: Self = Self(-20);
    /// The nicest, with the least share.
    pub const MOST: Self = Self(19);

    /// The nice value.
    #[must_use]
    pub const fn get(self) -> i8 {
        self.0
    }
}

impl TryFrom<i64> for NiceWeight {
    type Error = Error;

    fn try_from(nice: i64) -> Result<Self> {
        match i8::try_from(nice) {
            Ok(nice) if (-20..=19).contains(&nice) => Ok(Self(nice)),
            _ => Err(Error::invalid(PARSE_NICE, "not between -20 and 19").on(Subject::Value(nice.to_string()))),
        }
    }
}

impl fmt::Display for NiceWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for NiceWeight {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || Error::invalid(PARSE_NICE, "not between -20 and 19").on(Subject::Value(text.to_owned()));
        let nice = text.trim();
        if nice.starts_with('+') {
            return Err(invalid());
        }
        nice.parse::<i64>().ok().and_then(|nice| Self::try_from(nice).ok()).ok_or_else(invalid)
    }
}

/// Whether a group runs only when no sibling wants to, as SCHED_IDLE does: `cpu.idle`. Linux 5.15.
///
/// ```
/// use cgroupfs::CpuIdle;
///
/// assert_eq!("1\n".parse::<CpuIdle>()?, CpuIdle::Idle);
/// assert_eq!(CpuIdle::Normal.to_string(), "0");
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CpuIdle {
    /// It competes by its `cpu.weight`. The kernel's default.
    #[default]
    Normal,
    /// It takes what the others leave, and its weight cannot be set.
    Idle,
}

impl fmt::Display for CpuIdle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "0",
            Self::Idle => "1",
        })
    }
}

impl FromStr for CpuIdle {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.trim() {
            "0" => Ok(Self::Normal),
            "1" => Ok(Self::Idle),
            _ => Err(Error::invalid("parse cpu.idle", "neither 0 nor 1").on(Subject::Value(text.to_owned()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn every_value_and_no_other() {
        for nice in -200i64..=200 {
            let text = nice.to_string();
            assert_eq!(NiceWeight::try_from(nice).is_ok(), (-20..=19).contains(&nice));
            assert_eq!(text.parse::<NiceWeight>().ok(), NiceWeight::try_from(nice).ok());
            if let Ok(value) = NiceWeight::try_from(nice) {
                assert_eq!((value.to_string(), i64::from(value.get())), (text, nice));
            }
        }
        for idle in [CpuIdle::Normal, CpuIdle::Idle] {
            assert_eq!(idle.to_string().parse::<CpuIdle>().expect("idle"), idle);
        }
        for text in ["", "+1", "1.0", "max", "--1", "- 1", "2", "\0", "9999999999999999999999"] {
            assert_eq!(text.parse::<CpuIdle>().expect_err(text).kind(), ErrorKind::Invalid);
            assert!(text == "2" || text.parse::<NiceWeight>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*", number in "[0-9.+-]{0,8}") {
            let _ = (text.parse::<CpuIdle>(), text.parse::<NiceWeight>(), number.parse::<NiceWeight>());
        }
    }
}
