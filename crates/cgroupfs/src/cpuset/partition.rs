//! What a group is among the partitions of the machine's processors: `cpuset.cpus.partition`.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::{Error, Result};

const PARSE: &str = "parse cpuset.cpus.partition";

/// What a group is asked to be, by `cpuset.cpus.partition`.
///
/// ```
/// use cgroupfs::Partition;
///
/// assert_eq!("isolated".parse::<Partition>()?, Partition::Isolated);
/// assert_eq!(Partition::Root.to_string(), "root");
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#cpuset-interface-files>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Partition {
    /// No partition of its own. The kernel's default.
    #[default]
    Member,
    /// The root of a partition: its processors are its own, and their load is balanced within it.
    Root,
    /// The same without load balancing: what runs where is the payload's to say. Linux 6.1.
    Isolated,
}

impl Partition {
    const fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Root => "root",
            Self::Isolated => "isolated",
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Partition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Self::Member, Self::Root, Self::Isolated];
        all.into_iter()
            .find(|partition| partition.name() == text.trim())
            .ok_or_else(|| Error::invalid(PARSE, "none of member, root, isolated").on(Subject::Value(text.to_owned())))
    }
}

/// What `cpuset.cpus.partition` says: what the group was asked to be, and whether it is.
///
/// The kernel takes the word even where the group cannot be that partition, and makes it invalid later when its
/// conditions cease to hold (a processor goes offline, a sibling takes it). So read this after writing.
///
/// ```
/// use cgroupfs::{InvalidReason, Partition, PartitionState};
///
/// let state: PartitionState = "root invalid (Parent is not a partition root)\n".parse()?;
/// assert_eq!(state.asked(), Partition::Root);
/// assert_eq!(state.effective(), Partition::Member);
/// assert_eq!(state.invalid().map(|why| why.reason()), Some(InvalidReason::ParentNotPartition));
/// assert_eq!(state.to_string(), "root invalid (Parent is not a partition root)");
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#cpuset-interface-files>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionState {
    asked: Partition,
    invalid: Option<InvalidPartition>,
}

impl PartitionState {
    /// What it was asked to be.
    #[must_use]
    pub fn asked(&self) -> Partition {
        self.asked
    }

    /// What it is: an invalid partition is as a member.
    #[must_use]
    pub fn effective(&self) -> Partition {
        if self.invalid.is_some() { Partition::Member } else { self.asked }
    }

    /// Why it is not what it was asked to be.
    #[must_use]
    pub fn invalid(&self) -> Option<&InvalidPartition> {
        self.invalid.as_ref()
    }
}

/// Why a partition is invalid: the kernel's words, and what they mean. See [`PartitionState::invalid`].
///
/// ```
/// use cgroupfs::{InvalidReason, PartitionState};
///
/// let state: PartitionState = "isolated invalid (Cpu list in cpuset.cpus not exclusive)".parse()?;
/// let why = state.invalid().expect("invalid");
/// assert_eq!(why.reason(), InvalidReason::NotExclusive);
/// assert_eq!(why.words(), "Cpu list in cpuset.cpus not exclusive");
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#cpuset-interface-files>.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPartition {
    /// Empty when the kernel gave none.
    words: String,
}

/// What an [`InvalidPartition`] says, whichever way a kernel version words it.
///
/// ```
/// use cgroupfs::{InvalidReason, PartitionState};
///
/// let old: PartitionState = "root invalid (cpuset.cpus is empty)".parse()?;
/// let new: PartitionState = "root invalid (cpuset.cpus and cpuset.cpus.exclusive are empty)".parse()?;
/// let reason = |state: &PartitionState| state.invalid().map(|why| why.reason());
/// assert_eq!((reason(&old), reason(&new)), (Some(InvalidReason::NoCpus), Some(InvalidReason::NoCpus)));
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#cpuset-interface-files>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InvalidReason {
    /// The group above is itself an invalid partition.
    ParentInvalid,
    /// The group above is no partition root.
    ParentNotPartition,
    /// Its processors are not all the parent's to give.
    CpusNotAllowed,
    /// A sibling has some of its processors.
    NotExclusive,
    /// The group above would have none left for its own processes.
    ParentNeedsCpus,
    /// All of its processors went offline.
    Hotplug,
    /// It was given no processors.
    NoCpus,
    /// The kernel was booted with `isolcpus=` or `nohz_full=`, and these processors are among those.
    Housekeeping,
    /// A remote partition, one below a group that is none, needs CAP_SYS_ADMIN.
    NotPermitted,
    /// There is a remote partition below it.
    RemoteBelow,
    /// Something else: see the kernel's [words](InvalidPartition::words).
    Other,
}

