//! pivot_root.
#![forbid(unsafe_code)]

use std::os::fd::AsRawFd;
use std::path::Path;

use super::here::Here;
use super::place::{self, Failure};
use super::{Causes, Reason, attach, privilege};
use crate::{MountEntry, sys};

pub(super) fn explain(failure: &Failure<'_>, here: &Here, causes: &mut Causes) {
    match failure.errno {
        libc::EPERM => privilege::explain(failure, here, causes),
        libc::EINVAL => {
            root(here, causes);
            // The new root of a child was on mounts that only it had.
            if !failure.in_child() {
                new_root(failure, here, causes);
            }
        }
        libc::EBUSY if !failure.in_child() => {
            let root = place::open(Path::new("/"), 0).and_then(|fd| sys::statx(fd.as_raw_fd()).ok());
            let new = failure.place().filter(|place| place.missing.is_none());
            if let Some((new, _)) = new.zip(root).filter(|(new, root)| new.stat.mount_id == root.mount_id) {
                causes.seen(
                    Reason::AlreadyRoot,
                    format!(
                        "{} is on the mount that is the root already: bind it onto itself first, so that it is a mount of its own",
                        new.shown.display()
                    ),
                );
            }
        }
        _ => {}
    }
}

/// What is wrong with the root that is to be left.
fn root(here: &Here, causes: &mut Causes) {
    let Some(stat) = place::open(Path::new("/"), 0).and_then(|fd| sys::statx(fd.as_raw_fd()).ok()) else { return };
    let mount = here.mount(stat.mount_id);
    if !stat.is_mount_root {
        causes.seen(
            Reason::NotAMountPoint,
            "the root of this process is a directory inside a mount, as after chroot, and only a mount can be left by \
             pivot_root: start from a process that was not put there by chroot",
        );
    } else if mount.is_some_and(|mount| mount.fs_type() == "rootfs") {
        causes.seen(
            Reason::Initramfs,
            "the root is the initramfs, the first mount of all, which nothing can take away: mount a root and switch to it \
             first (switch_root)",
        );
    } else if mount.and_then(MountEntry::parent).is_some_and(|parent| parent.peer_group().is_some()) {
        causes.seen(Reason::Shared, "the root is mounted below a shared mount: mount --make-rprivate /");
    }
}

fn new_root(failure: &Failure<'_>, here: &Here, causes: &mut Causes) {
    let Some(new) = failure.place().filter(|place| place.missing.is_none()) else { return };
    let shown = new.shown.display();
    if !new.stat.is_mount_root {
        causes.seen(
            Reason::NotAMountPoint,
            format!("{shown} is no mount point: bind it onto itself first (mount --bind {shown} {shown})"),
        );
    } else if attach::is_foreign(new, here) {
        causes.seen(
            Reason::OtherMountNamespace,
            format!("{shown} is a mount of another mount namespace, or detached: attach it in this one first"),
        );
    } else if let Some(mount) = here.mount(new.stat.mount_id) {
        let is_shared = |mount: &MountEntry<'_>| mount.peer_group().is_some();
        let above = mount.parent().filter(is_shared);
        if is_shared(&mount) || above.is_some() {
            let shared = above.filter(|_| !is_shared(&mount)).unwrap_or(mount).path().display();
            causes.seen(
                Reason::Shared,
                format!(
                    "{shared} is shared, so that the change would reach other namespaces: mount --make-rprivate {shared}, in a \
                     mount namespace of your own"
                ),
            );
        }
    }
}
