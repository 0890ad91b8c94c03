//! Names of groups.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::{Error, Result};

/// The name of one group: a single directory, never a path.
///
/// It is 1 to 255 of `A-Z a-z 0-9 _ + . : @ -`, and neither `.` nor `..`; and it does not begin as the kernel's own files
/// do (`cgroup.`, `memory.`, `cpu.` and so on), for the kernel makes those in every group and may make more.
///
/// ```
/// use cgroupfs::CgroupName;
///
/// assert_eq!(CgroupName::new("cellrun-abc")?.as_str(), "cellrun-abc");
/// for name in ["", "..", "a/b", "memory.max", "cgroup.procs", "a b", "a\0b"] {
///     assert!(CgroupName::new(name).is_err());
/// }
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#avoid-name-collisions>.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CgroupName(String);

/// What the kernel's files begin with, before the dot: every controller of both versions, and `irq` and `debug`.
const PREFIXES: [&str; 21] = [
    "cgroup",
    "cpu",
    "cpuset",
    "io",
    "memory",
    "hugetlb",
    "pids",
    "rdma",
    "misc",
    "dmem",
    "perf_event",
    "irq",
    "debug",
    "cpuacct",
    "blkio",
    "devices",
    "freezer",
    "net_cls",
    "net_prio",
    "ns",
    "bpf",
];

impl CgroupName {
    /// Checks a name.
    ///
    /// # Errors
    /// Invalid, naming what is wrong with it.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        match fault(&name) {
            None => Ok(Self(name)),
            Some(why) => Err(Error::invalid("name of a group", why).on(Subject::Value(name))),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn fault(name: &str) -> Option<&'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+.:@-".contains(&byte);
    match name {
        "" => Some("empty"),
        "." | ".." => Some("this is a directory above"),
        _ if name.contains('/') => Some("this is a path, not one name"),
        _ if name.len() > 255 => Some("longer than 255 bytes"),
        _ if !name.bytes().all(allowed) => Some("a character that is none of A-Z a-z 0-9 _ + . : @ -"),
        _ => match name.split_once('.') {
            Some((prefix, _)) if PREFIXES.contains(&prefix) => Some("it begins as the kernel's own files do"),
            _ => None,
        },
    }
}

impl AsRef<std::ffi::OsStr> for CgroupName {
    fn as_ref(&self) -> &std::ffi::OsStr {
        self.0.as_ref()
    }
}

impl AsRef<str> for CgroupName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CgroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for CgroupName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

impl TryFrom<&str> for CgroupName {
    type Error = Error;

    fn try_from(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn names_that_are_refused() {
        let long = "a".repeat(256);
        for name in [
            "",
            ".",
            "..",
            "/",
            "a/b",
            "/a",
            "a/../../b",
            "a\0",
            "a\nb",
            "a b",
            "é",
            "a\\b",
            "$(x)",
            &long,
            "cgroup.procs",
            "cgroup.x",
            "memory.max",
            "cpu.x",
            "io.max",
            "blkio.throttle",
            "irq.pressure",
        ] {
            let error = CgroupName::new(name).expect_err(name);
            assert_eq!((error.kind(), error.to_string().lines().count()), (ErrorKind::Invalid, 1), "{error}");
        }
        for name in ["a", "cellrun-abc", "web@1.2:3+x_Y", "cgroup", "memory", "my.memory.max", "..a", &long[1..]] {
            assert_eq!(CgroupName::new(name).expect(name).as_str(), name);
        }
    }

    proptest! {
        #[test]
        fn a_name_is_one_component(name in "\\PC*") {
            if let Ok(name) = CgroupName::new(name) {
                let path = std::path::Path::new(name.as_str());
                prop_assert_eq!(path.components().count(), 1);
                prop_assert_eq!(path.file_name().unwrap(), name.as_str());
                prop_assert!(name.as_str().len() <= 255 && name.as_str().is_ascii());
            }
        }
    }
}
