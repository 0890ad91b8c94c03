//! What a line of `rdma.max` and `rdma.current` says of a device.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::count::bounded;
use crate::{Error, Max, Result};

const PARSE: &str = "parse rdma limit";

bounded! {
    /// How many of a resource of an RDMA device. The kernel counts in a signed number of 32 bits, whose greatest value is
    /// its `max`.
    ///
    /// ```
    /// use cgroupfs::RdmaCount;
    ///
    /// assert_eq!(RdmaCount::try_from(2000)?.get(), 2000);
    /// assert!(RdmaCount::try_from(1 << 31).is_err());
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#rdma-interface-files>.
    RdmaCount(u32), 0..=2147483646, "parse rdma limit"
}

/// What a group may have of one RDMA device: a line of `rdma.max` without its name.
///
/// What is `None` is left as it is when the limit is written.
///
/// ```
/// use cgroupfs::{Max, RdmaCount, RdmaLimit};
///
/// let limit = RdmaLimit { hca_handle: Some(RdmaCount::try_from(2)?.into()), ..RdmaLimit::default() };
/// assert_eq!(limit.to_string(), "hca_handle=2");
/// assert_eq!("hca_handle=2 hca_object=max".parse::<RdmaLimit>()?.hca_object, Some(Max::Max));
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#rdma-interface-files>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RdmaLimit {
    /// Opened handles on the device.
    pub hca_handle: Option<Max<RdmaCount>>,
    /// Objects on it, such as queue pairs and memory regions.
    pub hca_object: Option<Max<RdmaCount>>,
    /// Resources that this version of the library does not know.
    pub other: BTreeMap<String, Max<RdmaCount>>,
}

impl RdmaLimit {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it limits nothing.
    pub(crate) fn limits_nothing(&self) -> bool {
        let known = [self.hca_handle, self.hca_object].into_iter().flatten();
        known.chain(self.other.values().copied()).all(|limit| limit.is_max())
    }
}

impl fmt::Display for RdmaLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = [("hca_handle", self.hca_handle), ("hca_object", self.hca_object)];
        let known = known.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let mut gap = "";
        for (key, value) in known.chain(self.other.iter().map(|(key, value)| (key.as_str(), *value))) {
            write!(f, "{gap}{key}={value}")?;
            gap = " ";
        }
        Ok(())
    }
}

impl FromStr for RdmaLimit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut limit = Self::default();
        for word in text.split_ascii_whitespace() {
            let unreadable = || Error::parse(PARSE, format!("{word:?} is not RESOURCE=NUMBER"));
            let (key, value) = word.split_once('=').ok_or_else(unreadable)?;
            let value = value.parse::<Max<RdmaCount>>().map_err(|_| unreadable())?;
            match key {
                "hca_handle" => limit.hca_handle = Some(value),
                "hca_object" => limit.hca_object = Some(value),
                "" => return Err(unreadable()),
                key => drop(limit.other.insert(key.to_owned(), value)),
            }
        }
        Ok(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, PerResource};
    use proptest::prelude::*;

    #[test]
    fn the_file_of_the_kernels_documentation() {
        let text = "mlx4_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=3 hca_object=max\n";
        let file: PerResource<RdmaLimit> = text.parse().expect("rdma.max");
        let limit = file.get("ocrdma1").expect("a device");
        assert_eq!((limit.hca_handle, limit.hca_object), (Some(RdmaCount(3).into()), Some(Max::Max)));
        assert_eq!(file.to_string(), text);
        let next: RdmaLimit = "hca_handle=1 hca_wish=2".parse().expect("a newer kernel");
        assert_eq!(next.other["hca_wish"], Max::Value(RdmaCount(2)));
        for text in ["hca_handle", "hca_handle=", "hca_handle=-1", "hca_handle=2147483647", "=1"] {
            assert_eq!(text.parse::<RdmaLimit>().expect_err(text).kind(), ErrorKind::Parse);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(handle in 0u32..=2147483646, object in proptest::option::of(0u32..=2147483646)) {
            let limit = RdmaLimit {
                hca_handle: Some(Max::Value(RdmaCount(handle))),
                hca_object: object.map(|object| Max::Value(RdmaCount(object))),
                other: BTreeMap::new(),
            };
            prop_assert_eq!(limit.to_string().parse::<RdmaLimit>().unwrap(), limit);
        }

        #[test]
        fn no_text_panics(text in "\\PC*", near in "(hca_handle|x)?=?(max|[0-9]{0,11})") {
            let _ = (text.parse::<RdmaLimit>(), near.parse::<RdmaLimit>());
        }
    }
}
