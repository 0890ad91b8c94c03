//! What the running kernel says of its control groups in `/sys/kernel/cgroup`.
//!
//! The files are read from sysfs alone: `/sys` is opened once and verified, and what is below is looked up without links and
//! without crossing a mount, so that nobody's file passes for the kernel's.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::os::fd::AsFd;
use std::path::Path;
use std::str::FromStr;

use cellkit_core::Errno;

use crate::{Error, ErrorKind, Result, group, open};

/// A feature of the kernel's control groups, most of them options of a cgroup2 mount.
///
/// ```
/// use cgroupfs::Feature;
///
/// assert_eq!(Feature::FavorDynMods.name(), "favordynmods");
/// assert!(Feature::ALL.iter().any(|feature| feature.to_string() == "nsdelegate"));
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#mounting>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// `nsdelegate`: a cgroup namespace is a border of delegation. Linux 4.13.
    NsDelegate,
    /// `favordynmods`: moving processes is quick, and every fork and exit a little slower. Linux 6.0.
    FavorDynMods,
    /// `memory_localevents`: `memory.events` counts the group alone. Linux 5.2.
    MemoryLocalEvents,
    /// `memory_recursiveprot`: `memory.min` and `memory.low` protect what is below too. Linux 5.7.
    MemoryRecursiveProt,
    /// `memory_hugetlb_accounting`: huge pages count as memory. Linux 6.6.
    MemoryHugetlbAccounting,
    /// `pids_localevents`: `pids.events` counts the group alone. Linux 6.11.
    PidsLocalEvents,
}

impl Feature {
    /// All that this library knows.
    pub const ALL: [Self; 6] = [
        Self::NsDelegate,
        Self::FavorDynMods,
        Self::MemoryLocalEvents,
        Self::MemoryRecursiveProt,
        Self::MemoryHugetlbAccounting,
        Self::PidsLocalEvents,
    ];

    /// The kernel's word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NsDelegate => "nsdelegate",
            Self::FavorDynMods => "favordynmods",
            Self::MemoryLocalEvents => "memory_localevents",
            Self::MemoryRecursiveProt => "memory_recursiveprot",
            Self::MemoryHugetlbAccounting => "memory_hugetlb_accounting",
            Self::PidsLocalEvents => "pids_localevents",
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `/sys/kernel/cgroup/features`: what the running kernel's control groups can do. Words that this library does not know
/// are kept.
///
/// ```
/// use cgroupfs::{Feature, Features};
///
/// let features: Features = "nsdelegate\nquantum\n".parse().unwrap();
/// assert!(features.contains(Feature::NsDelegate) && !features.contains(Feature::FavorDynMods));
/// assert_eq!(features.words().collect::<Vec<_>>(), ["nsdelegate", "quantum"]);
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#mounting>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features(BTreeSet<String>);

impl Features {
    /// Reads the file: of the running kernel, whatever is mounted.
    ///
    /// * Kernel: 4.15.
    ///
    /// ```no_run
    /// println!("{:?}", cgroupfs::Features::of_kernel()?);
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// # Errors
    /// Unsupported where there is no such file, as in containers without sysfs; Invalid when `/sys` is not sysfs.
    pub fn of_kernel() -> Result<Self> {
        match read("features") {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(error.as_unsupported("/sys/kernel/cgroup/features", Some("4.15")))
            }
            text => Ok(text?.parse().unwrap_or_default()),
        }
    }

    /// Whether the feature is there.
    #[must_use]
    pub fn contains(&self, feature: Feature) -> bool {
        self.0.contains(feature.name())
    }

    /// All words, in the order of the alphabet.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    pub(crate) fn of_words<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        Self(words.map(str::to_owned).collect())
    }
}

impl FromStr for Features {
    type Err = Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Infallible> {
        Ok(Self::of_words(text.split_whitespace()))
    }
}

impl fmt::Display for Features {
    /// A word a line, as the file has them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|word| writeln!(f, "{word}"))
    }
}

