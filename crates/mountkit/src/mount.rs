//! A mount that can be seen.
#![forbid(unsafe_code)]

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cellkit_core::sys::{AT_FDCWD, OpenHow, open_in};
use cellkit_core::{Errno, Error, ErrorKind, ProcFd, ProcView, Result, Subject};

use crate::hint::HINTS;
use crate::{Attach, MountChange, RootFd, sys};

/// How a mount went away.
///
/// ```no_run
/// use mountkit::{Mount, RootFd, Unmounted};
///
/// let data = Mount::open(&RootFd::open("/srv")?, "data")?;
/// if data.unmount_or_detach()? == Unmounted::WhenUnused {
///     eprintln!("somebody is still in /srv/data: it stays until they are done");
/// }
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// See umount2(2): <https://man7.org/linux/man-pages/man2/umount2.2.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unmounted {
    /// It is gone.
    Now,
    /// Nobody finds it any more, and it goes when those have ended who use it.
    WhenUnused,
}

/// A mount that is attached somewhere, to be changed, moved and taken away.
///
/// [`DetachedMount::attach`](crate::DetachedMount::attach) answers one, and [`open`](Self::open) takes one that is there.
/// Dropping it leaves the mount where it is. While it is held, the mount is in use: umount(8) of it is EBUSY, and
/// [`unmount`](Self::unmount) is not.
///
/// ```no_run
/// use mountkit::{MountAttr, MountChange, RootFd, Tmpfs};
///
/// let scratch = Tmpfs::new().mount()?.attach(&RootFd::open("/srv")?, "scratch")?;
/// // … fill it, and then
/// scratch.change(&MountChange::new().set(MountAttr::RDONLY))?;
/// // … and in the end
/// scratch.unmount()?;
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// See mount_setattr(2): <https://man7.org/linux/man-pages/man2/mount_setattr.2.html>.
#[derive(Debug)]
pub struct Mount {
    fd: OwnedFd,
    /// Where it was attached, as errors name it.
    subject: Subject,
}

impl Mount {
    pub(crate) fn new(fd: OwnedFd, subject: Subject) -> Self {
        Self { fd, subject }
    }

    fn fail(&self, operation: &'static str, errno: Errno) -> Error {
        Error::from_errno(operation, errno.0).on(self.subject.clone()).with_hints(&HINTS)
    }

    /// `openat2(O_PATH)`: what is mounted on `path`, which is looked up inside `root` only.
    ///
    /// # Errors
    /// As [`RootFd::open_dir`]; Invalid: nothing is mounted there.
    pub fn open(root: &RootFd, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mount = Self { fd: root.place(path)?, subject: root.subject(path) };
        let stat = sys::statx(mount.fd.as_raw_fd()).map_err(|errno| mount.fail("statx", errno))?;
        if !stat.is_mount_root {
            return Err(Error::invalid("statx", "nothing is mounted there").on(mount.subject));
        }
        Ok(mount)
    }

    /// `mount_setattr`: changes attributes, access times and propagation, all or none.
    ///
    /// # Errors
    /// Permission (EPERM: no CAP_SYS_ADMIN, or an attribute that is locked), Busy (EBUSY: read-only while a file on it is
    /// open for writing), Limit (ENOSPC: no more peer groups).
    #[doc(alias = "mount_setattr")]
    pub fn change(&self, change: &MountChange) -> Result<()> {
        change.apply(&self.fd).map_err(|errno| self.fail("mount_setattr", errno).context(format!("change {change}")))
    }

    /// `move_mount`: takes it, and all that is mounted below it, to another place.
    ///
    /// # Errors
    /// As [`DetachedMount::attach_to`](crate::DetachedMount::attach_to); Invalid (EINVAL): what it is mounted on is shared,
    /// and the kernel moves nothing away from there, or the place is below the mount itself (ELOOP).
    #[doc(alias("move_mount", "MS_MOVE"))]
    pub fn move_to(&mut self, place: &Attach<'_>) -> Result<()> {
        self.subject = place.put(self.fd.as_fd())?;
        Ok(())
    }

    /// `umount2`: takes it away, if nobody uses it.
    ///
    /// Where it is by now is asked of the kernel, up to 128 times where somebody renames on the way. The call is made on a
    /// thread of its own, since it takes no descriptor, only a path or the thread's own directory; and as it would be in use by
    /// such a directory, the last name is the kernel's to look up once more. Whoever renames in the directory above at that
    /// very moment, from a mount namespace where nothing is mounted there, can have another mount that is there unmounted, if
    /// nobody uses it. Where somebody hostile can rename, [`detach`](Self::detach) it.
    ///
    /// # Errors
    /// Busy (EBUSY): a file on it is open, it is somebody's working directory, or something is mounted below or on top of
    /// it. The mount stays; [`open`](Self::open) takes it again. Gone: it has been unmounted already. Permission (EPERM;
    /// EINVAL: it is locked, as a mount of a more privileged mount namespace is). Limit (EAGAIN): somebody did not stop
    /// renaming.
    #[doc(alias = "umount2")]
    pub fn unmount(self) -> Result<()> {
        self.take_away(0)
    }

    /// `umount2(MNT_DETACH)`: nobody finds it any more, nor what is mounted below it; it goes away when nobody uses it.
    ///
    /// Of a directory it is the mount that this is a handle of, whatever is renamed meanwhile. Of a file see
    /// [`unmount`](Self::unmount).
    ///
    /// # Errors
    /// As [`unmount`](Self::unmount). Busy only when something is mounted on top of it.
    #[doc(alias("umount2", "MNT_DETACH"))]
    pub fn detach(self) -> Result<()> {
        self.take_away(libc::MNT_DETACH)
    }

