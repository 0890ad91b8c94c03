//! What is read of a directory by whoever makes a layer of it: by one name below a descriptor, and no link is followed.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use cellkit_core::Errno;

use super::fs;
use super::xattr::{self, Action};

/// openat(2) of `name` in `dir` for reading, which follows no last link, waits for nobody and takes no terminal.
pub(crate) fn open_at(dir: BorrowedFd<'_>, name: &CStr, flags: i32) -> Result<OwnedFd, Errno> {
    fs::open_name(dir.as_raw_fd(), name, flags | libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY, 0)
}

/// getdents64(2) until the end: all names in `dir` but `.` and `..`, as they come. More than `limit` are E2BIG.
pub(crate) fn names_in(dir: BorrowedFd<'_>, limit: usize) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    let mut buffer = vec![0_u8; 32 << 10];
    loop {
        let length = fs::getdents(dir.as_raw_fd(), &mut buffer)?;
        if length == 0 {
            return Ok(names);
        }
        names.extend(fs::names(buffer.get(..length).unwrap_or_default()).map(CStr::to_owned));
        if names.len() > limit {
            return Err(Errno(libc::E2BIG));
        }
    }
}

/// lseek(2) with SEEK_DATA or SEEK_HOLE; `None` past the last of them (ENXIO).
pub(crate) fn seek(file: &File, from: u64, whence: i32) -> Result<Option<u64>, Errno> {
    // SAFETY: no pointers.
    let answer = unsafe { libc::lseek(file.as_raw_fd(), from as libc::off_t, whence) };
    if answer >= 0 {
        return Ok(Some(answer as u64));
    }
    match Errno::last() {
        Errno(libc::ENXIO) => Ok(None),
        errno => Err(errno),
    }
}

/// An extended attribute's name and value.
pub(crate) type Attribute = (Vec<u8>, Vec<u8>);

/// All extended attributes that the caller may see of an open file, sorted. None where the file system has none.
pub(crate) fn attributes(fd: BorrowedFd<'_>) -> Result<Vec<Attribute>, Errno> {
    collect(|action| xattr::of_file(fd.as_raw_fd(), action))
}

/// The same of `name` in `dir`, which may be a link or a device, and is not opened.
pub(crate) fn attributes_at(dir: BorrowedFd<'_>, name: &CStr) -> Result<Vec<Attribute>, Errno> {
    let fd = dir.as_raw_fd();
    match collect(|action| xattr::at(fd, name, action)) {
        // Linux 6.13 has the calls.
        Err(Errno(libc::ENOSYS)) => collect(|action| xattr::from_own_dir(fd, name, action)),
        found => found,
    }
}

/// The kernel has neither longer names, all together, nor longer values.
const LONGEST: usize = 64 << 10;

fn collect(ask: impl Fn(&mut Action<'_>) -> Result<usize, Errno>) -> Result<Vec<Attribute>, Errno> {
    let names = match filled(|buffer| ask(&mut Action::List(buffer))) {
        Err(Errno(libc::EOPNOTSUPP)) => return Ok(Vec::new()),
        names => names?,
    };
    let mut found = Vec::new();
    for name in names.split_inclusive(|&byte| byte == 0) {
        let Ok(key) = CStr::from_bytes_with_nul(name) else { continue };
        match filled(|buffer| ask(&mut Action::Get(key, buffer))) {
            Ok(value) => found.push((key.to_bytes().to_owned(), value)),
            // Removed meanwhile, or one that only its own module may read.
            Err(Errno(libc::ENODATA | libc::EOPNOTSUPP)) => {}
            Err(errno) => return Err(errno),
        }
    }
    found.sort();
    Ok(found)
}

/// What `fill` puts into a buffer, which is small as long as it will do.
fn filled(fill: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 512];
    let length = match fill(&mut buffer) {
        Err(Errno(libc::ERANGE)) => {
            buffer.resize(LONGEST, 0);
            fill(&mut buffer)?
        }
        length => length?,
    };
    buffer.truncate(length);
    Ok(buffer)
}
