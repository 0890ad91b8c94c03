//! open_tree, move_mount, mount_setattr.
#![forbid(unsafe_code)]

use super::here::Here;
use super::place::{Failure, Place};
use super::{Causes, Evidence, Reason, holders, privilege};
use crate::{Atime, MountAttr, MountEntry, Propagation};

pub(super) fn explain(failure: &Failure<'_>, here: &Here, causes: &mut Causes) {
    match (failure.operation, failure.errno) {
        ("open_tree", libc::EINVAL) => clone(failure, here, causes),
        ("move_mount", libc::EINVAL | libc::ENOTDIR) => attach(failure, here, causes),
        ("move_mount", libc::ELOOP) => causes.add(
            Reason::Loop,
            Evidence::Known,
            "the target is below the very mount that is to be moved there: clone it (open_tree with OPEN_TREE_CLONE) and \
             attach the clone",
        ),
        ("mount_setattr", libc::EINVAL) => change(failure, here, causes),
        ("mount_setattr", libc::EPERM) => {
            // About a map the error's own hint says which privileges count; flags have no part in it.
            if !failure.is_about_id_map() {
                locked(failure, here, causes);
            } else if !failure.in_child() && here.is_first_user_namespace() == Some(false) {
                causes.add(
                    Reason::IdMap,
                    Evidence::Seen,
                    "an id map is given by whoever has CAP_SYS_ADMIN where the file system was mounted, which for a disk is the \
                     machine's first user namespace, and this process is in another: make the mount there and send it here \
                     (DetachedMount::send)",
                );
            }
            privilege::explain(failure, here, causes);
        }
        ("mount_setattr", libc::EBUSY) => writers(failure, here, causes),
        (_, libc::EPERM) => privilege::explain(failure, here, causes),
        _ => {}
    }
}

/// A mount of which this thread's table knows nothing.
pub(super) fn is_foreign(place: &Place, here: &Here) -> bool {
    !here.mounts().is_empty() && here.mount(place.stat.mount_id).is_none()
}

fn foreign(place: &Place, causes: &mut Causes) {
    causes.seen(
        Reason::OtherMountNamespace,
        format!(
            "{} is on a mount that is not in this process's mount namespace, but in another one or detached: do it in the \
             namespace that it belongs to, or send a detached mount there",
            place.shown.display()
        ),
    );
}

fn clone(failure: &Failure<'_>, here: &Here, causes: &mut Causes) {
    let Some(place) = failure.place().filter(|place| place.missing.is_none()) else { return };
    let Some(mount) = here.mount(place.stat.mount_id) else { return foreign(place, causes) };
    let target = mount.path().display();
    if mount.propagation() == Propagation::Unbindable {
        causes.seen(
            Reason::Unbindable,
            format!("the mount on {target} is unbindable, so it cannot be cloned: mount --make-private {target}"),
        );
    }
    let below: Vec<_> = mounts_below(mount, place).collect();
    // Which of them are locked, no file says: in a user namespace's own mount namespace those it began with are.
    if let Some(first) = below.first().filter(|_| failure.in_child() || here.is_first_user_namespace() == Some(false)) {
        causes.seen(
            Reason::LockedMounts,
            format!(
                "{} has {} below it, {} for one, which a user namespace may not look below: clone it with what is mounted \
                 below it (recursive), or unmount that before",
                place.shown.display(),
                counted(below.len(), "mount"),
                first.path().display()
            ),
        );
    }
}

fn mounts_below<'a>(mount: MountEntry<'a>, place: &'a Place) -> impl Iterator<Item = MountEntry<'a>> {
    mount.children().filter(|other| other.path().starts_with(&place.shown))
}

pub(super) fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("a {what}") } else { format!("{count} {what}s") }
}