impl InvalidPartition {
    /// What they mean.
    #[must_use]
    pub fn reason(&self) -> InvalidReason {
        match self.words.as_str() {
            "Parent is an invalid partition root" => InvalidReason::ParentInvalid,
            "Parent is not a partition root" => InvalidReason::ParentNotPartition,
            "Invalid cpu list in cpuset.cpus" | "Invalid cpu list in cpuset.cpus.exclusive" => {
                InvalidReason::CpusNotAllowed
            }
            "Cpu list in cpuset.cpus not exclusive" => InvalidReason::NotExclusive,
            "Parent unable to distribute cpu downstream" => InvalidReason::ParentNeedsCpus,
            "No cpu available due to hotplug" => InvalidReason::Hotplug,
            "cpuset.cpus is empty" | "cpuset.cpus and cpuset.cpus.exclusive are empty" => InvalidReason::NoCpus,
            "partition config conflicts with housekeeping setup" => InvalidReason::Housekeeping,
            "Enable partition not permitted" => InvalidReason::NotPermitted,
            "Have remote partition underneath" => InvalidReason::RemoteBelow,
            _ => InvalidReason::Other,
        }
    }

    /// The kernel's own words.
    #[must_use]
    pub fn words(&self) -> &str {
        &self.words
    }
}

impl fmt::Display for PartitionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.asked.fmt(f)?;
        match &self.invalid {
            None => Ok(()),
            Some(why) if why.words.is_empty() => f.write_str(" invalid"),
            Some(why) => write!(f, " invalid ({})", why.words),
        }
    }
}

impl FromStr for PartitionState {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let asked: Partition = word.parse()?;
        let invalid = match rest.strip_prefix("invalid").map(str::trim) {
            None if rest.is_empty() => None,
            Some("") => Some(InvalidPartition { words: String::new() }),
            Some(words) => match words.strip_prefix('(').and_then(|words| words.strip_suffix(')')) {
                Some(words) => Some(InvalidPartition { words: words.trim().to_owned() }),
                None => return Err(unreadable(text)),
            },
            None => return Err(unreadable(text)),
        };
        Ok(Self { asked, invalid })
    }
}

fn unreadable(text: &str) -> Error {
    Error::invalid(PARSE, "this is not WORD or WORD invalid (REASON)").on(Subject::Value(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn what_kernels_say() {
        for (text, reason) in [
            ("root invalid (Invalid cpu list in cpuset.cpus)", InvalidReason::CpusNotAllowed),
            ("root invalid (Invalid cpu list in cpuset.cpus.exclusive)", InvalidReason::CpusNotAllowed),
            ("root invalid (Parent is an invalid partition root)", InvalidReason::ParentInvalid),
            ("isolated invalid (Parent is not a partition root)", InvalidReason::ParentNotPartition),
            ("isolated invalid (Cpu list in cpuset.cpus not exclusive)", InvalidReason::NotExclusive),
            ("root invalid (Parent unable to distribute cpu downstream)", InvalidReason::ParentNeedsCpus),
            ("root invalid (No cpu available due to hotplug)", InvalidReason::Hotplug),
            ("root invalid (cpuset.cpus is empty)", InvalidReason::NoCpus),
            ("root invalid (partition config conflicts with housekeeping setup)", InvalidReason::Housekeeping),
            ("root invalid (Enable partition not permitted)", InvalidReason::NotPermitted),
            ("root invalid (Have remote partition underneath)", InvalidReason::RemoteBelow),
            ("root invalid (The moon (full))", InvalidReason::Other),
            ("root invalid", InvalidReason::Other),
        ] {
            let state: PartitionState = format!("{text}\n").parse().expect(text);
            assert_eq!(state.invalid().map(InvalidPartition::reason), Some(reason), "{text}");
            assert_eq!(state.to_string(), text);
            assert_eq!(state.effective(), Partition::Member);
        }
        let valid: PartitionState = "isolated\n".parse().expect("isolated");
        assert_eq!((valid.effective(), valid.invalid()), (Partition::Isolated, None));
        for text in ["", "roots", "root valid", "root invalid (", "root invalid x", "root (x)", "1"] {
            assert_eq!(text.parse::<PartitionState>().expect_err(text).kind(), ErrorKind::Invalid);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(word in "member|root|isolated", why in proptest::option::of("[A-Za-z.() ]{0,30}")) {
            let text = why.map_or(word.clone(), |why| format!("{word} invalid ({why})"));
            let state: PartitionState = text.parse().unwrap();
            prop_assert_eq!(state.to_string().parse::<PartitionState>().unwrap(), state);
        }

        #[test]
        fn no_text_panics(text in "\\PC*", near in "(root|member) ?(invalid)? ?[()a ]{0,5}") {
            let _ = (text.parse::<PartitionState>(), near.parse::<PartitionState>());
        }
    }
}
