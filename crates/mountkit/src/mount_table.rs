//! What is mounted where, as the kernel tells it.
#![forbid(unsafe_code)]

mod diff;
mod entry;
mod find;
mod from_kernel;
mod from_text;
mod index;
mod options;
mod read;
mod record;
mod tree;
mod watch;

#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use cellkit_core::{Error, ProcFd, ProcView, Result, Subject};

pub use diff::MountDiff;
pub use entry::{MountEntry, SuperFlags};
pub use options::MountOptions;
pub use record::MountIdRange;
pub use tree::MountTree;
pub use watch::MountWatch;

use index::Index;
use record::{IdMaps, Known, Record};

use crate::hint::HINTS;
use crate::sys::statmount::{self as sys, LSMT_ROOT, MountId};

/// What is mounted where: one mount namespace, or a part of it, at one moment.
///
/// The mounts are in the order they were made, each a [`MountEntry`] with all that the kernel tells. Paths are bytes, as
/// they are: nothing is escaped in them.
///
/// ```
/// use mountkit::MountTable;
///
/// let table = MountTable::read()?;
/// let proc = table.at("/proc").expect("something is mounted there");
/// assert_eq!(proc.fs_type(), "proc");
/// assert_eq!(table.covering("/proc/sys/kernel/hostname").map(|mount| mount.id()), Some(proc.id()));
/// println!("{}", table.tree());
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// # What is read
/// | | Linux | |
/// |---|---|---|
/// | `/proc/thread-self/mountinfo` | | all but the two below |
/// | listmount(2) and statmount(2) | 6.8 | [unique ids](MountEntry::unique_id) |
/// | statmount(2) | 6.15 | [id maps](MountEntry::uid_map) of idmapped mounts |
///
/// Where `/proc` is hidden or is something else, all is asked of statmount(2), which knows everything since 6.13, and
/// before that neither [`source`](MountEntry::source) nor [`subtype`](MountEntry::subtype) (and until 6.11 no
/// [`options`](MountEntry::options)). Where a kernel or a seccomp filter has no listmount, there are no unique ids. A table
/// says [what it is from](Self::source). It shows what can be reached from the caller's root: after chroot(2) that is less
/// than the namespace has. Detached mounts are in no table.
///
/// # While mounts come and go
/// A mount that vanishes while the table is read is not in it; that is no error. When anything changed meanwhile it is
/// read again, up to sixteen times; [`is_settled`](Self::is_settled) says whether the last time nothing did.
///
/// # Cost
/// Linear in the number of mounts, and little beyond what the kernel takes to tell it (`docs/benchmarks.md`). The first
/// query sorts it once. For a few of very many mounts, see [`of_tree`](Self::of_tree) and [`of_mount`](Self::of_mount).
///
/// See proc_pid_mountinfo(5): <https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html>, and listmount(2):
/// <https://man7.org/linux/man-pages/man2/listmount.2.html>.
#[derive(Clone, Debug)]
#[doc(alias("mountinfo", "listmount", "statmount", "findmnt", "getmntent"))]
pub struct MountTable {
    text: Vec<u8>,
    records: Vec<Record>,
    /// By place, ascending.
    id_maps: Vec<(usize, IdMaps)>,
    known: Known,
    namespace: Option<u64>,
    source: TableSource,
    settled: bool,
    index: OnceLock<Index>,
}

/// What a [`MountTable`] is from.
///
/// ```
/// use mountkit::{MountTable, TableSource};
///
/// let table = MountTable::read_from(TableSource::Mountinfo)?;
/// assert_eq!(table.source(), TableSource::Mountinfo);
/// assert!(table.iter().all(|mount| mount.unique_id().is_none()));
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// See statmount(2): <https://man7.org/linux/man-pages/man2/statmount.2.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TableSource {
    /// The text of mountinfo alone: no unique ids and no id maps.
    Mountinfo,
    /// listmount(2) and statmount(2) alone: no /proc is needed. Linux 6.8, with everything in it since 6.15.
    Statmount,
    /// Both, put together: all that there is.
    Both,
}

