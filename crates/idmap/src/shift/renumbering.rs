//! What becomes of an id: the function that a shift applies to each uid and gid it meets.
//!
//! A shift may be ended at any moment and made again, and hard links let it meet a file twice. So each step that it makes
//! has to be one that changes nothing when made again:
//!
//! * When no id is both an old and a new one, an id tells by itself whether it has been shifted.
//! * When some are both (`0:1000:1,1:100000:65536`: 1000 is what 0 becomes, and becomes 100999), two steps follow each
//!   other. The first moves just the shared ids to numbers that nothing else uses. Then no file has a shared id, and the
//!   second step moves all the others to where they belong, and those set aside too: whoever has a shared id now got it
//!   in this step. The journal knows which of the two steps it is.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result};

use crate::{Extent, IdMap};

/// What one step does to an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It becomes this one.
    Move(u32),
    /// It is as this step wants it.
    Settled,
    /// The shift does not know it.
    Unmapped,
}

/// First and last of some ids that follow each other.
type Run = (u32, u32);

/// What one step does to ids of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// Sorted by the old ids, which are those inside.
    moves: Vec<Extent>,
    /// Sorted, without overlap.
    settled: Vec<Run>,
}

impl Step {
    fn new(mut moves: Vec<Extent>, mut settled: Vec<Run>) -> Self {
        moves.sort_unstable_by_key(|extent| extent.inside());
        settled.sort_unstable();
        Self { moves, settled }
    }

    /// O(log n).
    pub(crate) fn verdict(&self, id: u32) -> Verdict {
        if let Some(extent) = before(&self.moves, id, |extent| extent.inside()) {
            if id - extent.inside() < extent.count() {
                return Verdict::Move(extent.outside() + (id - extent.inside()));
            }
        }
        match before(&self.settled, id, |run| run.0) {
            Some((_, last)) if id <= last => Verdict::Settled,
            _ => Verdict::Unmapped,
        }
    }
}

/// The last of `sorted` that begins at `id` or before.
fn before<T: Copy>(sorted: &[T], id: u32, first: fn(T) -> u32) -> Option<T> {
    let after = sorted.partition_point(|&one| first(one) <= id);
    sorted.get(after.checked_sub(1)?).copied()
}

/// The whole function for ids of one kind: inside are the old ids, outside the new ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Renumbering {
    /// Without the ids that stay what they are.
    moves: Vec<Extent>,
    /// Those.
    fixed: Vec<Run>,
}

impl Renumbering {
    /// As `map` says, from the ids inside to those outside.
    pub(crate) fn new(map: &IdMap) -> Self {
        let (fixed, moves): (Vec<Extent>, Vec<Extent>) =
            map.extents().iter().partition(|extent| extent.inside() == extent.outside());
        Self { moves, fixed: fixed.into_iter().map(old_ids).collect() }
    }

    /// Text for the journal.
    pub(crate) fn text(&self) -> String {
        let fixed = self.fixed.iter().map(|&(first, last)| format!("{first}:{first}:{}", u64::from(last - first) + 1));
        let mut all: Vec<_> = self.moves.iter().map(|extent| extent.colons()).chain(fixed).collect();
        all.sort_unstable();
        if all.is_empty() { "none".into() } else { all.join(",") }
    }

    /// The ids that are old ones and new ones, and become others.
    pub(crate) fn shared(&self) -> Vec<Run> {
        let old: Vec<_> = self.moves.iter().copied().map(old_ids).collect();
        let new: Vec<_> = self.moves.iter().copied().map(new_ids).collect();
        old.iter().flat_map(|&old| new.iter().filter_map(move |&new| common(old, new))).collect()
    }

    /// The one step, where none is shared.
    pub(crate) fn whole(&self) -> Step {
        Step::new(self.moves.clone(), self.settled())
    }

    fn settled(&self) -> Vec<Run> {
        self.moves.iter().copied().map(new_ids).chain(self.fixed.iter().copied()).collect()
    }

    /// Where the shared ids go meanwhile: among those that `exist` for the caller, the highest that the function does not
    /// know. The overflow id is left out: it stands for others.
    pub(crate) fn staging(&self, exist: &IdMap) -> Result<Vec<Extent>> {
        const OVERFLOW: Run = (65_534, 65_534);
        let mut free: Vec<_> = exist.extents().iter().map(|&extent| inside(extent)).collect();
        let old = self.moves.iter().copied().map(old_ids);
        for taken in old.chain(self.settled()).chain([OVERFLOW]) {
            free = free.into_iter().flat_map(|run| without(run, taken)).collect();
        }
        free.sort_unstable();
        let mut extents = Vec::new();
        for (mut first, last) in self.shared() {
            loop {
                let Some((low, high)) = free.pop() else {
                    return Err(Error::invalid(
                        "shift",
                        "some ids are old ones and new ones, and too few others exist here to set them aside meanwhile",
                    ));
                };
                let count = (last - first).min(high - low) + 1;
                let start = high - (count - 1);
                extents.extend(Extent::checked(first, start, count));
                if start > low {
                    free.push((low, start - 1));
                }
                if count > last - first {
                    break;
                }
                first += count;
            }
        }
        Ok(extents)
    }

    /// The two steps around `staging`.
    pub(crate) fn staged(&self, staging: &[Extent]) -> (Step, Step) {
        // The first step leaves alone whatever the second knows.
        let mut later: Vec<Run> = self.moves.iter().copied().map(old_ids).collect();
        for run in self.settled() {
            later = later.into_iter().flat_map(|one| without(one, run)).collect();
        }
        let mut second = Vec::new();
        second.extend(later.iter().flat_map(|&run| self.cut(run)));
        for &aside in staging {
            second.extend(self.cut(old_ids(aside)).into_iter().filter_map(|part| {
                let start = aside.outside() + (part.inside() - aside.inside());
                Extent::checked(start, part.outside(), part.count()).ok()
            }));
        }
        later.extend(self.settled());
        later.extend(staging.iter().copied().map(new_ids));
        (Step::new(staging.to_vec(), later), Step::new(second, self.settled()))
    }

