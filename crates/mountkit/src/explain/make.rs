//! fsopen, fsconfig, fsmount: file systems that cannot be had.
#![forbid(unsafe_code)]

use std::path::Path;

use super::here::Here;
use super::place::Failure;
use super::{Causes, Evidence, Reason, privilege};
use crate::MountEntry;
use crate::overlay::layers_of;

/// File systems that may be mounted in a user namespace, and the namespace that each shows.
const IN_USER_NAMESPACE: [(&str, Option<(&str, &str)>); 12] = [
    ("proc", Some(("pid", "pid"))),
    ("sysfs", Some(("net", "network"))),
    ("mqueue", Some(("ipc", "IPC"))),
    ("cgroup", Some(("cgroup", "cgroup"))),
    ("cgroup2", Some(("cgroup", "cgroup"))),
    ("tmpfs", None),
    ("ramfs", None),
    ("devpts", None),
    // Linux 5.11.
    ("overlay", None),
    ("fuse", None),
    // Linux 6.7.
    ("binfmt_misc", None),
    ("bpf", None),
];

/// Directories that the kernel made to be mounted on and has nothing in: what is mounted there hides nothing.
const MADE_FOR_MOUNTS: [&str; 12] = [
    "/fs/nfsd",
    "/sys/fs/binfmt_misc",
    "/fs/binfmt_misc",
    "/fs/bpf",
    "/fs/cgroup",
    "/fs/fuse/connections",
    "/fs/pstore",
    "/fs/selinux",
    "/fs/smackfs",
    "/kernel/config",
    "/kernel/debug",
    "/kernel/security",
];

pub(super) fn explain(failure: &Failure<'_>, here: &Here, causes: &mut Causes) {
    let Some(fs) = failure.fs_type() else { return };
    match failure.errno {
        libc::ENODEV if here.has_file_system(fs) == Some(false) => causes.seen(
            Reason::NoFileSystem,
            format!(
                "/proc/filesystems does not have {fs:?}: load its module (modprobe {fs}), or take a kernel that is built with it"
            ),
        ),
        libc::EPERM => {
            let before = causes.found.len();
            if matches!(fs, "proc" | "sysfs") && failure.operation == "fsmount" {
                revealing(failure, fs, here, causes);
            }
            if !failure.in_child() {
                user_namespace(fs, here, causes);
            }
            if causes.found.len() == before {
                privilege::explain(failure, here, causes);
            }
        }
        libc::EINVAL if fs == "overlay" && !causes.has(Reason::OverlayDepth) => depth(failure, here, causes),
        _ => {}
    }
}

fn user_namespace(fs: &str, here: &Here, causes: &mut Causes) {
    if here.is_first_user_namespace() != Some(false) {
        return;
    }
    match IN_USER_NAMESPACE.iter().find(|(name, _)| *name == fs) {
        None => causes.seen(
            Reason::NotInUserNamespace,
            format!(
                "{fs} may only be mounted by the machine's first user namespace, whose privileges this process does not have: \
                 mount it there, and bind it or send it here as a detached mount"
            ),
        ),
        Some((_, Some((name, shown)))) if here.owns(name) == Some(false) => causes.seen(
            Reason::ForeignNamespace,
            format!(
                "{fs} shows the {shown} namespace, and this process's belongs to another user namespace: make a new {shown} \
                 namespace together with the user namespace"
            ),
        ),
        Some(_) => {}
    }
}

/// In a user namespace a fresh procfs or sysfs may show nothing that the mounted ones hide.
fn revealing(failure: &Failure<'_>, fs: &str, here: &Here, causes: &mut Causes) {
    let is_inside = failure.in_child() || here.is_first_user_namespace() == Some(false);
    if !is_inside || here.mounts().is_empty() {
        return;
    }
    let mut covered = Vec::new();
    for mount in here.mounts().iter().filter(|mount| mount.fs_type() == fs && mount.root() == "/") {
        let over: Vec<_> = mount.children().filter(|over| hides(over.path(), mount.path())).collect();
        match over.split_first() {
            // This one is whole, so it is not this.
            None => return,
            Some((first, rest)) => covered.push((mount, *first, rest.len())),
        }
    }
    let text = match covered.first() {
        None => format!(
            "no whole {fs} is mounted here, and a user namespace may only have a fresh one where it sees one already: keep the \
             host's mounted until the new one is there"
        ),
        Some((mount, first, others)) => format!(
            "{} is covered in part ({} by {}{}), as in a container, and a user namespace may not have a fresh {fs} that shows \
             what is hidden: uncover it, or bind the one that is there",
            mount.path().display(),
            first.path().display(),
            first.fs_type().to_string_lossy(),
            if *others == 0 { String::new() } else { format!(", and {others} more") }
        ),
    };
    causes.seen(Reason::Revealing, text);
}

/// Whether what is mounted on `over` hides something of what is mounted on `mount`.
fn hides(over: &Path, mount: &Path) -> bool {
    let Ok(below) = over.strip_prefix(mount) else { return true };
    let below = Path::new("/").join(below);
    !MADE_FOR_MOUNTS.iter().any(|made| below == Path::new(made))
}

/// How many overlays the layers of this mount are on, itself included.
fn overlays(mount: MountEntry<'_>, here: &Here, left: u32) -> u32 {
    if mount.fs_type() != "overlay" || left == 0 {
        return 0;
    }
    let layers = layers_of(mount);
    let below = layers.iter().filter_map(|layer| here.mount_of(layer));
    1 + below.map(|mount| overlays(mount, here, left - 1)).max().unwrap_or(0)
}

fn depth(failure: &Failure<'_>, here: &Here, causes: &mut Causes) {
    let Some(place) = failure.place().filter(|place| place.missing.is_none()) else { return };
    let Some(mount) = here.mount(place.stat.mount_id) else { return };
    if overlays(mount, here, 3) >= 2 {
        causes.add(
            Reason::OverlayDepth,
            Evidence::Seen,
            format!(
                "{} is on an overlay of an overlay ({}), and the kernel stacks no third on it: take the layers that that one is \
                 made of, or a copy",
                place.shown.display(),
                mount.path().display()
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_a_part_of_proc() {
        let hides = |over, mount| hides(Path::new(over), Path::new(mount));
        assert!(hides("/proc/kcore", "/proc") && hides("/proc/sys", "/proc"));
        assert!(!hides("/proc/sys/fs/binfmt_misc", "/proc") && !hides("/sys/fs/cgroup", "/sys"));
        // Where it cannot be told, it does.
        assert!(hides("/elsewhere", "/proc"));
    }
}
