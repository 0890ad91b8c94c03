//! Processor time a period: `cpu.max`.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::words::number;
use crate::{Error, Max, Result};

const PARSE: &str = "parse cpu.max";
const CPUS: &str = "number of CPUs";

/// How much processor time a group may use in each period: `cpu.max`.
///
/// The kernel takes periods of 1 ms to 1 s and quotas of 1 ms and more; a value of this type is within both. It prints
/// and reads as the file does, in microseconds: `50000 100000`, `max 100000`.
///
/// ```
/// use cgroupfs::Quota;
///
/// assert_eq!(Quota::parse_cpus("0.5")?.to_string(), "50000 100000");
/// assert_eq!(Quota::cpus(1.5)?, "150000 100000".parse()?);
/// assert_eq!(
///     Quota::cpus(0.001).unwrap_err().to_string(),
///     r#"number of CPUs "0.001": less than 0.01, the least the kernel can give"#
/// );
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    quota_usec: Max<u64>,
    period_usec: u64,
}

impl Quota {
    /// The kernel's default period: 100 ms.
    pub const DEFAULT_PERIOD_USEC: u64 = 100_000;
    /// The least quota the kernel takes: 1 ms.
    pub const LEAST_QUOTA_USEC: u64 = 1_000;
    /// The greatest quota the kernel takes: it counts nanoseconds with 20 bits of fraction.
    pub const MOST_QUOTA_USEC: u64 = (1 << 44) - 1;
    /// The kernel's default: no limit.
    pub const UNLIMITED: Self = Self { quota_usec: Max::Max, period_usec: Self::DEFAULT_PERIOD_USEC };

    /// `quota_usec` microseconds of processor time in each `period_usec` microseconds.
    ///
    /// # Errors
    /// Invalid when either is outside what the kernel takes.
    pub fn new(quota_usec: Max<u64>, period_usec: u64) -> Result<Self> {
        let invalid = |why, value: u64| Error::invalid(PARSE, why).on(Subject::Value(value.to_string()));
        if !(1_000..=1_000_000).contains(&period_usec) {
            return Err(invalid("the period is not between 1000 and 1000000 microseconds", period_usec));
        }
        match quota_usec {
            Max::Value(quota) if quota < Self::LEAST_QUOTA_USEC => {
                Err(invalid("the quota is less than 1000 microseconds", quota))
            }
            Max::Value(quota) if quota > Self::MOST_QUOTA_USEC => {
                Err(invalid("the quota is more than 2^44 - 1 microseconds", quota))
            }
            _ => Ok(Self { quota_usec, period_usec }),
        }
    }

    /// The time of so many processors, in periods of 100 ms, to the nearest microsecond.
    ///
    /// # Errors
    /// Invalid when it is not a number, or less than 0.01, or more than the kernel can count.
    pub fn cpus(cpus: f64) -> Result<Self> {
        let invalid = |why| Error::invalid(CPUS, why).on(Subject::Value(cpus.to_string()));
        if !cpus.is_finite() {
            return Err(invalid("this is not a number"));
        }
        if cpus <= 0.0 {
            return Err(invalid("it must be more than none"));
        }
        let usec = (cpus * Self::DEFAULT_PERIOD_USEC as f64).round();
        // Beyond 2^53 a float no longer counts by ones, and the kernel stops at 2^44.
        Self::of_cpus(if usec > (1u64 << 53) as f64 { u64::MAX } else { usec as u64 }).map_err(invalid)
    }

    /// The same from text such as `0.5`, `2` or `.25`, exactly.
    ///
    /// # Errors
    /// As [`cpus`](Self::cpus).
    pub fn parse_cpus(text: &str) -> Result<Self> {
        cpus_to_usec(text.trim())
            .and_then(Self::of_cpus)
            .map_err(|why| Error::invalid(CPUS, why).on(Subject::Value(text.to_owned())))
    }

    fn of_cpus(usec: u64) -> Result<Self, &'static str> {
        match usec {
            ..Self::LEAST_QUOTA_USEC => Err("less than 0.01, the least the kernel can give"),
            Self::LEAST_QUOTA_USEC..=Self::MOST_QUOTA_USEC => {
                Ok(Self { quota_usec: Max::Value(usec), period_usec: Self::DEFAULT_PERIOD_USEC })
            }
            _ => Err("more than the kernel can count"),
        }
    }

    /// Microseconds of processor time in each period.
    #[must_use]
    pub fn quota_usec(self) -> Max<u64> {
        self.quota_usec
    }

    /// The length of the period in microseconds.
    #[must_use]
    pub fn period_usec(self) -> u64 {
        self.period_usec
    }
}

