//! Files with a line for each device, resource or region: those of `rdma`, `misc` and `dmem`.
#![forbid(unsafe_code)]

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::words::split;
use crate::{Error, Result};

/// The name of an RDMA device (`mlx5_0`), a resource of `misc` (`sev_es`) or a region of device memory
/// (`drm/0000:03:00.0/vram0`): one word, as the first of a line.
///
/// ```
/// use cgroupfs::ResourceName;
///
/// assert_eq!(ResourceName::new("mlx5_0")?.as_str(), "mlx5_0");
/// assert!(ResourceName::new("two words").is_err());
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#rdma>.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceName(String);

impl ResourceName {
    /// The most bytes it may have; no name of the kernel is as long.
    pub const MOST_BYTES: usize = 255;

    /// Takes `name`.
    ///
    /// # Errors
    /// Invalid when it is empty or too long, or has blanks or control characters in it, which would make it two words or
    /// two lines.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let why = if name.is_empty() {
            "empty, but the kernel names every resource"
        } else if name.len() > Self::MOST_BYTES {
            "more than 255 bytes"
        } else if name.chars().any(|letter| letter.is_whitespace() || letter.is_control()) {
            "a name has no blanks or control characters in it"
        } else {
            return Ok(Self(name));
        };
        Err(Error::invalid("name of a resource", why).on(Subject::Value(name)))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ResourceName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for ResourceName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// For looking one up by its text.
impl Borrow<str> for ResourceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A file with a line for each resource: its name, and a value. Resources with nothing to say are absent, as in the file.
///
/// ```
/// use cgroupfs::{Bytes, Max, PerResource};
///
/// let limits: PerResource<Max<u64>> = "sev 15\nsev_es max\n".parse()?;
/// assert_eq!(limits.get("sev"), Some(&Max::Value(15)));
/// let regions: PerResource<Bytes> = "drm/0000:03:00.0/vram0 8514437120\n".parse()?;
/// assert_eq!(regions.iter().count(), 1);
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#misc-interface-files>.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerResource<T>(pub BTreeMap<ResourceName, T>);

impl<T> PerResource<T> {
    /// The value of the resource of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&T> {
        self.0.get(name)
    }

    /// The resources, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&ResourceName, &T)> {
        self.0.iter()
    }
}

impl<T> Default for PerResource<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> FromIterator<(ResourceName, T)> for PerResource<T> {
    fn from_iter<I: IntoIterator<Item = (ResourceName, T)>>(lines: I) -> Self {
        Self(lines.into_iter().collect())
    }
}

impl<T: fmt::Display> fmt::Display for PerResource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| writeln!(f, "{name} {value}"))
    }
}

impl<T: FromStr> FromStr for PerResource<T> {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let line = |line: &str| {
            // A value may be empty, as one that limits nothing is.
            let (name, value) = split(line);
            Some((ResourceName::new(name).ok()?, value.parse().ok()?))
        };
        text.lines()
            .map(|text| text.trim_matches(|letter| letter == '\0' || letter == ' '))
            .filter(|text| !text.is_empty())
            .map(|text| {
                line(text).ok_or_else(|| Error::parse("parse file of resources", format!("{text:?} is not NAME VALUE")))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bytes, ErrorKind, Max};
    use proptest::collection::btree_map;
    use proptest::prelude::*;

    #[test]
    fn names_that_are_more_than_a_word() {
        for name in ["", " ", "a b", "a\n", "a\0", "a\tb", "\u{2028}", &"x".repeat(256)] {
            assert_eq!(ResourceName::new(name).expect_err("no name").kind(), ErrorKind::Invalid, "{name:?}");
        }
        assert!(ResourceName::new("x".repeat(255)).is_ok());
    }

    #[test]
    fn what_is_no_such_file() {
        for text in ["sev", "sev x", "sev 1 2", "sev -1", "sev 18446744073709551616"] {
            assert_eq!(text.parse::<PerResource<Max<u64>>>().expect_err(text).kind(), ErrorKind::Parse);
        }
        assert_eq!("\n\0".parse::<PerResource<Bytes>>().expect("empty"), PerResource::default());
    }

    #[test]
    fn a_value_that_limits_nothing() {
        let text = "mlx5_0 \n";
        let file = text.parse::<PerResource<crate::RdmaLimit>>().expect("nothing is limited");
        assert_eq!(file.to_string(), text);
        assert_eq!("mlx5_0".parse::<PerResource<crate::RdmaLimit>>().expect("without a blank"), file);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(
            lines in btree_map("[a-z0-9_:./]{1,20}", proptest::option::of(any::<u64>()), 0..6),
        ) {
            let value = |value: Option<u64>| value.map_or(Max::Max, Max::Value);
            let file: PerResource<Max<u64>> =
                lines.into_iter().map(|(name, limit)| (ResourceName::new(name).unwrap(), value(limit))).collect();
            prop_assert_eq!(file.to_string().parse::<PerResource<Max<u64>>>().unwrap(), file);
        }

        #[test]
        fn no_text_panics(text in "\\PC*", near in "[a-c 0-9\n=max]{0,60}") {
            let _ = (text.parse::<PerResource<Bytes>>(), near.parse::<PerResource<Max<u64>>>());
        }
    }
}
