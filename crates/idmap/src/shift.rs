//! Changing who owns a tree, where an idmapped mount is not possible.
#![forbid(unsafe_code)]

pub(crate) mod acl;
mod dir;
pub(crate) mod file_caps;
mod inode;
mod journal;
pub(crate) mod renumbering;
mod walk;

use std::num::NonZero;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use cellkit_core::{Error, ProcFd, ProcView, Result};

use crate::hint::HINTS;
use crate::id_kind::IdKind;
use crate::sys::tree::{self, Stat};
use crate::{Extent, IdMap, IdMaps, sys};
use inode::{Alone, Pass};
use journal::{Came, Journal};
use renumbering::{Renumbering, Step};

/// What a shift does about ids that its maps do not have.
///
/// ```
/// use idmap::{Shift, Unmapped};
///
/// let shift = Shift::to_outside(&"100000:100000:65536".parse()?).unmapped(Unmapped::Leave);
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// See user_namespaces(7): <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unmapped {
    /// The first that is met is an error, and its file stays as it is. Files before it have been shifted;
    /// [`Shift::check`] tells before anything is.
    #[default]
    Refuse,
    /// They stay, and their files are counted in [`Shifted::unmapped`]. Whatever else the file has is shifted.
    Leave,
}

/// Changes the owners of all files of a tree by a function of the old ids: what an idmapped mount shows, made true on
/// disk. It is for where such a mount is not possible: file systems without them, kernels before 5.12, ordinary users.
///
/// What it changes:
/// * uids and gids of everything in the tree, links and devices too (links themselves, never what they lead to);
/// * file capabilities: the uid that is root of the namespace where they count;
/// * POSIX access control lists and default lists: named users and groups;
/// * setuid and setgid bits and file capabilities, which a change of owner takes away, are put back.
///
/// What it leaves alone: other mounts below the tree, unless [`cross_mounts`](Self::cross_mounts) is asked for; NFSv4
/// access control lists (counted); quota project ids; ids inside files.
///
/// Nothing is reached by a path. Directories are descended by descriptors, one name at a time, with O_NOFOLLOW; where
/// anybody but the caller could put another file in the place of a name, the file is held by a descriptor and changed
/// through that, so that a program that moves things about in the tree meanwhile leads nowhere. The tree should be at
/// rest all the same: what is made while the shift walks may be missed, and who writes to a setuid file between the
/// moment that it loses the bit and the moment that it has it back keeps the bit on what was written.
///
/// # Making it again
/// Each file is changed so that doing it twice is doing it once, so a shift that failed or was killed is made again with
/// the same maps, and ends where one that was never interrupted does. Two things need a journal for that, a file that the
/// caller keeps: see [`apply_with_journal`](Self::apply_with_journal).
/// * Maps in which an id is both an old and a new one, as the rootless `0:1000:1,1:100000:65536`. Without a journal these
///   are refused.
/// * The few files that are in hand when it is killed: one that has its new owner, but not yet its setuid bit or
///   capabilities again, does not get them back without a journal.
///
/// # Speed
/// A plain file costs three system calls in a directory that only the caller may write to, or that becomes one; any other
/// costs five and more. `chown -R` makes one, looks at nothing, and works alone. Several threads work
/// ([`threads`](Self::threads)), which have a working directory of their own and never touch the caller's. Descriptors and memory are bounded, however many files there are and however deep they are. At most one
/// descriptor for each 1024 directories that are beside each other comes on top.
///
/// # Kernel and privileges
/// Linux 5.15, no fallback needed: statx(2), fchownat(2), setxattr(2), fchmodat(2), unshare(2) with CLONE_FS. Needs
/// CAP_CHOWN, CAP_FOWNER, CAP_FSETID and CAP_SETFCAP over the files: root, or root of a user namespace that has all ids
/// in question, old and new (`podman unshare`). `/proc` must be mounted.
///
/// ```no_run
/// use idmap::{IdMaps, Shift};
///
/// let maps: IdMaps = "100000:100000:65536".parse()?;
/// let tree = std::fs::File::open("/var/lib/cell/web/rootfs").map_err(|e| idmap::Error::from_io("open", &e))?;
/// let shifted = Shift::to_outside(&maps).apply(&tree)?;
/// println!("{} files changed", shifted.changed);
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// See chown(2): <https://man7.org/linux/man-pages/man2/chown.2.html>.
#[doc(alias = "chown")]
#[doc(alias = "fchownat")]
#[derive(Clone, Debug)]
#[must_use = "a shift does nothing until `apply`"]
pub struct Shift {
    uids: Renumbering,
    gids: Renumbering,
    unmapped: Unmapped,
    cross_mounts: bool,
    threads: Option<NonZero<usize>>,
    progress: Option<Arc<AtomicU64>>,
}

