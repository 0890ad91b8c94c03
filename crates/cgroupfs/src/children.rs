//! The groups below a group: making, opening and listing them.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use cellkit_core::{Errno, Subject};
use nix::sys::stat::Mode;

use crate::tree::vanished;
use crate::{Cgroup, CgroupName, Error, ErrorKind, Result, open, remove, tree};

/// Whether a group was made, or was there before and is shared with whoever made it. See
/// [`Cgroup::create_or_share_child`].
///
/// ```no_run
/// use cgroupfs::{CgroupName, Hierarchy, Origin};
///
/// let place = Hierarchy::detect()?.place()?;
/// let (workers, origin) = place.group().create_or_share_child(&CgroupName::new("workers")?)?;
/// if origin == Origin::Found {
///     println!("{:?} is used by others too", workers.path());
/// }
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See mkdir(2): <https://man7.org/linux/man-pages/man2/mkdir.2.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// It was made by this call, and nobody else has it.
    Made,
    /// It was there.
    Found,
}

impl Cgroup {
    /// mkdirat(2), openat2(2): makes the group `name` below this one. One of that name that exists is an error, never
    /// shared: two users of one group kill each other's processes and overwrite each other's limits.
    ///
    /// It has no limits, and those controllers that this group passes down ([`enable`](Self::enable)).
    /// [`Place::create`](crate::Place::create) makes one with limits, all or nothing.
    ///
    /// * Kernel: 4.5; 5.6 for openat2.
    /// * Privileges: write access to the directory of this group. The new one's mode is 755, less the caller's umask.
    ///
    /// ```no_run
    /// use cgroupfs::{CgroupName, Hierarchy};
    /// use std::time::Duration;
    ///
    /// let place = Hierarchy::detect()?.place()?;
    /// let web = place.group().create_child(&CgroupName::new("web")?)?;
    /// let worker = web.create_child(&CgroupName::new("worker-1")?)?;
    /// assert_eq!(worker.path(), web.path().join("worker-1"));
    /// web.remove(Duration::from_secs(5))?; // and what is below it
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// # Errors
    /// AlreadyExists; Permission; Limit when `cgroup.max.descendants` or `cgroup.max.depth` of a group above is reached,
    /// or the kernel is out of ids; Gone when this group has been removed.
    #[doc(alias = "mkdir")]
    pub fn create_child(&self, name: &CgroupName) -> Result<Self> {
        self.make_directory(name)?;
        self.open_child(name).map_err(|error| with_more(error, self.remove_made(name)))
    }

