//! The root file system of a container, as its caller describes it.
#![forbid(unsafe_code)]

mod base;
mod check;
mod dev;
mod enter;
mod missing;
mod source;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use cellkit_core::{ChildSteps, Result};

pub(crate) use self::base::{Base, Mount};
pub(crate) use self::check::{absolute, check_detached};
pub use self::dev::DeviceNodes;
pub(crate) use self::dev::{Console, Dev};
pub use self::missing::MissingTargets;
pub(crate) use self::source::Made;
pub use self::source::MountSource;
use crate::{Cgroup2, DetachedMount, MountAttr, Overlay, Proc, Propagation, Tmpfs, Volume, plan};

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
///
/// ```
/// use mountkit::{Rootfs, Sys};
///
/// let own_network = Rootfs::overlay_of_host().sys(Sys::Fresh);
/// let network_of_the_host = Rootfs::overlay_of_host().sys(Sys::BindOfHost);
/// # let _ = (own_network, network_of_the_host);
/// ```
///
/// See sysfs(5): <https://man7.org/linux/man-pages/man5/sysfs.5.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sys {
    /// A new sysfs, read-only. It shows the network devices of the child's own network namespace, which the child's user
    /// namespace must own.
    Fresh,
    /// The host's `/sys` and all that is mounted below it, read-only: where the network namespace is the host's.
    BindOfHost,
}

