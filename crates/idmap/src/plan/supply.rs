//! Ids outside that may be given to a container, and putting them behind ids inside.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result};

use crate::id_kind::IdKind;
use crate::user::User;
use crate::{Caller, Extent, IdMap, IdMaps, IdRange, SubIds};

/// For whom a plan is made, and from what.
#[derive(Debug)]
pub(super) struct Supply<'a> {
    pub(super) caller: &'a Caller,
    pub(super) subids: &'a SubIds,
    /// The caller, or the user for whom a privileged caller plans.
    pub(super) user: &'a User,
    uid: u32,
    gid: u32,
}

impl<'a> Supply<'a> {
    pub(super) fn new(caller: &'a Caller, subids: &'a SubIds) -> Result<Self> {
        let own = Self { caller, subids, user: &caller.user, uid: caller.uid(), gid: caller.gid() };
        let Some(user) = subids.user().filter(|user| user.uid() != caller.uid()) else { return Ok(own) };
        let owner = user.subid_owner();
        if !caller.is_privileged() {
            return Err(Error::invalid(
                "id map",
                format!("the ranges are those of {owner:?}, and not the caller's to map"),
            )
            .with_hint("read the caller's, or plan for others with CAP_SETUID and CAP_SETGID"));
        }
        let Some(gid) = user.gid() else {
            return Err(Error::invalid(
                "id map",
                format!("{owner:?} has no row in /etc/passwd, and so no known group"),
            ));
        };
        Ok(Self { user, uid: user.uid(), gid, ..own })
    }

    /// Whether the user is the caller, who then can do with less than they asked for.
    pub(super) fn is_for_caller(&self) -> bool {
        self.uid == self.caller.uid()
    }

    /// Whether the user is root of the machine: in a container it is nobody, or the container is no boundary.
    pub(super) fn is_for_machine_root(&self) -> bool {
        self.uid == 0 && self.caller.initial
    }

    /// The user's own id. Root's is never mapped without being asked for by number, in no namespace.
    pub(super) fn own(&self, kind: IdKind) -> Option<u32> {
        (self.uid != 0).then_some(self.own_even_roots(kind))
    }

    pub(super) fn own_even_roots(&self, kind: IdKind) -> u32 {
        match kind {
            IdKind::Uid => self.uid,
            IdKind::Gid => self.gid,
        }
    }

    /// The user's ranges, cut to what exists in the caller's own namespace: the kernel wants each extent within one
    /// extent of the map above it. Without the user's own id: an ordinary user's has its place already, and root's is
    /// never mapped.
    pub(super) fn ranges(&self, kind: IdKind) -> impl Iterator<Item = IdRange> {
        let own = self.own_even_roots(kind);
        let exists = self.caller.own(kind).map(IdMap::extents).unwrap_or_default();
        self.subids.ranges(kind).iter().flat_map(move |range| {
            exists.iter().flat_map(move |extent| {
                let start = range.start().max(extent.inside());
                let end = range.end().min(extent.inside() + extent.count());
                let parts = if (start..end).contains(&own) {
                    [IdRange::between(start, own), IdRange::between(own + 1, end)]
                } else {
                    [IdRange::between(start, end), None]
                };
                parts.into_iter().flatten()
            })
        })
    }

    /// Whether there is no id but the own one, of one kind or both.
    pub(super) fn is_bare(&self) -> bool {
        IdKind::BOTH.into_iter().any(|kind| self.ranges(kind).next().is_none())
    }

    /// `own`, and behind the ids of `inside`, in their order, the user's ranges: as many as there are, and as the kernel
    /// takes (340 extents, 4095 bytes).
    pub(super) fn as_many_as_fit(
        &self,
        kind: IdKind,
        own: Option<Extent>,
        inside: impl IntoIterator<Item = IdRange>,
    ) -> Result<IdMap> {
        let (mut extents, mut bytes) = (Vec::new(), 0);
        for extent in own.into_iter().chain(pairs(inside, self.ranges(kind))) {
            bytes += extent.line_len();
            if extents.len() == IdMap::MAX_EXTENTS || bytes > IdMap::MAX_BYTES {
                break;
            }
            extents.push(extent);
        }
        IdMap::new(extents)
    }
}

/// Ids inside and ids outside, pair by pair in their order, until one side has no more.
pub(super) fn pairs(
    inside: impl IntoIterator<Item = IdRange>,
    outside: impl IntoIterator<Item = IdRange>,
) -> impl Iterator<Item = Extent> {
    let (mut inside, mut outside) = (inside.into_iter(), outside.into_iter());
    let (mut rest_inside, mut rest_outside) = (None, None);
    std::iter::from_fn(move || {
        let within: IdRange = rest_inside.take().or_else(|| inside.next())?;
        let without: IdRange = rest_outside.take().or_else(|| outside.next())?;
        let count = within.count().min(without.count());
        rest_inside = IdRange::between(within.start() + count, within.end());
        rest_outside = IdRange::between(without.start() + count, without.end());
        // Two ranges of this count are an extent.
        Extent::new(within.start(), without.start(), count).ok()
    })
}

/// One id of each kind.
pub(super) fn own(inside_uid: u32, inside_gid: u32, uid: u32, gid: u32) -> Result<IdMaps> {
    let one = |inside, outside| Extent::new(inside, outside, 1).map(IdMap::single);
    Ok(IdMaps::new(one(inside_uid, uid)?, one(inside_gid, gid)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges(raw: &[(u32, u32)]) -> Vec<IdRange> {
        let mut next = 0;
        let apart = raw.iter().map(|&(gap, count)| {
            let start = next + gap;
            next = start + count;
            IdRange::new(start, count).expect("small")
        });
        apart.collect()
    }

    proptest! {
        #[test]
        fn the_nth_id_inside_is_the_nth_outside(
            inside in proptest::collection::vec((0..9_u32, 1..9_u32), 0..9),
            outside in proptest::collection::vec((0..9_u32, 1..9_u32), 0..9),
        ) {
            let each = |ranges: &[IdRange]| ranges.iter().flat_map(|range| range.start()..=range.last()).collect::<Vec<_>>();
            let (inside, outside) = (ranges(&inside), ranges(&outside));
            let expected: Vec<_> = each(&inside).into_iter().zip(each(&outside)).collect();
            let found: Vec<_> = pairs(inside, outside)
                .flat_map(|extent| (0..extent.count()).map(move |n| (extent.inside() + n, extent.outside() + n)))
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
