//! Who is whose parent, and who is where: made when first asked for, in n log n.
#![forbid(unsafe_code)]

use super::record::Record;

/// Of every mount its place in the table.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    by_id: Vec<(u32, u32)>,
    by_unique_id: Vec<(u64, u32)>,
    parents: Vec<Option<u32>>,
    roots: Vec<u32>,
    /// By parent, then by place.
    children: Vec<(u32, u32)>,
    children_only: Vec<u32>,
    /// By parent, then by mount point.
    by_point: Vec<(u32, u32)>,
}

impl Index {
    pub(super) fn new(records: &[Record], text: &[u8]) -> Self {
        let places = || records.iter().zip(0_u32..);
        let mut by_id: Vec<_> = places().map(|(record, place)| (record.id, place)).collect();
        by_id.sort_unstable();
        let mut by_unique_id: Vec<_> = places()
            .filter(|(record, _)| record.unique_id != 0)
            .map(|(record, place)| (record.unique_id, place))
            .collect();
        by_unique_id.sort_unstable();
        let mut index = Self { by_id, by_unique_id, ..Self::default() };
        index.parents = places()
            .map(|(record, place)| {
                let parent = match record.unique_parent {
                    0 => index.by_id(record.parent),
                    // The only one that the root of all has is itself.
                    unique => index.by_unique_id(unique),
                };
                parent.and_then(|parent| u32::try_from(parent).ok()).filter(|&parent| parent != place)
            })
            .collect();
        index.roots =
            index.parents.iter().zip(0..).filter(|(parent, _)| parent.is_none()).map(|(_, place)| place).collect();
        index.children =
            index.parents.iter().zip(0..).filter_map(|(parent, place)| Some(((*parent)?, place))).collect();
        index.children.sort_unstable();
        index.children_only = index.children.iter().map(|(_, place)| *place).collect();
        index.by_point.clone_from(&index.children);
        let point = |place: u32| records.get(place as usize).map_or(&[][..], |record| record.mount_point.of(text));
        index.by_point.sort_by(|(one, a), (other, b)| one.cmp(other).then_with(|| point(*a).cmp(point(*b))));
        index
    }

    pub(super) fn by_id(&self, id: u32) -> Option<usize> {
        let at = self.by_id.partition_point(|(other, _)| *other < id);
        self.by_id.get(at).filter(|(other, _)| *other == id).map(|(_, place)| *place as usize)
    }

    pub(super) fn by_unique_id(&self, id: u64) -> Option<usize> {
        let at = self.by_unique_id.partition_point(|(other, _)| *other < id);
        self.by_unique_id.get(at).filter(|(other, _)| *other == id).map(|(_, place)| *place as usize)
    }

    pub(super) fn parent_of(&self, place: usize) -> Option<usize> {
        self.parents.get(place).copied().flatten().map(|parent| parent as usize)
    }

    pub(super) fn roots(&self) -> &[u32] {
        &self.roots
    }

    /// In the order of the table.
    pub(super) fn children_of(&self, place: usize) -> &[u32] {
        let parent = u32::try_from(place).unwrap_or(u32::MAX);
        let start = self.children.partition_point(|(other, _)| *other < parent);
        let end = self.children.partition_point(|(other, _)| *other <= parent);
        self.children_only.get(start..end).unwrap_or_default()
    }

    /// The mount that is mounted at `point` of the mount at `place`.
    pub(super) fn child_at(&self, place: usize, point: &[u8], records: &[Record], text: &[u8]) -> Option<usize> {
        let parent = u32::try_from(place).ok()?;
        let of = |place: u32| records.get(place as usize).map_or(&[][..], |record| record.mount_point.of(text));
        let at = self.by_point.partition_point(|(other, child)| (*other, of(*child)) < (parent, point));
        let (other, child) = self.by_point.get(at)?;
        (*other == parent && of(*child) == point).then_some(*child as usize)
    }
}
