//! Mounts of a table by their ids, by paths, and by what they send mounts to.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cellkit_core::{Error, Result, Subject};

use super::{MountEntry, MountTable};
use crate::sys::statmount::{self as sys, MountId};

impl MountTable {
    pub(super) fn find(&self, id: MountId) -> Option<MountEntry<'_>> {
        match id {
            MountId::Unique(id) => self.by_unique_id(id),
            MountId::Old(id) => self.by_id(id.try_into().ok()?),
        }
    }

    /// The mount with this unique id.
    #[must_use]
    pub fn by_unique_id(&self, id: u64) -> Option<MountEntry<'_>> {
        self.entry(self.index().by_unique_id(id)?)
    }

    /// The mount with this id, as mountinfo has it: it is used again when the mount is gone.
    #[must_use]
    pub fn by_id(&self, id: u32) -> Option<MountEntry<'_>> {
        self.entry(self.index().by_id(id)?)
    }

    /// The mounts whose parent is not in the table: mostly one, the root.
    pub fn roots(&self) -> impl Iterator<Item = MountEntry<'_>> {
        self.index().roots().iter().filter_map(|&root| self.entry(root as usize))
    }

    /// The mount that `path`, from the root on, leads into: what a file there would be on.
    ///
    /// It is a matter of names: `path` begins with `/`, and links in it are not followed, nor `..`. Open what it leads to
    /// and see [`covering_fd`](Self::covering_fd) where that matters. Mounts that are hidden by others are passed over.
    #[must_use]
    pub fn covering(&self, path: impl AsRef<Path>) -> Option<MountEntry<'_>> {
        let path = normal(path.as_ref())?;
        let root = self.roots().filter(|root| is_at_or_below(path, root.mount_point().as_bytes()));
        // Of several roots, as in a table of a part, the one that is nearest.
        let mut mount = root.max_by_key(|root| root.mount_point().len())?.place();
        for _ in 0..self.records.len() {
            match self.next_on_the_way(mount, path) {
                Some(next) => mount = next,
                None => break,
            }
        }
        self.entry(mount)
    }

    /// The first mount that a walk from the root of the mount at `place` to `path` meets.
    fn next_on_the_way(&self, place: usize, path: &[u8]) -> Option<usize> {
        let start = self.records.get(place)?.mount_point.of(&self.text).len();
        let ends = (start..path.len()).filter(|&end| path.get(end) == Some(&b'/') && end > 0).chain([path.len()]);
        let root = (start <= 1).then_some(1);
        root.into_iter().chain(ends).find_map(|end| {
            self.index().child_at(place, path.get(..end)?, &self.records, &self.text).filter(|&child| child != place)
        })
    }

    /// The mount that an open file or directory is on; `None` when it is not in this table.
    ///
    /// * Call: statx(2) with STATX_MNT_ID_UNIQUE, Linux 6.8; before that the id that is used again, so that the answer
    ///   may be wrong if its mount is gone since.
    ///
    /// # Errors
    /// That of statx(2).
    #[doc(alias("STATX_MNT_ID_UNIQUE", "STATX_MNT_ID"))]
    pub fn covering_fd(&self, fd: impl AsFd) -> Result<Option<MountEntry<'_>>> {
        let id = sys::mount_of(fd.as_fd())
            .map_err(|errno| Error::from_errno("statx", errno.0).on(Subject::Thing("a descriptor".into())))?;
        match id {
            // A table without unique ids is asked by the other.
            MountId::Unique(_) if self.records.iter().all(|record| record.unique_id == 0) => {
                let old = sys::old_mount_of(fd.as_fd())
                    .map_err(|errno| Error::from_errno("statx", errno.0).on(Subject::Thing("a descriptor".into())))?;
                Ok(self.find(old))
            }
            id => Ok(self.find(id)),
        }
    }

    /// The topmost of what is mounted on `path` itself, as [`covering`](Self::covering) understands it; `None` when nothing
    /// is, or what is is hidden by a mount above.
    #[must_use]
    pub fn at(&self, path: impl AsRef<Path>) -> Option<MountEntry<'_>> {
        let path = path.as_ref();
        self.covering(path).filter(|mount| Some(mount.mount_point().as_bytes()) == normal(path))
    }

    /// The mounts whose mount points are below `path`, and not on it, hidden ones included, in the order of the table.
    #[must_use]
    pub fn below(&self, path: impl AsRef<Path>) -> Vec<MountEntry<'_>> {
        let Some(path) = normal(path.as_ref()) else { return Vec::new() };
        let is_below = |mount: &MountEntry<'_>| {
            let point = mount.mount_point().as_bytes();
            is_at_or_below(point, path) && point.len() > path.len()
        };
        self.iter().filter(is_below).collect()
    }

    /// The mounts of this peer group: what is mounted below one of them appears at all.
    pub fn peers(&self, group: u32) -> impl Iterator<Item = MountEntry<'_>> {
        self.iter().filter(move |mount| mount.peer_group() == Some(group))
    }

    /// The mounts whose master is this peer group: what is mounted below one of the group appears at them too.
    pub fn slaves(&self, group: u32) -> impl Iterator<Item = MountEntry<'_>> {
        self.iter().filter(move |mount| mount.master() == Some(group))
    }

    /// Whether each mount is below its parent, as in no table that was read while one was moved.
    pub(super) fn hangs_together(&self) -> bool {
        self.iter().all(|mount| {
            let point = mount.mount_point().as_bytes();
            mount.parent().is_none_or(|parent| is_at_or_below(point, parent.mount_point().as_bytes()))
        })
    }
}

/// An absolute path without slashes at its end.
fn normal(path: &Path) -> Option<&[u8]> {
    let mut path = path.as_os_str().as_bytes();
    if path.first() != Some(&b'/') {
        return None;
    }
    while let Some(shorter) = path.strip_suffix(b"/").filter(|shorter| !shorter.is_empty()) {
        path = shorter;
    }
    Some(path)
}

/// Whether `path` is `dir` or below it.
fn is_at_or_below(path: &[u8], dir: &[u8]) -> bool {
    dir == b"/" || path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}
