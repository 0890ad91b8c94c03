//! Reading the files of `/etc`.
#![forbid(unsafe_code)]

use std::fs::OpenOptions;
use std::io::{ErrorKind as IoKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use cellkit_core::{Error, Result};

/// More than any machine has, and little enough to hold.
const LIMIT: u64 = 64 << 20;

/// The whole of a configuration file; a file that is missing is empty.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    read_if_there(path).map(Option::unwrap_or_default)
}

/// The whole of a configuration file, if there is one.
///
/// A file that is too large is an error, never half a file: half a file gives the wrong answer. So does one that nobody
/// has written to yet, such as a pipe.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    let fail = |call: &'static str, error: &std::io::Error| Error::from_io(call, error).on(path);
    let too_large = || Err(Error::parse("read", "the file is larger than 64 MiB").on(path));
    // Without O_NONBLOCK, opening a pipe waits for somebody to write to it.
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == IoKind::NotFound => return Ok(None),
        Err(error) => return Err(fail("openat", &error)),
    };
    let metadata = file.metadata().map_err(|error| fail("fstat", &error))?;
    if !metadata.is_file() && !metadata.is_dir() {
        return Err(Error::invalid("read", "this is not a regular file").on(path));
    }
    if metadata.len() > LIMIT {
        return too_large();
    }
    let mut content = Vec::new();
    // It may grow meanwhile.
    file.take(LIMIT + 1).read_to_end(&mut content).map_err(|error| fail("read", &error))?;
    if content.len() as u64 > LIMIT {
        return too_large();
    }
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellkit_core::ErrorKind;

    #[test]
    fn missing_is_empty_and_a_directory_is_not() {
        let missing = "/nonexistent/subuid".as_ref();
        assert_eq!((read(missing).expect("missing"), read_if_there(missing).expect("missing")), (Vec::new(), None));
        let error = read("/etc".as_ref()).expect_err("a directory");
        assert_eq!(error.raw_os_error(), Some(libc::EISDIR));
    }

    #[test]
    fn what_is_no_file_or_too_large_is_refused_at_once() {
        let dir = faultkit::TempDir::new();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        for path in [pipe.as_path(), "/dev/zero".as_ref()] {
            let error = read(path).expect_err("not a file");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert!(error.to_string().ends_with("this is not a regular file"), "{error}");
        }
        let huge = dir.path().join("huge");
        let file = std::fs::File::create(&huge).expect("create");
        file.set_len(10 << 30).expect("a hole of ten gigabytes");
        assert_eq!(read(&huge).expect_err("too large").kind(), ErrorKind::Parse);
        file.set_len(LIMIT).expect("the most there may be");
        assert_eq!(read(&huge).expect("just so").len() as u64, LIMIT);
        let dangling = dir.path().join("link");
        std::os::unix::fs::symlink("nowhere", &dangling).expect("link");
        assert_eq!(read_if_there(&dangling).expect("missing"), None);
    }
}
