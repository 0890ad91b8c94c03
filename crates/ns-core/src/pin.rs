//! Namespaces kept by a file: a bind mount of the namespace's own file on an empty one.
//!
//! ```text
//!   pin      create NAME (empty, mode 0, must not exist) ─► clone the mount of the handle ─► attach it over NAME
//!   unpin    detach the mount over NAME ─► remove NAME
//! ```
//!
//! Whoever is killed in the middle of either leaves an empty file, which pins nothing and takes the name: `pin` says so
//! of a name that is taken, and so does opening such a file.
//!
//! A pin is a mount, so it is subject to propagation. Where the directory is on a shared mount (`/run` mostly is) the
//! pin appears in all mount namespaces that the mount is shared with, and goes from all of them; a mount namespace that
//! has a *private copy* of it keeps the namespace alive for as long as it lives. That is why `ip netns` makes
//! `/run/netns` a shared mount before the first pin, and [`ensure_netns_dir`] too. A mount namespace is pinned the
//! other way round: only where the mount is shared with nobody, since it could otherwise come to hold itself.
#![forbid(unsafe_code)]

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cellkit_core::sys::NSFS_MAGIC;
use cellkit_core::{Errno, Error, Result};

use crate::hint::HINTS;
use crate::namespaces::{Kind, Namespaces};
use crate::ns_fd::{AnyNamespace, NsFd, NsId, any_from_fd};
use crate::program::c_string;
use crate::sys::{self, mounts};

const NOT_OURS: &str = "a pin is a mount: it needs CAP_SYS_ADMIN over this mount namespace";

impl<K: Kind> NsFd<K> {
    /// Pins the namespace to a new file at `path`: it lives until [`unpin`], with or without a process or a handle.
    ///
    /// `ip netns` knows a network namespace that is pinned in [`ensure_netns_dir`] by the name of the file.
    ///
    /// * C calls: openat(2) O_CREAT | O_EXCL; open_tree(2) OPEN_TREE_CLONE; move_mount(2). Linux 5.2.
    /// * Privileges: CAP_SYS_ADMIN in the user namespace that owns the caller's mount namespace.
    /// * Propagation: on a shared mount the pin appears in every mount namespace that the mount is shared with. One
    ///   that has a private copy of the mounts, as a [`Command`](crate::Command)'s child does that keeps the caller's
    ///   root, keeps what was pinned when it was made.
    /// * A [`Mount`](crate::Mount) namespace is pinned only on a mount that is shared with nobody (`mount
    ///   --make-private` makes it so), and only from a mount namespace that is older than itself, so that none ever
    ///   holds itself. On Linux 6.18 age is told by [numbers](NsFd::mount_namespace_id) that each processor hands out
    ///   from a store of its own, so that a new namespace may count as older: then another one has to be made.
    /// * On error the file is removed again. A process that is killed in between leaves it, empty: write down what you
    ///   are about to pin before, if you must know.
    ///
    /// ```no_run
    /// use ns_core::{Namespaces, Net, NsFd, ensure_netns_dir, unpin, unshare, with_namespaces};
    ///
    /// // ip netns add web; ip netns exec web ...; ip netns del web
    /// let thread = std::thread::spawn(|| unshare(Namespaces::NET).and_then(|()| NsFd::<Net>::of_this_thread()));
    /// let web = thread.join().expect("no panic")?; // without a process, and this thread is where it was
    /// let path = ensure_netns_dir()?.join("web");
    /// web.pin(&path)?;
    /// with_namespaces(&[&web], || std::net::UdpSocket::bind("127.0.0.1:53"))?.ok();
    /// unpin(&path)?;
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// AlreadyExists when the name is taken, with a hint that says by what: a pin, or an empty file that somebody left.
    /// NotFound and Permission from openat(2) and the mounts; Invalid (EINVAL, ELOOP) from move_mount(2) for a mount
    /// namespace that cannot be pinned there, with a hint that says why.
    ///
    /// See mount_namespaces(7), move_mount(2): <https://man7.org/linux/man-pages/man2/move_mount.2.html>.
    #[doc(alias("nsfs", "bind mount", "ip netns attach"))]
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        c_string(path, "openat")?;
        // As ip-netns(8) makes it: nobody reads or writes the file itself.
        let file = File::options().write(true).create_new(true).mode(0o000).open(path);
        let file = file.map_err(|error| taken(path, &error))?;
        let pinned = mounts::clone_mount(self.as_fd())
            .map_err(|errno| self.not_pinned("open_tree", errno, path))
            .and_then(|tree| {
                mounts::attach_mount(tree.as_fd(), file.as_fd())
                    .map_err(|errno| self.not_pinned("move_mount", errno, path))
            });
        pinned.map_err(|error| match remove_if_same(path, &file) {
            Ok(()) => error,
            Err(left) => error.context(format!("the empty file {path:?} could not be removed again: {left}")),
        })
    }

    fn not_pinned(&self, call: &'static str, errno: Errno, path: &Path) -> Error {
        let error = Error::from_errno(call, errno.0).on(path);
        match (AnyNamespace::kind(self), errno) {
            (Namespaces::MOUNT, Errno(libc::ELOOP)) => error.with_hint(
                "a mount namespace is pinned only from one that is older; on Linux 6.18 a new one may by chance \
                 count as older than this: then make another",
            ),
            (Namespaces::MOUNT, Errno(libc::EINVAL)) => error.with_hint(
                "a mount namespace is pinned only on a mount that is shared with no other: mount --make-private",
            ),
            (_, Errno(libc::EPERM)) => error.with_hint(NOT_OURS),
            _ => error,
        }
    }
}

