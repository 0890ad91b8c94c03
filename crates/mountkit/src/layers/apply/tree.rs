//! The directories on the way to the entry at hand, kept open.
//!
//! # Theory of operation
//!
//! Entries of an archive come directory by directory. So the directories of the last entry's path stay open, and the next
//! one begins at the deepest that both have in common:
//!
//! ```text
//!   usr/share/doc/bash/README      root ─ usr ─ share ─ doc ─ bash
//!   usr/share/doc/zlib/README      root ─ usr ─ share ─ doc ─ zlib        bash is left, zlib entered
//! ```
//!
//! Each step down is one name below a descriptor, never followed. A symbolic link in the way is resolved by the root's own
//! descriptor, so inside the root. Of a deep path only the last [`OPEN`] directories stay open; further up the walk begins
//! at the root again. That costs as many steps as the entry's path has names, which the archive had to spell out: time
//! stays linear in its length.
//!
//! What a directory shall have in the end, and work in it would spoil, is kept with it and done when it is left: its times,
//! and a mode under which its own owner could not work in it. When it is entered again later, what it has is read and
//! given back in the same way. So nothing has to be remembered of directories that are not open, and memory is bounded.
//! A directory that the layer only passes keeps the times that it had.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use cellkit_core::{Error, ErrorKind, Result};

use super::brought::{Brought, DirId};
use super::path::EntryPath;
use crate::layers::whiteout::Whiteouts;
use crate::{DirFd, FileKind, Metadata, Node, RootFd, Times, sys};

/// How many directories stay open beside the root. A process has 1,024 descriptors by default.
const OPEN: usize = 128;

/// A directory that is open.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) dir: DirFd,
    /// Its name in the one above; empty for the root.
    name: Vec<u8>,
    pub(super) id: DirId,
    /// This layer made it: nothing of lower layers is in it.
    pub(super) fresh: bool,
    /// What is to be given to it when it is left.
    times: Times,
    mode: Option<u32>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Something was made or removed in it, so that its times are not what they were.
    changed: bool,
}

impl Level {
    fn new(dir: DirFd, name: &[u8], found: &Metadata, fresh: bool) -> Self {
        Self {
            dir,
            name: name.to_vec(),
            id: id(found),
            fresh,
            times: Times::new().accessed(found.accessed()).modified(found.modified()),
            mode: None,
            attributes: Vec::new(),
            changed: false,
        }
    }

    /// Something is about to be made or removed in it.
    pub(super) fn change(&mut self) {
        self.changed = true;
    }

    /// What it shall have when it is left.
    pub(super) fn leave_with(&mut self, times: Times, mode: Option<u32>, attributes: Vec<(Vec<u8>, Vec<u8>)>) {
        self.times = times;
        self.mode = mode;
        self.attributes = attributes;
        self.changed = true;
    }

    fn leave(self) -> Result<()> {
        for (key, value) in &self.attributes {
            self.dir.set_xattr(".", os(key), value)?;
        }
        if self.changed {
            self.dir.set_times(".", self.times)?;
        }
        match self.mode {
            Some(mode) => self.dir.chmod(".", mode),
            None => Ok(()),
        }
    }
}

pub(super) fn id(found: &Metadata) -> DirId {
    (found.device(), found.inode())
}

/// A name or a key as the calls take it.
pub(super) fn os(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

pub(super) fn is_whiteout(found: &Metadata) -> bool {
    found.kind() == FileKind::CharDevice && found.device_of_node() == (0, 0)
}

/// What becomes of a directory on the way that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Make,
    Leave,
}

/// The way to the directory at hand.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    root: &'a RootFd,
    top: Level,
    /// The names of directories on the way that were closed, and after them those that are open.
    closed: Vec<Vec<u8>>,
    open: VecDeque<Level>,
    whiteouts: Whiteouts,
    /// The owner and group of a directory that the archive does not mention; `None`: the caller's.
    implicit: Option<(u32, u32)>,
    pub(super) brought: Brought,
    unprivileged: bool,
}

