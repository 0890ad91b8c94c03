//! Huge pages.
#![forbid(unsafe_code)]

use cellkit_core::Result;

use super::as_a_mount;
use super::recipe::{self, MountOptions, Recipe, Setting};
use crate::MountAttr;

const FS: &str = "hugetlbfs";

/// A size of huge pages: a power of two, in bytes.
///
/// ```
/// use mountkit::HugePageSize;
///
/// assert_eq!(HugePageSize::new(2 << 20)?, HugePageSize::MIB_2);
/// assert!(HugePageSize::new(3 << 20).is_err());
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// Those that this machine has are in /sys/kernel/mm/hugepages. See the kernel's page on them:
/// <https://docs.kernel.org/admin-guide/mm/hugetlbpage.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HugePageSize(u64);

impl HugePageSize {
    /// 2 MiB.
    pub const MIB_2: Self = Self(2 << 20);
    /// 1 GiB.
    pub const GIB_1: Self = Self(1 << 30);

    /// A size of `bytes`.
    ///
    /// # Errors
    /// Invalid: it is no power of two, or no more than a page of 4 KiB.
    pub fn new(bytes: u64) -> Result<Self> {
        if bytes.is_power_of_two() && bytes > 4096 {
            return Ok(Self(bytes));
        }
        Err(recipe::refuse(FS, format!("a page size of {bytes} bytes is no power of two above 4096")))
    }

    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

/// Files of huge pages: `mount -t hugetlbfs`, as a detached mount (nosuid, nodev).
///
/// Without options: the machine's default size of pages, as many as there are, mode 0755, owned by the caller.
///
/// * Calls: those of [`Filesystem`](crate::Filesystem).
/// * Privileges: CAP_SYS_ADMIN in the machine's first user namespace.
///
/// ```no_run
/// use mountkit::{HugePageSize, Hugetlbfs, RootFd};
///
/// let pages = Hugetlbfs::new().pagesize(HugePageSize::MIB_2).size(512 << 20).mode(0o1770).gid(107).mount()?;
/// pages.attach(&RootFd::open("/srv/c1")?, "dev/hugepages")?;
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// See the kernel's page on huge pages: <https://docs.kernel.org/admin-guide/mm/hugetlbpage.html>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "it is made by `mount`"]
#[non_exhaustive]
pub struct Hugetlbfs {
    pagesize: Option<HugePageSize>,
    size: Option<u64>,
    min_size: Option<u64>,
    nr_inodes: Option<u64>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    mount: MountOptions,
}

as_a_mount!(Hugetlbfs);

impl Hugetlbfs {
    /// With the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// `pagesize=`: the size of its pages. One that the machine does not have is refused by the kernel (EINVAL).
    pub fn pagesize(mut self, size: HugePageSize) -> Self {
        self.pagesize = Some(size);
        self
    }

    /// `size=`: the most it may hold, in bytes, rounded down to whole pages.
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = Some(bytes);
        self
    }

    /// `min_size=`: what is reserved for it, in bytes, rounded down to whole pages. OutOfMemory (ENOMEM) where there are
    /// not as many free.
    pub fn min_size(mut self, bytes: u64) -> Self {
        self.min_size = Some(bytes);
        self
    }

    /// `nr_inodes=`: how many files and directories it may hold. 0 is refused, because the kernel takes it for none at
    /// all, not even a root.
    pub fn nr_inodes(mut self, number: u64) -> Self {
        self.nr_inodes = Some(number);
        self
    }

    /// `mode=`: the permission bits of its root directory, up to 0o1777.
    pub fn mode(mut self, bits: u32) -> Self {
        self.mode = Some(bits);
        self
    }

    /// `uid=`: the owner of its root directory.
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// `gid=`: the group of its root directory.
    pub fn gid(mut self, gid: u32) -> Self {
        self.gid = Some(gid);
        self
    }

    pub(crate) fn recipe(&self) -> Result<Recipe> {
        let mut settings = Vec::new();
        if let Some(size) = self.pagesize {
            settings.push(Setting::text(c"pagesize", size.bytes()));
        }
        if let Some(bytes) = self.size {
            settings.push(recipe::bytes(FS, c"size", bytes)?);
        }
        if let Some(bytes) = self.min_size {
            settings.push(recipe::bytes(FS, c"min_size", bytes)?);
        }
        if let (Some(min), Some(size)) = (self.min_size, self.size) {
            if min > size {
                return Err(recipe::refuse(FS, format!("a min_size of {min} bytes is more than the size, {size}")));
            }
        }
        match self.nr_inodes {
            None => {}
            Some(0) => return Err(recipe::refuse(FS, "0 inodes would not even be a root directory")),
            Some(number) => settings.push(Setting::text(c"nr_inodes", number)),
        }
        if let Some(bits) = self.mode {
            settings.push(recipe::mode(FS, c"mode", bits, 0o1777)?);
        }
        if let Some(uid) = self.uid {
            settings.push(recipe::id(FS, c"uid", uid)?);
        }
        if let Some(gid) = self.gid {
            settings.push(recipe::id(FS, c"gid", gid)?);
        }
        self.mount.recipe(c"hugetlbfs", MountAttr::NOSUID | MountAttr::NODEV, settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_cannot_be() {
        for (pages, word) in [
            (Hugetlbfs::new().size(0), "no limit"),
            (Hugetlbfs::new().size(1 << 21).min_size(1 << 22), "more than the size"),
            (Hugetlbfs::new().nr_inodes(0), "root directory"),
            (Hugetlbfs::new().mode(0o2777), "0o1777"),
        ] {
            let error = pages.mount().expect_err(word);
            assert!(error.to_string().contains(word), "{error}");
        }
        for bytes in [0, 1, 4096, (2 << 20) + 1] {
            assert!(HugePageSize::new(bytes).is_err(), "{bytes}");
        }
    }
}
