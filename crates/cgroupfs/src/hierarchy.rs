//! Finding the cgroup2 file system and one's own group in it.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use cellkit_core::{Errno, ProcFd, ProcView, ProcessDir};

use crate::hint::HINTS;
use crate::proc_text::{CgroupMount, Membership, below, parse_membership, parse_mount_id, parse_mounts};
use crate::{Cgroup, Error, Features, Result, open};

/// How the machine divides its controllers between the two versions of control groups.
///
/// ```no_run
/// use cgroupfs::{Hierarchy, Layout};
///
/// if Hierarchy::detect()?.layout() == Layout::Hybrid {
///     println!("version 1 holds some controllers");
/// }
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See cgroups(7): <https://man7.org/linux/man-pages/man7/cgroups.7.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// Version 2 has them all.
    Unified,
    /// Version 1 hierarchies hold some: groups can be made, killed and frozen, but what version 1 holds cannot limit
    /// them. [`Cgroup::why_not`] says which and why.
    Hybrid,
    /// Version 2 is not mounted, or cannot be seen from here: only [`Layout::detect`] answers this, for there is no
    /// [`Hierarchy`] then.
    None,
}

impl Layout {
    /// What there is, for who only asks. [`Hierarchy::detect`] answers [`None`](Self::None) with an error that says what to
    /// do.
    ///
    /// ```
    /// use cgroupfs::Layout;
    ///
    /// if Layout::detect()? == Layout::None {
    ///     println!("no limits here");
    /// }
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of reading procfs; Invalid when what is mounted as cgroup2 is covered by something else.
    pub fn detect() -> Result<Self> {
        match Hierarchy::detect() {
            Ok(hierarchy) => Ok(hierarchy.layout()),
            Err(error) if error.kind() == crate::ErrorKind::Unsupported => Ok(Self::None),
            Err(error) => Err(error),
        }
    }
}

/// The mounted cgroup2 file system, as the calling process sees it.
///
/// * Kernel files: `/proc/PID/mountinfo`, `/proc/PID/cgroup`; statfs(2) for CGROUP2_SUPER_MAGIC.
/// * Privileges: none.
///
/// What it knows of the calling process is how things were when it was made.
///
/// ```no_run
/// use cgroupfs::{Controller, Hierarchy};
///
/// let hierarchy = Hierarchy::detect()?;
/// println!("{:?} at {:?}", hierarchy.layout(), hierarchy.mount_point());
/// if let Some(why_not) = hierarchy.place()?.why_not(Controller::Memory) {
///     println!("{why_not}\n{}", why_not.what_to_do());
/// }
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See cgroups(7): <https://man7.org/linux/man-pages/man7/cgroups.7.html>.
#[derive(Clone, Debug)]
pub struct Hierarchy(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub root: OwnedFd,
    pub mount_point: PathBuf,
    /// Which group the root is, as this cgroup namespace names it; unknown for a mount that is not in the mount table.
    root_group: Option<PathBuf>,
    pub membership: Membership,
    /// The options of the mount, such as `nsdelegate`.
    options: Vec<String>,
}

impl Hierarchy {
    /// Finds where cgroup2 is mounted, anywhere. Of several mounts it takes one that shows the calling process's own
    /// group and the most of what is above it.
    ///
    /// # Errors
    /// Unsupported when none is mounted; Invalid when what is mounted there is covered by something else.
    pub fn detect() -> Result<Self> {
        by_this_thread(Self::detect_as)
    }

    /// The same, by a procfs that the caller has already.
    ///
    /// # Errors
    /// As [`detect`](Self::detect).
    pub fn detect_by(proc: &ProcFd) -> Result<Self> {
        Self::detect_as(&proc.this_thread()?)
    }

