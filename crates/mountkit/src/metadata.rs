//! What a file is, and what it can be made to be.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, SystemTime};

use cellkit_core::{Error, Result, Subject};

use crate::hint::HINTS;
use crate::sys;

/// The kind of a file: the S_IFMT part of `st_mode`. See
/// [inode(7)](https://man7.org/linux/man-pages/man7/inode.7.html), <https://man7.org/linux/man-pages/man7/inode.7.html>.
///
/// ```
/// use mountkit::{FileKind, RootFd};
///
/// assert_eq!(RootFd::open("/")?.stat("etc/passwd")?.kind(), FileKind::Regular);
/// # Ok::<(), mountkit::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileKind {
    /// A regular file.
    #[doc(alias = "S_IFREG")]
    Regular,
    /// A directory.
    #[doc(alias = "S_IFDIR")]
    Directory,
    /// A symbolic link.
    #[doc(alias = "S_IFLNK")]
    Symlink,
    /// A FIFO: a pipe with a name.
    #[doc(alias = "S_IFIFO")]
    Fifo,
    /// A socket.
    #[doc(alias = "S_IFSOCK")]
    Socket,
    /// A character device.
    #[doc(alias = "S_IFCHR")]
    CharDevice,
    /// A block device.
    #[doc(alias = "S_IFBLK")]
    BlockDevice,
}

impl FileKind {
    /// Of an `st_mode`. `None` for what the kernel has no name for.
    pub(crate) fn of_mode(mode: u32) -> Option<Self> {
        Some(match mode & libc::S_IFMT {
            libc::S_IFREG => Self::Regular,
            libc::S_IFDIR => Self::Directory,
            libc::S_IFLNK => Self::Symlink,
            libc::S_IFIFO => Self::Fifo,
            libc::S_IFSOCK => Self::Socket,
            libc::S_IFCHR => Self::CharDevice,
            libc::S_IFBLK => Self::BlockDevice,
            _ => return None,
        })
    }

    /// Of a `d_type`. `None` where the file system does not say.
    pub(crate) fn of_entry(d_type: u8) -> Option<Self> {
        Self::of_mode(u32::from(d_type) << 12)
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Regular => "a regular file",
            Self::Directory => "a directory",
            Self::Symlink => "a symbolic link",
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
            Self::CharDevice => "a character device",
            Self::BlockDevice => "a block device",
        }
    }
}

/// What [`DirFd::mknod`](crate::DirFd::mknod) makes. See
/// [mknod(2)](https://man7.org/linux/man-pages/man2/mknod.2.html), <https://man7.org/linux/man-pages/man2/mknod.2.html>.
///
/// ```no_run
/// use mountkit::{Node, RootFd};
///
/// RootFd::open("/run/c1/root")?.mknod("dev/null", Node::CharDevice { major: 1, minor: 3 }, 0o666)?;
/// # Ok::<(), mountkit::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Node {
    /// A FIFO: a pipe with a name.
    #[doc(alias = "S_IFIFO")]
    Fifo,
    /// A socket that nobody has bound.
    #[doc(alias = "S_IFSOCK")]
    Socket,
    /// A character device. It needs CAP_MKNOD in the first user namespace, but for 0:0, the whiteout of overlayfs, which
    /// needs nothing (Linux 5.8).
    #[doc(alias = "S_IFCHR")]
    CharDevice {
        /// The number of the driver, less than 4096.
        major: u32,
        /// The number of the driver's device, less than 2^20.
        minor: u32,
    },
    /// A block device. It needs CAP_MKNOD in the first user namespace.
    #[doc(alias = "S_IFBLK")]
    BlockDevice {
        /// The number of the driver, less than 4096.
        major: u32,
        /// The number of the driver's device, less than 2^20.
        minor: u32,
    },
}