    /// [`unmount`](Self::unmount), or where somebody uses it [`detach`](Self::detach): which of them it was.
    ///
    /// # Errors
    /// As [`detach`](Self::detach).
    #[doc(alias("umount2", "MNT_DETACH"))]
    pub fn unmount_or_detach(self) -> Result<Unmounted> {
        let Located { parent, name } = self.locate()?;
        let Self { fd, subject } = self;
        drop(fd);
        match unmount_at(&parent, &name, 0, &subject) {
            Ok(()) => Ok(Unmounted::Now),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                unmount_at(&parent, &name, libc::MNT_DETACH, &subject)?;
                Ok(Unmounted::WhenUnused)
            }
            Err(error) => Err(error),
        }
    }

    fn take_away(self, flags: i32) -> Result<()> {
        let Located { parent, name } = self.locate()?;
        let Self { fd, subject } = self;
        let is_dir = sys::statx(fd.as_raw_fd()).is_ok_and(|stat| stat.is(libc::S_IFDIR));
        if flags & libc::MNT_DETACH != 0 && is_dir {
            // From within it, as it may be in use: so it is this one, whatever is renamed meanwhile.
            return unmount_at(&fd, c".", flags, &subject);
        }
        // It would be in use by this very descriptor.
        drop(fd);
        unmount_at(&parent, &name, flags, &subject)
    }

    /// Finds where the mount is now, and that a lookup of the place ends at it and not at another mount. Somebody may rename
    /// on the way there between the kernel's answer and the lookup: then it is asked again.
    fn locate(&self) -> Result<Located> {
        let mut attempts = ATTEMPTS;
        loop {
            match self.locate_once() {
                Err(error) if attempts > 0 && is_elsewhere(&error) => attempts -= 1,
                // Only of a path on which somebody puts links.
                Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                    return Err(self.fail("umount2", Errno(libc::EAGAIN)));
                }
                answer => return answer,
            }
        }
    }

    fn locate_once(&self) -> Result<Located> {
        let gone = || Error::gone("umount2", None).on(self.subject.clone());
        let shown = ProcFd::open(ProcView::Processes)?.this_thread()?;
        let link = CString::new(format!("fd/{}", self.fd.as_raw_fd())).unwrap_or_default();
        let link =
            sys::fs::read_link(shown.as_fd().as_raw_fd(), &link).map_err(|errno| self.fail("readlinkat", errno))?;
        // Of a mount whose source was removed the kernel says so, behind the path.
        for path in [Some(&*link), link.strip_suffix(b" (deleted)")].into_iter().flatten() {
            let path = Path::new(OsStr::from_bytes(path));
            let (Some(dir), Some(name), true) = (path.parent(), path.file_name(), path.is_absolute()) else { continue };
            match self.located_at(dir, name) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {}
                answer => return answer,
            }
        }
        if link == b"/" && self.is_root_of_process()? {
            return Err(Error::invalid("umount2", "it is the root directory of this process").on(self.subject.clone()));
        }
        Err(gone())
    }

    fn located_at(&self, dir: &Path, name: &OsStr) -> Result<Located> {
        let shown = dir.join(name);
        let fail = |operation, errno: Errno| Error::from_errno(operation, errno.0).on(&*shown).with_hints(&HINTS);
        let open = |at: BorrowedFd<'_>, path: &OsStr, flags: i32| {
            let path = CString::new(path.as_bytes()).map_err(|_| fail("openat2", Errno(libc::ENOENT)))?;
            let flags = (flags | libc::O_PATH | libc::O_CLOEXEC) as u64;
            let how = OpenHow { flags, mode: 0, resolve: libc::RESOLVE_NO_SYMLINKS };
            open_in(at, &path, &how).map_err(|errno| fail("openat2", errno))
        };
        let parent = open(AT_FDCWD, dir.as_os_str(), libc::O_DIRECTORY)?;
        let found = open(parent.as_fd(), name, libc::O_NOFOLLOW)?;
        let mount = |fd: &OwnedFd| sys::statx(fd.as_raw_fd()).map_err(|errno| fail("statx", errno));
        let (found, own) = (mount(&found)?, mount(&self.fd)?);
        if found.mount_id != own.mount_id {
            return Err(fail("umount2", Errno(libc::EBUSY)).with_hint("something else is mounted on top of it"));
        }
        let name = CString::new(name.as_bytes()).map_err(|_| fail("umount2", Errno(libc::ENOENT)))?;
        Ok(Located { parent, name })
    }

    fn is_root_of_process(&self) -> Result<bool> {
        let root = sys::statx_path(c"/").map_err(|errno| Error::from_errno("statx", errno.0).on(PathBuf::from("/")))?;
        let own = sys::statx(self.fd.as_raw_fd()).map_err(|errno| self.fail("statx", errno))?;
        Ok(root.mount_id == own.mount_id)
    }
}

/// How often a mount is looked for.
const ATTEMPTS: u32 = 128;

/// The lookup has met a link, nothing, or another mount.
fn is_elsewhere(error: &Error) -> bool {
    error.kind() == ErrorKind::Gone || matches!(error.raw_os_error(), Some(libc::ELOOP | libc::EBUSY))
}

/// A place that a lookup of finds a mount at.
struct Located {
    parent: OwnedFd,
    name: CString,
}

fn unmount_at(parent: &OwnedFd, name: &CStr, flags: i32, subject: &Subject) -> Result<()> {
    sys::unmount::unmount_at(parent.as_fd(), name, flags).map_err(|(operation, errno)| {
        let error = Error::from_errno(operation, errno.0).on(subject.clone()).with_hints(&HINTS);
        if errno == Errno(libc::ENOENT) { error.or_gone() } else { error }
    })
}

impl AsFd for Mount {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Mount> for OwnedFd {
    fn from(mount: Mount) -> Self {
        mount.fd
    }
}
