//! A limit that may be absent: a value, or the kernel's word `max`.
#![forbid(unsafe_code)]

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::{Error, Result};

/// A value, or `max`: the kernel's word for "no limit".
///
/// It reads and prints as the kernel's files do.
///
/// ```
/// use cgroupfs::{Bytes, Max};
///
/// assert_eq!("max".parse::<Max<Bytes>>()?, Max::Max);
/// assert_eq!("64k".parse::<Max<Bytes>>()?, Max::Value(Bytes(65536)));
/// assert_eq!(Max::Value(Bytes(65536)).to_string(), "65536");
/// assert!(Max::Value(Bytes::gib(1)) < Max::Max, "no limit is more than any");
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#conventions>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Max<T> {
    /// This much.
    Value(T),
    /// No limit.
    Max,
}

impl<T> Max<T> {
    /// The value, unless there is no limit.
    #[must_use]
    pub fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Max => None,
        }
    }

    /// Whether there is no limit.
    #[must_use]
    pub fn is_max(&self) -> bool {
        matches!(self, Self::Max)
    }
}

impl<T> From<T> for Max<T> {
    fn from(value: T) -> Self {
        Self::Value(value)
    }
}

impl<T: fmt::Display> fmt::Display for Max<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => value.fmt(f),
            Self::Max => f.write_str("max"),
        }
    }
}

impl<T: FromStr<Err: Unreadable>> FromStr for Max<T> {
    type Err = Error;

    /// `max`, or what `T` reads.
    fn from_str(text: &str) -> Result<Self> {
        match text.trim() {
            "max" => Ok(Self::Max),
            text => text.parse().map(Self::Value).map_err(|error: T::Err| error.of(text)),
        }
    }
}

/// Why a text is no `T`: what the types of this crate say, and what plain numbers say.
pub trait Unreadable {
    #[doc(hidden)]
    fn of(self, text: &str) -> Error;
}

impl Unreadable for Error {
    fn of(self, _: &str) -> Error {
        self
    }
}

impl Unreadable for ParseIntError {
    fn of(self, text: &str) -> Error {
        Error::invalid("parse limit", "neither max nor a number that fits").on(Subject::Value(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn plain_numbers() {
        for text in ["", "-1", "1.0", "0x1", "MAX", "max 1", "18446744073709551616", "\0"] {
            assert_eq!(text.parse::<Max<u64>>().expect_err(text).kind(), ErrorKind::Invalid);
        }
        assert!("4294967296".parse::<Max<u32>>().is_err());
        assert_eq!("max\n".parse::<Max<u64>>().expect("max"), Max::Max);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(number: u64) {
            let limit = Max::Value(number);
            prop_assert_eq!(limit.to_string().parse::<Max<u64>>().unwrap(), limit);
        }
    }
}
