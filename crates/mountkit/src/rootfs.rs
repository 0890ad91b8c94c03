//! The root file system of a container, as its caller describes it.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cellkit_core::{ChildSteps, Error, Result};

use crate::in_root::InRootPath;
use crate::{Tmpfs, Volume, plan};

/// Names that [`Rootfs::dev`] makes in `/dev`.
pub(crate) const DEV_NAMES: [&str; 15] = [
    "null", "zero", "full", "random", "urandom", "tty", "ptmx", "fd", "stdin", "stdout", "stderr", "pts", "shm",
    "mqueue", "console",
];

/// What the default masks hide: each tells about, or reaches into, the machine and not the container.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What the default masks make read-only: the knobs of the machine.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// How `/sys` is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sys {
    /// A new sysfs, read-only. It shows the network devices of the child's own network namespace, which the child's user
    /// namespace must own.
    Fresh,
    /// The host's `/sys` and all that is mounted below it, read-only: where the network namespace is the host's.
    BindOfHost,
}

/// What the root is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    OverlayOfHost,
    Overlay(PathBuf),
    Bind(PathBuf),
}

/// A mount that the caller asked for, in the order of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mount {
    Volume(Volume),
    Tmpfs(PathBuf, Tmpfs),
}

impl Mount {
    pub(crate) fn target(&self) -> &Path {
        match self {
            Self::Volume(volume) => volume.target(),
            Self::Tmpfs(target, _) => target,
        }
    }
}

/// A root file system for a container: what `/` is, and what is mounted in it.
///
/// Setters collect and never fail. [`check`](Self::check) looks at everything that can be looked at without privilege;
/// [`steps`](Self::steps) turns it into the list of system calls that the cloned child makes in its new mount namespace.
/// After the last of them `/` is the new root, the old one is detached, and the working directory is `/`.
///
/// * Calls: [mount_setattr(2)](https://man7.org/linux/man-pages/man2/mount_setattr.2.html),
///   [open_tree(2)](https://man7.org/linux/man-pages/man2/open_tree.2.html),
///   [fsopen(2)](https://man7.org/linux/man-pages/man2/fsopen.2.html),
///   [fsconfig(2)](https://man7.org/linux/man-pages/man2/fsconfig.2.html),
///   [fsmount(2)](https://man7.org/linux/man-pages/man2/fsmount.2.html),
///   [move_mount(2)](https://man7.org/linux/man-pages/man2/move_mount.2.html),
///   [openat2(2)](https://man7.org/linux/man-pages/man2/openat2.2.html),
///   [pivot_root(2)](https://man7.org/linux/man-pages/man2/pivot_root.2.html).
/// * Kernel: 5.15 or newer. Overlays of an unprivileged child keep deleted-and-made-again directories apart only from
///   6.6 on, where tmpfs can hold the attributes that needs; before, such a directory cannot be made again (EIO or EPERM).
/// * Privileges: CAP_SYS_ADMIN in the user namespace that owns the child's mount namespace, which a child in a new user
///   namespace has: then say [`unprivileged`](Self::unprivileged).
/// * The child's umask must be 0 while the steps run, and no other thread may share its mount namespace or file system
///   state.
///
/// ```
/// use mountkit::{Rootfs, Sys, Volume};
///
/// let rootfs = Rootfs::overlay_of_host().proc().sys(Sys::Fresh).dev().mask_defaults().read_only();
/// let steps = rootfs.steps()?;
/// assert_eq!(steps.describe()[0].call, "mount_setattr");
/// # Ok::<(), mountkit::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(alias = "pivot_root")]
#[must_use]
pub struct Rootfs {
    pub(crate) base: Base,
    pub(crate) read_only: bool,
    pub(crate) unprivileged: bool,
    pub(crate) proc: bool,
    pub(crate) sys: Option<Sys>,
    pub(crate) cgroup: bool,
    pub(crate) dev: bool,
    pub(crate) console: bool,
    pub(crate) tty_gid: Option<u32>,
    pub(crate) masked: Vec<PathBuf>,
    pub(crate) read_only_paths: Vec<PathBuf>,
    pub(crate) mounts: Vec<Mount>,
}

impl Rootfs {
    fn new(base: Base) -> Self {
        Self {
            base,
            read_only: false,
            unprivileged: false,
            proc: false,
            sys: None,
            cgroup: false,
            dev: false,
            console: false,
            tty_gid: None,
            masked: Vec::new(),
            read_only_paths: Vec::new(),
            mounts: Vec::new(),
        }
    }

    /// The machine's own `/`, with what the container writes kept in a tmpfs that goes away with it:
    /// `mount -t overlay -o lowerdir=/,upperdir=…,workdir=…`.
    ///
    /// `/tmp` and `/run` are empty and writable; `/proc`, `/sys` and `/dev` hold nothing that runs unless asked for. A directory
    /// directly below `/` that is a mount of its own (a separate `/home`) gets an overlay of its own; what is mounted
    /// deeper is not seen.
    ///
    /// An [`unprivileged`](Self::unprivileged) child may not take the host's mounts apart, so there every directory
    /// below `/` has its own overlay, and one that has mounts somewhere below it is seen with them, but read-only. A
    /// directory that the caller may not read is empty. [`steps`](Self::steps) reads `/` and /proc/self/mountinfo for it.
    #[doc(alias = "lowerdir")]
    pub fn overlay_of_host() -> Self {
        Self::new(Base::OverlayOfHost)
    }

