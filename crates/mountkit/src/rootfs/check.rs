//! What can be known of a root before anything is made, and without privilege.
//!
//! * Every path of the container is inside by its letters; what links make of it is the steps' to resolve, in the root.
//! * Nothing that was asked for is hidden by something else that was: a mount by a later one or by a mask, a directory by
//!   a file. Paths are compared by their letters.
//! * What the kernel would refuse a child in a user namespace because of locked flags is refused here.
//! * A place that is missing below a read-only mount cannot be made.
#![forbid(unsafe_code)]

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cellkit_core::{Error, Result, Subject};

use super::{Base, Made, Mount, Rootfs, dev};
use crate::host_path::{io_error, open_dir};
use crate::in_root::InRootPath;
use crate::shared_fd::SharedFd;
use crate::sys::{self, Links};
use crate::{MountTable, Propagation};

/// As much content as a file of the caller's may have: it waits in memory for each start.
const MOST_CONTENT: usize = 1 << 20;

/// A mount that was asked for, with what is known of it.
struct Seen<'a> {
    target: InRootPath,
    mount: &'a Mount,
    is_dir: bool,
}

impl Rootfs {
    /// Checks everything that can be checked without privilege and without making anything.
    ///
    /// What it cannot see: links in the root, which the steps resolve, and what changes before the start.
    ///
    /// # Errors
    /// * NotFound or Invalid: the root directory or a volume's source does not exist (ENOENT) or is no directory
    ///   (ENOTDIR); a device is none.
    /// * Invalid: a target is relative, `/` itself, has `..` in it, is one this crate mounts (`/proc`, `/sys`, `/dev`,
    ///   ...); a mount hides an earlier one or is hidden by a mask, or would be in a file; a tmpfs size is 0 or too
    ///   large; a path has a NUL byte in it; a descriptor is not a mount, or not a terminal; what a user namespace may
    ///   not do is asked for an unprivileged child.
    /// * Permission (EROFS): a target is missing in a root directory that is bound read-only.
    pub fn check(&self) -> Result<()> {
        self.check_base()?;
        let seen = self.check_mounts()?;
        for (paths, hides) in [(&self.masked, true), (&self.read_only_paths, false)] {
            for path in paths {
                let mask = absolute("move_mount", path)?;
                let hidden = seen.iter().find(|seen| hides && mask.covers(&seen.target));
                if let Some(hidden) = hidden {
                    let why = format!("it would hide what is mounted on {:?}", hidden.mount.target());
                    return Err(Error::invalid("move_mount", why).on(&**path));
                }
            }
        }
        self.dev.check(self.unprivileged)?;
        self.proc.as_ref().map(crate::Proc::recipe).transpose()?;
        self.cgroup.as_ref().map(crate::Cgroup2::recipe).transpose()?;
        if self.unprivileged {
            self.check_locked()?;
        }
        self.check_places(&seen)
    }

    fn check_base(&self) -> Result<()> {
        match &self.base {
            Base::OverlayOfHost => Ok(()),
            Base::Layers(overlay) => overlay.for_steps(self.unprivileged).map(drop),
            Base::Overlay(dir) | Base::Bind(dir) => {
                open_dir(dir)?;
                let path = std::fs::canonicalize(dir).map_err(|error| io_error("realpath", &error, dir))?;
                if path == Path::new("/") {
                    let why = "the machine's own root can only be the root of a container by overlay_of_host()";
                    return Err(Error::invalid("open", why).on(&**dir));
                }
                Ok(())
            }
            Base::Detached(fd) | Base::OverlayOf(fd, _) => match check_detached(fd)? {
                true => Ok(()),
                false => Err(Error::invalid("move_mount", "a root is a directory").on(shown(fd))),
            },
        }
    }

