//! The directories of an overlay: named, opened, and checked against each other.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use cellkit_core::{Errno, Error, ProcFd, ProcView, Result, Subject};

use super::OverlayXattrs;
use crate::hint::HINTS;
use crate::host_path::{io_error, open_dir};
use crate::shared_fd::SharedFd;
use crate::{MountAttr, sys};

/// A directory as the caller named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Path(PathBuf),
    Descriptor(SharedFd),
}

impl Place {
    pub(crate) fn subject(&self) -> Subject {
        match self {
            Self::Path(path) => Subject::from(&**path),
            Self::Descriptor(fd) => Subject::Thing(format!("fd {}", fd.as_fd().as_raw_fd())),
        }
    }

    /// Opens it as a place only. Links on a path are followed: it is the caller's own.
    pub(crate) fn open(&self) -> Result<Dir> {
        let fd = match self {
            Self::Path(path) => OwnedFd::from(open_dir(path)?).into(),
            Self::Descriptor(fd) => fd.clone(),
        };
        let subject = self.subject();
        let stat = sys::statx(fd.as_fd().as_raw_fd())
            .map_err(|errno| Error::from_errno("statx", errno.0).on(subject.clone()).with_hints(&HINTS))?;
        if !stat.is(libc::S_IFDIR) {
            return Err(Error::invalid("fsconfig", "a layer is a directory, and this is not").on(subject));
        }
        Ok(Dir { fd, subject, stat })
    }
}

/// A directory that was opened, and is used by its descriptor from here on.
#[derive(Clone, Debug)]
pub(crate) struct Dir {
    fd: SharedFd,
    subject: Subject,
    stat: sys::Stat,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Device and inode: which directory it is, however it was reached.
pub(crate) type Identity = ((u32, u32), u64);

impl Dir {
    pub(crate) fn subject(&self) -> Subject {
        self.subject.clone()
    }

    pub(crate) fn identity(&self) -> Identity {
        (self.stat.device, self.stat.inode)
    }

    pub(super) fn refuse(&self, why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
        Error::invalid("fsconfig", why).on(self.subject())
    }

    fn magic(&self) -> Result<i64> {
        cellkit_core::sys::fs_magic(self.fd.as_fd().as_raw_fd())
            .map_err(|errno| Error::from_errno("fstatfs", errno.0).on(self.subject()))
    }

    /// Whether the kernel lets nobody here clone it: its mount is not in this mount namespace.
    pub(crate) fn is_of_no_mount_of_ours(&self) -> bool {
        let flags = libc::AT_EMPTY_PATH as u32 | libc::AT_RECURSIVE as u32;
        sys::mount::clone_tree(Some(self.as_fd()), c"", flags).is_err_and(|errno| errno.0 == libc::EINVAL)
    }

    pub(crate) fn is_on_an_overlay(&self) -> bool {
        self.magic().is_ok_and(|magic| magic == OVERLAYFS_SUPER_MAGIC)
    }

    /// What the mount it is on does not allow: a set-user-id program of a nosuid mount must stay without effect.
    pub(crate) fn restrictions(&self) -> Result<MountAttr> {
        let flags = self.flags()?;
        let kept = [(ST_NOSUID, MountAttr::NOSUID), (ST_NODEV, MountAttr::NODEV), (ST_NOEXEC, MountAttr::NOEXEC)];
        Ok(kept.into_iter().filter(|(flag, _)| flags & flag != 0).map(|(_, attr)| attr).collect())
    }

    fn flags(&self) -> Result<u64> {
        sys::mount_flags(self.fd.as_fd().as_raw_fd())
            .map_err(|errno| Error::from_errno("fstatvfs", errno.0).on(self.subject()))
    }

    /// Opens the same directory for reading, if the caller may.
    fn readable(&self) -> Option<OwnedFd> {
        sys::overlay::open_at(self.as_fd(), c".", libc::O_RDONLY | libc::O_DIRECTORY).ok()
    }