impl MountTable {
    fn new() -> Self {
        Self {
            text: Vec::new(),
            records: Vec::new(),
            id_maps: Vec::new(),
            known: Known::ALL,
            namespace: None,
            source: TableSource::Mountinfo,
            settled: true,
            index: OnceLock::new(),
        }
    }

    /// Reads what the calling thread sees mounted, from the best there is.
    ///
    /// * Files and calls: mountinfo, opened by [`ProcFd`](cellkit_core::ProcFd); listmount(2), statmount(2). Privileges: none.
    ///
    /// # Errors
    /// That of opening `/proc`, where that cannot be done and there is no statmount(2) either; Limit (EMFILE, ENFILE),
    /// OutOfMemory.
    pub fn read() -> Result<Self> {
        match read::own_mountinfo() {
            Ok(mountinfo) => read::from_mountinfo(mountinfo, read::Ids::Own),
            Err(no_proc) => read::from_kernel(None, LSMT_ROOT).map_err(|_| no_proc),
        }
    }

    /// Reads what the calling thread sees mounted, from one source only; [`TableSource::Both`] is [`read`](Self::read).
    ///
    /// # Errors
    /// Those of the source: of opening `/proc`; Unsupported before Linux 6.8 or behind a seccomp filter that hides
    /// statmount(2).
    pub fn read_from(source: TableSource) -> Result<Self> {
        match source {
            TableSource::Both => Self::read(),
            TableSource::Mountinfo => read::from_mountinfo(read::own_mountinfo()?, read::Ids::Unknown),
            TableSource::Statmount => read::from_kernel(None, LSMT_ROOT),
        }
    }

    /// Reads what the process of `pidfd` sees mounted, with paths as it sees them: from its root.
    ///
    /// * Files and calls: its mountinfo; NS_GET_MNTNS_ID, listmount(2) and statmount(2) since Linux 6.11, with
    ///   CAP_SYS_ADMIN over its mount namespace if that is not the caller's: otherwise there are no unique ids.
    ///
    /// ```no_run
    /// # let pidfd = std::fs::File::open("/dev/null").unwrap();
    /// // Of a child, say: ns_core's and the standard library's have a pidfd.
    /// let table = mountkit::MountTable::of_process(&pidfd)?;
    /// # Ok::<(), mountkit::Error>(())
    /// ```
    ///
    /// # Errors
    /// Gone when it has died; Invalid for a descriptor that is not a pidfd; Permission for a process that the caller may
    /// not look into (hidepid).
    pub fn of_process(pidfd: impl AsFd) -> Result<Self> {
        let process = ProcFd::of_the_machine().or_else(|_| ProcFd::open(ProcView::Processes))?.process(pidfd)?;
        let mountinfo = process.open_file(Path::new("mountinfo"), libc::O_RDONLY)?;
        let namespace = process.namespace("mnt").ok().and_then(|namespace| sys::namespace_id(namespace.as_fd()).ok());
        read::from_mountinfo(mountinfo, namespace.map_or(read::Ids::Unknown, read::Ids::Of))
    }