/// What a shift met. Files with several names count once for each.
///
/// ```no_run
/// # let (shift, tree): (idmap::Shift, std::fs::File) = unimplemented!();
/// let shifted = shift.apply(&tree)?;
/// if shifted.vanished > 0 {
///     eprintln!("somebody works in the tree: shift it again when they have ended");
/// }
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// See chown(2): <https://man7.org/linux/man-pages/man2/chown.2.html>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shifted {
    /// Files of which something was changed: owner, list or capabilities.
    pub changed: u64,
    /// Files that were as they should be.
    pub settled: u64,
    /// Files that keep an id that the maps do not have. They are among the others too.
    pub unmapped: u64,
    /// Names where another mount begins, which was left alone.
    pub other_mounts: u64,
    /// Files with an NFSv4 access control list, which was left alone.
    pub nfs4_acls: u64,
    /// Names that were gone when their turn came, or directories that had become something else.
    pub vanished: u64,
}

impl Shifted {
    fn count(&mut self, changes: bool, unmapped: bool) {
        self.changed += u64::from(changes);
        self.settled += u64::from(!changes);
        self.unmapped += u64::from(unmapped);
    }

    /// How many it is about.
    fn files(&self) -> u64 {
        self.changed + self.settled
    }

    fn add(&mut self, other: Self) {
        self.changed += other.changed;
        self.settled += other.settled;
        self.unmapped += other.unmapped;
        self.other_mounts += other.other_mounts;
        self.nfs4_acls += other.nfs4_acls;
        self.vanished += other.vanished;
    }
}

impl Shift {
    /// From the ids inside to those outside.
    fn new(uids: &IdMap, gids: &IdMap) -> Self {
        let (uids, gids) = (Renumbering::new(uids), Renumbering::new(gids));
        Self { uids, gids, unmapped: Unmapped::default(), cross_mounts: false, threads: None, progress: None }
    }

    /// The ids on disk are those inside, and become those outside: an image that was unpacked as it is, for a container
    /// with these maps.
    ///
    /// ```
    /// let shift = idmap::Shift::to_outside(&"100000:100000:65536".parse()?);
    /// # Ok::<(), idmap::Error>(())
    /// ```
    pub fn to_outside(maps: &IdMaps) -> Self {
        Self::new(&maps.uid, &maps.gid)
    }

    /// The ids on disk are those outside, and become those inside: what a container with these maps left, to be packed
    /// into an image.
    ///
    /// ```
    /// let shift = idmap::Shift::to_inside(&"100000:100000:65536".parse()?);
    /// # Ok::<(), idmap::Error>(())
    /// ```
    pub fn to_inside(maps: &IdMaps) -> Self {
        Self::new(&maps.uid.invert(), &maps.gid.invert())
    }

    /// A container moves from some maps to others: an id outside by `from` becomes what the same id inside is by `to`.
    ///
    /// ```
    /// let (old, new) = ("100000:100000:65536".parse()?, "300000:300000:65536".parse()?);
    /// let shift = idmap::Shift::between(&old, &new);
    /// # Ok::<(), idmap::Error>(())
    /// ```
    pub fn between(from: &IdMaps, to: &IdMaps) -> Self {
        Self::new(&from.uid.invert().through(&to.uid), &from.gid.invert().through(&to.gid))
    }

    /// What to do about ids that the maps do not have: refuse them, unless told.
    pub fn unmapped(mut self, unmapped: Unmapped) -> Self {
        self.unmapped = unmapped;
        self
    }

    /// Goes into other mounts below the tree too. They are left alone unless told.
    pub fn cross_mounts(mut self) -> Self {
        self.cross_mounts = true;
        self
    }

    /// How many threads work: as many as there are processors, at most eight, unless told.
    pub fn threads(mut self, threads: NonZero<usize>) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Counts the files that were looked at in `count`, which another thread may read meanwhile. A shift that takes two
    /// walks meets each of them twice, or three times.
    pub fn progress(mut self, count: Arc<AtomicU64>) -> Self {
        self.progress = Some(count);
        self
    }

