//! Network namespaces with names, which `ip netns` knows.
//!
//! Theory of operation. A name is a file in /run/netns with the namespace's own file mounted over it. So a name is in a mount
//! namespace, and what happens to it in others is a matter of propagation.
//!
//! ```text
//!   create   lock /run/netns ─► create NAME (empty, must not exist) ─► mount the namespace over it
//!   remove   lock /run/netns ─► unmount NAME ─► unlink NAME
//! ```
//!
//! *Which propagation.* `ip netns` makes /run/netns a mount of its own and shared, and so is it here: a private directory
//! would keep new names out of other mount namespaces, but each one that is made later, by a container's start, has a copy of
//! the names there are, and keeps the namespaces alive. With a shared one the unmount reaches those that are shared with it or
//! slaves of it. Those that have made theirs private are reached by the unlink: since Linux 3.18 the kernel detaches what is
//! mounted on a file that is removed, in every mount namespace. So after the removal the name is nowhere, however the mounts
//! were propagated. (It also has to be a mount from the start: `ip netns add` would bind the directory on itself later, names
//! and all, and names made before would then be there twice, one below the other, where nobody can remove them.)
//!
//! *Kills.* Who is killed between the file and the mount leaves an empty file that takes the name. The namespace is made
//! before, so that it is a matter of microseconds, and it is done under a lock, flock(2) on the directory, which ends with its
//! holder. Therefore whoever has the lock knows an empty file with this crate's mode for a leftover, and uses it. `ip netns`
//! holds that lock too, but not while it makes files (mode 0), and makes the namespace in between: its empty files are
//! leftovers only when they are old.
#![forbid(unsafe_code)]

mod lock;

use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cellkit_core::sys::{NSFS_MAGIC, fs_magic};
use cellkit_core::{Errno, Error, ErrorKind, Result, Subject};
use nix::unistd::{UnlinkatFlags, unlinkat};

use lock::Lock;

use super::{Netns, NetnsId};
use crate::hint::HINTS;
use crate::sys;

const DIR: &str = "/run/netns";
/// NAME_MAX
const LONGEST: usize = 255;
/// What tells our files from those of `ip netns`, which have mode 0.
const MODE: u32 = 0o444;
/// How old an empty file of `ip netns` has to be for nobody to be at work on it: it makes a namespace meanwhile, some
/// milliseconds.
const OLD: Duration = Duration::from_secs(60);
/// How long others may hold the lock: they mount or unmount one file.
const LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);
/// How many mounts may lie on a name.
const DEEPEST: usize = 16;

pub(super) const EMPTY: &str =
    "an empty file in the place of a namespace: a program was killed while it made it; remove it with ip netns delete";
const NOT_OURS: &str = "naming a network namespace takes a mount: it needs CAP_SYS_ADMIN over this mount namespace";

/// A name in /run/netns, as [`Netns::list_named`] finds it.
///
/// ```no_run
/// for found in vethnet::Netns::list_named()? {
///     match found.id {
///         Some(id) => println!("{:?} {id}", found.name),
///         None => println!("{:?}: what a killed program left", found.name),
///     }
/// }
/// # Ok::<(), vethnet::Error>(())
/// ```
///
/// See ip-netns(8): <https://man7.org/linux/man-pages/man8/ip-netns.8.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamedNetns {
    /// The name.
    pub name: OsString,
    /// The namespace. `None` where there is none: an empty file, which takes the name.
    pub id: Option<NetnsId>,
}

/// What the name leads to.
enum Found {
    Nothing,
    Namespace,
    /// An empty file.
    Leftover(Metadata),
    SomethingElse,
}