    /// The same, but a group of that name that exists is opened and shared, whoever made it and whatever is in it.
    ///
    /// # Errors
    /// As [`create_child`](Self::create_child), but AlreadyExists.
    pub fn create_or_share_child(&self, name: &CgroupName) -> Result<(Self, Origin)> {
        // Whoever made it may be removing it at this moment.
        for _ in 0..16 {
            match self.create_child(name) {
                Ok(made) => return Ok((made, Origin::Made)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            match self.open_child(name) {
                Ok(found) => return Ok((found, Origin::Found)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::other("mkdirat", "it is made and removed again all the time").on(self.path.join(name.as_str())))
    }

    /// The same for several levels: `[a, b, c]` makes `a/b/c`. Groups on the way are shared where they exist; the last one
    /// must be new. When it cannot be made, those that were made for it are removed again.
    ///
    /// ```no_run
    /// use cgroupfs::{CgroupName, Hierarchy};
    ///
    /// let place = Hierarchy::detect()?.place()?;
    /// let [app, web] = [CgroupName::new("app")?, CgroupName::new("web")?];
    /// let group = place.group().create_nested(&[app, web])?;
    /// assert!(group.path().ends_with("app/web"));
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// # Errors
    /// Invalid when `names` is empty; as [`create_child`](Self::create_child).
    pub fn create_nested(&self, names: &[CgroupName]) -> Result<Self> {
        let Some((last, above)) = names.split_last() else {
            return Err(Error::invalid("mkdirat", "no name was given").on(self.path()));
        };
        let mut made: Vec<(Self, &CgroupName)> = Vec::new();
        let outcome = above.iter().try_fold(self.try_clone()?, |here, name| {
            let (next, origin) = here.create_or_share_child(name)?;
            if origin == Origin::Made {
                made.push((here, name));
            }
            Ok(next)
        });
        outcome.and_then(|here| here.create_child(last)).map_err(|error| {
            made.iter().rev().fold(error, |error, (here, name)| with_more(error, here.remove_made(name)))
        })
    }

    /// openat2(2): the group `name` right below this one. Unlike those that are made here, it may have any name that the
    /// file system allows.
    ///
    /// # Errors
    /// Invalid when this is not one name; NotFound when there is no such group; Gone when this group has been removed.
    pub fn open_child(&self, name: impl AsRef<OsStr>) -> Result<Self> {
        let name = Path::new(name.as_ref());
        let mut parts = name.components();
        let is_name = match parts.next() {
            Some(Component::Normal(part)) => part == name.as_os_str() && part.len() <= 255,
            _ => false,
        };
        if !is_name || parts.next().is_some() || name.as_os_str().as_bytes().contains(&0) {
            return Err(Error::invalid("openat2", "this is not the name of one group")
                .on(Subject::Value(name.display().to_string())));
        }
        match open::beneath(self.dir.as_fd(), name, open::DIRECTORY) {
            Ok(dir) => Ok(self.at(dir, self.path.join(name))),
            Err(errno) => Err(self.fail_below(name, "openat2", errno)),
        }
    }

    /// getdents(2): the names of the groups right below this one, in no order. Open one with
    /// [`open_child`](Self::open_child); it may have vanished by then, which is NotFound.
    ///
    /// # Errors
    /// Gone.
    pub fn children(&self) -> Result<Vec<OsString>> {
        tree::list(self.dir.as_fd()).map_err(|errno| self.fail("getdents", errno))
    }

    /// openat2(2) of `..`: the group above; `None` where the file system is mounted, from where nothing above is seen.
    ///
    /// # Errors
    /// Gone.
    pub fn parent(&self) -> Result<Option<Self>> {
        match (open::above(self.dir.as_fd()), self.path.parent()) {
            (Ok(dir), Some(path)) => Ok(Some(self.at(dir, path.to_owned()))),
            (Err(Errno(libc::EXDEV)) | Ok(_), _) => Ok(None),
            (Err(errno), _) => Err(self.fail("openat2", errno)),
        }
    }

    /// Another handle on the same group: fcntl(2) F_DUPFD_CLOEXEC.
    ///
    /// # Errors
    /// Limit when the process has no descriptor left.
    pub fn try_clone(&self) -> Result<Self> {
        let dir = self.dir.try_clone().map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", &error))?;
        Ok(self.at(dir, self.path.clone()))
    }

    /// A handle that is on the same mount as this one.
    pub(crate) fn at(&self, dir: OwnedFd, path: PathBuf) -> Self {
        Self { dir, path, mount_point: self.mount_point.clone() }
    }

    pub(crate) fn make_directory(&self, name: &CgroupName) -> Result<()> {
        let mode = Mode::from_bits_truncate(0o755);
        nix::sys::stat::mkdirat(self.dir.as_fd(), name.as_str(), mode)
            .map_err(|errno| self.fail_below(Path::new(name.as_str()), "mkdirat", Errno(errno as i32)))
    }

    /// Removes a directory that was made for something that then failed.
    pub(crate) fn remove_made(&self, name: &CgroupName) -> Result<()> {
        let name = Path::new(name.as_str());
        remove::rmdir(self.dir.as_fd(), name).map_err(|errno| self.fail_below(name, "unlinkat", errno))
    }

    /// The error of an operation on the group `name` below this one: Gone only when this one is.
    fn fail_below(&self, name: &Path, operation: &'static str, errno: Errno) -> Error {
        if vanished(errno) && !self.exists() {
            return self.fail(operation, errno);
        }
        Error::from_errno(operation, errno.0).on(self.path.join(name)).with_hints(&crate::hint::HINTS)
    }
}

/// `error`, with what went wrong when its traces were removed.
pub(crate) fn with_more(error: Error, undone: Result<()>) -> Error {
    match undone {
        Ok(()) => error,
        Err(more) => Error::all([error, more]).err().unwrap_or_else(|| Error::other("undo", "no error")),
    }
}
