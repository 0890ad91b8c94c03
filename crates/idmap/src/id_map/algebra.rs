//! Maps from maps.
//!
//! # Theory of operation
//!
//! A map is a set of pairs (inside, outside) in which no id occurs twice on a side, kept as extents. Every operation here
//! is one walk along two sorted lists ([`meet`]): composition walks the outside of one map and the inside of the other,
//! the rest walk two insides. What comes out are parts of extents that were apart, and so are apart; they are only
//! sorted, never checked again.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result, Subject};

use super::IdMap;
use super::meet::meet;
use crate::{Extent, IdRange};

impl IdMap {
    /// The map of the machine's first user namespace: every id is itself.
    ///
    /// ```
    /// use idmap::IdMap;
    ///
    /// assert_eq!(IdMap::identity().to_string(), "0 0 4294967295\n");
    /// assert_eq!(IdMap::identity().to_outside(4_294_967_295), None, "that is no id");
    /// ```
    #[must_use]
    pub fn identity() -> Self {
        Self::single(Extent::ALL)
    }

    /// This map with the sides exchanged: which ids outside are which inside. O(n).
    ///
    /// ```
    /// use idmap::IdMap;
    ///
    /// let map: IdMap = "0:1000:1,1:100000:65536".parse()?;
    /// assert_eq!(map.invert().to_string(), "1000 0 1\n100000 1 65536\n");
    /// assert_eq!(map.invert().invert(), map);
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[must_use]
    pub fn invert(&self) -> Self {
        let invert = |extents: &[Extent]| extents.iter().map(|extent| extent.invert()).collect();
        Self { by_inside: invert(&self.by_outside), by_outside: invert(&self.by_inside) }
    }

    /// From a child's map to its parent, through the parent's own map: the child's map to its grandparent.
    ///
    /// An id that the parent has not is left out, as it is nobody to the grandparent. Extents are cut where the parent's
    /// begin and end, and not joined. O((n + m) log (n + m)).
    ///
    /// ```
    /// use idmap::IdMap;
    ///
    /// // A container with a container in it.
    /// let parent: IdMap = "0:100000:65536".parse()?;
    /// let child: IdMap = "0:1000:1,1:10000:1000".parse()?;
    /// let on_the_machine = child.through(&parent);
    /// assert_eq!(on_the_machine.to_string(), "0 101000 1\n1 110000 1000\n");
    /// assert_eq!(on_the_machine.to_outside(7), child.to_outside(7).and_then(|id| parent.to_outside(id)));
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[must_use]
    #[doc(alias = "compose")]
    #[doc(alias = "composition")]
    #[doc(alias = "then")]
    pub fn through(&self, parent: &Self) -> Self {
        let parts = meet(&self.by_outside, Extent::range_outside, &parent.by_inside, Extent::range_inside);
        Self::of_apart(
            parts
                .map(|(child, parent, ids)| {
                    Extent::beside(child.part_outside(ids).range_inside(), parent.part_inside(ids).outside())
                })
                .collect(),
        )
    }

    /// From two maps to the same ids outside, the ids of this one as ids of the other: "which of the parent's ids is
    /// this one of the child's?", where both maps were read from where both namespaces are nested.
    ///
    /// The namespaces need not be parent and child. Ids that only one of them has are left out.
    /// `a.relative_to(&b)` is `a.through(&b.invert())`. O((n + m) log (n + m)).
    ///
    /// ```
    /// use idmap::IdMap;
    ///
    /// // As the machine's root reads them in /proc.
    /// let parent: IdMap = "0:100000:65536".parse()?;
    /// let child: IdMap = "0:101000:1,1:110000:1000".parse()?;
    /// assert_eq!(child.relative_to(&parent).to_string(), "0 1000 1\n1 10000 1000\n");
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[must_use]
    pub fn relative_to(&self, other: &Self) -> Self {
        self.through(&other.invert())
    }

