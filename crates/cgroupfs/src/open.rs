//! Opening below a directory of the cgroup file system, without links and without leaving it.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use cellkit_core::{Errno, sys};

use crate::hint::HINTS;
use crate::{Error, Result};

/// "cgrp", as `statfs` shows it: CGROUP2_SUPER_MAGIC.
const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// SYSFS_MAGIC.
const SYSFS_MAGIC: i64 = 0x6265_6572;

pub(crate) const DIRECTORY: i32 = libc::O_PATH | libc::O_DIRECTORY;

/// openat2(2) of `path`, which is relative, below `dir`.
pub(crate) fn beneath(dir: BorrowedFd<'_>, path: &Path, flags: i32) -> Result<OwnedFd, Errno> {
    open(dir, path, flags, libc::RESOLVE_BENEATH | libc::RESOLVE_NO_XDEV)
}

/// openat2(2) of the directory above `dir`: EXDEV when `dir` is where the file system is mounted.
pub(crate) fn above(dir: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    open(dir, Path::new(".."), DIRECTORY, libc::RESOLVE_NO_XDEV)
}

/// A path that is longer than the kernel takes is gone in several steps: who was given a group may make others below it as
/// deep as it likes.
fn open(dir: BorrowedFd<'_>, path: &Path, flags: i32, resolve: u64) -> Result<OwnedFd, Errno> {
    let mut here: Option<OwnedFd> = None;
    let mut rest = path.as_os_str().as_bytes();
    while let Some((step, next)) = first_step(rest) {
        here = Some(open_once(here.as_ref().map_or(dir, AsFd::as_fd), step, DIRECTORY, resolve)?);
        rest = next;
    }
    open_once(here.as_ref().map_or(dir, AsFd::as_fd), rest, flags, resolve)
}

/// As much of a path as the kernel takes at once, when that is not all of it, and what is left.
fn first_step(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let head = path.get(..libc::PATH_MAX as usize)?;
    // The slash at the beginning is the root, and nothing to stop at.
    let slash = head.iter().rposition(|&byte| byte == b'/').filter(|&slash| slash > 0)?;
    let (step, rest) = path.split_at_checked(slash)?;
    let next = rest.iter().position(|&byte| byte != b'/')?;
    Some((step, rest.get(next..)?))
}

fn open_once(dir: BorrowedFd<'_>, path: &[u8], flags: i32, resolve: u64) -> Result<OwnedFd, Errno> {
    let how = sys::OpenHow {
        flags: (flags | libc::O_CLOEXEC) as u64,
        mode: 0,
        resolve: resolve | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS,
    };
    let path = CString::new(path).map_err(|_| Errno(libc::EINVAL))?;
    sys::open_in(dir, &path, &how)
}

/// openat2(2) of an absolute path to a directory, verified to be of the cgroup2 file system.
pub(crate) fn cgroup2_directory(path: &Path) -> Result<OwnedFd> {
    if !path.is_absolute() {
        return Err(Error::invalid("openat2", "this path does not begin with /").on(path));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(Error::invalid("openat2", "this path has a .. in it").on(path));
    }
    let dir = open(sys::AT_FDCWD, path, DIRECTORY, 0)
        .map_err(|errno| Error::from_errno("openat2", errno.0).on(path).with_hints(&HINTS))?;
    require_cgroup2(&dir, path)?;
    Ok(dir)
}

/// `/sys`, verified to be sysfs.
pub(crate) fn sysfs() -> Result<OwnedFd> {
    let path = Path::new("/sys");
    let fail = |operation: &'static str, errno: Errno| Error::from_errno(operation, errno.0).on(path);
    let dir = open(sys::AT_FDCWD, path, DIRECTORY, 0).map_err(|errno| fail("openat2", errno))?;
    match sys::fs_magic(dir.as_raw_fd()) {
        Ok(SYSFS_MAGIC) => Ok(dir),
        Ok(_) => Err(Error::invalid("fstatfs", "this is not sysfs").on(path)),
        Err(errno) => Err(fail("fstatfs", errno)),
    }
}

/// fstatfs(2): refuses a descriptor of any other file system, so that a tmpfs full of likely names is no hierarchy.
pub(crate) fn require_cgroup2(dir: &impl AsRawFd, shown: &Path) -> Result<()> {
    match sys::fs_magic(dir.as_raw_fd()) {
        Ok(CGROUP2_MAGIC) => Ok(()),
        Ok(_) => Err(Error::invalid("fstatfs", "this is not a cgroup2 file system")
            .on(shown)
            .with_hint("findmnt -t cgroup2 shows where one is mounted")),
        Err(errno) => Err(Error::from_errno("fstatfs", errno.0).on(shown)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_fits_is_one_step() {
        for path in ["", ".", "/", "/sys/fs/cgroup", &"a".repeat(5000), &"/".repeat(5000)] {
            assert_eq!(first_step(path.as_bytes()), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn steps_are_short_and_together_the_path(names in proptest::collection::vec("[a-z]{1,255}", 1..120), root: bool) {
            let path = format!("{}{}", if root { "/" } else { "" }, names.join("/"));
            let (mut rest, mut seen) = (path.as_bytes(), Vec::new());
            while let Some((step, next)) = first_step(rest) {
                prop_assert!(step.len() < libc::PATH_MAX as usize && next.len() < rest.len());
                seen.push(String::from_utf8(step.to_vec()).unwrap());
                rest = next;
            }
            prop_assert!(rest.len() < libc::PATH_MAX as usize);
            seen.push(String::from_utf8(rest.to_vec()).unwrap());
            prop_assert_eq!(seen.join("/"), path);
        }
    }
}