    /// The directory `lowerdir`, with what the container writes kept in a tmpfs that goes away with it:
    /// `mount -t overlay -o lowerdir=DIR,upperdir=…,workdir=…`. Nothing is written to the directory itself.
    ///
    /// The path may hold any byte but NUL. What is mounted below it is not seen; an
    /// [`unprivileged`](Self::unprivileged) child may not have such mounts there at all.
    #[doc(alias = "lowerdir")]
    #[doc(alias = "upperdir")]
    #[doc(alias = "workdir")]
    pub fn overlay(lowerdir: impl AsRef<Path>) -> Self {
        Self::new(Base::Overlay(lowerdir.as_ref().into()))
    }

    /// The directory `dir` itself, with all that is mounted below it: `mount --rbind`. The container writes into it, and
    /// directories that are missing for mounts (`/proc`, targets of volumes) are made in it; with
    /// [`read_only`](Self::read_only) neither happens.
    #[doc(alias = "MS_BIND")]
    pub fn bind(dir: impl AsRef<Path>) -> Self {
        Self::new(Base::Bind(dir.as_ref().into()))
    }

    /// The container cannot write to its root. Volumes, tmpfs mounts, `/dev/shm`, and the `/tmp` and `/run` of an overlay
    /// of the host stay as they are.
    #[doc(alias = "MOUNT_ATTR_RDONLY")]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// The child is in a user namespace other than the machine's first: overlays are made with `userxattr`, and device
    /// nodes are binds of the host's, because there `mknod` is not allowed.
    #[doc(alias = "userxattr")]
    #[doc(alias = "CLONE_NEWUSER")]
    pub fn unprivileged(mut self) -> Self {
        self.unprivileged = true;
        self
    }

    /// A new procfs on `/proc` (nosuid, nodev, noexec), of the child's pid namespace.
    #[doc(alias = "procfs")]
    pub fn proc(mut self) -> Self {
        self.proc = true;
        self
    }

    /// `/sys`, read-only (nosuid, nodev, noexec).
    #[doc(alias = "sysfs")]
    pub fn sys(mut self, sys: Sys) -> Self {
        self.sys = Some(sys);
        self
    }

    /// A cgroup2 file system on `/sys/fs/cgroup`, read-only (nosuid, nodev, noexec), as seen from the child's cgroup
    /// namespace.
    ///
    /// That must be a new one: a cgroup2 mounted from the machine's first cgroup namespace sets the mount options of all
    /// of them, such as `nsdelegate`.
    #[doc(alias = "cgroup2")]
    pub fn cgroup(mut self) -> Self {
        self.cgroup = true;
        self
    }

    /// A tmpfs on `/dev` with the devices every program expects (null zero full random urandom tty), `ptmx` and a new
    /// devpts, `shm`, `mqueue`, and the links `fd stdin stdout stderr`.
    ///
    /// The devices are binds of the host's, each checked to be that device, and read-only, so that the host's node keeps
    /// its mode and owner. Everything else in the container (the root, volumes that are directories, the tmpfs here) is
    /// nodev: a node that an image brings, or that the container makes with CAP_MKNOD, opens no device. A device that is
    /// a volume of its own works.
    #[doc(alias = "devpts")]
    #[doc(alias = "mqueue")]
    #[doc(alias = "mknod")]
    pub fn dev(mut self) -> Self {
        self.dev = true;
        self
    }

    /// `gid=` of the devpts: the group that terminals belong to, by its number inside the user namespace. It must be
    /// mapped there. By default 5, or the child's own where it is [`unprivileged`](Self::unprivileged).
    #[doc(alias = "devpts")]
    pub fn tty_gid(mut self, gid: u32) -> Self {
        self.tty_gid = Some(gid);
        self
    }

    /// An empty file `/dev/console`, for a terminal to be mounted on.
    pub fn console(mut self) -> Self {
        self.console = true;
        self
    }