    fn detect_as(thread: &ProcessDir) -> Result<Self> {
        let own = Own::read(thread)?;
        let mut candidates: Vec<&CgroupMount> = own.mounts.iter().filter(|mount| mount.v2).collect();
        candidates.sort_by_key(|mount| (own.group_below(&mount.root).is_none(), mount.root.components().count()));
        let mut refused = None;
        for mount in candidates {
            match open::cgroup2_directory(&mount.mount_point) {
                // Something else of cgroup2 may be mounted over it.
                Ok(root) if mount_id(thread, &root)?.is_some_and(|id| id != mount.id) => {}
                Ok(root) => {
                    return Ok(own.hierarchy(root, mount.mount_point.clone(), Some(mount.root.clone()), Some(mount)));
                }
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or_else(|| {
            let why = "cgroup v2 (no cgroup2 file system is mounted)";
            Error::unsupported("read mountinfo", why, None).with_hint(
                "mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup; or boot with systemd.unified_cgroup_hierarchy=1",
            )
        }))
    }

    /// Takes the directory `dir`, verified to be of a cgroup2 file system, as the top of all that is done.
    ///
    /// # Errors
    /// Invalid when it is of another file system, whatever files are in it; the errno of fcntl(2).
    pub fn at(dir: impl AsFd) -> Result<Self> {
        // A private one: the link that says where the directory is cannot be verified in another.
        let thread = ProcFd::open(ProcView::Processes)?.this_thread()?;
        let root = dir.as_fd().try_clone_to_owned().map_err(|error| Error::from_io("fcntl F_DUPFD_CLOEXEC", &error))?;
        let path = path_of(&thread, &root)?;
        open::require_cgroup2(&root, &path)?;
        let own = Own::read(&thread)?;
        let id = mount_id(&thread, &root)?;
        let mount = own.mounts.iter().find(|mount| Some(mount.id) == id);
        let root_group = mount.and_then(|mount| Some(mount.root.join(path.strip_prefix(&mount.mount_point).ok()?)));
        Ok(own.hierarchy(root, path, root_group, mount))
    }

    /// Whether version 1 holds some of the controllers.
    #[must_use]
    pub fn layout(&self) -> Layout {
        if self.0.membership.held_by_v1.is_empty() { Layout::Unified } else { Layout::Hybrid }
    }

    /// Where it is mounted; of [`at`](Self::at), the path of that directory.
    #[must_use]
    pub fn mount_point(&self) -> &Path {
        &self.0.mount_point
    }

    /// The features that are in effect on this mount, of those that [`Features::of_kernel`] lists. With
    /// [`NsDelegate`](crate::Feature::NsDelegate) nobody in a cgroup namespace changes the limits of its root.
    #[must_use]
    pub fn mounted_with(&self) -> Features {
        Features::of_words(self.0.options.iter().map(String::as_str).filter(|word| *word != "rw" && *word != "ro"))
    }

    /// The path of `group` as the calling process's cgroup namespace has it: what `/proc/PID/cgroup` says of a process in
    /// it. `None` for a mount that is not in the mount table.
    #[must_use]
    pub fn path_in_namespace(&self, group: &Cgroup) -> Option<PathBuf> {
        let below = group.path().strip_prefix(self.mount_point()).ok()?;
        Some(self.0.root_group.as_ref()?.join(below).components().collect())
    }

    /// The path of `group` as the initial cgroup namespace has it, where that can be known: when the mount shows the root
    /// of everything. From inside of a cgroup namespace the names above its root are hidden, and the answer is `None`.
    ///
    /// # Errors
    /// Gone when the root of what is mounted has been removed.
    pub fn path_in_initial_namespace(&self, group: &Cgroup) -> Result<Option<PathBuf>> {
        let top = self.open("/")?;
        let below = group.path().strip_prefix(self.mount_point()).ok();
        Ok(below.filter(|_| top.is_root().unwrap_or(false)).map(|below| Path::new("/").join(below)))
    }

    /// The group of a process: `/proc/PID/cgroup`.
    ///
    /// ```no_run
    /// use cgroupfs::{Hierarchy, Result};
    /// use std::os::fd::OwnedFd;
    ///
    /// fn whereabouts(pidfd: &OwnedFd) -> Result<()> {
    ///     println!("{:?}", Hierarchy::detect()?.group_of(pidfd)?.path());
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// Gone when the process has ended, or its group has been removed; NotFound when the mount does not show its group.
    pub fn group_of(&self, pidfd: impl AsFd) -> Result<Cgroup> {
        let process = ProcFd::open(ProcView::Processes)?.process(pidfd)?;
        self.open(Path::new("/").join(self.below_root(&parse_membership(&process.read("cgroup".as_ref())?))?))
    }

    /// The group of the calling process.
    ///
    /// # Errors
    /// NotFound when the mount does not show it; Gone when it has been removed while the process stayed in it.
    pub fn own_group(&self) -> Result<Cgroup> {
        self.open(Path::new("/").join(self.own_below()?))
    }

    /// openat2(2): the group at `path` below the mounted hierarchy, such as `/user.slice`. `/` is the root.
    ///
    /// # Errors
    /// NotFound when there is none; Invalid when there is `..` in the path.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Cgroup> {
        let mut relative = PathBuf::from(".");
        for part in path.as_ref().components() {
            match part {
                Component::Normal(name) => relative.push(name),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(Error::invalid("openat2", "this path has a .. in it").on(path.as_ref()));
                }
            }
        }
        let path: PathBuf = self.0.mount_point.join(&relative).components().collect();
        match open::beneath(self.0.root.as_fd(), &relative, open::DIRECTORY) {
            Ok(dir) => Ok(Cgroup { dir, path, mount_point: self.0.mount_point.clone() }),
            Err(errno) => Err(Error::from_errno("openat2", errno.0).on(path).with_hints(&HINTS)),
        }
    }

    /// Where the calling process's group is below the root.
    pub(crate) fn own_below(&self) -> Result<PathBuf> {
        self.below_root(&self.0.membership)
    }

    fn below_root(&self, membership: &Membership) -> Result<PathBuf> {
        const READ: &str = "read /proc/PID/cgroup";
        let Some(own) = &membership.v2 else {
            return Err(Error::unsupported(READ, "cgroup v2", Some("4.5")));
        };
        if membership.deleted {
            // Whoever owns a group may have given one below it a name that ends like this, to be taken for gone.
            let written = membership.as_written();
            let named = written.as_deref().and_then(|path| below(path, self.0.root_group.as_ref()?));
            return named
                .filter(|path| open::beneath(self.0.root.as_fd(), &Path::new(".").join(path), open::DIRECTORY).is_ok())
                .ok_or_else(|| Error::gone(READ, None).on(own.clone()));
        }
        self.0.root_group.as_ref().and_then(|root| below(own, root)).ok_or_else(|| {
            Error::from_errno(READ, libc::ENOENT).on(own.clone()).with_hint(format!(
                "the cgroup2 file system at {:?} does not show the process's group: mount one in this cgroup \
                 namespace (mount -t cgroup2 cgroup2 /sys/fs/cgroup)",
                self.0.mount_point
            ))
        })
    }
}

