//! A directory that was reached already, and what is done to one name in it.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cellkit_core::{Errno, Error, Result, Subject};

use crate::hint::HINTS;
use crate::metadata::{Metadata, Node, Times};
use crate::name::Name;
use crate::sys::{self, fs};

mod chmod;
mod entries;
mod open;
mod remove;
mod write;
mod xattr;

pub use entries::{DirEntry, Entries};
pub use open::OpenOptions;

/// How long the body of a symbolic link can be: PATH_MAX, whose NUL is not part of it.
const LONGEST_LINK: usize = 4096;

/// A directory that was reached already, for work on one name in it after the other.
///
/// Every method takes one name: no `/`, no `..`. And none follows it: where a symbolic link has the name, the link is what
/// is looked at, changed or removed, and what cannot be done to a link fails. So nothing that anybody puts into the
/// directory, before or meanwhile, leads a call anywhere else. Methods that neither make nor remove the name also take
/// `.`, the directory itself.
///
/// [`RootFd`](crate::RootFd) has the same methods for paths. Each resolves the path first, so many files in one directory
/// are done faster here.
///
/// * Calls: the `*at` system calls, relative to a descriptor (O_PATH). See
///   [open(2)](https://man7.org/linux/man-pages/man2/open.2.html), <https://man7.org/linux/man-pages/man2/open.2.html>,
///   "Rationale for openat() and other directory file descriptor APIs".
/// * Privileges: those of the file system's own permissions.
/// * Modes are permission bits, 0o7777 at most. What is made gets them less the caller's umask.
///
/// ```no_run
/// use mountkit::{Node, RootFd};
/// use std::io::Write;
///
/// let dev = RootFd::open("/run/c1/root")?.open_dir("dev")?;
/// dev.mkdir("pts", 0o755)?;
/// dev.symlink("pts/ptmx", "ptmx")?;
/// dev.mknod("initctl", Node::Fifo, 0o600)?;
/// dev.create("motd", 0o644)?.write_all(b"hello\n").map_err(|e| mountkit::Error::from_io("write", &e))?;
/// dev.chown("motd", 1000, None)?;
/// # Ok::<(), mountkit::Error>(())
/// ```
#[derive(Debug)]
pub struct DirFd {
    fd: OwnedFd,
    /// Where it was reached, inside the root: for errors.
    path: PathBuf,
    /// How the user knows the root.
    root: Arc<Path>,
}

/// What becomes of a file that has the new name already, for [`DirFd::rename`]. See
/// [renameat2(2)](https://man7.org/linux/man-pages/man2/renameat2.2.html),
/// <https://man7.org/linux/man-pages/man2/renameat2.2.html>.
///
/// ```no_run
/// use mountkit::{Rename, RootFd};
///
/// let dir = RootFd::open("/run/c1/root")?.open_dir("etc")?;
/// dir.rename("passwd.new", &dir, "passwd", Rename::Replace)?;
/// # Ok::<(), mountkit::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rename {
    /// It is replaced, at no instant missing.
    Replace,
    /// It stays, and the call fails: AlreadyExists.
    #[doc(alias = "RENAME_NOREPLACE")]
    Keep,
    /// It gets the old name, in one step. It must exist.
    #[doc(alias = "RENAME_EXCHANGE")]
    Exchange,
}

impl DirFd {
    pub(crate) fn new(fd: OwnedFd, path: PathBuf, root: Arc<Path>) -> Self {
        Self { fd, path, root }
    }

    fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn subject(&self, name: &Name) -> Subject {
        let name = name.as_os_str();
        let path = if name == "." { self.path.clone() } else { self.path.join(name) };
        let path = if path.as_os_str().is_empty() { PathBuf::from(".") } else { path };
        Subject::PathUnder { path, dir: self.root.to_path_buf() }
    }

    fn fail(&self, operation: &'static str, errno: Errno, name: &Name) -> Error {
        Error::from_errno(operation, errno.0).on(self.subject(name)).with_hints(&HINTS)
    }

    fn refuse(&self, operation: &'static str, why: impl Into<std::borrow::Cow<'static, str>>, name: &Name) -> Error {
        Error::invalid(operation, why).on(self.subject(name))
    }