    fn check_mounts(&self) -> Result<Vec<Seen<'_>>> {
        let mut all: Vec<Seen<'_>> = Vec::new();
        for mount in &self.mounts {
            let target = absolute("move_mount", mount.target())?;
            self.check_target(&target, mount.target())?;
            let refuse = |why: String| Err(Error::invalid("move_mount", why).on(mount.target()));
            if let Some(earlier) = all.iter().find(|earlier| target.covers(&earlier.target)) {
                return refuse(format!("it would hide what is mounted before it on {:?}", earlier.mount.target()));
            }
            if let Some(file) = all.iter().find(|earlier| !earlier.is_dir && earlier.target.covers(&target)) {
                return refuse(format!("it would be in {:?}, where a file is mounted", file.mount.target()));
            }
            let is_dir = match mount {
                Mount::Volume(volume) => volume.is_dir()?,
                Mount::File(_, content) if content.len() > MOST_CONTENT => {
                    return refuse(format!("a file of {} bytes: the most is {MOST_CONTENT}", content.len()));
                }
                Mount::File(..) => false,
                Mount::CopyUp(target, options) => {
                    options.recipe().map_err(|error| error.on(&**target))?;
                    true
                }
                Mount::Source(target, source) => match source.made().map_err(|error| error.on(&**target))? {
                    Made::Here(_) => true,
                    Made::ByTheCaller(fd) => check_detached(fd)?,
                },
            };
            all.push(Seen { target, mount, is_dir });
        }
        Ok(all)
    }

    fn check_target(&self, target: &InRootPath, shown: &Path) -> Result<()> {
        let mut names = target.names().map(OsStr::from_bytes);
        let taken = match (names.next(), names.next()) {
            (Some(top), _) if top == "proc" || top == "sys" => true,
            (Some(top), None) => top == "dev",
            (Some(top), Some(name)) if top == "dev" && self.dev.wanted => dev::NAMES.iter().any(|made| name == *made),
            _ => false,
        };
        if taken {
            let why = "this place belongs to the container's own /proc, /sys or /dev";
            return Err(Error::invalid("move_mount", why).on(shown));
        }
        Ok(())
    }

    /// A child in a new user namespace.
    fn check_locked(&self) -> Result<()> {
        let volumes = || {
            self.mounts.iter().filter_map(|mount| match mount {
                Mount::Volume(volume) => Some(volume),
                _ => None,
            })
        };
        if volumes().next().is_none() {
            return Ok(());
        }
        let table = MountTable::read()?;
        volumes().try_for_each(|volume| volume.check_locked(&table))
    }

    /// Where a root directory is bound read-only, or is on a read-only mount, every place must be there already.
    fn check_places(&self, seen: &[Seen<'_>]) -> Result<()> {
        let Base::Bind(dir) = &self.base else { return Ok(()) };
        let root = open_dir(dir)?;
        if !self.read_only && !is_read_only(&root).map_err(|errno| Error::from_errno("fstatfs", errno.0).on(&**dir))? {
            return Ok(());
        }
        let own = [("proc", self.proc.is_some()), ("sys", self.sys.is_some()), ("dev", self.dev.wanted)];
        let own = own.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| PathBuf::from(name));
        let own = own.map(|name| InRootPath::new("openat2", &name)).collect::<Result<Vec<_>>>()?;
        for target in own.iter().chain(seen.iter().map(|seen| &seen.target)) {
            // What is below another mount is that mount's to have; below /dev it is made there.
            let elsewhere = seen.iter().any(|other| other.target != *target && other.target.covers(target))
                || self.dev.wanted && target.names().len() > 1 && target.names().next() == Some(b"dev");
            if !elsewhere && is_surely_missing(&root, target) {
                let subject = Subject::PathUnder { path: target.shown(), dir: dir.clone() };
                return Err(Error::from_errno("openat2", libc::EROFS).on(subject).with_hints(&crate::HINTS));
            }
        }
        Ok(())
    }

    /// Whether what the root or a volume is cloned from must be cloned before the child's mounts are made private.
    pub(crate) fn follows_host(propagation: Propagation) -> bool {
        matches!(propagation, Propagation::Slave | Propagation::Shared)
    }
}

/// Nothing is there, and no link on the way could lead elsewhere.
fn is_surely_missing(root: &impl AsRawFd, target: &InRootPath) -> bool {
    for prefix in target.prefixes() {
        match sys::owned(sys::open_in_root(root.as_raw_fd(), prefix.path(), libc::O_PATH, Links::Refused)) {
            Ok(_) => {}
            Err(errno) => return errno.0 == libc::ENOENT,
        }
    }
    false
}

fn is_read_only(dir: &impl AsRawFd) -> std::result::Result<bool, cellkit_core::Errno> {
    const ST_RDONLY: u64 = 1;
    sys::mount_flags(dir.as_raw_fd()).map(|flags| flags & ST_RDONLY != 0)
}

fn shown(fd: &SharedFd) -> Subject {
    Subject::Thing(format!("fd {}", fd.as_fd().as_raw_fd()))
}

/// Whether the detached mount is of a directory.
pub(crate) fn check_detached(fd: &SharedFd) -> Result<bool> {
    let stat = sys::statx(fd.as_fd().as_raw_fd()).map_err(|errno| Error::from_errno("statx", errno.0).on(shown(fd)))?;
    if !stat.is_mount_root {
        return Err(Error::invalid("move_mount", "the descriptor is not that of a mount").on(shown(fd)));
    }
    Ok(stat.is(libc::S_IFDIR))
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
