//! The few calls that the files of leases are made with, and their errors.
#![forbid(unsafe_code)]

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind as Io, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use cellkit_core::{Error, Result};

use crate::hint::HINTS;

/// No file of ours is longer: names of all the containers of a large range.
const MOST: u64 = 64 << 20;

pub(crate) fn fail(call: &'static str, error: &std::io::Error, path: &Path) -> Error {
    Error::from_io(call, error).on(path).with_hints(&HINTS)
}

/// Makes a directory that may be there. Says whether it was made.
pub(super) fn make_dir(path: &Path) -> Result<bool> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == Io::AlreadyExists => Ok(false),
        Err(error) => Err(fail("mkdir", &error, path)),
    }
}

/// Removes a file. Says whether it was there.
pub(crate) fn unlink(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == Io::NotFound => Ok(false),
        Err(error) => Err(fail("unlink", &error, path)),
    }
}

pub(super) fn rmdir(path: &Path) -> Result<()> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != Io::NotFound => Err(fail("rmdir", &error, path)),
        _ => Ok(()),
    }
}

/// Writes a new file, in place of one that a killed writer has left.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = match open() {
        Err(error) if error.kind() == Io::AlreadyExists => {
            unlink(path)?;
            open()
        }
        opened => opened,
    };
    let mut file = file.map_err(|error| fail("openat", &error, path))?;
    file.write_all(bytes).map_err(|error| fail("write", &error, path))
}

/// What is in a file. `None` where there is none; what is no file, or longer than any of ours, is a Parse error, and nobody
/// waits for it.
pub(crate) fn read_whole(path: &Path) -> Result<Option<Vec<u8>>> {
    let refuse = |why: &'static str| Err(Error::parse("read", why).on(path));
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == Io::NotFound => return Ok(None),
        // A symbolic link, and a socket.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO)) => {
            return refuse("it is no regular file");
        }
        Err(error) => return Err(fail("openat", &error, path)),
    };
    let metadata = file.metadata().map_err(|error| fail("fstat", &error, path))?;
    if !metadata.is_file() {
        return refuse("it is no regular file");
    }
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes).map_err(|error| fail("read", &error, path))?;
    if bytes.len() as u64 > MOST { refuse("it is too long") } else { Ok(Some(bytes)) }
}

/// The names in a directory. One that is missing is empty.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == Io::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail("getdents64", &error, dir)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| fail("getdents64", &error, dir))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

/// The text of a symbolic link. `None` when there is none, or something else has its name.
pub(super) fn read_link(path: &Path) -> Result<Option<String>> {
    match fs::read_link(path) {
        Ok(text) => Ok(text.into_os_string().into_string().ok()),
        Err(error) if matches!(error.kind(), Io::NotFound | Io::InvalidInput) => Ok(None),
        Err(error) => Err(fail("readlinkat", &error, path)),
    }
}