impl AsFd for Hierarchy {
    /// The root's directory.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.root.as_fd()
    }
}

/// What /proc says of the calling thread.
pub(crate) struct Own {
    pub mounts: Vec<CgroupMount>,
    pub membership: Membership,
}

impl Own {
    pub(crate) fn read(thread: &ProcessDir) -> Result<Self> {
        // Of the thread, for another thread of the process may have a mount namespace of its own.
        let mounts = parse_mounts(&thread.read("mountinfo".as_ref())?);
        let membership = parse_membership(&thread.read("cgroup".as_ref())?);
        Ok(Self { mounts, membership })
    }

    fn group_below(&self, root: &Path) -> Option<PathBuf> {
        below(self.membership.v2.as_deref()?, root)
    }

    fn hierarchy(
        &self,
        root: OwnedFd,
        mount_point: PathBuf,
        root_group: Option<PathBuf>,
        mount: Option<&CgroupMount>,
    ) -> Hierarchy {
        let options = mount.map(|mount| mount.super_options.clone()).unwrap_or_default();
        Hierarchy(Arc::new(Inner { root, mount_point, root_group, membership: self.membership.clone(), options }))
    }
}

/// Reads something of what /proc has of the calling thread.
///
/// The machine's own procfs has it, and making a private one would cost more than all the rest of [`Hierarchy::detect`]. It
/// is verified to be one, as is each file in it, and it finds the calling thread by itself, whatever pid namespace it is of.
/// Where that fails, for want of a /proc or because something is mounted over it, a private one is made.
pub(crate) fn by_this_thread<T>(read: impl Fn(&ProcessDir) -> Result<T>) -> Result<T> {
    match ProcFd::of_the_machine().and_then(|proc| read(&proc.this_thread()?)) {
        Ok(found) => Ok(found),
        Err(_) => read(&ProcFd::open(ProcView::Processes)?.this_thread()?),
    }
}

/// The mount a descriptor is on, if /proc says so.
fn mount_id(thread: &ProcessDir, fd: &OwnedFd) -> Result<Option<u64>> {
    match thread.read(&Path::new("fdinfo").join(fd.as_raw_fd().to_string())) {
        Ok(text) => Ok(parse_mount_id(&text)),
        // Something else is in its place.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EXDEV | libc::ELOOP)) => Err(error),
        Err(_) => Ok(None),
    }
}

/// readlink(2): what /proc calls the directory. Only ever shown and recorded, never opened.
fn path_of(thread: &ProcessDir, fd: &OwnedFd) -> Result<PathBuf> {
    let link = Path::new("fd").join(fd.as_raw_fd().to_string());
    let target: OsString = nix::fcntl::readlinkat(thread.as_fd(), link.as_path()).map_err(|errno| {
        Error::from_errno("readlinkat", Errno(errno as i32).0).on(Path::new("/proc/thread-self").join(&link))
    })?;
    Ok(match target.as_bytes().strip_suffix(b" (deleted)") {
        Some(path) => PathBuf::from(std::ffi::OsStr::from_bytes(path)),
        None => PathBuf::from(target),
    })
}
