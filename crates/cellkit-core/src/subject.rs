//! What an operation was done to.
#![forbid(unsafe_code)]

use std::fmt;
use std::path::{Path, PathBuf};

/// What an operation was done to: the second word of every error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// A path, shown quoted.
    Path(PathBuf),
    /// A path under a directory handle: `"etc/passwd" under "/run/c1/root"`.
    PathUnder {
        /// The path as given, relative to the directory.
        path: PathBuf,
        /// How the directory is known to the user.
        dir: PathBuf,
    },
    /// A network interface.
    Interface(String),
    /// A process.
    Pid(i32),
    /// A namespace, such as `net:[4026531840]` or `a new user namespace`.
    Namespace(String),
    /// A value the caller gave, shown quoted: an option's text, a name, a number.
    Value(String),
    /// Anything else, shown as it is: `table inet cellkit`, `controller memory`.
    Thing(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // `{:?}` of a path quotes it and escapes what a terminal must not see.
            Self::Path(path) => write!(f, "{path:?}"),
            Self::PathUnder { path, dir } => write!(f, "{path:?} under {dir:?}"),
            Self::Interface(name) => write!(f, "interface {name:?}"),
            Self::Pid(pid) => write!(f, "pid {pid}"),
            Self::Namespace(name) => f.write_str(name),
            Self::Value(value) => write!(f, "{value:?}"),
            Self::Thing(thing) => f.write_str(thing),
        }
    }
}

impl From<&Path> for Subject {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<PathBuf> for Subject {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}
