//! One mount of a table.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::record::{IdMaps, MountIdRange, Record};
use super::{MountOptions, MountTable, os};
use crate::{Atime, MountAttr, Propagation};

bitflags::bitflags! {
    /// Flags of a file system, the same for all its mounts, that the kernel itself knows.
    ///
    /// ```
    /// use mountkit::SuperFlags;
    ///
    /// assert_eq!((SuperFlags::RDONLY | SuperFlags::LAZYTIME).to_string(), "ro,lazytime");
    /// ```
    ///
    /// See mount(2): <https://man7.org/linux/man-pages/man2/mount.2.html>.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SuperFlags: u32 {
        /// The whole file system is read-only, whatever its mounts say.
        #[doc(alias = "SB_RDONLY")]
        #[doc(alias = "MS_RDONLY")]
        const RDONLY = 0x1;
        /// Writing waits for the disk.
        #[doc(alias = "MS_SYNCHRONOUS")]
        const SYNCHRONOUS = 0x10;
        /// Mandatory locks are allowed. Until Linux 5.14.
        #[doc(alias = "MS_MANDLOCK")]
        const MANDLOCK = 0x40;
        /// Changing a directory waits for the disk.
        #[doc(alias = "MS_DIRSYNC")]
        const DIRSYNC = 0x80;
        /// Times are kept in memory and written later.
        #[doc(alias = "MS_LAZYTIME")]
        const LAZYTIME = 0x200_0000;
    }
}

impl fmt::Display for SuperFlags {
    /// The words of mountinfo; `rw` first where it is not `ro`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.contains(Self::RDONLY) { "ro" } else { "rw" })?;
        for (flag, word) in [
            (Self::SYNCHRONOUS, ",sync"),
            (Self::DIRSYNC, ",dirsync"),
            (Self::MANDLOCK, ",mand"),
            (Self::LAZYTIME, ",lazytime"),
        ] {
            if self.contains(flag) {
                f.write_str(word)?;
            }
        }
        Ok(())
    }
}

/// One mount of a [`MountTable`]: a view of it, as small as a reference.
///
/// Two are equal when they are the same mount of the same table.
///
/// ```
/// use mountkit::MountTable;
///
/// for mount in MountTable::read()?.iter() {
///     println!("{:?} is {:?} of {:?}", mount.mount_point(), mount.root(), mount.fs_type());
/// }
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// See proc_pid_mountinfo(5): <https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html>.
#[derive(Clone, Copy)]
pub struct MountEntry<'t> {
    table: &'t MountTable,
    place: usize,
    record: &'t Record,
}

impl<'t> MountEntry<'t> {
    /// `place` is one of the table.
    pub(super) fn new(table: &'t MountTable, place: usize) -> Self {
        static NONE: Record = Record::NONE;
        Self { table, place, record: table.records.get(place).unwrap_or(&NONE) }
    }

    pub(super) fn place(self) -> usize {
        self.place
    }