    /// Reads all that is mounted in a mount namespace, given as a descriptor, with paths from the namespace's own root.
    ///
    /// * Calls: a thread is made that enters the namespace (setns(2)), reads its own mountinfo and ends. Where that is
    ///   refused, NS_GET_MNTNS_ID and what [`of_namespace_id`](Self::of_namespace_id) does, Linux 6.11.
    /// * Privileges: CAP_SYS_ADMIN in the user namespace that owns it; to enter, also CAP_SYS_ADMIN and CAP_SYS_CHROOT in
    ///   the caller's own. None for the caller's own namespace, which is then shown from the caller's root.
    ///
    /// ```no_run
    /// let namespace = std::fs::File::open("/run/mntns/one")?; // a pin, or one of ns_core's handles
    /// for mount in mountkit::MountTable::of_namespace(&namespace)?.iter() {
    ///     println!("{mount}");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Permission (EPERM), Invalid for what is no mount namespace.
    #[doc(alias("NS_GET_MNTNS_ID", "setns"))]
    pub fn of_namespace(namespace: impl AsFd) -> Result<Self> {
        let namespace = namespace.as_fd();
        read::by_entering(namespace).or_else(|refused| {
            let listed = sys::namespace_id(namespace).ok().and_then(|id| read::of_namespace(id).ok());
            listed.ok_or(refused)
        })
    }

    /// Reads all that is mounted in the mount namespace of this unique number, with paths from the namespace's own root.
    ///
    /// The number is what NS_GET_MNTNS_ID answers, and [`namespace_id`](Self::namespace_id) of a table.
    ///
    /// * Calls: listmount(2) and statmount(2), Linux 6.11. Privileges: CAP_SYS_ADMIN in the user namespace that owns it.
    ///
    /// Of a namespace that lives on an initramfs, or in which one has left mounts behind, these calls do not tell what its
    /// root directory is: that is an error, and a descriptor is needed ([`of_namespace`](Self::of_namespace)).
    ///
    /// ```no_run
    /// use mountkit::MountTable;
    ///
    /// # let namespace = std::fs::File::open("/dev/null").unwrap();
    /// let id = MountTable::of_namespace(&namespace)?.namespace_id().expect("Linux 6.11");
    /// let later = MountTable::of_namespace_id(id)?;
    /// # Ok::<(), mountkit::Error>(())
    /// ```
    ///
    /// # Errors
    /// NotFound (ENOENT): there is no such namespace, or the caller has no rights over it, or there is one mount in it and
    /// no other; Unsupported (also EINVAL before 6.11) and where the calls do not tell what the
    /// root is.
    pub fn of_namespace_id(id: u64) -> Result<Self> {
        read::of_namespace(id).map_err(|error| {
            let error = error.or_unsupported("listing the mounts of another namespace", "6.11");
            error.on(Subject::Namespace(format!("mount namespace {id}")))
        })
    }

    /// Reads only the mount that `fd` is on and all that is mounted below it, anywhere: the first entry is that mount.
    ///
    /// Of a machine with very many mounts this reads few: it takes time for those found, and a tenth of a microsecond for
    /// each of the others. A descriptor with O_PATH will do.
    ///
    /// * Calls: statx(2), listmount(2), statmount(2), Linux 6.13; before that, the whole table, of which the rest is left
    ///   out. Privileges: none.
    ///
    /// ```
    /// use mountkit::MountTable;
    ///
    /// let table = MountTable::of_tree(std::fs::File::open("/proc")?)?;
    /// assert_eq!(table.iter().next().expect("itself").mount_point(), "/proc");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`read`](Self::read); NotFound for a mount that the caller's root does not reach, such as a detached one.
    pub fn of_tree(fd: impl AsFd) -> Result<Self> {
        Self::part(fd.as_fd(), |id| read::from_kernel(None, id))
    }

    /// Reads only the mount that `fd` is on: a table with one entry, in a few microseconds however many mounts there are.
    ///
    /// ```
    /// use mountkit::MountTable;
    ///
    /// let table = MountTable::of_mount(std::fs::File::open("/proc/self/mountinfo")?)?;
    /// let mount = table.iter().next().expect("one");
    /// assert_eq!((mount.mount_point(), mount.fs_type()), ("/proc".as_ref(), "proc".as_ref()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// * Calls: statx(2), statmount(2), Linux 6.13; before that, the whole table. Privileges: none.
    ///
    /// # Errors
    /// As [`of_tree`](Self::of_tree).
    pub fn of_mount(fd: impl AsFd) -> Result<Self> {
        let mut table = Self::part(fd.as_fd(), |id| read::only(None, id))?;
        table.records.truncate(1);
        table.id_maps.retain(|(place, _)| *place == 0);
        table.index = OnceLock::new();
        Ok(table)
    }