    /// Looks at the whole tree, changes nothing, and answers what [`apply`](Self::apply) would do.
    ///
    /// Blocks while it reads the tree.
    ///
    /// # Errors
    /// Those of `apply` that can be known before: Invalid for an id that the maps do not have, and Permission for a file
    /// that is immutable or append-only.
    ///
    /// ```no_run
    /// # let (shift, tree): (idmap::Shift, std::fs::File) = unimplemented!();
    /// let would = shift.check(&tree)?;
    /// println!("{} files are to be changed", would.changed);
    /// # Ok::<(), idmap::Error>(())
    /// ```
    pub fn check(&self, tree: impl AsFd) -> Result<Shifted> {
        Work::new(self, tree.as_fd())?.look([&[], &[]])
    }

    /// Shifts the tree below the directory `tree`, itself included. Blocks until it is done.
    ///
    /// # Errors
    /// The first error ends it; it names the file by its path below the tree. After it, and after a kill, the same shift
    /// can be made again, as the head of this type says.
    /// * Invalid, before any effect: an id is both an old and a new one; `tree` is no directory.
    /// * Invalid, at the file: an id that the maps do not have, and [`Unmapped::Refuse`].
    /// * Permission: EPERM without the privileges, or for an immutable file; EROFS.
    /// * Parse for an access control list or capabilities in a form that the kernel does not write.
    /// * Those of fchownat(2), setxattr(2) and fchmodat(2), such as ENOSPC, EDQUOT and EIO.
    pub fn apply(&self, tree: impl AsFd) -> Result<Shifted> {
        let shared = |kind: &str, ids: &Renumbering| match ids.shared().first() {
            Some((first, _)) => Err(Error::invalid(
                "shift",
                format!(
                    "{kind} {first} is an old id and a new one: which files have been shifted cannot be told later"
                ),
            )
            .with_hint("give it a journal: apply_with_journal")),
            None => Ok(()),
        };
        shared("uid", &self.uids)?;
        shared("gid", &self.gids)?;
        Work::new(self, tree.as_fd())?.change(&self.uids.whole(), &self.gids.whole(), None)
    }

    /// As [`apply`](Self::apply), with a file in which it writes down what it needs to be made again after it was killed
    /// at any moment: also where ids are old ones and new ones, and for files with setuid bits and capabilities.
    ///
    /// `journal` is an empty regular file, open for reading and writing, that nobody else changes; keep it outside of the
    /// tree. When this returns an error or does not return, call it again with the same maps, tree and file. When it has
    /// returned a result, remove the file: with it, the same call does nothing, and says so by a result of zeros. A
    /// memfd does for those who can make the tree again.
    ///
    /// What was written is safe from the death of the process; open the file with O_DSYNC to keep it safe from that of
    /// the machine too. There are few lines: one for each file with a setuid or setgid bit or capabilities.
    ///
    /// Where ids are old ones and new ones, the tree is walked three times: to see that nothing is refused, to set those
    /// ids aside as ids that exist for the caller and that no file has, and to shift.
    ///
    /// # Errors
    /// As `apply`, and:
    /// * Invalid when the journal belongs to another tree or other maps, or is no regular file; when too few ids exist
    ///   in the caller's user namespace to set some aside, or a file has one of them.
    /// * Busy when another shift uses it (flock(2)).
    /// * Parse when it holds something else.
    /// * Those of writing to it, before the change that the line is about.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use idmap::{IdMaps, Shift};
    ///
    /// // What an ordinary user has: root inside is uid 1000. 1000 inside is uid 100999.
    /// let ids = "0:1000:1,1:100000:65536".parse()?;
    /// let maps = IdMaps::new(ids, "0:1000:1,1:100000:65536".parse()?);
    /// let state = "/var/lib/cell/web/shift";
    /// let journal = std::fs::File::options().read(true).write(true).create(true).truncate(false).open(state)?;
    /// Shift::to_outside(&maps).apply_with_journal(std::fs::File::open("/var/lib/cell/web/rootfs")?, &journal)?;
    /// std::fs::remove_file(state)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn apply_with_journal(&self, tree: impl AsFd, journal: impl AsFd) -> Result<Shifted> {
        let work = Work::new(self, tree.as_fd())?;
        let maps = [&self.uids, &self.gids];
        let (mut journal, came) = Journal::open(journal.as_fd(), work.stat.inode, maps)?;
        let (steps_ended, aside) = match came {
            Came::Done => return Ok(Shifted::default()),
            Came::To { steps, aside } => (steps, aside),
            Came::Nowhere => {
                let aside = work.staging()?;
                let [uids, gids] = &aside;
                if !uids.is_empty() || !gids.is_empty() {
                    work.look([uids, gids])?;
                }
                journal.begin(work.stat.inode, maps, [uids, gids])?;
                (0, aside)
            }
        };
        let [uids, gids] = &aside;
        let steps = if uids.is_empty() && gids.is_empty() {
            vec![(self.uids.whole(), self.gids.whole())]
        } else {
            let ((first_uids, second_uids), (first_gids, second_gids)) =
                (self.uids.staged(uids), self.gids.staged(gids));
            vec![(first_uids, first_gids), (second_uids, second_gids)]
        };
        let last = steps.len() - 1;
        let mut shifted = Shifted::default();
        for (number, (uids, gids)) in steps.iter().enumerate().skip(steps_ended) {
            shifted = work.change(uids, gids, Some(&journal))?;
            if number < last {
                journal.step_ended()?;
                journal.forget();
            }
        }
        journal.done()?;
        Ok(shifted)
    }
}

