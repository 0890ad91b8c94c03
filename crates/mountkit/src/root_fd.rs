//! A directory that somebody else's paths are resolved in.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use cellkit_core::{Errno, Error, Result, Subject};

use crate::hint::HINTS;
use crate::in_root::InRootPath;
use crate::rootfs::open_dir;
use crate::sys::{self, Links};

/// A directory that stands for a root: paths are resolved below it, and never outside, whatever its content is.
///
/// A leading `/` and every symbolic link mean this root; `..` in a link ends at it; magic links (/proc/PID/fd/N) are
/// refused. What is made is made below a descriptor of an already resolved directory, one name at a time. So a root file
/// system that somebody else filled, and even one that somebody changes meanwhile, cannot lead the caller astray.
///
/// * Calls: [openat2(2)](https://man7.org/linux/man-pages/man2/openat2.2.html) with RESOLVE_IN_ROOT and
///   RESOLVE_NO_MAGICLINKS (Linux 5.6; no fallback), made again up to 128 times when the kernel gives up because of a
///   concurrent rename (EAGAIN); mkdirat(2), mknodat(2).
/// * Privileges: those of the file system's own permissions.
///
/// ```
/// use mountkit::RootFd;
///
/// let root = RootFd::open("/")?;
/// let passwd = root.read("etc/passwd", 1 << 20)?;
/// assert!(passwd.starts_with(b"root:"));
/// # Ok::<(), mountkit::Error>(())
/// ```
#[derive(Debug)]
#[doc(alias = "RESOLVE_IN_ROOT")]
#[doc(alias = "openat2")]
pub struct RootFd {
    fd: OwnedFd,
    shown: PathBuf,
}

