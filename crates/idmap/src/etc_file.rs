//! Reading the files of `/etc`.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{ErrorKind as IoKind, Read};
use std::path::Path;

use cellkit_core::{Error, Result};

/// More than any machine has, and little enough to hold.
const LIMIT: u64 = 64 << 20;

/// The whole of a configuration file; a file that is missing is empty.
///
/// A file that is too large is an error, never half a file: half a file gives the wrong answer.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let fail = |call: &'static str, error: &std::io::Error| Error::from_io(call, error).on(path);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == IoKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail("openat", &error)),
    };
    let mut content = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut content).map_err(|error| fail("read", &error))?;
    if content.len() as u64 > LIMIT {
        return Err(Error::parse("read", "the file is larger than 64 MiB").on(path));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_is_empty_and_a_directory_is_not() {
        assert_eq!(read("/nonexistent/subuid".as_ref()).expect("missing"), Vec::<u8>::new());
        let error = read("/etc".as_ref()).expect_err("a directory");
        assert_eq!(error.raw_os_error(), Some(libc::EISDIR));
    }
}
