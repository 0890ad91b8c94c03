//! Directories laid over each other.
//!
//! # Theory of operation
//!
//! Every directory is opened once, checked by its descriptor, and given to the kernel by that descriptor, so that what was
//! checked is what is mounted and no byte of a path has to be escaped. How that is done depends on the kernel, which is
//! asked what it understands (`mechanism.rs`):
//!
//! | kernel | a layer is told by | limit |
//! |---|---|---|
//! | 6.15 | `lowerdir+` and its descriptor | 500 layers |
//! | 6.8 | `lowerdir+` and `.`, by a thread whose working directory it is | 500 layers |
//! | before | a short name in a mount namespace of a thread's own (`short_names.rs`), all in one string of fsconfig | 97 layers |
//! | before | the same, in the page of mount(2) | 500 layers |
//!
//! A thread for it ends before the call returns, so the caller's working directory and mounts are as they were, and nothing
//! is ever visible to anybody else. What the kernel has made is then looked at once more: an overlay that lost layers or
//! its upper directory is an error.
#![forbid(unsafe_code)]

mod dirs;
mod make;
mod mechanism;
mod options;
mod short_names;
mod stacked;
pub(crate) mod steps;

use std::os::fd::OwnedFd;
use std::path::Path;

use cellkit_core::{Error, ProcFd, ProcView, Result};

use self::dirs::{Dir, MadeGuard, Place, Upper};
use self::make::Request;
use self::mechanism::{MOST_LAYERS, Mechanism, Understands, choose, understands};
use self::options::{Options, Setting, an_overlay};
pub use self::options::{OverlayUuid, OverlayXattrs, RedirectDir, Verity, Xino};
pub(crate) use self::stacked::layers_of;
use crate::{DetachedMount, MountAttr};

/// Directories laid over each other and seen as one: `mount -t overlay`, as a detached mount.
///
/// The *lower* directories are never written to, so many overlays may share them. What is written goes to the *upper*
/// directory: a file that is changed is copied up first, whole. Without an upper directory the overlay is read-only.
///
/// ```no_run
/// use mountkit::{Overlay, RootFd};
///
/// let overlay = Overlay::new()
///     .lower("/var/lib/cells/app") // on top
///     .lower("/var/lib/cells/debian") // below it
///     .upper("/var/lib/cells/c1/upper", "/var/lib/cells/c1/work")
///     .mount()?;
/// overlay.attach(&RootFd::open("/run/c1")?, "root")?;
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// * From 1 to 500 layers, whose paths may hold any byte but NUL and be as long as the kernel opens; or descriptors of
///   directories. Neither is ever cut: what the kernel cannot take is an error before anything is made.
/// * Calls: [fsopen(2)](https://man7.org/linux/man-pages/man2/fsopen.2.html),
///   [fsconfig(2)](https://man7.org/linux/man-pages/man2/fsconfig.2.html),
///   [fsmount(2)](https://man7.org/linux/man-pages/man2/fsmount.2.html); options are those of
///   [overlayfs](https://docs.kernel.org/filesystems/overlayfs.html).
/// * Kernel: 5.15. With 6.8 layers are told one by one (`lowerdir+`), with 6.15 by descriptor. Before 6.8 a short-lived
///   thread takes a mount namespace of its own, which takes the longer the more mounts there are, and whoever runs
///   after chroot(2) in what is not a mount point cannot do it (EINVAL). Before 6.15 no layer may be on a mount that is
///   detached.
/// * Privileges: CAP_SYS_ADMIN in the user namespace that owns the caller's mount namespace.
///
/// # What it does not trust
/// Attributes planted in a layer redirect nothing and lend no other file's data ([`redirect_dir`](Self::redirect_dir),
/// [`metacopy`](Self::metacopy) are off, whatever the kernel was built with). A set-user-id program, device or program at
/// all that the mount of a layer does not allow, the overlay does not allow either: it gets nosuid, nodev and noexec from
/// all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[doc(alias = "overlayfs")]
#[doc(alias = "lowerdir")]
#[must_use]
pub struct Overlay {
    /// The topmost first.
    lowers: Vec<Place>,
    data: Vec<Place>,
    upper: Option<(Place, Place)>,
    xattrs: Option<OverlayXattrs>,
    options: Options,
    attrs: MountAttr,
}

impl Overlay {
    /// Without any layer yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a lower directory *below* those added before: the first one is the topmost, as in `lowerdir=`.
    #[doc(alias = "lowerdir")]
    pub fn lower(mut self, dir: impl AsRef<Path>) -> Self {
        self.lowers.push(Place::Path(dir.as_ref().into()));
        self
    }

