//! Paths of the host, which the caller names and whose links are followed.
#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use cellkit_core::{Error, Result};

/// Opens a directory of the host as a place only (O_PATH).
pub(crate) fn open_dir(dir: &Path) -> Result<File> {
    if dir.as_os_str().is_empty() {
        return Err(Error::invalid("open", "the directory is an empty path"));
    }
    open_path(dir, libc::O_DIRECTORY)
}

/// Opens a file or directory of the host as a place only (O_PATH).
pub(crate) fn open_place(path: &Path) -> Result<File> {
    open_path(path, 0)
}

fn open_path(path: &Path, flags: i32) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | flags)
        .open(path)
        .map_err(|error| io_error("open", &error, path))
}

/// The standard library answers a NUL byte without an errno.
pub(crate) fn io_error(operation: &'static str, error: &std::io::Error, path: &Path) -> Error {
    match error.raw_os_error() {
        Some(_) => Error::from_io(operation, error).on(path).with_hints(&crate::HINTS),
        None => Error::invalid(operation, "the path has a NUL byte in it").on(path),
    }
}
