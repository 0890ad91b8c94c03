//! Percentages as the kernel writes them: exact, in hundredths.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::{Error, Result};

/// A percentage in hundredths, as pressure files have it: `0.12` is twelve hundredths of a percent. It is exact.
///
/// ```
/// use cgroupfs::Percent;
///
/// let average: Percent = "3.07".parse()?;
/// assert_eq!((average.hundredths(), average.to_string()), (307, "3.07".to_owned()));
/// assert!(average < Percent::from_hundredths(308));
/// assert_eq!(average.as_f64(), 3.07);
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/accounting/psi.html#pressure-interface>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent {
    hundredths: u32,
}

impl Percent {
    /// So many hundredths of a percent.
    #[must_use]
    pub const fn from_hundredths(hundredths: u32) -> Self {
        Self { hundredths }
    }

    /// The hundredths of a percent.
    #[must_use]
    pub const fn hundredths(self) -> u32 {
        self.hundredths
    }

    /// The percentage as a number to calculate with.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.hundredths) / 100.0
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.hundredths / 100, self.hundredths % 100)
    }
}

impl FromStr for Percent {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse_hundredths(text.trim()).map(Self::from_hundredths).ok_or_else(|| {
            Error::invalid("parse percentage", "this is not a number such as 12.50").on(Subject::Value(text.to_owned()))
        })
    }
}

/// A decimal number with at most two digits after the point, times a hundred.
pub(crate) fn parse_hundredths(text: &str) -> Option<u32> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !digits(whole) || !digits(fraction) || fraction.len() > 2 {
        return None;
    }
    let tenths = if fraction.len() == 1 { 10 } else { 1 };
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(fraction.parse::<u32>().ok()? * tenths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_percentage() {
        for text in ["", ".", "1.", ".1", "1.234", "-1", "+1", "1e3", "1.0.0", "42949672.96", "99999999999", "\0"] {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
        assert_eq!("42949672.95".parse::<Percent>().expect("most").hundredths(), u32::MAX);
        assert_eq!("7.5".parse::<Percent>().expect("one digit").hundredths(), 750);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(hundredths: u32) {
            let percent = Percent::from_hundredths(hundredths);
            prop_assert_eq!(percent.to_string().parse::<Percent>().unwrap(), percent);
        }
    }
}