    /// The part of the function for these old ids.
    fn cut(&self, run: Run) -> Vec<Extent> {
        let parts = self.moves.iter().filter_map(|extent| {
            let (first, last) = common(old_ids(*extent), run)?;
            Extent::checked(first, extent.outside() + (first - extent.inside()), last - first + 1).ok()
        });
        parts.collect()
    }
}

fn inside(extent: Extent) -> Run {
    (extent.inside(), extent.inside() + (extent.count() - 1))
}

fn old_ids(extent: Extent) -> Run {
    inside(extent)
}

fn new_ids(extent: Extent) -> Run {
    (extent.outside(), extent.outside() + (extent.count() - 1))
}

fn common(a: Run, b: Run) -> Option<Run> {
    let both = (a.0.max(b.0), a.1.min(b.1));
    (both.0 <= both.1).then_some(both)
}

/// What is left of `run`.
fn without(run: Run, taken: Run) -> impl Iterator<Item = Run> {
    let (low, high) = match common(run, taken) {
        None => (Some(run), None),
        Some((first, last)) => ((run.0 < first).then(|| (run.0, first - 1)), (last < run.1).then(|| (last + 1, run.1))),
    };
    low.into_iter().chain(high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(text: &str) -> IdMap {
        text.parse().expect("map")
    }

    fn into(text: &str) -> Renumbering {
        Renumbering::new(&map(text))
    }

    fn everything() -> IdMap {
        map("0:0:4294967295")
    }

    #[test]
    fn one_step_when_no_id_is_shared() {
        let shift = into("0:100000:65536");
        assert_eq!(shift.shared(), []);
        let step = shift.whole();
        for (id, verdict) in [
            (0, Verdict::Move(100_000)),
            (65_535, Verdict::Move(165_535)),
            (65_536, Verdict::Unmapped),
            (99_999, Verdict::Unmapped),
            (100_000, Verdict::Settled),
            (165_535, Verdict::Settled),
            (165_536, Verdict::Unmapped),
            (u32::MAX, Verdict::Unmapped),
        ] {
            assert_eq!(step.verdict(id), verdict, "{id}");
        }
    }

    #[test]
    fn ids_that_stay_are_settled() {
        let shift = into("0:0:1000,1000:200000:5");
        assert_eq!(shift.shared(), []);
        assert_eq!(shift.whole().verdict(7), Verdict::Settled);
        assert_eq!(shift.whole().verdict(1001), Verdict::Move(200_001));
    }

    #[test]
    fn the_rootless_map_shares_one_id() {
        let shift = into("0:1000:1,1:100000:65536");
        assert_eq!(shift.shared(), [(1000, 1000)]);
        let staging = shift.staging(&everything()).expect("staging");
        let (first, second) = shift.staged(&staging);
        let Verdict::Move(aside) = first.verdict(1000) else { panic!("{first:?}") };
        assert_eq!(first.verdict(0), Verdict::Settled);
        assert_eq!(first.verdict(aside), Verdict::Settled);
        assert_eq!(second.verdict(aside), Verdict::Move(100_999));
        assert_eq!(second.verdict(0), Verdict::Move(1000));
        assert_eq!(second.verdict(1000), Verdict::Settled);
    }

    #[test]
    fn there_may_be_no_room_to_set_ids_aside() {
        assert!(into("0:1:10").staging(&map("0:100000:20")).is_ok());
        let error = into("0:1:10").staging(&map("0:100000:19")).expect_err("no room");
        assert!(error.to_string().contains("too few"), "{error}");
    }

    fn any_map() -> impl Strategy<Value = IdMap> {
        // Few ids, so that they meet.
        proptest::collection::vec((0u32..60, 0u32..60, 1u32..12), 1..6).prop_filter_map("overlaps", |extents| {
            IdMap::new(extents.into_iter().filter_map(|(a, b, c)| Extent::new(a, b, c).ok())).ok()
        })
    }

    /// Until nothing changes, and once more.
    fn walk(step: &Step, id: u32) -> u32 {
        match step.verdict(id) {
            Verdict::Move(new) => {
                assert_ne!(new, id);
                assert_eq!(step.verdict(new), Verdict::Settled, "{id} becomes {new}, and then another");
                new
            }
            Verdict::Settled | Verdict::Unmapped => id,
        }
    }

    proptest! {
        #[test]
        fn any_map_ends_where_it_says_however_often_a_step_is_made(map in any_map()) {
            let shift = Renumbering::new(&map);
            let staging = shift.staging(&everything()).expect("staging");
            let steps = if shift.shared().is_empty() {
                prop_assert!(staging.is_empty());
                vec![shift.whole()]
            } else {
                let (first, second) = shift.staged(&staging);
                vec![first, second]
            };
            for id in 0..80 {
                let end = steps.iter().fold(id, |id, step| walk(step, id));
                if let Some(new) = map.to_outside(id) {
                    prop_assert_eq!(end, new);
                } else {
                    prop_assert_eq!(end, id);
                    // An id that is only a new one has been shifted already.
                    let known = map.to_inside(id).is_some();
                    let unmapped = steps.iter().all(|step| step.verdict(id) == Verdict::Unmapped);
                    prop_assert_eq!(unmapped, !known);
                }
            }
        }
    }
}