    /// The ids that both maps have, and take to the same. O((n + m) log (n + m)).
    ///
    /// ```
    /// use idmap::IdMap;
    ///
    /// let a: IdMap = "0:1000:10".parse()?;
    /// let b: IdMap = "5:1005:10".parse()?;
    /// assert_eq!(a.intersect(&b).to_string(), "5 1005 5\n");
    /// // Id 0 inside is in both, but not the same id outside.
    /// assert!(a.intersect(&"0:2000:10".parse()?).is_empty());
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[must_use]
    #[doc(alias = "intersection")]
    pub fn intersect(&self, other: &Self) -> Self {
        Self::of_apart(self.shared_with(other).collect())
    }

    /// What this map has and [`intersect`](Self::intersect) leaves: the ids that the other has not, or takes to another
    /// id. O((n + m) log (n + m)).
    ///
    /// ```
    /// use idmap::IdMap;
    ///
    /// let a: IdMap = "0:1000:10".parse()?;
    /// let b: IdMap = "5:1005:10".parse()?;
    /// assert_eq!(a.subtract(&b).to_string(), "0 1000 5\n");
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[must_use]
    #[doc(alias = "difference")]
    pub fn subtract(&self, other: &Self) -> Self {
        self.without_inside(self.shared_with(other).map(Extent::range_inside))
    }

    /// What either map has. O((n + m) log (n + m)).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](cellkit_core::ErrorKind::Invalid) when the two take one id to two, inside or outside.
    ///
    /// ```
    /// use idmap::IdMap;
    ///
    /// let a: IdMap = "0:1000:10".parse()?;
    /// let b: IdMap = "5:1005:10".parse()?;
    /// assert_eq!(a.union(&b)?.normalise().to_string(), "0 1000 15\n");
    /// assert!(a.union(&"0:2000:1".parse()?).is_err());
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[doc(alias = "merge")]
    pub fn union(&self, other: &Self) -> Result<Self> {
        let more = other.subtract(self);
        Self::new(self.by_inside.iter().chain(&more.by_inside).copied())
    }

    /// The same map with the fewest extents there can be: those that touch on both sides are joined. O(n log n).
    ///
    /// Two maps translate every id alike exactly when their normal forms are equal. The kernel joins nothing, neither
    /// when a map is written nor when it is read; and what it takes of a child's map depends on how the parent's extents
    /// were cut: see [`check_within`](Self::check_within).
    ///
    /// ```
    /// use idmap::IdMap;
    ///
    /// let map: IdMap = "0:1000:1,1:1001:9,10:5000:1".parse()?;
    /// assert_eq!(map.normalise().to_string(), "0 1000 10\n10 5000 1\n");
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[must_use]
    #[doc(alias = "normalize")]
    #[doc(alias = "simplify")]
    pub fn normalise(&self) -> Self {
        let mut extents = self.by_inside.clone();
        extents.dedup_by(|next, extent| match extent.join(*next) {
            Some(joined) => {
                *extent = joined;
                true
            }
            None => false,
        });
        Self::of_apart(extents)
    }

