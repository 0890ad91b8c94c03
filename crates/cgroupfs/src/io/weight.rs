//! Shares of disks: `io.weight` and `io.bfq.weight`.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use crate::words::split;
use crate::{DevNum, Error, IoWeight, PerDevice, Result};

/// All that `io.weight` holds, or `io.bfq.weight`: the weight for every disk, and those for some.
///
/// ```
/// use cgroupfs::{DevNum, IoWeight, IoWeights};
///
/// let weights: IoWeights = "default 100\n8:16 200\n".parse()?;
/// assert_eq!(weights.of("8:16".parse()?).get(), 200);
/// assert_eq!(weights.of("8:0".parse()?), weights.default);
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#io-interface-files>.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoWeights<W = IoWeight> {
    /// Of each disk that has none of its own.
    pub default: W,
    /// Of some disks.
    pub devices: PerDevice<W>,
}

impl<W: Copy> IoWeights<W> {
    /// The weight that holds for `device`.
    #[must_use]
    pub fn of(&self, device: DevNum) -> W {
        self.devices.get(device).copied().unwrap_or(self.default)
    }
}

impl<W: FromStr<Err = Error>> FromStr for IoWeights<W> {
    type Err = Error;

    /// Reads what the kernel's file holds: `default WEIGHT`, then `MAJOR:MINOR WEIGHT` for some. What lacks the first is an
    /// error of kind Parse.
    fn from_str(text: &str) -> Result<Self> {
        let mut default = None;
        let mut devices = PerDevice::default();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            match split(line) {
                ("default", weight) | (weight, "") => default = Some(weight.parse()?),
                (device, weight) => devices.keep(device, weight.parse()?)?,
            }
        }
        match default {
            Some(default) => Ok(Self { default, devices }),
            None => Err(Error::parse("parse io.weight", "there is no default")),
        }
    }
}

impl<W: fmt::Display> fmt::Display for IoWeights<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "default {}", self.default)?;
        self.devices.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BfqWeight, ErrorKind};
    use proptest::prelude::*;

    #[test]
    fn as_kernels_write_them() {
        let weights: IoWeights = "default 100\n8:16 200\n8:0 50\n".parse().expect("kernel documentation");
        assert_eq!(weights.of(DevNum { major: 8, minor: 0 }).get(), 50);
        assert_eq!(weights.of(DevNum { major: 9, minor: 0 }).get(), 100);
        // BFQ of version 1 wrote the number alone.
        assert_eq!("100\n".parse::<IoWeights<BfqWeight>>().expect("bfq").default.get(), 100);
        for text in
            ["", "8:0 100", "default", "default 0", "default 10001", "default 100\n8:0 default", "default 1\nx 1"]
        {
            assert!(text.parse::<IoWeights>().is_err(), "{text}");
        }
        assert_eq!("8:0 100".parse::<IoWeights>().expect_err("no default").kind(), ErrorKind::Parse);
        assert!("default 1001".parse::<IoWeights<BfqWeight>>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(
            default in 1u64..=10_000,
            devices in proptest::collection::btree_map((0u32..1 << 12, 0u32..1 << 20), 1u64..=10_000, 0..6),
        ) {
            let weight = |number| IoWeight::try_from(number).unwrap();
            let devices = devices.into_iter().map(|((major, minor), one)| (DevNum { major, minor }, weight(one)));
            let weights = IoWeights { default: weight(default), devices: devices.collect() };
            prop_assert_eq!(weights.to_string().parse::<IoWeights>().unwrap(), weights);
        }

        #[test]
        fn no_text_panics(text in "[ -~\n\0]*", near in "(default|8:0|[0-9:\n ]){0,8}") {
            let _ = (text.parse::<IoWeights>(), near.parse::<IoWeights>());
        }
    }
}
