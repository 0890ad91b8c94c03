//! Going through a group and all groups below it.
//!
//! A container that was given its subtree may have made it as deep or as wide as it liked, and may be changing it: so the
//! walk holds one directory open, not one a level, and does not recurse. It goes up again by `..`, which cannot lead
//! astray: groups are never moved.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use cellkit_core::{Errno, sys};

use crate::{open, sys as own_sys};

/// What the walk has come to.
pub(crate) enum Visit<'a> {
    /// A group, before the groups below it. The top of the walk is one.
    Enter(BorrowedFd<'a>),
    /// A group whose subtree has been gone through, by its name in the group above. The top of the walk is not one.
    Leave { above: BorrowedFd<'a>, name: &'a OsStr },
}

/// How many faults are told. Each has a path, which a container can make a megabyte long and a hundred thousand of.
pub(crate) const MOST_FAULTS: usize = 32;

/// Calls `visit` for `top` and everything below it. What has vanished meanwhile is passed over. Whatever else cannot be
/// opened or listed is returned, with its path below `top`, the first few of them.
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
    if !vanished(errno) && faults.len() < MOST_FAULTS {
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
    let names = list_of(dir.as_fd(), libc::DT_REG)?;
    // The kernel's names are ASCII.
    Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

/// The names of the groups right below the one whose directory is `dir`.
pub(crate) fn list(dir: BorrowedFd<'_>) -> Result<Vec<OsString>, Errno> {
    list_of(dir, libc::DT_DIR)
}

fn list_of(dir: BorrowedFd<'_>, wanted: u8) -> Result<Vec<OsString>, Errno> {
    // An O_PATH descriptor cannot be read from.
    let readable = open::beneath(dir, Path::new("."), libc::O_RDONLY | libc::O_DIRECTORY)?;
    let mut names = Vec::new();
    // Not by readdir(3): its wrappers lose the descriptor when fdopendir(3) fails.
    let mut buffer = vec![0; 16384];
    loop {
        match own_sys::getdents(readable.as_fd(), &mut buffer) {
            Ok(0) => return Ok(names),
            Ok(length) => names.extend(names_in(buffer.get(..length).unwrap_or_default(), wanted)),
            Err(Errno(libc::EINTR)) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// The names of what is of the type `wanted` in what getdents64(2) wrote, but `.` and `..`. The only directories of this
/// file system are groups.
fn names_in(mut records: &[u8], wanted: u8) -> Vec<OsString> {
    // ino: u64, off: i64, reclen: u16, type: u8, name, which ends in NUL.
    let mut names = Vec::new();
    while let Some(&[low, high]) = records.get(16..18) {
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let Some(record) = records.get(..length).filter(|record| record.len() >= 19) else { break };
        let name = record.get(19..).and_then(|name| name.split(|&byte| byte == 0).next()).unwrap_or_default();
        if record.get(18) == Some(&wanted) && !matches!(name, b"" | b"." | b"..") {
            names.push(OsString::from_vec(name.to_vec()));
        }
        records = records.get(length..).unwrap_or_default();
    }
    names
}

/// The name of the group right below `dir` whose inode this is.
pub(crate) fn name_of(dir: BorrowedFd<'_>, inode: u64) -> Result<Option<OsString>, Errno> {
    for name in list(dir)? {
        let found = open::beneath(dir, Path::new(&name), open::DIRECTORY).and_then(|dir| sys::inode(dir.as_fd()));
        if found.is_ok_and(|found| found.0 == inode) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_are_read_and_no_bytes_panic(
            entries in proptest::collection::vec(("[a-z.]{1,20}", any::<bool>()), 0..8), noise: Vec<u8>,
        ) {
            let mut records = Vec::new();
            for (name, is_directory) in &entries {
                let length = (19 + name.len() + 1).next_multiple_of(8);
                let start = records.len();
                records.extend([0; 16]);
                records.extend((length as u16).to_ne_bytes());
                records.push(if *is_directory { libc::DT_DIR } else { libc::DT_REG });
                records.extend(name.as_bytes());
                records.resize(start + length, 0);
            }
            let expected: Vec<OsString> = entries.into_iter()
                .filter(|(name, is_directory)| *is_directory && name != "." && name != "..")
                .map(|(name, _)| name.into()).collect();
            prop_assert_eq!(names_in(&records, libc::DT_DIR), expected);
            let _ = names_in(&noise, libc::DT_DIR);
        }
    }
}