impl Node {
    /// The kind bits of its mode, and its device number. `None` for a number that the kernel has no room for.
    pub(crate) fn parts(self) -> Option<(u32, (u32, u32))> {
        let device = |kind, major, minor| (major < 1 << 12 && minor < 1 << 20).then_some((kind, (major, minor)));
        match self {
            Self::Fifo => Some((libc::S_IFIFO, (0, 0))),
            Self::Socket => Some((libc::S_IFSOCK, (0, 0))),
            Self::CharDevice { major, minor } => device(libc::S_IFCHR, major, minor),
            Self::BlockDevice { major, minor } => device(libc::S_IFBLK, major, minor),
        }
    }
}

/// What the kernel knows of a file: [statx(2)](https://man7.org/linux/man-pages/man2/statx.2.html)
/// (<https://man7.org/linux/man-pages/man2/statx.2.html>, Linux 4.11), without following a link and without waking an
/// automount.
///
/// ```
/// use mountkit::{Metadata, RootFd};
///
/// let root = RootFd::open("/")?;
/// // Of what a path leads to, through links, ...
/// let led_to = Metadata::of(root.place("proc/self/")?)?;
/// // ... and of the link itself.
/// assert_ne!(root.stat("proc/self")?.kind(), led_to.kind());
/// # Ok::<(), mountkit::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "statx")]
#[doc(alias = "stat")]
pub struct Metadata {
    stat: sys::Stat,
    kind: FileKind,
}

impl Metadata {
    /// Of what a descriptor refers to. O_PATH is enough.
    ///
    /// # Errors
    /// What statx(2) answers; Parse for a kind of file that has no name.
    pub fn of(fd: impl AsFd) -> Result<Self> {
        let fd = fd.as_fd();
        let fail = |error: Error| error.on(Subject::Thing(format!("fd {}", fd.as_raw_fd()))).with_hints(&HINTS);
        let stat = sys::statx(fd.as_raw_fd()).map_err(|errno| fail(Error::from_errno("statx", errno.0)))?;
        Self::new(stat).map_err(fail)
    }

    pub(crate) fn new(stat: sys::Stat) -> Result<Self> {
        let kind = FileKind::of_mode(stat.mode)
            .ok_or_else(|| Error::parse("statx", format!("mode {:#o} is of no kind of file", stat.mode)))?;
        Ok(Self { stat, kind })
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> FileKind {
        self.kind
    }

    /// The permission bits with set-user-id, set-group-id and sticky: 0o7777 at most.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.stat.mode & 0o7777
    }

    /// The owner, as the caller's user namespace (and an idmapped mount) shows him.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.stat.uid
    }

    /// The group, likewise.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.stat.gid
    }

    /// Bytes of content; of a link, the length of its body.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.stat.size
    }

    /// Bytes on disk: less than [`size`](Self::size) where a file has holes.
    #[must_use]
    pub fn allocated(&self) -> u64 {
        self.stat.blocks.saturating_mul(512)
    }

    /// How many names it has.
    #[must_use]
    pub fn links(&self) -> u32 {
        self.stat.links
    }

    /// Its number in its file system.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.stat.inode
    }

    /// Its file system: major and minor number.
    #[must_use]
    pub fn device(&self) -> (u32, u32) {
        self.stat.device
    }

    /// Of a device node: which device it is, major and minor number.
    #[must_use]
    pub fn device_of_node(&self) -> (u32, u32) {
        self.stat.rdev
    }

    /// Whether something is mounted here: it is the root of a mount. Linux 5.8; never before that.
    #[must_use]
    pub fn is_mount_root(&self) -> bool {
        self.stat.is_mount_root
    }

    /// When it was last read.
    #[must_use]
    pub fn accessed(&self) -> SystemTime {
        system_time(self.stat.accessed)
    }

    /// When its content was last changed.
    #[must_use]
    pub fn modified(&self) -> SystemTime {
        system_time(self.stat.modified)
    }

    /// When anything of it was last changed, these times included.
    #[must_use]
    pub fn changed(&self) -> SystemTime {
        system_time(self.stat.changed)
    }
}

