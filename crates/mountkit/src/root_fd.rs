//! A directory that somebody else's paths are resolved in.
#![forbid(unsafe_code)]

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cellkit_core::{Errno, Error, Result, Subject};

use crate::dir_fd::{DirFd, OpenOptions};
use crate::hint::HINTS;
use crate::host_path::open_dir;
use crate::in_root::InRootPath;
use crate::metadata::Metadata;
use crate::sys::resolve::Resolver;
use crate::sys::{self, Links, Root};

mod at;
mod split;

/// A directory that stands for a root: paths are resolved below it, and never outside, whatever its content is.
///
/// The idea in ten lines:
///
/// 1. `root.join(path)` is the bug behind most container escapes: a link in `path` leads out, now or a moment later.
/// 2. A `RootFd` holds the root as a descriptor, and every path is the kernel's to resolve below it: [`open_dir`],
///    [`open_file`], [`place`] answer a descriptor, which stays what it is whatever is renamed afterwards.
/// 3. A leading `/`, every symbolic link, absolute or not, and `..` mean this root: `..` at the root is the root.
/// 4. Magic links (/proc/PID/fd/N, /proc/PID/root), which lead anywhere, are refused: ELOOP.
/// 5. What makes, removes or changes takes the directory that the path leads to, and then does it to the one last name,
///    which is not followed: [`mkdir`], [`write`], [`symlink`], [`chown`], [`remove_all`], … are a [`DirFd`]'s.
/// 6. So what they make must have a name: a path that ends in `..`, `.` or is `/` is refused.
/// 7. What only looks or changes takes such a path too, and one that ends in `/`: it is the directory that it leads to.
/// 8. Much work in one directory: [`open_dir`] once, then the [`DirFd`]. One name: [`parent`].
/// 9. Opening means regular files only, unless said otherwise: a FIFO does not wait, and a device does not act.
/// 10. A mount is attached to a descriptor too, never to a path: [`mount_target`], or `DetachedMount::attach`.
///
/// [`open_dir`]: Self::open_dir
/// [`open_file`]: Self::open_file
/// [`place`]: Self::place
/// [`mkdir`]: Self::mkdir
/// [`symlink`]: Self::symlink
/// [`chown`]: Self::chown
/// [`write`]: Self::write
/// [`remove_all`]: Self::remove_all
/// [`parent`]: Self::parent
/// [`mount_target`]: Self::mount_target
///
/// # Calls, kernels, privileges
/// * Calls: [openat2(2)](https://man7.org/linux/man-pages/man2/openat2.2.html)
///   (<https://man7.org/linux/man-pages/man2/openat2.2.html>) with RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS (Linux 5.6),
///   made again up to 128 times when the kernel gives up because of a concurrent rename (EAGAIN).
/// * Where openat2 is missing (ENOSYS), a seccomp filter answers EPERM in its place, or the kernel gave up 128 times, paths
///   are resolved in user space, with the same answers and the same safety: see [`Resolver`] and
///   [`resolver`](Self::resolver).
/// * Privileges: those of the file system's own permissions.
///
/// # Example
/// ```
/// use mountkit::RootFd;
///
/// let root = RootFd::open("/")?;
/// let passwd = root.read("etc/passwd", 1 << 20)?;
/// assert!(passwd.starts_with(b"root:"));
/// // `..` ends at the root, as in a chroot.
/// assert_eq!(root.read("../../etc/passwd", 1 << 20)?, passwd);
/// # Ok::<(), mountkit::Error>(())
/// ```
#[derive(Debug)]
#[doc(alias = "RESOLVE_IN_ROOT")]
#[doc(alias = "RESOLVE_NO_MAGICLINKS")]
#[doc(alias = "openat2")]
pub struct RootFd {
    fd: OwnedFd,
    shown: Arc<Path>,
    /// `Kernel`: if it can.
    resolver: Resolver,
}

