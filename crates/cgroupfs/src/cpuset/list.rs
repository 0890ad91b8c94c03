//! Numbers of processors and of memory nodes, in the kernel's list format.
//!
//! A list is kept as ranges: sorted, apart from each other, none empty. So two lists with the same numbers are equal and
//! print alike, however they were written, and a list costs what its text costs, not what its numbers do.
#![forbid(unsafe_code)]

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::words::is_digits;
use crate::{Error, Result};

/// The most ranges a list may have: `0-4294967295:1/2` would need two thousand million.
const MOST_RANGES: u64 = 1 << 16;

const FORM: &str = "this is not a list such as 0-3,7 or 0-15:2/4";

/// First and last numbers, in order, with a gap between one range and the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    fn new(mut ranges: Vec<(u32, u32)>) -> Self {
        ranges.sort_unstable();
        let mut apart: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match apart.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => apart.push((first, last)),
            }
        }
        Self(apart)
    }

    fn contains(&self, number: u32) -> bool {
        let after = self.0.partition_point(|range| range.0 <= number);
        after.checked_sub(1).and_then(|index| self.0.get(index)).is_some_and(|range| number <= range.1)
    }

    fn len(&self) -> u64 {
        self.0.iter().map(|&(first, last)| u64::from(last - first) + 1).sum()
    }

    fn intersection(&self, other: &Self) -> Self {
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut both = Vec::new();
        while let (Some(&&(first, last)), Some(&&(other_first, other_last))) = (left.peek(), right.peek()) {
            let (from, to) = (first.max(other_first), last.min(other_last));
            if from <= to {
                both.push((from, to));
            }
            // The one that ends first has met all that it can meet.
            if last < other_last {
                left.next()
            } else {
                right.next()
            };
        }
        Self(both)
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let mut ranges = Vec::new();
        // As the kernel: blanks and commas separate, however many.
        for word in text.split(|letter: char| letter == ',' || letter.is_ascii_whitespace()) {
            if !word.is_empty() {
                add_word(&mut ranges, word)?;
            }
            if ranges.len() as u64 > MOST_RANGES {
                return Err("more than 65536 ranges");
            }
        }
        Ok(Self::new(ranges))
    }
}

/// `7`, `0-3`, or `0-15:2/4`: of each four numbers the first two.
fn add_word(ranges: &mut Vec<(u32, u32)>, word: &str) -> Result<(), &'static str> {
    if word.starts_with("all") || word.contains('N') {
        return Err("`all` and `N` mean another list on each machine: give the numbers");
    }
    let (range, groups) = word.split_once(':').map_or((word, None), |(range, groups)| (range, Some(groups)));
    let (first, last) = match range.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        // The kernel takes groups of a range only.
        None if groups.is_some() => return Err(FORM),
        None => (number(range)?, number(range)?),
    };
    if first > last {
        return Err("a range ends before it begins");
    }
    let (used, size) = match groups.map(|groups| groups.split_once('/').ok_or(FORM)) {
        None => (1, 1),
        Some(groups) => {
            let (used, size) = groups?;
            (number(used)?, number(size)?)
        }
    };
    if size == 0 || used > size {
        return Err("of a group of none, or more than all of a group");
    }
    if used == size {
        ranges.push((first, last));
    } else if used > 0 {
        if u64::from(last - first) / u64::from(size) >= MOST_RANGES {
            return Err("more than 65536 ranges");
        }
        let firsts = (first..=last).step_by(usize::try_from(size).unwrap_or(usize::MAX));
        ranges.extend(firsts.map(|first| (first, first.saturating_add(used - 1).min(last))));
    }
    Ok(())
}

fn number(digits: &str) -> Result<u32, &'static str> {
    if !is_digits(digits) {
        return Err(FORM);
    }
    digits.parse().map_err(|_| "a number above 2^32 - 1")
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gap = "";
        for &(first, last) in &self.0 {
            write!(f, "{gap}{first}")?;
            if first < last {
                write!(f, "-{last}")?;
            }
            gap = ",";
        }
        Ok(())
    }
}

