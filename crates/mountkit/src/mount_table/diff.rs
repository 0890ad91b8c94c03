//! What is different between two tables.
#![forbid(unsafe_code)]

use std::fmt;

use super::{MountEntry, MountTable};

/// What is different between two [`MountTable`]s: made by [`MountTable::diff`].
///
/// A mount is the same one in both tables when its unique id is. Where one of them has none (before Linux 6.8), it is the
/// one with the same id, device, root and type: another mount that got the id of one that is gone cannot be told from it
/// if those are the same too.
///
/// ```
/// use mountkit::MountTable;
///
/// let before = MountTable::parse("1 0 0:1 / / rw - ext4 /dev/sda rw\n2 1 0:2 / /a rw - tmpfs tmpfs rw\n");
/// let after = MountTable::parse("1 0 0:1 / / ro - ext4 /dev/sda rw\n2 1 0:2 / /b rw - tmpfs tmpfs rw\n");
/// let diff = before.diff(&after);
/// assert_eq!(diff.to_string(), "~ ext4 \"/dev/sda\" on \"/\" (ro)\n> tmpfs \"tmpfs\" on \"/b\" (rw), was on \"/a\"\n");
/// ```
///
/// See findmnt(8), whose `--poll` is alike: <https://man7.org/linux/man-pages/man8/findmnt.8.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MountDiff<'t> {
    /// New mounts, in the order of the later table.
    pub added: Vec<MountEntry<'t>>,
    /// Mounts that are gone, in the order of the earlier table.
    pub removed: Vec<MountEntry<'t>>,
    /// Mounts with another parent or another path, as they were and as they are. A mount below one that was moved has
    /// another path too.
    pub moved: Vec<(MountEntry<'t>, MountEntry<'t>)>,
    /// Mounts of which anything else is different, as they were and as they are: attributes, propagation, source, options,
    /// id maps, or what is mounted has been renamed or deleted. One that was moved as well is in both.
    pub changed: Vec<(MountEntry<'t>, MountEntry<'t>)>,
}

impl<'t> MountDiff<'t> {
    pub(super) fn new(before: &'t MountTable, after: &'t MountTable) -> Self {
        let unique = |table: &MountTable| table.records.iter().all(|record| record.unique_id != 0);
        let unique = unique(before) && unique(after);
        let same = |mount: MountEntry<'t>, other: &'t MountTable| {
            if unique {
                return other.by_unique_id(mount.record().unique_id);
            }
            other.by_id(mount.id()).filter(|found| {
                found.device() == mount.device()
                    && found.fs_type() == mount.fs_type()
                    && (found.root() == mount.root() || found.is_deleted() != mount.is_deleted())
            })
        };
        let mut diff = Self { added: Vec::new(), removed: Vec::new(), moved: Vec::new(), changed: Vec::new() };
        for mount in before.iter() {
            let Some(later) = same(mount, after) else {
                diff.removed.push(mount);
                continue;
            };
            if is_moved(mount, later) {
                diff.moved.push((mount, later));
            }
            if is_changed(mount, later) {
                diff.changed.push((mount, later));
            }
        }
        diff.added.extend(after.iter().filter(|mount| same(*mount, before).is_none()));
        diff
    }

    /// Whether there is no difference.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.moved.is_empty() && self.changed.is_empty()
    }
}

fn is_moved(mount: MountEntry<'_>, later: MountEntry<'_>) -> bool {
    (mount.parent_id(), mount.mount_point()) != (later.parent_id(), later.mount_point())
}

fn is_changed(mount: MountEntry<'_>, later: MountEntry<'_>) -> bool {
    let numbers = |mount: MountEntry<'_>| {
        let record = mount.record();
        let groups = (record.peer_group, record.master, record.propagate_from, record.unbindable);
        (record.attrs, record.super_flags, groups)
    };
    // What one of the tables does not know is no difference.
    let differ = |one: Option<&std::ffi::OsStr>, other: Option<&std::ffi::OsStr>| {
        one.zip(other).is_some_and(|(one, other)| one != other)
    };
    let written = |mount: MountEntry<'_>| mount.options().map(|options| options.as_written().to_owned());
    numbers(mount) != numbers(later)
        || mount.root() != later.root()
        || differ(mount.source(), later.source())
        || differ(written(mount).as_deref(), written(later).as_deref())
        || mount.uid_map().zip(later.uid_map()).is_some_and(|(one, other)| one != other)
        || mount.gid_map().zip(later.gid_map()).is_some_and(|(one, other)| one != other)
}

impl fmt::Display for MountDiff<'_> {
    /// A line each: `-` for what is gone, `~` for what is changed, `>` for what is moved, `+` for what is new.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mount in &self.removed {
            writeln!(f, "- {mount}")?;
        }
        for (_, later) in &self.changed {
            writeln!(f, "~ {later}")?;
        }
        for (mount, later) in &self.moved {
            writeln!(f, "> {later}, was on {:?}", mount.mount_point())?;
        }
        for mount in &self.added {
            writeln!(f, "+ {mount}")?;
        }
        Ok(())
    }
}
