//! A tree of mounts that is mounted nowhere yet.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use cellkit_core::{Errno, Error, Result, Subject};

use crate::hint::HINTS;
use crate::peers::{self, Seen, Which};
use crate::{Attach, Kept, Mount, MountAttr, MountChange, Propagation, RootFd, idmap, sys};

/// A mount, or a tree of mounts, that is nowhere in the directory tree: a descriptor is all that holds it.
///
/// Whatever it is to be (read-only, nosuid, private, idmapped) is set while nobody can reach it; then
/// [`attach`](Self::attach) makes it visible in one step. Dropped before that, it is gone, and so it is when the process
/// is killed. What it holds can be looked at and filled before: see [`root`](Self::root).
///
/// * Calls: what made it is [open_tree(2)](https://man7.org/linux/man-pages/man2/open_tree.2.html) with OPEN_TREE_CLONE or
///   [fsmount(2)](https://man7.org/linux/man-pages/man2/fsmount.2.html) (Linux 5.2).
/// * Privileges: CAP_SYS_ADMIN in the user namespace that owns the caller's mount namespace.
///
/// ```no_run
/// use mountkit::{Bind, MountAttr, RootFd};
///
/// let data = Bind::new("/srv/data").attrs(MountAttr::RDONLY).mount()?;
/// data.attach(&RootFd::open("/run/c1/root")?, "data")?;
/// # Ok::<(), mountkit::Error>(())
/// ```
#[derive(Debug)]
#[doc(alias = "open_tree")]
#[doc(alias = "fsmount")]
#[must_use = "a detached mount is gone as soon as it is dropped"]
pub struct DetachedMount {
    fd: OwnedFd,
    /// What it is a mount of, as errors name it.
    subject: Subject,
    kept: Kept,
}

/// The byte that comes with a mount, so that something else on the socket is not taken for one.
const MARK: u8 = b'M';

impl DetachedMount {
    pub(crate) fn new(fd: OwnedFd, subject: impl Into<Subject>) -> Self {
        Self { fd, subject: subject.into(), kept: Kept::default() }
    }

    /// As errors name it, where a path is wanted.
    pub(crate) fn shown(&self) -> PathBuf {
        match &self.subject {
            Subject::Path(path) => path.clone(),
            other => other.to_string().into(),
        }
    }

    pub(crate) fn keeping(self, kept: Kept) -> Self {
        Self { kept, ..self }
    }

    fn fail(&self, operation: &'static str, errno: Errno) -> Error {
        Error::from_errno(operation, errno.0).on(self.subject.clone()).with_hints(&HINTS)
    }

    /// `mount_setattr`: changes attributes, access times and propagation, all or none.
    ///
    /// # Errors
    /// Permission (EPERM: no CAP_SYS_ADMIN, or an attribute that is locked), Limit (ENOSPC: no more peer groups).
    #[doc(alias = "mount_setattr")]
    pub fn change(&self, change: &MountChange) -> Result<()> {
        change.apply(&self.fd).map_err(|errno| self.fail("mount_setattr", errno).context(format!("change {change}")))
    }

    /// `mount_setattr`: sets `attrs` on its topmost mount, and leaves the others as they are.
    ///
    /// # Errors
    /// Permission (EPERM).
    #[doc(alias = "mount_setattr")]
    pub fn set(&self, attrs: MountAttr) -> Result<()> {
        self.change(&MountChange::new().set(attrs))
    }

    /// `mount_setattr`: clears `attrs` on its topmost mount, and leaves the others as they are.
    ///
    /// # Errors
    /// Permission (EPERM): one of them is locked.
    #[doc(alias = "mount_setattr")]
    pub fn clear(&self, attrs: MountAttr) -> Result<()> {
        self.change(&MountChange::new().clear(attrs))
    }

    /// `mount_setattr`: sets the propagation of its topmost mount.
    ///
    /// # Errors
    /// Permission (EPERM), Limit (ENOSPC): no more peer group ids.
    #[doc(alias = "mount_setattr")]
    pub fn set_propagation(&self, propagation: Propagation) -> Result<()> {
        self.change(&MountChange::new().propagation(propagation))
    }

