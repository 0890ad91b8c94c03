//! Saved-up processor time: `cpu.max.burst`.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use cellkit_core::Subject;

use crate::words::is_digits;
use crate::{Error, Quota, Result};

const PARSE: &str = "parse cpu.max.burst";

/// How much unused quota a group may save up and use beyond `cpu.max` later: `cpu.max.burst`.
///
/// It counts whole microseconds, prints and reads as the file does, and is within what the kernel can count. The kernel
/// takes no more than the quota of `cpu.max`; without a quota, anything.
///
/// ```
/// use cgroupfs::CpuBurst;
/// use std::time::Duration;
///
/// let burst = CpuBurst::try_from(Duration::from_millis(20))?;
/// assert_eq!((burst.to_string(), burst), ("20000".to_owned(), "20000\n".parse()?));
/// assert!(CpuBurst::try_from(Duration::from_nanos(1)).is_err());
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuBurst {
    usec: u64,
}

impl CpuBurst {
    /// The kernel's default: nothing is saved up.
    pub const NONE: Self = Self { usec: 0 };

    /// The time.
    #[must_use]
    pub const fn get(self) -> Duration {
        Duration::from_micros(self.usec)
    }

    fn of_usec(usec: u64) -> Result<Self, &'static str> {
        if usec <= Quota::MOST_QUOTA_USEC { Ok(Self { usec }) } else { Err("more than 2^44 - 1 microseconds") }
    }
}

impl TryFrom<Duration> for CpuBurst {
    type Error = Error;

    fn try_from(time: Duration) -> Result<Self> {
        let usec = match u64::try_from(time.as_micros()) {
            Ok(_) if time.subsec_nanos() % 1_000 != 0 => Err("not whole microseconds"),
            Ok(usec) => Self::of_usec(usec),
            Err(_) => Err("more than 2^44 - 1 microseconds"),
        };
        usec.map_err(|why| Error::invalid(PARSE, why).on(Subject::Value(format!("{time:?}"))))
    }
}

impl fmt::Display for CpuBurst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.usec.fmt(f)
    }
}

impl FromStr for CpuBurst {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits = text.trim();
        let parsed = if !is_digits(digits) {
            Err("this is not a number of microseconds")
        } else {
            digits.parse().map_err(|_| "more than 2^44 - 1 microseconds").and_then(Self::of_usec)
        };
        parsed.map_err(|why| Error::invalid(PARSE, why).on(Subject::Value(text.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn what_is_refused() {
        for text in ["", "-1", "+1", "1.5", "max", "17592186044416", "99999999999999999999", "1 2", "1\0"] {
            assert_eq!(text.parse::<CpuBurst>().expect_err(text).kind(), ErrorKind::Invalid);
        }
        for time in [Duration::MAX, Duration::from_secs(1 << 44), Duration::from_nanos(1_500)] {
            assert_eq!(CpuBurst::try_from(time).expect_err("refused").kind(), ErrorKind::Invalid);
        }
        assert_eq!("0\n".parse::<CpuBurst>().expect("none"), CpuBurst::NONE);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(usec in 0..=Quota::MOST_QUOTA_USEC) {
            let burst = CpuBurst::try_from(Duration::from_micros(usec)).unwrap();
            prop_assert_eq!(burst.to_string().parse::<CpuBurst>().unwrap(), burst);
            prop_assert_eq!(burst.get(), Duration::from_micros(usec));
        }

        #[test]
        fn no_text_panics(text in "\\PC*", number in "[0-9.+-]{0,40}") {
            let _ = (text.parse::<CpuBurst>(), number.parse::<CpuBurst>());
        }
    }
}