    /// The names in it, or of a large one some of them; none where the caller may not read it.
    fn names(&self) -> Result<Vec<Vec<u8>>> {
        let Some(dir) = self.readable() else { return Ok(Vec::new()) };
        sys::overlay::some_names(&dir).map_err(|errno| Error::from_errno("getdents64", errno.0).on(self.subject()))
    }

    /// Its path as this thread sees it, from the procfs.
    pub(crate) fn path(&self) -> Result<PathBuf> {
        let link = std::ffi::CString::new(format!("fd/{}", self.fd.as_fd().as_raw_fd())).unwrap_or_default();
        let thread = ProcFd::open(ProcView::Processes)?.this_thread()?;
        let path = sys::fs::read_link(thread.as_fd().as_raw_fd(), &link)
            .map_err(|errno| Error::from_errno("readlinkat", errno.0).on(self.subject()))?;
        Ok(PathBuf::from(OsStr::from_bytes(&path)))
    }
}

// statvfs(3)'s flags; their type in the libc crate differs between machines.
pub(crate) const ST_RDONLY: u64 = 1;
const ST_NOSUID: u64 = 2;
const ST_NODEV: u64 = 4;
const ST_NOEXEC: u64 = 8;

pub(crate) const OVERLAYFS_SUPER_MAGIC: i64 = 0x794c_7630;
/// File systems that the kernel takes no upper directory on, by statfs(2)'s numbers.
const NO_UPPER: [(i64, &str); 7] = [
    (OVERLAYFS_SUPER_MAGIC, "an overlay"),
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x4d44, "FAT"),
    (0x2011_bab0, "exFAT"),
    (0x0102_1997, "9p"),
];

/// The upper and the work directory.
#[derive(Clone, Debug)]
pub(crate) struct Upper {
    pub(crate) dir: Dir,
    pub(crate) work: Dir,
}

impl Upper {
    /// What the kernel would answer EINVAL to, told before it is asked.
    pub(crate) fn check(&self, xattrs: OverlayXattrs) -> Result<()> {
        let Self { dir, work } = self;
        let magic = dir.magic()?;
        if let Some((_, what)) = NO_UPPER.into_iter().find(|(number, _)| *number == magic) {
            let why = format!("it is on {what}, which cannot hold an upper directory");
            return Err(dir.refuse(why).with_hint("use a directory of ext4, xfs, btrfs or a tmpfs"));
        }
        if dir.stat.device != work.stat.device {
            let why = format!("the work directory must be on the file system of the upper directory, {}", dir.subject);
            return Err(work.refuse(why));
        }
        if dir.stat.mount_id != work.stat.mount_id {
            let why =
                format!("the work directory must be reached through the mount of the upper directory, {}", dir.subject);
            return Err(work
                .refuse(why)
                .with_hint("two binds of one file system are two mounts: put both below one of them"));
        }
        if dir.flags()? & ST_RDONLY != 0 {
            return Err(dir
                .refuse("it is read-only, so nothing can be written to the overlay")
                .with_hint("leave the upper directory out for a read-only overlay, or put it elsewhere"));
        }
        if let Some(file) = dir.readable() {
            let (name, since) = match xattrs {
                OverlayXattrs::Trusted => (c"trusted.overlay.opaque", None),
                // Linux 6.6 is when tmpfs got them.
                OverlayXattrs::User => (c"user.overlay.opaque", Some("6.6")),
            };
            if !sys::overlay::can_hold_xattr(file.as_fd(), name) {
                let feature = format!("{xattrs} on the file system of the upper directory");
                let since = since.filter(|_| magic == TMPFS_MAGIC);
                return Err(Error::unsupported("fgetxattr", feature, since).on(dir.subject()));
            }
        }
        self.check_work()
    }

