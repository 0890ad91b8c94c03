//! The hugetlb controller's files.
#![forbid(unsafe_code)]

mod numa;
pub(crate) mod size;

use std::fmt::Display;

use crate::keyed::flat_keyed;
use crate::{Bytes, Cgroup, HugePageSize, Max, Result, tree};

pub use numa::HugetlbNumaStat;

/// The files of the hugetlb controller of a group for one size of huge pages: `hugetlb.2MB.*`. Made by
/// [`Cgroup::hugetlb`].
///
/// Where the controller is not enabled for the group, at the root of the hierarchy, and for a size that the machine does
/// not have, each is [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported).
///
/// ```no_run
/// use cgroupfs::{Bytes, Hierarchy};
///
/// let group = Hierarchy::detect()?.own_group()?;
/// for size in group.hugetlb_sizes()? {
///     group.hugetlb(size).set_max(Bytes(0))?;
/// }
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#hugetlb-interface-files>.
#[derive(Clone, Copy, Debug)]
pub struct Hugetlb<'a> {
    group: &'a Cgroup,
    size: HugePageSize,
}

impl Cgroup {
    /// The files of the hugetlb controller for pages of this size.
    #[must_use]
    pub fn hugetlb(&self, size: HugePageSize) -> Hugetlb<'_> {
        Hugetlb { group: self, size }
    }

    /// The sizes of huge pages that the group has files for, in order: all that the machine has. None where the controller
    /// is not enabled for the group, and at the root of the hierarchy.
    ///
    /// # Errors
    /// Gone; the errno of reading the directory.
    #[doc(alias = "hugetlb")]
    pub fn hugetlb_sizes(&self) -> Result<Vec<HugePageSize>> {
        let files = tree::files(&self.dir).map_err(|errno| self.fail("getdents64", errno))?;
        let size = |file: &String| file.strip_prefix("hugetlb.")?.strip_suffix(".max")?.parse().ok();
        let mut sizes: Vec<HugePageSize> = files.iter().filter_map(size).collect();
        sizes.sort_unstable();
        Ok(sizes)
    }
}

impl Hugetlb<'_> {
    /// The size of the pages.
    #[must_use]
    pub fn size(self) -> HugePageSize {
        self.size
    }

    /// `hugetlb.SIZE.max`: how much it may use.
    ///
    /// # Errors
    /// Unsupported when the controller is not enabled for the group, at the root of the hierarchy, and for a size that the
    /// machine does not have; Gone.
    #[doc(alias = "hugetlb.<hugepagesize>.max")]
    pub fn max(self) -> Result<Max<Bytes>> {
        self.group.get(&self.file("max"))
    }

    /// Writes `hugetlb.SIZE.max`. The kernel rounds down to whole pages. A page beyond it is not given: who touches it gets
    /// SIGBUS.
    ///
    /// # Errors
    /// As [`max`](Self::max); Permission, for the limits of a delegated group belong to the giver.
    #[doc(alias = "hugetlb.<hugepagesize>.max")]
    pub fn set_max(self, limit: impl Into<Max<Bytes>>) -> Result<()> {
        self.set("max", limit.into())
    }

    /// `hugetlb.SIZE.current`: how much is in use, in the group and below it.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "hugetlb.<hugepagesize>.current")]
    pub fn current(self) -> Result<Bytes> {
        self.group.get(&self.file("current"))
    }

    /// `hugetlb.SIZE.rsvd.max`: how much it may reserve, whether it touches it or not. Linux 5.7.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "hugetlb.<hugepagesize>.rsvd.max")]
    pub fn rsvd_max(self) -> Result<Max<Bytes>> {
        self.group.get(&self.file("rsvd.max"))
    }

    /// Writes `hugetlb.SIZE.rsvd.max`. A mapping beyond it fails with ENOMEM in mmap(2), where a program can see it, and not
    /// when it touches the memory: so prefer it to [`set_max`](Self::set_max).
    ///
    /// # Errors
    /// As [`set_max`](Self::set_max).
    #[doc(alias = "hugetlb.<hugepagesize>.rsvd.max")]
    pub fn set_rsvd_max(self, limit: impl Into<Max<Bytes>>) -> Result<()> {
        self.set("rsvd.max", limit.into())
    }

    /// `hugetlb.SIZE.rsvd.current`: how much is reserved, in the group and below it. Linux 5.7.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "hugetlb.<hugepagesize>.rsvd.current")]
    pub fn rsvd_current(self) -> Result<Bytes> {
        self.group.get(&self.file("rsvd.current"))
    }

    /// `hugetlb.SIZE.events`: how often the limit was felt, in the group and below it.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "hugetlb.<hugepagesize>.events")]
    pub fn events(self) -> Result<HugetlbEvents> {
        self.group.get(&self.file("events"))
    }

    /// `hugetlb.SIZE.events.local`: how often the group's own limit was felt.
    ///
    /// # Errors
    /// As [`max`](Self::max).
    #[doc(alias = "hugetlb.<hugepagesize>.events.local")]
    pub fn events_local(self) -> Result<HugetlbEvents> {
        self.group.get(&self.file("events.local"))
    }

    /// `hugetlb.SIZE.numa_stat`: how much is in use on each memory node. Linux 5.17.
    ///
    /// # Errors
    /// As [`max`](Self::max); Unsupported on an older kernel.
    #[doc(alias = "hugetlb.<hugepagesize>.numa_stat")]
    pub fn numa_stat(self) -> Result<HugetlbNumaStat> {
        self.group.get(&self.file("numa_stat"))
    }

    fn file(self, name: &str) -> String {
        format!("hugetlb.{}.{name}", self.size)
    }

    fn set(self, name: &str, value: impl Display) -> Result<()> {
        self.group.set(&self.file(name), value)
    }
}

flat_keyed! {
    /// `hugetlb.SIZE.events`, `hugetlb.SIZE.events.local`: how often the limit of huge pages was felt.
    ///
    /// ```
    /// use cgroupfs::HugetlbEvents;
    ///
    /// let events: HugetlbEvents = "max 3\n".parse()?;
    /// assert_eq!(events.max, 3);
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#hugetlb-interface-files>.
    HugetlbEvents of "hugetlb.*.events" {
        /// Pages, or reservations, that were refused.
        max: u64 = "max",
    }
}
