//! Walks a tree with several threads.
//!
//! ```text
//!   a worker takes the newest task            which leaves
//!   Read  a directory: open it, read names    Names (when others have nothing to do), Read for directories below
//!   More  of a large one                      the same
//!   Names: each is looked at, and changed     Read for directories below
//! ```
//!
//! The newest first is depth first: what waits is bounded by the depth of the tree, and not by its size. As long as a
//! directory belongs to the caller, who alone may write to it, nobody else can put another file in the place of a name, and
//! the names can be used as they are. So one that becomes the caller's is changed before the names in it, and any other
//! after them (but not after what is below those). See `inode.rs`.
#![forbid(unsafe_code)]

use std::collections::{HashSet, VecDeque};
use std::ffi::{CStr, CString};
use std::num::NonZero;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use cellkit_core::{Errno, Error, Result};

use super::Shifted;
use super::dir::{Dir, OpenDirs, locked};
use super::inode::Pass;
use crate::hint::HINTS;
use crate::sys::tree::{self, Inode, Stat};

/// What getdents64 fills at once: about a thousand names.
const RECORDS: usize = 32 << 10;
/// So many directories below one may wait before more of its names are read.
const MOST_WAITING: usize = 1024;

/// A directory that is open for reading.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) dir: Arc<Dir>,
    pub(crate) fd: Arc<OwnedFd>,
    /// At the time at which the names begin.
    pub(crate) stat: Stat,
    /// Whether it was changed itself, before its names.
    itself_done: bool,
    /// How many tasks still read it or have names of it.
    parts: AtomicUsize,
}

#[derive(Debug)]
enum Task {
    Read(Arc<Dir>, CString),
    More(Arc<Folder>),
    /// The buffer, and how much of it was filled.
    Names(Arc<Folder>, Vec<u8>, usize),
}

#[derive(Default)]
struct Waiting {
    tasks: VecDeque<Task>,
    /// How many workers have one.
    busy: usize,
    /// How many wait for one: waking nobody is a system call too.
    idle: usize,
    failed: Option<Error>,
}

/// The walk, as all workers see it.
struct Walk<'a> {
    pass: &'a Pass<'a>,
    open: OpenDirs,
    threads: usize,
    /// The directories that somebody is at. One that is moved meanwhile is met by two names, and whoever came second would
    /// trust its names when it has been given away already.
    begun: Mutex<HashSet<Inode>>,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

/// One thread of a walk.
pub(crate) struct Worker {
    pub(crate) shifted: Shifted,
    /// Directories that were met.
    pub(crate) below: Vec<CString>,
    /// For the names of attributes.
    pub(crate) list: Vec<u8>,
    spare: Vec<Vec<u8>>,
}

impl Worker {
    fn new() -> Self {
        Self { shifted: Shifted::default(), below: Vec::new(), list: vec![0; 256], spare: Vec::new() }
    }

    /// One of those that were used before, as large as getdents64 may fill it.
    fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| vec![0; RECORDS])
    }
}

