//! All maps of a namespace at once.
#![forbid(unsafe_code)]

use cellkit_core::Result;

use super::IdMaps;
use crate::{IdMap, OverflowIds, Owner};

impl IdMaps {
    /// The owner in the parent namespace of what `inside` owns in this one: `None` when the user or the group is not
    /// mapped, as chown(2) inside would fail (EINVAL). O(log n).
    ///
    /// ```
    /// use idmap::{IdMaps, Owner};
    ///
    /// let maps: IdMaps = "100000:200000:65536".parse()?;
    /// assert_eq!(maps.to_outside(Owner { uid: 0, gid: 5 }), Some(Owner { uid: 100_000, gid: 200_005 }));
    /// assert_eq!(maps.to_outside(Owner { uid: 0, gid: 70_000 }), None);
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[must_use]
    pub fn to_outside(&self, inside: Owner) -> Option<Owner> {
        Some(Owner { uid: self.uid.to_outside(inside.uid)?, gid: self.gid.to_outside(inside.gid)? })
    }

    /// The owner in this namespace of what `outside` owns in its parent: `None` when the user or the group is nobody
    /// here. O(log n).
    #[must_use]
    pub fn to_inside(&self, outside: Owner) -> Option<Owner> {
        Some(Owner { uid: self.uid.to_inside(outside.uid)?, gid: self.gid.to_inside(outside.gid)? })
    }

    /// The owner that stat(2) inside shows for a file of `outside`: an id that is not mapped is the overflow id. O(log n).
    ///
    /// ```
    /// use idmap::{IdMaps, OverflowIds, Owner};
    ///
    /// let maps: IdMaps = "100000:200000:65536".parse()?;
    /// let shown = maps.shown_inside(Owner { uid: 100_033, gid: 0 }, OverflowIds::default());
    /// assert_eq!(shown, Owner { uid: 33, gid: 65_534 });
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[must_use]
    pub fn shown_inside(&self, outside: Owner, overflow: OverflowIds) -> Owner {
        Owner {
            uid: self.uid.to_inside(outside.uid).unwrap_or(overflow.uid),
            gid: self.gid.to_inside(outside.gid).unwrap_or(overflow.gid),
        }
    }

    /// [`IdMap::through`] of each: a child's maps through its parent's are the child's maps to its grandparent.
    ///
    /// ```
    /// use idmap::IdMaps;
    ///
    /// let parent: IdMaps = "100000:200000:65536".parse()?;
    /// let child: IdMaps = "1000:2000:10".parse()?;
    /// assert_eq!(child.through(&parent), "101000:202000:10".parse()?);
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[must_use]
    #[doc(alias = "compose")]
    pub fn through(&self, parent: &Self) -> Self {
        self.each_with(parent, IdMap::through)
    }

    /// [`IdMap::relative_to`] of each: of two namespaces' maps, both read from above both, the ids of this one as ids of
    /// the other.
    ///
    /// ```
    /// use idmap::IdMaps;
    ///
    /// let parent: IdMaps = "100000:200000:65536".parse()?;
    /// let child: IdMaps = "101000:202000:10".parse()?;
    /// assert_eq!(child.relative_to(&parent), "1000:2000:10".parse()?);
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[must_use]
    pub fn relative_to(&self, other: &Self) -> Self {
        self.each_with(other, IdMap::relative_to)
    }

    /// [`IdMap::normalise`] of each.
    #[must_use]
    #[doc(alias = "normalize")]
    pub fn normalise(&self) -> Self {
        Self {
            uid: self.uid.normalise(),
            gid: self.gid.normalise(),
            projid: self.projid.as_ref().map(IdMap::normalise),
        }
    }

    /// [`IdMap::check_within`] of each, with the name of the file in the error: whether the kernel takes these maps for a
    /// child of a namespace with the maps `parent`.
    ///
    /// # Errors
    /// As [`IdMap::check_within`].
    pub fn check_within(&self, parent: &Self) -> Result<()> {
        self.uid.check_within_as("uid_map", &parent.uid)?;
        self.gid.check_within_as("gid_map", &parent.gid)?;
        let none = IdMap::empty();
        let projids = parent.projid.as_ref().unwrap_or(&none);
        self.projid.as_ref().map_or(Ok(()), |projid| projid.check_within_as("projid_map", projids))
    }

    fn each_with(&self, other: &Self, combine: impl Fn(&IdMap, &IdMap) -> IdMap) -> Self {
        Self {
            uid: combine(&self.uid, &other.uid),
            gid: combine(&self.gid, &other.gid),
            // A map that is not written has no id, nor has anything that goes through it.
            projid: self.projid.as_ref().zip(other.projid.as_ref()).map(|(one, other)| combine(one, other)),
        }
    }
}