/// What is given up with [`Rootfs::without_pivot_root`], for the caller to spell out.
///
/// ```
/// use mountkit::{NoPivot, Rootfs};
///
/// let rootfs = Rootfs::overlay("/srv/base").without_pivot_root(NoPivot::InitramfsStaysBelow);
/// # let _ = rootfs;
/// ```
///
/// See chroot(2): <https://man7.org/linux/man-pages/man2/chroot.2.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoPivot {
    /// The initramfs, with its programs and secrets and what could not be unmounted, stays mounted below the new root.
    /// `..` and a second chroot do not lead there, as the new root is mounted on `/` itself. But whoever may unmount, with
    /// CAP_SYS_ADMIN in the user namespace of the container's mount namespace, unmounts the root and, by setns to its
    /// own mount namespace, is there. A container without that capability, and with no way to get it (`no_new_privs`, no
    /// new user namespaces), stays inside.
    InitramfsStaysBelow,
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
    pub(crate) proc: Option<Proc>,
    pub(crate) sys: Option<Sys>,
    pub(crate) cgroup: Option<Cgroup2>,
    pub(crate) dev: Dev,
    pub(crate) propagation: Propagation,
    pub(crate) no_pivot: bool,
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
            proc: None,
            sys: None,
            cgroup: None,
            dev: Dev::default(),
            propagation: Propagation::Private,
            no_pivot: false,
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

    /// As [`overlay`](Self::overlay), on a lower directory that the caller has mounted: an idmapped one, whose owners are
    /// then the container's, also for an [`unprivileged`](Self::unprivileged) child, that may not make such mounts.
    ///
    /// What is mounted below the root of `lower` is not seen. As with [`Rootfs::mount`], the steps serve one start. An
    /// idmapped layer takes Linux 5.19; before, the overlay is refused with EINVAL.
    ///
    /// ```no_run
    /// use mountkit::{Bind, MountAttr, Rootfs};
    ///
    /// # fn userns() -> std::fs::File { unimplemented!() }
    /// // With the maps of the user namespace that the child will be in: idmap::UsernsFd.
    /// let userns = userns();
    /// let base = Bind::new("/srv/base").idmap(&userns).set_user_id().attrs(MountAttr::RDONLY).mount()?;
    /// let rootfs = Rootfs::overlay_of(base).unprivileged();
    /// # let _ = rootfs;
    /// # Ok::<(), mountkit::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/filesystems/overlayfs.html>.
    #[doc(alias = "lowerdir")]
    #[doc(alias = "MOUNT_ATTR_IDMAP")]
    pub fn overlay_of(lower: DetachedMount) -> Self {
        let shown = lower.shown();
        Self::new(Base::OverlayOf(OwnedFd::from(lower).into(), shown))
    }

    /// An [`Overlay`] that the child makes itself, which it may in a user namespace too: of 1 to 500 layers, given by their
    /// paths. What is written goes to its upper directory, and where it has none to a tmpfs that goes away with the root.
    ///
    /// A child in the caller's user namespace can as well get it made: `Rootfs::from(overlay.mount()?)`; then layers may
    /// be descriptors, a missing work directory is made, and an upper directory in use is refused.
    ///
    /// ```
    /// use mountkit::{Overlay, Rootfs};
    ///
    /// let rootfs = Rootfs::overlay_of_layers(Overlay::new().lowers(["/usr", "/etc"])).unprivileged();
    /// rootfs.check()?;
    /// # Ok::<(), mountkit::Error>(())
    /// ```
    #[doc(alias = "lowerdir")]
    pub fn overlay_of_layers(overlay: Overlay) -> Self {
        Self::new(Base::Layers(overlay))
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
    pub fn proc(self) -> Self {
        self.proc_with(Proc::new())
    }

    /// As [`proc`](Self::proc), with options: processes only, or those of other users hidden.
    ///
    /// ```
    /// use mountkit::{HidePid, Proc, Rootfs};
    ///
    /// let rootfs = Rootfs::overlay_of_host().proc_with(Proc::new().hidepid(HidePid::Invisible));
    /// assert!(rootfs.steps()?.to_string().contains(r#""hidepid", "2""#));
    /// # Ok::<(), mountkit::Error>(())
    /// ```
    #[doc(alias = "hidepid")]
    #[doc(alias = "subset=pid")]
    pub fn proc_with(mut self, proc: Proc) -> Self {
        self.proc = Some(proc);
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
    pub fn cgroup(self) -> Self {
        self.cgroup_with(Cgroup2::new().attrs(MountAttr::RDONLY))
    }

    /// As [`cgroup`](Self::cgroup), and writable unless `cgroup` has MountAttr::RDONLY: for a container that makes groups of
    /// its own below its group, which must be delegated to it.
    #[doc(alias = "cgroup2")]
    pub fn cgroup_with(mut self, cgroup: Cgroup2) -> Self {
        self.cgroup = Some(cgroup);
        self
    }

    /// Hides `paths` behind an empty read-only file or directory. One that does not exist is passed over.
    pub fn mask<P: AsRef<Path>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.masked.extend(paths.into_iter().map(|path| path.as_ref().to_owned()));
        self
    }

    /// Makes `paths`, and what is mounted below them, read-only. One that does not exist is passed over.
    pub fn read_only_paths<P: AsRef<Path>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.read_only_paths.extend(paths.into_iter().map(|path| path.as_ref().to_owned()));
        self
    }

    /// Hides and protects the parts of `/proc` and `/sys` that belong to the machine: hidden are acpi, asound,
    /// interrupts, kcore, keys, latency_stats, sched_debug, scsi, timer_list and timer_stats of `/proc`, and
    /// devices/virtual/powercap and firmware of `/sys`; read-only are bus, fs, irq, sys and sysrq-trigger of `/proc`.
    pub fn mask_defaults(self) -> Self {
        self.mask(MASKED).read_only_paths(READ_ONLY)
    }

    /// Mounts a directory or file of the host. Volumes and tmpfs mounts are made in the order of asking, before `/proc`,
    /// `/sys` and `/dev`, and those below `/dev` after it.
    pub fn volume(mut self, volume: Volume) -> Self {
        self.mounts.push(Mount::Volume(volume));
        self
    }

    /// Mounts an empty tmpfs on `target`.
    pub fn tmpfs(self, target: impl AsRef<Path>, options: Tmpfs) -> Self {
        self.mount(options, target)
    }

    /// Mounts a tmpfs on `target` that begins with what the directory there holds: `tmpcopyup`. For a read-only root with a
    /// directory that is written to, such as `/etc`.
    ///
    /// The child copies it, below the root and what is mounted so far, before anybody else runs: kind, owner, mode, times,
    /// extended attributes and holes are kept, the mode and owner of the directory itself too (`options` may limit its
    /// size); links stay as they are. Device nodes are left out, since they could not be opened; hard links become files
    /// of their own; attributes that the tmpfs does not take or the child may not set are left out (`user.*` before
    /// Linux 6.6). At most 64 directories within one another. It takes time and memory as the content is large, so give a
    /// size.
    ///
    /// Steps with an error here: ENOSPC when the size is reached, ELOOP for a deeper tree, EAGAIN for a file that is exchanged
    /// meanwhile, ERANGE for an attribute of more than 4 KiB, or names of attributes that take more in all.
    ///
    /// ```
    /// use mountkit::{Rootfs, Tmpfs};
    ///
    /// let rootfs = Rootfs::overlay("/usr").read_only().tmpfs_copy_up("/share", Tmpfs::new().size(64 << 20));
    /// rootfs.check()?;
    /// # Ok::<(), mountkit::Error>(())
    /// ```
    #[doc(alias = "tmpcopyup")]
    pub fn tmpfs_copy_up(mut self, target: impl AsRef<Path>, options: Tmpfs) -> Self {
        self.mounts.push(Mount::CopyUp(target.as_ref().into(), options));
        self
    }

    /// Mounts a file with this content on `target`: `/etc/resolv.conf`, `/etc/hosts`. It is made in the child's
    /// own tmpfs and goes away with the container; nothing of it is ever on the host's disk.
    ///
    /// It belongs to whom the child is when the steps run, root inside, has mode 0644, may be written, and holds at most
    /// 1 MiB. A last link at `target` is followed inside the root, as for any mount, and must lead somewhere.
    ///
    /// ```
    /// use mountkit::Rootfs;
    ///
    /// let rootfs = Rootfs::overlay("/usr").file("/etc/hosts", "127.0.0.1 localhost\n");
    /// assert!(rootfs.steps()?.to_string().contains("20 bytes"));
    /// # Ok::<(), mountkit::Error>(())
    /// ```
    pub fn file(mut self, target: impl AsRef<Path>, content: impl Into<Vec<u8>>) -> Self {
        self.mounts.push(Mount::File(target.as_ref().into(), content.into()));
        self
    }

    /// Mounts a file system that the child makes new, or a tree that the caller made, on `target`, in the order of asking
    /// as volumes are: see [`MountSource`] for what it may be.
    ///
    /// # A tree that the caller made
    /// Its attributes and propagation are what the caller set; nothing is added. A detached mount becomes attached once:
    /// the steps serve one start, failed or not, and in a second the step that attaches it fails with EINVAL. It may be
    /// attached in the mount namespace of a new user namespace too; the kernel locks none of its attributes there, so
    /// that whoever has CAP_SYS_ADMIN in the container may clear them.
    ///
    /// ```no_run
    /// use mountkit::{Bind, MountAttr, Rootfs};
    ///
    /// let data = Bind::new("/srv/data").recursive().attrs(MountAttr::RDONLY | MountAttr::INERT).mount()?;
    /// let rootfs = Rootfs::overlay("/srv/base").mount(data, "/data");
    /// # let _ = rootfs;
    /// # Ok::<(), mountkit::Error>(())
    /// ```
    #[doc(alias = "move_mount")]
    pub fn mount(mut self, source: impl Into<MountSource>, target: impl AsRef<Path>) -> Self {
        self.mounts.push(Mount::Source(target.as_ref().into(), source.into().0));
        self
    }

    /// What comes of mounts that are made in the root later: the `rootfsPropagation` of the OCI runtime specification.
    /// Volumes have [their own](Volume::propagation). By default nothing goes either way.
    ///
    /// * `Slave`: what the host mounts below a directory that is the root by [`bind`](Self::bind) arrives, if the mount
    ///   it is on is shared there. An overlay has no master.
    /// * `Shared`: what is mounted in the container appears in mount namespaces that are made of the container's. Nothing
    ///   goes to the host.
    /// * `Unbindable`: as private, and the container cannot bind its `/` elsewhere.
    #[doc(alias = "rootfsPropagation")]
    #[doc(alias = "MS_SLAVE")]
    pub fn propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = propagation;
        self
    }

    /// chroot(2) in place of pivot_root(2), *the weaker boundary*, for a process whose root is the initramfs: that cannot be
    /// exchanged, and pivot_root says EINVAL. Everywhere else leave this away.
    ///
    /// What of the host's mounts can be unmounted is unmounted first, in the child's mount namespace. The initramfs itself
    /// stays, below the new root: see [`NoPivot`] for what that means.
    ///
    /// * Calls: [umount2(2)](https://man7.org/linux/man-pages/man2/umount2.2.html),
    ///   [chroot(2)](https://man7.org/linux/man-pages/man2/chroot.2.html), for which the child has CAP_SYS_CHROOT.
    ///
    /// ```
    /// use mountkit::{NoPivot, Rootfs};
    ///
    /// let rootfs = Rootfs::overlay("/usr").without_pivot_root(NoPivot::InitramfsStaysBelow);
    /// assert!(rootfs.steps()?.to_string().contains(r#"chroot(".")"#));
    /// # Ok::<(), mountkit::Error>(())
    /// ```
    #[doc(alias = "no-pivot")]
    #[doc(alias = "noPivotRoot")]
    #[doc(alias = "chroot")]
    pub fn without_pivot_root(mut self, risk: NoPivot) -> Self {
        let NoPivot::InitramfsStaysBelow = risk;
        self.no_pivot = true;
        self
    }

    /// The system calls that make this root, in order, for `ns-core` to run in the cloned child. Printed, they are a
    /// numbered list with reasons.
    ///
    /// It makes nothing that outlives the steps. For an overlay it looks at the lower directory (mode, owner, mount flags), for one of the
    /// host also at what is directly below `/`, and for an unprivileged child at /proc/self/mountinfo.
    ///
    /// # Errors
    /// Those of [`check`](Self::check), and: Invalid when an unprivileged child's overlay would be on a directory that
    /// has mounts below it; what reading `/` and /proc/self/mountinfo answers; of the clone of a terminal or of an idmapped
    /// volume, where the caller has to make it.
    pub fn steps(&self) -> Result<ChildSteps> {
        self.check()?;
        plan::steps(self)
    }
}

impl From<DetachedMount> for Rootfs {
    /// A tree that the caller made is the root: an overlay of many layers, an idmapped bind, any file
    /// system. It becomes nodev; places that are missing in it are made. As with [`Rootfs::mount`], the steps serve one
    /// start.
    fn from(root: DetachedMount) -> Self {
        Self::new(Base::Detached(OwnedFd::from(root).into()))
    }
}

#[cfg(test)]
mod tests;
