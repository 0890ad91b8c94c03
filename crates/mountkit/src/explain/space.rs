//! ENOSPC and EDQUOT: which limit it is that was reached.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use super::here::Here;
use super::place::Failure;
use super::{Causes, Evidence, Reason};
use crate::sys::look;

/// The kinds of namespaces in `/proc/sys/user`.
const KINDS: [&str; 8] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"];

pub(super) fn explain(failure: &Failure<'_>, here: &Here, causes: &mut Causes) {
    match failure.operation {
        "move_mount" | "open_tree" | "fsmount" | "mount" => mounts(failure, here, causes),
        "clone3" | "clone" | "unshare" | "setns" => namespaces(here, causes),
        _ => file_system(failure, here, causes),
    }
}

fn mounts(failure: &Failure<'_>, here: &Here, causes: &mut Causes) {
    let all = here.mount_count();
    let (Some(count), Some(max)) = (all.or_else(|| here.reachable_mounts()), here.mount_max()) else { return };
    let parent = failure.place().and_then(|place| here.mount(place.stat.mount_id));
    let shared = parent.filter(|parent| parent.peer_group().is_some());
    // Nobody sees those that were left below when the root was changed. These calls hardly have another reason for this
    // errno than a namespace that is full; it is this one, unless another one is a peer.
    let (hidden, which) = match (all, shared) {
        (None, None) => (max / 10 + 8, " that can be reached from here"),
        (None, Some(_)) => (0, " that can be reached from here"),
        (Some(_), _) => (0, ""),
    };
    // A tree comes with all its mounts.
    let tree = failure.place().map_or(1, |place| {
        let below = here.mounts().iter().filter(|mount| mount.path().starts_with(&place.shown)).count();
        below.max(1) as u64
    });
    // The one that everything is mounted on, and that nobody sees, is counted too.
    if count.saturating_add(tree).saturating_add(hidden) >= max {
        causes.seen(
            Reason::MountMax,
            format!(
                "the mount namespace has {count} mounts{which}, and fs.mount-max allows {max}: unmount what is not needed \
                 (findmnt), or raise it (sysctl fs.mount-max)"
            ),
        );
    } else if let Some(parent) = shared {
        causes.add(
            Reason::MountMax,
            Evidence::Known,
            format!(
                "the mount namespace has {count} mounts of {max}, but {} is shared, and what is mounted below it appears in \
                 other namespaces too: one of them is full",
                parent.path().display()
            ),
        );
    }
}

fn namespaces(here: &Here, causes: &mut Causes) {
    for kind in KINDS {
        let file = format!("sys/user/max_{kind}_namespaces");
        if let Some(max) = here.read(&file).and_then(|text| text.trim().parse::<u64>().ok()).filter(|max| *max < 16) {
            causes.seen(
                Reason::NamespaceMax,
                format!("user.max_{kind}_namespaces is {max}: raise it (sysctl user.max_{kind}_namespaces)"),
            );
        }
    }
}

fn file_system(failure: &Failure<'_>, here: &Here, causes: &mut Causes) {
    let Some(place) = failure.place() else { return };
    let Some(mount) = here.mount(place.stat.mount_id) else { return };
    let (target, fs) = (mount.path().display(), mount.fs_type().to_string_lossy());
    if failure.errno == libc::EDQUOT {
        let text = format!("a quota on {target} ({fs}) is used up: see quota(1)");
        return causes.add(Reason::Quota, Evidence::Known, text);
    }
    let Ok(space) = look::space(place.as_fd()) else { return };
    let upper = if mount.fs_type() == "overlay" { ", which is that of its upper directory," } else { "" };
    if space.blocks > 0 && space.free_blocks == 0 {
        causes.seen(
            Reason::NoSpace,
            format!("the file system on {target} ({fs}){upper} has no space left: make room, or give it more (see df)"),
        );
    }
    if space.inodes > 0 && space.free_inodes == 0 {
        causes.seen(
            Reason::NoInodes,
            format!(
                "the file system on {target} ({fs}){upper} has space, but no inode left for one more file: remove files, or \
                 give it more (see df -i; of a tmpfs nr_inodes=)"
            ),
        );
    }
}
