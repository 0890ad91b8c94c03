//! The places that a start makes in a directory of the host, and their removal.
//!
//! A mount needs something to be mounted on. In a writable [`Rootfs::bind`] the child makes what is missing, on the host's
//! disk, where it outlives the container. The child cannot tell what it made: it may be killed at any instruction. So the
//! caller looks before the start at what is missing, writes that down, and afterwards removes of it what is there and empty.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cellkit_core::{Error, ErrorKind, Result};

use super::{Base, Rootfs, absolute};
use crate::host_path::{io_error, open_dir};
use crate::in_root::InRootPath;
use crate::sys::{self, Links};
use crate::{DirFd, FileKind, Metadata, RootFd};

/// Places for mounts that a writable root directory lacks, so that a start will make them on the host's disk: answered by
/// [`Rootfs::missing_targets`] before the start, removed after it.
///
/// Between the two it belongs in a record on disk, if it is to be removed after a SIGKILL of the caller as well: it is
/// [`root`](Self::root) and [`paths`](Self::paths), and [`new`](Self::new) takes them back.
///
/// ```no_run
/// use mountkit::{MissingTargets, Rootfs};
///
/// let rootfs = Rootfs::bind("/srv/root").proc().dev();
/// let missing = rootfs.missing_targets()?;
/// println!("the start makes:\n{missing}");
/// // … the record is written, the container started, and its end awaited; then
/// missing.remove()?;
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// See mkdirat(2) and unlinkat(2): <https://man7.org/linux/man-pages/man2/unlinkat.2.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct MissingTargets {
    root: PathBuf,
    /// Relative to the root, and each after what it is in.
    paths: BTreeSet<PathBuf>,
}

impl MissingTargets {
    /// What was written down of one.
    ///
    /// # Errors
    /// Invalid: a path that is none of those that [`paths`](Self::paths) answers: empty, with `..` or a NUL byte in it, or
    /// the root itself.
    pub fn new<P: AsRef<Path>>(root: impl Into<PathBuf>, paths: impl IntoIterator<Item = P>) -> Result<Self> {
        let mut missing = Self { root: root.into(), paths: BTreeSet::new() };
        for path in paths {
            let inside = InRootPath::new("unlinkat", path.as_ref())?;
            if inside.is_root() {
                return Err(Error::invalid("unlinkat", "this is the root itself").on(path.as_ref()));
            }
            missing.paths.insert(inside.shown());
        }
        Ok(missing)
    }

    /// The directory that they are missing in. It is absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The paths below it, each after the directory that it is in.
    pub fn paths(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.paths.iter().map(PathBuf::as_path)
    }

    /// Nothing is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// `unlinkat`: removes each that is there by now and is an empty directory or an empty regular file, what is in a
    /// directory before the directory. To be called when the container has ended, or could not be started.
    ///
    /// What is something else by now, has content or has something mounted on it is somebody's, and stays. No link is followed
    /// to or on the way to what was missing, and no mount is entered. It goes on past errors; the answer is the first, with
    /// the others in [`Error::also`]. What is gone already is no error, and neither is a root that is gone.
    ///
    /// # The limit
    /// Whose container it was made for does not show in a directory. Where *another container uses the same root at
    /// the same time*, it found these places made, and has mounted on them in its own mount namespace; the kernel removes them
    /// all the same, *and takes those mounts away*. Whether that can be is the caller's to know: one that shares a root
    /// between containers holds a lock on it (flock(2) of the directory, say) from [`Rootfs::missing_targets`] to
    /// here.
    ///
    /// # Errors
    /// Permission (EACCES, EPERM, EROFS), and what else openat2(2) and unlinkat(2) answer.
    #[doc(alias = "unlinkat")]
    #[doc(alias = "rmdir")]
    pub fn remove(self) -> Result<()> {
        if self.paths.is_empty() {
            return Ok(());
        }
        let root = match RootFd::open(&self.root) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            root => root?,
        };
        // In the order of names a directory is before all that is in it.
        Error::all(self.paths.iter().rev().filter_map(|path| self.remove_one(&root, path).err()))
    }

    fn remove_one(&self, root: &RootFd, path: &Path) -> Result<()> {
        let Some(name) = path.file_name() else { return Ok(()) };
        let Some(dir) = self.parent(root, path)? else { return Ok(()) };
        let Some(found) = if_there(dir.stat(name))? else { return Ok(()) };
        match found.kind() {
            _ if found.is_mount_root() => Ok(()),
            FileKind::Directory => if_removed(dir.rmdir(name)),
            FileKind::Regular if found.size() == 0 => if_removed(dir.unlink(name)),
            _ => Ok(()),
        }
    }

    /// The directory that `path` is in. What was there before the start is the root's own, and its links lead somewhere in
    /// the root; what was made has none.
    fn parent(&self, root: &RootFd, path: &Path) -> Result<Option<DirFd>> {
        let mut parents: Vec<&Path> = path.ancestors().skip(1).collect();
        let made = parents.iter().take_while(|parent| self.paths.contains(**parent)).count();
        let below = parents.drain(..made).rev().collect::<Vec<_>>();
        let old = parents.first().copied().filter(|old| !old.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let Some(mut dir) = if_there(root.open_dir(old))? else { return Ok(None) };
        for name in below.iter().filter_map(|path| path.file_name()) {
            match if_there(dir.open_dir(name))? {
                Some(next) if !Metadata::of(&next)?.is_mount_root() => dir = next,
                _ => return Ok(None),
            }
        }
        Ok(Some(dir))
    }
}