    /// The work directory is the overlay's own: what else is in it would be in danger.
    fn check_work(&self) -> Result<()> {
        if let Some(other) = self.work.names()?.iter().find(|name| *name != b"work" && *name != b"index") {
            let why = format!("the work directory must be empty, and it has {:?}", OsStr::from_bytes(other));
            return Err(self.work.refuse(why));
        }
        if self.has_volatile_mark() {
            let why = "it was the work directory of a volatile overlay, so the upper directory may lack what was not yet written \
                       when the machine stopped";
            return Err(self.work.refuse(why).with_hint(
                "throw both away; or, when the machine did not stop since, say Overlay::forget_volatile()",
            ));
        }
        Ok(())
    }

    fn has_volatile_mark(&self) -> bool {
        sys::overlay::open_below(self.work.as_fd(), c"work/incompat/volatile", libc::O_PATH).is_ok()
    }

    /// Removes what a volatile overlay leaves in its work directory. Whether there was anything.
    pub(crate) fn forget_volatile(&self) -> Result<bool> {
        if !self.has_volatile_mark() {
            return Ok(false);
        }
        let fail =
            |operation, errno: Errno| Error::from_errno(operation, errno.0).on(self.work.subject()).with_hints(&HINTS);
        // A file in a directory in a directory; the kernel looks at the directories only.
        for (dir, name, flags) in [
            (c"work/incompat/volatile", c"dirty", 0),
            (c"work/incompat", c"volatile", libc::AT_REMOVEDIR),
            (c"work", c"incompat", libc::AT_REMOVEDIR),
        ] {
            let dir = sys::overlay::open_below(self.work.as_fd(), dir, libc::O_PATH | libc::O_DIRECTORY)
                .map_err(|errno| fail("openat2", errno))?;
            match sys::fs::unlinkat(dir.as_raw_fd(), name, flags) {
                Ok(()) | Err(Errno(libc::ENOENT)) => {}
                Err(errno) => return Err(fail("unlinkat", errno)),
            }
        }
        Ok(true)
    }

    /// What keeps the kernel from making its directory `work` in the work directory, found out by doing the same.
    pub(crate) fn why_not_writable(&self) -> Option<Error> {
        match sys::mkdirat(self.work.as_fd().as_raw_fd(), c"work", 0o700) {
            Ok(()) => {
                let _ = sys::fs::unlinkat(self.work.as_fd().as_raw_fd(), c"work", libc::AT_REMOVEDIR);
                None
            }
            Err(Errno(libc::EEXIST)) => None,
            Err(errno) => Some(Error::from_errno("mkdirat", errno.0).on(self.work.subject()).with_hints(&HINTS)),
        }
    }

    /// Those of the two that an overlay has been in before, which may be mounted still. From Linux 6.6 on it marks an upper
    /// directory that is empty, too.
    pub(crate) fn used(&self, xattrs: OverlayXattrs) -> Result<Vec<&Dir>> {
        let mark = match xattrs {
            OverlayXattrs::Trusted => c"trusted.overlay.uuid",
            OverlayXattrs::User => c"user.overlay.uuid",
        };
        let is_marked = || self.dir.readable().is_some_and(|file| sys::overlay::has_xattr(file.as_fd(), mark));
        let (upper, work) = (!self.dir.names()?.is_empty() || is_marked(), !self.work.names()?.is_empty());
        // A work directory belongs to an upper one: where it was used, so was that.
        Ok([(&self.dir, upper || work), (&self.work, work)]
            .into_iter()
            .filter_map(|(dir, used)| used.then_some(dir))
            .collect())
    }
}

const TMPFS_MAGIC: i64 = 0x0102_1994;

