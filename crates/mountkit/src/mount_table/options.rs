//! The options of a file system, as a table has them.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use cellkit_core::mountinfo::unescape_in_place;

use super::os;

/// The options of a file system, one after the other, each as the file system has it: what is escaped is plain.
///
/// ```
/// use mountkit::MountTable;
///
/// let table = MountTable::parse("9 1 0:9 / / rw - overlay none rw,lowerdir=/a\\054b:/c,xino=off\n");
/// let options = table.iter().next().expect("one").options().expect("mountinfo has them");
/// assert_eq!(options.value("lowerdir").expect("there"), "/a,b:/c");
/// assert_eq!(options.count(), 2);
/// ```
///
/// See mount(8): <https://man7.org/linux/man-pages/man8/mount.8.html>.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MountOptions<'t> {
    rest: &'t [u8],
}

impl<'t> MountOptions<'t> {
    /// `written` as the kernel writes them.
    pub(super) fn new(written: &'t [u8]) -> Self {
        Self { rest: written }
    }

    /// All of them as the kernel writes them, `,` between them, blanks and the like as a backslash and three octal digits.
    #[must_use]
    pub fn as_written(self) -> &'t OsStr {
        os(self.rest)
    }

    /// What comes after `name=`, the first time that there is such an option.
    #[must_use]
    pub fn value(mut self, name: impl AsRef<OsStr>) -> Option<OsString> {
        self.find_map(|option| {
            let rest = option.as_bytes().strip_prefix(name.as_ref().as_bytes())?.strip_prefix(b"=")?;
            Some(os(rest).to_owned())
        })
    }

    /// Whether there is an option of this name without a value.
    #[must_use]
    pub fn has(mut self, name: impl AsRef<OsStr>) -> bool {
        self.any(|option| *option == *name.as_ref())
    }
}

impl<'t> Iterator for MountOptions<'t> {
    type Item = Cow<'t, OsStr>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let end = self.rest.iter().position(|&byte| byte == b',').unwrap_or(self.rest.len());
        let (option, after) = self.rest.split_at(end);
        self.rest = after.get(1..).unwrap_or_default();
        if !option.contains(&b'\\') {
            return Some(Cow::Borrowed(os(option)));
        }
        let mut plain = option.to_vec();
        let length = unescape_in_place(&mut plain);
        plain.truncate(length);
        Some(Cow::Owned(OsString::from_vec(plain)))
    }
}

impl fmt::Debug for MountOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}
