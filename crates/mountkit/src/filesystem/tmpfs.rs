//! Files in memory.
#![forbid(unsafe_code)]

use cellkit_core::Result;

use super::as_a_mount;
use super::recipe::{self, MountOptions, Recipe, Setting};
use crate::MountAttr;

const FS: &str = "tmpfs";

/// Whether a tmpfs uses huge pages: `huge=` of [`Tmpfs`].
///
/// ```
/// use mountkit::{HugePages, Tmpfs};
///
/// let model = Tmpfs::new().size(8 << 30).huge(HugePages::WithinSize);
/// # let _ = model;
/// ```
///
/// See the kernel's page on tmpfs: <https://docs.kernel.org/filesystems/tmpfs.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HugePages {
    /// `never`.
    Never,
    /// `always`, when one is needed.
    Always,
    /// `within_size`: only when the whole page is within the file.
    WithinSize,
    /// `advise`: only where madvise(2) asks for it.
    Advise,
}

impl HugePages {
    fn word(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Always => "always",
            Self::WithinSize => "within_size",
            Self::Advise => "advise",
        }
    }
}

/// How much a tmpfs may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Bytes(u64),
    Percent(u32),
}

/// A file system in memory: `mount -t tmpfs`, as a detached mount, or as part of a root with
/// [`Rootfs::tmpfs`](crate::Rootfs::tmpfs).
///
/// Without any options: half of the machine's memory and half as many files as it has pages, mode 1777, owned by the
/// caller, nosuid, nodev. What is kept in it counts as memory of the control group that wrote it.
///
/// * Calls: those of [`Filesystem`](crate::Filesystem).
/// * Privileges: CAP_SYS_ADMIN in the user namespace that owns the caller's mount namespace.
///
/// ```no_run
/// use mountkit::{MountAttr, RootFd, Tmpfs};
///
/// let scratch = Tmpfs::new().size(64 << 20).nr_inodes(10_000).mode(0o700).attrs(MountAttr::NOEXEC).mount()?;
/// scratch.attach(&RootFd::open("/srv/c1")?, "scratch")?;
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// See tmpfs(5): <https://man7.org/linux/man-pages/man5/tmpfs.5.html>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[doc(alias = "shm")]
#[must_use = "it is made by `mount`"]
#[non_exhaustive]
pub struct Tmpfs {
    size: Option<Size>,
    nr_inodes: Option<u64>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    huge: Option<HugePages>,
    no_swap: bool,
    mount: MountOptions,
}

as_a_mount!(Tmpfs);

