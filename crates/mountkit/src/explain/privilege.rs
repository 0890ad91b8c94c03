//! EPERM for want of a privilege, and ENOSYS.
#![forbid(unsafe_code)]

use super::here::{CAP_SYS_ADMIN, Here};
use super::place::Failure;
use super::{Causes, Reason};
use crate::sys::mount::{kernel_release, version};

/// The first kernel with each call.
const SINCE: [(&str, &str); 9] = [
    ("openat2", "5.6"),
    ("open_tree", "5.2"),
    ("move_mount", "5.2"),
    ("fsopen", "5.2"),
    ("fsconfig", "5.2"),
    ("fsmount", "5.2"),
    ("mount_setattr", "5.12"),
    ("open_tree_attr", "6.15"),
    ("statmount", "6.8"),
];

/// What is in the way of whoever may not mount.
pub(super) fn explain(failure: &Failure<'_>, here: &Here, causes: &mut Causes) {
    if failure.in_child() {
        // It had its own capabilities and namespaces, which are gone with it.
        return;
    }
    if here.owns("mnt") == Some(false) {
        causes.seen(
            Reason::NotOwner,
            "this mount namespace belongs to another user namespace than the caller's, so its capabilities do not count in it: \
             make a mount namespace of your own too (unshare --user --mount)",
        );
    } else if here.has_capability(CAP_SYS_ADMIN) == Some(false) {
        causes.seen(
            Reason::Capability,
            "this process does not have CAP_SYS_ADMIN in its user namespace: be root, or make a user namespace and a mount \
             namespace together (unshare --user --mount)",
        );
    } else {
        if let Some(profile) = here.profile() {
            causes.seen(
                Reason::SecurityModule,
                format!(
                    "a security module confines this process ({profile:?}), and may forbid mounts: see its log (dmesg)"
                ),
            );
        }
        if here.is_filtered() {
            causes.seen(
                Reason::Filter,
                format!(
                    "a seccomp filter stands before this process's system calls, as in a container, and may refuse {}",
                    failure.operation
                ),
            );
        }
    }
}

/// ENOSYS: the kernel is too old, or somebody hides the call.
pub(super) fn not_there(failure: &Failure<'_>, here: &Here, causes: &mut Causes) {
    let (call, kernel) = (failure.operation, kernel_release());
    let since = SINCE.iter().find(|(name, _)| *name == call).map(|(_, since)| *since);
    match (since, kernel) {
        (Some(since), Some(kernel)) if version(since).is_some_and(|since| kernel < since) => {
            let (major, minor) = kernel;
            let text = format!("{call} came with Linux {since}, and this is {major}.{minor}");
            causes.seen(Reason::OldKernel, text);
        }
        (Some(since), Some((major, minor))) if failure.in_child() || here.is_filtered() => causes.seen(
            Reason::Filter,
            format!(
                "this is Linux {major}.{minor}, which has {call} (since {since}): a seccomp filter hides it, as those of older \
                 container programs do; let the outer container allow it"
            ),
        ),
        _ => {}
    }
}