    /// What [`Bind`](crate::Bind) was to change and could not, since it is locked. Nothing, on most machines.
    #[must_use]
    pub fn kept(&self) -> Kept {
        self.kept
    }

    /// `mount_setattr(MOUNT_ATTR_IDMAP)`: shows other owners, by the maps of the user namespace `userns`, on all of its mounts,
    /// and makes them nosuid. See [`Bind::idmap`](crate::Bind::idmap), which says what the kernel wants for it.
    ///
    /// # Errors
    /// Invalid (`userns` is no user namespace; EINVAL: the file system cannot, or it has been attached before),
    /// Permission (EPERM: it has a map already, or CAP_SYS_ADMIN over the file system or `userns` is missing).
    #[doc(alias = "MOUNT_ATTR_IDMAP")]
    pub fn idmap(&self, userns: &impl AsFd) -> Result<()> {
        let userns = userns.as_fd();
        idmap::check(userns)?;
        idmap::set(&self.fd, userns).map_err(|errno| {
            let error = Error::from_errno("mount_setattr", errno.0).on(self.subject.clone());
            match idmap::hint(errno) {
                Some(hint) => error.with_hint(hint),
                None => error.with_hints(&HINTS),
            }
        })
    }

    /// What it holds, as a root: to be filled, or looked at, before anybody else can.
    ///
    /// ```no_run
    /// use mountkit::{RootFd, Tmpfs};
    ///
    /// let etc = Tmpfs::new().mode(0o755).mount()?;
    /// etc.root()?.ensure_file("resolv.conf", 0o644)?;
    /// etc.attach(&RootFd::open("/srv/c1")?, "etc")?;
    /// # Ok::<(), mountkit::Error>(())
    /// ```
    ///
    /// # Errors
    /// Limit (EMFILE).
    pub fn root(&self) -> Result<RootFd> {
        let fd = self.fd.try_clone().map_err(|error| Error::from_io("fcntl", &error).on(self.subject.clone()))?;
        Ok(RootFd::from(fd))
    }

    /// `move_mount`: makes it visible at `path`, which is looked up inside `root` only and must exist.
    ///
    /// `root` may be that of another detached mount, [`root`](Self::root), from Linux 6.15 on: so a whole tree is put together
    /// before any of it is seen.
    ///
    /// A place on a shared mount is refused, since the mount would appear elsewhere too: see
    /// [`Attach::with_peers`]. So in the mount namespace that a machine begins with, use [`attach_to`](Self::attach_to).
    ///
    /// # Errors
    /// As [`attach_to`](Self::attach_to).
    #[doc(alias = "move_mount")]
    pub fn attach(self, root: &RootFd, path: impl AsRef<Path>) -> Result<Mount> {
        self.attach_to(&Attach::at(root, path))
    }

    /// `move_mount`: makes it visible at `place`.
    ///
    /// # Errors
    /// As [`RootFd::open_dir`]; Permission (EPERM); Limit (ENOSPC: /proc/sys/fs/mount-max); Unsupported
    /// ([`beneath`](Attach::beneath) before Linux 6.5, a place on a detached mount before 6.15); and Invalid: one is a directory and the other is not, the place
    /// is a symbolic link or on a shared mount, or (EINVAL) it is not in this mount namespace. The mount is gone then, as
    /// nobody holds it.
    #[doc(alias = "move_mount")]
    pub fn attach_to(self, place: &Attach<'_>) -> Result<Mount> {
        let what = format!("attach {}", self.subject);
        let subject = place.put(self.fd.as_fd()).map_err(|error| error.context(what))?;
        Ok(Mount::new(self.fd, subject))
    }

