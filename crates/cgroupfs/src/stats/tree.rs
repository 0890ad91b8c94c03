//! The statistics of a group and of all groups below it.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use super::{BUFFER, Files, Stats, StatsParts};
use crate::hint::HINTS;
use crate::tree::{Visit, vanished, walk};
use crate::{Cgroup, Error, ErrorKind, Result, open};

/// Reads the [`Stats`] of a group and of all groups below it, again and again. Groups that come and go meanwhile are no errors:
/// they are in a reading or not.
///
/// Each reading goes through the directories, and opens the files anew: it holds one descriptor between readings, and a few
/// while it reads, however many groups there are.
///
/// ```no_run
/// use cgroupfs::{Hierarchy, StatsParts, StatsTree};
///
/// let mut tree = StatsTree::new(&Hierarchy::detect()?.open("/")?, StatsParts::CPU)?;
/// for group in tree.read()? {
///     println!("{:?} {}", group.stats.cpu_stat, group.below.display());
/// }
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#controllers>.
#[derive(Debug)]
pub struct StatsTree {
    top: Cgroup,
    parts: StatsParts,
    /// By the path below the top: what was read the last time, to be read into again.
    known: BTreeMap<PathBuf, TreeStats>,
    round: u64,
    buffer: Vec<u8>,
}

/// One group of a [`StatsTree`].
///
/// ```no_run
/// use cgroupfs::{Hierarchy, StatsParts, StatsTree};
///
/// let mut tree = StatsTree::new(&Hierarchy::detect()?.own_group()?, StatsParts::MEMORY)?;
/// // The first is the group itself.
/// assert_eq!(tree.read()?.next().map(|group| group.below.as_os_str().is_empty()), Some(true));
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#controllers>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TreeStats {
    /// Its path below the top; of the top itself, nothing.
    pub below: PathBuf,
    /// What its files say.
    pub stats: Stats,
    round: u64,
}

impl StatsTree {
    /// Of `top` and everything below it. Nothing is read yet.
    ///
    /// # Errors
    /// Limit, when there are too many descriptors.
    pub fn new(top: &Cgroup, parts: StatsParts) -> Result<Self> {
        Ok(Self { top: top.try_clone()?, parts, known: BTreeMap::new(), round: 0, buffer: vec![0; BUFFER] })
    }

    /// Reads all groups there are; one above others comes before them.
    ///
    /// # Errors
    /// Gone, when the top has been removed; whatever the kernel says where a group that is there cannot be read, the first with
    /// the [others](Error::also) attached.
    pub fn read(&mut self) -> Result<impl Iterator<Item = &TreeStats>> {
        self.round += 1;
        let (top, parts, round) = (&self.top, self.parts, self.round);
        let (known, buffer) = (&mut self.known, &mut self.buffer);
        let mut errors = Vec::new();
        let faults = walk(top.as_fd(), |visited, below| {
            let Visit::Enter(dir) = visited else { return };
            let mut read = || -> Result<()> {
                let group = top.below(dir, below)?;
                if !known.contains_key(below) {
                    let new = TreeStats { below: below.to_owned(), stats: Stats::default(), round: 0 };
                    known.insert(below.to_owned(), new);
                }
                let Some(entry) = known.get_mut(below) else { return Ok(()) };
                Files::open(&group, parts)?.read_into(&group, buffer, &mut entry.stats)?;
                entry.round = round;
                Ok(())
            };
            match read() {
                Err(error) if error.kind() == ErrorKind::Gone => {}
                outcome => errors.extend(Result::err(outcome)),
            }
        });
        errors.extend(
            faults.into_iter().map(|(below, errno)| {
                Error::from_errno("openat2", errno.0).on(top.path().join(below)).with_hints(&HINTS)
            }),
        );
        Error::all(errors)?;
        known.retain(|_, entry| entry.round == round);
        if known.is_empty() {
            return Err(Error::gone("openat2", None).on(top.path()));
        }
        Ok(known.values())
    }
}

/// The groups below a group, made by [`Cgroup::descendants`].
///
/// ```no_run
/// use cgroupfs::Hierarchy;
///
/// for group in Hierarchy::detect()?.open("/")?.descendants()? {
///     println!("{}", group?.path().display());
/// }
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See cgroups(7): <https://man7.org/linux/man-pages/man7/cgroups.7.html>.
#[derive(Debug)]
pub struct Descendants<'a> {
    top: &'a Cgroup,
    below: std::vec::IntoIter<PathBuf>,
}

impl Cgroup {
    /// openat2(2), getdents64(2): the groups below this one, those above before those below them. The names are read now, each
    /// group is opened when its turn comes; one that has been removed meanwhile is passed over.
    ///
    /// # Errors
    /// Gone; whatever the kernel says where a group cannot be looked into.
    pub fn descendants(&self) -> Result<Descendants<'_>> {
        let mut found = Vec::new();
        let faults = walk(self.as_fd(), |visited, below| {
            if matches!(visited, Visit::Enter(_)) {
                found.push(below.to_owned());
            }
        });
        Error::all(faults.into_iter().map(|(below, errno)| self.fail("openat2", errno).on(self.path().join(below))))?;
        // A directory that is held open can be opened again when it has been removed.
        if found.len() < 2 && !self.exists() {
            return Err(Error::gone("openat2", None).on(self.path()));
        }
        // The first is the group itself.
        let below: Vec<PathBuf> = found.into_iter().skip(1).collect();
        Ok(Descendants { top: self, below: below.into_iter() })
    }

    /// A handle on a group below this one, whose directory is `dir`.
    fn below(&self, dir: BorrowedFd<'_>, below: &Path) -> Result<Self> {
        let dir = dir.try_clone_to_owned().map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", &error))?;
        // Of the top itself the path is empty, and joined would have a slash at its end.
        let path = if below.as_os_str().is_empty() { self.path.clone() } else { self.path.join(below) };
        Ok(Self { dir, path, mount_point: self.mount_point.clone() })
    }
}

impl Iterator for Descendants<'_> {
    type Item = Result<Cgroup>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let below = self.below.next()?;
            match open::beneath(self.top.as_fd(), &below, open::DIRECTORY) {
                Ok(dir) => {
                    let path = self.top.path.join(below);
                    return Some(Ok(Cgroup { dir, path, mount_point: self.top.mount_point.clone() }));
                }
                Err(errno) if vanished(errno) => {}
                Err(errno) => {
                    let error = Error::from_errno("openat2", errno.0).on(self.top.path.join(below));
                    return Some(Err(error.with_hints(&HINTS)));
                }
            }
        }
    }
}