    /// Adds a lower directory by its descriptor, below those added before. O_PATH is enough.
    ///
    /// It may be a [`DetachedMount`], for a layer that is mounted nowhere or is idmapped: Linux 6.15.
    #[doc(alias = "FSCONFIG_SET_FD")]
    pub fn lower_fd(mut self, dir: impl Into<OwnedFd>) -> Self {
        self.lowers.push(Place::Descriptor(dir.into().into()));
        self
    }

    /// Adds lower directories, each *below* the one before it: the topmost comes first, as in `lowerdir=`.
    ///
    /// ```
    /// use mountkit::Overlay;
    ///
    /// let layers = ["/layers/app", "/layers/python", "/layers/debian"];
    /// assert_eq!(Overlay::new().lowers(layers), Overlay::new().lowers_from_base(layers.into_iter().rev()));
    /// ```
    #[doc(alias = "lowerdir")]
    pub fn lowers<P: AsRef<Path>>(self, dirs: impl IntoIterator<Item = P>) -> Self {
        dirs.into_iter().fold(self, Self::lower)
    }

    /// Adds lower directories, each *above* the one before it, and all of them below those added before: the base comes
    /// first, as the layers of an image are listed.
    pub fn lowers_from_base<P: AsRef<Path>>(mut self, dirs: impl IntoIterator<Item = P>) -> Self {
        let before = self.lowers.len();
        self = self.lowers(dirs);
        self.lowers.get_mut(before..).unwrap_or_default().reverse();
        self
    }

    /// Adds a data-only layer below all others: nothing in it has a name in the overlay, but files of the lower directories
    /// may refer to it for their data. It needs [`metacopy`](Self::metacopy), and Linux 6.5.
    #[doc(alias = "datadir+")]
    pub fn data(mut self, dir: impl AsRef<Path>) -> Self {
        self.data.push(Place::Path(dir.as_ref().into()));
        self
    }

    /// Where what is written goes, and the directory that the kernel prepares it in.
    ///
    /// Both must be on one file system, reached through one mount; neither may be inside the other. `upper` must exist.
    /// `work` must be empty or what an overlay has left; it is made (0700) where it is missing, and removed again
    /// unless the overlay comes to be.
    ///
    /// An upper directory belongs to one overlay at a time. The kernel would let two have it and only log that what
    /// happens then is undefined; [`mount`](Self::mount) refuses. To find out it has the kernel refuse a mount on purpose when
    /// a directory was used before, which is a line or two in the kernel's log. Before Linux 6.6 an upper directory that
    /// nothing was written to yet does not show that it was.
    #[doc(alias = "upperdir")]
    #[doc(alias = "workdir")]
    pub fn upper(mut self, upper: impl AsRef<Path>, work: impl AsRef<Path>) -> Self {
        self.upper = Some((Place::Path(upper.as_ref().into()), Place::Path(work.as_ref().into())));
        self
    }

    /// As [`upper`](Self::upper), by descriptors. Both must exist.
    #[doc(alias = "FSCONFIG_SET_FD")]
    pub fn upper_fd(mut self, upper: impl Into<OwnedFd>, work: impl Into<OwnedFd>) -> Self {
        let place = |fd: OwnedFd| Place::Descriptor(fd.into());
        self.upper = Some((place(upper.into()), place(work.into())));
        self
    }

    /// Where the overlay keeps its notes. By default `trusted.overlay.*` in the machine's first user namespace and
    /// `user.overlay.*` in any other, where the kernel takes nothing else; who the caller is does not matter.
    #[doc(alias = "userxattr")]
    pub fn xattrs(mut self, xattrs: OverlayXattrs) -> Self {
        self.xattrs = Some(xattrs);
        self
    }

    /// `redirect_dir=`; without it, `nofollow`.
    pub fn redirect_dir(mut self, redirect_dir: RedirectDir) -> Self {
        self.options.redirect_dir = redirect_dir;
        self
    }

    /// `metacopy=on`: a change of owner or mode copies up no data. It needs [`RedirectDir::On`], and layers that nobody
    /// untrusted has filled: an attribute planted in one lends a file the data of another.
    pub fn metacopy(mut self) -> Self {
        self.options.metacopy = true;
        self
    }

    /// `index=on`: hard links stay linked when they are copied up. The upper directory is then bound to these layers.
    pub fn index(mut self) -> Self {
        self.options.index = true;
        self
    }

    /// `nfs_export=on`: file handles work, for NFS and open_by_handle_at(2). With an upper directory it needs
    /// [`index`](Self::index).
    pub fn nfs_export(mut self) -> Self {
        self.options.nfs_export = true;
        self
    }

    /// `xino=`; without it, `off`.
    pub fn xino(mut self, xino: Xino) -> Self {
        self.options.xino = xino;
        self
    }

    /// `uuid=`; without it, the kernel's default, since kernels before 6.6 have another one.
    pub fn uuid(mut self, uuid: OverlayUuid) -> Self {
        self.options.uuid = Some(uuid);
        self
    }