fn attach(failure: &Failure<'_>, here: &Here, causes: &mut Causes) {
    let Some(place) = failure.place().filter(|place| place.missing.is_none()) else { return };
    match here.mount(place.stat.mount_id) {
        // What a child mounted before is not to be seen from here.
        None if !failure.in_child() => foreign(place, causes),
        None => {}
        Some(mount) if place.stat.is_mount_root && !failure.in_child() => {
            if let Some(parent) = mount.parent().filter(|parent| parent.peer_group().is_some()) {
                let (target, above) = (mount.path().display(), parent.path().display());
                causes.seen(
                    Reason::Shared,
                    format!(
                        "{target} is mounted below {above}, which is shared, and from there no mount may be moved away: \
                         mount --make-private {above}, or clone it and attach the clone"
                    ),
                );
            }
            if mount.propagation() == Propagation::Unbindable {
                causes.seen(
                    Reason::Unbindable,
                    format!(
                        "the mount on {} is unbindable, and what is below a shared mount would be cloned to its peers: \
                         mount --make-private it, or attach it below a private mount",
                        mount.path().display()
                    ),
                );
            }
        }
        Some(_) => {}
    }
    if causes.found.is_empty() {
        let (shown, kind) = (place.shown.display(), place.kind());
        let other = if place.is_dir() { "a file" } else { "a directory" };
        causes.add(
            Reason::FileAndDirectory,
            Evidence::Seen,
            format!(
                "{shown} is {kind}, and {other} cannot change places with it: a directory is mounted on a directory, \
                 anything else on anything else"
            ),
        );
    }
}

/// File systems that refuse id maps, or refused them until not long ago.
const WITHOUT_IDMAP: [&str; 12] =
    ["proc", "sysfs", "devpts", "cgroup", "cgroup2", "nfs", "nfs4", "cifs", "9p", "overlay", "fuse", "mqueue"];

fn change(failure: &Failure<'_>, here: &Here, causes: &mut Causes) {
    let Some(place) = failure.place().filter(|place| place.missing.is_none()) else { return };
    let shown = place.shown.display();
    if !place.stat.is_mount_root {
        causes.seen(
            Reason::NotAMountPoint,
            format!(
                "{shown} is no mount point, and only a mount has flags: bind it onto itself first (mount --bind {shown} {shown})"
            ),
        );
        return;
    }
    match here.mount(place.stat.mount_id) {
        None if !failure.in_child() => foreign(place, causes),
        Some(mount) if WITHOUT_IDMAP.iter().any(|fs| mount.fs_type() == *fs) => causes.add(
            Reason::IdMap,
            Evidence::Known,
            format!(
                "{shown} is {}: if an id map was asked for, that file system does not take one; give it to the mounts that it is \
                 made of, or below it",
                mount.fs_type().to_string_lossy()
            ),
        ),
        _ => {}
    }
}

/// The words of what `mount` has and a user namespace may not clear.
fn lockable(mount: MountEntry<'_>) -> Vec<String> {
    let attrs = mount.attrs() - MountAttr::NOSYMFOLLOW;
    let attrs = Some(attrs).filter(|attrs| !attrs.is_empty()).map(|attrs| attrs.to_string());
    let atime = Some(mount.atime()).filter(|atime| *atime != Atime::Strict).map(|atime| atime.to_string());
    attrs.into_iter().chain(atime).collect()
}

fn locked(failure: &Failure<'_>, here: &Here, causes: &mut Causes) {
    let Some(place) = failure.place().filter(|place| place.missing.is_none()) else { return };
    let Some(mount) = here.mount(place.stat.mount_id) else { return };
    let is_inside = failure.in_child() || here.is_first_user_namespace() == Some(false);
    let flags = lockable(mount);
    if is_inside && !flags.is_empty() {
        causes.seen(
            Reason::LockedFlags,
            format!(
                "the mount on {} has {}, and a user namespace that was given it may not take them away: ask for these too, or \
                 mount it without them in the namespace it comes from",
                mount.path().display(),
                flags.join(",")
            ),
        );
    }
}

fn writers(failure: &Failure<'_>, here: &Here, causes: &mut Causes) {
    let Some(place) = failure.place() else { return };
    let found = holders::of(place, here.mount(place.stat.mount_id), holders::Use::Writing);
    causes.seen(
        Reason::InUse,
        match holders::listed(&found) {
            Some(list) => format!("{} has files open for writing: {list}; end them first", place.shown.display()),
            None => format!(
                "{} has files open for writing, by somebody who cannot be seen from here: look as root, in the machine's own \
                 namespaces (fuser -vm)",
                place.shown.display()
            ),
        },
    );
}
