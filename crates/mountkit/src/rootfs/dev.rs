//! `/dev` as its caller describes it.
#![forbid(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use cellkit_core::{Error, Result, Subject};

use super::{Rootfs, absolute};
use crate::host_path::io_error;
use crate::in_root::InRootPath;
use crate::shared_fd::SharedFd;
use crate::sys;

/// Names that [`Rootfs::dev`] makes in `/dev`.
pub(super) const NAMES: [&str; 15] = [
    "null", "zero", "full", "random", "urandom", "tty", "ptmx", "fd", "stdin", "stdout", "stderr", "pts", "shm",
    "mqueue", "console",
];

/// How the device nodes of `/dev` come there.
///
/// ```
/// use mountkit::{DeviceNodes, Rootfs};
///
/// let rootfs = Rootfs::overlay_of_host().dev().device_nodes(DeviceNodes::Made);
/// assert!(rootfs.steps()?.to_string().contains("S_IFCHR|0o666, makedev(1, 3)"));
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// See mknod(2): <https://man7.org/linux/man-pages/man2/mknod.2.html>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceNodes {
    /// Each is a bind of the host's own, checked to be that device. It works in a user namespace, and `/dev` itself is
    /// nodev: a node that the container makes there opens nothing.
    #[default]
    Bound,
    /// Each is made by mknod(2). That needs CAP_MKNOD in the machine's first user namespace, and a `/dev` where the
    /// container's own nodes work too: only a device filter of its control group then says which it may open. For a host
    /// whose `/dev` lacks some of them.
    #[doc(alias = "mknod")]
    Made,
}

/// What is on `/dev/console`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Console {
    #[default]
    Absent,
    /// An empty file, which somebody mounts a terminal on later.
    Place,
    Terminal(SharedFd),
}

/// All that was said of `/dev`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dev {
    pub(crate) wanted: bool,
    pub(crate) nodes: DeviceNodes,
    pub(crate) more: Vec<PathBuf>,
    pub(crate) console: Console,
    pub(crate) tty_gid: Option<u32>,
    pub(crate) shm_size: Option<u64>,
}

/// A device node beside those that every container has.
#[derive(Debug)]
pub(crate) struct Device {
    /// Below `/dev`.
    pub(crate) place: InRootPath,
    /// S_IFCHR or S_IFBLK, and the permissions.
    pub(crate) mode: u32,
    pub(crate) rdev: (u32, u32),
}

impl Rootfs {
    /// A tmpfs on `/dev` with the devices every program expects (null zero full random urandom tty), `ptmx` and a new
    /// devpts, `shm`, `mqueue`, and the links `fd stdin stdout stderr`.
    ///
    /// The devices are binds of the host's, each checked to be that device, and read-only, so that the host's node keeps
    /// its mode and owner. Everything else in the container (the root, volumes that are directories, the tmpfs here) is
    /// nodev: a node that an image brings, or that the container makes with CAP_MKNOD, opens no device. A device that is
    /// a volume of its own works. Another way is [`device_nodes`](Self::device_nodes).
    #[doc(alias = "devpts")]
    #[doc(alias = "mqueue")]
    #[doc(alias = "mknod")]
    pub fn dev(mut self) -> Self {
        self.dev.wanted = true;
        self
    }

    /// How the nodes of [`dev`](Self::dev) come there.
    #[doc(alias = "mknod")]
    pub fn device_nodes(mut self, nodes: DeviceNodes) -> Self {
        self.dev.nodes = nodes;
        self
    }

    /// One more device of the host: the node `path`, at the same place in the container's `/dev`, with its own mode. Whether
    /// it may be opened is also the device filter's to say, where the container's control group has one.
    pub fn device(mut self, path: impl AsRef<Path>) -> Self {
        self.dev.more.push(path.as_ref().into());
        self
    }

    /// `gid=` of the devpts: the group that terminals belong to, by its number inside the user namespace. It must be
    /// mapped there. By default 5, or the child's own where it is [`unprivileged`](Self::unprivileged).
    #[doc(alias = "devpts")]
    pub fn tty_gid(mut self, gid: u32) -> Self {
        self.dev.tty_gid = Some(gid);
        self
    }

    /// `size=` of the tmpfs on `/dev/shm`, in bytes, 64 MiB by default.
    #[doc(alias = "shm-size")]
    pub fn shm_size(mut self, bytes: u64) -> Self {
        self.dev.shm_size = Some(bytes);
        self
    }

    /// An empty file `/dev/console`, for a terminal to be mounted on: `ns_core::Command::terminal` does so.
    pub fn console(mut self) -> Self {
        self.dev.console = Console::Place;
        self
    }

