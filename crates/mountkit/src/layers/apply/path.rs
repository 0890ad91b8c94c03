//! A path of an archive, taken apart.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cellkit_core::{Error, Result};

use crate::layers::entry::limit;
use crate::layers::limits::Limits;
use crate::name::LONGEST_NAME;

/// The names of a path below the root, without `.` and empty ones. A leading `/` means the root, as everywhere in images.
#[derive(Clone, Debug, Default)]
pub(super) struct EntryPath {
    /// Joined by `/`.
    bytes: Vec<u8>,
    /// Where each name ends in it.
    ends: Vec<usize>,
}

impl EntryPath {
    /// Takes `raw` apart, in place of what was here before.
    ///
    /// # Errors
    /// Invalid: `..`, which no program writes that means well; a name longer than 255 bytes. Limit: too many names.
    pub(super) fn parse(&mut self, raw: &[u8], limits: &Limits) -> Result<()> {
        self.bytes.clear();
        self.ends.clear();
        for name in raw.split(|&byte| byte == b'/') {
            match name {
                b"" | b"." => continue,
                b".." => return Err(Error::invalid("apply", "`..` has no place in a layer")),
                _ if name.len() > LONGEST_NAME => {
                    return Err(Error::invalid("apply", "a name in the path is longer than 255 bytes"));
                }
                _ if self.ends.len() >= limits.depth => {
                    return Err(limit(format!("the path is deeper than {} names", limits.depth)));
                }
                _ => {}
            }
            if !self.bytes.is_empty() {
                self.bytes.push(b'/');
            }
            self.bytes.extend_from_slice(name);
            self.ends.push(self.bytes.len());
        }
        Ok(())
    }

    /// How many names it has; none is the root itself.
    pub(super) fn depth(&self) -> usize {
        self.ends.len()
    }

    /// One name of it.
    pub(super) fn name(&self, at: usize) -> &[u8] {
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| end + 1);
        self.ends.get(at).and_then(|&end| self.bytes.get(start..end)).unwrap_or_default()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.depth()).map(|at| self.name(at))
    }

    /// How many names the directory has that it is in, and its own name; `None` for the root.
    pub(super) fn split(&self) -> Option<(usize, &[u8])> {
        let last = self.depth().checked_sub(1)?;
        Some((last, self.name(last)))
    }

    /// The first `count` names as a path; `.` for none.
    pub(super) fn prefix(&self, count: usize) -> &Path {
        let end = count.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or_default();
        match self.bytes.get(..end) {
            None | Some([]) => Path::new("."),
            Some(bytes) => Path::new(OsStr::from_bytes(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(raw: &str) -> EntryPath {
        let mut path = EntryPath::default();
        path.parse(raw.as_bytes(), &Limits::new()).expect("a good path");
        path
    }

    #[test]
    fn is_taken_apart() {
        for raw in ["a/bc/d", "/a/bc/d", "./a//bc/./d/", "///a/bc/d//."] {
            let path = path(raw);
            assert_eq!(path.names().collect::<Vec<_>>(), [&b"a"[..], b"bc", b"d"], "{raw}");
            assert_eq!(path.split(), Some((2, &b"d"[..])));
            assert_eq!(path.prefix(2), Path::new("a/bc"));
            assert_eq!(path.prefix(0), Path::new("."));
        }
        for raw in ["", ".", "/", "./", "././/"] {
            assert_eq!(path(raw).split(), None, "{raw}");
        }
        assert_eq!(path("..a/...").names().collect::<Vec<_>>(), [&b"..a"[..], b"..."]);
    }

    #[test]
    fn what_is_refused() {
        let mut path = EntryPath::default();
        let long = "x".repeat(256);
        for raw in ["..", "a/../b", "/..", "a/..", long.as_str()] {
            assert_eq!(path.parse(raw.as_bytes(), &Limits::new()).expect_err(raw).kind(), crate::ErrorKind::Invalid);
        }
        path.parse(b"a/b", &Limits::new().depth(2)).expect("as deep as allowed");
        let error = path.parse(b"a/b/c", &Limits::new().depth(2)).expect_err("deeper");
        assert_eq!(error.kind(), crate::ErrorKind::Limit);
    }

    proptest! {
        #[test]
        fn no_name_is_more_than_a_name(raw: Vec<u8>) {
            let mut path = EntryPath::default();
            if path.parse(&raw, &Limits::new()).is_ok() {
                for name in path.names() {
                    prop_assert!(!name.is_empty() && !name.contains(&b'/') && name != b"." && name != b"..");
                }
            }
        }
    }
}