impl Tmpfs {
    /// With the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// `size=`: the most it may hold, in bytes, rounded up to whole pages. 0 is refused, because the kernel takes it
    /// for "no limit".
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = Some(Size::Bytes(bytes));
        self
    }

    /// `size=…%`: the most it may hold, in hundredths of the machine's memory, 1 to 100.
    #[doc(alias = "size")]
    pub fn size_percent(mut self, percent: u32) -> Self {
        self.size = Some(Size::Percent(percent));
        self
    }

    /// `nr_inodes=`: how many files, directories and links it may hold, its root among them. 0 is refused, because the
    /// kernel takes it for "no limit".
    pub fn nr_inodes(mut self, number: u64) -> Self {
        self.nr_inodes = Some(number);
        self
    }

    /// `mode=`: the permission bits of its root directory, up to 0o7777.
    pub fn mode(mut self, bits: u32) -> Self {
        self.mode = Some(bits);
        self
    }

    /// `uid=`: the owner of its root directory, by its number in the user namespace of whoever makes it.
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// `gid=`: the group of its root directory, by its number in the user namespace of whoever makes it.
    pub fn gid(mut self, gid: u32) -> Self {
        self.gid = Some(gid);
        self
    }

    /// `huge=`: whether it uses huge pages. Unsupported where the kernel was built without them.
    pub fn huge(mut self, huge: HugePages) -> Self {
        self.huge = Some(huge);
        self
    }

    /// `noswap`: what is in it is never written to swap space, as is right for secrets. Linux 6.4, and only with
    /// CAP_SYS_ADMIN in the machine's first user namespace.
    #[doc(alias = "noswap")]
    pub fn no_swap(mut self) -> Self {
        self.no_swap = true;
        self
    }

    /// `noexec`: programs in it cannot be run.
    #[doc(alias = "MOUNT_ATTR_NOEXEC")]
    pub fn no_exec(self) -> Self {
        self.attrs(MountAttr::NOEXEC)
    }

    pub(crate) fn recipe(&self) -> Result<Recipe> {
        let mut settings = Vec::new();
        match self.size {
            None => {}
            Some(Size::Bytes(bytes)) => settings.push(recipe::bytes(FS, c"size", bytes)?),
            Some(Size::Percent(percent @ 1..=100)) => settings.push(Setting::text(c"size", format!("{percent}%"))),
            Some(Size::Percent(percent)) => {
                return Err(recipe::refuse(FS, format!("a size of {percent}% is not between 1 and 100")));
            }
        }
        match self.nr_inodes {
            None => {}
            Some(0) => return Err(recipe::refuse(FS, "0 inodes would be no limit: give a number or leave it out")),
            Some(number) => settings.push(Setting::text(c"nr_inodes", number)),
        }
        if let Some(bits) = self.mode {
            settings.push(recipe::mode(FS, c"mode", bits, 0o7777)?);
        }
        if let Some(uid) = self.uid {
            settings.push(recipe::id(FS, c"uid", uid)?);
        }
        if let Some(gid) = self.gid {
            settings.push(recipe::id(FS, c"gid", gid)?);
        }
        if let Some(huge) = self.huge {
            settings.push(Setting::text(c"huge", huge.word()).if_built());
        }
        if self.no_swap {
            settings.push(Setting::flag(c"noswap").since("6.4"));
        }
        self.mount.recipe(c"tmpfs", MountAttr::NOSUID | MountAttr::NODEV, settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellkit_core::ErrorKind;

    #[test]
    fn values_that_cannot_be() {
        for (tmpfs, word) in [
            (Tmpfs::new().size(0), "no limit"),
            (Tmpfs::new().size(u64::MAX), "larger"),
            (Tmpfs::new().size_percent(0), "between 1 and 100"),
            (Tmpfs::new().size_percent(101), "101%"),
            (Tmpfs::new().nr_inodes(0), "no limit"),
            (Tmpfs::new().mode(0o10000), "0o7777"),
            (Tmpfs::new().uid(u32::MAX), "no uid"),
            (Tmpfs::new().gid(u32::MAX), "no gid"),
            (Tmpfs::new().source("a\0b"), "NUL"),
        ] {
            let error = tmpfs.mount().expect_err(word);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(word) && error.to_string().contains("tmpfs"), "{error}");
        }
        assert!(Tmpfs::new().size(1).mode(0).uid(0).recipe().is_ok());
    }

    #[test]
    fn settings_as_the_kernel_wants_them() {
        let recipe = Tmpfs::new().size(65536).mode(0o755).no_swap().recipe().expect("a recipe");
        let expected =
            [Setting::text(c"size", "65536"), Setting::text(c"mode", "0755"), Setting::flag(c"noswap").since("6.4")];
        assert_eq!(recipe.settings, expected);
        assert!(Tmpfs::new().recipe().expect("a recipe").settings.is_empty());
    }

    #[test]
    fn the_last_word_about_an_attribute_counts() {
        let bits = |tmpfs: Tmpfs| tmpfs.recipe().expect("a recipe").attributes();
        let (nosuid, nodev, noexec) = (MountAttr::NOSUID.bits(), MountAttr::NODEV.bits(), MountAttr::NOEXEC.bits());
        assert_eq!(bits(Tmpfs::new()), nosuid | nodev);
        assert_eq!(bits(Tmpfs::new().no_exec().clear(MountAttr::NOSUID)), nodev | noexec);
        assert_eq!(bits(Tmpfs::new().clear(MountAttr::NODEV).attrs(MountAttr::NODEV)), nosuid | nodev);
    }
}