    /// `verity=`; without it, `off`. It needs [`metacopy`](Self::metacopy) and Linux 6.6.
    pub fn verity(mut self, verity: Verity) -> Self {
        self.options.verity = verity;
        self
    }

    /// `volatile`: what is written is never synced to disk, not even by fsync(2), which makes building an image faster.
    ///
    /// After a crash of the machine the upper directory is worth nothing. So the kernel leaves a mark in the work directory,
    /// also when all went well, and mounts the two no more; see [`forget_volatile`](Self::forget_volatile).
    pub fn volatile(mut self) -> Self {
        self.options.volatile = true;
        self
    }

    /// Sets `attrs` on the mount, beside those that it gets from the layers' mounts.
    pub fn attrs(mut self, attrs: MountAttr) -> Self {
        self.attrs |= attrs;
        self
    }

    /// Makes it, detached. Everything is checked before anything is made.
    ///
    /// # Errors
    /// * Invalid: no layer or more than 500; one lower directory and nothing else (use [`Bind`](crate::Bind); a
    ///   [`Rootfs::overlay_of_layers`](crate::Rootfs::overlay_of_layers) takes it, with a throw-away upper directory); a directory twice or inside
    ///   another; an overlay on an overlay on an overlay; an upper and a work directory on two file systems or mounts, on a
    ///   read-only one, or on one that can hold none; a work directory with something in it or the mark of a volatile
    ///   overlay; options that contradict each other; ENOTDIR; EINVAL with the kernel's words, where it has any.
    /// * NotFound (ENOENT), Permission (EACCES; EPERM: no CAP_SYS_ADMIN).
    /// * Busy (EBUSY): the upper or work directory belongs to a mounted overlay.
    /// * Unsupported: an option, a layer or attributes that this kernel or file system does not have, and since when.
    /// * Limit (EMFILE: one descriptor a layer; ENOSPC: user.max_mnt_namespaces, before Linux 6.8).
    #[doc(alias = "fsopen")]
    #[doc(alias = "fsconfig")]
    pub fn mount(&self) -> Result<DetachedMount> {
        self.mount_by(None)
    }

    /// With a mechanism other than the kernel's best, for tests.
    fn mount_by(&self, mechanism: Option<Mechanism>) -> Result<DetachedMount> {
        let xattrs = self.check()?;
        let lowers = open_all(&self.lowers)?;
        let data = open_all(&self.data)?;
        let made = self.upper.as_ref().map(|(_, work)| MadeGuard::ensure(work)).transpose()?;
        let upper = self.open_upper()?;
        stacked::check_depth(&lowers)?;
        let all: Vec<Dir> = lowers.iter().chain(&data).cloned().collect();
        dirs::check_apart(&all, upper.as_ref())?;
        if let Some(upper) = &upper {
            upper.check(xattrs)?;
        }
        let settings = self.options.settings(xattrs);
        let attrs = self.attrs | dirs::restrictions(all.iter().chain(upper.iter().map(|upper| &upper.dir)))?;
        let request = Request { lowers: &lowers, data: &data, upper: upper.as_ref(), settings: &settings, attrs };
        let mechanism = match mechanism {
            Some(mechanism) => mechanism,
            None => choose(understands()?, lowers.len(), data.len())?,
        };
        if let Some(upper) = &upper {
            refuse_in_use(upper, &lowers, xattrs, mechanism)?;
        }
        let mount = request.make(mechanism).map_err(|error| explain(error, &all))?;
        request.verify(&mount)?;
        if let Some(made) = made {
            made.keep();
        }
        Ok(mount)
    }

    /// What can be told without opening anything.
    fn check(&self) -> Result<OverlayXattrs> {
        self.check_layers(self.upper.is_some())?;
        let xattrs = match self.xattrs {
            Some(xattrs) => xattrs,
            None if in_the_first_user_namespace()? => OverlayXattrs::Trusted,
            None => OverlayXattrs::User,
        };
        self.options.check(xattrs, self.upper.is_some(), !self.data.is_empty())?;
        Ok(xattrs)
    }

    /// How many there are, and whether that will do.
    fn check_layers(&self, has_upper: bool) -> Result<()> {
        let refuse = |why: String| Error::invalid("fsconfig", why).on(an_overlay());
        let layers = self.lowers.len() + self.data.len();
        if self.lowers.is_empty() {
            return Err(refuse("an overlay needs a lower directory".into()));
        }
        if layers > MOST_LAYERS {
            let why = format!("it has {layers} layers, of which the kernel takes {MOST_LAYERS}");
            return Err(refuse(why).with_hint("merge some: apply several layers into one folder"));
        }
        if layers == 1 && !has_upper {
            let why = "an overlay of one lower directory and no upper one shows that directory: say Bind::read_only instead, or give it an upper one";
            return Err(refuse(why.into()));
        }
        Ok(())
    }