/// `/sys/kernel/cgroup/delegate`: the files of a group that are given away with it. See
/// [`Cgroup::delegate`](crate::Cgroup::delegate).
///
/// ```
/// use cgroupfs::DelegateFiles;
///
/// let files: DelegateFiles = "cgroup.procs\ncgroup.threads\n../x\n".parse().unwrap();
/// assert_eq!(files.names().collect::<Vec<_>>(), ["cgroup.procs", "cgroup.threads"]);
/// assert!(DelegateFiles::built_in().names().any(|file| file == "cgroup.subtree_control"));
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#model-of-delegation>.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegateFiles(Vec<String>);

impl DelegateFiles {
    /// What the running kernel lists; where it does not say, as in containers without sysfs, [`built_in`](Self::built_in).
    ///
    /// * Kernel: 4.15.
    ///
    /// # Errors
    /// Invalid when `/sys` is not sysfs; the errno of openat2(2) or read(2).
    pub fn of_kernel() -> Result<Self> {
        match read("delegate") {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::built_in()),
            text => Ok(text?.parse().unwrap_or_else(|_| Self::built_in())),
        }
    }

    /// The list of Linux 6.12: `cgroup.procs`, `cgroup.threads`, `cgroup.subtree_control`, `memory.oom.group` and
    /// `memory.reclaim`.
    #[must_use]
    pub fn built_in() -> Self {
        let files = ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "memory.oom.group", "memory.reclaim"];
        Self(files.map(str::to_owned).into())
    }

    /// The names, in the kernel's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl FromStr for DelegateFiles {
    type Err = Infallible;

    /// A name a line. What is not the name of one file is left out.
    fn from_str(text: &str) -> std::result::Result<Self, Infallible> {
        let names = text.split_whitespace().filter(|name| !name.contains('/') && !name.starts_with('.'));
        Ok(Self(names.map(str::to_owned).collect()))
    }
}

impl fmt::Display for DelegateFiles {
    /// A name a line, as the file has them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|name| writeln!(f, "{name}"))
    }
}

/// A file of `/sys/kernel/cgroup`.
fn read(name: &str) -> Result<String> {
    let shown = Path::new("/sys/kernel/cgroup").join(name);
    let fail = |operation: &'static str, errno: Errno| Error::from_errno(operation, errno.0).on(shown.clone());
    let sysfs = open::sysfs()?;
    let path = Path::new("kernel/cgroup").join(name);
    let file = open::beneath(sysfs.as_fd(), &path, libc::O_RDONLY).map_err(|errno| fail("openat2", errno))?;
    group::read_whole(file).map_err(|errno| fail("read", errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_running_kernels_lists() {
        let theirs = |file: &str| std::fs::read_to_string(Path::new("/sys/kernel/cgroup").join(file));
        match theirs("features") {
            Ok(text) => {
                let features = Features::of_kernel().expect("features");
                assert!(text.lines().all(|line| features.words().any(|word| word == line)), "{text}");
                assert_eq!(features.words().count(), text.lines().count());
            }
            Err(_) => assert_eq!(Features::of_kernel().expect_err("none").kind(), ErrorKind::Unsupported),
        }
        match theirs("delegate") {
            Ok(text) => assert_eq!(DelegateFiles::of_kernel().expect("delegate").to_string(), text),
            Err(_) => assert_eq!(DelegateFiles::of_kernel().expect("delegate"), DelegateFiles::built_in()),
        }
    }

    proptest! {
        #[test]
        fn lists_round_trip(words in proptest::collection::btree_set("[a-z][a-z_.]{0,12}", 0..8)) {
            let text: String = words.iter().map(|word| format!("{word}\n")).collect();
            prop_assert_eq!(text.parse::<Features>().unwrap().to_string(), text.clone());
            prop_assert_eq!(text.parse::<DelegateFiles>().unwrap().to_string(), text);
        }

        #[test]
        fn a_file_to_delegate_is_one_name(text in "\\PC*") {
            for name in text.parse::<DelegateFiles>().unwrap().names() {
                prop_assert_eq!(Path::new(name).components().count(), 1);
                prop_assert_ne!(name, "..");
            }
        }
    }
}
