//! A path inside a root, taken apart before anybody walks it.
#![forbid(unsafe_code)]

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use cellkit_core::{Error, Result};

/// PATH_MAX, with its NUL.
const LONGEST: usize = 4096;
/// NAME_MAX.
const LONGEST_NAME: usize = 255;

/// A path relative to a root, without `.` and `..`, as the C strings a walk down to it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InRootPath {
    full: CString,
    prefixes: Vec<Prefix>,
}

/// The path down to one of its names, and that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    path: CString,
    /// Where the name begins in `path`.
    name: usize,
}

impl Prefix {
    pub(crate) fn path(&self) -> &CStr {
        &self.path
    }

    pub(crate) fn name(&self) -> &CStr {
        // `name` is within the string by construction; the whole path would be a safe answer too.
        self.path
            .to_bytes_with_nul()
            .get(self.name..)
            .and_then(|rest| CStr::from_bytes_with_nul(rest).ok())
            .unwrap_or(&self.path)
    }
}

impl InRootPath {
    /// Takes `path` apart for `operation`. A leading `/` means the root.
    ///
    /// # Errors
    /// Invalid: empty, `..` in it, a NUL byte, a name or the whole too long.
    pub(crate) fn new(operation: &'static str, path: &Path) -> Result<Self> {
        let refuse = |why: &'static str| Error::invalid(operation, why).on(path);
        let bytes = path.as_os_str().as_bytes();
        if bytes.is_empty() {
            return Err(refuse("the path is empty"));
        }
        if bytes.len() >= LONGEST {
            let start = String::from_utf8_lossy(bytes.get(..64).unwrap_or_default()).into_owned();
            let why = format!("the path has {} bytes, of which the kernel takes 4095", bytes.len());
            return Err(Error::invalid(operation, why).on(PathBuf::from(format!("{start}…"))));
        }
        let mut so_far = Vec::new();
        let mut prefixes = Vec::new();
        for component in path.components() {
            let name = match component {
                Component::Normal(name) => name.as_bytes(),
                Component::RootDir | Component::CurDir => continue,
                Component::ParentDir | Component::Prefix(_) => return Err(refuse("`..` has no place in this path")),
            };
            if name.len() > LONGEST_NAME {
                return Err(refuse("a name in it is longer than 255 bytes"));
            }
            if !so_far.is_empty() {
                so_far.push(b'/');
            }
            let start = so_far.len();
            so_far.extend_from_slice(name);
            let path = CString::new(so_far.clone()).map_err(|_| refuse("the path has a NUL byte in it"))?;
            prefixes.push(Prefix { path, name: start });
        }
        let full = prefixes.last().map_or_else(|| c".".to_owned(), |prefix| prefix.path.clone());
        Ok(Self { full, prefixes })
    }

    /// The whole path; `.` for the root itself.
    pub(crate) fn full(&self) -> &CStr {
        &self.full
    }

    pub(crate) fn prefixes(&self) -> &[Prefix] {
        &self.prefixes
    }

    pub(crate) fn is_root(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// The names, from the root down.
    pub(crate) fn names(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.prefixes.iter().map(|prefix| prefix.name().to_bytes())
    }

    /// Whether `self` is `other` or above it.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.names().len() <= other.names().len() && self.names().zip(other.names()).all(|(a, b)| a == b)
    }

    /// As errors and plans show it.
    pub(crate) fn shown(&self) -> PathBuf {
        PathBuf::from(std::ffi::OsStr::from_bytes(self.full.to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> InRootPath {
        InRootPath::new("openat2", Path::new(text)).expect("a good path")
    }

    #[test]
    fn is_taken_apart() {
        let path = path("//a/./bc///d/");
        assert_eq!(path.full(), c"a/bc/d");
        let parts: Vec<_> = path.prefixes().iter().map(|prefix| (prefix.path(), prefix.name())).collect();
        assert_eq!(parts, [(c"a", c"a"), (c"a/bc", c"bc"), (c"a/bc/d", c"d")]);
        assert!(!path.is_root());
    }

    #[test]
    fn the_root_itself() {
        for text in ["/", ".", "./", "//."] {
            assert!(path(text).is_root(), "{text}");
            assert_eq!(path(text).full(), c".");
        }
    }

    #[test]
    fn covering() {
        assert!(path("/a").covers(&path("/a/b")));
        assert!(path("/a").covers(&path("a/")));
        assert!(path("/").covers(&path("/x")));
        assert!(!path("/a").covers(&path("/ab")));
        assert!(!path("/a/b").covers(&path("/a")));
    }

    #[test]
    fn what_is_refused() {
        let long = "x".repeat(256);
        let very_long = "a/".repeat(3000);
        for (text, why) in [
            ("", "empty"),
            ("a/../b", "`..`"),
            ("..", "`..`"),
            ("a\0b", "NUL"),
            (long.as_str(), "255"),
            (very_long.as_str(), "4095"),
        ] {
            let error = InRootPath::new("openat2", Path::new(text)).expect_err(text);
            assert_eq!(error.kind(), cellkit_core::ErrorKind::Invalid);
            assert!(error.to_string().contains(why), "{error}");
            assert!(!error.to_string().contains('\n'));
        }
    }

    proptest! {
        #[test]
        fn never_leaves_and_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(path) = InRootPath::new("openat2", Path::new(std::ffi::OsStr::from_bytes(&bytes))) {
                for name in path.names() {
                    prop_assert!(!name.is_empty() && name != b".." && name != b"." && !name.contains(&b'/'));
                }
                let joined = path.names().collect::<Vec<_>>().join(&b'/');
                prop_assert_eq!(if joined.is_empty() { b".".to_vec() } else { joined }, path.full().to_bytes());
                let again = InRootPath::new("openat2", &path.shown()).expect("what was taken apart can be again");
                prop_assert_eq!(again, path);
            }
        }
    }
}
