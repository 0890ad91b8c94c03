//! A limit that may be absent: a value, or the kernel's word `max`.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

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
/// # Ok::<(), cgroupfs::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

impl<T: FromStr<Err = Error>> FromStr for Max<T> {
    type Err = Error;

    /// `max`, or what `T` reads.
    fn from_str(text: &str) -> Result<Self> {
        if text.trim() == "max" { Ok(Self::Max) } else { text.parse().map(Self::Value) }
    }
}
