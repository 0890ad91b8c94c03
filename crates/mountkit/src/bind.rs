//! Another view of a directory or file.
//!
//! What the source's mount allows and the view shall not is set while the view is detached, by open_tree_attr(2) in the very
//! call that makes it, or before Linux 6.15 by mount_setattr(2) after it. Where the one call fails the two are made, for
//! their errors say which half it was, and a filter of system calls may know only the older ones.
//!
//! In a user namespace, attributes that a mount had when it was copied there are locked. Nothing says which they are: so
//! what is to be cleared is cleared at once, and if that is not permitted, one attribute after the other.
#![forbid(unsafe_code)]

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cellkit_core::{Errno, Error, Result, Subject};

use crate::hint::HINTS;
use crate::{Atime, DetachedMount, MountAttr, MountChange, Propagation, RootFd, idmap, sys};

/// What becomes of attributes that are to be cleared and are locked, for [`Bind::locked`].
///
/// ```
/// use mountkit::{Bind, Locked, MountAttr};
///
/// let bind = Bind::new("/srv/tools").clear(MountAttr::NOEXEC).locked(Locked::Refuse);
/// # let _ = bind;
/// ```
///
/// See "Restrictions on mount namespaces" in mount_namespaces(7):
/// <https://man7.org/linux/man-pages/man7/mount_namespaces.7.html>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Locked {
    /// They stay, and [`DetachedMount::kept`] says which.
    #[default]
    Keep,
    /// They are an error that names them.
    Refuse,
}

/// What was to be changed of a mount and stayed, since it is locked: see [`DetachedMount::kept`].
///
/// ```
/// let kept = mountkit::Kept::default();
/// assert!(kept.is_empty());
/// assert_eq!(kept.to_string(), "nothing");
/// ```
///
/// See "Restrictions on mount namespaces" in mount_namespaces(7):
/// <https://man7.org/linux/man-pages/man7/mount_namespaces.7.html>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Kept {
    /// Attributes that were to be cleared.
    pub attrs: MountAttr,
    /// Whether it is as before when access times are written.
    pub atime: bool,
}

impl Kept {
    /// Whether everything was changed.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.attrs.is_empty() && !self.atime
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match (self.attrs.is_empty(), self.atime) {
            (true, false) => "nothing".to_owned(),
            (true, true) => "atime".to_owned(),
            (false, false) => self.attrs.to_string(),
            (false, true) => format!("{},atime", self.attrs),
        })
    }
}

#[derive(Clone, Debug)]
enum Source<'a> {
    Path(PathBuf),
    InRoot(&'a RootFd, PathBuf),
    Fd(BorrowedFd<'a>),
}

/// A directory or file that is to be seen elsewhere too: `mount --bind`, as a detached mount.
///
/// It begins with the attributes of the mount that the source is on, and is private unless
/// [`propagation`](Self::propagation) says otherwise, also where the source is shared: what is mounted below the one does
/// not appear below the other.
///
/// * Calls: [open_tree(2)](https://man7.org/linux/man-pages/man2/open_tree.2.html) with OPEN_TREE_CLONE (Linux 5.2),
///   [mount_setattr(2)](https://man7.org/linux/man-pages/man2/mount_setattr.2.html) (5.12); both as one call,
///   open_tree_attr(2), from 6.15 on.
/// * Privileges: CAP_SYS_ADMIN in the user namespace that owns the caller's mount namespace. In one that is not the
///   machine's first, what is mounted below the source must come along: say [`recursive`](Self::recursive).
///
/// ```no_run
/// use mountkit::{Bind, MountAttr};
///
/// let data = Bind::new("/srv/data").recursive().attrs(MountAttr::RDONLY | MountAttr::NOSUID).mount()?;
/// # drop(data);
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// See open_tree(2): <https://man7.org/linux/man-pages/man2/open_tree.2.html>.
#[derive(Clone, Debug)]
#[doc(alias = "MS_BIND")]
#[doc(alias = "OPEN_TREE_CLONE")]
#[must_use = "it is made by `mount`"]
pub struct Bind<'a> {
    source: Source<'a>,
    change: MountChange,
    of_topmost: MountAttr,
    locked: Locked,
    idmap: Option<BorrowedFd<'a>>,
    set_user_id: bool,
}

impl<'a> Bind<'a> {
    fn from_source(source: Source<'a>) -> Self {
        Self {
            source,
            change: MountChange::new().propagation(Propagation::Private),
            of_topmost: MountAttr::empty(),
            locked: Locked::Keep,
            idmap: None,
            set_user_id: false,
        }
    }

    /// The directory or file `source`, a path of the caller's own: links in it are followed.
    pub fn new(source: impl AsRef<Path>) -> Self {
        Self::from_source(Source::Path(source.as_ref().into()))
    }

    /// The directory or file `path`, which is looked up inside `root` only.
    pub fn in_root(root: &'a RootFd, path: impl AsRef<Path>) -> Self {
        Self::from_source(Source::InRoot(root, path.as_ref().into()))
    }

