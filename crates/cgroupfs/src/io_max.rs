//! Limits of one block device: `io.max`.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::{Bytes, Error, Max, Result};

/// A block device by its numbers, as the kernel's files name it: `8:0`.
///
/// ```
/// use cgroupfs::DevNum;
///
/// let disk: DevNum = "8:16".parse()?;
/// assert_eq!((disk.major, disk.minor), (8, 16));
/// assert_eq!(disk.to_string(), "8:16");
/// // A path is looked up; a file that is no block device is refused.
/// assert!(DevNum::of_path("/dev/null").is_err());
/// # Ok::<(), cgroupfs::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DevNum {
    /// Which driver: 12 bits.
    pub major: u32,
    /// Which of its devices: 20 bits.
    pub minor: u32,
}

impl DevNum {
    /// stat(2): the numbers of the block device at `path`.
    ///
    /// # Errors
    /// The errno of stat(2); Invalid when it is no block device.
    pub fn of_path(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let found = std::fs::metadata(path).map_err(|error| Error::from_io("stat", &error).on(path))?;
        if !found.file_type().is_block_device() {
            return Err(Error::invalid("stat", "this is not a block device").on(path));
        }
        Ok(Self { major: libc::major(found.rdev()), minor: libc::minor(found.rdev()) })
    }
}

impl fmt::Display for DevNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl FromStr for DevNum {
    type Err = Error;

    /// `MAJOR:MINOR`, or the path of a block device, which begins with `/` and is looked up.
    fn from_str(text: &str) -> Result<Self> {
        if text.starts_with('/') {
            return Self::of_path(text);
        }
        let number = |word: &str, bits: u32| match word.parse::<u32>() {
            Ok(number) if word.bytes().all(|byte| byte.is_ascii_digit()) && number < 1 << bits => Some(number),
            _ => None,
        };
        let (major, minor) = text.trim().split_once(':').unwrap_or_default();
        match (number(major, 12), number(minor, 20)) {
            (Some(major), Some(minor)) => Ok(Self { major, minor }),
            _ => Err(Error::invalid("parse device", "neither MAJOR:MINOR nor the path of a block device")
                .on(Subject::Value(text.to_owned()))),
        }
    }
}

/// What a group may do to one block device in a second: a line of `io.max`. What is `None` stays as it is.
///
/// It prints and reads as the file does, without the device: `rbps=2097152 wiops=120`.
///
/// ```
/// use cgroupfs::{Bytes, IoMax, Max};
///
/// let limit = IoMax { rbps: Some(Bytes::mib(2).into()), wiops: Some(Max::Value(120)), ..IoMax::default() };
/// assert_eq!(limit.to_string(), "rbps=2097152 wiops=120");
/// assert_eq!("rbps=2097152 wiops=120".parse::<IoMax>()?, limit);
/// # Ok::<(), cgroupfs::Error>(())
/// ```
// Not #[non_exhaustive]: the four keys are what a struct literal is for, and a fifth would be a new file's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct IoMax {
    /// Bytes read.
    pub rbps: Option<Max<Bytes>>,
    /// Bytes written.
    pub wbps: Option<Max<Bytes>>,
    /// Read operations.
    pub riops: Option<Max<u64>>,
    /// Write operations.
    pub wiops: Option<Max<u64>>,
}

impl IoMax {
    /// The four keys in the kernel's order, as numbers.
    fn keys(&self) -> [(&'static str, Option<Max<u64>>); 4] {
        let number = |limit: Option<Max<Bytes>>| {
            limit.map(|limit| match limit {
                Max::Value(bytes) => Max::Value(bytes.0),
                Max::Max => Max::Max,
            })
        };
        [("rbps", number(self.rbps)), ("wbps", number(self.wbps)), ("riops", self.riops), ("wiops", self.wiops)]
    }

    /// This, with what `other` says laid over it.
    pub(crate) fn merge(self, other: Self) -> Self {
        Self {
            rbps: other.rbps.or(self.rbps),
            wbps: other.wbps.or(self.wbps),
            riops: other.riops.or(self.riops),
            wiops: other.wiops.or(self.wiops),
        }
    }

    /// Whether it limits nothing.
    pub(crate) fn limits_nothing(&self) -> bool {
        self.keys().iter().all(|(_, limit)| matches!(limit, None | Some(Max::Max)))
    }

    /// The key whose limit the kernel would refuse, if there is one.
    pub(crate) fn zero(&self) -> Option<&'static str> {
        self.keys().iter().find(|(_, limit)| *limit == Some(Max::Value(0))).map(|(key, _)| *key)
    }
}