macro_rules! list {
    ($(#[$doc:meta])* $name:ident, $parse:literal) => {
        $(#[$doc])*
        #[derive(Clone, Default, PartialEq, Eq, Hash)]
        pub struct $name(Ranges);

        impl $name {
            /// The empty list.
            #[must_use]
            pub fn new() -> Self {
                Self::default()
            }

            /// Whether the number is in it.
            #[must_use]
            pub fn contains(&self, number: u32) -> bool {
                self.0.contains(number)
            }

            /// How many numbers are in it.
            #[must_use]
            pub fn len(&self) -> u64 {
                self.0.len()
            }

            /// Whether there is none in it.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.0.0.is_empty()
            }

            /// The numbers, in order.
            pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
                self.ranges().flatten()
            }

            /// The numbers as ranges, in order, as few as there can be.
            pub fn ranges(&self) -> impl ExactSizeIterator<Item = RangeInclusive<u32>> + '_ {
                self.0.0.iter().map(|&(first, last)| first..=last)
            }

            /// The numbers that are in both.
            #[must_use]
            pub fn intersection(&self, other: &Self) -> Self {
                Self(self.0.intersection(&other.0))
            }

            /// The numbers that are in one of them, or in both.
            #[must_use]
            pub fn union(&self, other: &Self) -> Self {
                Self(Ranges::new(self.0.0.iter().chain(&other.0.0).copied().collect()))
            }

            /// Whether `other` has all that are in this one.
            #[must_use]
            pub fn is_subset(&self, other: &Self) -> bool {
                self.0.intersection(&other.0) == self.0
            }
        }

        impl From<RangeInclusive<u32>> for $name {
            /// The numbers of the range; none when it ends before it begins.
            fn from(range: RangeInclusive<u32>) -> Self {
                let (first, last) = range.into_inner();
                Self(Ranges(if first <= last { vec![(first, last)] } else { Vec::new() }))
            }
        }

        impl FromIterator<u32> for $name {
            fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
                Self(Ranges::new(numbers.into_iter().map(|number| (number, number)).collect()))
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                Ranges::parse(text)
                    .map(Self)
                    .map_err(|why| Error::invalid($parse, why).on(Subject::Value(text.to_owned())))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

list! {
    /// A set of processors, by their numbers: `cpuset.cpus` and its relatives.
    ///
    /// It reads the kernel's list format, with groups (`0-15:2/4`: of each four the first two), and prints as the kernel
    /// does. Text that depends on the machine (`all`, `N`) is refused. There is no greatest processor but 2^32 - 1; which
    /// ones a machine has, the kernel says when the list is written.
    ///
    /// ```
    /// use cgroupfs::CpuList;
    ///
    /// let list: CpuList = "8, 0-3,2-5".parse()?;
    /// assert_eq!(list.to_string(), "0-5,8");
    /// assert_eq!((list.len(), list.contains(4)), (7, true));
    /// assert_eq!("0-7:2/4".parse::<CpuList>()?.to_string(), "0-1,4-5");
    /// assert_eq!(list.intersection(&CpuList::from(4..=9)).to_string(), "4-5,8");
    /// assert_eq!(
    ///     "3-1".parse::<CpuList>().unwrap_err().to_string(),
    ///     r#"parse list of processors "3-1": a range ends before it begins"#
    /// );
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See "List format" in cpuset(7): <https://man7.org/linux/man-pages/man7/cpuset.7.html>.
    CpuList, "parse list of processors"
}

list! {
    /// A set of memory nodes, by their numbers: `cpuset.mems` and `cpuset.mems.effective`.
    ///
    /// It reads and prints as a [`CpuList`] does.
    ///
    /// ```
    /// use cgroupfs::MemNodeList;
    ///
    /// assert_eq!("1,0".parse::<MemNodeList>()?.to_string(), "0-1");
    /// assert!("\n".parse::<MemNodeList>()?.is_empty());
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See "List format" in cpuset(7): <https://man7.org/linux/man-pages/man7/cpuset.7.html>.
    MemNodeList, "parse list of memory nodes"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ErrorKind;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn what_the_kernel_reads() {
        for (text, shown) in [
            ("", ""),
            ("\n", ""),
            ("0", "0"),
            ("0-3,7\n", "0-3,7"),
            ("7,0-3", "0-3,7"),
            ("0-3 7", "0-3,7"),
            (",,1,,2,", "1-2"),
            ("1,1,1", "1"),
            ("0-1,1-2,3", "0-3"),
            ("0-3:2/4", "0-1"),
            ("0-15:2/4", "0-1,4-5,8-9,12-13"),
            ("0-16:2/4", "0-1,4-5,8-9,12-13,16"),
            ("0-9:0/4", ""),
            ("0-9:4/4", "0-9"),
            ("5-5:1/3", "5"),
            ("1023-1024,8191", "1023-1024,8191"),
            ("0-4294967295", "0-4294967295"),
            ("4294967290-4294967295:4/5", "4294967290-4294967293,4294967295"),
        ] {
            assert_eq!(text.parse::<CpuList>().expect(text).to_string(), shown, "{text}");
            assert_eq!(text.parse::<MemNodeList>().expect(text).to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_is_refused_and_why() {
        for (text, why) in [
            ("a", "not a list"),
            ("-1", "not a list"),
            ("1-", "not a list"),
            ("1--2", "not a list"),
            ("+1", "not a list"),
            ("0x1", "not a list"),
            ("1\0", "not a list"),
            ("3:1/2", "not a list"),
            ("0-3:", "not a list"),
            ("0-3:1", "not a list"),
            ("0-3:1/", "not a list"),
            ("0-3:1/2/3", "not a list"),
            ("3-1", "ends before"),
            ("0-3:1/0", "group"),
            ("0-3:3/2", "group"),
            ("all", "each machine"),
            ("0-N", "each machine"),
            ("4294967296", "2^32"),
            ("0-4294967295:1/2", "65536"),
        ] {
            let error = text.parse::<CpuList>().expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{text}");
            assert!(error.to_string().contains(why), "{text}: {error}");
            assert_eq!(error.to_string().lines().count(), 1);
        }
        assert!("0-131071:1/2".parse::<CpuList>().is_ok());
        assert!("0-131072:1/2,7,9,11".parse::<CpuList>().is_err());
    }

    proptest! {
        #[test]
        fn lists_are_sets(left in vec(0u32..80, 0..40), right in vec(0u32..80, 0..40)) {
            let sets: [BTreeSet<u32>; 2] = [left.iter().copied().collect(), right.iter().copied().collect()];
            let lists: [CpuList; 2] = [left.into_iter().collect(), right.into_iter().collect()];
            for (set, list) in sets.iter().zip(&lists) {
                prop_assert!(list.iter().eq(set.iter().copied()));
                prop_assert_eq!(list.len(), set.len() as u64);
                prop_assert_eq!(&list.to_string().parse::<CpuList>().unwrap(), list);
                prop_assert!((0..90).all(|number| list.contains(number) == set.contains(&number)));
                // As few ranges as there can be.
                let ranges: Vec<_> = list.ranges().collect();
                prop_assert!(ranges.windows(2).all(|two| two[0].end() + 1 < *two[1].start()));
            }
            let both: CpuList = (&sets[0] & &sets[1]).into_iter().collect();
            let any: CpuList = (&sets[0] | &sets[1]).into_iter().collect();
            prop_assert_eq!(lists[0].intersection(&lists[1]), both);
            prop_assert_eq!(lists[0].union(&lists[1]), any);
            prop_assert_eq!(lists[0].is_subset(&lists[1]), sets[0].is_subset(&sets[1]));
        }

        #[test]
        fn groups_are_what_they_say(first in 0u32..50, more in 0u32..100, size in 1u32..9, used in 0u32..9) {
            let used = used.min(size);
            let list: CpuList = format!("{first}-{}:{used}/{size}", first + more).parse().unwrap();
            let wanted = (first..=first + more).filter(|number| (number - first) % size < used);
            prop_assert!(list.iter().eq(wanted));
        }

        #[test]
        fn no_text_panics(text in "\\PC*", list in "[0-9,:/ -]{0,40}") {
            let _ = (text.parse::<CpuList>(), list.parse::<MemNodeList>());
        }
    }
}