impl RootFd {
    /// `open(dir, O_PATH | O_DIRECTORY)`: takes `dir` as a root. The path to `dir` itself is the caller's own, and its
    /// links are followed.
    ///
    /// # Errors
    /// NotFound (ENOENT), Invalid (ENOTDIR, an empty path, a NUL byte), Permission (EACCES).
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        Ok(Self { fd: open_dir(dir)?.into(), shown: dir.to_owned() })
    }

    fn parse(path: &Path) -> Result<InRootPath> {
        InRootPath::new("openat2", path)
    }

    fn fail(&self, operation: &'static str, errno: Errno, path: &InRootPath) -> Error {
        Error::from_errno(operation, errno.0).on(self.subject(path)).with_hints(&HINTS)
    }

    fn subject(&self, path: &InRootPath) -> Subject {
        Subject::PathUnder { path: path.shown(), dir: self.shown.clone() }
    }

    fn open_at(&self, path: &InRootPath, flags: i32) -> Result<OwnedFd> {
        sys::owned(sys::open_in_root(self.fd.as_raw_fd(), path.full(), flags, Links::Inside))
            .map_err(|errno| self.fail("openat2", errno, path))
    }

    fn stat(&self, fd: &OwnedFd, path: &InRootPath) -> Result<sys::Stat> {
        sys::statx(fd.as_raw_fd()).map_err(|errno| self.fail("statx", errno, path))
    }

    /// Whatever `path` is, as a place to mount on.
    pub(crate) fn place(&self, path: &Path) -> Result<OwnedFd> {
        self.open_at(&Self::parse(path)?, libc::O_PATH)
    }

    /// `openat2(O_PATH | O_DIRECTORY)`: a directory below the root, as a place.
    ///
    /// # Errors
    /// NotFound (ENOENT), Invalid (ENOTDIR; ELOOP for a magic link; `..` in `path`), Permission (EACCES), Limit (EAGAIN
    /// that did not end).
    #[doc(alias = "openat2")]
    pub fn open_dir(&self, path: impl AsRef<Path>) -> Result<OwnedFd> {
        self.open_at(&Self::parse(path.as_ref())?, libc::O_PATH | libc::O_DIRECTORY)
    }

    /// `openat2(O_RDONLY | O_NONBLOCK | O_NOCTTY)`: a regular file below the root, for reading.
    ///
    /// What it is, is looked at before it is opened and again after, so that a device is not opened (which may act) and a
    /// FIFO is not waited for. The file may be large: see [`read`](Self::read).
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir), and Invalid for what is not a regular file.
    #[doc(alias = "openat2")]
    pub fn open_file(&self, path: impl AsRef<Path>) -> Result<File> {
        let path = Self::parse(path.as_ref())?;
        let place = self.open_at(&path, libc::O_PATH)?;
        let expected = self.regular(&place, &path)?;
        let file = self.open_at(&path, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY)?;
        let found = self.regular(&file, &path)?;
        if (found.device, found.inode) != (expected.device, expected.inode) {
            return Err(self.fail("openat2", Errno(libc::EAGAIN), &path));
        }
        Ok(File::from(file))
    }

    fn regular(&self, fd: &OwnedFd, path: &InRootPath) -> Result<sys::Stat> {
        let stat = self.stat(fd, path)?;
        if stat.is(libc::S_IFREG) {
            return Ok(stat);
        }
        Err(Error::invalid("openat2", "it is not a regular file").on(self.subject(path)))
    }

    /// The whole content of a regular file below the root, of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`open_file`](Self::open_file), Invalid for a longer file, and what read(2) answers.
    pub fn read(&self, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>> {
        let path = path.as_ref();
        let file = self.open_file(path)?;
        let subject = self.subject(&Self::parse(path)?);
        let mut content = Vec::new();
        file.take(limit.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(|error| Error::from_io("read", &error).on(subject.clone()))?;
        if content.len() as u64 > limit {
            return Err(Error::invalid("read", format!("it is longer than {limit} bytes")).on(subject));
        }
        Ok(content)
    }

    /// `mkdir -p`: the directory `path`, made with `mode` (permission bits, less the umask) where a part of it is missing.
    ///
    /// Links on the way are followed inside the root. One that leads to nothing is an error: nothing is made through it.
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir), and what mkdirat(2) answers: Permission (EACCES, EROFS), Limit (ENOSPC).
    #[doc(alias = "mkdirat")]
    pub fn mkdir_all(&self, path: impl AsRef<Path>, mode: u32) -> Result<OwnedFd> {
        let path = Self::parse(path.as_ref())?;
        let mode = permissions(mode, &path)?;
        sys::owned(sys::ensure_dir(self.fd.as_raw_fd(), &path, mode, Links::Inside))
            .map_err(|errno| self.fail("mkdirat", errno, &path))
    }

    /// The file `path` as a place (O_PATH), made empty with `mode` where it is missing, and directories on the way (0755)
    /// too. What exists is left as it is, whatever it is.
    ///
    /// # Errors
    /// As [`mkdir_all`](Self::mkdir_all); Invalid (EISDIR) for the root itself.
    #[doc(alias = "mknodat")]
    pub fn create_file(&self, path: impl AsRef<Path>, mode: u32) -> Result<OwnedFd> {
        let path = Self::parse(path.as_ref())?;
        let mode = permissions(mode, &path)?;
        if path.is_root() {
            return Err(self.fail("mknodat", Errno(libc::EISDIR), &path));
        }
        sys::owned(sys::ensure_file(self.fd.as_raw_fd(), &path, mode))
            .map_err(|errno| self.fail("mknodat", errno, &path))
    }
}

fn permissions(mode: u32, path: &InRootPath) -> Result<u32> {
    if mode > 0o7777 {
        let why = format!("mode {mode:#o} has bits beyond 0o7777");
        return Err(Error::invalid("mkdirat", why).on(path.shown()));
    }
    Ok(mode)
}

impl AsFd for RootFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for RootFd {
    /// Takes any directory descriptor as a root. Errors show it as `fd N`; a descriptor of something else makes every
    /// call fail with ENOTDIR.
    fn from(fd: OwnedFd) -> Self {
        let shown = PathBuf::from(format!("fd {}", fd.as_raw_fd()));
        Self { fd, shown }
    }
}

impl From<RootFd> for OwnedFd {
    fn from(root: RootFd) -> Self {
        root.fd
    }
}

#[cfg(test)]
mod tests;
