//! What is done to the last name of a path: the directory is resolved, and the rest is a [`DirFd`]'s.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cellkit_core::Result;

use super::RootFd;
use super::split::{Split, split};
use crate::dir_fd::{DirFd, Rename};
use crate::metadata::{Metadata, Node, Times};
use crate::sys::Links;

/// What slashes behind the last name mean: that it can only be a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slash {
    /// They are no news.
    Dropped,
    /// They are a contradiction.
    Refused,
}

impl RootFd {
    /// The directory and the name, for what makes or removes the name.
    pub(super) fn parent_of<'a>(
        &self,
        operation: &'static str,
        path: &'a Path,
        slash: Slash,
    ) -> Result<(DirFd, &'a OsStr)> {
        drop(self.c_path(operation, path)?);
        let parts = split(path.as_os_str().as_bytes());
        let Some(name) = parts.name else {
            return Err(self.refuse(operation, "the path ends in a directory, and not in a name in one", path));
        };
        if parts.slash && slash == Slash::Refused {
            return Err(self.refuse(operation, "the path ends in a slash, as only one of a directory does", path));
        }
        Ok((self.dir_of(&parts)?, OsStr::from_bytes(name)))
    }

    /// The directory and the name, or a directory and `.`, for what looks or changes.
    fn itself<'a>(&self, operation: &'static str, path: &'a Path) -> Result<(DirFd, &'a OsStr)> {
        drop(self.c_path(operation, path)?);
        match split(path.as_os_str().as_bytes()) {
            parts @ Split { name: Some(name), slash: false, .. } => Ok((self.dir_of(&parts)?, OsStr::from_bytes(name))),
            _ => Ok((self.open_dir(path)?, OsStr::new("."))),
        }
    }

    fn dir_of(&self, parts: &Split<'_>) -> Result<DirFd> {
        let parent = Path::new(OsStr::from_bytes(parts.parent));
        let fd = self.resolve(parent, libc::O_PATH | libc::O_DIRECTORY, Links::Inside)?;
        let shown = if parent == Path::new(".") { PathBuf::new() } else { parent.to_owned() };
        Ok(self.dir_fd(fd, shown))
    }

    /// `mkdirat`: a new directory: [`DirFd::mkdir`].
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir) and [`DirFd::mkdir`].
    #[doc(alias = "mkdirat")]
    pub fn mkdir(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        let (dir, name) = self.parent_of("mkdirat", path.as_ref(), Slash::Dropped)?;
        dir.mkdir(name, mode)
    }

    /// `openat(O_CREAT | O_EXCL)`: a new regular file, open for reading and writing: [`DirFd::create`].
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir) and [`DirFd::create`].
    #[doc(alias = "O_EXCL")]
    pub fn create(&self, path: impl AsRef<Path>, mode: u32) -> Result<File> {
        let (dir, name) = self.parent_of("openat", path.as_ref(), Slash::Refused)?;
        dir.create(name, mode)
    }

    /// The regular file `path` with this content, in place of whatever had the name, which is not followed. Readers see the
    /// old file or the new one: [`DirFd::write`].
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir) and [`DirFd::write`].
    #[doc(alias = "atomic")]
    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        let (dir, name) = self.parent_of("renameat2", path.as_ref(), Slash::Refused)?;
        dir.write(name, content, mode)
    }

    /// `symlinkat`: a new symbolic link `path` with the body `target`: [`DirFd::symlink`].
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir) and [`DirFd::symlink`].
    #[doc(alias = "symlinkat")]
    pub fn symlink(&self, target: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<()> {
        let (dir, name) = self.parent_of("symlinkat", path.as_ref(), Slash::Refused)?;
        dir.symlink(target, name)
    }

    /// `linkat`: `path` becomes one more name of what `existing` names, also inside the root: [`DirFd::link`].
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir) and [`DirFd::link`].
    #[doc(alias = "linkat")]
    pub fn link(&self, existing: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<()> {
        let (other, other_name) = self.parent_of("linkat", existing.as_ref(), Slash::Refused)?;
        let (dir, name) = self.parent_of("linkat", path.as_ref(), Slash::Refused)?;
        dir.link(&other, other_name, name)
    }

    /// `mknodat`: a FIFO, a socket or a device node: [`DirFd::mknod`].
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir) and [`DirFd::mknod`].
    #[doc(alias = "mknodat")]
    pub fn mknod(&self, path: impl AsRef<Path>, node: Node, mode: u32) -> Result<()> {
        let (dir, name) = self.parent_of("mknodat", path.as_ref(), Slash::Refused)?;
        dir.mknod(name, node, mode)
    }

    /// `unlinkat`: removes a name of anything but a directory: [`DirFd::unlink`].
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir) and [`DirFd::unlink`].
    #[doc(alias = "unlinkat")]
    pub fn unlink(&self, path: impl AsRef<Path>) -> Result<()> {
        let (dir, name) = self.parent_of("unlinkat", path.as_ref(), Slash::Refused)?;
        dir.unlink(name)
    }

    /// `unlinkat(AT_REMOVEDIR)`: removes an empty directory: [`DirFd::rmdir`].
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir) and [`DirFd::rmdir`].
    #[doc(alias = "AT_REMOVEDIR")]
    pub fn rmdir(&self, path: impl AsRef<Path>) -> Result<()> {
        let (dir, name) = self.parent_of("unlinkat", path.as_ref(), Slash::Dropped)?;
        dir.rmdir(name)
    }

    /// `unlinkat`, of a whole tree: [`DirFd::remove_all`]. A directory on the way that is missing is no error either.
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir) and [`DirFd::remove_all`].
    #[doc(alias = "rm -r")]
    pub fn remove_all(&self, path: impl AsRef<Path>) -> Result<()> {
        match self.parent_of("unlinkat", path.as_ref(), Slash::Dropped) {
            Ok((dir, name)) => dir.remove_all(name),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// `renameat2`: moves what `path` names to `to`, also inside the root: [`DirFd::rename`].
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir) and [`DirFd::rename`].
    #[doc(alias = "renameat2")]
    pub fn rename(&self, path: impl AsRef<Path>, to: impl AsRef<Path>, existing: Rename) -> Result<()> {
        let (dir, name) = self.parent_of("renameat2", path.as_ref(), Slash::Refused)?;
        let (to_dir, to_name) = self.parent_of("renameat2", to.as_ref(), Slash::Refused)?;
        dir.rename(name, &to_dir, to_name, existing)
    }

    /// `fchownat(AT_SYMLINK_NOFOLLOW)`: gives it to somebody: [`DirFd::chown`].
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir) and [`DirFd::chown`].
    #[doc(alias = "fchownat")]
    #[doc(alias = "lchown")]
    pub fn chown(
        &self,
        path: impl AsRef<Path>,
        uid: impl Into<Option<u32>>,
        gid: impl Into<Option<u32>>,
    ) -> Result<()> {
        let (dir, name) = self.itself("fchownat", path.as_ref())?;
        dir.chown(name, uid, gid)
    }

    /// `fchmodat2(AT_SYMLINK_NOFOLLOW)`: its permission bits: [`DirFd::chmod`].
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir) and [`DirFd::chmod`].
    #[doc(alias = "fchmodat2")]
    pub fn chmod(&self, path: impl AsRef<Path>, mode: u32) -> Result<()> {
        let (dir, name) = self.itself("fchmodat2", path.as_ref())?;
        dir.chmod(name, mode)
    }

    /// `utimensat(AT_SYMLINK_NOFOLLOW)`: its times: [`DirFd::set_times`].
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir) and [`DirFd::set_times`].
    #[doc(alias = "utimensat")]
    pub fn set_times(&self, path: impl AsRef<Path>, times: Times) -> Result<()> {
        let (dir, name) = self.itself("utimensat", path.as_ref())?;
        dir.set_times(name, times)
    }

    /// `statx(AT_SYMLINK_NOFOLLOW)`: what it is, of a link the link itself: [`DirFd::stat`]. What a link leads to is
    /// [`Metadata::of`] its [`place`](Self::place).
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir) and [`DirFd::stat`].
    #[doc(alias = "statx")]
    #[doc(alias = "lstat")]
    pub fn stat(&self, path: impl AsRef<Path>) -> Result<Metadata> {
        let (dir, name) = self.itself("statx", path.as_ref())?;
        dir.stat(name)
    }

    /// `readlinkat`: the body of a symbolic link: [`DirFd::read_link`].
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir) and [`DirFd::read_link`].
    #[doc(alias = "readlinkat")]
    pub fn read_link(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let (dir, name) = self.parent_of("readlinkat", path.as_ref(), Slash::Refused)?;
        dir.read_link(name)
    }

    /// `getxattrat(AT_SYMLINK_NOFOLLOW)`: the value of an extended attribute: [`DirFd::get_xattr`].
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir) and [`DirFd::get_xattr`].
    #[doc(alias = "getxattrat")]
    pub fn get_xattr(&self, path: impl AsRef<Path>, key: impl AsRef<OsStr>) -> Result<Option<Vec<u8>>> {
        let (dir, name) = self.itself("getxattrat", path.as_ref())?;
        dir.get_xattr(name, key)
    }

    /// `setxattrat(AT_SYMLINK_NOFOLLOW)`: sets an extended attribute: [`DirFd::set_xattr`].
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir) and [`DirFd::set_xattr`].
    #[doc(alias = "setxattrat")]
    pub fn set_xattr(&self, path: impl AsRef<Path>, key: impl AsRef<OsStr>, value: impl AsRef<[u8]>) -> Result<()> {
        let (dir, name) = self.itself("setxattrat", path.as_ref())?;
        dir.set_xattr(name, key, value)
    }

    /// `listxattrat(AT_SYMLINK_NOFOLLOW)`: the keys of its extended attributes: [`DirFd::list_xattrs`].
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir) and [`DirFd::list_xattrs`].
    #[doc(alias = "listxattrat")]
    pub fn list_xattrs(&self, path: impl AsRef<Path>) -> Result<Vec<OsString>> {
        let (dir, name) = self.itself("listxattrat", path.as_ref())?;
        dir.list_xattrs(name)
    }

    /// `removexattrat(AT_SYMLINK_NOFOLLOW)`: takes an extended attribute away: [`DirFd::remove_xattr`].
    ///
    /// # Errors
    /// As [`open_dir`](Self::open_dir) and [`DirFd::remove_xattr`].
    #[doc(alias = "removexattrat")]
    pub fn remove_xattr(&self, path: impl AsRef<Path>, key: impl AsRef<OsStr>) -> Result<()> {
        let (dir, name) = self.itself("removexattrat", path.as_ref())?;
        dir.remove_xattr(name, key)
    }
}