    /// Whether every id that is mapped is itself. An empty map is.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.by_inside.iter().all(|extent| extent.inside() == extent.outside())
    }

    /// The one extent that this map comes to, if it is contiguous on both sides. O(n).
    ///
    /// ```
    /// use idmap::{Extent, IdMap};
    ///
    /// let map: IdMap = "0:1000:1,1:1001:9".parse()?;
    /// assert_eq!(map.as_single(), Some(Extent::new(0, 1000, 10)?));
    /// assert_eq!("0:1000:1,1:100000:9".parse::<IdMap>()?.as_single(), None);
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[must_use]
    #[doc(alias = "is_contiguous")]
    pub fn as_single(&self) -> Option<Extent> {
        let (&first, rest) = self.by_inside.split_first()?;
        rest.iter().try_fold(first, |joined, &next| joined.join(next))
    }

    /// Whether the kernel takes this map for a child of a namespace with the map `parent`: each extent's ids outside must
    /// lie within one extent of the parent's ids inside.
    ///
    /// Within *one*: the kernel joins nothing, so that a parent with `0:1000:5,5:1005:5` refuses a child's `0:0:10`,
    /// although every id is there. Ask with the parent's map as the kernel has it, not a
    /// [normal form](Self::normalise), and let [`cut_for`](Self::cut_for) cut the child's. That the text must fit as well
    /// is what [`check_writable`](Self::check_writable) says. O(n + m).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](cellkit_core::ErrorKind::Invalid), naming the first extent that is refused (the kernel says
    /// EPERM); the hint tells ids that do not exist from ids in more than one extent.
    ///
    /// ```
    /// use idmap::IdMap;
    ///
    /// let parent: IdMap = "0:1000:5,5:1005:5".parse()?;
    /// let child: IdMap = "0:0:10".parse()?;
    /// assert!(child.check_within(&parent).is_err());
    /// assert!(child.check_within(&parent.normalise()).is_ok(), "but that is not what the kernel has");
    /// assert_eq!(child.cut_for(&parent).to_string(), "0 0 5\n5 5 5\n");
    /// assert!(child.cut_for(&parent).check_within(&parent).is_ok());
    /// # Ok::<(), idmap::Error>(())
    /// ```
    ///
    /// See user_namespaces(7), "User and group ID mappings":
    /// <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
    pub fn check_within(&self, parent: &Self) -> Result<()> {
        self.check_within_as("id map", parent)
    }

    /// The same, with the name of the file in the error.
    pub(crate) fn check_within_as(&self, file: &'static str, parent: &Self) -> Result<()> {
        let Some(extent) = self.first_not_within(parent) else { return Ok(()) };
        let ids = extent.range_outside();
        let missing = Self::identity_on([ids]).without_outside(parent.ranges_inside());
        let (why, hint) = match missing.extents().first() {
            Some(run) => {
                let (first, last) = (run.outside(), run.range_outside().last());
                let hint = "choose from the ids that the parent's map has inside, or leave the others out";
                (format!("ids {first} to {last} do not exist in the parent namespace"), hint)
            }
            None => (
                format!("ids {} to {} lie in more than one extent of the parent's map", ids.start(), ids.last()),
                "cut the extent where the parent's begin: the kernel joins none",
            ),
        };
        Err(Error::invalid(file, why).on(Subject::Value(extent.colons())).with_hint(hint))
    }

    /// The lowest extent outside that does not lie within one extent of `parent`.
    fn first_not_within(&self, parent: &Self) -> Option<Extent> {
        let mut whole = meet(&self.by_outside, Extent::range_outside, &parent.by_inside, Extent::range_inside)
            .filter(|(child, _, shared)| shared.count() == child.count())
            .map(|(child, ..)| child);
        // Those that are met whole come in the order of all; the first of all that is not next is missing.
        self.by_outside.iter().copied().find(|&extent| whole.next() != Some(extent))
    }

    /// The same map, with each extent cut where an extent of `parent` begins or ends inside: what the kernel wants of the
    /// map of a child of a namespace with the map `parent`. Ids that the parent has not are kept, and
    /// [refused](Self::check_within) still. O((n + m) log (n + m)).
    #[must_use]
    #[doc(alias = "split")]
    pub fn cut_for(&self, parent: &Self) -> Self {
        let mut ranges: Vec<IdRange> = parent.by_inside.iter().map(|extent| extent.range_inside()).collect();
        ranges.extend(parent.unmapped_inside());
        ranges.sort_unstable();
        self.parts_outside(&ranges)
    }

    /// The parts of this map's extents that the other map has as well.
    fn shared_with<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Extent> + 'a {
        meet(&self.by_inside, Extent::range_inside, &other.by_inside, Extent::range_inside)
            .filter(|(one, other, _)| one.is_parallel_to(*other))
            .map(|(one, _, ids)| one.part_inside(ids))
    }

    /// A map of extents that are known not to overlap, in any order.
    pub(super) fn of_apart(mut by_inside: Vec<Extent>) -> Self {
        let mut by_outside = by_inside.clone();
        by_inside.sort_unstable_by_key(|extent| extent.inside());
        by_outside.sort_unstable_by_key(|extent| extent.outside());
        Self { by_inside, by_outside }
    }
}