/// No directory may be another, nor be inside another.
pub(crate) fn check_apart(lowers: &[Dir], upper: Option<&Upper>) -> Result<()> {
    let mut known: BTreeMap<Identity, &Dir> = BTreeMap::new();
    let all = || lowers.iter().chain(upper.into_iter().flat_map(|upper| [&upper.dir, &upper.work]));
    for dir in all() {
        if let Some(twice) = known.insert(dir.identity(), dir) {
            return Err(dir.refuse(format!("it is named twice, the first time as {}", twice.subject)));
        }
    }
    // Layers are often neighbours: what is above one was looked at for another.
    let mut clean: BTreeSet<Identity> = BTreeSet::new();
    for dir in all() {
        let (mut below, mut last) = (dir.fd.clone(), dir.identity());
        // PATH_MAX bytes hold no deeper path.
        for _ in 0..2048 {
            // Who may not look up from here leaves it to the kernel.
            let Ok(above) = sys::overlay::parent(below.as_fd()) else { break };
            let Ok(stat) = sys::statx(above.as_raw_fd()) else { break };
            let identity = (stat.device, stat.inode);
            if let Some(outer) = known.get(&identity).filter(|_| identity != last) {
                return Err(
                    dir.refuse(format!("it is inside {}, and no directory of an overlay may be", outer.subject))
                );
            }
            // The root is above itself.
            if identity == last || !clean.insert(identity) {
                break;
            }
            (below, last) = (SharedFd::from(above), identity);
        }
    }
    Ok(())
}

/// What any of the layers' mounts does not allow.
pub(crate) fn restrictions<'a>(dirs: impl IntoIterator<Item = &'a Dir>) -> Result<MountAttr> {
    dirs.into_iter().try_fold(MountAttr::empty(), |all, dir| Ok(all | dir.restrictions()?))
}

/// A work directory that is made where it is missing, and removed again unless the overlay comes to be.
#[derive(Debug)]
pub(crate) struct MadeGuard(Option<PathBuf>);

impl MadeGuard {
    pub(crate) fn ensure(work: &Place) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let Place::Path(path) = work else { return Ok(Self(None)) };
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => Ok(Self(Some(path.clone()))),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(Self(None)),
            // What is there is what counts; a file system that is read-only is told of later, and better.
            Err(_) if path.is_dir() => Ok(Self(None)),
            Err(error) => Err(io_error("mkdir", &error, path)),
        }
    }

    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for MadeGuard {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // The kernel's own empty directory may be in it.
            let _ = std::fs::remove_dir(path.join("work"));
            let _ = std::fs::remove_dir(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_twice_and_one_inside_another() {
        let temp = faultkit::TempDir::new();
        for name in ["a/b/c", "d"] {
            std::fs::create_dir_all(temp.join(name)).expect("mkdir");
        }
        let open = |name: &str| Place::Path(temp.join(name)).open().expect("open");
        check_apart(&[open("a"), open("d")], None).expect("apart");
        check_apart(&[open("a/b/c"), open("d")], None).expect("apart");
        let error = check_apart(&[open("d"), open("a"), open("d/.")], None).expect_err("twice");
        assert!(error.to_string().contains("twice"), "{error}");
        for order in [["a", "a/b/c"], ["a/b/c", "a"]] {
            let error = check_apart(&order.map(open), None).expect_err("inside");
            assert!(error.to_string().contains("inside") && error.to_string().contains("a/b/c"), "{error}");
        }
        let upper = Upper { dir: open("a"), work: open("a/b") };
        let error = check_apart(&[open("d")], Some(&upper)).expect_err("inside");
        assert!(error.to_string().contains("inside"), "{error}");
    }

    #[test]
    fn what_is_no_directory() {
        let temp = faultkit::TempDir::new();
        std::fs::write(temp.join("file"), "").expect("write");
        assert!(Place::Path(temp.join("file")).open().is_err());
        let file = std::fs::File::open(temp.join("file")).expect("open");
        let error = Place::Descriptor(OwnedFd::from(file).into()).open().expect_err("a file");
        assert!(error.to_string().contains("is a directory"), "{error}");
    }
}