impl Netns {
    /// A new network namespace with a name, as `ip netns add NAME` makes it. It lives until
    /// [`remove_named`](Netns::remove_named).
    ///
    /// * C calls: unshare(2) CLONE_NEWNET on a thread that ends; flock(2); openat(2) O_CREAT | O_EXCL; open_tree(2),
    ///   move_mount(2) (Linux 5.2). /run/netns is made, and made a shared mount, where it is not yet.
    /// * Of several that want one name at once, exactly one gets it.
    /// * Killed in between, it leaves an empty file, which the next one that wants the name uses, and
    ///   [`reconcile_named`](Netns::reconcile_named) removes.
    /// * The name is the caller's to remove: dropping the handle does not. Write it down before, to find it after a kill.
    /// * Blocks for some milliseconds.
    /// * Privileges: CAP_SYS_ADMIN, also over the mount namespace, and those to write to /run.
    ///
    /// ```no_run
    /// let web = vethnet::Netns::create_named("web")?;
    /// // ip netns exec web ip address
    /// web.run(|| std::process::Command::new("ip").arg("address").status())?.ok();
    /// vethnet::Netns::remove_named("web")?;
    /// # Ok::<(), vethnet::Error>(())
    /// ```
    ///
    /// # Errors
    /// Invalid for what is no name: empty, longer than 255 bytes, `.`, `..`, or with a `/` or NUL in it. AlreadyExists.
    /// Permission. TimedOut when another process holds the lock for 10 seconds.
    ///
    /// See ip-netns(8): <https://man7.org/linux/man-pages/man8/ip-netns.8.html>.
    #[doc(alias = "ip netns add")]
    pub fn create_named(name: impl AsRef<OsStr>) -> Result<Self> {
        let name = Name::new(name.as_ref(), "ip netns add")?;
        // A look before the costly part, and again under the lock.
        if let Ok(Found::Namespace | Found::SomethingElse) = name.find() {
            return Err(name.taken());
        }
        let netns = Self::new()?;
        netns.give_name(&name)?;
        Ok(netns)
    }

    fn give_name(&self, name: &Name) -> Result<()> {
        let _lock = Lock::on_directory()?;
        let file = match name.create_file() {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => match name.find()? {
                Found::Leftover(data) if is_ours(&data) => name.open_file()?,
                _ => return Err(name.taken()),
            },
            Err(error) => return Err(error),
        };
        let fail = |call: &'static str, Errno(errno): Errno| name.fail(Error::from_errno(call, errno));
        let mounted =
            sys::netns::clone_mount(self.as_fd()).map_err(|errno| fail("open_tree", errno)).and_then(|tree| {
                sys::netns::attach_mount(tree.as_fd(), file.as_fd()).map_err(|errno| fail("move_mount", errno))
            });
        mounted.map_err(|error| match name.unlink() {
            Ok(()) => error,
            Err(left) => error.context(format!("the empty file {:?} could not be removed again: {left}", name.path())),
        })
    }

    /// The namespace of this name, whoever made it.
    ///
    /// * C calls: openat(2), ioctl(2) NS_GET_NSTYPE. Privileges: none.
    ///
    /// ```no_run
    /// println!("web is {}", vethnet::Netns::open_named("web")?);
    /// # Ok::<(), vethnet::Error>(())
    /// ```
    ///
    /// # Errors
    /// Invalid for what is no name, and where something else than a network namespace has it; NotFound.
    ///
    /// See ip-netns(8): <https://man7.org/linux/man-pages/man8/ip-netns.8.html>.
    pub fn open_named(name: impl AsRef<OsStr>) -> Result<Self> {
        Self::of_path(Name::new(name.as_ref(), "openat")?.path()).map_err(|error| match error.kind() {
            ErrorKind::NotFound => error.with_hint("no network namespace has this name here: look with ip netns list"),
            _ => error,
        })
    }

    /// Takes the name away, as `ip netns delete NAME` does. The namespace ends when nothing else keeps it.
    ///
    /// * C calls: flock(2); umount2(2) MNT_DETACH; unlinkat(2). The name is gone from every mount namespace then, also
    ///   from those that had a private copy.
    /// * An empty file that takes the name is removed.
    /// * Blocks. Privileges: CAP_SYS_ADMIN over the mount namespace.
    ///
    /// # Errors
    /// Invalid for what is no name, and for what is neither a namespace nor an empty file, which is left alone; NotFound;
    /// Permission.
    ///
    /// See ip-netns(8): <https://man7.org/linux/man-pages/man8/ip-netns.8.html>.
    #[doc(alias = "ip netns delete")]
    pub fn remove_named(name: impl AsRef<OsStr>) -> Result<()> {
        let name = Name::new(name.as_ref(), "ip netns delete")?;
        // Nothing to lock where there is no directory.
        if let Found::Nothing = name.find()? {
            return Err(name.fail(Error::from_errno("unlinkat", libc::ENOENT)));
        }
        let _lock = Lock::take()?;
        for _ in 0..DEEPEST {
            match name.find()? {
                Found::Namespace => {
                    let path = name.c_path();
                    sys::netns::unmount(&path)
                        .map_err(|Errno(errno)| name.fail(Error::from_errno("umount2", errno)))?;
                }
                Found::SomethingElse => {
                    return Err(Error::invalid("umount2", "this is not a network namespace").on(name.path()));
                }
                Found::Leftover(_) | Found::Nothing => break,
            }
        }
        name.unlink()
    }

