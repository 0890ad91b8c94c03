//! Extended attributes of what may be a link, a FIFO or a device, without following or opening it.
//!
//! Until Linux 6.13 the calls take a path, which is followed or starts at the caller's working directory, or an open file,
//! which a link cannot be and a device should not. So there are three ways, and the first one that is there is taken:
//!
//! 1. setxattrat and its like (Linux 6.13), relative to the directory;
//! 2. of a regular file or a directory that may be read: it is opened, and fsetxattr;
//! 3. of anything else: lsetxattr of the bare name, on a thread that has a working directory of its own and puts it here.
#![forbid(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use cellkit_core::{Errno, Error, ErrorKind, Result};

use super::{DirFd, OpenOptions};
use crate::metadata::FileKind;
use crate::name::Name;
use crate::sys::xattr::{self, Action};

/// Most values and lists fit.
const SMALL: usize = 1 << 10;
/// XATTR_SIZE_MAX and XATTR_LIST_MAX.
const LARGEST: usize = 64 << 10;

impl DirFd {
    /// `getxattrat(AT_SYMLINK_NOFOLLOW)`: the value of the attribute `key` (`security.capability`, `user.mime`) of it, or of
    /// the directory itself (`.`). `None` where it has none.
    ///
    /// getxattrat and the three below are of Linux 6.13. Before that a regular file or a directory is opened for it, and
    /// for anything else there is a thread with a working directory of its own; the caller's is not touched.
    ///
    /// # Errors
    /// NotFound (ENOENT); Unsupported (EOPNOTSUPP) where the file system has no such attributes; Permission (EACCES).
    #[doc(alias = "getxattrat")]
    #[doc(alias = "lgetxattr")]
    pub fn get_xattr(&self, name: impl AsRef<OsStr>, key: impl AsRef<OsStr>) -> Result<Option<Vec<u8>>> {
        let name = Name::or_the_dir("getxattrat", name.as_ref())?;
        let key = self.key("getxattrat", &name, key.as_ref())?;
        match self.read_all(&name, Some(&key)) {
            Ok(value) => Ok(Some(value)),
            Err(Errno(libc::ENODATA)) => Ok(None),
            Err(errno) => Err(self.fail("getxattrat", errno, &name)),
        }
    }

    /// `setxattrat(AT_SYMLINK_NOFOLLOW)`: sets an attribute of it, or of the directory itself (`.`), new or not.
    ///
    /// `user.` attributes are for regular files and directories only, `trusted.` ones for CAP_SYS_ADMIN in the first user
    /// namespace, `security.` ones for CAP_SYS_ADMIN (`security.capability`: CAP_SETFCAP) where the file system was mounted.
    ///
    /// # Errors
    /// As [`get_xattr`](Self::get_xattr); Permission (EPERM, EROFS); Limit (ENOSPC, EDQUOT, E2BIG above 64 KiB).
    #[doc(alias = "setxattrat")]
    #[doc(alias = "lsetxattr")]
    pub fn set_xattr(&self, name: impl AsRef<OsStr>, key: impl AsRef<OsStr>, value: impl AsRef<[u8]>) -> Result<()> {
        let name = Name::or_the_dir("setxattrat", name.as_ref())?;
        let key = self.key("setxattrat", &name, key.as_ref())?;
        self.attributes(&name, &mut Action::Set(&key, value.as_ref()))
            .map(drop)
            .map_err(|errno| self.fail("setxattrat", errno, &name))
    }

    /// `listxattrat(AT_SYMLINK_NOFOLLOW)`: the keys that it has, or the directory itself (`.`), and that the caller may see.
    ///
    /// # Errors
    /// As [`get_xattr`](Self::get_xattr); Limit (E2BIG): more than 64 KiB of keys.
    #[doc(alias = "listxattrat")]
    #[doc(alias = "llistxattr")]
    pub fn list_xattrs(&self, name: impl AsRef<OsStr>) -> Result<Vec<OsString>> {
        let name = Name::or_the_dir("listxattrat", name.as_ref())?;
        let keys = self.read_all(&name, None).map_err(|errno| self.fail("listxattrat", errno, &name))?;
        let keys = keys.split(|&byte| byte == 0).filter(|key| !key.is_empty());
        Ok(keys.map(|key| OsString::from_vec(key.to_vec())).collect())
    }

