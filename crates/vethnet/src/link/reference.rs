//! [`LinkRef`]: which link is meant.
#![forbid(unsafe_code)]

use std::fmt;
use std::hash::{Hash, Hasher};

use cellkit_core::Subject;

use crate::link::Link;
use crate::name::IfName;

/// Which link is meant: by its number, which stays the same when it is renamed, or by its name.
///
/// Every verb of [`Net`](crate::Net) that is about a link takes `impl Into<LinkRef>`: an [`IfName`], or a [`Link`] that was
/// read or made.
///
/// A name may be another link's by the time the kernel looks at it. A [`Link`] stands for its number, so whatever was
/// checked of it is true of what is changed; errors call it by its name.
///
/// See netdevice(7): <https://man7.org/linux/man-pages/man7/netdevice.7.html>.
///
/// ```
/// use vethnet::{IfName, LinkRef};
///
/// let name = IfName::new("eth0")?;
/// assert_eq!(LinkRef::from(&name), LinkRef::Name(name));
/// assert_eq!(LinkRef::Index(7).to_string(), "#7");
///
/// let read = LinkRef::Read { index: 7, name: "eth0".into() };
/// assert_eq!((read.to_string().as_str(), &read), ("eth0", &LinkRef::Index(7)));
/// # Ok::<(), vethnet::Error>(())
/// ```
#[doc(alias = "ifindex")]
#[doc(alias = "if_nametoindex")]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LinkRef {
    /// The link with this number in the network namespace. Numbers are not given again soon.
    Index(u32),
    /// The link that has this name when the kernel is asked.
    Name(IfName),
    /// The link with this number, which had this name when it was read. It is equal to its number alone.
    Read {
        /// By which it is found.
        index: u32,
        /// For errors.
        name: String,
    },
}

impl LinkRef {
    /// Its number, where it is meant by that.
    #[must_use]
    pub fn index(&self) -> Option<u32> {
        match self {
            Self::Index(index) | Self::Read { index, .. } => Some(*index),
            Self::Name(_) => None,
        }
    }

    /// What two that are equal have in common.
    fn key(&self) -> std::result::Result<u32, &IfName> {
        match self {
            Self::Index(index) | Self::Read { index, .. } => Ok(*index),
            Self::Name(name) => Err(name),
        }
    }

    pub(crate) fn subject(&self) -> Subject {
        Subject::Interface(self.to_string())
    }
}

impl PartialEq for LinkRef {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for LinkRef {}

impl Hash for LinkRef {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Display for LinkRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "#{index}"),
            Self::Name(name) => name.fmt(f),
            Self::Read { name, .. } => name.fmt(f),
        }
    }
}

impl From<&Link> for LinkRef {
    fn from(link: &Link) -> Self {
        Self::Read { index: link.index, name: link.name.clone() }
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
