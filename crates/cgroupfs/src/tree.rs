//! Going through a group and all groups below it.
//!
//! A container that was given its subtree may have made it as deep or as wide as it liked, and may be changing it: so the
//! walk holds one directory open, not one a level, and does not recurse. It goes up again by `..`, which cannot lead
//! astray: groups are never moved.
#![forbid(unsafe_code)]

use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use cellkit_core::Errno;
use nix::dir::{Dir, Type};

use crate::open;

/// What the walk has come to.
pub(crate) enum Visit<'a> {
    /// A group, before the groups below it. The top of the walk is one.
    Enter(BorrowedFd<'a>),
    /// A group whose subtree has been gone through, by its name in the group above. The top of the walk is not one.
    Leave { above: BorrowedFd<'a>, name: &'a OsStr },
}

/// Calls `visit` for `top` and everything below it. What has vanished meanwhile is passed over. Whatever else cannot be
/// opened or listed is returned, with its path below `top`.
pub(crate) fn walk(top: BorrowedFd<'_>, mut visit: impl FnMut(Visit<'_>, &Path)) -> Vec<(PathBuf, Errno)> {
    let mut faults = Vec::new();
    let mut path = PathBuf::new();
    let mut here = match open::beneath(top, Path::new("."), open::DIRECTORY) {
        Ok(here) => here,
        Err(errno) => {
            keep(&mut faults, &path, errno);
            return faults;
        }
    };
    visit(Visit::Enter(here.as_fd()), &path);
    // For each level from the top to here, the groups that are still to be visited.
    let mut pending = vec![children(here.as_fd(), &path, &mut faults)];
    while let Some(level) = pending.last_mut() {
        if let Some(name) = level.pop() {
            path.push(&name);
            match open::beneath(here.as_fd(), Path::new(&name), open::DIRECTORY) {
                Ok(child) => {
                    here = child;
                    visit(Visit::Enter(here.as_fd()), &path);
                    pending.push(children(here.as_fd(), &path, &mut faults));
                }
                Err(errno) => {
                    keep(&mut faults, &path, errno);
                    path.pop();
                }
            }
            continue;
        }
        pending.pop();
        if pending.is_empty() {
            break;
        }
        match open::above(here.as_fd()) {
            Ok(above) => here = above,
            Err(errno) => {
                keep(&mut faults, &path, errno);
                break;
            }
        }
        let name = path.file_name().unwrap_or_default().to_owned();
        visit(Visit::Leave { above: here.as_fd(), name: &name }, &path);
        path.pop();
    }
    faults
}

fn keep(faults: &mut Vec<(PathBuf, Errno)>, path: &Path, errno: Errno) {
    if !vanished(errno) {
        faults.push((path.to_owned(), errno));
    }
}

/// Whether the errno only says that the group has been removed.
pub(crate) fn vanished(errno: Errno) -> bool {
    matches!(errno.0, libc::ENOENT | libc::ENODEV)
}

fn children(dir: BorrowedFd<'_>, path: &Path, faults: &mut Vec<(PathBuf, Errno)>) -> Vec<OsString> {
    list(dir).unwrap_or_else(|errno| {
        keep(faults, path, errno);
        Vec::new()
    })
}

/// The names of the files of a group.
pub(crate) fn files(dir: &impl AsFd) -> Result<Vec<String>, Errno> {
    let names = list_type(dir.as_fd(), Type::File)?;
    // The kernel's names are ASCII.
    Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

/// The names of the groups in a group: the only directories of this file system.
/// The names of the groups right below the one whose directory is `dir`.
pub(crate) fn list(dir: BorrowedFd<'_>) -> Result<Vec<OsString>, Errno> {
    list_type(dir, Type::Directory)
}

fn list_type(dir: BorrowedFd<'_>, wanted: Type) -> Result<Vec<OsString>, Errno> {
    let nix_errno = |errno: nix::errno::Errno| Errno(errno as i32);
    // An O_PATH descriptor cannot be read from.
    let readable = open::beneath(dir, Path::new("."), libc::O_RDONLY | libc::O_DIRECTORY)?;
    let mut names = Vec::new();
    for entry in Dir::from_fd(readable).map_err(nix_errno)?.iter() {
        let entry = entry.map_err(nix_errno)?;
        if entry.file_type() == Some(wanted) && !dots(entry.file_name()) {
            names.push(OsString::from_vec(entry.file_name().to_bytes().to_vec()));
        }
    }
    Ok(names)
}

fn dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}