    /// The path of the topmost layer.
    pub(crate) fn topmost(&self) -> Option<&Path> {
        match self.lowers.first() {
            Some(Place::Path(path)) => Some(path),
            _ => None,
        }
    }

    fn open_upper(&self) -> Result<Option<Upper>> {
        self.upper.as_ref().map(|(dir, work)| Ok(Upper { dir: dir.open()?, work: work.open()? })).transpose()
    }

    /// Removes the mark that a [`volatile`](Self::volatile) overlay has left in the work directory, and says whether there
    /// was one.
    ///
    /// Do so only when the machine has not stopped since that overlay was last written to, or has synced the file system
    /// (sync(1)): otherwise the upper directory is to be thrown away. See
    /// <https://docs.kernel.org/filesystems/overlayfs.html#volatile-mount>.
    ///
    /// # Errors
    /// Invalid: there is no upper directory, or it is not the mark alone. NotFound, Permission. Busy (ENOTEMPTY): the
    /// kernel has left other marks there.
    pub fn forget_volatile(&self) -> Result<bool> {
        match self.open_upper()? {
            Some(upper) => upper.forget_volatile(),
            None => Err(Error::invalid("unlinkat", "it has no upper directory").on(an_overlay())),
        }
    }
}

fn open_all(places: &[Place]) -> Result<Vec<Dir>> {
    places.iter().map(Place::open).collect()
}

/// The inode of the machine's first user namespace in nsfs, which is part of the kernel's interface.
const FIRST_USER_NAMESPACE: u64 = 0xeffffffd;

fn in_the_first_user_namespace() -> Result<bool> {
    let namespace = ProcFd::open(ProcView::Processes)?.this_thread()?.namespace("user")?;
    let (inode, _) = cellkit_core::sys::inode(std::os::fd::AsFd::as_fd(&namespace)).map_err(|errno| {
        Error::from_errno("fstat", errno.0).on(cellkit_core::Subject::Thing("the user namespace".into()))
    })?;
    Ok(inode == FIRST_USER_NAMESPACE)
}

/// An upper or work directory that another overlay has, in whatever mount namespace.
///
/// The kernel knows; with `index=on` it says EBUSY, and otherwise only logs a warning. So it is asked with `index=on` for
/// an overlay that cannot be, as its work directory is its upper directory: that is refused (EINVAL) right after the look,
/// before anything is written. A directory that no overlay has left a trace in is not asked about.
fn refuse_in_use(upper: &Upper, lowers: &[Dir], xattrs: OverlayXattrs, mechanism: Mechanism) -> Result<()> {
    upper.used(xattrs)?.into_iter().try_for_each(|dir| refuse_if_in_use(dir, lowers, xattrs, mechanism))
}

fn refuse_if_in_use(dir: &Dir, lowers: &[Dir], xattrs: OverlayXattrs, mechanism: Mechanism) -> Result<()> {
    let impossible = Upper { dir: dir.clone(), work: dir.clone() };
    let index = Setting { key: c"index", value: Some(c"on"), since: None };
    let user = Setting { key: c"userxattr", value: None, since: None };
    let settings = [index, user];
    let settings = settings.get(..if xattrs == OverlayXattrs::User { 2 } else { 1 }).unwrap_or_default();
    let lowers = lowers.get(..1).unwrap_or_default();
    let request = Request { lowers, data: &[], upper: Some(&impossible), settings, attrs: MountAttr::empty() };
    match request.make(mechanism) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Err(error.with_hint(
            "the directory belongs to another overlay that is mounted, maybe in another mount namespace, or to one that a \
             descriptor holds; both would corrupt it: unmount that one first, or give this one an upper directory of its own",
        )),
        _ => Ok(()),
    }
}

/// The kernel's EINVAL has many reasons, and two of them can be found out afterwards.
fn explain(error: Error, layers: &[Dir]) -> Error {
    if error.raw_os_error() != Some(libc::EINVAL) {
        return error;
    }
    if let Some(foreign) = layers.iter().find(|layer| layer.is_of_no_mount_of_ours()) {
        return match understands() {
            Ok(Understands::Descriptors) => error
                .on(foreign.subject())
                .with_hint("this layer is on a mount of another mount namespace: open it in this one"),
            _ => error
                .on(foreign.subject())
                .as_unsupported("a layer on a mount that is detached, or of another mount namespace,", Some("6.15")),
        };
    }
    match layers.iter().find(|layer| layer.is_on_an_overlay()) {
        Some(layer) => error.with_hint(format!(
            "overlays stack two deep at most, and {} is on one: name the layers of that overlay instead of the overlay",
            layer.subject()
        )),
        None => error,
    }
}

#[cfg(test)]
mod tests;
