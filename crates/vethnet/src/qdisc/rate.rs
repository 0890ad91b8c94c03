//! How much a second.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::{Error, Result, Subject};
use serde::{Deserialize, Serialize};

/// How much passes in a second. Bits and bytes cannot be taken for each other: every constructor and every text says
/// which it means.
///
/// The kernel counts whole bytes a second (`struct tc_ratespec`), so bits are rounded up to the next eight.
///
/// As text it is a number and a unit: `50mbit`, `1.5gbit`, `800kbit`, `9600bit` (and `kibit`, `mibit`, … by 1024), or
/// `6MB/s`, `512KiB/s`, `100B/s`. The case does not matter. A number without a unit and the units of tc(8) that end in
/// `bps`, by which that program means *bytes*, are refused.
///
/// See tc(8): <https://man7.org/linux/man-pages/man8/tc.8.html>.
///
/// ```
/// use vethnet::Rate;
///
/// let rate: Rate = "50mbit".parse()?;
/// assert_eq!(rate, Rate::mbit(50));
/// assert_eq!(rate, Rate::bytes_per_second(6_250_000));
/// assert_eq!(rate.to_string(), "50mbit");
/// let error = "50mbps".parse::<Rate>().unwrap_err();
/// assert!(error.to_string().contains("bytes for tc(8) and bits for others"), "{error}");
/// # Ok::<(), vethnet::Error>(())
/// ```
#[doc(alias = "tc_ratespec")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rate {
    /// Bytes a second, as the kernel has it.
    bytes: u64,
}

impl Rate {
    /// So many bytes.
    #[must_use]
    pub const fn bytes_per_second(bytes: u64) -> Self {
        Self { bytes }
    }

    /// So many bits, rounded up to the next byte.
    #[must_use]
    pub const fn bits_per_second(bits: u64) -> Self {
        Self { bytes: bits.div_ceil(8) }
    }

    /// So many thousand bits.
    #[must_use]
    pub const fn kbit(kbit: u32) -> Self {
        Self { bytes: kbit as u64 * 125 }
    }

    /// So many million bits.
    #[must_use]
    pub const fn mbit(mbit: u32) -> Self {
        Self { bytes: mbit as u64 * 125_000 }
    }

    /// So many thousand million bits.
    #[must_use]
    pub const fn gbit(gbit: u32) -> Self {
        Self { bytes: gbit as u64 * 125_000_000 }
    }

    /// In bytes a second.
    #[must_use]
    pub const fn as_bytes_per_second(self) -> u64 {
        self.bytes
    }

    /// In bits a second.
    #[must_use]
    pub const fn as_bits_per_second(self) -> u128 {
        self.bytes as u128 * 8
    }

    /// How many bytes that is in so many nanoseconds.
    pub(crate) fn bytes_in(self, nanoseconds: u64) -> u64 {
        let bytes = u128::from(self.bytes) * u128::from(nanoseconds) / 1_000_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// How many nanoseconds so many bytes take, rounded up. `None` for a rate of nothing.
    pub(crate) fn nanoseconds_for(self, bytes: u64) -> Option<u64> {
        let nanoseconds = (u128::from(bytes) * 1_000_000_000).checked_add(u128::from(self.bytes.checked_sub(1)?))?;
        u64::try_from(nanoseconds / u128::from(self.bytes)).ok()
    }

    fn parse(text: &str) -> std::result::Result<Self, &'static str> {
        const FORM: &str = "write it as a number and a unit, such as 50mbit or 6MB/s";
        let text = text.to_ascii_lowercase();
        let unit_at = text
            .find(|c: char| c != '.' && !c.is_ascii_digit())
            .ok_or("it lacks a unit: write 50mbit for bits a second, 6MB/s for bytes")?;
        let (number, unit) = text.split_at(unit_at);
        if unit.ends_with("bps") {
            return Err("units that end in bps mean bytes for tc(8) and bits for others: write 50mbit or 6MB/s");
        }
        let (prefix, bits) = match (unit.strip_suffix("bit"), unit.strip_suffix("b/s")) {
            (Some(prefix), _) => (prefix, 1),
            (_, Some(prefix)) => (prefix, 8),
            _ => return Err(FORM),
        };
        let factor: u128 = match prefix {
            "" => 1,
            "k" => 1_000,
            "m" => 1_000_000,
            "g" => 1_000_000_000,
            "t" => 1_000_000_000_000,
            "ki" => 1 << 10,
            "mi" => 1 << 20,
            "gi" => 1 << 30,
            "ti" => 1 << 40,
            _ => return Err(FORM),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        // More digits than any rate has, and few enough for the arithmetic below.
        if whole.is_empty() || fraction.is_empty() || whole.len() + fraction.len() > 24 || fraction.contains('.') {
            return Err(FORM);
        }
        let scale = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| FORM)?);
        let whole: u128 = whole.parse().map_err(|_| FORM)?;
        let fraction: u128 = fraction.parse().map_err(|_| FORM)?;
        let bits = ((whole * scale + fraction) * factor * bits).div_ceil(scale);
        let bytes = u64::try_from(bits.div_ceil(8)).map_err(|_| "it is more than the kernel can count")?;
        Ok(Self { bytes })
    }
}