    pub(super) fn record(self) -> &'t Record {
        self.record
    }

    /// A number that no other mount has or will have until the machine starts anew. Linux 6.8.
    #[must_use]
    #[doc(alias = "mnt_id_unique")]
    pub fn unique_id(self) -> Option<u64> {
        Some(self.record.unique_id).filter(|id| *id != 0)
    }

    /// Its number in mountinfo and in `fdinfo`, which another mount gets when this one is gone.
    #[must_use]
    #[doc(alias = "mnt_id")]
    pub fn id(self) -> u32 {
        self.record.id
    }

    /// The unique number of the mount that it is mounted on. The root's is one that cannot be reached, or its own.
    #[must_use]
    pub fn unique_parent_id(self) -> Option<u64> {
        Some(self.record.unique_parent).filter(|id| *id != 0)
    }

    /// The number in mountinfo of the mount that it is mounted on.
    #[must_use]
    pub fn parent_id(self) -> u32 {
        self.record.parent
    }

    /// The mount that it is mounted on; none for the root.
    #[must_use]
    pub fn parent(self) -> Option<Self> {
        self.table.entry(self.table.index().parent_of(self.place)?)
    }

    /// Its parent, that one's parent, and so on up to the root.
    pub fn ancestors(self) -> impl Iterator<Item = Self> {
        // A text that somebody made up may go round in circles.
        std::iter::successors(self.parent(), |mount| mount.parent()).take(self.table.len())
    }

    /// What is mounted on it, in the order of the table.
    pub fn children(self) -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator {
        let (table, children) = (self.table, self.table.index().children_of(self.place));
        children.iter().map(move |&child| Self::new(table, child as usize))
    }

    /// What is mounted over it, at its own mount point, so that it cannot be seen.
    #[must_use]
    pub fn covered_by(self) -> Option<Self> {
        let point = self.record.mount_point.of(&self.table.text);
        let child = self.table.index().child_at(self.place, point, &self.table.records, &self.table.text)?;
        self.table.entry(child)
    }

    fn text(self, span: super::record::Span) -> &'t OsStr {
        os(span.of(&self.table.text))
    }

    /// Where it is mounted: a path from the root of whoever the table is of.
    #[must_use]
    pub fn mount_point(self) -> &'t OsStr {
        self.text(self.record.mount_point)
    }

    /// As [`mount_point`](Self::mount_point), as a path.
    #[must_use]
    pub fn path(self) -> &'t Path {
        Path::new(self.mount_point())
    }

    /// What of its file system is mounted: `/` for all of it; for others than directories and files of a disk whatever the
    /// file system says, such as `net:[4026531840]`. What has been deleted since ends in `//deleted`.
    #[must_use]
    pub fn root(self) -> &'t OsStr {
        self.text(self.record.root)
    }

    /// Whether what is mounted has been deleted where it was.
    #[must_use]
    pub fn is_deleted(self) -> bool {
        self.root().as_bytes().ends_with(b"//deleted")
    }

    /// The type of its file system, such as `ext4`, without the subtype.
    #[must_use]
    pub fn fs_type(self) -> &'t OsStr {
        self.text(self.record.fs_type)
    }

    /// What the file system is beside its type: `sshfs` of `fuse.sshfs`. None also where the kernel did not tell.
    #[must_use]
    #[doc(alias = "STATMOUNT_FS_SUBTYPE")]
    pub fn subtype(self) -> Option<&'t OsStr> {
        Some(self.text(self.record.subtype)).filter(|subtype| !subtype.is_empty())
    }

    /// What was mounted, in the words of whoever mounted it: a device, an export, or anything; it may be empty. None where
    /// the kernel did not tell: the table is from [statmount](super::TableSource::Statmount) alone, before Linux 6.13.
    #[must_use]
    #[doc(alias = "STATMOUNT_SB_SOURCE")]
    pub fn source(self) -> Option<&'t OsStr> {
        self.table.known.source.then(|| self.text(self.record.source))
    }

    /// The options of the file system itself: `size=64k`. None where the kernel did not tell: the table is from
    /// [statmount](super::TableSource::Statmount) alone, before Linux 6.11.
    #[must_use]
    #[doc(alias = "STATMOUNT_MNT_OPTS")]
    pub fn options(self) -> Option<MountOptions<'t>> {
        self.table.known.options.then(|| MountOptions::new(self.record.options.of(&self.table.text)))
    }

    /// The flags of the file system.
    #[must_use]
    pub fn super_flags(self) -> SuperFlags {
        SuperFlags::from_bits_truncate(self.record.super_flags)
    }

    /// The device of the file system, major and minor: of those without a disk a number that the kernel made up.
    #[must_use]
    #[doc(alias = "st_dev")]
    pub fn device(self) -> (u32, u32) {
        self.record.device
    }

    /// What the mount allows.
    #[must_use]
    #[doc(alias = "mnt_attr")]
    pub fn attrs(self) -> MountAttr {
        MountAttr::from_bits_truncate(self.record.attrs)
    }

    /// When reading a file writes its access time.
    #[must_use]
    pub fn atime(self) -> Atime {
        match self.record.attrs & libc::MOUNT_ATTR__ATIME {
            libc::MOUNT_ATTR_NOATIME => Atime::Never,
            libc::MOUNT_ATTR_STRICTATIME => Atime::Strict,
            _ => Atime::Relative,
        }
    }

    /// Whether other owners are shown through it than the files have.
    #[must_use]
    #[doc(alias = "MOUNT_ATTR_IDMAP")]
    pub fn is_idmapped(self) -> bool {
        self.record.attrs & libc::MOUNT_ATTR_IDMAP != 0
    }

    fn id_maps(self) -> Option<&'t IdMaps> {
        let maps = &self.table.id_maps;
        let at = maps.partition_point(|(place, _)| *place < self.place);
        maps.get(at).filter(|(place, _)| *place == self.place).map(|(_, maps)| maps)
    }

    /// How the users of an idmapped mount are shown. None for others, and before Linux 6.15.
    #[must_use]
    #[doc(alias = "STATMOUNT_MNT_UIDMAP")]
    pub fn uid_map(self) -> Option<&'t [MountIdRange]> {
        self.id_maps().map(|maps| &*maps.uids)
    }

    /// How the groups of an idmapped mount are shown. None for others, and before Linux 6.15.
    #[must_use]
    #[doc(alias = "STATMOUNT_MNT_GIDMAP")]
    pub fn gid_map(self) -> Option<&'t [MountIdRange]> {
        self.id_maps().map(|maps| &*maps.gids)
    }

    /// Its propagation in a word. One that is shared and a slave, which passes on what its master sends, is called shared:
    /// [`master`](Self::master) tells.
    #[must_use]
    pub fn propagation(self) -> Propagation {
        match (self.peer_group(), self.master()) {
            (Some(_), _) => Propagation::Shared,
            (None, Some(_)) => Propagation::Slave,
            (None, None) if self.record.unbindable => Propagation::Unbindable,
            (None, None) => Propagation::Private,
        }
    }

    /// The number of its peer group, if it is shared.
    #[must_use]
    #[doc(alias = "shared")]
    pub fn peer_group(self) -> Option<u32> {
        Some(self.record.peer_group).filter(|group| *group != 0)
    }

    /// The number of the peer group that it gets mounts from, if it is a slave.
    #[must_use]
    pub fn master(self) -> Option<u32> {
        Some(self.record.master).filter(|group| *group != 0)
    }

    /// The nearest peer group above its master that can be seen from here, where the master cannot.
    #[must_use]
    pub fn propagate_from(self) -> Option<u32> {
        Some(self.record.propagate_from).filter(|group| *group != 0)
    }
}

