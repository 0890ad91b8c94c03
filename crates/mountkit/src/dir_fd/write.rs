//! A file that is there whole or not at all.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

use cellkit_core::{Errno, Error, Result};

use super::{DirFd, Rename};
use crate::name::Name;

/// How many names may be taken already, as those that a killed process has left.
const ATTEMPTS: u32 = 128;

impl DirFd {
    /// `openat(O_EXCL)`, `write`, `renameat2`: the regular file `name` with this content and `mode` (less the umask), whatever
    /// had the name before. Whoever opens it finds the old file or the new one, and never a part.
    ///
    /// What had the name is replaced, and neither followed nor written to: a symbolic link, a FIFO, a file with other names.
    /// The content is in another file of the directory first (`.new-PID-N`), which is removed when anything fails; a process
    /// that is killed in between leaves it. Nothing is synced to the disk.
    ///
    /// ```no_run
    /// use mountkit::RootFd;
    ///
    /// let etc = RootFd::open("/run/c1/root")?.open_dir("etc")?;
    /// etc.write("hostname", "web\n", 0o644)?;
    /// etc.write("resolv.conf", "nameserver 10.0.0.1\n", 0o644)?;
    /// # Ok::<(), mountkit::Error>(())
    /// ```
    ///
    /// # Errors
    /// Invalid for what is no name or no mode; (EISDIR) when a directory has the name; Permission (EACCES, EROFS); Limit
    /// (ENOSPC, EDQUOT).
    #[doc(alias = "atomic")]
    pub fn write(&self, name: impl AsRef<OsStr>, content: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = Name::new("renameat2", name.as_ref())?;
        let mode = self.permissions("openat", mode, &name)?;
        for _ in 0..ATTEMPTS {
            let made = format!(".new-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let mut file = match self.create(&made, mode) {
                Ok(file) => file,
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => continue,
                // Of the name that was asked for: nobody knows the other.
                Err(error) => return Err(self.told_of(error, &name)),
            };
            let written = file
                .write_all(content.as_ref())
                .map_err(|error| self.fail("write", Errno(error.raw_os_error().unwrap_or(libc::EIO)), &name))
                .and_then(|()| self.rename(&made, self, name.as_os_str(), Rename::Replace));
            return written.map_err(|error| {
                let _ = self.unlink(&made);
                self.told_of(error, &name)
            });
        }
        Err(self.fail("openat", Errno(libc::EEXIST), &name))
    }

    fn told_of(&self, error: Error, name: &Name) -> Error {
        error.on(self.subject(name))
    }
}