/// A shift of one tree, and what all its walks need.
struct Work<'a> {
    shift: &'a Shift,
    tree: BorrowedFd<'a>,
    stat: Stat,
    /// The descriptors of this process.
    fds: std::fs::File,
    proc: cellkit_core::ProcessDir,
}

impl<'a> Work<'a> {
    fn new(shift: &'a Shift, tree: BorrowedFd<'a>) -> Result<Self> {
        let proc = ProcFd::open(ProcView::Processes)?.this_thread()?;
        let fds = proc.open_file(Path::new("fd"), libc::O_PATH | libc::O_DIRECTORY)?;
        let stat = tree::stat(tree, c"").map_err(|errno| Error::from_errno("statx", errno.0).on(Path::new(".")))?;
        Ok(Self { shift, tree, stat, fds, proc })
    }

    /// Where shared ids go meanwhile.
    fn staging(&self) -> Result<[Vec<Extent>; 2]> {
        let of = |kind: IdKind, ids: &Renumbering| {
            if ids.shared().is_empty() {
                return Ok(Vec::new());
            }
            let exist = IdMap::from_proc(&self.proc.read(Path::new(kind.map_file()))?)?.unwrap_or_default();
            ids.staging(&exist)
        };
        Ok([of(IdKind::Uid, &self.shift.uids)?, of(IdKind::Gid, &self.shift.gids)?])
    }

    fn look(&self, reserved: [&[Extent]; 2]) -> Result<Shifted> {
        let (uids, gids) = (self.shift.uids.whole(), self.shift.gids.whole());
        self.walk(&Pass { change: false, reserved, ..self.pass(&uids, &gids, None) })
    }

    fn change(&self, uids: &Step, gids: &Step, journal: Option<&Journal>) -> Result<Shifted> {
        self.walk(&self.pass(uids, gids, journal))
    }

    fn pass<'b>(&'b self, uids: &'b Step, gids: &'b Step, journal: Option<&'b Journal>) -> Pass<'b> {
        Pass {
            uids,
            gids,
            unmapped: self.shift.unmapped,
            change: true,
            cross_mounts: self.shift.cross_mounts,
            mount: self.stat.mount,
            caller: sys::ids().uid,
            fds: &self.fds,
            journal,
            reserved: [&[], &[]],
            progress: self.shift.progress.as_deref(),
            alone: Alone::default(),
        }
    }

    fn walk(&self, pass: &Pass<'_>) -> Result<Shifted> {
        let fail = |call, errno| Error::from_errno(call, errno).on(Path::new(".")).with_hints(&HINTS);
        let root = tree::open_dir(self.tree, c".").map_err(|errno| fail("openat", errno.0))?;
        let stat = tree::stat(root.as_fd(), c"").map_err(|errno| fail("statx", errno.0))?;
        let threads = self
            .shift
            .threads
            .unwrap_or_else(|| std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN).min(EIGHT));
        walk::walk(pass, root, stat, threads)
    }
}

const EIGHT: NonZero<usize> = NonZero::<usize>::MIN.saturating_add(7);