    fn part(fd: std::os::fd::BorrowedFd<'_>, ask: impl FnOnce(u64) -> Result<Self>) -> Result<Self> {
        let id = sys::mount_of(fd)
            .map_err(|errno| Error::from_errno("statx", errno.0).on(Subject::Thing("a descriptor".into())))?;
        let table = match id {
            MountId::Unique(id) => ask(id).ok().filter(|table| table.known == Known::ALL && !table.is_empty()),
            MountId::Old(_) => None,
        };
        let table = match table {
            Some(table) => table,
            None => read::only_tree(Self::read()?, id),
        };
        if table.is_empty() {
            return Err(Error::from_errno("statmount", libc::ENOENT)
                .on(Subject::Thing(format!("the mount of {id}")))
                .with_hints(&HINTS));
        }
        Ok(table)
    }

    /// Takes what somebody has read from a `/proc/PID/mountinfo`. Lines that are none, such as one that was cut off, are
    /// left out, and of lines with the same id all but the last; [`is_settled`](Self::is_settled) says that there were some.
    ///
    /// ```
    /// use mountkit::MountTable;
    ///
    /// let table = MountTable::parse("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n");
    /// let mount = table.iter().next().expect("one");
    /// assert_eq!(mount.mount_point(), "/mnt 2");
    /// assert_eq!(mount.master(), Some(1));
    /// ```
    pub fn parse(mountinfo: impl Into<Vec<u8>>) -> Self {
        let mut text = mountinfo.into();
        let (records, settled) = from_text::parse(&mut text);
        Self { text, records, settled, ..Self::new() }
    }

    /// What it is from.
    #[must_use]
    pub fn source(&self) -> TableSource {
        self.source
    }

    /// Whether nothing changed while it was read, so that all of it was true at one moment. When it is not, a mount that
    /// was moved or changed meanwhile may be shown as before or as after; none is shown that never was.
    ///
    /// From [`TableSource::Statmount`] alone, the kernel cannot be asked whether anything changed: mounts that came and went
    /// and those that were moved are seen, but not those whose attributes were changed.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// The unique number of the mount namespace. Linux 6.11.
    #[must_use]
    #[doc(alias("STATMOUNT_MNT_NS_ID", "mnt_ns_id"))]
    pub fn namespace_id(&self) -> Option<u64> {
        self.namespace
    }

    /// How many mounts there are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether nothing is in it: a process in an empty chroot(2) sees nothing mounted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// All mounts, in the order they were made; before Linux 6.8, parents before children.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = MountEntry<'_>> + ExactSizeIterator {
        (0..self.records.len()).map(|place| MountEntry::new(self, place))
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| Index::new(&self.records, &self.text))
    }

    fn entry(&self, place: usize) -> Option<MountEntry<'_>> {
        (place < self.records.len()).then(|| MountEntry::new(self, place))
    }

    /// The table as findmnt(8) prints it.
    #[must_use]
    pub fn tree(&self) -> MountTree<'_> {
        MountTree::new(self)
    }

    /// What is different in `later`.
    ///
    /// ```
    /// use mountkit::MountTable;
    ///
    /// let before = MountTable::read()?;
    /// let after = MountTable::read()?;
    /// assert!(before.diff(&after).added.iter().all(|mount| before.by_unique_id(mount.unique_id().unwrap_or(0)).is_none()));
    /// # Ok::<(), mountkit::Error>(())
    /// ```
    #[must_use]
    pub fn diff<'t>(&'t self, later: &'t Self) -> MountDiff<'t> {
        MountDiff::new(self, later)
    }
}

/// Bytes as the name of a file.
fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}