    /// Hides `paths` behind an empty read-only file or directory. One that does not exist is passed over.
    pub fn mask<P: AsRef<Path>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.masked.extend(paths.into_iter().map(|path| path.as_ref().to_owned()));
        self
    }

    /// Makes `paths`, and what is mounted below them, read-only. One that does not exist is passed over.
    pub fn readonly_paths<P: AsRef<Path>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.read_only_paths.extend(paths.into_iter().map(|path| path.as_ref().to_owned()));
        self
    }

    /// Hides and protects the parts of `/proc` and `/sys` that belong to the machine: hidden are acpi, asound,
    /// interrupts, kcore, keys, latency_stats, sched_debug, scsi, timer_list and timer_stats of `/proc`, and
    /// devices/virtual/powercap and firmware of `/sys`; read-only are bus, fs, irq, sys and sysrq-trigger of `/proc`.
    pub fn mask_defaults(self) -> Self {
        self.mask(MASKED).readonly_paths(READ_ONLY)
    }

    /// Mounts a directory or file of the host. Volumes and tmpfs mounts are made in the order of asking, before `/proc`,
    /// `/sys` and `/dev`, and those below `/dev` after it.
    pub fn volume(mut self, volume: Volume) -> Self {
        self.mounts.push(Mount::Volume(volume));
        self
    }

    /// Mounts an empty tmpfs on `target`.
    pub fn tmpfs(mut self, target: impl AsRef<Path>, options: Tmpfs) -> Self {
        self.mounts.push(Mount::Tmpfs(target.as_ref().into(), options));
        self
    }

    /// Checks everything that can be checked without privilege and without making anything.
    ///
    /// # Errors
    /// * NotFound or Invalid: the root directory or a volume's source does not exist (ENOENT) or is no directory
    ///   (ENOTDIR).
    /// * Invalid: a target is relative, `/` itself, has `..` in it, is one this crate mounts (`/proc`, `/sys`, `/dev`,
    ///   ...), or hides an earlier one; a tmpfs size is 0 or too large; a path has a NUL byte in it.
    pub fn check(&self) -> Result<()> {
        match &self.base {
            Base::OverlayOfHost => {}
            Base::Overlay(dir) | Base::Bind(dir) => {
                open_dir(dir)?;
                let path = std::fs::canonicalize(dir).map_err(|error| io_error("realpath", &error, dir))?;
                if path == Path::new("/") {
                    let why = "the machine's own root can only be the root of a container by overlay_of_host()";
                    return Err(Error::invalid("open", why).on(&**dir));
                }
            }
        }
        let mut targets: Vec<InRootPath> = Vec::new();
        for mount in &self.mounts {
            let target = absolute("move_mount", mount.target())?;
            self.check_target(&target, mount.target())?;
            if let Some(earlier) = targets.iter().find(|earlier| target.covers(earlier)) {
                let why =
                    format!("it would hide what is mounted before it on {:?}", Path::new("/").join(earlier.shown()));
                return Err(Error::invalid("move_mount", why).on(mount.target()));
            }
            targets.push(target);
            match mount {
                Mount::Volume(volume) => drop(volume.check()?),
                Mount::Tmpfs(target, options) => drop(options.recipe().map_err(|error| error.on(&**target))?),
            }
        }
        for path in self.masked.iter().chain(&self.read_only_paths) {
            absolute("move_mount", path)?;
        }
        if self.tty_gid == Some(u32::MAX) {
            return Err(Error::invalid("fsconfig", "4294967295 is not a group").on(Path::new("/dev/pts")));
        }
        Ok(())
    }

    fn check_target(&self, target: &InRootPath, shown: &Path) -> Result<()> {
        let mut names = target.names().map(OsStr::from_bytes);
        let taken = match (names.next(), names.next()) {
            (Some(top), _) if top == "proc" || top == "sys" => true,
            (Some(top), None) => top == "dev",
            (Some(top), Some(name)) if top == "dev" && self.dev => DEV_NAMES.iter().any(|made| name == *made),
            _ => false,
        };
        if taken {
            let why = "this place belongs to the container's own /proc, /sys or /dev";
            return Err(Error::invalid("move_mount", why).on(shown));
        }
        Ok(())
    }

    /// The system calls that make this root, in order, for `ns-core` to run in the cloned child.
    ///
    /// It makes nothing itself. For an overlay it looks at the lower directory (mode, owner, mount flags), for one of the
    /// host also at what is directly below `/`, and for an unprivileged child at /proc/self/mountinfo.
    ///
    /// # Errors
    /// Those of [`check`](Self::check), and: Invalid when an unprivileged child's overlay would be on a directory that
    /// has mounts below it; what reading `/` and /proc/self/mountinfo answers.
    pub fn steps(&self) -> Result<ChildSteps> {
        self.check()?;
        plan::steps(self)
    }
}

/// A path of the container, from its root.
pub(crate) fn absolute(operation: &'static str, path: &Path) -> Result<InRootPath> {
    let inside = InRootPath::new(operation, path)?;
    if !path.is_absolute() {
        return Err(Error::invalid(operation, "a path of the container must begin with `/`").on(path));
    }
    if inside.is_root() {
        return Err(Error::invalid(operation, "`/` is the root itself").on(path));
    }
    Ok(inside)
}

/// Opens a directory of the host as a place only (O_PATH).
pub(crate) fn open_dir(dir: &Path) -> Result<std::fs::File> {
    if dir.as_os_str().is_empty() {
        return Err(Error::invalid("open", "the directory is an empty path"));
    }
    std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(dir)
        .map_err(|error| io_error("open", &error, dir))
}

/// The standard library answers a NUL byte without an errno.
pub(crate) fn io_error(operation: &'static str, error: &std::io::Error, path: &Path) -> Error {
    match error.raw_os_error() {
        Some(_) => Error::from_io(operation, error).on(path).with_hints(&crate::HINTS),
        None => Error::invalid(operation, "the path has a NUL byte in it").on(path),
    }
}

#[cfg(test)]
mod tests;
