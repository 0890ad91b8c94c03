//! One line of an id map.
#![forbid(unsafe_code)]

use std::fmt;

use cellkit_core::{Error, Result, Subject};

/// One line of an id map: `count` ids from `inside` in the namespace are the ids from `outside` in its parent.
///
/// It cannot be wrong: the count is not zero, and neither side reaches 4294967295, which the kernel keeps for "no id".
///
/// ```
/// use idmap::Extent;
///
/// let extent = Extent::new(0, 100_000, 65_536)?;
/// assert_eq!(extent.to_string(), "0 100000 65536");
/// assert!(Extent::new(0, 4_294_967_000, 1_000).is_err());
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// See user_namespaces(7), "User and group ID mappings":
/// <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    inside: u32,
    outside: u32,
    count: u32,
}

impl Extent {
    /// Maps `count` ids: `inside` to `outside`, and so on upwards.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](cellkit_core::ErrorKind::Invalid) when `count` is 0, or when a side would reach
    /// 4294967295.
    pub fn new(inside: u32, outside: u32, count: u32) -> Result<Self> {
        Self::checked(inside, outside, count)
            .map_err(|why| Error::invalid("id map", why).on(Subject::Value(format!("{inside}:{outside}:{count}"))))
    }

    /// As [`new`](Self::new), for those who know better what the extent was read from.
    pub(crate) fn checked(inside: u32, outside: u32, count: u32) -> Result<Self, String> {
        if count == 0 {
            return Err("the count is 0: an extent has at least one id".into());
        }
        for (side, first) in [("inside", inside), ("outside", outside)] {
            if first.checked_add(count).is_none() {
                return Err(format!("{count} ids from {first} {side} go beyond 4294967294, the last id there is"));
            }
        }
        Ok(Self { inside, outside, count })
    }

    /// The first id in the namespace.
    #[must_use]
    pub fn inside(self) -> u32 {
        self.inside
    }

    /// The first id in the parent namespace.
    #[must_use]
    pub fn outside(self) -> u32 {
        self.outside
    }

    /// How many ids there are, at least one.
    #[must_use]
    pub fn count(self) -> u32 {
        self.count
    }

    /// The same ids, as a user writes them: `0:100000:65536`.
    pub(crate) fn colons(self) -> String {
        format!("{}:{}:{}", self.inside, self.outside, self.count)
    }

    /// How many bytes the line takes in the kernel's file, with its newline.
    pub(crate) fn line_len(self) -> usize {
        [self.inside, self.outside, self.count].into_iter().map(|number| digits(number) + 1).sum()
    }
}

fn digits(number: u32) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

impl fmt::Display for Extent {
    /// The kernel's line, without the newline: `0 100000 65536`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.inside, self.outside, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_line_is_that_of_its_text() {
        for inside in [0, 1, 9, 10, 99, 100, 999_999_999, 1_000_000_000, u32::MAX - 1] {
            let extent = Extent::new(inside, u32::MAX - 1 - inside, 1).expect("extent");
            assert_eq!(extent.line_len(), format!("{extent}\n").len(), "{extent}");
        }
    }

    #[test]
    fn the_edges_of_u32_are_the_kernels() {
        assert!(Extent::new(0, 0, u32::MAX).is_ok(), "the map of the initial namespace");
        assert!(Extent::new(u32::MAX - 1, 0, 1).is_ok());
        for (inside, outside, count) in
            [(u32::MAX, 0, 1), (0, u32::MAX, 1), (1, 0, u32::MAX), (0, 1, u32::MAX), (0, 0, 0)]
        {
            let error = Extent::new(inside, outside, count).expect_err("out of range");
            assert_eq!(error.kind(), cellkit_core::ErrorKind::Invalid);
            assert!(error.to_string().starts_with(&format!("id map \"{inside}:{outside}:{count}\": ")), "{error}");
        }
    }
}
