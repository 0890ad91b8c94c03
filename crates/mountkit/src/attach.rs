//! Where a detached mount is to be seen.
//!
//! A target is looked up once, to a descriptor, and everything is asked of that: whether a directory would be mounted on a
//! file, and whether the mount it is on is shared. Then it is mounted on, as it is, whatever its name leads to by then.
#![forbid(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use cellkit_core::{Errno, Error, Result, Subject};

use crate::hint::HINTS;
use crate::peers::{self, Seen, Which};
use crate::{RootFd, sys};

/// A place for a mount, and how it is put there: for [`DetachedMount::attach_to`](crate::DetachedMount::attach_to).
///
/// ```no_run
/// use mountkit::{Attach, Bind, RootFd};
///
/// let root = RootFd::open("/srv")?;
/// // A new version of what is mounted there, under the old one: when that is unmounted, this is what is seen.
/// Bind::new("/srv/v2").mount()?.attach_to(&Attach::at(&root, "current").beneath())?;
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// See move_mount(2): <https://man7.org/linux/man-pages/man2/move_mount.2.html>.
#[derive(Clone, Debug)]
#[doc(alias = "move_mount")]
#[must_use = "it is a place, and nothing is done until something is attached to it"]
pub struct Attach<'a> {
    target: Target<'a>,
    beneath: bool,
    with_peers: bool,
}

#[derive(Clone, Debug)]
enum Target<'a> {
    InRoot(&'a RootFd, PathBuf),
    Fd(BorrowedFd<'a>),
}

/// What [`Attach`] was looked up to.
pub(crate) struct Place<'a> {
    fd: PlaceFd<'a>,
    subject: Subject,
}

enum PlaceFd<'a> {
    Owned(OwnedFd),
    Borrowed(BorrowedFd<'a>),
}

impl AsFd for Place<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.fd {
            PlaceFd::Owned(fd) => fd.as_fd(),
            PlaceFd::Borrowed(fd) => *fd,
        }
    }
}

impl<'a> Attach<'a> {
    /// The existing directory or file `path`, which is looked up inside `root` only. `/` is the root itself.
    pub fn at(root: &'a RootFd, path: impl AsRef<Path>) -> Self {
        Self { target: Target::InRoot(root, path.as_ref().into()), beneath: false, with_peers: false }
    }

    /// The directory or file that `target` is a descriptor of (O_PATH will do), in a mount of the caller's mount namespace.
    #[doc(alias = "MOVE_MOUNT_T_EMPTY_PATH")]
    pub fn on(target: &'a impl AsFd) -> Self {
        Self { target: Target::Fd(target.as_fd()), beneath: false, with_peers: false }
    }

    /// Under the mount that is there, and not over it: it is seen when that one is unmounted, so that one can be
    /// exchanged for another without a moment in between. Linux 6.5; Unsupported before.
    #[doc(alias = "MOVE_MOUNT_BENEATH")]
    pub fn beneath(mut self) -> Self {
        self.beneath = true;
        self
    }

    /// Also where what is mounted there is shared with other mounts (on most machines every mount is, until a new mount
    /// namespace makes them private): then it appears at each of them, in other mount namespaces too. Without this word
    /// such a place is refused.
    #[doc(alias = "MS_SHARED")]
    pub fn with_peers(mut self) -> Self {
        self.with_peers = true;
        self
    }

    fn place(&self) -> Result<Place<'a>> {
        match &self.target {
            Target::InRoot(root, path) => {
                let fd = PlaceFd::Owned(root.place(path)?);
                Ok(Place { fd, subject: root.subject(path) })
            }
            Target::Fd(fd) => {
                Ok(Place { fd: PlaceFd::Borrowed(*fd), subject: Subject::Thing(format!("fd {}", fd.as_raw_fd())) })
            }
        }
    }

    /// move_mount(2) of the mount that `mount` is the root of.
    pub(crate) fn put(&self, mount: BorrowedFd<'_>) -> Result<Subject> {
        let place = self.place()?;
        let refuse = |why: &'static str| Error::invalid("move_mount", why).on(place.subject.clone());
        let stat = |fd: BorrowedFd<'_>| {
            sys::statx(fd.as_raw_fd())
                .map_err(|errno| Error::from_errno("statx", errno.0).on(place.subject.clone()).with_hints(&HINTS))
        };
        let (from, to) = (stat(mount)?, stat(place.as_fd())?);
        match (from.is(libc::S_IFDIR), to.is(libc::S_IFDIR)) {
            (true, false) => return Err(refuse("a directory cannot be mounted on what is not one")),
            (false, true) => return Err(refuse("a file cannot be mounted on a directory")),
            _ => {}
        }
        if to.is(libc::S_IFLNK) {
            return Err(refuse("a symbolic link cannot be mounted on"));
        }
        if self.beneath && !to.is_mount_root {
            return Err(refuse("nothing is mounted there that something could be put beneath"));
        }
        let parent = if self.beneath { Which::Above } else { Which::Own };
        let seen = if self.with_peers { None } else { Some(peers::seen(place.as_fd(), parent)?) };
        if seen == Some(Seen::AtPeers) {
            return Err(refuse("it is on a shared mount: what is mounted there appears at all peers of that too")
                .with_hint(
                    "in a mount namespace of your own make the mounts private or slaves first; if other mount \
                            namespaces are to see it, say Attach::with_peers()",
                ));
        }
        let flags = if self.beneath { sys::mount::MOVE_MOUNT_BENEATH } else { 0 };
        sys::mount::move_to(mount, place.as_fd(), flags).map_err(|errno| {
            let error = Error::from_errno("move_mount", errno.0).on(place.subject.clone()).with_hints(&HINTS);
            match errno {
                Errno(libc::EINVAL) if self.beneath && !sys::mount::knows_beneath() => {
                    error.as_unsupported("MOVE_MOUNT_BENEATH", Some("6.5"))
                }
                Errno(libc::EINVAL)
                    if seen == Some(Seen::Nowhere)
                        && sys::mount::kernel_release().is_some_and(|release| release < (6, 15)) =>
                {
                    error.as_unsupported("a mount on one that is detached", Some("6.15"))
                }
                _ => error,
            }
        })?;
        Ok(place.subject)
    }
}