    /// All names, sorted, as `ip netns list` shows them; also those that lead to no namespace.
    ///
    /// * C calls: getdents64(2); openat(2), ioctl(2) for each. Privileges: none.
    ///
    /// # Errors
    /// Those of openat(2). That there is no /run/netns is none.
    ///
    /// See ip-netns(8): <https://man7.org/linux/man-pages/man8/ip-netns.8.html>.
    #[doc(alias = "ip netns list")]
    pub fn list_named() -> Result<Vec<NamedNetns>> {
        let fail = |call: &'static str, error: &std::io::Error| Error::from_io(call, error).on(Path::new(DIR));
        let entries = match std::fs::read_dir(DIR) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(fail("openat", &error)),
        };
        let mut list = Vec::new();
        for entry in entries {
            let name = Name(entry.map_err(|error| fail("getdents64", &error))?.file_name());
            let id = match name.find()? {
                Found::Namespace => match Self::open_named(&name.0) {
                    Ok(netns) => Some(netns.id()),
                    // It went meanwhile, or is a namespace of another kind.
                    Err(_) => continue,
                },
                Found::Leftover(_) => None,
                Found::Nothing | Found::SomethingElse => continue,
            };
            list.push(NamedNetns { name: name.0, id });
        }
        list.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(list)
    }

    /// Removes what killed programs left in /run/netns, and says which names that were: empty files that nobody is at work
    /// on. Those of `ip netns` have to be a minute old. Namespaces are never removed.
    ///
    /// # Errors
    /// Every failure, after all names were tried.
    ///
    /// ```no_run
    /// for name in vethnet::Netns::reconcile_named()? {
    ///     println!("removed {name:?}, which led to nothing");
    /// }
    /// # Ok::<(), vethnet::Error>(())
    /// ```
    ///
    /// See ip-netns(8): <https://man7.org/linux/man-pages/man8/ip-netns.8.html>.
    pub fn reconcile_named() -> Result<Vec<OsString>> {
        let leftovers: Vec<_> = Self::list_named()?.into_iter().filter(|found| found.id.is_none()).collect();
        if leftovers.is_empty() {
            return Ok(Vec::new());
        }
        let _lock = Lock::take()?;
        let mut removed = Vec::new();
        let mut errors = Vec::new();
        for name in leftovers.into_iter().map(|found| Name(found.name)) {
            match name.find() {
                Ok(Found::Leftover(data)) if is_ours(&data) || is_old(&data) => match name.unlink() {
                    Ok(()) => removed.push(name.0),
                    Err(error) => errors.push(error),
                },
                Ok(_) => {}
                Err(error) => errors.push(error),
            }
        }
        Error::all(errors).map(|()| removed)
    }
}

fn is_ours(data: &Metadata) -> bool {
    data.permissions().mode() & 0o7777 == MODE
}

fn is_old(data: &Metadata) -> bool {
    let modified = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    SystemTime::now().duration_since(modified).is_ok_and(|age| age > OLD)
}

/// A file name that may be a namespace's.
#[derive(Debug)]
struct Name(OsString);

