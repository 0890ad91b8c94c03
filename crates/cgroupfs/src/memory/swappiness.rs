//! What reclaim takes first: the `swappiness` of `memory.reclaim`.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::words::number;
use crate::{Error, Result};

const PARSE: &str = "parse swappiness";

/// Whether anonymous memory or the page cache is reclaimed first: 0 to 200, as `vm.swappiness`, or anonymous memory only.
///
/// With 0 only the page cache is taken, as long as there is any; at 100 both cost the same.
///
/// ```
/// use cgroupfs::Swappiness;
///
/// assert_eq!(Swappiness::try_from(60)?.to_string(), "60");
/// assert_eq!("max".parse::<Swappiness>()?, Swappiness::ANON_ONLY);
/// assert!(Swappiness::try_from(201).is_err());
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Swappiness(u8);

impl Swappiness {
    /// Page cache only, as long as there is any.
    pub const FILE_FIRST: Self = Self(0);
    /// `max`: anonymous memory only. Linux 6.16.
    pub const ANON_ONLY: Self = Self(201);
    const MOST: u8 = 200;

    /// The number, unless it is `max`.
    #[must_use]
    pub fn get(self) -> Option<u8> {
        (self != Self::ANON_ONLY).then_some(self.0)
    }
}

impl TryFrom<u64> for Swappiness {
    type Error = Error;

    fn try_from(number: u64) -> Result<Self> {
        match u8::try_from(number) {
            Ok(number) if number <= Self::MOST => Ok(Self(number)),
            _ => Err(Error::invalid(PARSE, "not between 0 and 200").on(Subject::Value(number.to_string()))),
        }
    }
}

impl fmt::Display for Swappiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Some(number) => number.fmt(f),
            None => f.write_str("max"),
        }
    }
}

impl FromStr for Swappiness {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let word = text.trim();
        if word == "max" {
            return Ok(Self::ANON_ONLY);
        }
        match number::<u64>(word) {
            Some(number) => Self::try_from(number),
            None => {
                Err(Error::invalid(PARSE, "neither max nor a number between 0 and 200")
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
    fn every_value_there_is() {
        for number in 0..=200 {
            let swappiness = Swappiness::try_from(number).expect("number");
            assert_eq!(swappiness.get().map(u64::from), Some(number));
            assert_eq!(swappiness.to_string().parse::<Swappiness>().expect("text"), swappiness);
        }
        assert_eq!((Swappiness::ANON_ONLY.get(), Swappiness::ANON_ONLY.to_string().as_str()), (None, "max"));
        for text in ["", "201", "255", "256", "-1", "+1", "60 ", "1.5", "Max", "18446744073709551616"] {
            let read = text.parse::<Swappiness>();
            assert_eq!(read.is_err(), text.trim() != "60", "{text}");
            assert!(read.err().is_none_or(|error| error.kind() == ErrorKind::Invalid));
        }
    }
}