    fn permissions(&self, operation: &'static str, mode: u32, name: &Name) -> Result<u32> {
        if mode > 0o7777 {
            return Err(self.refuse(operation, format!("mode {mode:#o} has bits beyond 0o7777"), name));
        }
        Ok(mode)
    }

    /// `mkdirat`: a new directory. [`chmod`](Self::chmod) it where the umask must not count.
    ///
    /// # Errors
    /// Invalid for what is no name or no mode; AlreadyExists (EEXIST), also for a link that leads nowhere; Permission
    /// (EACCES, EROFS); Limit (ENOSPC, EDQUOT).
    #[doc(alias = "mkdirat")]
    pub fn mkdir(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<()> {
        let name = Name::new("mkdirat", name.as_ref())?;
        let mode = self.permissions("mkdirat", mode, &name)?;
        sys::mkdirat(self.raw(), name.as_c_str(), mode).map_err(|errno| self.fail("mkdirat", errno, &name))
    }

    /// `openat(O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW)`: a new regular file, open for reading and writing. Other ways to open
    /// are in [`open_with`](Self::open_with).
    ///
    /// # Errors
    /// As [`mkdir`](Self::mkdir).
    #[doc(alias = "O_EXCL")]
    pub fn create(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<File> {
        self.open_with(name, OpenOptions::new().read().write().create_new(mode))
    }

    /// `openat(O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)`: a regular file for reading, as
    /// [`open_with`](Self::open_with) opens it.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub fn open_file(&self, name: impl AsRef<OsStr>) -> Result<File> {
        self.open_with(name, OpenOptions::new().read())
    }

    /// `openat(O_PATH | O_DIRECTORY | O_NOFOLLOW)`: a directory in it, or itself (`.`).
    ///
    /// # Errors
    /// NotFound (ENOENT), Invalid (ENOTDIR, also for a link to a directory), Permission (EACCES).
    #[doc(alias = "O_DIRECTORY")]
    pub fn open_dir(&self, name: impl AsRef<OsStr>) -> Result<DirFd> {
        let name = Name::or_the_dir("openat", name.as_ref())?;
        let fd = fs::open_name(self.raw(), name.as_c_str(), libc::O_PATH | libc::O_DIRECTORY, 0)
            .map_err(|errno| self.fail("openat", errno, &name))?;
        let path = match name.as_os_str() {
            itself if itself == "." => self.path.clone(),
            below => self.path.join(below),
        };
        Ok(Self { fd, path, root: Arc::clone(&self.root) })
    }

    /// `symlinkat`: a new symbolic link `name` with the body `target`, which may be anything but empty and is not looked up.
    ///
    /// # Errors
    /// As [`mkdir`](Self::mkdir); Invalid for an empty `target`, a NUL byte in it, or more than 4095 bytes.
    #[doc(alias = "symlinkat")]
    pub fn symlink(&self, target: impl AsRef<Path>, name: impl AsRef<OsStr>) -> Result<()> {
        let name = Name::new("symlinkat", name.as_ref())?;
        let body = target.as_ref().as_os_str().as_bytes();
        let why = match body {
            b"" => Some("the target of a link cannot be empty"),
            _ if body.len() >= LONGEST_LINK => Some("the target of the link is longer than 4095 bytes"),
            _ => None,
        };
        let body = match (why, std::ffi::CString::new(body)) {
            (None, Ok(body)) => body,
            (Some(why), _) => return Err(self.refuse("symlinkat", why, &name)),
            (None, Err(_)) => {
                return Err(self.refuse("symlinkat", "the target of the link has a NUL byte in it", &name));
            }
        };
        sys::symlinkat(&body, self.raw(), name.as_c_str()).map_err(|errno| self.fail("symlinkat", errno, &name))
    }

    /// `linkat`: `name` becomes one more name of what has `other_name` in `other`. Of a symbolic link it is the link itself
    /// that gets the name.
    ///
    /// # Errors
    /// As [`mkdir`](Self::mkdir); NotFound (ENOENT); Permission (EPERM) for a directory, and for somebody else's file where
    /// fs.protected_hardlinks is set; Invalid (EXDEV) for a file of another mount; EMLINK.
    #[doc(alias = "linkat")]
    pub fn link(&self, other: &DirFd, other_name: impl AsRef<OsStr>, name: impl AsRef<OsStr>) -> Result<()> {
        let old = Name::new("linkat", other_name.as_ref())?;
        let name = Name::new("linkat", name.as_ref())?;
        fs::linkat(other.raw(), old.as_c_str(), self.raw(), name.as_c_str())
            .map_err(|errno| self.fail("linkat", errno, &name))
    }

    /// `mknodat`: a FIFO, a socket or a device node.
    ///
    /// # Errors
    /// As [`mkdir`](Self::mkdir); Invalid for a device number that the kernel has no room for; Permission (EPERM) for a
    /// device without CAP_MKNOD in the first user namespace.
    #[doc(alias = "mknodat")]
    pub fn mknod(&self, name: impl AsRef<OsStr>, node: Node, mode: u32) -> Result<()> {
        let name = Name::new("mknodat", name.as_ref())?;
        let mode = self.permissions("mknodat", mode, &name)?;
        let Some((kind, device)) = node.parts() else {
            return Err(self.refuse(
                "mknodat",
                "a major number is less than 4096 and a minor one less than 2^20",
                &name,
            ));
        };
        sys::mknodat(self.raw(), name.as_c_str(), kind | mode, device)
            .map_err(|errno| self.fail("mknodat", errno, &name))
    }

    /// `unlinkat`: removes a name of anything but a directory.
    ///
    /// # Errors
    /// NotFound (ENOENT); Invalid (EISDIR); Busy (EBUSY) where something is mounted; Permission (EACCES, EPERM, EROFS).
    #[doc(alias = "unlinkat")]
    pub fn unlink(&self, name: impl AsRef<OsStr>) -> Result<()> {
        let name = Name::new("unlinkat", name.as_ref())?;
        fs::unlinkat(self.raw(), name.as_c_str(), 0).map_err(|errno| self.fail("unlinkat", errno, &name))
    }

    /// `unlinkat(AT_REMOVEDIR)`: removes an empty directory.
    ///
    /// # Errors
    /// NotFound (ENOENT); Invalid (ENOTDIR), also for a link to a directory; Busy (ENOTEMPTY; EBUSY where something is
    /// mounted); Permission (EACCES, EPERM, EROFS).
    #[doc(alias = "AT_REMOVEDIR")]
    pub fn rmdir(&self, name: impl AsRef<OsStr>) -> Result<()> {
        let name = Name::new("unlinkat", name.as_ref())?;
        fs::unlinkat(self.raw(), name.as_c_str(), libc::AT_REMOVEDIR)
            .map_err(|errno| self.fail("unlinkat", errno, &name))
    }

    /// `renameat2`: moves what has `name` to `to_name` in `to`. A symbolic link is moved itself.
    ///
    /// # Errors
    /// NotFound (ENOENT); AlreadyExists (EEXIST) with [`Rename::Keep`]; Invalid (EXDEV) for another mount, and (EINVAL) for
    /// a directory into itself; Busy (ENOTEMPTY, EBUSY); Permission (EACCES, EPERM, EROFS).
    #[doc(alias = "renameat2")]
    pub fn rename(
        &self,
        name: impl AsRef<OsStr>,
        to: &DirFd,
        to_name: impl AsRef<OsStr>,
        existing: Rename,
    ) -> Result<()> {
        let name = Name::new("renameat2", name.as_ref())?;
        let new = Name::new("renameat2", to_name.as_ref())?;
        let flags = match existing {
            Rename::Replace => 0,
            Rename::Keep => libc::RENAME_NOREPLACE,
            Rename::Exchange => libc::RENAME_EXCHANGE,
        };
        fs::renameat2(self.raw(), name.as_c_str(), to.raw(), new.as_c_str(), flags)
            .map_err(|errno| self.fail("renameat2", errno, &name))
    }

    /// `fchownat(AT_SYMLINK_NOFOLLOW)`: gives it, or the directory itself (`.`), to somebody. `None` leaves an id as it is.
    ///
    /// The kernel takes the set-user-id and set-group-id bits of a file away then, and its capabilities: set those after.
    ///
    /// # Errors
    /// NotFound (ENOENT); Permission (EPERM, EROFS); Invalid for the id 2^32-1, and (EINVAL) for one that the user namespace
    /// or the mount does not map.
    #[doc(alias = "fchownat")]
    #[doc(alias = "lchown")]
    pub fn chown(
        &self,
        name: impl AsRef<OsStr>,
        uid: impl Into<Option<u32>>,
        gid: impl Into<Option<u32>>,
    ) -> Result<()> {
        let name = Name::or_the_dir("fchownat", name.as_ref())?;
        let (uid, gid) = (uid.into(), gid.into());
        if [uid, gid].contains(&Some(u32::MAX)) {
            return Err(self.refuse("fchownat", "4294967295 is no id: say None to leave one as it is", &name));
        }
        let unchanged = u32::MAX;
        sys::fchownat(self.raw(), name.as_c_str(), uid.unwrap_or(unchanged), gid.unwrap_or(unchanged))
            .map_err(|errno| self.fail("fchownat", errno, &name))
    }

    /// `utimensat(AT_SYMLINK_NOFOLLOW)`: sets when it, or the directory itself (`.`), was read and changed last.
    ///
    /// # Errors
    /// NotFound (ENOENT); Permission (EACCES, EPERM, EROFS).
    #[doc(alias = "utimensat")]
    pub fn set_times(&self, name: impl AsRef<OsStr>, times: Times) -> Result<()> {
        let name = Name::or_the_dir("utimensat", name.as_ref())?;
        fs::utimensat(self.raw(), name.as_c_str(), times.parts()).map_err(|errno| self.fail("utimensat", errno, &name))
    }

    /// `statx(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT)`: what it, or the directory itself (`.`), is.
    ///
    /// # Errors
    /// NotFound (ENOENT); Permission (EACCES).
    #[doc(alias = "statx")]
    #[doc(alias = "lstat")]
    pub fn stat(&self, name: impl AsRef<OsStr>) -> Result<Metadata> {
        let name = Name::or_the_dir("statx", name.as_ref())?;
        let stat = sys::statx_at(self.raw(), name.as_c_str()).map_err(|errno| self.fail("statx", errno, &name))?;
        Metadata::new(stat).map_err(|error| error.on(self.subject(&name)))
    }

    /// `readlinkat`: the body of a symbolic link.
    ///
    /// # Errors
    /// NotFound (ENOENT); Invalid (EINVAL) for what is no link.
    #[doc(alias = "readlinkat")]
    pub fn read_link(&self, name: impl AsRef<OsStr>) -> Result<PathBuf> {
        let name = Name::new("readlinkat", name.as_ref())?;
        let body = fs::read_link(self.raw(), name.as_c_str()).map_err(|errno| self.fail("readlinkat", errno, &name))?;
        Ok(OsString::from_vec(body).into())
    }

    /// What has the name, looked at without opening it: an O_PATH descriptor that refers to a link itself.
    fn place(&self, operation: &'static str, name: &Name) -> Result<(OwnedFd, Metadata)> {
        let fd = fs::open_name(self.raw(), name.as_c_str(), libc::O_PATH, 0)
            .map_err(|errno| self.fail(operation, errno, name))?;
        let stat = sys::statx(fd.as_raw_fd()).map_err(|errno| self.fail("statx", errno, name))?;
        Ok((fd, Metadata::new(stat).map_err(|error| error.on(self.subject(name)))?))
    }
}

impl AsFd for DirFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for DirFd {
    /// Takes any directory descriptor. Errors show it as `fd N`; a descriptor of something else makes every call fail with
    /// ENOTDIR.
    fn from(fd: OwnedFd) -> Self {
        let root = PathBuf::from(format!("fd {}", fd.as_raw_fd())).into();
        Self { fd, path: PathBuf::new(), root }
    }
}

impl From<DirFd> for OwnedFd {
    fn from(dir: DirFd) -> Self {
        dir.fd
    }
}

#[cfg(test)]
mod tests;
