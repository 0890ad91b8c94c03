//! The map of one kind of id.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::{Error, Result, Subject};

use crate::{Extent, decimal};

/// A uid or gid map: which ids of a user namespace are which ids of its parent.
///
/// It is sorted by the ids inside, overlaps on neither side, and holds 1 to 340 extents: whatever breaks a rule of the
/// kernel is refused when the value is made. Extents that touch are kept apart, as the kernel keeps them.
///
/// * Files: `/proc/PID/uid_map` and `/proc/PID/gid_map`; [`Display`](fmt::Display) is their text.
/// * Kernel: 340 extents since 4.15. A map whose text is 4096 bytes or more cannot be written in one call; that is
///   checked by [`MapPlan`](crate::MapPlan), because the kernel may show such a map to another namespace.
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdMap {
    by_inside: Vec<Extent>,
    by_outside: Vec<Extent>,
}

impl IdMap {
    /// The most extents the kernel takes.
    pub const MAX_EXTENTS: usize = 340;

    /// The most bytes the kernel takes: one less than the smallest page.
    pub const MAX_BYTES: usize = 4095;

    /// A map of one extent.
    #[must_use]
    pub fn single(extent: Extent) -> Self {
        Self { by_inside: vec![extent], by_outside: vec![extent] }
    }

    /// Reads the content of `/proc/PID/uid_map`: `None` while no map has been written.
    ///
    /// # Errors
    /// [`ErrorKind::Parse`](cellkit_core::ErrorKind::Parse) for text the kernel does not write, and for a map with ids
    /// that the reading process's own namespace lacks (the kernel shows those as 4294967295).
    pub fn from_proc(content: &[u8]) -> Result<Option<Self>> {
        let refuse = |why: String| Error::parse("read id map", why);
        let text = std::str::from_utf8(content).map_err(|_| refuse("this is not text".into()))?;
        let mut extents = Vec::new();
        for line in text.lines() {
            if extents.len() == Self::MAX_EXTENTS {
                return Err(refuse(format!("there are more than {} lines", Self::MAX_EXTENTS)));
            }
            let extent = extent_of(line.split_ascii_whitespace())
                .map_err(|why| refuse(format!("line {}: {why}", extents.len() + 1)))?;
            extents.push(extent);
        }
        if extents.is_empty() {
            return Ok(None);
        }
        Self::new(extents).map(Some).map_err(refuse)
    }

    fn new(mut by_inside: Vec<Extent>) -> Result<Self, String> {
        if by_inside.is_empty() {
            return Err("there is no extent: a map has at least one".into());
        }
        if by_inside.len() > Self::MAX_EXTENTS {
            return Err(format!("{} extents, and the kernel takes {}", by_inside.len(), Self::MAX_EXTENTS));
        }
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

    /// How many ids are mapped.
    #[must_use]
    pub fn count(&self) -> u32 {
        // Extents do not overlap and none reaches u32::MAX, so the sum is at most that.
        self.by_inside.iter().map(|extent| extent.count()).sum()
    }

    /// The map as a user writes it: `0:1000:1,1:100000:65536`.
    pub(crate) fn colons(&self) -> String {
        self.by_inside.iter().map(|extent| extent.colons()).collect::<Vec<_>>().join(",")
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

fn extent_of<'a>(mut fields: impl Iterator<Item = &'a str>) -> Result<Extent, String> {
    let (Some(inside), Some(outside), Some(count), None) = (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err("an extent is three numbers, INSIDE:OUTSIDE:COUNT".into());
    };
    let number = |text: &str| {
        decimal::parse(text).ok_or_else(|| format!("{text:?} is not an id: ids are decimal, 0 to 4294967294"))
    };
    Extent::checked(number(inside)?, number(outside)?, number(count)?)
}

impl TryFrom<Vec<Extent>> for IdMap {
    type Error = Error;

    /// # Errors
    /// [`ErrorKind::Invalid`](cellkit_core::ErrorKind::Invalid) when there is no extent, more than 340, or when two
    /// share an id inside or outside.
    fn try_from(extents: Vec<Extent>) -> Result<Self> {
        Self::new(extents).map_err(|why| Error::invalid("id map", why))
    }
}

impl FromStr for IdMap {
    type Err = Error;

    /// Reads `INSIDE:OUTSIDE:COUNT[,INSIDE:OUTSIDE:COUNT...]`, and the kernel's text, one extent a line.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](cellkit_core::ErrorKind::Invalid), naming the part that is wrong.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: String| {
            // A text that is absurdly long is not worth repeating.
            let shown: String = text.chars().take(80).collect();
            Error::invalid("id map", why).on(Subject::Value(shown))
        };
        let kernels = !text.contains(':');
        let separator = if kernels { '\n' } else { ',' };
        let text = if kernels { text.strip_suffix('\n').unwrap_or(text) } else { text };
        let mut extents = Vec::new();
        for part in text.split(separator).take(Self::MAX_EXTENTS + 1) {
            let extent = if kernels { extent_of(part.split_ascii_whitespace()) } else { extent_of(part.split(':')) };
            extents.push(extent.map_err(refuse)?);
        }
        Self::new(extents).map_err(refuse)
    }
}

impl fmt::Display for IdMap {
    /// The kernel's text: a line an extent, `0 100000 65536`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.by_inside.iter().try_for_each(|extent| writeln!(f, "{extent}"))
    }
}
