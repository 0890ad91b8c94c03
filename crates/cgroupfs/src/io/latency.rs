//! How long a group may wait for one disk before others are held back: `io.latency`.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use cellkit_core::Subject;

use crate::words::number;
use crate::{Error, Max, Result};

const PARSE: &str = "parse io.latency";

/// The average latency that a group is to have on one disk: a line of `io.latency`.
///
/// While it is missed, siblings with a greater target, or none, are held back. It prints and reads as the file does, without
/// the device, in microseconds: `target=75000`.
///
/// ```
/// use cgroupfs::IoLatency;
/// use std::time::Duration;
///
/// let latency = IoLatency::new(Duration::from_millis(75))?;
/// assert_eq!(latency.to_string(), "target=75000");
/// assert_eq!("target=max".parse::<IoLatency>()?, IoLatency::NONE);
/// assert!(IoLatency::new(Duration::from_nanos(1)).is_err());
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#io-latency>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoLatency {
    // Microseconds. Zero is none, as the kernel has it.
    usec: u64,
}

impl IoLatency {
    /// No target.
    pub const NONE: Self = Self { usec: 0 };
    /// What the kernel can count, in nanoseconds.
    const MOST_USEC: u64 = u64::MAX / 1000;

    /// A target of whole microseconds, at least one.
    ///
    /// # Errors
    /// Invalid when it is not, or longer than the kernel can count (584 years).
    pub fn new(target: Duration) -> Result<Self> {
        let invalid = |why| Error::invalid(PARSE, why).on(Subject::Value(format!("{target:?}")));
        if target.is_zero() || target.subsec_nanos() % 1000 != 0 {
            return Err(invalid("a target is one or more whole microseconds"));
        }
        match u64::try_from(target.as_micros()) {
            Ok(usec) if usec <= Self::MOST_USEC => Ok(Self { usec }),
            _ => Err(invalid("longer than the kernel can count")),
        }
    }

    /// The target, if there is one.
    #[must_use]
    pub fn target(self) -> Option<Duration> {
        (self.usec > 0).then(|| Duration::from_micros(self.usec))
    }
}

impl fmt::Display for IoLatency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.usec {
            0 => f.write_str("target=max"),
            usec => write!(f, "target={usec}"),
        }
    }
}

impl FromStr for IoLatency {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why| Error::invalid(PARSE, why).on(Subject::Value(text.to_owned()));
        match text.trim().strip_prefix("target=").map(str::parse::<Max<Usec>>) {
            Some(Ok(Max::Max)) => Ok(Self::NONE),
            Some(Ok(Max::Value(Usec(usec)))) if usec <= Self::MOST_USEC => Ok(Self { usec }),
            Some(_) => Err(invalid("a target is max or a number of microseconds")),
            None => Err(invalid("not target=MICROSECONDS")),
        }
    }
}

struct Usec(u64);

impl FromStr for Usec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        number(text).map(Self).ok_or_else(|| Error::invalid(PARSE, "not a number of microseconds"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_target() {
        for text in ["", "target", "target=", "target=-1", "target=+1", "target=1.5", "75000", "rbps=1", "target=1 x"] {
            assert_eq!(text.parse::<IoLatency>().expect_err(text).kind(), ErrorKind::Invalid, "{text}");
        }
        for target in [Duration::ZERO, Duration::from_nanos(1500), Duration::MAX] {
            assert_eq!(IoLatency::new(target).expect_err("refused").kind(), ErrorKind::Invalid);
        }
        assert_eq!("target=0".parse::<IoLatency>().expect("none"), IoLatency::NONE);
        assert_eq!(IoLatency::NONE.target(), None);
        assert_eq!("target=18446744073709551".parse::<IoLatency>().expect("most").usec, IoLatency::MOST_USEC);
        assert!("target=18446744073709552".parse::<IoLatency>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(usec in 1..=IoLatency::MOST_USEC) {
            let latency = IoLatency::new(Duration::from_micros(usec)).unwrap();
            prop_assert_eq!(latency.to_string().parse::<IoLatency>().unwrap(), latency);
            prop_assert_eq!(latency.target(), Some(Duration::from_micros(usec)));
        }

        #[test]
        fn no_text_panics(text in "\\PC*", near in "target=[0-9a-z.-]{0,24}") {
            let _ = (text.parse::<IoLatency>(), near.parse::<IoLatency>());
        }
    }
}