/// Makes `pass` over the tree whose root is open as `root`, and answers with what was met.
pub(crate) fn walk(pass: &Pass<'_>, root: OwnedFd, stat: Stat, threads: NonZero<usize>) -> Result<Shifted> {
    let dir = Dir::root(root, stat.inode);
    let walk = Walk {
        pass,
        open: OpenDirs::default(),
        threads: threads.get(),
        begun: Mutex::default(),
        waiting: Mutex::default(),
        changed: Condvar::new(),
    };
    let fd = dir.fd(&walk.open).map_err(|errno| Error::from_errno("openat", errno.0))?;
    let mut first = Worker::new();
    let folder = walk.folder(dir, fd, stat, &mut first).map_err(|error| error.with_hints(&HINTS))?;
    walk.push(folder.map(Task::More));
    let shifted = std::thread::scope(|scope| {
        let mut workers = Vec::new();
        for _ in 0..threads.get() {
            let builder = std::thread::Builder::new().name("idmap shift".into());
            match builder.spawn_scoped(scope, || walk.work()) {
                Ok(worker) => workers.push(worker),
                Err(error) => {
                    walk.fail(Error::from_io("clone3", &error));
                    break;
                }
            }
        }
        let mut shifted = first.shifted;
        for worker in workers {
            match worker.join() {
                Ok(part) => shifted.add(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        shifted
    });
    let failed = walk.waiting.into_inner().unwrap_or_else(PoisonError::into_inner).failed;
    failed.map_or(Ok(shifted), Err)
}

impl Walk<'_> {
    fn push(&self, tasks: impl IntoIterator<Item = Task>) {
        let mut waiting = locked(&self.waiting);
        waiting.tasks.extend(tasks);
        for _ in 0..waiting.idle.min(waiting.tasks.len()) {
            self.changed.notify_one();
        }
    }

    fn fail(&self, error: Error) {
        let mut waiting = locked(&self.waiting);
        waiting.failed.get_or_insert(error);
        waiting.tasks.clear();
        self.changed.notify_all();
    }

    /// Whether others have nothing to do, or soon will.
    fn has_room(&self) -> bool {
        let waiting = locked(&self.waiting);
        waiting.failed.is_none() && waiting.tasks.len() < self.threads
    }

    /// The newest task, `None` at the end.
    fn next(&self, had_one: bool) -> Option<Task> {
        let mut waiting = locked(&self.waiting);
        waiting.busy -= usize::from(had_one);
        loop {
            if waiting.failed.is_some() {
                return None;
            }
            if let Some(task) = waiting.tasks.pop_back() {
                waiting.busy += 1;
                return Some(task);
            }
            if waiting.busy == 0 {
                self.changed.notify_all();
                return None;
            }
            waiting.idle += 1;
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            waiting.idle -= 1;
        }
    }

    fn work(&self) -> Shifted {
        let mut worker = Worker::new();
        let fail = |error: Error| self.fail(error.with_hints(&HINTS));
        if let Err(errno) = tree::own_working_directory() {
            fail(Error::from_errno("unshare", errno.0));
            return worker.shifted;
        }
        let mut had_one = false;
        while let Some(task) = self.next(had_one) {
            had_one = true;
            if let Err(error) = self.run(task, &mut worker) {
                fail(error);
            }
        }
        worker.shifted
    }

    fn run(&self, task: Task, worker: &mut Worker) -> Result<()> {
        match task {
            Task::Read(parent, name) => match self.open(&parent, &name, worker)? {
                Some(folder) => self.read(&folder, worker),
                None => Ok(()),
            },
            Task::More(folder) => self.read(&folder, worker),
            Task::Names(folder, records, length) => {
                self.names(&folder, records.get(..length).unwrap_or_default(), worker)?;
                worker.spare.push(records);
                self.push_below(&folder, worker);
                self.part_done(&folder, worker)
            }
        }
    }

    /// Opens a directory for reading, unless it is gone, something else by now, or not to be entered.
    fn open(&self, parent: &Arc<Dir>, name: &CStr, worker: &mut Worker) -> Result<Option<Arc<Folder>>> {
        let fail = |call, errno| Error::from_errno(call, errno).on(parent.path(Some(name)));
        let opened = parent.fd(&self.open).and_then(|fd| tree::open_dir(fd.as_fd(), name));
        let fd = match opened {
            Ok(fd) => fd,
            Err(errno) if matches!(errno.0, libc::ENOENT | libc::ELOOP | libc::ENOTDIR) => {
                worker.shifted.vanished += 1;
                return Ok(None);
            }
            Err(errno) => return Err(fail("openat", errno.0)),
        };
        let stat = tree::stat(fd.as_fd(), c"").map_err(|errno| fail("statx", errno.0))?;
        if self.pass.is_elsewhere(&stat) {
            worker.shifted.other_mounts += 1;
            return Ok(None);
        }
        let dir = Dir::below(parent, name, stat.inode, fd, &self.open);
        let fd = match dir.fd(&self.open) {
            Ok(fd) => fd,
            Err(errno) => return Err(fail("openat", errno.0)),
        };
        self.folder(dir, fd, stat, worker)
    }

    /// A directory whose names are next, unless somebody is at it. One that becomes the caller's is the caller's from here
    /// on.
    fn folder(&self, dir: Arc<Dir>, fd: Arc<OwnedFd>, stat: Stat, worker: &mut Worker) -> Result<Option<Arc<Folder>>> {
        if !locked(&self.begun).insert(stat.inode) {
            worker.shifted.vanished += 1;
            return Ok(None);
        }
        let mut folder = Folder { dir, fd, stat, itself_done: false, parts: AtomicUsize::new(1) };
        if self.pass.becomes_ours(&stat) {
            self.pass.directory(&folder, worker)?;
            folder.itself_done = true;
            self.pass.met(1);
        }
        // What counts is how it is now: until it was begun, or changed, it may have been given away or opened to others.
        folder.stat = tree::stat(folder.fd.as_fd(), c"")
            .map_err(|errno| Error::from_errno("statx", errno.0).on(folder.dir.path(None)))?;
        Ok(Some(Arc::new(folder)))
    }

    /// Reads names, to the end or until many directories were among them.
    fn read(&self, folder: &Arc<Folder>, worker: &mut Worker) -> Result<()> {
        let mut records = worker.buffer();
        loop {
            let length = match tree::read_dir(folder.fd.as_fd(), &mut records) {
                Ok(length) => length,
                // Removed while it is open.
                Err(Errno(libc::ENOENT)) => {
                    worker.shifted.vanished += 1;
                    0
                }
                Err(errno) => return Err(Error::from_errno("getdents64", errno.0).on(folder.dir.path(None))),
            };
            if length == 0 {
                worker.spare.push(records);
                self.push_below(folder, worker);
                return self.part_done(folder, worker);
            }
            if length > RECORDS / 8 && self.has_room() {
                folder.parts.fetch_add(1, Ordering::Relaxed);
                let full = std::mem::replace(&mut records, worker.buffer());
                self.push([Task::Names(Arc::clone(folder), full, length)]);
                continue;
            }
            self.names(folder, records.get(..length).unwrap_or_default(), worker)?;
            if worker.below.len() >= MOST_WAITING {
                worker.spare.push(records);
                self.push([Task::More(Arc::clone(folder))]);
                self.push_below(folder, worker);
                return Ok(());
            }
            if !worker.below.is_empty() && self.has_room() {
                self.push_below(folder, worker);
            }
        }
    }

    fn push_below(&self, folder: &Folder, worker: &mut Worker) {
        if !worker.below.is_empty() {
            self.push(worker.below.drain(..).map(|name| Task::Read(Arc::clone(&folder.dir), name)));
        }
    }

    fn names(&self, folder: &Folder, records: &[u8], worker: &mut Worker) -> Result<()> {
        self.pass.begin(folder)?;
        let before = worker.shifted.files();
        for (name, kind) in Names(records) {
            self.pass.name(folder, name, kind, worker)?;
        }
        self.pass.met(worker.shifted.files() - before);
        Ok(())
    }

    /// The last of all parts of a directory brings the turn of the directory itself, unless it had it.
    fn part_done(&self, folder: &Folder, worker: &mut Worker) -> Result<()> {
        if folder.parts.fetch_sub(1, Ordering::AcqRel) == 1 {
            if !folder.itself_done {
                self.pass.directory(folder, worker)?;
                self.pass.met(1);
            }
            locked(&self.begun).remove(&folder.stat.inode);
        }
        Ok(())
    }
}

/// The records of getdents64(2): the name and the type (`DT_*`), without `.` and `..`.
struct Names<'a>(&'a [u8]);

impl<'a> Iterator for Names<'a> {
    type Item = (&'a CStr, u8);

    fn next(&mut self) -> Option<Self::Item> {
        // u64 inode, i64 position, u16 length, u8 type, then the name.
        loop {
            let length = usize::from(u16::from_ne_bytes([*self.0.get(16)?, *self.0.get(17)?]));
            let (record, rest) = self.0.split_at_checked(length)?;
            self.0 = rest;
            let kind = *record.get(18)?;
            let name = CStr::from_bytes_until_nul(record.get(19..)?).ok()?;
            if name != c"." && name != c".." {
                return Some((name, kind));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_taken_apart_whatever_they_hold() {
        let record = |name: &[u8], kind: u8| {
            let mut bytes = vec![0; 16];
            bytes.extend(((19 + name.len() + 1).next_multiple_of(8) as u16).to_ne_bytes());
            bytes.push(kind);
            bytes.extend(name);
            bytes.resize(bytes.len().next_multiple_of(8).max((19 + name.len() + 1).next_multiple_of(8)), 0);
            bytes
        };
        let all = [record(b".", 4), record(b"a", 8), record(b"..", 4), record(b"long \xff name", 10)].concat();
        assert_eq!(Names(&all).collect::<Vec<_>>(), [(c"a", 8), (c"long \xff name", 10)]);
        for end in 0..all.len() {
            Names(&all[..end]).for_each(drop);
        }
        assert_eq!(Names(&[0; 64]).count(), 0, "a length of nothing ends it");
    }
}
