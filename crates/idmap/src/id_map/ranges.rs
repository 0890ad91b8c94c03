//! Sets of ids: which ids a map has on each side, and maps cut down to some.
#![forbid(unsafe_code)]

use super::IdMap;
use super::meet::meet;
use crate::{Extent, IdRange};

/// The last id there is: 4294967295 means "no id".
const LAST: u32 = u32::MAX - 1;

impl IdMap {
    /// The ids inside that are mapped, lowest first, as the fewest ranges there can be. O(n).
    ///
    /// ```
    /// use idmap::IdMap;
    ///
    /// let map: IdMap = "0:1000:1,1:100000:65536".parse()?;
    /// let text = |ranges: Vec<idmap::IdRange>| ranges.iter().map(ToString::to_string).collect::<Vec<_>>();
    /// assert_eq!(text(map.ranges_inside()), ["0:65537"]);
    /// assert_eq!(text(map.ranges_outside()), ["1000:1", "100000:65536"]);
    /// assert_eq!(text(map.unmapped_inside()), ["65537:4294901758"]);
    /// assert_eq!(text(map.unmapped_outside()), ["0:1000", "1001:98999", "165536:4294801759"]);
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[must_use]
    pub fn ranges_inside(&self) -> Vec<IdRange> {
        union(self.by_inside.iter().map(|extent| extent.range_inside()).collect())
    }

    /// The ids outside that are mapped, lowest first, as the fewest ranges there can be. O(n).
    #[must_use]
    pub fn ranges_outside(&self) -> Vec<IdRange> {
        union(self.by_outside.iter().map(|extent| extent.range_outside()).collect())
    }

    /// The gaps inside: the ids from 0 to 4294967294 that are not mapped. A process cannot have one of them, and no
    /// file can get it. O(n).
    #[must_use]
    pub fn unmapped_inside(&self) -> Vec<IdRange> {
        complement(&self.ranges_inside())
    }

    /// The gaps outside: the ids from 0 to 4294967294 that nobody is inside. A file of one of them shows as the
    /// [overflow id](crate::OverflowIds) there. O(n).
    #[must_use]
    pub fn unmapped_outside(&self) -> Vec<IdRange> {
        complement(&self.ranges_outside())
    }

    /// Only what is mapped of these ids inside. The ranges may overlap and be in any order. O((n + m) log (n + m)).
    ///
    /// ```
    /// use idmap::{IdMap, IdRange};
    ///
    /// let map: IdMap = "0:100000:65536".parse()?;
    /// let system = IdRange::new(0, 1000)?;
    /// assert_eq!(map.only_inside([system]).to_string(), "0 100000 1000\n");
    /// assert_eq!(map.without_inside([system]).to_string(), "1000 101000 64536\n");
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[must_use]
    pub fn only_inside(&self, ranges: impl IntoIterator<Item = IdRange>) -> Self {
        self.parts_inside(&union(ranges.into_iter().collect()))
    }

    /// Only what is mapped to these ids outside. The ranges may overlap and be in any order. O((n + m) log (n + m)).
    ///
    /// ```
    /// use idmap::{Caller, IdMap, SubIds};
    ///
    /// // As much of a map as the caller's ranges in /etc/subuid allow.
    /// let map: IdMap = "0:100000:65536".parse()?;
    /// let subids = SubIds::of(&Caller::current()?)?;
    /// let allowed = map.only_outside(subids.uids().iter().copied());
    /// assert!(allowed.count() <= map.count());
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[must_use]
    pub fn only_outside(&self, ranges: impl IntoIterator<Item = IdRange>) -> Self {
        self.parts_outside(&union(ranges.into_iter().collect()))
    }

    /// The map without these ids inside. The ranges may overlap and be in any order. O((n + m) log (n + m)).
    #[must_use]
    pub fn without_inside(&self, ranges: impl IntoIterator<Item = IdRange>) -> Self {
        self.parts_inside(&complement(&union(ranges.into_iter().collect())))
    }

    /// The map without these ids outside. The ranges may overlap and be in any order. O((n + m) log (n + m)).
    ///
    /// ```
    /// use idmap::{IdMap, IdRange};
    ///
    /// // Whatever else is mapped, root of the machine is not.
    /// let map: IdMap = "0:0:65536".parse()?;
    /// assert_eq!(map.without_outside([IdRange::new(0, 1)?]).to_string(), "1 1 65535\n");
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[must_use]
    pub fn without_outside(&self, ranges: impl IntoIterator<Item = IdRange>) -> Self {
        self.parts_outside(&complement(&union(ranges.into_iter().collect())))
    }

    /// The parts below `first` inside, and those from it on. An extent that has both is cut. O(n log n).
    ///
    /// ```
    /// use idmap::IdMap;
    ///
    /// let map: IdMap = "0:100000:65536".parse()?;
    /// let (system, users) = map.split_inside(1000);
    /// assert_eq!(system.to_string(), "0 100000 1000\n");
    /// assert_eq!(users.to_string(), "1000 101000 64536\n");
    /// assert_eq!(system.union(&users)?.normalise(), map);
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[must_use]
    pub fn split_inside(&self, first: u32) -> (Self, Self) {
        let below = IdRange::between(0, first);
        (self.only_inside(below), self.without_inside(below))
    }

    /// The parts below `first` outside, and those from it on. An extent that has both is cut. O(n log n).
    #[must_use]
    pub fn split_outside(&self, first: u32) -> (Self, Self) {
        let below = IdRange::between(0, first);
        (self.only_outside(below), self.without_outside(below))
    }

    /// The map that takes each of these ids to itself: what a namespace has whose ids are those of its parent.
    ///
    /// ```
    /// use idmap::{IdMap, IdRange};
    ///
    /// let map = IdMap::identity_on([IdRange::new(1000, 10)?, IdRange::new(1005, 10)?]);
    /// assert_eq!(map.to_string(), "1000 1000 15\n");
    /// assert!(map.is_identity());
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[must_use]
    pub fn identity_on(ranges: impl IntoIterator<Item = IdRange>) -> Self {
        let ranges = union(ranges.into_iter().collect());
        let same = |range: &IdRange| Extent::identity_on(*range);
        Self::of_apart(ranges.iter().map(same).collect())
    }

    fn parts_inside(&self, ranges: &[IdRange]) -> Self {
        let parts = meet(&self.by_inside, Extent::range_inside, ranges, |range| range);
        Self::of_apart(parts.map(|(extent, _, part)| extent.part_inside(part)).collect())
    }

    pub(super) fn parts_outside(&self, ranges: &[IdRange]) -> Self {
        let parts = meet(&self.by_outside, Extent::range_outside, ranges, |range| range);
        Self::of_apart(parts.map(|(extent, _, part)| extent.part_outside(part)).collect())
    }
}

/// The same ids, sorted, and as the fewest ranges there can be.
fn union(mut ranges: Vec<IdRange>) -> Vec<IdRange> {
    ranges.sort_unstable();
    ranges.dedup_by(|next, range| {
        let touches = next.start() <= range.end();
        if touches {
            let end = range.end().max(next.end());
            *range = IdRange::between(range.start(), end).unwrap_or(*range);
        }
        touches
    });
    ranges
}

/// The ids that none of these ranges has, which are sorted and apart.
fn complement(ranges: &[IdRange]) -> Vec<IdRange> {
    let starts = std::iter::once(0).chain(ranges.iter().map(|range| range.end()));
    let ends = ranges.iter().map(|range| range.start()).chain(std::iter::once(LAST + 1));
    starts.zip(ends).filter_map(|(start, end)| IdRange::between(start, end)).collect()
}