/// Hundreds of milliseconds: a decimal number times 100000, rounded half up.
fn cpus_to_usec(text: &str) -> Result<u64, &'static str> {
    if text.is_empty() {
        return Err("empty, but a number is needed");
    }
    if text.starts_with('-') {
        return Err("it must be more than none");
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return Err("this is not a number such as 0.5 or 2");
    }
    if !whole.bytes().chain(fraction.bytes()).any(|digit| digit != b'0') {
        return Err("it must be more than none");
    }
    // Six digits: five that count and one that rounds.
    let fraction: String = fraction.chars().chain("000000".chars()).take(6).collect();
    let (Ok(whole), Ok(millionths)) = (format!("0{whole}").parse::<u64>(), fraction.parse::<u64>()) else {
        return Err("more than the kernel can count");
    };
    let usec = whole.checked_mul(100_000).and_then(|usec| usec.checked_add((millionths + 5) / 10));
    usec.ok_or("more than the kernel can count")
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.quota_usec, self.period_usec)
    }
}

impl FromStr for Quota {
    type Err = Error;

    /// `QUOTA PERIOD` in microseconds, as `cpu.max` holds it; the period may be left out.
    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why| Error::invalid(PARSE, why).on(Subject::Value(text.to_owned()));
        let number = |word: &str| {
            let why = "this is not QUOTA PERIOD in microseconds, where QUOTA may be max";
            number(word).ok_or_else(|| invalid(why))
        };
        let mut words = text.split_ascii_whitespace();
        let quota = match words.next() {
            None => return Err(invalid("empty")),
            Some("max") => Max::Max,
            Some(word) => Max::Value(number(word)?),
        };
        let period = words.next().map_or(Ok(Self::DEFAULT_PERIOD_USEC), number)?;
        match words.next() {
            None => Self::new(quota, period),
            Some(_) => Err(invalid("more than two words")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn cpus_as_text() {
        for (text, file) in [
            ("0.5", "50000 100000"),
            ("1", "100000 100000"),
            ("2.", "200000 100000"),
            (".25", "25000 100000"),
            ("0.01", "1000 100000"),
            ("0.333333", "33333 100000"),
            ("0.6666666666666666666666666", "66667 100000"),
            ("0.009995", "1000 100000"),
            (" 4\n", "400000 100000"),
            ("00001", "100000 100000"),
        ] {
            assert_eq!(Quota::parse_cpus(text).expect(text).to_string(), file, "{text}");
        }
        for text in [
            "",
            "0",
            "0.0",
            "-1",
            "-0.5",
            "+1",
            ".",
            "1.2.3",
            "abc",
            "1e3",
            "inf",
            "NaN",
            "0.001",
            "175921861",
            "99999999999999999999999",
            "184467440737096",
            "1,5",
            "\0",
        ] {
            let error = Quota::parse_cpus(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert_eq!(error.to_string().lines().count(), 1);
        }
        for number in
            [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.001, 1e300, f64::MIN_POSITIVE, 175921861.0]
        {
            assert_eq!(Quota::cpus(number).expect_err("refused").kind(), ErrorKind::Invalid, "{number}");
        }
    }

    #[test]
    fn the_file() {
        assert_eq!("max 100000".parse::<Quota>().expect("max"), Quota::UNLIMITED);
        assert_eq!("max".parse::<Quota>().expect("max"), Quota::UNLIMITED);
        assert_eq!("2000\n".parse::<Quota>().expect("quota").period_usec(), 100_000);
        for text in
            ["", "max max", "1 2 3", "999 100000", "1000 999", "1000 1000001", "-1 100000", "17592186044416 1000"]
        {
            assert_eq!(text.parse::<Quota>().expect_err(text).kind(), ErrorKind::Invalid);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(quota in 1_000..=Quota::MOST_QUOTA_USEC, period in 1_000u64..=1_000_000, max: bool) {
            let quota = Quota::new(if max { Max::Max } else { Max::Value(quota) }, period).unwrap();
            prop_assert_eq!(quota.to_string().parse::<Quota>().unwrap(), quota);
        }

        #[test]
        fn text_and_float_agree(hundredths in 1u32..1_000_000) {
            let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
            prop_assert_eq!(Quota::parse_cpus(&text).unwrap(), Quota::cpus(f64::from(hundredths) / 100.0).unwrap());
        }

        #[test]
        fn no_text_panics(text in "\\PC*", number in "[0-9.+-]{0,40}") {
            let _ = (text.parse::<Quota>(), Quota::parse_cpus(&text));
            let _ = (number.parse::<Quota>(), Quota::parse_cpus(&number));
        }
    }
}