impl Name {
    fn new(name: &OsStr, operation: &'static str) -> Result<Self> {
        let bytes = name.as_bytes();
        let why = match bytes {
            b"" => "the name of a network namespace is empty",
            b"." | b".." => "this is the name of a directory",
            _ if bytes.contains(&b'/') => "the name of a network namespace has no slash",
            _ if bytes.contains(&0) => "the name of a network namespace has no NUL",
            _ if bytes.len() > LONGEST => "the name of a network namespace has at most 255 bytes",
            _ => return Ok(Self(name.to_owned())),
        };
        Err(Error::invalid(operation, why).on(Subject::Value(name.to_string_lossy().into_owned())))
    }

    fn path(&self) -> PathBuf {
        Path::new(DIR).join(&self.0)
    }

    fn c_path(&self) -> CString {
        // A name has no NUL: it was checked, or it is a file's.
        CString::new(self.path().into_os_string().into_vec()).unwrap_or_default()
    }

    fn fail(&self, error: Error) -> Error {
        let error = error.on(self.path()).with_hints(&HINTS);
        if error.kind() == ErrorKind::Permission { error.with_hint(NOT_OURS) } else { error }
    }

    fn find(&self) -> Result<Found> {
        // Looked at, not opened: it could be a device or a FIFO.
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(self.path()) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(self.fail(Error::from_io("openat", &error))),
        };
        let magic =
            fs_magic(file.as_raw_fd()).map_err(|Errno(errno)| self.fail(Error::from_errno("fstatfs", errno)))?;
        if magic == NSFS_MAGIC {
            return Ok(Found::Namespace);
        }
        let data = file.metadata().map_err(|error| self.fail(Error::from_io("fstat", &error)))?;
        Ok(if data.is_file() && data.size() == 0 { Found::Leftover(data) } else { Found::SomethingElse })
    }

    fn taken(&self) -> Error {
        let error = Error::from_errno("openat", libc::EEXIST).on(self.path());
        match self.find() {
            Ok(Found::Leftover(_)) => error.with_hint(
                "an empty file, of an ip netns add under way or killed: when it stays, remove it with ip netns delete",
            ),
            Ok(Found::SomethingElse) => error.with_hint("something else than a namespace has this name"),
            _ => error.with_hint("a network namespace of this name exists: open it, or choose another name"),
        }
    }

    fn create_file(&self) -> Result<File> {
        let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(self.path());
        let file = file.map_err(|error| self.fail(Error::from_io("openat", &error)))?;
        // Whatever the umask of the caller is.
        let mode = std::fs::Permissions::from_mode(MODE);
        match file.set_permissions(mode) {
            Ok(()) => Ok(file),
            Err(error) => {
                let error = self.fail(Error::from_io("fchmod", &error));
                Error::all(std::iter::once(error).chain(self.unlink().err())).map(|()| file)
            }
        }
    }

    fn open_file(&self) -> Result<File> {
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(self.path());
        file.map_err(|error| self.fail(Error::from_io("openat", &error)))
    }

    fn unlink(&self) -> Result<()> {
        let dir = File::open(DIR).map_err(|error| self.fail(Error::from_io("openat", &error)))?;
        unlinkat(&dir, self.0.as_os_str(), UnlinkatFlags::NoRemoveDir)
            .map_err(|errno| self.fail(Error::from_errno("unlinkat", errno as i32)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name() {
        for (name, why) in [
            (&b""[..], "is empty"),
            (b".", "of a directory"),
            (b"..", "of a directory"),
            (b"a/b", "no slash"),
            (b"/", "no slash"),
            (b"../etc", "no slash"),
            (b"a\0b", "no NUL"),
            (&[b'x'; 256], "at most 255"),
        ] {
            for result in [
                Netns::create_named(OsStr::from_bytes(name)).map(drop),
                Netns::open_named(OsStr::from_bytes(name)).map(drop),
                Netns::remove_named(OsStr::from_bytes(name)),
            ] {
                let error = result.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Invalid);
                assert!(error.to_string().contains(why), "{error}");
            }
        }
        for name in ["web", "...", "a.b", "-", "über", "a b"] {
            assert!(Name::new(OsStr::new(name), "x").is_ok());
        }
        assert!(Name::new(OsStr::from_bytes(&[b'x'; 255]), "x").is_ok());
        assert!(Name::new(OsStr::from_bytes(b"\xff"), "x").is_ok());
    }
}