    /// The directory or file that `source` is a descriptor of. O_PATH will do.
    #[doc(alias = "AT_EMPTY_PATH")]
    pub fn of_fd(source: &'a impl AsFd) -> Self {
        Self::from_source(Source::Fd(source.as_fd()))
    }

    /// With all that is mounted below it, and what is set is set on all of it. What is unbindable stays behind.
    #[doc(alias = "MS_REC")]
    #[doc(alias = "AT_RECURSIVE")]
    pub fn recursive(mut self) -> Self {
        self.change = self.change.recursive();
        self
    }

    /// `ro`, all the way down where it is [`recursive`](Self::recursive): `attrs(MountAttr::RDONLY)`.
    #[doc(alias = "rro")]
    #[doc(alias = "MOUNT_ATTR_RDONLY")]
    pub fn read_only(self) -> Self {
        self.attrs(MountAttr::RDONLY)
    }

    /// Sets `attrs`, beside those that the source's mount has.
    pub fn attrs(mut self, attrs: MountAttr) -> Self {
        self.change = self.change.set(attrs);
        self
    }

    /// Sets `attrs` on the topmost mount only, and not on those below it, as `mount -o rbind,ro` does.
    pub fn attrs_of_topmost(mut self, attrs: MountAttr) -> Self {
        self.of_topmost |= attrs;
        self
    }

    /// Clears `attrs`, which the source's mount may have. In a user namespace those may be [`locked`](Self::locked).
    pub fn clear(mut self, attrs: MountAttr) -> Self {
        self.change = self.change.clear(attrs);
        self
    }

    /// When reading writes access times; without it, as the source's mount. In a user namespace that is always
    /// [`locked`](Self::locked) for mounts of the machine.
    #[doc(alias = "MOUNT_ATTR__ATIME")]
    pub fn atime(mut self, atime: Atime) -> Self {
        self.change = self.change.atime(atime);
        self
    }

    /// What becomes of attributes that are to be changed and are locked, on any mount of the tree: by default they stay
    /// as they are on all of it, and [`DetachedMount::kept`] says which.
    pub fn locked(mut self, locked: Locked) -> Self {
        self.locked = locked;
        self
    }

    /// How what is mounted below it propagates. A slave gets what is mounted below the source, if the source is shared; a
    /// shared one is its peer, and its mounts appear below the source.
    pub fn propagation(mut self, propagation: Propagation) -> Self {
        self.change = self.change.propagation(propagation);
        self
    }

    /// Shows other owners, by the maps of the user namespace `userns`: what belongs to an id *inside* of it on the disk,
    /// belongs to the id *outside* through the mount, and the other way around for what is made. What is not mapped belongs
    /// to nobody (65534), and nobody can make files of it (EOVERFLOW).
    ///
    /// It is nosuid, unless [`set_user_id`](Self::set_user_id) is said: whoever may write here as container root makes
    /// set-user-id programs that are root's on the disk. Keep the source in a directory that ordinary users cannot enter.
    ///
    /// * Kernel: Linux 5.12, and a file system that can: ext4, xfs, btrfs, erofs; tmpfs 6.3. A mount that is idmapped
    ///   already gets another map since 6.15.
    /// * Privileges: CAP_SYS_ADMIN in the user namespace that the file system was mounted in, and in `userns`.
    ///
    /// `idmap::UsernsFd` is such a namespace, with no process in it; so does the `idmapped_mount` example.
    #[doc(alias = "MOUNT_ATTR_IDMAP")]
    pub fn idmap(mut self, userns: &'a impl AsFd) -> Self {
        self.idmap = Some(userns.as_fd());
        self
    }

    /// Set-user-id programs have effect through an idmapped mount too: one that is root's on the disk runs as the id that
    /// the map shows for root.
    #[doc(alias = "MS_NOSUID")]
    pub fn set_user_id(mut self) -> Self {
        self.set_user_id = true;
        self
    }

    fn subject(&self) -> Subject {
        match &self.source {
            Source::Path(path) => Subject::from(&**path),
            Source::InRoot(root, path) => root.subject(path),
            Source::Fd(fd) => Subject::Thing(format!("fd {}", fd.as_raw_fd())),
        }
    }

    /// `open_tree_attr`, or `open_tree(OPEN_TREE_CLONE)` and `mount_setattr`: makes it, detached.
    ///
    /// # Errors
    /// NotFound (ENOENT), Permission (EPERM: no CAP_SYS_ADMIN, or not over the file system of an
    /// [`idmap`](Self::idmap), or a locked attribute that is to be refused; EACCES), Invalid (an empty path, a NUL byte, an
    /// `idmap` that is no user namespace; EINVAL: the source's mount is unbindable, mounts below it are locked to it, or the
    /// file system has no idmapped mounts), Limit (EMFILE; ENOSPC: no more peer groups).
    #[doc(alias("open_tree", "open_tree_attr", "mount_setattr"))]
    pub fn mount(&self) -> Result<DetachedMount> {
        self.mount_by(Way::Best)
    }

