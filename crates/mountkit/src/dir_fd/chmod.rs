//! Changing a mode without following a link, also where fchmodat2 is missing.
#![forbid(unsafe_code)]

use std::ffi::{CString, OsStr};
use std::os::fd::{AsRawFd, OwnedFd};

use cellkit_core::{Errno, ProcFd, ProcView, Result};

use super::DirFd;
use crate::metadata::FileKind;
use crate::name::Name;
use crate::sys::fs;

impl DirFd {
    /// `fchmodat2(AT_SYMLINK_NOFOLLOW)`: the permission bits of it, or of the directory itself (`.`). The umask does not count.
    ///
    /// fchmodat2 is of Linux 6.6. Where it is missing the file is opened as a path (O_PATH) and changed through its link in
    /// a procfs that nobody can mount over ([`ProcFd`]); who may not make one (it takes CAP_SYS_ADMIN) needs openat2 then.
    ///
    /// # Errors
    /// NotFound (ENOENT); Unsupported (EOPNOTSUPP) for a symbolic link, which has no mode; Permission (EPERM, EROFS); Invalid
    /// for bits beyond 0o7777.
    #[doc(alias = "fchmodat2")]
    #[doc(alias = "lchmod")]
    pub fn chmod(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<()> {
        let name = Name::or_the_dir("fchmodat2", name.as_ref())?;
        let mode = self.permissions("fchmodat2", mode, &name)?;
        match fs::fchmodat2(self.raw(), name.as_c_str(), mode) {
            Ok(()) => Ok(()),
            // A filter that does not know the call may say EPERM, and so may the kernel: the other way has the same answer.
            Err(Errno(libc::ENOSYS | libc::EPERM)) => self.chmod_by_proc(&name, mode),
            Err(errno) => Err(self.fail("fchmodat2", errno, &name)),
        }
    }

    pub(super) fn chmod_by_proc(&self, name: &Name, mode: u32) -> Result<()> {
        let (place, found) = self.place("fchmodat", name)?;
        if found.kind() == FileKind::Symlink {
            return Err(self.fail("fchmodat", Errno(libc::EOPNOTSUPP), name));
        }
        let proc = ProcFd::open(ProcView::Processes)?;
        let number = place.as_raw_fd();
        // Where nobody can mount anything, a path is safe, and needs no openat2.
        let (dir, path): (OwnedFd, _) = match proc.is_private() {
            true => (proc.into(), format!("thread-self/fd/{number}")),
            false => (proc.this_thread()?.into(), format!("fd/{number}")),
        };
        let path = CString::new(path).unwrap_or_default();
        fs::fchmodat_following(dir.as_raw_fd(), &path, mode).map_err(|errno| self.fail("fchmodat", errno, name))
    }
}
