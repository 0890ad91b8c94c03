//! One line of an id map.
#![forbid(unsafe_code)]

use std::fmt;

use cellkit_core::{Error, Result, Subject};

use crate::IdRange;

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
    /// Every id to itself.
    pub(crate) const ALL: Self = Self { inside: 0, outside: 0, count: u32::MAX };

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

    /// The ids in the namespace.
    ///
    /// ```
    /// let extent = idmap::Extent::new(0, 100_000, 65_536)?;
    /// assert_eq!(extent.range_inside().last(), 65_535);
    /// assert_eq!(extent.range_outside().last(), 165_535);
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[must_use]
    pub fn range_inside(self) -> IdRange {
        IdRange::of_extent(self.inside, self.count)
    }

    /// The ids in the parent namespace.
    #[must_use]
    pub fn range_outside(self) -> IdRange {
        IdRange::of_extent(self.outside, self.count)
    }

    /// The same ids with the sides exchanged.
    ///
    /// ```
    /// use idmap::Extent;
    ///
    /// assert_eq!(Extent::new(0, 100_000, 65_536)?.invert(), Extent::new(100_000, 0, 65_536)?);
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[must_use]
    pub fn invert(self) -> Self {
        Self { inside: self.outside, outside: self.inside, count: self.count }
    }

    /// Each id of the range to itself.
    pub(crate) fn identity_on(range: IdRange) -> Self {
        Self::beside(range, range.start())
    }

    /// The ids of `inside` to as many from `outside` on, which are ids.
    pub(crate) fn beside(inside: IdRange, outside: u32) -> Self {
        Self { inside: inside.start(), outside, count: inside.count() }
    }

    /// The part of this extent with these ids inside, all of which it has.
    pub(crate) fn part_inside(self, part: IdRange) -> Self {
        let outside = self.outside + (part.start() - self.inside);
        Self { inside: part.start(), outside, count: part.count() }
    }

    /// The part of this extent with these ids outside, all of which it has.
    pub(crate) fn part_outside(self, part: IdRange) -> Self {
        self.invert().part_inside(part).invert()
    }

    /// Whether both map an id that they share to the same id. Modulo 2^32 is enough: two ids that one id could be mapped
    /// to are less than that apart.
    pub(crate) fn is_parallel_to(self, other: Self) -> bool {
        self.outside.wrapping_sub(self.inside) == other.outside.wrapping_sub(other.inside)
    }

    /// One extent for the two, when `next` begins where this one ends, on both sides.
    pub(crate) fn join(self, next: Self) -> Option<Self> {
        let touches = self.range_inside().end() == next.inside && self.range_outside().end() == next.outside;
        // Both ends are ids, so that the sum is no more than one of them.
        touches.then(|| Self { count: self.count + next.count, ..self })
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