    fn mount_by(&self, way: Way) -> Result<DetachedMount> {
        if let Some(userns) = self.idmap {
            idmap::check(userns)?;
            if self.change.clear.contains(MountAttr::NOSUID) && !self.set_user_id {
                let why = "an idmapped mount is nosuid: to clear that, say Bind::set_user_id()";
                return Err(Error::invalid("mount_setattr", why).on(self.subject()));
            }
        }
        let (held, path) = self.place()?;
        let at = match (&held, &self.source) {
            (Some(fd), _) => Some(fd.as_fd()),
            (None, Source::Fd(fd)) => Some(*fd),
            (None, _) => None,
        };
        let empty = if path.as_bytes().is_empty() { libc::AT_EMPTY_PATH as u32 } else { 0 };
        let flags = self.change.reach() | empty;
        let subject = self.subject();
        let fail =
            |operation, errno: Errno| Error::from_errno(operation, errno.0).on(subject.clone()).with_hints(&HINTS);
        let attr = self.raw(&self.change);
        let (fd, kept) = match way {
            Way::Best => sys::mount::clone_tree_attr(at, &path, flags, &attr).ok(),
            Way::TwoCalls => None,
        }
        .map_or_else(
            || {
                let fd = sys::mount::clone_tree(at, &path, flags).map_err(|errno| fail("open_tree", errno))?;
                let kept = self.set_on(&fd)?;
                Ok::<_, Error>((fd, kept))
            },
            |fd| Ok((fd, Kept::default())),
        )?;
        let mount = DetachedMount::new(fd, subject.clone()).keeping(kept);
        if !self.of_topmost.is_empty() {
            mount.set(self.of_topmost)?;
        }
        Ok(mount)
    }

    /// The source as the call takes it: a descriptor of what was looked up in a root, and a path.
    fn place(&self) -> Result<(Option<OwnedFd>, CString)> {
        let refuse = |why: &'static str| Error::invalid("open_tree", why).on(self.subject());
        match &self.source {
            Source::Fd(_) => Ok((None, CString::default())),
            Source::InRoot(root, path) => Ok((Some(root.place(path)?), CString::default())),
            Source::Path(path) if path.as_os_str().is_empty() => Err(refuse("the path is empty")),
            Source::Path(path) => match CString::new(path.as_os_str().as_bytes()) {
                Ok(path) => Ok((None, path)),
                Err(_) => Err(refuse("the path has a NUL byte in it")),
            },
        }
    }

    /// What is set in the first call.
    fn raw(&self, change: &MountChange) -> sys::RawMountAttr {
        let mut attr = change.raw();
        if let Some(userns) = self.idmap {
            idmap::add(&mut attr, userns);
            if !self.set_user_id {
                attr.attr_set |= libc::MOUNT_ATTR_NOSUID;
            }
        }
        attr
    }

    /// mount_setattr(2) of a detached tree, with what is locked left as it is or refused.
    fn set_on(&self, tree: &OwnedFd) -> Result<Kept> {
        let flags = self.change.reach() | libc::AT_EMPTY_PATH as u32;
        let fail = |errno: Errno| {
            let error = Error::from_errno("mount_setattr", errno.0).on(self.subject());
            match idmap::hint(errno).filter(|_| self.idmap.is_some()) {
                Some(hint) => error.with_hint(hint),
                None => error.with_hints(&HINTS),
            }
        };
        let refusal = match sys::mount::set_attr(tree, flags, &self.raw(&self.change)) {
            Ok(()) => return Ok(Kept::default()),
            Err(errno) => errno,
        };
        let lockable = !self.change.clear.is_empty() || self.change.atime.is_some();
        if refusal != Errno(libc::EPERM) || !lockable {
            return Err(fail(refusal));
        }
        // Without what may be locked first: if that is not permitted either, it is not about locks.
        let unlocked = MountChange { clear: MountAttr::empty(), atime: None, ..self.change };
        sys::mount::set_attr(tree, flags, &self.raw(&unlocked)).map_err(fail)?;
        let mut kept = Kept::default();
        let alone = MountChange { recursive: self.change.recursive, ..MountChange::default() };
        let is_locked = |change: MountChange| match change.apply(tree) {
            Ok(()) => Ok(false),
            Err(Errno(libc::EPERM)) => Ok(true),
            Err(errno) => Err(fail(errno)),
        };
        for attr in self.change.clear {
            if is_locked(alone.clear(attr))? {
                kept.attrs |= attr;
            }
        }
        if let Some(atime) = self.change.atime {
            kept.atime = is_locked(alone.atime(atime))?;
        }
        match self.locked {
            Locked::Refuse if !kept.is_empty() => {
                Err(fail(refusal).with_hint(format!("locked by the user namespace that the mount came from: {kept}")))
            }
            Locked::Keep | Locked::Refuse => Ok(kept),
        }
    }
}

/// By which calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// One where the kernel has it.
    Best,
    /// As before Linux 6.15.
    #[cfg_attr(not(test), allow(dead_code))]
    TwoCalls,
}

#[cfg(test)]
mod tests;
