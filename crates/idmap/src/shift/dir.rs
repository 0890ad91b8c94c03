//! A directory of the tree that something is still to be done in, and the descriptors of all of them.
//!
//! A directory knows its parent and its name there, so that its descriptor may be closed while others are needed and
//! opened again from above, one name at a time. However deep a tree is, few descriptors are open: when there are too many,
//! those nearest to the top are closed, because the walk comes back to them last.
#![forbid(unsafe_code)]

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cellkit_core::Errno;

use crate::sys::tree::{self, Inode};

/// So many descriptors of directories are kept, and as many again for a moment.
const MOST_OPEN: usize = 128;

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds a lock here, and what is in them is whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Dir {
    /// `None` for the tree's own root, whose descriptor is never closed.
    parent: Option<Arc<Dir>>,
    name: CString,
    inode: Inode,
    depth: usize,
    fd: Mutex<Option<Arc<OwnedFd>>>,
}

impl Dir {
    pub(crate) fn root(fd: OwnedFd, inode: Inode) -> Arc<Self> {
        let name = CString::default();
        Arc::new(Self { parent: None, name, inode, depth: 0, fd: Mutex::new(Some(Arc::new(fd))) })
    }

    pub(crate) fn below(parent: &Arc<Self>, name: &CStr, inode: Inode, fd: OwnedFd, all: &OpenDirs) -> Arc<Self> {
        let dir = Arc::new(Self {
            parent: Some(Arc::clone(parent)),
            name: name.to_owned(),
            inode,
            depth: parent.depth + 1,
            fd: Mutex::new(Some(Arc::new(fd))),
        });
        all.opened(&dir);
        dir
    }

    /// Below the tree's root; `.` for that one.
    pub(crate) fn path(&self, name: Option<&CStr>) -> PathBuf {
        let mut names: Vec<&CStr> = name.into_iter().collect();
        let mut dir = self;
        while let Some(parent) = &dir.parent {
            names.push(&dir.name);
            dir = parent;
        }
        if names.is_empty() {
            return PathBuf::from(".");
        }
        names.iter().rev().map(|name| Path::new(OsStr::from_bytes(name.to_bytes()))).collect()
    }

    fn open_now(&self) -> Option<Arc<OwnedFd>> {
        locked(&self.fd).clone()
    }

    /// The descriptor, opened again if it had to be closed. ENOENT when the directory is no longer where it was.
    pub(crate) fn fd(self: &Arc<Self>, all: &OpenDirs) -> Result<Arc<OwnedFd>, Errno> {
        let mut closed: Vec<&Arc<Self>> = Vec::new();
        let mut dir = self;
        let mut fd = loop {
            match (dir.open_now(), &dir.parent) {
                (Some(fd), _) => break fd,
                (None, Some(parent)) => {
                    closed.push(dir);
                    dir = parent;
                }
                (None, None) => return Err(Errno(libc::EBADF)),
            }
        };
        while let Some(dir) = closed.pop() {
            let opened = tree::open_dir(fd.as_fd(), &dir.name)?;
            if tree::stat(opened.as_fd(), c"")?.inode != dir.inode {
                return Err(Errno(libc::ENOENT));
            }
            fd = Arc::new(opened);
            // The walk comes back to the lower ones first. A few further up save the way from the top the next time.
            if closed.len() < MOST_OPEN / 2 || closed.len().is_power_of_two() {
                *locked(&dir.fd) = Some(Arc::clone(&fd));
                all.opened(dir);
            }
        }
        Ok(fd)
    }
}

impl Drop for Dir {
    /// Without recursion: a tree may be deeper than the stack.
    fn drop(&mut self) {
        let mut parent = self.parent.take();
        while let Some(mut dir) = parent.and_then(Arc::into_inner) {
            parent = dir.parent.take();
        }
    }
}

/// The directories whose descriptors may be closed.
#[derive(Debug, Default)]
pub(crate) struct OpenDirs(Mutex<Vec<Weak<Dir>>>);

impl OpenDirs {
    fn opened(&self, dir: &Arc<Dir>) {
        let mut all = locked(&self.0);
        all.push(Arc::downgrade(dir));
        if all.len() < 2 * MOST_OPEN {
            return;
        }
        let mut open: Vec<Arc<Dir>> = all.iter().filter_map(Weak::upgrade).collect();
        open.retain(|dir| dir.open_now().is_some());
        open.sort_by_key(|dir| std::cmp::Reverse(dir.depth));
        for dir in open.iter().skip(MOST_OPEN) {
            locked(&dir.fd).take();
        }
        open.truncate(MOST_OPEN);
        *all = open.iter().map(Arc::downgrade).collect();
        drop(all);
    }
}
