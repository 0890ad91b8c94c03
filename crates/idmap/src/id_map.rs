//! The map of one kind of id.
#![forbid(unsafe_code)]

mod algebra;
mod limits;
mod meet;
mod ranges;
mod text;

use cellkit_core::{Error, Result};

use crate::Extent;
pub(crate) use text::shown;

/// A uid or gid map: which ids of a user namespace are which ids of its parent.
///
/// A user namespace has ids of its own. What its processes are told and may say (getuid, stat, chown, setuid) are ids
/// *inside*; what the machine stores with a file, and checks permissions by, are ids *outside*. The map is all there is
/// between the two, some lines of three numbers:
///
/// ```text
/// inside   outside   count
///      0      1000       1   root of the container is user 1000 of the machine, with that user's rights to files;
///      1    100000   65536   its users 1, 2, 3 … are 100000, 100001, 100002 …, who nobody else is.
/// ```
///
/// A file of any other id outside shows inside as nobody ([`OverflowIds`](crate::OverflowIds)), and any other id inside
/// cannot be used there (EINVAL). A new namespace has no map, and so no ids at all, until one is written: once, and by
/// somebody outside or within narrow limits ([`MapPlan`](crate::MapPlan)). "Outside" is the parent, which may be nested
/// itself: [`through`](Self::through) its map leads further out.
///
/// As a value it is a partial one-to-one function, sorted and without overlap on either side by construction: what breaks
/// that is refused when the value is made. It may be empty and may have any number of extents; the kernel takes fewer in a
/// write, and [`check_writable`](Self::check_writable) says whether these. Extents that touch are kept apart, as the kernel
/// keeps them, and so do not compare equal to one: see [`normalise`](Self::normalise).
///
/// * Files: `/proc/PID/uid_map`, `gid_map` and `projid_map`; [`Display`](std::fmt::Display) is their text.
/// * Privileges: none; this is arithmetic.
///
/// ```
/// use idmap::IdMap;
///
/// let map: IdMap = "0:1000:1,1:100000:65536".parse()?;
/// assert_eq!(map.to_string(), "0 1000 1\n1 100000 65536\n");
/// assert_eq!(map.to_outside(33), Some(100_032));
/// assert_eq!(map.to_inside(100_032), Some(33));
/// assert_eq!(map.to_inside(0), None);
/// assert!("0:1000:10,5:2000:10".parse::<IdMap>().is_err());
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// See user_namespaces(7): <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
#[doc(alias = "uid_map")]
#[doc(alias = "gid_map")]
#[doc(alias = "projid_map")]
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct IdMap {
    by_inside: Vec<Extent>,
    by_outside: Vec<Extent>,
}

impl IdMap {
    /// A map of these extents, whatever their order and number.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](cellkit_core::ErrorKind::Invalid) when two share an id inside or outside.
    ///
    /// ```
    /// use idmap::{Extent, IdMap};
    ///
    /// let map = IdMap::new([Extent::new(1, 100_000, 65_536)?, Extent::new(0, 1_000, 1)?])?;
    /// assert_eq!(map.to_string(), "0 1000 1\n1 100000 65536\n");
    /// # Ok::<(), idmap::Error>(())
    /// ```
    pub fn new(extents: impl IntoIterator<Item = Extent>) -> Result<Self> {
        Self::checked(extents.into_iter().collect()).map_err(|why| Error::invalid("id map", why))
    }

    /// A map of one extent.
    #[must_use]
    pub fn single(extent: Extent) -> Self {
        Self { by_inside: vec![extent], by_outside: vec![extent] }
    }

    /// A map of no id.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// As [`new`](Self::new), for those who know better what the extents were read from.
    fn checked(mut by_inside: Vec<Extent>) -> Result<Self, String> {
        let mut by_outside = by_inside.clone();
        by_inside.sort_unstable_by_key(|extent| extent.inside());
        by_outside.sort_unstable_by_key(|extent| extent.outside());
        overlap(&by_inside, "inside", Extent::inside)?;
        overlap(&by_outside, "outside", Extent::outside)?;
        Ok(Self { by_inside, by_outside })
    }

    /// The id of the parent namespace that `inside` is, if it is mapped. O(log n).
    #[must_use]
    pub fn to_outside(&self, inside: u32) -> Option<u32> {
        let extent = holder(&self.by_inside, inside, Extent::inside)?;
        Some(extent.outside() + (inside - extent.inside()))
    }

    /// The id of the namespace that shows `outside`, if one does. O(log n).
    #[must_use]
    pub fn to_inside(&self, outside: u32) -> Option<u32> {
        let extent = holder(&self.by_outside, outside, Extent::outside)?;
        Some(extent.inside() + (outside - extent.outside()))
    }

    /// The extents, sorted by the ids inside.
    #[must_use]
    pub fn extents(&self) -> &[Extent] {
        &self.by_inside
    }

    /// Every pair of an id inside and the id outside that it is, lowest inside first. Of the map of the machine's own
    /// namespace that is four thousand million pairs: [`extents`](Self::extents) says the same in one.
    ///
    /// ```
    /// use idmap::IdMap;
    ///
    /// let map: IdMap = "0:1000:1,1:100000:2".parse()?;
    /// assert_eq!(map.pairs().collect::<Vec<_>>(), [(0, 1000), (1, 100_000), (2, 100_001)]);
    /// # Ok::<(), idmap::Error>(())
    /// ```
    pub fn pairs(&self) -> impl Iterator<Item = (u32, u32)> {
        self.by_inside
            .iter()
            .flat_map(|extent| (0..extent.count()).map(|n| (extent.inside() + n, extent.outside() + n)))
    }

    /// Whether no id is mapped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_inside.is_empty()
    }

    /// How many ids are mapped.
    #[must_use]
    pub fn count(&self) -> u32 {
        // Extents do not overlap and none reaches u32::MAX, so the sum is at most that.
        self.by_inside.iter().map(|extent| extent.count()).sum()
    }
}

/// The extent that holds `id` on the side that `extents` are sorted by.
fn holder(extents: &[Extent], id: u32, first: fn(Extent) -> u32) -> Option<Extent> {
    let after = extents.partition_point(|&extent| first(extent) <= id);
    let extent = *extents.get(after.checked_sub(1)?)?;
    (id - first(extent) < extent.count()).then_some(extent)
}

/// Refuses two neighbours that share an id on the side that `sorted` is sorted by.
fn overlap(sorted: &[Extent], side: &str, first: fn(Extent) -> u32) -> Result<(), String> {
    for (low, high) in sorted.iter().zip(sorted.iter().skip(1)) {
        if first(*high) - first(*low) < low.count() {
            let (low, high, id) = (low.colons(), high.colons(), first(*high));
            return Err(format!("{low} and {high} overlap: both have id {id} {side}"));
        }
    }
    Ok(())
}

impl<'a> IntoIterator for &'a IdMap {
    type Item = Extent;
    type IntoIter = std::iter::Copied<std::slice::Iter<'a, Extent>>;

    /// The extents, sorted by the ids inside.
    fn into_iter(self) -> Self::IntoIter {
        self.by_inside.iter().copied()
    }
}

impl TryFrom<Vec<Extent>> for IdMap {
    type Error = Error;

    /// # Errors
    /// As [`IdMap::new`].
    fn try_from(extents: Vec<Extent>) -> Result<Self> {
        Self::checked(extents).map_err(|why| Error::invalid("id map", why))
    }
}