    /// `removexattrat(AT_SYMLINK_NOFOLLOW)`: takes an attribute away.
    ///
    /// # Errors
    /// As [`set_xattr`](Self::set_xattr); Other (ENODATA) where it has none.
    #[doc(alias = "removexattrat")]
    #[doc(alias = "lremovexattr")]
    pub fn remove_xattr(&self, name: impl AsRef<OsStr>, key: impl AsRef<OsStr>) -> Result<()> {
        let name = Name::or_the_dir("removexattrat", name.as_ref())?;
        let key = self.key("removexattrat", &name, key.as_ref())?;
        self.attributes(&name, &mut Action::Remove(&key))
            .map(drop)
            .map_err(|errno| self.fail("removexattrat", errno, &name))
    }

    fn key(&self, operation: &'static str, name: &Name, key: &OsStr) -> Result<CString> {
        match CString::new(key.as_bytes()) {
            Ok(key) if !key.is_empty() => Ok(key),
            Ok(_) => Err(self.refuse(operation, "the attribute's name is empty", name)),
            Err(_) => Err(self.refuse(operation, "the attribute's name has a NUL byte in it", name)),
        }
    }

    /// A value, or the keys.
    fn read_all(&self, name: &Name, key: Option<&CStr>) -> Result<Vec<u8>, Errno> {
        let read = |buffer: &mut [u8]| match key {
            Some(key) => self.attributes(name, &mut Action::Get(key, buffer)),
            None => self.attributes(name, &mut Action::List(buffer)),
        };
        let mut buffer = vec![0; SMALL];
        let mut answer = read(&mut buffer);
        if answer == Err(Errno(libc::ERANGE)) {
            buffer.resize(LARGEST, 0);
            answer = read(&mut buffer);
        }
        buffer.truncate(answer?);
        Ok(buffer)
    }

    fn attributes(&self, name: &Name, action: &mut Action<'_>) -> Result<usize, Errno> {
        match xattr::at(self.raw(), name.as_c_str(), action) {
            // A filter that does not know the call may say EPERM, and so may the kernel: the other ways have the same answer.
            Err(Errno(libc::ENOSYS | libc::EPERM)) => self.attributes_before_6_13(name, action),
            answer => answer,
        }
    }

    pub(super) fn attributes_before_6_13(&self, name: &Name, action: &mut Action<'_>) -> Result<usize, Errno> {
        match self.readable(name)? {
            Some(file) => xattr::of_file(file.as_raw_fd(), action),
            None => xattr::from_own_dir(self.raw(), name.as_c_str(), action),
        }
    }

    /// A regular file or a directory, open. `None` where only the name is left: it is something else, or may not be read.
    fn readable(&self, name: &Name) -> Result<Option<File>, Errno> {
        let errno = |error: &Error| error.raw_os_error().map(Errno);
        // A status that cannot be had is no reason to go on: what the name is of is not known then.
        let found = self.stat(name.as_os_str()).map_err(|error| errno(&error).unwrap_or(Errno(libc::EIO)))?;
        if !matches!(found.kind(), FileKind::Regular | FileKind::Directory) {
            return Ok(None);
        }
        let options = OpenOptions::new().read().expect(found.kind());
        let Ok(flags) = options.flags() else { return Ok(None) };
        match self.open_existing(name, options, flags) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::Permission => Ok(None),
            // Without an errno it has become something else meanwhile.
            Err(error) => errno(&error).map_or(Ok(None), Err),
        }
    }
}
