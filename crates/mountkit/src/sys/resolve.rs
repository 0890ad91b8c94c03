//! How a path is resolved inside a root, for the parent and for the cloned child.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{OwnedFd, RawFd};

use cellkit_core::Errno;
use cellkit_core::sys::{OpenHow, openat2, own};

use super::{mkdirat, mknodat, shut};
use crate::in_root::InRootPath;

/// PATH_MAX, with its NUL.
pub(crate) const LONGEST_PATH: usize = 4096;

/// What an openat2 of [`open_in_root`] refuses beside leaving the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// Symbolic links are followed, inside the root.
    Inside,
    /// There must be none.
    Refused,
}

impl Links {
    pub(crate) fn resolve(self) -> u64 {
        let inside = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
        match self {
            Self::Inside => inside,
            Self::Refused => inside | libc::RESOLVE_NO_SYMLINKS,
        }
    }
}

/// openat2(2) below `root`. Made again, a bounded number of times, when a concurrent rename or mount makes the kernel
/// give up (EAGAIN). Child-safe.
pub(crate) fn open_in_root(root: RawFd, path: &CStr, flags: i32, links: Links) -> Result<RawFd, Errno> {
    let how = OpenHow { flags: (flags | libc::O_CLOEXEC) as u64, mode: 0, resolve: links.resolve() };
    let mut attempts = 128;
    loop {
        match openat2(root, path, &how) {
            Err(Errno(libc::EINTR)) => {}
            Err(Errno(libc::EAGAIN)) if attempts > 0 => attempts -= 1,
            answer => return answer,
        }
    }
}

/// The directory `path` below `root`, with what is missing of it made, one name below one descriptor at a time, so that
/// nothing is ever made outside. Child-safe.
pub(crate) fn ensure_dir(root: RawFd, path: &InRootPath, mode: u32, links: Links) -> Result<RawFd, Errno> {
    ensure_dirs(root, path.full(), path.prefixes(), mode, links)
}

fn ensure_dirs(
    root: RawFd,
    full: &CStr,
    prefixes: &[crate::in_root::Prefix],
    mode: u32,
    links: Links,
) -> Result<RawFd, Errno> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    match open_in_root(root, full, flags, links) {
        Err(Errno(libc::ENOENT)) => {}
        answer => return answer,
    }
    let mut dir = root;
    for prefix in prefixes {
        let mut next = open_in_root(root, prefix.path(), flags, links);
        if next == Err(Errno(libc::ENOENT)) {
            next = match mkdirat(dir, prefix.name(), mode) {
                // EEXIST: somebody else made it, or it is a link that leads nowhere, which is ENOENT again.
                Ok(()) | Err(Errno(libc::EEXIST)) => open_in_root(root, prefix.path(), flags, links),
                Err(errno) => Err(errno),
            };
        }
        if dir != root {
            shut(dir);
        }
        dir = next?;
    }
    Ok(dir)
}

/// The non-directory `path` below `root`, made as an empty regular file where it is missing. Child-safe.
pub(crate) fn ensure_file(root: RawFd, path: &InRootPath, mode: u32) -> Result<RawFd, Errno> {
    match open_in_root(root, path.full(), libc::O_PATH, Links::Inside) {
        Err(Errno(libc::ENOENT)) => {}
        answer => return answer,
    }
    let Some((last, parents)) = path.prefixes().split_last() else { return Err(Errno(libc::EISDIR)) };
    let parent = match parents.last() {
        Some(prefix) => ensure_dirs(root, prefix.path(), parents, 0o755, Links::Inside)?,
        None => root,
    };
    let made = mknodat(parent, last.name(), libc::S_IFREG | mode, (0, 0));
    if parent != root {
        shut(parent);
    }
    match made {
        Ok(()) | Err(Errno(libc::EEXIST)) => open_in_root(root, path.full(), libc::O_PATH, Links::Inside),
        Err(errno) => Err(errno),
    }
}

/// For the parent: takes what [`open_in_root`], [`ensure_dir`] or [`ensure_file`] has just opened.
pub(crate) fn owned(opened: Result<RawFd, Errno>) -> Result<OwnedFd, Errno> {
    // SAFETY: each of the three returns a descriptor that it has opened and kept nowhere else.
    opened.map(|fd| unsafe { own(fd) })
}
