//! One name in one directory.
#![forbid(unsafe_code)]

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;

use cellkit_core::{Error, Result};

/// NAME_MAX.
pub(crate) const LONGEST_NAME: usize = 255;

/// One name in one directory as the kernel takes it: no `/`, no NUL, not `..`, and `.` only where the directory itself may
/// be meant. It is on the stack, so that work on very many files allocates nothing for it.
#[derive(Clone, Copy)]
pub(crate) struct Name([u8; LONGEST_NAME + 1]);

impl Name {
    /// The directory itself.
    pub(crate) fn of_the_dir() -> Self {
        Self::of(b".")
    }

    /// Of a name that is no longer than LONGEST_NAME.
    fn of(name: &[u8]) -> Self {
        let mut bytes = [0; LONGEST_NAME + 1];
        bytes.iter_mut().zip(name).for_each(|(to, from)| *to = *from);
        Self(bytes)
    }

    /// A name to make, to remove or to rename.
    ///
    /// # Errors
    /// Invalid: empty, `.` or `..`, a `/` or a NUL byte in it, longer than 255 bytes.
    pub(crate) fn new(operation: &'static str, name: &OsStr) -> Result<Self> {
        if name == "." {
            return Err(Error::invalid(operation, "`.` is no name: it is the directory itself").on(subject(name)));
        }
        Self::or_the_dir(operation, name)
    }

    /// As [`new`](Self::new), or `.`.
    pub(crate) fn or_the_dir(operation: &'static str, name: &OsStr) -> Result<Self> {
        let given = name.as_bytes();
        let why = match given {
            b"" => "the name is empty",
            b".." => "`..` is no name: it leads out of the directory",
            _ if given.contains(&b'/') => "it is a path, and one name is wanted",
            _ if given.contains(&0) => "the name has a NUL byte in it",
            _ if given.len() > LONGEST_NAME => "the name is longer than 255 bytes",
            _ => return Ok(Self::of(given)),
        };
        Err(Error::invalid(operation, why).on(subject(name)))
    }

    pub(crate) fn as_c_str(&self) -> &CStr {
        // There is a NUL: the last byte. An empty name would be answered ENOENT.
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }

    pub(crate) fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(self.as_c_str().to_bytes())
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_c_str().fmt(f)
    }
}

/// The beginning of a name that may be absurdly long.
fn subject(name: &OsStr) -> std::path::PathBuf {
    let start = name.as_bytes().get(..2 * LONGEST_NAME).unwrap_or(name.as_bytes());
    OsStr::from_bytes(start).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_refused() {
        let long = "x".repeat(256);
        for (name, why) in [
            ("", "empty"),
            (".", "directory itself"),
            ("..", "leads out"),
            ("a/b", "a path"),
            ("/", "a path"),
            ("a\0", "NUL"),
            (long.as_str(), "255"),
        ] {
            let error = Name::new("mkdirat", OsStr::new(name)).expect_err(name);
            assert_eq!(error.kind(), cellkit_core::ErrorKind::Invalid);
            assert!(error.to_string().starts_with("mkdirat ") && error.to_string().contains(why), "{error}");
        }
        assert_eq!(Name::or_the_dir("statx", OsStr::new(".")).expect("dot").as_c_str(), c".");
        assert_eq!(Name::of_the_dir().as_c_str(), c".");
        assert_eq!(Name::new("mkdirat", OsStr::new(&long[1..])).expect("255").as_os_str().len(), 255);
    }

    proptest! {
        #[test]
        fn is_kept_byte_for_byte(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(name) = Name::new("mkdirat", OsStr::from_bytes(&bytes)) {
                prop_assert_eq!(name.as_os_str().as_bytes(), &bytes[..]);
                prop_assert!(!bytes.contains(&b'/') && bytes != b".." && bytes != b".");
            }
        }
    }
}