impl fmt::Display for Rate {
    /// In bits, with the largest unit that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.as_bits_per_second();
        let units = [(1_000_000_000_000, "tbit"), (1_000_000_000, "gbit"), (1_000_000, "mbit"), (1_000, "kbit")];
        match units.into_iter().find(|&(factor, _)| bits >= factor && bits % factor == 0) {
            Some((factor, unit)) => write!(f, "{}{unit}", bits / factor),
            None => write!(f, "{bits}bit"),
        }
    }
}

impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text).map_err(|why| Error::invalid("rate", why).on(Subject::Value(text.to_owned())))
    }
}

impl TryFrom<String> for Rate {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Rate> for String {
    fn from(rate: Rate) -> Self {
        rate.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts() {
        for (text, bytes) in [
            ("8bit", 1),
            ("1bit", 1),
            ("9bit", 2),
            ("50mbit", 6_250_000),
            ("50Mbit", 6_250_000),
            ("1.5gbit", 187_500_000),
            ("0.001kbit", 1),
            ("1kibit", 128),
            ("1KiB/s", 1024),
            ("6MB/s", 6_000_000),
            ("100tbit", 12_500_000_000_000),
            ("0bit", 0),
        ] {
            assert_eq!(text.parse::<Rate>().expect(text), Rate::bytes_per_second(bytes), "{text}");
        }
        for (text, why) in [
            ("", "lacks a unit"),
            ("50", "lacks a unit"),
            ("mbit", "write it as"),
            ("50m", "write it as"),
            ("50mbps", "bps"),
            ("8bps", "bps"),
            ("50mbit/s", "write it as"),
            ("-1mbit", "write it as"),
            ("+1mbit", "write it as"),
            ("1.mbit", "write it as"),
            (".5mbit", "write it as"),
            ("1.2.3mbit", "write it as"),
            ("1 mbit", "write it as"),
            ("1e3bit", "write it as"),
            ("1xbit", "write it as"),
            ("9999999999999999999999999bit", "write it as"),
            ("99999999999999999999999bit", "more than the kernel"),
            ("9999999999999999999tbit", "more than the kernel"),
            ("50mbit\0", "write it as"),
        ] {
            let error = text.parse::<Rate>().expect_err(text);
            assert!(error.to_string().contains(why), "{error}");
            assert_eq!(error.to_string().lines().count(), 1);
        }
    }

    #[test]
    fn constructors_agree() {
        assert_eq!(Rate::mbit(8), Rate::kbit(8_000));
        assert_eq!(Rate::gbit(8), Rate::mbit(8_000));
        assert_eq!(Rate::gbit(u32::MAX).as_bits_per_second(), u128::from(u32::MAX) * 1_000_000_000);
        assert_eq!(Rate::bits_per_second(u64::MAX).as_bytes_per_second(), u64::MAX / 8 + 1);
        assert_eq!(Rate::bytes_per_second(0).nanoseconds_for(1), None);
        assert_eq!(Rate::mbit(8).nanoseconds_for(1_000_000), Some(1_000_000_000));
        assert_eq!(Rate::mbit(8).bytes_in(10_000_000), 10_000);
    }

    proptest! {
        #[test]
        fn text_and_value(bytes: u64) {
            let rate = Rate::bytes_per_second(bytes);
            prop_assert_eq!(rate.to_string().parse::<Rate>().unwrap(), rate);
        }

        #[test]
        fn any_text_is_taken_without_panic(text in "[0-9.]{0,20}[a-zA-Z/]{0,6}") {
            let _ = text.parse::<Rate>();
        }
    }
}
