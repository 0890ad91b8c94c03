//! The pair of ids that a file has.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// The uid and the gid of a file: named, because two numbers are easily exchanged.
///
/// * C call: stat(2) tells them, chown(2) sets them. They mean something only in a user namespace: for the calling process
///   its own, and [`IdMaps`](crate::IdMaps) translates.
///
/// ```
/// use idmap::{IdMaps, Owner};
///
/// let maps: IdMaps = "100000:200000:65536".parse()?;
/// let inside = Owner { uid: 33, gid: 33 };
/// assert_eq!(maps.to_outside(inside), Some(Owner { uid: 100_033, gid: 200_033 }));
/// println!("{}", Owner::from(&std::fs::metadata("/etc/passwd").expect("a file")));
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// See chown(2): <https://man7.org/linux/man-pages/man2/chown.2.html>.
#[doc(alias = "chown")]
#[doc(alias = "st_uid")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl From<&Metadata> for Owner {
    /// The owner in the user namespace of the process that asked for the metadata.
    fn from(metadata: &Metadata) -> Self {
        Self { uid: metadata.uid(), gid: metadata.gid() }
    }
}

impl fmt::Display for Owner {
    /// As chown(1) takes it: `33:33`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}
