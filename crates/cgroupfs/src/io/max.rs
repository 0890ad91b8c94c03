//! Limits of one block device: `io.max`.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::words::is_digits;
use crate::{Bytes, Error, Max, Result};

/// What a group may do to one block device in a second: a line of `io.max`. What is `None` stays as it is.
///
/// It prints and reads as the file does, without the device: `rbps=2097152 wiops=120`. The least limit is 1, and 2 on Linux
/// 5.10 to 6.12; operations from 4294967295 a second are no limit.
///
/// ```
/// use cgroupfs::{Bytes, IoMax, Max};
///
/// let limit = IoMax { rbps: Some(Bytes::mib(2).into()), wiops: Some(Max::Value(120)), ..IoMax::default() };
/// assert_eq!(limit.to_string(), "rbps=2097152 wiops=120");
/// assert_eq!("rbps=2097152 wiops=120".parse::<IoMax>()?, limit);
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#io-interface-files>.
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

    /// The key whose limit every kernel refuses, if there is one.
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
                digits if is_digits(digits) => {
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
        fn what_is_printed_is_read(bytes in (limit(), limit()), riops in limit(), wiops in limit()) {
            let typed = |limit: Option<Max<u64>>| limit.map(|limit| match limit {
                Max::Value(number) => Max::Value(Bytes(number)),
                Max::Max => Max::Max,
            });
            let limit = IoMax { rbps: typed(bytes.0), wbps: typed(bytes.1), riops, wiops };
            prop_assert_eq!(limit.to_string().parse::<IoMax>().unwrap(), limit);
        }
    }
}
