//! One file of a tree: what is to be changed, and changing it.
//!
//! Which file a name means may change between two system calls. In a directory that belongs to the caller, and that only
//! its owner may write to, nobody but the caller and root could do that; so a plain file there is looked at and changed by
//! its name, which takes three calls. A directory that becomes such a one is changed before the names in it: the kernel
//! asks who may write at each operation, with the directory locked, so neither a descriptor nor a working directory from
//! before helps its old owner. A walk that only looks uses names everywhere. Everywhere else, and for whatever has more than an owner, the file is held by an
//! O_PATH descriptor first, and all calls are made on the very file that was looked at:
//!
//! ```text
//!   openat(dir, name, O_PATH|O_NOFOLLOW)     a link, a device or a FIFO is held as what it is; nothing is opened
//!   statx(fd)                                owner, mode, mount
//!   listxattr("fd")                          the working directory is /proc/PID/fd, where "fd" leads to that file
//!   setxattr("fd", system.posix_acl_*)       lists do not mind who the owner is
//!   write(journal)                           the mode and the capabilities that the next call takes away
//!   fchownat(fd, AT_EMPTY_PATH)              the kernel clears setuid and setgid, and removes the capabilities
//!   setxattr("fd", security.capability)
//!   fchmodat("fd")                           last: at no time is a file setuid for whom it should not be
//! ```
//!
//! An O_PATH descriptor takes no fgetxattr, and paths are not put together here; that is why a worker has a working
//! directory of its own (unshare CLONE_FS).
#![forbid(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use cellkit_core::{Errno, Error, Result};

use super::acl;
use super::dir::locked;
use super::file_caps;
use super::journal::{Journal, Kept};
use super::renumbering::{Step, Verdict};
use super::walk::{Folder, Worker};
use super::{Shifted, Unmapped};
use crate::Extent;
use crate::sys::tree::{self, Of, Stat};

const CAPABILITY: &CStr = c"security.capability";
const LISTS: [&CStr; 2] = [c"system.posix_acl_access", c"system.posix_acl_default"];
const NFS4_LIST: &CStr = c"system.nfs4_acl";
/// XATTR_LIST_MAX, XATTR_SIZE_MAX.
const LONGEST: usize = 64 << 10;

/// What is done with each file in one walk.
pub(crate) struct Pass<'a> {
    pub(crate) uids: &'a Step,
    pub(crate) gids: &'a Step,
    pub(crate) unmapped: Unmapped,
    /// Or only looked at.
    pub(crate) change: bool,
    pub(crate) cross_mounts: bool,
    /// That of the tree's root.
    pub(crate) mount: u64,
    /// Whose directories are used by name.
    pub(crate) caller: u32,
    /// `/proc/PID/fd`.
    pub(crate) fds: &'a File,
    pub(crate) journal: Option<&'a Journal>,
    /// Ids that no file may have: some are set aside as these meanwhile.
    pub(crate) reserved: [&'a [Extent]; 2],
    pub(crate) progress: Option<&'a AtomicU64>,
    pub(crate) alone: Alone,
}

/// Locks for files with several names, shared by inode number.
#[derive(Debug, Default)]
pub(crate) struct Alone([Mutex<()>; 16]);

impl Alone {
    fn of(&self, stat: &Stat) -> Option<MutexGuard<'_, ()>> {
        self.0.get(stat.inode.number as usize % self.0.len()).map(locked)
    }
}

/// What a file is to become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Owner {
    /// `None`: stays.
    uid: Option<u32>,
    gid: Option<u32>,
    unmapped: bool,
}

impl Owner {
    fn moves(self) -> bool {
        self.uid.is_some() || self.gid.is_some()
    }
}