    /// `open_tree(OPEN_TREE_CLONE)`: a copy of it and of all that is mounted below it, detached too.
    ///
    /// # Errors
    /// Unsupported before Linux 6.15, where only mounts of the caller's mount namespace can be cloned. Invalid (EINVAL):
    /// it is unbindable.
    #[doc(alias = "OPEN_TREE_CLONE")]
    pub fn try_clone(&self) -> Result<Self> {
        let flags = (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE) as u32;
        match sys::mount::clone_tree(Some(self.fd.as_fd()), c"", flags) {
            Ok(fd) => Ok(Self::new(fd, self.subject.clone()).keeping(self.kept)),
            Err(errno) => {
                let error = self.fail("open_tree", errno);
                let too_old = sys::mount::kernel_release().is_some_and(|release| release < (6, 15));
                let unknown = errno == Errno(libc::EINVAL) && too_old;
                Err(if unknown { error.as_unsupported("a clone of a detached mount", Some("6.15")) } else { error })
            }
        }
    }

    /// `sendmsg(SCM_RIGHTS)`: hands it to the process at the other end of `socket`, which takes it with
    /// [`receive`](Self::receive) and may attach it in its own mount namespace.
    ///
    /// So whoever has the privileges makes a mount, and nobody enters a container for it. Its attributes are *not* locked by
    /// that: a receiver with CAP_SYS_ADMIN over its mount namespace can clear `ro` as well as set it. What must stay
    /// read-only for such a receiver has to be so in the file system.
    ///
    /// ```no_run
    /// use std::os::unix::net::UnixStream;
    ///
    /// use mountkit::{Bind, DetachedMount, RootFd};
    ///
    /// let (ours, theirs) = UnixStream::pair().unwrap();
    /// Bind::new("/srv/data").mount()?.send(&ours)?;
    /// // … and in the other process
    /// DetachedMount::receive(&theirs)?.attach(&RootFd::open("/")?, "data")?;
    /// # Ok::<(), mountkit::Error>(())
    /// ```
    ///
    /// # Errors
    /// Other (EPIPE), Limit (ETOOMANYREFS, EAGAIN on a socket that does not block). The mount is gone then, as nobody
    /// holds it.
    #[doc(alias("sendmsg", "SCM_RIGHTS"))]
    pub fn send(self, socket: &UnixStream) -> Result<()> {
        sys::pass::send(socket.as_fd(), self.fd.as_fd(), MARK).map_err(|errno| self.fail("sendmsg", errno))
    }

    /// `recvmsg(SCM_RIGHTS)`: takes a mount that another process has [sent](Self::send). Blocks until there is one.
    ///
    /// # Errors
    /// Invalid: what came is not one descriptor of the root of a mount, or of one that is attached in the caller's mount
    /// namespace; all that came is closed then. Gone: the other
    /// end was closed.
    #[doc(alias("recvmsg", "SCM_RIGHTS"))]
    pub fn receive(socket: &UnixStream) -> Result<Self> {
        let subject = || Subject::Thing("a socket".into());
        let refuse = |why: &'static str| Error::invalid("recvmsg", why).on(subject());
        let received = sys::pass::receive(socket.as_fd())
            .map_err(|errno| Error::from_errno("recvmsg", errno.0).on(subject()).with_hints(&HINTS))?;
        let Some((mark, fds)) = received else { return Err(Error::gone("recvmsg", None).on(subject())) };
        let mut fds = fds.into_iter();
        let (Some(fd), None, MARK) = (fds.next(), fds.next(), mark) else {
            return Err(refuse("what came is not one mount"));
        };
        let stat = sys::statx(fd.as_raw_fd()).map_err(|errno| Error::from_errno("statx", errno.0).on(subject()))?;
        if !stat.is_mount_root {
            return Err(refuse("the descriptor that came is not the root of a mount"));
        }
        // To attach it would be to move it: the sender would move mounts of the receiver's.
        if peers::seen(fd.as_fd(), Which::Own)? != Seen::Nowhere {
            return Err(refuse("the mount that came is attached in this mount namespace already"));
        }
        Ok(Self::new(fd, Subject::Thing("a mount that was sent".into())))
    }
}

impl AsFd for DetachedMount {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for DetachedMount {
    /// Takes a descriptor of a detached mount. Errors show it as `fd N`.
    fn from(fd: OwnedFd) -> Self {
        let subject = Subject::Thing(format!("fd {}", fd.as_raw_fd()));
        Self::new(fd, subject)
    }
}

impl From<DetachedMount> for OwnedFd {
    fn from(mount: DetachedMount) -> Self {
        mount.fd
    }
}