/// What a mount is to be put on, for [`RootFd::mount_target`]. See
/// [move_mount(2)](https://man7.org/linux/man-pages/man2/move_mount.2.html),
/// <https://man7.org/linux/man-pages/man2/move_mount.2.html>.
///
/// ```no_run
/// use mountkit::{MountTarget, RootFd};
///
/// let root = RootFd::open("/run/c1/root")?;
/// let proc = root.mount_target("proc", MountTarget::RealDirectory)?;
/// # let _ = proc;
/// # Ok::<(), mountkit::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MountTarget {
    /// A directory, for a mount of a directory.
    Directory,
    /// A directory that is reached without any symbolic link: for what everybody looks for by its name, as `/proc`, `/sys` and
    /// `/dev`. Were it put where a link leads, the link could lead elsewhere the next time.
    RealDirectory,
    /// Anything but a directory, for a mount of anything but a directory.
    File,
}

impl RootFd {
    /// `open(dir, O_PATH | O_DIRECTORY)`: takes `dir` as a root. The path to `dir` itself is the caller's own, and its
    /// links are followed.
    ///
    /// # Errors
    /// NotFound (ENOENT), Invalid (ENOTDIR, an empty path, a NUL byte), Permission (EACCES).
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        Ok(Self { fd: open_dir(dir)?.into(), shown: dir.into(), resolver: Resolver::Kernel })
    }

    /// The same root, whose paths are resolved in user space from now on also where the kernel could: to test what a kernel or
    /// a filter without openat2 will get.
    #[must_use]
    pub fn resolved_in_user_space(mut self) -> Self {
        self.resolver = Resolver::UserSpace;
        self
    }

    /// Who resolves the paths: the kernel, where there is an openat2 for the calling thread. It is asked each time, as a
    /// seccomp filter may have come since.
    #[must_use]
    pub fn resolver(&self) -> Resolver {
        match self.resolver {
            Resolver::Kernel if sys::has_openat2(self.fd.as_raw_fd()) => Resolver::Kernel,
            _ => Resolver::UserSpace,
        }
    }

    fn root(&self) -> Root {
        Root { fd: self.fd.as_raw_fd(), resolver: self.resolver }
    }

    /// `path` below it, as errors show it.
    pub(crate) fn subject(&self, path: &Path) -> Subject {
        let bytes = path.as_os_str().as_bytes();
        let path = match bytes.get(..sys::LONGEST_PATH) {
            // Longer than the kernel takes: the beginning says enough.
            Some(_) => OsStr::from_bytes(bytes.get(..64).unwrap_or_default()).into(),
            None => path.to_owned(),
        };
        Subject::PathUnder { path, dir: self.shown.to_path_buf() }
    }

    fn fail(&self, operation: &'static str, errno: Errno, path: &Path) -> Error {
        Error::from_errno(operation, errno.0).on(self.subject(path)).with_hints(&HINTS)
    }

    fn refuse(&self, operation: &'static str, why: impl Into<std::borrow::Cow<'static, str>>, path: &Path) -> Error {
        Error::invalid(operation, why).on(self.subject(path))
    }

    /// `path` as the kernel takes it.
    fn c_path(&self, operation: &'static str, path: &Path) -> Result<CString> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.is_empty() {
            return Err(self.refuse(operation, "the path is empty", path));
        }
        if bytes.len() >= sys::LONGEST_PATH {
            let why = format!("the path has {} bytes, of which the kernel takes 4095", bytes.len());
            return Err(self.refuse(operation, why, path));
        }
        CString::new(bytes).map_err(|_| self.refuse(operation, "the path has a NUL byte in it", path))
    }

    fn resolve(&self, path: &Path, flags: i32, links: Links) -> Result<OwnedFd> {
        let c_path = self.c_path("openat2", path)?;
        sys::owned(sys::open_in_root(self.root(), &c_path, flags, links))
            .map_err(|errno| self.fail("openat2", errno, path))
    }

    fn dir_fd(&self, fd: OwnedFd, path: PathBuf) -> DirFd {
        DirFd::new(fd, path, Arc::clone(&self.shown))
    }

    /// `openat2(O_PATH | O_DIRECTORY)`: the directory that `path` leads to; `/` is the root itself.
    ///
    /// # Errors
    /// NotFound (ENOENT), Invalid (ENOTDIR; ELOOP for a magic link or more than 40 links; an empty path, a NUL byte, more
    /// than 4095 bytes), Permission (EACCES), Limit (EMFILE; EAGAIN that did not end).
    #[doc(alias = "openat2")]
    pub fn open_dir(&self, path: impl AsRef<Path>) -> Result<DirFd> {
        let path = path.as_ref();
        let fd = self.resolve(path, libc::O_PATH | libc::O_DIRECTORY, Links::Inside)?;
        Ok(self.dir_fd(fd, path.to_owned()))
    }

    /// `openat2(O_PATH | O_DIRECTORY)`, of all but the last name: the directory that `path` is to be made in, and the name
    /// there. Slashes at the end do not count.
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir); Invalid for a path without a last name: `/`, or one that ends in `.` or `..`.
    pub fn parent(&self, path: impl AsRef<Path>) -> Result<(DirFd, OsString)> {
        let path = path.as_ref();
        let (dir, name) = self.parent_of("openat2", path, at::Slash::Dropped)?;
        Ok((dir, name.to_owned()))
    }

    /// `openat2(O_PATH)`: whatever `path` leads to, as a place: it can be looked at ([`Metadata::of`]) and mounted on, and
    /// stays the same file whatever is renamed. Links are followed, the last one too.
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir).
    #[doc(alias = "O_PATH")]
    pub fn place(&self, path: impl AsRef<Path>) -> Result<OwnedFd> {
        self.resolve(path.as_ref(), libc::O_PATH, Links::Inside)
    }

    /// `openat2(O_PATH)`: where `path` leads, as a place that a mount can be attached to: move_mount(2) with
    /// MOVE_MOUNT_T_EMPTY_PATH. It must exist: [`mkdir_all`](Self::mkdir_all) and [`ensure_file`](Self::ensure_file) make it.
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir); Invalid (EISDIR) for a directory where there is to be something else, (ELOOP) for a
    /// link on the way to a [`MountTarget::RealDirectory`].
    #[doc(alias = "move_mount")]
    pub fn mount_target(&self, path: impl AsRef<Path>, target: MountTarget) -> Result<OwnedFd> {
        let path = path.as_ref();
        let directory = libc::O_PATH | libc::O_DIRECTORY;
        match target {
            MountTarget::Directory => self.resolve(path, directory, Links::Inside),
            MountTarget::RealDirectory => self.resolve(path, directory, Links::Refused),
            MountTarget::File => {
                let place = self.resolve(path, libc::O_PATH, Links::Inside)?;
                let stat = sys::statx(place.as_raw_fd()).map_err(|errno| self.fail("statx", errno, path))?;
                match stat.is(libc::S_IFDIR) {
                    true => Err(self.fail("openat2", Errno(libc::EISDIR), path)),
                    false => Ok(place),
                }
            }
        }
    }

    /// `openat2(O_RDONLY | O_NONBLOCK | O_NOCTTY)`: the regular file that `path` leads to, for reading, as
    /// [`open_with`](Self::open_with) opens it. It may be large: see [`read`](Self::read).
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    #[doc(alias = "openat2")]
    pub fn open_file(&self, path: impl AsRef<Path>) -> Result<File> {
        self.open_with(path, OpenOptions::new().read())
    }

    /// `openat2(O_NONBLOCK | O_NOCTTY)`: the regular file that `path` leads to, or what [`OpenOptions::expect`] names. Links
    /// are followed, the last one too, but not by options that may make the file: then the last name is not followed.
    ///
    /// What it is, is looked at before it is opened and again after: see [`DirFd::open_with`].
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir) and [`DirFd::open_with`].
    #[doc(alias = "openat2")]
    pub fn open_with(&self, path: impl AsRef<Path>, options: OpenOptions) -> Result<File> {
        let path = path.as_ref();
        if options.makes() {
            let (dir, name) = self.parent_of("openat", path, at::Slash::Refused)?;
            return dir.open_with(name, options);
        }
        let flags = options.flags().map_err(|why| self.refuse("openat2", why, path))?;
        let c_path = self.c_path("openat2", path)?;
        let look = || {
            let place = self.resolve(path, libc::O_PATH, Links::Inside)?;
            let stat = sys::statx(place.as_raw_fd()).map_err(|errno| self.fail("statx", errno, path))?;
            Metadata::new(stat).map_err(|error| error.on(self.subject(path)))
        };
        let open = |flags| sys::owned(sys::open_in_root(self.root(), &c_path, flags, Links::Inside));
        options.open_checked(
            flags,
            look,
            open,
            |operation, errno| self.fail(if operation == "openat" { "openat2" } else { operation }, errno, path),
            |why| self.refuse("openat2", why, path),
        )
    }

    /// The whole content of a regular file below the root, of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`open_file`](Self::open_file), Invalid for a longer file, and what read(2) answers.
    pub fn read(&self, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>> {
        let path = path.as_ref();
        let file = self.open_file(path)?;
        let mut content = Vec::new();
        file.take(limit.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(|error| Error::from_io("read", &error).on(self.subject(path)))?;
        if content.len() as u64 > limit {
            return Err(self.refuse("read", format!("it is longer than {limit} bytes"), path));
        }
        Ok(content)
    }

    /// `mkdir -p`: the directory `path`, made with `mode` (permission bits, less the umask) where a part of it is missing.
    ///
    /// Links on the way are followed inside the root. One that leads to nothing is an error: nothing is made through it.
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir); Invalid for `..` in it, which has no meaning below what is still to be made; and what
    /// mkdirat(2) answers: Permission (EACCES, EROFS), Limit (ENOSPC).
    #[doc(alias = "mkdirat")]
    #[doc(alias = "mkdir -p")]
    pub fn mkdir_all(&self, path: impl AsRef<Path>, mode: u32) -> Result<DirFd> {
        let given = path.as_ref();
        let path = self.walked("mkdirat", given)?;
        let mode = self.permissions("mkdirat", mode, given)?;
        let fd = sys::owned(sys::ensure_dir(self.root(), &path, mode, Links::Inside))
            .map_err(|errno| self.fail("mkdirat", errno, given))?;
        Ok(self.dir_fd(fd, path.shown()))
    }

    /// The file `path` as a place (O_PATH), made empty with `mode` where it is missing, and directories on the way (0755)
    /// too. What exists is left as it is, whatever it is: look with [`Metadata::of`].
    ///
    /// # Errors
    /// As [`mkdir_all`](Self::mkdir_all); Invalid (EISDIR) for the root itself.
    #[doc(alias = "mknodat")]
    pub fn ensure_file(&self, path: impl AsRef<Path>, mode: u32) -> Result<OwnedFd> {
        let given = path.as_ref();
        let path = self.walked("mknodat", given)?;
        let mode = self.permissions("mknodat", mode, given)?;
        if path.is_root() {
            return Err(self.fail("mknodat", Errno(libc::EISDIR), given));
        }
        sys::owned(sys::ensure_file(self.root(), &path, mode)).map_err(|errno| self.fail("mknodat", errno, given))
    }

    fn walked(&self, operation: &'static str, path: &Path) -> Result<InRootPath> {
        InRootPath::new(operation, path).map_err(|error| error.on(self.subject(path)))
    }

    fn permissions(&self, operation: &'static str, mode: u32, path: &Path) -> Result<u32> {
        if mode > 0o7777 {
            return Err(self.refuse(operation, format!("mode {mode:#o} has bits beyond 0o7777"), path));
        }
        Ok(mode)
    }
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
        let shown = PathBuf::from(format!("fd {}", fd.as_raw_fd())).into();
        Self { fd, shown, resolver: Resolver::Kernel }
    }
}

impl From<DirFd> for RootFd {
    /// Takes a directory as a root of its own: `..` and links end there.
    fn from(dir: DirFd) -> Self {
        OwnedFd::from(dir).into()
    }
}

impl From<RootFd> for OwnedFd {
    fn from(root: RootFd) -> Self {
        root.fd
    }
}

#[cfg(test)]
mod tests;
