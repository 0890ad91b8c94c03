//! How an (operation, errno) pair becomes the sentence a user would have wanted.
#![forbid(unsafe_code)]

use crate::Errno;

/// One row of a [`HintTable`].
#[derive(Clone, Copy, Debug)]
pub struct HintRow {
    /// The operation as the error names it: `clone3`, or `write memory.*` where a trailing `*` matches any ending.
    pub operation: &'static str,
    /// The errno it explains.
    pub errno: i32,
    /// The sentence: which file, sysctl or setting to look at, in words that can be followed.
    pub hint: &'static str,
}

/// A crate's hints, looked up when an error is made from an errno. Earlier rows win.
///
/// ```
/// use cellkit_core::{Error, HintRow, HintTable};
///
/// static HINTS: HintTable = HintTable(&[HintRow {
///     operation: "clone3",
///     errno: libc::ENOSPC,
///     hint: "a namespace limit is reached: see the files in /proc/sys/user/",
/// }]);
///
/// let error = Error::from_errno("clone3", libc::ENOSPC).with_hints(&HINTS);
/// assert!(error.hint().unwrap().contains("/proc/sys/user"));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct HintTable(pub &'static [HintRow]);

impl HintTable {
    /// The hint for this pair, if the table has one.
    #[must_use]
    pub fn find(&self, operation: &str, errno: Errno) -> Option<&'static str> {
        self.0
            .iter()
            .find(|row| {
                row.errno == errno.0
                    && match row.operation.strip_suffix('*') {
                        Some(start) => operation.starts_with(start),
                        None => operation == row.operation,
                    }
            })
            .map(|row| row.hint)
    }
}

/// What an errno means whatever the operation was. An error has these hints where it was given no other.
pub(crate) static EVERYWHERE: HintTable = HintTable(&[
    HintRow {
        operation: "*",
        errno: libc::EMFILE,
        hint: "the limit on open files of this process is reached: see ulimit -n",
    },
    HintRow {
        operation: "*",
        errno: libc::ENFILE,
        hint: "the limit on open files of the machine is reached: see fs.file-max",
    },
]);

#[cfg(test)]
mod tests {
    use super::*;

    static TABLE: HintTable = HintTable(&[
        HintRow { operation: "write memory.max", errno: libc::EBUSY, hint: "first" },
        HintRow { operation: "write memory.*", errno: libc::EBUSY, hint: "second" },
    ]);

    #[test]
    fn exact_wildcard_and_none() {
        assert_eq!(TABLE.find("write memory.max", Errno(libc::EBUSY)), Some("first"));
        assert_eq!(TABLE.find("write memory.high", Errno(libc::EBUSY)), Some("second"));
        assert_eq!(TABLE.find("write memory.high", Errno(libc::EPERM)), None);
        assert_eq!(TABLE.find("write cpu.max", Errno(libc::EBUSY)), None);
    }
}