    /// The node of `terminal`, the payload's end of a pseudo terminal, on `/dev/console`.
    ///
    /// [`steps`](Self::steps) clones the mount of the descriptor itself, so that no name of a terminal is looked up
    /// anywhere, and the child mounts it after everything that is hidden is hidden. Such steps serve one start.
    ///
    /// * Privileges: CAP_SYS_ADMIN over the *caller's* mount namespace. Without it use [`console`](Self::console) and a
    ///   terminal of the container's own devpts.
    ///
    /// ```no_run
    /// use mountkit::Rootfs;
    ///
    /// let terminal = std::fs::File::open("/dev/pts/3").map_err(|error| mountkit::Error::from_io("open", &error))?;
    /// let rootfs = Rootfs::bind("/srv/root").dev().console_of(terminal);
    /// # let _ = rootfs;
    /// # Ok::<(), mountkit::Error>(())
    /// ```
    #[doc(alias = "TIOCGPTPEER")]
    pub fn console_of(mut self, terminal: impl Into<OwnedFd>) -> Self {
        self.dev.console = Console::Terminal(terminal.into().into());
        self
    }
}

impl Dev {
    pub(super) fn check(&self, unprivileged: bool) -> Result<()> {
        if self.tty_gid == Some(u32::MAX) {
            return Err(Error::invalid("fsconfig", "4294967295 is not a group").on(Path::new("/dev/pts")));
        }
        if let Some(bytes @ 0) | Some(bytes @ 0x8000_0000_0000_0000..) = self.shm_size {
            let why = format!("{bytes} bytes are no size: at least 1, at most what a file can have");
            return Err(Error::invalid("fsconfig", why).on(Path::new("/dev/shm")));
        }
        if unprivileged && self.nodes == DeviceNodes::Made {
            let why = "device nodes cannot be made in a user namespace: leave them DeviceNodes::Bound";
            return Err(Error::invalid("mknodat", why).on(Path::new("/dev")));
        }
        if let Some(path) = self.more.first().filter(|_| !self.wanted) {
            return Err(Error::invalid("mknodat", "a device needs a /dev to be in: say dev()").on(&**path));
        }
        if self.console != Console::Absent && !self.wanted {
            return Err(
                Error::invalid("mknodat", "a console needs a /dev to be in: say dev()").on(Path::new("/dev/console"))
            );
        }
        if let Console::Terminal(fd) = &self.console {
            check_terminal(fd)?;
        }
        self.devices().map(drop)
    }

    /// The nodes asked for, as they are on the host now.
    pub(crate) fn devices(&self) -> Result<Vec<(&Path, Device)>> {
        let mut found: Vec<(&Path, Device)> = Vec::new();
        for path in &self.more {
            let device = device(path)?;
            if let Some((earlier, _)) =
                found.iter().find(|(_, other)| other.place.covers(&device.place) || device.place.covers(&other.place))
            {
                let why = format!("it would be in the way of {earlier:?}, which was asked for before");
                return Err(Error::invalid("mknodat", why).on(&**path));
            }
            found.push((path, device));
        }
        Ok(found)
    }
}

fn device(path: &Path) -> Result<Device> {
    let refuse = |why: &str| Err(Error::invalid("mknodat", why.to_owned()).on(path));
    let whole = absolute("mknodat", path)?;
    let Some(below) = path.strip_prefix("/dev").ok().filter(|below| !below.as_os_str().is_empty()) else {
        return refuse("a device is named by its path below /dev");
    };
    let first = whole.names().nth(1).unwrap_or_default();
    if NAMES.iter().any(|name| name.as_bytes() == first) {
        return refuse("this place belongs to the container's own /dev");
    }
    // The path is the host's own, and the caller's word: its links are followed.
    let metadata = std::fs::metadata(path).map_err(|error| io_error("open", &error, path))?;
    let kind = metadata.file_type();
    if !kind.is_char_device() && !kind.is_block_device() {
        return refuse("it is not a device");
    }
    let rdev = metadata.rdev();
    let place = InRootPath::new("mknodat", below)?;
    Ok(Device { place, mode: metadata.mode(), rdev: (libc::major(rdev), libc::minor(rdev)) })
}

/// The terminals of devpts have these major numbers.
fn check_terminal(fd: &SharedFd) -> Result<()> {
    use std::os::fd::AsFd;
    let subject = || Subject::Thing(format!("fd {}", fd.as_fd().as_raw_fd()));
    let stat = sys::statx(fd.as_fd().as_raw_fd()).map_err(|errno| Error::from_errno("statx", errno.0).on(subject()))?;
    if !stat.is(libc::S_IFCHR) || !(136..=143).contains(&stat.rdev.0) {
        let why = "it is not the payload's end of a pseudo terminal, a device of /dev/pts";
        return Err(Error::invalid("open_tree", why).on(subject()));
    }
    Ok(())
}
