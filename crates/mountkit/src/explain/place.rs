//! The failure that is explained, and what its subject is on this machine.
#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::fs::OpenOptions;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cellkit_core::{Error, StepText, Subject};

use crate::RootFd;
use crate::sys::{self, Stat};

/// An error with an errno, taken apart.
#[derive(Debug)]
pub(super) struct Failure<'a> {
    pub(super) operation: &'a str,
    pub(super) errno: i32,
    pub(super) subject: Option<&'a Subject>,
    pub(super) kernel_text: Option<&'a str>,
    pub(super) hint: Option<&'a str>,
    /// There when a cloned child made the call.
    pub(super) step: Option<&'a StepText>,
    place: OnceCell<Option<Place>>,
}

impl<'a> Failure<'a> {
    pub(super) fn of(error: &'a Error) -> Option<Self> {
        Some(Self {
            operation: error.operation(),
            errno: error.raw_os_error()?,
            subject: error.subject(),
            kernel_text: error.kernel_text(),
            hint: error.hint(),
            step: error.step(),
            place: OnceCell::new(),
        })
    }

    /// Whether a child with namespaces of its own made the call.
    pub(super) fn in_child(&self) -> bool {
        self.step.is_some()
    }

    /// Whether it is one of the refusals of an id map, whose hints all begin so.
    pub(super) fn is_about_id_map(&self) -> bool {
        self.hint.is_some_and(|hint| hint.starts_with("id map"))
    }

    /// The type of file system that the call was about, where the error says it.
    pub(super) fn fs_type(&self) -> Option<&'a str> {
        match self.subject? {
            Subject::Thing(name) | Subject::Value(name) => name.split_whitespace().next(),
            // What is made of directories is an overlay.
            Subject::Path(_) | Subject::PathUnder { .. } => Some("overlay"),
            _ => None,
        }
    }

    /// Where the subject is, if it is a path.
    pub(super) fn place(&self) -> Option<&Place> {
        self.place.get_or_init(|| Place::of(self.subject?)).as_ref()
    }
}

/// What a path leads to, or the last part of it that is there.
#[derive(Debug)]
pub(super) struct Place {
    fd: OwnedFd,
    pub(super) stat: Stat,
    /// The path to it, as a person would type it.
    pub(super) shown: PathBuf,
    /// The name in it that is not there.
    pub(super) missing: Option<PathBuf>,
}

impl Place {
    fn of(subject: &Subject) -> Option<Self> {
        match subject {
            Subject::Path(path) => Self::deepest(path, |path| open(path, 0)),
            // A directory that is not called by its path cannot be found again.
            Subject::PathUnder { dir, .. } if !dir.is_absolute() => None,
            Subject::PathUnder { path, dir } => {
                let root = RootFd::open(dir).ok()?;
                let found = Self::deepest(path, |path| sys_open_in(&root, path));
                found.map(|place| {
                    let inside = place.shown.strip_prefix("/").unwrap_or(&place.shown);
                    let is_root = inside.as_os_str().is_empty() || inside == Path::new(".");
                    // join: only to be shown.
                    let shown = if is_root { dir.clone() } else { dir.join(inside) };
                    Self { shown, ..place }
                })
            }
            _ => None,
        }
    }

    fn deepest(path: &Path, open: impl Fn(&Path) -> Option<OwnedFd>) -> Option<Self> {
        let mut missing = None;
        for part in path.ancestors() {
            let part = if part.as_os_str().is_empty() { Path::new(".") } else { part };
            if let Some(fd) = open(part) {
                let stat = sys::statx(fd.as_raw_fd()).ok()?;
                return Some(Self { fd, stat, shown: part.to_owned(), missing });
            }
            missing = part.file_name().map(PathBuf::from);
        }
        None
    }

    pub(super) fn is_dir(&self) -> bool {
        self.stat.is(libc::S_IFDIR)
    }

    /// What it is, in words.
    pub(super) fn kind(&self) -> &'static str {
        match self.stat.mode & libc::S_IFMT {
            libc::S_IFDIR => "a directory",
            libc::S_IFREG => "a regular file",
            libc::S_IFLNK => "a symbolic link",
            libc::S_IFIFO => "a FIFO",
            libc::S_IFSOCK => "a socket",
            libc::S_IFCHR => "a character device",
            libc::S_IFBLK => "a block device",
            _ => "something unknown",
        }
    }
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A path as a place; nothing is opened that could act or wait.
pub(super) fn open(path: &Path, flags: i32) -> Option<OwnedFd> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH | flags).open(path).ok().map(OwnedFd::from)
}

fn sys_open_in(root: &RootFd, path: &Path) -> Option<OwnedFd> {
    let path = crate::in_root::InRootPath::new("openat2", path).ok()?;
    sys::owned(sys::open_in_root(root.as_fd().as_raw_fd(), path.full(), libc::O_PATH, sys::Links::Inside)).ok()
}
