//! A run of ids.
#![forbid(unsafe_code)]

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use cellkit_core::{Error, Result, Subject};

use crate::decimal;

/// A run of ids, as `/etc/subuid` gives them away: `count` ids from `start` on.
///
/// It cannot be wrong: it is never empty, and never reaches 4294967295, which the kernel keeps for "no id".
///
/// ```
/// use idmap::IdRange;
///
/// let range = IdRange::new(100_000, 65_536)?;
/// assert_eq!((range.start(), range.last(), range.count()), (100_000, 165_535, 65_536));
/// assert!(range.contains(165_535) && !range.contains(165_536));
/// // The text is that of the last two fields of a line of /etc/subuid.
/// assert_eq!("100000:65536".parse::<IdRange>()?, range);
/// assert_eq!(IdRange::try_from(100_000..165_536)?, range);
/// assert!(IdRange::new(4_294_967_295, 1).is_err());
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// See subuid(5): <https://man7.org/linux/man-pages/man5/subuid.5.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdRange {
    start: u32,
    count: u32,
}

impl IdRange {
    /// `count` ids from `start` on.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](cellkit_core::ErrorKind::Invalid) when `count` is 0, or when the range would reach
    /// 4294967295.
    pub fn new(start: u32, count: u32) -> Result<Self> {
        Self::checked(start, count)
            .map_err(|why| Error::invalid("id range", why).on(Subject::Value(format!("{start}:{count}"))))
    }

    fn checked(start: u32, count: u32) -> Result<Self, String> {
        if count == 0 {
            return Err("the count is 0: a range has at least one id".into());
        }
        if start.checked_add(count).is_none() {
            return Err(format!("{count} ids from {start} go beyond 4294967294, the last id there is"));
        }
        Ok(Self { start, count })
    }

    /// One side of an extent, which keeps the same rules.
    pub(crate) fn of_extent(start: u32, count: u32) -> Self {
        Self { start, count }
    }

    /// `start..end`, if that is a run of ids.
    pub(crate) fn between(start: u32, end: u32) -> Option<Self> {
        (start < end).then(|| Self { start, count: end - start })
    }

    /// The first id.
    #[must_use]
    pub fn start(self) -> u32 {
        self.start
    }

    /// The last id, which is in the range.
    #[must_use]
    pub fn last(self) -> u32 {
        self.start + (self.count - 1)
    }

    /// How many ids there are, at least one.
    #[must_use]
    pub fn count(self) -> u32 {
        self.count
    }

    /// Whether `id` is one of them.
    #[must_use]
    pub fn contains(self, id: u32) -> bool {
        // Below the start this wraps to more than any count.
        id.wrapping_sub(self.start) < self.count
    }

    /// One past the last id.
    pub(crate) fn end(self) -> u32 {
        self.start + self.count
    }
}

impl TryFrom<Range<u32>> for IdRange {
    type Error = Error;

    /// # Errors
    /// [`ErrorKind::Invalid`](cellkit_core::ErrorKind::Invalid) for a range that is empty or reversed.
    fn try_from(ids: Range<u32>) -> Result<Self> {
        Self::between(ids.start, ids.end).ok_or_else(|| {
            let why = if ids.start == ids.end { "a range has at least one id" } else { "the range is reversed" };
            Error::invalid("id range", why).on(Subject::Value(format!("{}..{}", ids.start, ids.end)))
        })
    }
}

impl FromStr for IdRange {
    type Err = Error;

    /// Reads `START:COUNT`, both decimal.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](cellkit_core::ErrorKind::Invalid), saying what is wrong.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: String| Error::invalid("id range", why).on(crate::id_map::shown(text));
        let Some((start, count)) = text.split_once(':') else {
            return Err(refuse("a range is two numbers, START:COUNT".into()));
        };
        let number = |text: &str| {
            decimal::parse(text)
                .ok_or_else(|| refuse(format!("{:?} is not a number from 0 to 4294967294", short(text))))
        };
        Self::checked(number(start)?, number(count)?).map_err(refuse)
    }
}

/// As much of a field as is worth repeating.
fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

impl fmt::Display for IdRange {
    /// As the files have it: `100000:65536`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.start, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellkit_core::ErrorKind;

    #[test]
    fn the_edges_of_u32() {
        for (start, count, last) in [(0, u32::MAX, u32::MAX - 1), (u32::MAX - 1, 1, u32::MAX - 1), (0, 1, 0)] {
            let range = IdRange::new(start, count).expect("a range");
            assert_eq!((range.start(), range.count(), range.last()), (start, count, last));
            assert!(range.contains(start) && range.contains(last) && !range.contains(u32::MAX));
            assert_eq!(range.to_string().parse::<IdRange>().expect("its text"), range);
        }
        for (start, count) in [(0, 0), (u32::MAX, 0), (u32::MAX, 1), (1, u32::MAX), (2, u32::MAX - 1)] {
            let error = IdRange::new(start, count).expect_err("no range");
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().starts_with(&format!("id range \"{start}:{count}\": ")), "{error}");
        }
    }

    #[test]
    fn texts_and_bounds_that_are_none() {
        for text in
            ["", "1", "1:", ":1", "1:2:3", "+1:2", "-1:2", "1:0x2", " 1:2", "1:4294967296", "1:0", "4294967295:1"]
        {
            let error = text.parse::<IdRange>().expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
        let error = "9".repeat(1_000_000).parse::<IdRange>().expect_err("long");
        assert!(error.to_string().len() < 300, "{error}");
        assert!(IdRange::try_from(5..5).expect_err("empty").to_string().contains("at least one"));
        // Written as a pair of variables, because clippy knows a reversed range by its look.
        let (high, low) = (6, 5);
        assert!(IdRange::try_from(high..low).expect_err("reversed").to_string().contains("reversed"));
    }
}
