//! The most memory since a moment of one's own choice: `memory.peak` and `memory.swap.peak` through a descriptor of one's own.
//!
//! When one descriptor is reset, the kernel (6.12) lowers the watermark that the others read too. What was read is kept here,
//! so that a peak never goes down between two resets.
#![forbid(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use cellkit_core::Errno;

use crate::group::errno_of;
use crate::{Bytes, Cgroup, Error, Result, open};

/// The most memory, or swap, that a group has used since this was made, or [reset](Self::reset) last: made by
/// [`Memory::watch_peak`](crate::Memory::watch_peak) and [`Memory::watch_swap_peak`](crate::Memory::watch_swap_peak).
///
/// The kernel remembers when each descriptor was reset, but one peak for all of them: a reset of another watch of the same
/// group, or a new one, takes away what was before it, unless [`peak`](Self::peak) was called since then. So one watch a group
/// is exact; of several, each is exact from the latest reset of any. What [`Memory::peak`](crate::Memory::peak) says, the peak
/// since the group was made, is never touched. Linux 6.12.
///
/// ```no_run
/// let group = cgroupfs::Hierarchy::detect()?.own_group()?;
/// let watch = group.memory().watch_peak()?;
/// // … one piece of work …
/// println!("the most was {}", watch.peak()?);
/// watch.reset()?;
/// // … another …
/// println!("the most was {}", watch.peak()?);
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
#[derive(Debug)]
pub struct PeakWatch {
    file: File,
    /// The most that was read since the reset.
    seen: AtomicU64,
    name: &'static str,
    group: PathBuf,
}

impl PeakWatch {
    pub(super) fn new(group: &Cgroup, name: &'static str) -> Result<Self> {
        let operation = || format!("open {name}");
        let too_old = || {
            let feature = format!("a {name} of one's own, to be written to,");
            Error::unsupported(operation(), feature, Some("6.12")).on(group.path())
        };
        let file = match group.open_file(name, libc::O_RDWR, &operation) {
            Ok(file) => File::from(file),
            // Older kernels have a file for reading only. Root may open it for writing all the same.
            Err(_) if open::beneath(group.as_fd(), Path::new(name), libc::O_PATH).is_ok_and(is_for_reading) => {
                return Err(too_old());
            }
            Err(error) => return Err(error),
        };
        if is_for_reading(&file) {
            return Err(too_old());
        }
        let watch = Self { file, seen: AtomicU64::new(0), name, group: group.path().to_owned() };
        watch.reset()?;
        Ok(watch)
    }

    /// The most that the group has used since the last reset.
    ///
    /// # Errors
    /// Gone when the group has been removed; Parse when the file holds no number.
    pub fn peak(&self) -> Result<Bytes> {
        let mut content = [0; 32];
        let length = self.file.read_at(&mut content, 0).map_err(|error| self.fail("read", errno_of(&error)))?;
        let text = String::from_utf8_lossy(content.get(..length).unwrap_or_default());
        let Bytes(now) = text.parse().map_err(|error: Error| {
            Error::parse(format!("read {}", self.name), error.to_string()).on(self.group.as_path())
        })?;
        Ok(Bytes(now.max(self.seen.fetch_max(now, Ordering::Relaxed))))
    }

    /// Begins anew, with what the group uses now.
    ///
    /// # Errors
    /// Gone when the group has been removed.
    pub fn reset(&self) -> Result<()> {
        // Any text will do.
        self.file.write_at(b"reset\n", 0).map_err(|error| self.fail("write", errno_of(&error)))?;
        self.seen.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn fail(&self, verb: &str, errno: Errno) -> Error {
        // The file was there, so ENODEV says that the group is not any more.
        Error::from_errno(format!("{verb} {}", self.name), errno.0).on(self.group.as_path()).or_gone()
    }
}

impl AsFd for PeakWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl From<PeakWatch> for OwnedFd {
    fn from(watch: PeakWatch) -> Self {
        watch.file.into()
    }
}

fn is_for_reading(file: impl AsFd) -> bool {
    let duplicate = file.as_fd().try_clone_to_owned().map(File::from);
    duplicate.and_then(|file| file.metadata()).is_ok_and(|found| found.mode() & 0o222 == 0)
}