impl<'a> Tree<'a> {
    /// Begins at `root`, which only for [`Whiteouts::Flattened`] may have something in it.
    pub(super) fn new(root: &'a RootFd, whiteouts: Whiteouts, implicit: Option<(u32, u32)>) -> Result<Self> {
        let dir = root.open_dir(".")?;
        let is_empty = dir.entries()?.next().transpose()?.is_none();
        if !is_empty && whiteouts != Whiteouts::Flattened {
            let why = "for an overlay, each layer is applied to a folder of its own, and this one is not empty";
            return Err(Error::invalid("apply", why)
                .with_hint("use an empty folder; one in which applying a layer failed is to be removed first"));
        }
        let found = dir.stat(".")?;
        let top = Level::new(dir, b"", &found, is_empty);
        Ok(Self {
            root,
            top,
            closed: Vec::new(),
            open: VecDeque::new(),
            whiteouts,
            implicit,
            brought: Brought::default(),
            unprivileged: sys::effective_uid() != 0,
        })
    }

    pub(super) fn root(&self) -> &'a RootFd {
        self.root
    }

    /// Whether there is something at `path`: a link itself, not what it leads to.
    pub(super) fn exists(&self, path: &EntryPath) -> Result<bool> {
        let is_there = match path.split() {
            None => return Ok(true),
            Some((parent, name)) => self.root.open_dir(path.prefix(parent)).and_then(|dir| dir.stat(os(name))),
        };
        match is_there {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The directory at hand.
    pub(super) fn here(&mut self) -> &mut Level {
        self.open.back_mut().unwrap_or(&mut self.top)
    }

    /// How many names the directory at hand has.
    fn depth(&self) -> usize {
        self.closed.len() + self.open.len()
    }

    /// Goes to the directory of the first `count` names of `path`. `false`: there is none, and it is not to be made.
    pub(super) fn go(&mut self, path: &EntryPath, count: usize, missing: Missing) -> Result<bool> {
        let here = self.closed.iter().map(Vec::as_slice).chain(self.open.iter().map(|level| level.name.as_slice()));
        let common = here.zip(path.names().take(count)).take_while(|(have, want)| have == want).count();
        // A directory that was closed is reached from the root again.
        let keep = if common <= self.closed.len() { 0 } else { common };
        while self.depth() > keep && self.leave()? {}
        for at in self.depth()..count {
            if !self.step(path, at, missing)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Leaves the deepest directory; when none is open, forgets those that were closed.
    fn leave(&mut self) -> Result<bool> {
        match self.open.pop_back() {
            Some(level) => level.leave().map(|()| true),
            None => {
                self.closed.clear();
                Ok(false)
            }
        }
    }

    /// Leaves all directories.
    pub(super) fn finish(mut self) -> Result<()> {
        while self.leave()? {}
        self.top.leave()
    }

    /// Goes down by the name `at` of `path`.
    fn step(&mut self, path: &EntryPath, at: usize, missing: Missing) -> Result<bool> {
        let name = path.name(at);
        match self.here().dir.stat(os(name)) {
            Ok(found) => match found.kind() {
                FileKind::Directory => self.enter(name, Made::Before, &found)?,
                FileKind::Symlink => {
                    // Relative to where it is, and inside the root: as the kernel resolves the whole path.
                    let dir = self.root.open_dir(path.prefix(at + 1))?;
                    let found = dir.stat(".")?;
                    self.push(dir, name, Made::Before, &found)?;
                }
                // The layer removed what was there, and brings something below it again.
                _ if is_whiteout(&found) && missing == Missing::Make => self.make_implicit(name)?,
                _ if missing == Missing::Leave => return Ok(false),
                _ => return Err(Error::from_errno("openat", libc::ENOTDIR)),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => match missing {
                Missing::Leave => return Ok(false),
                Missing::Make => self.make_implicit(name)?,
            },
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Makes and enters a directory that entries are in, and that is no entry itself (or not yet).
    fn make_implicit(&mut self, name: &[u8]) -> Result<()> {
        let (found, _) = self.make_dir(name)?;
        self.enter(name, Made::Now, &found)?;
        let implicit = self.implicit;
        let here = self.here();
        here.mode = None;
        if let Some((uid, gid)) = implicit.filter(|&ids| ids != (found.uid(), found.gid())) {
            here.dir.chown(".", uid, gid)?;
        }
        here.dir.chmod(".", 0o755)
    }

    /// Makes the directory `name` in the one at hand, in place of what is no directory. Answers what there is then, and
    /// whether it was there before.
    pub(super) fn make_dir(&mut self, name: &[u8]) -> Result<(Metadata, Made)> {
        let opaque = self.whiteouts.opaque_attribute();
        let level = self.here();
        let mut made = Made::Now;
        let mut hides = false;
        level.change();
        if let Err(error) = level.dir.mkdir(os(name), 0o700) {
            if error.kind() != ErrorKind::AlreadyExists {
                return Err(error);
            }
            let found = level.dir.stat(os(name))?;
            if found.kind() == FileKind::Directory {
                made = Made::Before;
            } else {
                hides = is_whiteout(&found);
                level.dir.unlink(os(name))?;
                level.dir.mkdir(os(name), 0o700)?;
            }
        }
        if let Some(key) = opaque.filter(|_| hides) {
            level.dir.set_xattr(os(name), os(key.to_bytes()), b"y")?;
        }
        let found = level.dir.stat(os(name))?;
        self.note(name);
        Ok((found, made))
    }

    /// The layer brought `name` into the directory at hand.
    pub(super) fn note(&mut self, name: &[u8]) {
        let level = self.here();
        level.change();
        let (fresh, dir) = (level.fresh, level.id);
        if !fresh {
            self.brought.note_name(dir, name);
        }
    }

    /// Goes down into a directory, as `found` says that it is.
    pub(super) fn enter(&mut self, name: &[u8], made: Made, found: &Metadata) -> Result<()> {
        // Its owner may not work in it: he gives himself the right, and takes it back when he leaves.
        let locked = self.unprivileged && found.mode() & 0o700 != 0o700;
        if locked {
            self.here().dir.chmod(os(name), found.mode() | 0o700)?;
        }
        let dir = self.here().dir.open_dir(os(name))?;
        self.push(dir, name, made, found)?;
        if locked {
            self.here().mode = Some(found.mode());
        }
        Ok(())
    }

    fn push(&mut self, dir: DirFd, name: &[u8], made: Made, found: &Metadata) -> Result<()> {
        // By what the directory is, not by what it is in: it may have been reached through a link.
        let id = id(found);
        let mut fresh = self.top.fresh || made == Made::Now;
        if !self.top.fresh {
            fresh |= self.brought.made(id);
            match fresh {
                true => self.brought.note_made(id),
                false => self.brought.note_entered(id),
            }
        }
        self.open.push_back(Level::new(dir, name, found, fresh));
        if self.open.len() > OPEN {
            if let Some(mut level) = self.open.pop_front() {
                self.closed.push(std::mem::take(&mut level.name));
                level.leave()?;
            }
        }
        Ok(())
    }

    /// Makes a directory of a lower layer, in the one at hand, one that this layer made without mentioning it.
    pub(super) fn adopt(&mut self, name: &[u8]) -> Result<()> {
        let implicit = self.implicit;
        let dir = &self.here().dir;
        if let Some((uid, gid)) = implicit {
            dir.chown(os(name), uid, gid)?;
        }
        dir.chmod(os(name), 0o755)
    }

    /// Whether the caller may work in directories whose mode does not let him.
    pub(super) fn unprivileged(&self) -> bool {
        self.unprivileged
    }

    /// Removes what has the name in the directory at hand, whatever it is.
    pub(super) fn clear(&mut self, name: &[u8]) -> Result<()> {
        let level = self.here();
        level.change();
        remove(&level.dir, name)
    }

    /// A whiteout for an overlay.
    pub(super) fn make_whiteout(&mut self, name: &[u8]) -> Result<()> {
        let level = self.here();
        level.change();
        level.dir.mknod(os(name), Node::CharDevice { major: 0, minor: 0 }, 0)
    }
}

/// Removes what has the name, whatever it is. Most is no directory.
pub(super) fn remove(dir: &DirFd, name: &[u8]) -> Result<()> {
    match dir.unlink(os(name)) {
        Err(error) if error.raw_os_error() == Some(libc::EISDIR) => dir.remove_all(os(name)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        answer => answer,
    }
}

/// When a directory was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    Now,
    Before,
}
