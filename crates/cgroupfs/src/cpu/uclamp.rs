//! Bounds of a group's utilization as the scheduler sees it: `cpu.uclamp.min` and `cpu.uclamp.max`.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::percent::parse_hundredths;
use crate::{Error, Result};

const PARSE: &str = "parse cpu.uclamp";

/// A utilization in hundredths of a percent, 0.00 to 100.00: `cpu.uclamp.min` and `cpu.uclamp.max`. Linux 5.4.
///
/// It says how fast a processor the group's tasks should run on, not how much time they get. It prints as the kernel
/// prints it, with two digits after the point, and the greatest value as `max`.
///
/// ```
/// use cgroupfs::Uclamp;
///
/// assert_eq!("12.5".parse::<Uclamp>()?.to_string(), "12.50");
/// assert_eq!("100".parse::<Uclamp>()?, Uclamp::MAX);
/// assert_eq!(Uclamp::MAX.to_string(), "max");
/// assert!("100.01".parse::<Uclamp>().is_err());
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uclamp {
    hundredths: u16,
}

impl Uclamp {
    /// No utilization: as `cpu.uclamp.min`, no boost, which is the kernel's default.
    pub const NONE: Self = Self { hundredths: 0 };
    /// The whole of the fastest processor: as `cpu.uclamp.max`, no cap, which is the kernel's default.
    pub const MAX: Self = Self { hundredths: 10_000 };

    /// So many hundredths of a percent.
    ///
    /// # Errors
    /// Invalid for more than 10000.
    pub fn from_hundredths(hundredths: u16) -> Result<Self> {
        if hundredths <= Self::MAX.hundredths {
            Ok(Self { hundredths })
        } else {
            Err(Error::invalid(PARSE, "more than 100.00 percent").on(Subject::Value(hundredths.to_string())))
        }
    }

    /// The hundredths of a percent.
    #[must_use]
    pub const fn hundredths(self) -> u16 {
        self.hundredths
    }
}

impl fmt::Display for Uclamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::MAX {
            return f.write_str("max");
        }
        write!(f, "{}.{:02}", self.hundredths / 100, self.hundredths % 100)
    }
}

impl FromStr for Uclamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why| Error::invalid(PARSE, why).on(Subject::Value(text.to_owned()));
        if text.trim() == "max" {
            return Ok(Self::MAX);
        }
        let hundredths =
            parse_hundredths(text.trim()).ok_or_else(|| invalid("this is not a percentage such as 12.50, or max"))?;
        u16::try_from(hundredths)
            .ok()
            .and_then(|hundredths| Self::from_hundredths(hundredths).ok())
            .ok_or_else(|| invalid("more than 100.00 percent"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn what_is_read_and_what_is_not() {
        for (text, shown) in
            [("0", "0.00"), ("0.00\n", "0.00"), ("7.5", "7.50"), ("99.99", "99.99"), ("100.00", "max"), ("max", "max")]
        {
            assert_eq!(text.parse::<Uclamp>().expect(text).to_string(), shown, "{text}");
        }
        for text in ["", ".", "1.", ".5", "1.234", "-1", "+1", "1e1", "Max", "100.01", "101", "99999999999999", "1\0"] {
            assert_eq!(text.parse::<Uclamp>().expect_err(text).kind(), ErrorKind::Invalid);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(hundredths in 0u16..=10_000) {
            let uclamp = Uclamp::from_hundredths(hundredths).unwrap();
            prop_assert_eq!(uclamp.to_string().parse::<Uclamp>().unwrap(), uclamp);
        }

        #[test]
        fn no_text_panics(text in "\\PC*", number in "[0-9.+-]{0,12}") {
            let _ = (text.parse::<Uclamp>(), number.parse::<Uclamp>());
        }
    }
}
