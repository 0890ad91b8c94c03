//! How a path is resolved inside a root, for the parent and for the cloned child.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{OwnedFd, RawFd};

use cellkit_core::Errno;
use cellkit_core::sys::{OpenHow, openat2, own};

use super::{mkdirat, mknodat, shut};
use crate::in_root::InRootPath;

mod walk;

/// PATH_MAX, with its NUL.
pub(crate) const LONGEST_PATH: usize = 4096;

/// What a resolution refuses beside leaving the root.
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

/// Who resolves the paths in a [`RootFd`](crate::RootFd). Both answer the same, errors included. See
/// [openat2(2)](https://man7.org/linux/man-pages/man2/openat2.2.html),
/// <https://man7.org/linux/man-pages/man2/openat2.2.html>.
///
/// ```
/// use mountkit::{Resolver, RootFd};
///
/// if RootFd::open("/")?.resolver() == Resolver::UserSpace {
///     eprintln!("no openat2 here: paths in a root are resolved name by name");
/// }
/// # Ok::<(), mountkit::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resolver {
    /// The kernel, by openat2 (Linux 5.6).
    Kernel,
    /// This crate, with an openat for each name: on an older kernel, or where a seccomp filter hides openat2.
    UserSpace,
}

/// A root, and who resolves in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Root {
    pub(crate) fd: RawFd,
    /// `Kernel`: if it can.
    pub(crate) resolver: Resolver,
}

impl From<RawFd> for Root {
    fn from(fd: RawFd) -> Self {
        Self { fd, resolver: Resolver::Kernel }
    }
}

/// How often a resolution is begun again that a concurrent rename has made the kernel, or the walk, give up.
const ATTEMPTS: u32 = 128;

/// Opens `path` below `root`: by openat2(2) where it is there, or by a walk with the same answers. Child-safe.
///
/// Of a path with `..` openat2 answers EAGAIN when anything was renamed or mounted meanwhile, anywhere on the machine. So
/// on a busy one it may never do better, and the walk, which minds only what is on the way, has the last word.
pub(crate) fn open_in_root(root: impl Into<Root>, path: &CStr, flags: i32, links: Links) -> Result<RawFd, Errno> {
    let root = root.into();
    let how = OpenHow { flags: (flags | libc::O_CLOEXEC) as u64, mode: 0, resolve: links.resolve() };
    let mut resolver = root.resolver;
    let mut attempts = ATTEMPTS;
    loop {
        let answer = match resolver {
            Resolver::Kernel => openat2(root.fd, path, &how),
            Resolver::UserSpace => walk::open(root.fd, path, flags, links),
        };
        match answer {
            Err(Errno(libc::EINTR)) => {}
            Err(Errno(libc::EAGAIN)) if attempts > 0 => attempts -= 1,
            Err(Errno(libc::EAGAIN)) if resolver == Resolver::Kernel => {
                (resolver, attempts) = (Resolver::UserSpace, ATTEMPTS);
            }
            Err(Errno(libc::ENOSYS | libc::EPERM)) if resolver == Resolver::Kernel && !has_openat2(root.fd) => {
                resolver = Resolver::UserSpace;
            }
            answer => return answer,
        }
    }
}

/// Whether openat2 is there: tells the EPERM of a filter, or of an old container runtime, from one about the file. Nobody
/// is denied a directory that is already open. Child-safe.
pub(crate) fn has_openat2(root: RawFd) -> bool {
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    let how = OpenHow { flags: flags as u64, mode: 0, resolve: Links::Inside.resolve() };
    match openat2(root, c"/", &how) {
        Ok(fd) => {
            shut(fd);
            true
        }
        Err(Errno(errno)) => errno != libc::ENOSYS && errno != libc::EPERM,
    }
}

/// The directory `path` below `root`, with what is missing of it made, one name below one descriptor at a time, so that
/// nothing is ever made outside. Child-safe.
pub(crate) fn ensure_dir(root: impl Into<Root>, path: &InRootPath, mode: u32, links: Links) -> Result<RawFd, Errno> {
    ensure_dirs(root.into(), path.full(), path.prefixes(), mode, links)
}

fn ensure_dirs(
    root: Root,
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
    let mut dir = root.fd;
    for prefix in prefixes {
        let mut next = open_in_root(root, prefix.path(), flags, links);
        if next == Err(Errno(libc::ENOENT)) {
            next = match mkdirat(dir, prefix.name(), mode) {
                // EEXIST: somebody else made it, or it is a link that leads nowhere, which is ENOENT again.
                Ok(()) | Err(Errno(libc::EEXIST)) => open_in_root(root, prefix.path(), flags, links),
                Err(errno) => Err(errno),
            };
        }
        if dir != root.fd {
            shut(dir);
        }
        dir = next?;
    }
    Ok(dir)
}

/// The non-directory `path` below `root`, made as an empty regular file where it is missing. Child-safe.
pub(crate) fn ensure_file(root: impl Into<Root>, path: &InRootPath, mode: u32) -> Result<RawFd, Errno> {
    let root = root.into();
    match open_in_root(root, path.full(), libc::O_PATH, Links::Inside) {
        Err(Errno(libc::ENOENT)) => {}
        answer => return answer,
    }
    let Some((last, parents)) = path.prefixes().split_last() else { return Err(Errno(libc::EISDIR)) };
    let parent = match parents.last() {
        Some(prefix) => ensure_dirs(root, prefix.path(), parents, 0o755, Links::Inside)?,
        None => root.fd,
    };
    let made = mknodat(parent, last.name(), libc::S_IFREG | mode, (0, 0));
    if parent != root.fd {
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

#[cfg(test)]
mod tests;