impl PartialEq for MountEntry<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.table, other.table) && self.place == other.place
    }
}

impl Eq for MountEntry<'_> {}

impl fmt::Debug for MountEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MountEntry")
            .field("unique_id", &self.unique_id())
            .field("id", &self.id())
            .field("parent_id", &self.parent_id())
            .field("device", &self.device())
            .field("root", &self.root())
            .field("mount_point", &self.mount_point())
            .field("attrs", &self.attrs())
            .field("atime", &self.atime())
            .field("idmapped", &self.is_idmapped())
            .field("propagation", &self.propagation())
            .field("peer_group", &self.peer_group())
            .field("master", &self.master())
            .field("propagate_from", &self.propagate_from())
            .field("fs_type", &self.fs_type())
            .field("subtype", &self.subtype())
            .field("source", &self.source())
            .field("super_flags", &self.super_flags())
            .field("options", &self.options())
            .finish()
    }
}

impl fmt::Display for MountEntry<'_> {
    /// `tmpfs "tmpfs" on "/tmp" (ro,nosuid,relatime,size=64k)`: names are quoted, with what a terminal must not see escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::tree::fs_type(*self))?;
        if let Some(source) = self.source() {
            write!(f, " {source:?}")?;
        }
        write!(f, " on {:?} ({})", self.mount_point(), super::tree::visible(super::tree::options(*self).as_bytes()))
    }
}
