//! Which part of a path it is, and why nothing can be made there.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cellkit_core::Subject;

use super::here::{CAP_MKNOD, Here};
use super::place::{self, Failure, Place};
use super::{Causes, Reason, privilege};
use crate::in_root::InRootPath;
use crate::sys::{self, Links, look};
use crate::{MountAttr, RootFd, SuperFlags};

/// EPERM and EROFS of calls that make, change or remove files.
pub(super) fn explain(failure: &Failure<'_>, here: &Here, causes: &mut Causes) {
    let before = causes.found.len();
    if failure.errno == libc::EROFS {
        return read_only(failure, here, causes);
    }
    if failure.operation == "mknodat" && !failure.in_child() {
        if here.is_first_user_namespace() == Some(false) {
            causes.seen(
                Reason::NotInUserNamespace,
                "device nodes can only be made by the machine's first user namespace: bind the host's instead",
            );
        } else if here.has_capability(CAP_MKNOD) == Some(false) {
            causes.seen(
                Reason::Capability,
                "this process does not have CAP_MKNOD, which a device node needs: bind the host's instead",
            );
        }
    }
    if let Some(place) = failure.place() {
        let attributes = look::file_attributes(place.as_fd()).unwrap_or(0);
        for (bit, flag) in [(libc::STATX_ATTR_IMMUTABLE, 'i'), (libc::STATX_ATTR_APPEND, 'a')] {
            if attributes & bit as u64 != 0 {
                let shown = place.shown.display();
                causes.seen(
                    Reason::Immutable,
                    format!("{shown} has the attribute {flag}, which not even root gets past: chattr -{flag} {shown}"),
                );
            }
        }
    }
    if causes.found.len() == before && here.is_filtered() && !failure.in_child() {
        privilege::explain(failure, here, causes);
    }
}

fn read_only(failure: &Failure<'_>, here: &Here, causes: &mut Causes) {
    let Some(place) = failure.place() else { return };
    let Some(mount) = here.mount(place.stat.mount_id) else { return };
    let target = mount.path().display();
    if mount.attrs().contains(MountAttr::RDONLY) {
        causes.seen(
            Reason::ReadOnly,
            format!(
                "the mount on {target} is read-only: make what is missing before it is mounted, or mount it writable (mount -o \
                 remount,bind,rw {target})"
            ),
        );
    } else if mount.super_flags().contains(SuperFlags::RDONLY) {
        causes.seen(
            Reason::ReadOnly,
            format!(
                "the file system on {target} ({}) is read-only: mount it writable (mount -o remount,rw {target}), or look in \
                 the kernel's log whether an error made it so",
                mount.fs_type().to_string_lossy()
            ),
        );
    }
}

/// Errnos of a lookup, whatever it was for.
pub(super) fn explain_lookup(failure: &Failure<'_>, causes: &mut Causes) {
    // Of these calls ELOOP is about mounts, and not about links.
    let is_of_mounts = matches!(failure.operation, "move_mount" | "fsconfig");
    match failure.errno {
        libc::ENOENT if !causes.has(Reason::Missing) => missing(failure, causes),
        libc::ENOTDIR if !causes.has(Reason::FileAndDirectory) => {
            if let Some(place) = failure.place().filter(|place| !place.is_dir()) {
                let text = format!("{} is {}, not a directory", place.shown.display(), place.kind());
                causes.seen(Reason::NotADirectory, text);
            }
        }
        libc::ELOOP if !is_of_mounts => links(failure, causes),
        libc::EACCES => no_access(failure, causes),
        _ => {}
    }
}

fn missing(failure: &Failure<'_>, causes: &mut Causes) {
    let Some(place) = failure.place() else { return };
    let Some(name) = &place.missing else { return };
    let shown = place.shown.display();
    let text = match child(place, name) {
        // What `readlink -f` says of it would be right outside, and wrong here.
        Some((link, body)) if link.is(libc::S_IFLNK) => match failure.subject {
            Some(Subject::PathUnder { dir, .. }) => format!(
                "{name:?} in {shown} is a symbolic link to {body:?}, and inside {} that does not exist",
                dir.display()
            ),
            _ => format!("{name:?} in {shown} is a symbolic link to {body:?}, which does not exist"),
        },
        _ => format!("{shown} is there, and has no {name:?} in it"),
    };
    causes.seen(Reason::Missing, text);
}

