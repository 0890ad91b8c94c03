//! The misc controller's files.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::keyed::parse_flat_keyed;
use crate::{Cgroup, Error, Max, PerResource, ResourceName, Result};

/// The files of the misc controller of a group: `misc.*`, which counts things that are in short supply, such as the ids of
/// encrypted virtual machines (`sev`, `sev_es`, `tdx`). Made by [`Cgroup::misc`].
///
/// Where the controller is not enabled for the group, each is [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
/// Where the machine has no such resource they are empty.
///
/// ```no_run
/// use cgroupfs::{Hierarchy, Max, ResourceName};
///
/// let group = Hierarchy::detect()?.own_group()?;
/// group.misc().set_max(&ResourceName::new("sev")?, Max::Value(4))?;
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#misc-interface-files>.
#[derive(Clone, Copy, Debug)]
pub struct Misc<'a>(&'a Cgroup);

impl Cgroup {
    /// The files of the misc controller.
    #[must_use]
    pub fn misc(&self) -> Misc<'_> {
        Misc(self)
    }
}

impl Misc<'_> {
    /// `misc.max`: how much it may use of each resource.
    ///
    /// # Errors
    /// Unsupported when the controller is not enabled for the group, and at the root of the hierarchy; Gone.
    #[doc(alias = "misc.max")]
    pub fn max(self) -> Result<PerResource<Max<u64>>> {
        self.0.get("misc.max")
    }

    /// Writes the limit of one resource to `misc.max`. It may be above what the machine has.
    ///
    /// # Errors
    /// As [`max`](Self::max); Invalid (EINVAL) when the machine has no such resource; Permission, for the limits of a
    /// delegated group belong to the giver.
    #[doc(alias = "misc.max")]
    pub fn set_max(self, resource: &ResourceName, limit: impl Into<Max<u64>>) -> Result<()> {
        self.0.set("misc.max", format_args!("{resource} {}", limit.into()))
    }

    /// `misc.current`: how much is in use of each resource, in the group and below it. The root has it too.
    ///
    /// # Errors
    /// Unsupported when the controller is not enabled for the group; Gone.
    #[doc(alias = "misc.current")]
    pub fn current(self) -> Result<PerResource<u64>> {
        self.0.get("misc.current")
    }

    /// `misc.peak`: the most that was in use of each resource. The root has it too. Linux 6.11.
    ///
    /// # Errors
    /// As [`current`](Self::current); Unsupported on an older kernel.
    #[doc(alias = "misc.peak")]
    pub fn peak(self) -> Result<PerResource<u64>> {
        self.0.get("misc.peak")
    }

    /// `misc.capacity`: how much of each resource the machine has. The root of the hierarchy alone has it.
    ///
    /// # Errors
    /// Unsupported below the root.
    #[doc(alias = "misc.capacity")]
    pub fn capacity(self) -> Result<PerResource<u64>> {
        self.0.get("misc.capacity")
    }

    /// `misc.events`: how often limits were felt, in the group and below it. Linux 5.17.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "misc.events")]
    pub fn events(self) -> Result<MiscEvents> {
        self.0.get("misc.events")
    }

    /// `misc.events.local`: how often limits were felt in the group itself. Linux 6.11.
    ///
    /// # Errors
    /// As [`max`](Self::max); Unsupported on an older kernel.
    #[doc(alias = "misc.events.local")]
    pub fn events_local(self) -> Result<MiscEvents> {
        self.0.get("misc.events.local")
    }
}

/// `misc.events`, `misc.events.local`: how often the limits of resources were felt.
///
/// ```
/// use cgroupfs::MiscEvents;
///
/// let events: MiscEvents = "sev.max 2\nsev_es.max 0\n".parse()?;
/// assert_eq!(events.max.get("sev"), Some(&2));
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#misc-interface-files>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MiscEvents {
    /// How often `misc.max` of a resource would have been passed: the file's key without `.max`.
    pub max: PerResource<u64>,
    /// Keys that this version of the library does not know.
    pub other: BTreeMap<String, u64>,
}

impl FromStr for MiscEvents {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut events = Self::default();
        for (key, count) in parse_flat_keyed(text)? {
            match key.strip_suffix(".max").map(ResourceName::new) {
                Some(Ok(resource)) => drop(events.max.0.insert(resource, count)),
                _ => drop(events.other.insert(key, count)),
            }
        }
        Ok(events)
    }
}

impl fmt::Display for MiscEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.max.iter().try_for_each(|(resource, count)| writeln!(f, "{resource}.max {count}"))?;
        self.other.iter().try_for_each(|(key, count)| writeln!(f, "{key} {count}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::collection::btree_map;
    use proptest::prelude::*;

    #[test]
    fn files_of_the_kernels_documentation() {
        let limits: PerResource<Max<u64>> = "res_a max\nres_b 4\n".parse().expect("misc.max");
        assert_eq!((limits.get("res_a"), limits.get("res_b")), (Some(&Max::Max), Some(&Max::Value(4))));
        let current: PerResource<u64> = "res_a 3\nres_b 0\n".parse().expect("misc.current");
        assert_eq!(current.get("res_a"), Some(&3));
        let events: MiscEvents = "res_a.max 1\nres_b.max 0\nres_b.min 7\nmax 2\n.max 3\n".parse().expect("misc.events");
        assert_eq!((events.max.get("res_a"), events.max.iter().count()), (Some(&1), 2));
        assert_eq!((events.other["res_b.min"], events.other["max"], events.other[".max"]), (7, 2, 3));
        assert_eq!("res_a.max".parse::<MiscEvents>().expect_err("no number").kind(), ErrorKind::Parse);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(counts in btree_map("[a-z_]{1,9}", any::<u64>(), 0..5)) {
            let text: String = counts.iter().map(|(name, count)| format!("{name}.max {count}\n")).collect();
            let events: MiscEvents = text.parse().unwrap();
            prop_assert_eq!(events.to_string(), text);
            prop_assert!(events.other.is_empty());
        }

        #[test]
        fn no_text_panics(text in "\\PC*", near in "([a-b.max]{0,6} ?[0-9]{0,3}\n?){0,4}") {
            let _ = (text.parse::<MiscEvents>(), near.parse::<MiscEvents>());
        }
    }
}
