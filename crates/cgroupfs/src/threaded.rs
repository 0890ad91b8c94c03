//! `cgroup.type`: whether a group holds processes or threads.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use crate::{Cgroup, Error, Result};

/// What a group is to the kernel: `cgroup.type`.
///
/// It reads and prints as the file does.
///
/// ```
/// use cgroupfs::CgroupType;
///
/// assert_eq!("domain threaded\n".parse::<CgroupType>()?, CgroupType::DomainThreaded);
/// assert!("threaded".parse::<CgroupType>()?.is_threaded());
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#threads>.
#[doc(alias = "cgroup.type")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CgroupType {
    /// The usual kind: it holds whole processes.
    Domain,
    /// The top of a threaded subtree: it holds whole processes, whose threads may be in the groups below.
    DomainThreaded,
    /// A group below a threaded one that was not made threaded itself: nothing can be put into it.
    DomainInvalid,
    /// A part of a threaded subtree: it holds single threads, and has the controllers cpu, cpuset and pids only.
    Threaded,
}

impl CgroupType {
    const WORDS: [(Self, &'static str); 4] = [
        (Self::Domain, "domain"),
        (Self::DomainThreaded, "domain threaded"),
        (Self::DomainInvalid, "domain invalid"),
        (Self::Threaded, "threaded"),
    ];

    /// Whether the group holds single threads.
    #[must_use]
    pub fn is_threaded(self) -> bool {
        self == Self::Threaded
    }
}

impl fmt::Display for CgroupType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::WORDS.iter().find(|(kind, _)| kind == self).map_or("", |(_, word)| word))
    }
}

impl FromStr for CgroupType {
    type Err = Error;

    /// What the file holds. Anything else is an error of kind Parse.
    fn from_str(text: &str) -> Result<Self> {
        let known = Self::WORDS.iter().find(|(_, word)| *word == text.trim());
        known
            .map(|(kind, _)| *kind)
            .ok_or_else(|| Error::parse("parse cgroup.type", format!("{text:?} is no type of group")))
    }
}

impl Cgroup {
    /// `cgroup.type`: whether the group holds processes or threads. The root of the hierarchy, which has no such file,
    /// holds processes.
    ///
    /// * Kernel: 4.14.
    ///
    /// # Errors
    /// Gone.
    #[doc(alias = "cgroup.type")]
    pub fn cgroup_type(&self) -> Result<CgroupType> {
        match self.get("cgroup.type") {
            Err(_) if self.is_root()? => Ok(CgroupType::Domain),
            outcome => outcome,
        }
    }

    /// Writes `cgroup.type`: makes the group threaded, for good. The nearest group above that is not becomes the top of the
    /// threaded subtree, and the other groups below that one become invalid until they are made threaded too.
    ///
    /// * Kernel: 4.14.
    /// * Privileges: write access to the file.
    ///
    /// ```no_run
    /// use cgroupfs::{CgroupName, Hierarchy};
    ///
    /// let pool = Hierarchy::detect()?.open("/web")?;
    /// let slow = pool.create_child(&CgroupName::new("slow-threads")?)?;
    /// slow.make_threaded()?;
    /// slow.attach_this_thread()?; // of a process that is in /web
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#threads>.
    ///
    /// # Errors
    /// Unsupported (EOPNOTSUPP) when this group has processes or passes domain controllers down, or the group above passes
    /// domain controllers down or is invalid itself; Unsupported at the root; Permission; Gone.
    #[doc(alias = "cgroup.type")]
    pub fn make_threaded(&self) -> Result<()> {
        self.set("cgroup.type", CgroupType::Threaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn every_word_round_trips_and_nothing_else() {
        for (kind, word) in CgroupType::WORDS {
            assert_eq!(format!("{word}\n").parse::<CgroupType>().expect(word), kind);
            assert_eq!(kind.to_string(), word);
        }
        for text in ["", "Domain", "domain  threaded", "thread", "domain\nthreaded", "\0"] {
            assert_eq!(text.parse::<CgroupType>().expect_err(text).kind(), ErrorKind::Parse);
        }
    }
}