/// What a file's extended attributes are to become.
#[derive(Debug, Default)]
struct Attributes {
    lists: Vec<(&'static CStr, Vec<u8>)>,
    /// As they are to be in the end.
    capability: Option<Vec<u8>>,
    capability_moves: bool,
    unmapped: bool,
    /// There are capabilities that this user namespace cannot see, and could not put back.
    hidden: bool,
}

/// A file that is held: where its calls go, for errors, and how its attributes are reached.
struct Held<'a> {
    fd: BorrowedFd<'a>,
    of: Of<'a>,
    folder: &'a Folder,
    /// `None` for the directory itself.
    name: Option<&'a CStr>,
}

impl Held<'_> {
    fn fail(&self, operation: &'static str, errno: Errno) -> Error {
        Error::from_errno(operation, errno.0).on(self.folder.dir.path(self.name))
    }
}

impl Pass<'_> {
    /// Whether a file is on another mount, and is not to be touched.
    pub(crate) fn is_elsewhere(&self, stat: &Stat) -> bool {
        !self.cross_mounts && stat.mount != self.mount
    }

    pub(crate) fn met(&self, names: u64) {
        if let Some(progress) = self.progress {
            progress.fetch_add(names, Ordering::Relaxed);
        }
    }

    /// Whether nobody but the caller can put something else in the place of a name.
    fn is_ours(&self, folder: &Folder) -> bool {
        folder.stat.uid == self.caller && only_its_owner_writes(&folder.stat)
    }

    /// Whether a directory becomes one in which nobody but the caller can do so.
    pub(crate) fn becomes_ours(&self, stat: &Stat) -> bool {
        self.change && self.uids.verdict(stat.uid) == Verdict::Move(self.caller) && only_its_owner_writes(stat)
    }

    fn uses_names(&self, folder: &Folder) -> bool {
        !self.change || self.is_ours(folder)
    }

    /// Before the names of a directory.
    pub(crate) fn begin(&self, folder: &Folder) -> Result<()> {
        self.enter(if self.uses_names(folder) { folder.fd.as_fd() } else { self.fds.as_fd() }, folder)
    }

    fn enter(&self, dir: BorrowedFd<'_>, folder: &Folder) -> Result<()> {
        tree::change_directory(dir).map_err(|errno| Error::from_errno("fchdir", errno.0).on(folder.dir.path(None)))
    }

    /// One name of a directory that was begun.
    pub(crate) fn name(&self, folder: &Folder, name: &CStr, kind: u8, worker: &mut Worker) -> Result<()> {
        if kind == libc::DT_DIR {
            worker.below.push(name.to_owned());
            return Ok(());
        }
        let by_name = self.uses_names(folder);
        let fail = |call, errno: Errno| Error::from_errno(call, errno.0).on(folder.dir.path(Some(name)));
        let result = if by_name {
            match self.by_name(folder, name, worker) {
                Ok(Some(())) => Ok(()),
                Ok(None) => {
                    self.enter(self.fds.as_fd(), folder)?;
                    let result = self.held(folder, name, worker);
                    self.enter(folder.fd.as_fd(), folder)?;
                    result
                }
                Err(failed) => Err(failed),
            }
        } else {
            self.held(folder, name, worker)
        };
        match result {
            Ok(()) => Ok(()),
            Err(Failed::Call(_, Errno(libc::ENOENT))) => {
                worker.shifted.vanished += 1;
                Ok(())
            }
            Err(Failed::Call(call, errno)) => Err(fail(call, errno)),
            Err(Failed::Told(error)) => Err(error),
        }
    }

    /// A plain file. `None` when it is none.
    fn by_name(&self, folder: &Folder, name: &CStr, worker: &mut Worker) -> Result<Option<()>, Failed> {
        let stat = tree::stat(folder.fd.as_fd(), name).map_err(call("statx"))?;
        if stat.is_dir() || stat.links > 1 || stat.set_id_bits() != 0 || self.kept(&stat).is_some() {
            return Ok(None);
        }
        if self.is_elsewhere(&stat) {
            worker.shifted.other_mounts += 1;
            return Ok(Some(()));
        }
        // A link has neither lists nor capabilities.
        if !stat.is_link() {
            let length = self.list(Of::Name(name), worker).map_err(call("llistxattr"))?;
            if ours_among(worker.list.get(..length).unwrap_or_default()) {
                return Ok(None);
            }
        }
        let at = || folder.dir.path(Some(name));
        let owner = self.owner(&stat).map_err(|error| Failed::Told(error.on(at())))?;
        if owner.moves() {
            self.may_change(&stat).map_err(|error| Failed::Told(error.on(at())))?;
            if self.change {
                tree::chown(folder.fd.as_fd(), name, owner.uid, owner.gid).map_err(call("fchownat"))?;
            }
        }
        worker.shifted.count(owner.moves(), owner.unmapped);
        Ok(Some(()))
    }

    /// Whatever it is.
    fn held(&self, folder: &Folder, name: &CStr, worker: &mut Worker) -> Result<(), Failed> {
        let fd = tree::open_any(folder.fd.as_fd(), name).map_err(call("openat"))?;
        let mut stat = tree::stat(fd.as_fd(), c"").map_err(call("statx"))?;
        if stat.is_dir() {
            worker.below.push(name.to_owned());
            return Ok(());
        }
        // Two workers may meet the same file by two names: one would take away what the other has just put back.
        let _alone = if stat.links > 1 {
            let alone = self.alone.of(&stat);
            stat = tree::stat(fd.as_fd(), c"").map_err(call("statx"))?;
            Some(alone)
        } else {
            None
        };
        if self.is_elsewhere(&stat) {
            worker.shifted.other_mounts += 1;
            return Ok(());
        }
        let number = number_of(&fd);
        let held = Held { fd: fd.as_fd(), of: Of::Target(&number), folder, name: Some(name) };
        self.file(&held, &stat, worker).map_err(Failed::Told)
    }

    /// A directory itself.
    pub(crate) fn directory(&self, folder: &Folder, worker: &mut Worker) -> Result<()> {
        let fd = folder.fd.as_fd();
        let held = Held { fd, of: Of::Open(fd), folder, name: None };
        let stat = tree::stat(fd, c"").map_err(|errno| held.fail("statx", errno))?;
        self.file(&held, &stat, worker)
    }

    fn file(&self, held: &Held<'_>, stat: &Stat, worker: &mut Worker) -> Result<()> {
        let at = |error: Error| error.on(held.folder.dir.path(held.name));
        let mut attributes = Attributes::default();
        if !stat.is_link() {
            let length = self.list(held.of, worker).map_err(|errno| held.fail("listxattr", errno))?;
            let names = worker.list.get(..length).unwrap_or_default();
            if ours_among(names) {
                attributes = self.attributes(held, names, &mut worker.shifted)?;
            }
        }
        let mut owner = self.owner(stat).map_err(at)?;
        if attributes.hidden {
            owner = Owner { unmapped: true, ..Owner::default() };
        }
        let kept = self.kept(stat).filter(|_| !stat.is_dir());
        // What an earlier run took away, unless somebody has changed the mode since.
        let back = kept.filter(|kept| (kept.mode ^ stat.permissions()) & !(libc::S_ISUID | libc::S_ISGID) == 0);
        let mode = back.map_or(stat.permissions(), |kept| kept.mode);
        if attributes.capability.is_none() {
            if let Some(capability) = kept.and_then(|kept| kept.capability.clone()) {
                (attributes.capability, attributes.capability_moves) = (Some(capability), true);
            }
        }
        let moves = owner.moves();
        let takes_away = moves && !stat.is_dir();
        let sets_mode = mode != stat.permissions() || takes_away && mode & (libc::S_ISUID | libc::S_ISGID) != 0;
        let sets_capability = attributes.capability_moves || takes_away && attributes.capability.is_some();
        let changes = moves || sets_mode || sets_capability || !attributes.lists.is_empty();
        if changes {
            self.may_change(stat).map_err(at)?;
        }
        worker.shifted.count(changes, owner.unmapped || attributes.unmapped);
        if !changes || !self.change {
            return Ok(());
        }
        for (name, list) in &attributes.lists {
            let operation = if *name == LISTS[0] { "setxattr posix_acl_access" } else { "setxattr posix_acl_default" };
            tree::set_attribute(held.of, name, list).map_err(|errno| held.fail(operation, errno))?;
        }
        if let Some(journal) = self.journal.filter(|_| takes_away && (sets_mode || sets_capability)) {
            let capability = attributes.capability.as_deref();
            journal.keep(stat.inode, mode, capability).map_err(at)?;
        }
        let mut lost = String::new();
        if moves {
            tree::chown(held.fd, c"", owner.uid, owner.gid).map_err(|errno| held.fail("fchownat", errno))?;
            if takes_away && self.journal.is_none() && (sets_mode || sets_capability) {
                let capability = if sets_capability { " and its file capabilities" } else { "" };
                lost =
                    format!("the file has its new owner and has lost its mode {mode:04o}{capability}: put them back");
            }
        }
        let say = |error: Error| if lost.is_empty() { error } else { error.with_hint(lost.clone()) };
        if let Some(capability) = attributes.capability.as_deref().filter(|_| sets_capability) {
            tree::set_attribute(held.of, CAPABILITY, capability)
                .map_err(|errno| say(held.fail("setxattr security.capability", errno)))?;
        }
        if sets_mode {
            let number = number_of(&held.fd);
            tree::chmod(self.fds.as_fd(), &number, mode).map_err(|errno| say(held.fail("fchmodat", errno)))?;
        }
        Ok(())
    }

    fn kept(&self, stat: &Stat) -> Option<&Kept> {
        self.journal?.kept(&stat.inode)
    }

    /// # Errors
    /// When an id is unmapped, and that is not allowed.
    fn owner(&self, stat: &Stat) -> Result<Owner> {
        let (uid, gid) = (self.uids.verdict(stat.uid), self.gids.verdict(stat.gid));
        let owner = Owner {
            uid: self.moved(uid, "uid", stat.uid)?,
            gid: self.moved(gid, "gid", stat.gid)?,
            unmapped: uid == Verdict::Unmapped || gid == Verdict::Unmapped,
        };
        Ok(owner)
    }

    fn moved(&self, verdict: Verdict, what: &'static str, id: u32) -> Result<Option<u32>> {
        match verdict {
            Verdict::Move(new) => Ok(Some(new)),
            Verdict::Settled => Ok(None),
            Verdict::Unmapped => self.left(what, id).map(|()| None),
        }
    }

    /// An unmapped id.
    fn left(&self, what: &'static str, id: u32) -> Result<()> {
        let [uids, gids] = self.reserved;
        let reserved = if what == "uid" { uids } else { gids };
        if reserved.iter().any(|extent| id >= extent.outside() && id - extent.outside() < extent.count()) {
            let why = format!("{what} {id} was to be used meanwhile, and is in the tree already");
            return Err(Error::invalid("shift", why));
        }
        if self.unmapped == Unmapped::Leave {
            return Ok(());
        }
        let why = if id == u32::MAX {
            format!("an access control list names a {what} that this user namespace does not have")
        } else {
            format!("{what} {id} is not in the map")
        };
        Err(Error::invalid("shift", why).with_hint("map it, or leave such ids alone: Unmapped::Leave"))
    }

    /// Refuses what cannot be changed before anything of it is.
    fn may_change(&self, stat: &Stat) -> Result<()> {
        if !stat.frozen {
            return Ok(());
        }
        Err(Error::from_errno("fchownat", libc::EPERM)
            .with_hint("the file is immutable or append-only: look with lsattr -d, and allow it with chattr -ia"))
    }

    /// The names of its attributes, in the worker's buffer. None where the file system has none.
    fn list(&self, of: Of<'_>, worker: &mut Worker) -> Result<usize, Errno> {
        loop {
            match tree::list_attributes(of, &mut worker.list) {
                Err(Errno(libc::ERANGE)) if worker.list.len() < LONGEST => worker.list.resize(LONGEST, 0),
                Err(Errno(libc::EOPNOTSUPP)) => return Ok(0),
                answer => return answer,
            }
        }
    }

    fn attributes(&self, held: &Held<'_>, names: &[u8], shifted: &mut Shifted) -> Result<Attributes> {
        let mut found = Attributes::default();
        let has = |name: &CStr| each(names).any(|one| one == name.to_bytes());
        let parse = |operation: &'static str, why| Error::parse(operation, why).on(held.folder.dir.path(held.name));
        shifted.nfs4_acls += u64::from(has(NFS4_LIST));
        if has(CAPABILITY) {
            let mut buffer = [0; file_caps::MOST];
            match tree::get_attribute(held.of, CAPABILITY, &mut buffer) {
                Ok(length) => {
                    let value = buffer.get(..length).unwrap_or_default();
                    let root = file_caps::root_of(value).map_err(|why| parse("getxattr security.capability", why))?;
                    let verdict = self.uids.verdict(root);
                    let moved = self.moved(verdict, "uid", root).map_err(|error| {
                        error.on(held.folder.dir.path(held.name)).context("the root of its file capabilities")
                    })?;
                    found.unmapped |= verdict == Verdict::Unmapped;
                    found.capability_moves = moved.is_some();
                    found.capability =
                        Some(moved.map_or_else(|| value.to_vec(), |new| file_caps::with_root(value, new)));
                }
                // They count for the root of a namespace that this one does not know.
                Err(Errno(libc::EOVERFLOW)) if self.unmapped == Unmapped::Leave => found.hidden = true,
                Err(Errno(libc::ENODATA)) => {}
                Err(errno) => return Err(held.fail("getxattr security.capability", errno)),
            }
        }
        for name in LISTS.into_iter().filter(|name| has(name)) {
            let mut buffer = vec![0; 1024];
            let length = loop {
                match tree::get_attribute(held.of, name, &mut buffer) {
                    Ok(length) => break length,
                    Err(Errno(libc::ERANGE)) if buffer.len() < LONGEST => buffer.resize(LONGEST, 0),
                    Err(Errno(libc::ENODATA)) => break 0,
                    Err(errno) => return Err(held.fail("getxattr posix_acl", errno)),
                }
            };
            if length == 0 {
                continue;
            }
            let list = buffer.get(..length).unwrap_or_default();
            let uid = |id| self.uids.verdict(id);
            let gid = |id| self.gids.verdict(id);
            let rewritten = acl::rewrite(list, uid, gid).map_err(|why| parse("getxattr posix_acl", why))?;
            if let Some((what, id)) = rewritten.unmapped {
                self.left(what, id).map_err(|error| error.on(held.folder.dir.path(held.name)))?;
                found.unmapped = true;
            }
            // The kernel does not take back the id that it shows for one it cannot show.
            let shown = !matches!(rewritten.unmapped, Some((_, u32::MAX)));
            found.lists.extend(rewritten.to.filter(|_| shown).map(|list| (name, list)));
        }
        Ok(found)
    }
}

/// Where an access control list lets others write, the group's bit says so too.
fn only_its_owner_writes(dir: &Stat) -> bool {
    dir.mode & 0o022 == 0
}

/// How a call on one file failed.
enum Failed {
    /// ENOENT among them is no error: the file vanished.
    Call(&'static str, Errno),
    Told(Error),
}

fn call(operation: &'static str) -> impl Fn(Errno) -> Failed {
    move |errno| Failed::Call(operation, errno)
}

fn number_of(fd: &impl AsRawFd) -> CString {
    // Digits only.
    CString::new(fd.as_raw_fd().to_string()).unwrap_or_default()
}

/// The names in a list of listxattr(2).
fn each(names: &[u8]) -> impl Iterator<Item = &[u8]> {
    names.split(|&byte| byte == 0)
}

/// Whether an attribute is there that has ids in it.
fn ours_among(names: &[u8]) -> bool {
    each(names).any(|name| {
        name == CAPABILITY.to_bytes()
            || name == NFS4_LIST.to_bytes()
            || LISTS.iter().any(|list| name == list.to_bytes())
    })
}