/// Removes the file at `path` if it still is this one. Who takes it for a leftover meanwhile, removes it and uses the name
/// keeps what is there now.
fn remove_if_same(path: &Path, file: &File) -> io::Result<()> {
    let id = |data: &fs::Metadata| (data.dev(), data.ino());
    match fs::symlink_metadata(path) {
        Ok(data) if id(&data) == id(&file.metadata()?) => fs::remove_file(path),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Says by what the name is taken.
fn taken(path: &Path, error: &io::Error) -> Error {
    let refused = Error::from_io("openat", error).on(path);
    if error.kind() != io::ErrorKind::AlreadyExists {
        return refused;
    }
    let hint = match Pin::at(path) {
        Ok(Some(pin)) => format!("a {} namespace ({}) is pinned there: unpin it, or take it", pin.kind.name(), pin.id),
        _ if fs::symlink_metadata(path).is_ok_and(|data| data.is_file() && data.len() == 0) => {
            "an empty file, which pins nothing: what a killed program left, or one that is just pinning. Remove it"
                .into()
        }
        _ => "something else has this name".to_owned(),
    };
    refused.with_hint(hint)
}

/// Removes a pin: the mount, and the file below it. The namespace ends if nothing else keeps it.
///
/// Also those that `ip netns add` made. On a shared mount the pin goes from all mount namespaces.
///
/// * C calls: umount2(2) MNT_DETACH | UMOUNT_NOFOLLOW; unlink(2).
/// * Privileges: as [`NsFd::pin`].
///
/// ```
/// use ns_core::ErrorKind;
///
/// // What is no pin is left alone.
/// assert_eq!(ns_core::unpin("/etc/passwd").expect_err("no pin").kind(), ErrorKind::Invalid);
/// ```
///
/// # Errors
/// NotFound; Invalid for what is no pin, which is left alone; Permission. Busy (EBUSY) from unlink(2) when there was
/// one pin upon another: the upper one is gone then.
///
/// See umount(2): <https://man7.org/linux/man-pages/man2/umount.2.html>.
#[doc(alias("umount2", "ip netns del"))]
pub fn unpin(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let c_path = c_string(path, "umount2")?;
    if Pin::at(path)?.is_none() {
        let error = Error::invalid("umount2", "nothing is pinned here").on(path);
        return Err(match fs::symlink_metadata(path) {
            Ok(data) if data.is_file() && data.len() == 0 => {
                error.with_hint("an empty file, which pins nothing: what a killed program left. Remove it")
            }
            _ => error,
        });
    }
    mounts::unmount(&c_path).map_err(|errno| Error::from_errno("umount2", errno.0).on(path).with_hints(&HINTS))?;
    fs::remove_file(path).map_err(|error| {
        let left = "the namespace is not pinned here any more, but the empty file could not be removed";
        Error::from_io("unlink", &error).on(path).with_hints(&HINTS).context(left)
    })
}

/// A file to which a namespace is pinned: a row of [`pins`].
///
/// ```no_run
/// for pin in ns_core::pins("/run/netns")? {
///     let net = pin.open()?;
///     assert_eq!((net.kind(), net.id()), (pin.kind, pin.id));
/// }
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See ip-netns(8), mount_namespaces(7): <https://man7.org/linux/man-pages/man8/ip-netns.8.html>.
#[doc(alias = "nsfs")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pin {
    /// Where.
    pub path: PathBuf,
    /// The kind of the namespace: a set of exactly one.
    pub kind: Namespaces,
    /// Which namespace.
    pub id: NsId,
}

impl Pin {
    /// The pin at `path`; `None` for what is something else.
    fn at(path: &Path) -> Result<Option<Self>> {
        let Some(fd) = open_nsfs(path)? else { return Ok(None) };
        match any_from_fd(fd) {
            Ok(namespace) => Ok(Some(Self { path: path.to_owned(), kind: namespace.kind(), id: namespace.id() })),
            // A sort of namespace that is newer than this.
            Err(error) if error.raw_os_error().is_none() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A handle on the namespace that is pinned there now. Where you know the kind, [`NsFd::open`] gives a typed one.
    ///
    /// * C calls: openat(2), fstatfs(2), ioctl(2) NS_GET_NSTYPE. Privileges: to reach the path.
    ///
    /// # Errors
    /// NotFound, or Invalid when it has been unpinned meanwhile.
    ///
    /// See ioctl_nsfs(2): <https://man7.org/linux/man-pages/man2/ioctl_nsfs.2.html>.
    pub fn open(&self) -> Result<Box<dyn AnyNamespace>> {
        match open_nsfs(&self.path)? {
            Some(fd) => any_from_fd(fd),
            None => Err(Error::invalid("fstatfs", "nothing is pinned here").on(self.path.as_path())),
        }
    }
}

/// Opens the file if it is one of nsfs. Anything else, a device or a FIFO, is looked at and not opened.
fn open_nsfs(path: &Path) -> Result<Option<OwnedFd>> {
    let open = |flags| {
        let file = File::options().read(true).custom_flags(flags | libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
        file.map(OwnedFd::from).map_err(|error| Error::from_io("openat", &error).on(path))
    };
    let is_nsfs = |fd: &OwnedFd| {
        let magic = cellkit_core::sys::fs_magic(fd.as_raw_fd());
        magic.map(|magic| magic == NSFS_MAGIC).map_err(|errno| Error::from_errno("fstatfs", errno.0).on(path))
    };
    if !is_nsfs(&open(libc::O_PATH)?)? {
        return Ok(None);
    }
    let fd = open(0)?;
    Ok(is_nsfs(&fd)?.then_some(fd))
}

/// The pins in a directory, by name: what `ip netns list` shows of [`ensure_netns_dir`]. Files that pin nothing are
/// left out.
///
/// * C calls: getdents64(2); openat(2), fstatfs(2), ioctl(2) NS_GET_NSTYPE for each.
/// * Privileges: to read the directory.
///
/// ```no_run
/// for pin in ns_core::pins("/run/netns")? {
///     println!("{} {}:[{}]", pin.path.display(), pin.kind, pin.id); // /run/netns/web net:[4026532201]
/// }
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// # Errors
/// NotFound when there is no such directory, Permission; those of openat(2). A pin that goes while the directory is
/// read is no error.
///
/// See ip-netns(8), namespaces(7): <https://man7.org/linux/man-pages/man8/ip-netns.8.html>.
#[doc(alias = "ip netns list")]
pub fn pins(dir: impl AsRef<Path>) -> Result<Vec<Pin>> {
    let dir = dir.as_ref();
    c_string(dir, "openat")?;
    let entries = fs::read_dir(dir).map_err(|error| Error::from_io("openat", &error).on(dir))?;
    let mut pins = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| Error::from_io("getdents64", &error).on(dir))?.path();
        match Pin::at(&path) {
            Ok(pin) => pins.extend(pin),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ELOOP | libc::ENXIO)) => {}
            Err(error) => return Err(error),
        }
    }
    pins.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(pins)
}

