//! A file with a line for each block device.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::words::split;
use crate::{DevNum, Error, Result};

/// What a file of the io controller says of each block device: `io.max`, `io.latency`, `io.stat` and others.
///
/// It reads and prints as those files do: a line `MAJOR:MINOR VALUE` for each.
///
/// ```
/// use cgroupfs::{DevNum, IoMax, PerDevice};
///
/// let limits: PerDevice<IoMax> = "8:16 rbps=2097152 wbps=max riops=max wiops=120\n".parse()?;
/// let disk: DevNum = "8:16".parse()?;
/// assert_eq!(limits.get(disk).and_then(|limit| limit.wiops), Some(120.into()));
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#io-interface-files>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PerDevice<T> {
    /// By device.
    pub devices: BTreeMap<DevNum, T>,
    /// Of devices that have vanished meanwhile: the kernel has no number for them any more, but the word `(unknown)`.
    pub gone: Vec<T>,
}

/// What the kernel writes in place of a number.
const GONE: &str = "(unknown)";

impl<T> PerDevice<T> {
    /// What is said of `device`.
    #[must_use]
    pub fn get(&self, device: DevNum) -> Option<&T> {
        self.devices.get(&device)
    }

    /// Whether nothing is said of any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty() && self.gone.is_empty()
    }

    /// Adds what one line says. `key` is a device, or the word for one that is gone.
    pub(crate) fn keep(&mut self, key: &str, value: T) -> Result<()> {
        match DevNum::of_numbers(key) {
            Some(device) => _ = self.devices.insert(device, value),
            None if key == GONE => self.gone.push(value),
            None => return Err(Error::parse("parse devices", format!("{key:?} is not MAJOR:MINOR"))),
        }
        Ok(())
    }
}

impl<T> Default for PerDevice<T> {
    fn default() -> Self {
        Self { devices: BTreeMap::new(), gone: Vec::new() }
    }
}

impl<T> FromIterator<(DevNum, T)> for PerDevice<T> {
    fn from_iter<I: IntoIterator<Item = (DevNum, T)>>(devices: I) -> Self {
        Self { devices: devices.into_iter().collect(), gone: Vec::new() }
    }
}

impl<T: FromStr<Err = Error>> FromStr for PerDevice<T> {
    type Err = Error;

    /// Reads what the kernel's file holds. A line that does not begin with a device is an error of kind Parse; a value is
    /// read as `T` is.
    fn from_str(text: &str) -> Result<Self> {
        let mut all = Self::default();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (key, value) = split(line);
            all.keep(key, value.parse()?)?;
        }
        Ok(all)
    }
}

impl<T: fmt::Display> fmt::Display for PerDevice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (device, value) in &self.devices {
            writeln!(f, "{device} {value}")?;
        }
        for value in &self.gone {
            writeln!(f, "{GONE} {value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, IoWeight};
    use proptest::prelude::*;

    #[test]
    fn devices_that_are_gone_are_kept_apart() {
        let read: PerDevice<IoWeight> = "8:0 100\n(unknown) 7\n(unknown) 8\n\n".parse().expect("read");
        assert_eq!((read.devices.len(), read.gone.len()), (1, 2));
        assert_eq!(read.to_string(), "8:0 100\n(unknown) 7\n(unknown) 8\n");
        assert!(PerDevice::<IoWeight>::default().is_empty() && !read.is_empty());
        // A path is not looked up here.
        for text in ["/dev/null 100", "8 100", "sda 100"] {
            assert_eq!(text.parse::<PerDevice<IoWeight>>().expect_err(text).kind(), ErrorKind::Parse);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(
            devices in proptest::collection::btree_map((0u32..1 << 12, 0u32..1 << 20), 1u64..=10_000, 0..8),
            gone in proptest::collection::vec(1u64..=10_000, 0..3),
        ) {
            let weight = |number| IoWeight::try_from(number).unwrap();
            let mut all: PerDevice<IoWeight> = devices
                .into_iter()
                .map(|((major, minor), number)| (DevNum { major, minor }, weight(number)))
                .collect();
            all.gone = gone.into_iter().map(weight).collect();
            prop_assert_eq!(all.to_string().parse::<PerDevice<IoWeight>>().unwrap(), all);
        }
    }
}
