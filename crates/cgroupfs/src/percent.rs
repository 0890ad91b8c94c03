//! Percentages as the kernel writes them: exact, in hundredths, and some with bounds.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::words::is_digits;
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
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !is_digits(whole) || !is_digits(fraction) || fraction.len() > 2 {
        return None;
    }
    let tenths = if fraction.len() == 1 { 10 } else { 1 };
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(fraction.parse::<u32>().ok()? * tenths)
}

/// Declares a percentage with bounds; what comes last is the operation in its errors.
macro_rules! percent {
    ($(#[$doc:meta])* $name:ident, $least:literal..=$most:literal, $parse:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Percent);

        impl $name {
            /// The least value.
            pub const LEAST: Self = Self(Percent::from_hundredths($least * 100));
            /// The greatest value.
            pub const MOST: Self = Self(Percent::from_hundredths($most * 100));

            /// The percentage.
            #[must_use]
            pub const fn get(self) -> Percent {
                self.0
            }
        }

        impl TryFrom<Percent> for $name {
            type Error = Error;

            fn try_from(percent: Percent) -> Result<Self> {
                if (Self::LEAST.0..=Self::MOST.0).contains(&percent) {
                    return Ok(Self(percent));
                }
                Err(Error::invalid($parse, concat!("not between ", $least, " and ", $most))
                    .on(Subject::Value(percent.to_string())))
            }
        }

        impl TryFrom<u32> for $name {
            type Error = Error;

            /// So many whole percent.
            fn try_from(percent: u32) -> Result<Self> {
                Self::try_from(Percent::from_hundredths(percent.saturating_mul(100)))
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                match parse_hundredths(text.trim()) {
                    Some(hundredths) => Self::try_from(Percent::from_hundredths(hundredths)),
                    None => Err(Error::invalid($parse, "not a number with at most two digits after the point")
                        .on(Subject::Value(text.to_owned()))),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

percent! {
    /// Which of a disk's requests are looked at: `rpct` and `wpct` of [`IoCostQos`](crate::IoCostQos). From 0 to 100.
    ///
    /// ```
    /// use cgroupfs::Percentile;
    ///
    /// assert_eq!("95.5".parse::<Percentile>()?.get().hundredths(), 9550);
    /// assert_eq!(Percentile::try_from(95)?.to_string(), "95.00");
    /// assert!(Percentile::try_from(101).is_err());
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#io-interface-files>.
    Percentile, 0..=100, "parse percentile"
}

percent! {
    /// How far the speed of a disk may be scaled: `min` and `max` of [`IoCostQos`](crate::IoCostQos). From 1 to 10000, where
    /// 100 is what its [`IoCostModel`](crate::IoCostModel) says.
    ///
    /// ```
    /// use cgroupfs::ScalePercent;
    ///
    /// assert_eq!("150.0".parse::<ScalePercent>()?, ScalePercent::try_from(150)?);
    /// assert_eq!(ScalePercent::LEAST.to_string(), "1.00");
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#io-interface-files>.
    ScalePercent, 1..=10000, "parse scaling percentage"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
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

    #[test]
    fn out_of_bounds() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1.234", "1.2.3", "1e2", "1,5", "95%", "4294967295", "101"] {
            assert_eq!(text.parse::<Percentile>().expect_err(text).kind(), ErrorKind::Invalid, "{text}");
        }
        for text in ["0", "0.99", "10000.01"] {
            assert!(text.parse::<ScalePercent>().is_err(), "{text}");
        }
        assert!(ScalePercent::try_from(u32::MAX).is_err());
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_with_bounds(percentile in 0u32..=10_000, scale in 100u32..=1_000_000) {
            let percentile = Percentile::try_from(Percent::from_hundredths(percentile)).unwrap();
            prop_assert_eq!(percentile.to_string().parse::<Percentile>().unwrap(), percentile);
            let scale = ScalePercent::try_from(Percent::from_hundredths(scale)).unwrap();
            prop_assert_eq!(scale.to_string().parse::<ScalePercent>().unwrap(), scale);
        }

        #[test]
        fn no_text_panics(text in "\\PC*", near in "[0-9.]{0,16}") {
            let _ = (text.parse::<Percentile>(), near.parse::<ScalePercent>());
        }
    }
}