/// What is called `name` in it, without following it, and where it leads if it is a link.
fn child(place: &Place, name: &Path) -> Option<(sys::Stat, PathBuf)> {
    let path = InRootPath::new("openat2", name).ok()?;
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    let fd = sys::owned(sys::open_in_root(place.as_fd().as_raw_fd(), path.full(), flags, Links::Inside)).ok()?;
    let stat = sys::statx(fd.as_raw_fd()).ok()?;
    let body = sys::fs::read_link(fd.as_raw_fd(), c"").unwrap_or_default();
    Some((stat, OsString::from_vec(body).into()))
}

fn links(failure: &Failure<'_>, causes: &mut Causes) {
    let first = match failure.subject {
        Some(Subject::PathUnder { path, dir }) if dir.is_absolute() => {
            RootFd::open(dir).ok().and_then(|root| first_link_in(&root, path))
        }
        Some(Subject::Path(path)) => first_link(path),
        _ => None,
    };
    let Some(link) = first else { return };
    let shown = link.display();
    causes.seen(
        Reason::SymbolicLink,
        format!(
            "{shown} is a symbolic link, and here none may be, or it leads round in a circle: put a real directory or file in \
             its place"
        ),
    );
}

fn parts(path: &Path) -> Vec<&Path> {
    let mut parts: Vec<_> = path.ancestors().filter(|part| !part.as_os_str().is_empty()).collect();
    parts.reverse();
    parts
}

fn first_link(path: &Path) -> Option<PathBuf> {
    let is_link = |path: &&Path| {
        place::open(path, libc::O_NOFOLLOW)
            .and_then(|fd| sys::statx(fd.as_raw_fd()).ok())
            .is_some_and(|stat| stat.is(libc::S_IFLNK))
    };
    parts(path).into_iter().find(is_link).map(Path::to_owned)
}

fn first_link_in(root: &RootFd, path: &Path) -> Option<PathBuf> {
    let is_link = |part: &&Path| {
        let Ok(part) = InRootPath::new("openat2", part) else { return false };
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        sys::owned(sys::open_in_root(root.as_fd().as_raw_fd(), part.full(), flags, Links::Inside))
            .and_then(|fd| sys::statx(fd.as_raw_fd()))
            .is_ok_and(|stat| stat.is(libc::S_IFLNK))
    };
    parts(path).into_iter().find(is_link).map(Path::to_owned)
}

fn no_access(failure: &Failure<'_>, causes: &mut Causes) {
    let Some(Subject::Path(path)) = failure.subject else { return no_access_inside(failure, causes) };
    for part in parts(path) {
        let Some(fd) = place::open(part, 0) else { return };
        let Ok(stat) = File::from(fd.try_clone().unwrap_or(fd)).metadata() else { return };
        let mode = stat.mode();
        let is_last = part == path;
        // A child's ids are not known; what only its owner may pass stops the others.
        let stops = match failure.in_child() {
            true => mode & 0o001 == 0 && stat.is_dir() && !is_last,
            false if stat.is_dir() => !may(part, libc::X_OK),
            false => !may(part, libc::R_OK),
        };
        if stops {
            return say_no_access(part, mode, stat.uid(), stat.gid(), causes);
        }
    }
}

fn no_access_inside(failure: &Failure<'_>, causes: &mut Causes) {
    let Some(place) = failure.place().filter(|place| place.is_dir()) else { return };
    let Some(stat) = place.as_fd().try_clone_to_owned().ok().and_then(|fd| File::from(fd).metadata().ok()) else {
        return;
    };
    if stat.mode() & 0o001 == 0 {
        say_no_access(&place.shown, stat.mode(), stat.uid(), stat.gid(), causes);
    }
}

fn may(path: &Path, mode: i32) -> bool {
    place::open(path, 0).is_none_or(|fd| sys::may(fd.as_raw_fd(), mode))
}

fn say_no_access(path: &Path, mode: u32, uid: u32, gid: u32, causes: &mut Causes) {
    let shown = path.display();
    causes.seen(
        Reason::NoAccess,
        format!(
            "{shown} has mode {:04o} and belongs to {uid}:{gid}, so not everybody may pass: give others the right (chmod o+x), \
             or put it elsewhere",
            mode & 0o7777
        ),
    );
}
