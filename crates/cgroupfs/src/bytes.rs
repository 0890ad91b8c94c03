//! Amounts of memory.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::{Error, Result};

/// A number of bytes.
///
/// Text is read as container engines read it: a decimal number and, optionally, one of the binary units `k`, `m`, `g`,
/// `t`, `p`, `e`, in either case, with `b` or `ib` after it or not. A fraction of a byte is cut off. It prints as the
/// kernel prints it, a plain number.
///
/// ```
/// use cgroupfs::Bytes;
///
/// assert_eq!("512m".parse::<Bytes>()?, Bytes::mib(512));
/// assert_eq!("1.5GiB".parse::<Bytes>()?, Bytes::mib(1536));
/// assert_eq!("4096".parse::<Bytes>()?.to_string(), "4096");
/// let error = "12q".parse::<Bytes>().unwrap_err();
/// assert_eq!(error.to_string(), r#"parse bytes "12q": the unit is none of b, k, m, g, t, p, e"#);
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

impl Bytes {
    /// So many KiB, or as many as can be counted.
    #[must_use]
    pub const fn kib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 10))
    }

    /// So many MiB, or as many as can be counted.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 20))
    }

    /// So many GiB, or as many as can be counted.
    #[must_use]
    pub const fn gib(n: u64) -> Self {
        Self(n.saturating_mul(1 << 30))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u64> for Bytes {
    fn from(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl FromStr for Bytes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text).map(Self).map_err(|why| Error::invalid("parse bytes", why).on(Subject::Value(text.to_owned())))
    }
}

fn parse(text: &str) -> Result<u64, &'static str> {
    let text = text.trim();
    if text.is_empty() {
        return Err("empty, but a number of bytes is needed");
    }
    if text.starts_with('-') {
        return Err("a number of bytes is not negative");
    }
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = shift(unit.trim_start())?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err("this is not a number");
    }
    if !fraction.is_empty() && shift == 0 {
        return Err("a fraction of a byte");
    }
    const TOO_LARGE: &str = "more than 2^64 - 1 bytes";
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| TOO_LARGE)? };
    // More digits than these change nothing: 10^-18 of the largest unit is about one byte.
    let digits: String = fraction.chars().take(18).collect();
    let scale = 10u128.pow(digits.len() as u32);
    let part: u128 = if digits.is_empty() { 0 } else { digits.parse().map_err(|_| TOO_LARGE)? };
    let bytes = whole.checked_mul(1 << shift).ok_or(TOO_LARGE)?.checked_add((part << shift) / scale);
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).ok_or(TOO_LARGE)
}

fn shift(unit: &str) -> Result<u32, &'static str> {
    let unit = unit.to_ascii_lowercase();
    let prefix = match unit.as_str() {
        "" | "b" => return Ok(0),
        other => other.strip_suffix("ib").or_else(|| other.strip_suffix('b')).unwrap_or(other),
    };
    match prefix {
        "k" => Ok(10),
        "m" => Ok(20),
        "g" => Ok(30),
        "t" => Ok(40),
        "p" => Ok(50),
        "e" => Ok(60),
        _ => Err("the unit is none of b, k, m, g, t, p, e"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, Max};
    use proptest::prelude::*;

    #[test]
    fn what_container_engines_read() {
        for (text, bytes) in [
            ("0", 0),
            ("1", 1),
            ("1b", 1),
            ("64k", 65536),
            ("64K", 65536),
            ("64kb", 65536),
            ("64KiB", 65536),
            ("512m", 512 << 20),
            ("1g", 1 << 30),
            ("1.5g", 3 << 29),
            (".5k", 512),
            ("1.k", 1024),
            ("0.3k", 307),
            (" 10 mb\n", 10 << 20),
            ("15e", 15 << 60),
            ("18446744073709551615", u64::MAX),
            ("0.000000000000000000000000001e", 0),
        ] {
            assert_eq!(text.parse::<Bytes>().expect(text).0, bytes, "{text}");
        }
    }

    #[test]
    fn what_is_refused_and_why() {
        for (text, why) in [
            ("", "empty"),
            (" \n", "empty"),
            ("-1", "negative"),
            ("-1m", "negative"),
            ("m", "not a number"),
            (".", "not a number"),
            ("1..2k", "not a number"),
            ("1.2.3k", "not a number"),
            ("1.5", "fraction"),
            ("0x10", "unit"),
            ("1 2", "unit"),
            ("1mm", "unit"),
            ("1kbb", "unit"),
            ("1ib", "unit"),
            ("+1", "unit"),
            ("1\0", "unit"),
            ("max", "unit"),
            ("16e", "more than"),
            ("18446744073709551616", "more than"),
            ("99999999999999999999999999999999999999999999", "more than"),
            ("340282366920938463463374607431768211455k", "more than"),
        ] {
            let error = text.parse::<Bytes>().expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
            assert!(error.to_string().contains(why), "{text}: {error}");
            assert_eq!(error.to_string().lines().count(), 1);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(n: u64) {
            prop_assert_eq!(Bytes(n).to_string().parse::<Bytes>().unwrap(), Bytes(n));
            let limit = Max::Value(Bytes(n));
            prop_assert_eq!(limit.to_string().parse::<Max<Bytes>>().unwrap(), limit);
        }

        #[test]
        fn units_are_powers_of_two(n in 0u64..1 << 20, unit in 0usize..5) {
            let letter = ["k", "m", "g", "t", "p"][unit];
            match format!("{n}{letter}").parse::<Bytes>() {
                Ok(bytes) => prop_assert_eq!(u128::from(bytes.0), u128::from(n) << (10 * (unit + 1))),
                Err(_) => prop_assert!(u128::from(n) << (10 * (unit + 1)) > u128::from(u64::MAX)),
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC*", number in "[0-9.+-]{0,40}[a-zA-Z ]{0,4}") {
            let _ = text.parse::<Max<Bytes>>();
            let _ = number.parse::<Max<Bytes>>();
        }
    }
}