impl fmt::Display for IoMax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gap = "";
        for (key, limit) in self.keys() {
            if let Some(limit) = limit {
                write!(f, "{gap}{key}={limit}")?;
                gap = " ";
            }
        }
        Ok(())
    }
}

impl FromStr for IoMax {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why| Error::invalid("parse io.max", why).on(Subject::Value(text.to_owned()));
        let mut limit = Self::default();
        for word in text.split_ascii_whitespace() {
            let (key, value) = word.split_once('=').ok_or_else(|| invalid("a word without ="))?;
            let value = match value {
                "max" => Max::Max,
                digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                    Max::Value(digits.parse().map_err(|_| invalid("a value is not a number below 2^64"))?)
                }
                _ => return Err(invalid("a value is neither a number nor max")),
            };
            let bytes = match value {
                Max::Value(number) => Max::Value(Bytes(number)),
                Max::Max => Max::Max,
            };
            match key {
                "rbps" => limit.rbps = Some(bytes),
                "wbps" => limit.wbps = Some(bytes),
                "riops" => limit.riops = Some(value),
                "wiops" => limit.wiops = Some(value),
                _ => return Err(invalid("a key is none of rbps, wbps, riops, wiops")),
            }
        }
        Ok(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn devices_that_are_none() {
        for text in ["", "8", "8:", ":0", "-1:0", "+8:0", "8:0:0", "4096:0", "8:1048576", "sda", "8:\0"] {
            assert_eq!(text.parse::<DevNum>().expect_err(text).kind(), ErrorKind::Invalid, "{text}");
        }
        assert_eq!("/dev/null".parse::<DevNum>().expect_err("a character device").kind(), ErrorKind::Invalid);
        assert_eq!("/dev/no-such-disk".parse::<DevNum>().expect_err("nothing").kind(), ErrorKind::NotFound);
        assert_eq!("/dev/x\0y".parse::<DevNum>().expect_err("NUL").to_string().lines().count(), 1);
    }

    #[test]
    fn later_keys_win_and_others_stay() {
        let read: IoMax = "rbps=1 riops=2".parse().expect("read");
        let write: IoMax = "wbps=3 rbps=max".parse().expect("write");
        assert_eq!(read.merge(write).to_string(), "rbps=max wbps=3 riops=2");
        assert!(!read.limits_nothing());
        assert!("rbps=max".parse::<IoMax>().expect("max").limits_nothing());
        assert_eq!("wiops=0".parse::<IoMax>().expect("zero").zero(), Some("wiops"));
        for text in ["rbps", "rbps=", "rbps=-1", "x=1", "rbps=18446744073709551616"] {
            let refused = text.parse::<IoMax>();
            assert_eq!(refused.expect_err(text).kind(), ErrorKind::Invalid);
        }
    }

    fn limit() -> impl Strategy<Value = Option<Max<u64>>> {
        proptest::option::of(prop_oneof![Just(Max::Max), any::<u64>().prop_map(Max::Value)])
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(major in 0u32..1 << 12, minor in 0u32..1 << 20,
                                   bytes in (limit(), limit()), riops in limit(), wiops in limit()) {
            let device = DevNum { major, minor };
            prop_assert_eq!(device.to_string().parse::<DevNum>().unwrap(), device);
            let typed = |limit: Option<Max<u64>>| limit.map(|limit| match limit {
                Max::Value(number) => Max::Value(Bytes(number)),
                Max::Max => Max::Max,
            });
            let limit = IoMax { rbps: typed(bytes.0), wbps: typed(bytes.1), riops, wiops };
            prop_assert_eq!(limit.to_string().parse::<IoMax>().unwrap(), limit);
        }
    }
}
