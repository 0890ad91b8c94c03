//! A mount as the table keeps it: numbers, and places in the one text of all.
#![forbid(unsafe_code)]

use std::ops::Range;

/// A part of the table's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    length: u32,
}

impl Span {
    pub(super) const NONE: Self = Self { start: 0, length: 0 };

    /// `None` for what lies beyond four gigabytes: no table does.
    pub(super) fn new(place: Range<usize>) -> Option<Self> {
        Some(Self { start: place.start.try_into().ok()?, length: place.len().try_into().ok()? })
    }

    pub(super) fn range(self) -> Range<usize> {
        let start = self.start as usize;
        start..start.saturating_add(self.length as usize)
    }

    pub(super) fn of(self, text: &[u8]) -> &[u8] {
        text.get(self.range()).unwrap_or_default()
    }

    /// The first `length` bytes of it.
    pub(super) fn cut(self, length: usize) -> Self {
        Self { length: self.length.min(length.try_into().unwrap_or(u32::MAX)), ..self }
    }
}

/// One mount. 0 stands for "none" in every number but the device's and the sets of bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) unique_id: u64,
    pub(super) unique_parent: u64,
    pub(super) id: u32,
    pub(super) parent: u32,
    pub(super) device: (u32, u32),
    /// MOUNT_ATTR_*
    pub(super) attrs: u64,
    /// SB_*
    pub(super) super_flags: u32,
    pub(super) peer_group: u32,
    pub(super) master: u32,
    pub(super) propagate_from: u32,
    pub(super) unbindable: bool,
    pub(super) root: Span,
    pub(super) mount_point: Span,
    pub(super) fs_type: Span,
    pub(super) subtype: Span,
    pub(super) source: Span,
    /// As written: still escaped, without what `super_flags` says.
    pub(super) options: Span,
}

impl Record {
    pub(super) const NONE: Self = Self {
        unique_id: 0,
        unique_parent: 0,
        id: 0,
        parent: 0,
        device: (0, 0),
        attrs: 0,
        super_flags: 0,
        peer_group: 0,
        master: 0,
        propagate_from: 0,
        unbindable: false,
        root: Span::NONE,
        mount_point: Span::NONE,
        fs_type: Span::NONE,
        subtype: Span::NONE,
        source: Span::NONE,
        options: Span::NONE,
    };
}

/// Of all mounts of a table: which texts the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) subtype: bool,
    pub(super) source: bool,
    pub(super) options: bool,
}

impl Known {
    pub(super) const ALL: Self = Self { subtype: true, source: true, options: true };
}

/// A range of ids of an idmapped mount: `count` ids from `first` on, which the files have, are `lower_first` and the
/// following through the mount.
///
/// ```
/// use mountkit::MountTable;
///
/// // Who owns through each idmapped mount what root owns in its file system.
/// for mount in MountTable::read()?.iter() {
///     let ranges = mount.uid_map().unwrap_or_default();
///     if let Some(range) = ranges.iter().find(|range| range.first == 0 && range.count > 0) {
///         println!("{:?}: {}", mount.mount_point(), range.lower_first);
///     }
/// }
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// See user_namespaces(7), whose `uid_map` has these three columns: <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct MountIdRange {
    /// The first id of those that the file system has.
    pub first: u32,
    /// What it is through the mount, in the caller's user namespace.
    pub lower_first: u32,
    /// How many.
    pub count: u32,
}

/// The id maps of one idmapped mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct IdMaps {
    pub(super) uids: Vec<MountIdRange>,
    pub(super) gids: Vec<MountIdRange>,
}
