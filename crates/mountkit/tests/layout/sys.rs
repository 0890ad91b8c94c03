//! What the standard library has no call for.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no NUL")
}

#[track_caller]
fn check(what: &str, path: &Path, answer: isize) -> usize {
    usize::try_from(answer).unwrap_or_else(|_| panic!("{what} {}: {}", path.display(), io::Error::last_os_error()))
}

/// lsetxattr(2).
#[track_caller]
pub(crate) fn set_attribute(path: &Path, name: &CStr, value: &[u8]) {
    // SAFETY: path and name end in NUL, value is as long as said; the kernel only reads them.
    let answer = unsafe { libc::lsetxattr(c(path).as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    check("lsetxattr", path, answer as isize);
}

/// llistxattr(2) and lgetxattr(2): `name=value`, sorted.
#[track_caller]
pub(crate) fn attributes(path: &Path) -> Vec<String> {
    let mut names = vec![0_u8; 64 << 10];
    // SAFETY: path ends in NUL, and the kernel writes at most names.len() bytes.
    let length = unsafe { libc::llistxattr(c(path).as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    names.truncate(check("llistxattr", path, length));
    let mut found = Vec::new();
    for name in names.split_inclusive(|byte| *byte == 0) {
        let name = CStr::from_bytes_with_nul(name).expect("a name");
        let mut value = vec![0_u8; 64 << 10];
        // SAFETY: path and name end in NUL, and the kernel writes at most value.len() bytes.
        let length =
            unsafe { libc::lgetxattr(c(path).as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        value.truncate(check("lgetxattr", path, length));
        found.push(format!("{}={}", name.to_bytes().escape_ascii(), value.escape_ascii()));
    }
    found.sort();
    found
}

/// utimensat(2), not following a last link.
#[track_caller]
pub(crate) fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = libc::timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = [time, time];
    // SAFETY: path ends in NUL, and times are two.
    let answer =
        unsafe { libc::utimensat(libc::AT_FDCWD, c(path).as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) };
    check("utimensat", path, answer as isize);
}

/// renameat2(2) with RENAME_EXCHANGE.
#[track_caller]
pub(crate) fn exchange(a: &Path, b: &Path) {
    let (first, second) = (c(a), c(b));
    // SAFETY: both paths end in NUL; the kernel only reads them.
    let answer = unsafe {
        libc::renameat2(libc::AT_FDCWD, first.as_ptr(), libc::AT_FDCWD, second.as_ptr(), libc::RENAME_EXCHANGE)
    };
    check("renameat2", a, answer as isize);
}