/// Nothing there, or something that is no directory.
fn if_there<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => Ok(None),
        answer => answer.map(Some),
    }
}

/// Gone, full, another kind of file since it was looked at, or mounted on.
fn if_removed(answer: Result<()>) -> Result<()> {
    const SOMEBODYS: [i32; 6] = [libc::ENOENT, libc::ENOTEMPTY, libc::EEXIST, libc::ENOTDIR, libc::EISDIR, libc::EBUSY];
    match answer {
        Err(error) if error.raw_os_error().is_some_and(|errno| SOMEBODYS.contains(&errno)) => Ok(()),
        answer => answer,
    }
}

impl fmt::Display for MissingTargets {
    /// A line for each, without one at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, path) in self.paths.iter().enumerate() {
            let line = if n == 0 { "" } else { "\n" };
            write!(f, "{line}{path:?} in {:?}", self.root)?;
        }
        Ok(())
    }
}

impl Rootfs {
    /// What [`steps`](Self::steps) will have to make in the directory of a writable [`bind`](Self::bind), because mounts are
    /// to be there: `/proc`, `/sys` and `/dev`, and the targets of volumes and other mounts with the directories on the way.
    /// Empty for every other root: an overlay's places are made in what is thrown away with it, or in the upper directory
    /// that was given for it.
    ///
    /// It looks, through a [`RootFd`], and makes nothing. Not in the list is what is made *in a volume*, for a mount whose
    /// target is below the volume's.
    ///
    /// # Errors
    /// Those of opening the directory; Invalid for a target that [`check`](Self::check) refuses.
    pub fn missing_targets(&self) -> Result<MissingTargets> {
        let Base::Bind(dir) = &self.base else { return MissingTargets::new(PathBuf::new(), [""; 0]) };
        let whole = std::path::absolute(dir).map_err(|error| io_error("getcwd", &error, dir))?;
        let mut paths = BTreeSet::new();
        if !self.read_only {
            let root = open_dir(dir)?;
            for (name, wanted) in [("proc", self.proc.is_some()), ("sys", self.sys.is_some()), ("dev", self.dev.wanted)]
            {
                if wanted {
                    find_missing(&root, &InRootPath::new("openat2", Path::new(name))?, Links::Refused, &mut paths);
                }
            }
            if self.cgroup.is_some() && self.sys.is_none() {
                let place = InRootPath::new("openat2", Path::new("sys/fs/cgroup"))?;
                find_missing(&root, &place, Links::Inside, &mut paths);
            }
            let mut earlier: Vec<InRootPath> = Vec::new();
            for mount in &self.mounts {
                let target = absolute("openat2", mount.target())?;
                // In another mount, or in the tmpfs on /dev.
                let elsewhere = earlier.iter().any(|other| other.covers(&target))
                    || self.dev.wanted && target.names().next() == Some(b"dev");
                if !elsewhere {
                    find_missing(&root, &target, Links::Inside, &mut paths);
                }
                earlier.push(target);
            }
        }
        Ok(MissingTargets { root: whole, paths })
    }
}

/// From the first name on that is not there, as the child makes them. What else a lookup answers is the steps' to tell.
fn find_missing(root: &impl AsRawFd, target: &InRootPath, links: Links, found: &mut BTreeSet<PathBuf>) {
    let prefixes = target.prefixes();
    let is_missing = |path| {
        let opened = sys::owned(sys::open_in_root(root.as_raw_fd(), path, libc::O_PATH, links));
        opened.is_err_and(|errno| errno.0 == libc::ENOENT)
    };
    let there = prefixes.iter().take_while(|prefix| !is_missing(prefix.path())).count();
    let missing = prefixes.iter().skip(there);
    found.extend(missing.map(|prefix| PathBuf::from(OsStr::from_bytes(prefix.path().to_bytes()))));
}