fn system_time((seconds, nanoseconds): (i64, u32)) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let start = match seconds >= 0 {
        true => SystemTime::UNIX_EPOCH.checked_add(whole),
        false => SystemTime::UNIX_EPOCH.checked_sub(whole),
    };
    start
        .and_then(|time| time.checked_add(Duration::from_nanos(u64::from(nanoseconds))))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The times that [`DirFd::set_times`](crate::DirFd::set_times) sets; one that is not named stays. See
/// [utimensat(2)](https://man7.org/linux/man-pages/man2/utimensat.2.html),
/// <https://man7.org/linux/man-pages/man2/utimensat.2.html>.
///
/// ```
/// use mountkit::Times;
/// use std::time::{Duration, SystemTime};
///
/// let of_the_archive = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
/// let times = Times::new().accessed(of_the_archive).modified(of_the_archive);
/// # let _ = times;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "it does nothing until it is given to `set_times`"]
#[doc(alias = "utimensat")]
pub struct Times {
    accessed: Option<SystemTime>,
    modified: Option<SystemTime>,
}

impl Times {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// When it was last read, to the nanosecond where the file system can.
    pub fn accessed(mut self, time: SystemTime) -> Self {
        self.accessed = Some(time);
        self
    }

    /// When its content was last changed.
    pub fn modified(mut self, time: SystemTime) -> Self {
        self.modified = Some(time);
        self
    }

    /// As utimensat(2) wants them: seconds, and nanoseconds or UTIME_OMIT.
    pub(crate) fn parts(self) -> [(i64, i64); 2] {
        [self.accessed, self.modified].map(|time| time.map_or((0, libc::UTIME_OMIT), seconds))
    }
}

/// Seconds since 1970, rounded down, and the nanoseconds from there. The standard library holds no time that is further
/// away than an i64 says.
fn seconds(time: SystemTime) -> (i64, i64) {
    let (before, length) = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => (false, after),
        Err(error) => (true, error.duration()),
    };
    let whole = i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
    let rest = i64::from(length.subsec_nanos());
    match (before, rest) {
        (false, rest) => (whole, rest),
        (true, 0) => (-whole, 0),
        (true, rest) => (-whole - 1, 1_000_000_000 - rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn kinds_of_modes_and_entries() {
        assert_eq!(FileKind::of_mode(0o100_644), Some(FileKind::Regular));
        assert_eq!(FileKind::of_entry(libc::DT_DIR), Some(FileKind::Directory));
        assert_eq!(FileKind::of_entry(libc::DT_LNK), Some(FileKind::Symlink));
        assert_eq!(FileKind::of_entry(libc::DT_UNKNOWN), None);
        assert_eq!(FileKind::of_mode(0o170_000), None);
    }

    #[test]
    fn device_numbers_that_the_kernel_has_room_for() {
        assert_eq!(Node::CharDevice { major: 1, minor: 3 }.parts(), Some((libc::S_IFCHR, (1, 3))));
        assert!(Node::BlockDevice { major: 4095, minor: (1 << 20) - 1 }.parts().is_some());
        assert_eq!(Node::BlockDevice { major: 4096, minor: 0 }.parts(), None);
        assert_eq!(Node::CharDevice { major: 0, minor: 1 << 20 }.parts(), None);
    }

    #[test]
    fn times_that_are_not_named_are_left_alone() {
        assert_eq!(Times::new().parts(), [(0, libc::UTIME_OMIT); 2]);
        let half = SystemTime::UNIX_EPOCH - Duration::from_millis(500);
        assert_eq!(Times::new().modified(half).parts(), [(0, libc::UTIME_OMIT), (-1, 500_000_000)]);
    }

    proptest! {
        #[test]
        fn times_come_back(second in -1_i64 << 40..1 << 40, nanosecond in 0_u32..1_000_000_000) {
            let parts = seconds(system_time((second, nanosecond)));
            prop_assert_eq!(parts, (second, i64::from(nanosecond)));
        }
    }
}