/// Where `ip netns` has its pins.
const NETNS_DIR: &str = "/run/netns";

/// Makes `/run/netns` what `ip netns` makes of it, if it is not that yet, and answers its path: a directory that is a
/// shared mount, so that a pin appears in, and goes from, all mount namespaces alike.
///
/// * C calls: mkdir(2), flock(2), mount(2) MS_SHARED | MS_REC; where that is no mount yet, MS_BIND on itself before.
/// * Privileges: CAP_SYS_ADMIN in the user namespace that owns the caller's mount namespace, and those to make the
///   directory.
///
/// ```no_run
/// use ns_core::{Net, NsFd, ensure_netns_dir};
///
/// // ip netns attach here $$
/// NsFd::<Net>::of_this_thread()?.pin(ensure_netns_dir()?.join("here"))?;
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// # Errors
/// Those of the calls above, mostly Permission; another kind of file in its place is NotADirectory, which is Invalid.
///
/// See ip-netns(8): <https://man7.org/linux/man-pages/man8/ip-netns.8.html>.
#[doc(alias("/run/netns", "/var/run/netns"))]
pub fn ensure_netns_dir() -> Result<&'static Path> {
    let path = Path::new(NETNS_DIR);
    match DirBuilder::new().mode(0o755).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Error::from_io("mkdir", &error).on(path));
        }
        _ => {}
    }
    let dir = File::open(path).map_err(|error| Error::from_io("openat", &error).on(path))?;
    // `ip netns add` holds this lock meanwhile: two that bind at once would hide the pins of one of them.
    sys::lock(dir.as_fd()).map_err(|errno| Error::from_errno("flock", errno.0).on(path))?;
    let c_path = c_string(path, "mount")?;
    let fail = |errno: Errno| match Error::from_errno("mount", errno.0).on(path) {
        error if errno.0 == libc::EPERM => error.with_hint(NOT_OURS),
        error => error.with_hints(&HINTS),
    };
    match mounts::make_shared(&c_path) {
        // It is no mount yet.
        Err(Errno(libc::EINVAL)) => {
            mounts::bind_on_itself(&c_path).map_err(fail)?;
            mounts::make_shared(&c_path).map_err(|errno| {
                // Shared with nobody it would look finished. The lock is still held: nobody has used it.
                let _ = mounts::unmount(&c_path);
                fail(errno)
            })?;
        }
        answer => answer.map_err(fail)?,
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_file_that_was_made_is_removed() {
        let dir = faultkit::TempDir::new();
        let path = dir.path().join("pin");
        let ours = File::create_new(&path).expect("create");
        // Somebody takes it for a leftover.
        fs::remove_file(&path).expect("remove");
        remove_if_same(&path, &ours).expect("gone is no error");
        fs::write(&path, "theirs").expect("write");
        remove_if_same(&path, &ours).expect("not ours is no error");
        assert_eq!(fs::read_to_string(&path).expect("read"), "theirs");
        let theirs = File::open(&path).expect("open");
        remove_if_same(&path, &theirs).expect("remove");
        assert!(!path.exists());
    }
}
