//! Whether the out-of-memory killer of a cgroup could meet a child that shares its caller's memory.
//!
//! When a group reaches its memory limit the kernel kills a process in it, and with it every process that shares that
//! one's memory, in whatever group: a child that is about to start in a small group would take its caller along. So
//! a child that is born below a memory limit gets a copy of the memory instead.
#![forbid(unsafe_code)]

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cellkit_core::Errno;
use cellkit_core::sys::{OpenHow, open_in};

/// Deeper trees than this are not looked through: they count as limited.
const DEEPEST: usize = 64;

/// Whether `group` or a group above it, as far as its mount shows, has a memory limit. What cannot be read counts as one.
pub(crate) fn is_limited(group: BorrowedFd<'_>) -> bool {
    let mut here: Option<OwnedFd> = None;
    for _ in 0..DEEPEST {
        let dir = here.as_ref().map_or(group, AsFd::as_fd);
        match limit(dir) {
            Ok(true) | Err(_) => return true,
            Ok(false) => {}
        }
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        here = match open(dir, c"..", flags) {
            Ok(parent) => Some(parent),
            // The mount's root: what is above is not to be seen from here.
            Err(Errno(libc::EXDEV)) => return false,
            Err(_) => return true,
        };
    }
    true
}

/// Whether this group's `memory.max` holds a number. A group without the file has no memory controller.
fn limit(dir: BorrowedFd<'_>) -> Result<bool, Errno> {
    use std::io::Read;
    let file = match open(dir, c"memory.max", libc::O_RDONLY) {
        Ok(file) => file,
        Err(Errno(libc::ENOENT)) => return Ok(false),
        Err(errno) => return Err(errno),
    };
    let mut text = [0; 32];
    let length = std::fs::File::from(file).read(&mut text).map_err(|_| Errno::last())?;
    Ok(text.get(..length) != Some(b"max\n"))
}

fn open(dir: BorrowedFd<'_>, path: &CStr, flags: i32) -> Result<OwnedFd, Errno> {
    let how = OpenHow {
        flags: (flags | libc::O_CLOEXEC) as u64,
        mode: 0,
        resolve: libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS,
    };
    open_in(dir, path, &how)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_is_no_limit_and_anything_else_is_one() {
        let dir = faultkit::TempDir::new();
        let fd = std::fs::File::open(dir.path()).expect("open");
        assert_eq!(limit(fd.as_fd()), Ok(false), "no memory controller");
        for (text, limited) in [("max\n", false), ("0\n", true), ("1073741824\n", true), ("", true)] {
            std::fs::write(dir.path().join("memory.max"), text).expect("write");
            assert_eq!(limit(fd.as_fd()), Ok(limited), "{text:?}");
        }
    }

    #[test]
    fn a_group_below_a_limited_one_is_limited() {
        let dir = faultkit::TempDir::new();
        std::fs::create_dir_all(dir.path().join("a/b")).expect("mkdir");
        std::fs::write(dir.path().join("a/memory.max"), "4096\n").expect("write");
        std::fs::write(dir.path().join("a/b/memory.max"), "max\n").expect("write");
        assert!(is_limited(std::fs::File::open(dir.path().join("a/b")).expect("open").as_fd()));
    }
}
