//! [`LinkRef`]: which link is meant.
#![forbid(unsafe_code)]

use std::fmt;

use cellkit_core::Subject;

use crate::link::Link;
use crate::name::IfName;

/// Which link is meant: by its number, which stays the same when it is renamed, or by its name.
///
/// A name may be another link's by the time the kernel looks at it. A [`Link`] that was read stands for its number, so
/// whatever was checked of it is true of what is changed.
///
/// See netdevice(7): <https://man7.org/linux/man-pages/man7/netdevice.7.html>.
///
/// ```
/// use vethnet::{IfName, LinkRef};
///
/// let name = IfName::new("eth0")?;
/// assert_eq!(LinkRef::from(&name), LinkRef::Name(name));
/// assert_eq!(LinkRef::Index(7).to_string(), "#7");
/// # Ok::<(), vethnet::Error>(())
/// ```
#[doc(alias = "ifindex")]
#[doc(alias = "if_nametoindex")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LinkRef {
    /// The link with this number in the network namespace. Numbers are not given again soon.
    Index(u32),
    /// The link that has this name when the kernel is asked.
    Name(IfName),
}

impl LinkRef {
    pub(crate) fn subject(&self) -> Subject {
        Subject::Interface(self.to_string())
    }
}

impl fmt::Display for LinkRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "#{index}"),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl From<&Link> for LinkRef {
    fn from(link: &Link) -> Self {
        Self::Index(link.index)
    }
}

impl From<&IfName> for LinkRef {
    fn from(name: &IfName) -> Self {
        Self::Name(name.clone())
    }
}

impl From<IfName> for LinkRef {
    fn from(name: IfName) -> Self {
        Self::Name(name)
    }
}

impl From<&Self> for LinkRef {
    fn from(link: &Self) -> Self {
        link.clone()
    }
}
