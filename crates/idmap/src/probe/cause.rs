//! From an errno to the reason, and what to do about it. Pure: the surroundings are an argument.
//!
//! # Theory of operation
//!
//! clone(2) says little: EPERM is a seccomp filter, Debian's switch, a chroot, ids without a number or a security module.
//! The order of the questions here is that in which the kernel asks them, so that the first that is true is the reason:
//!
//! ```text
//! seccomp filter         asked with flags that the kernel itself refuses with EINVAL: another answer is a filter's
//! Debian's switch        EPERM
//! 33 levels, the limits  ENOSPC
//! chroot                 EPERM
//! ids without a number   EPERM
//! security modules       EPERM or EACCES
//! ```
#![forbid(unsafe_code)]

use cellkit_core::Errno;

use super::Obstacle;
use super::surroundings::Surroundings;
use crate::sys::trial::{Answers, Try};

/// Whether what answered to `what` was a seccomp filter: the kernel's own answer is EINVAL.
pub(super) fn is_filtered(tried: &Answers, what: Try) -> bool {
    !matches!(tried.of(what), Some(Err(Errno(libc::EINVAL))))
}

/// Why clone(2) with CLONE_NEWUSER answered `errno`.
pub(super) fn of_clone(errno: Errno, tried: &Answers, around: &Surroundings) -> (Obstacle, String) {
    if errno.0 != libc::ENOSPC && is_filtered(tried, Try::CloneFiltered) {
        return (Obstacle::Seccomp, SECCOMP.into());
    }
    match errno.0 {
        libc::EINVAL | libc::ENOSYS => {
            let fix = "this kernel is built without them: boot one with CONFIG_USER_NS=y";
            (Obstacle::NotInKernel, fix.into())
        }
        libc::ENOSPC => no_space(around),
        libc::EAGAIN | libc::ENOMEM => (Obstacle::Processes, PROCESSES.into()),
        libc::EPERM if around.unprivileged_userns_clone == Some(0) && !around.is_machine_admin() => {
            let fix = "they are for root only: as root, sysctl -w kernel.unprivileged_userns_clone=1";
            (Obstacle::UnprivilegedUsernsClone, fix.into())
        }
        libc::EPERM if around.chroot == Some(true) => {
            let fix = "none can be made in a chroot: enter the directory with pivot_root, in a mount namespace, instead \
                       of with chroot";
            (Obstacle::Chroot, fix.into())
        }
        libc::EPERM if around.unmapped.is_some() => {
            let kind = around.unmapped.unwrap_or_default();
            let fix = format!(
                "the caller's {kind} has no number in its own user namespace: map it (see /proc/self/{kind}_map), or \
                 change to one that has"
            );
            (Obstacle::UnmappedIds, fix)
        }
        libc::EPERM | libc::EACCES => of_module(around),
        _ => (Obstacle::Other, "look at the errno in the manual page of clone(2)".into()),
    }
}

pub(super) const SECCOMP: &str = "a seccomp filter forbids it: allow clone, clone3, unshare and setns in the container's profile \
                       (Docker: --security-opt seccomp=FILE), or RestrictNamespaces=no in the unit";
pub(super) const PROCESSES: &str =
    "no process can be made: look at ulimit -u, at pids.max of the control group and at the memory";

fn no_space(around: &Surroundings) -> (Obstacle, String) {
    // What a namespace that nobody limited has.
    const UNLIMITED: u64 = i32::MAX as u64;
    match around.max_user_namespaces {
        Some(0) => {
            let fix = "none are allowed here: as root of this user namespace, sysctl -w user.max_user_namespaces=10000";
            (Obstacle::MaxUserNamespaces, fix.into())
        }
        limit if around.initial == Some(true) || limit.is_some_and(|limit| limit < UNLIMITED / 2) => {
            let limit = limit.map_or("all that are allowed".into(), |limit| format!("{limit} are allowed, and"));
            let nested = if around.initial == Some(true) {
                ""
            } else {
                "; or an outer user namespace allows no more, or 33 are nested already: then start from further out"
            };
            let fix = format!(
                "{limit} are in use by this user: end some (see lsns -t user), or as root raise \
                 user.max_user_namespaces{nested}"
            );
            (Obstacle::MaxUserNamespacesReached, fix)
        }
        _ => {
            let fix = "an outer user namespace allows no more (its user.max_user_namespaces; bwrap --disable-userns sets \
                       it), or 33 are nested already: start from further out";
            (Obstacle::OutsideLimit, fix.into())
        }
    }
}

/// Which security module it was that forbids, as far as can be told.
pub(super) fn of_module(around: &Surroundings) -> (Obstacle, String) {
    if around.apparmor_restricts == Some(1) && !around.is_machine_admin() {
        let fix = "AppArmor forbids it to unprivileged programs: as root, sysctl -w \
                   kernel.apparmor_restrict_unprivileged_userns=0, or a profile with \"userns,\" for this program";
        return (Obstacle::AppArmor, fix.into());
    }
    if around.selinux_enforces {
        let fix = "SELinux forbids it: see ausearch -m avc -ts recent, and give the domain the permission create of the \
                   class user_namespace";
        return (Obstacle::SeLinux, fix.into());
    }
    if let Some(profile) = &around.apparmor_profile {
        let fix = format!("AppArmor's profile {profile:?} of this program forbids it: it wants the rule \"userns,\"");
        return (Obstacle::AppArmor, fix);
    }
    let modules = around.modules.as_deref().unwrap_or("unknown");
    let also = if around.chroot.is_none() { ", or this is a chroot, where none can be made" } else { "" };
    let fix = format!("a security module forbids it{also}: look with dmesg (modules here: {modules})");
    (Obstacle::SecurityModule, fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried() -> Answers {
        Answers::invented(&[(Try::CloneFiltered, libc::EINVAL)])
    }

    fn ordinary() -> Surroundings {
        Surroundings { initial: Some(true), chroot: Some(false), ..Surroundings::default() }
    }

    #[test]
    fn each_cause_by_what_is_there() {
        let nested = || Surroundings { initial: Some(false), ..ordinary() };
        let cases = [
            (libc::EINVAL, ordinary(), Obstacle::NotInKernel, "CONFIG_USER_NS"),
            (libc::EAGAIN, ordinary(), Obstacle::Processes, "pids.max"),
            (libc::EIO, ordinary(), Obstacle::Other, "clone(2)"),
            (
                libc::ENOSPC,
                Surroundings { max_user_namespaces: Some(0), ..ordinary() },
                Obstacle::MaxUserNamespaces,
                "sysctl -w user.max_user_namespaces",
            ),
            (
                libc::ENOSPC,
                Surroundings { max_user_namespaces: Some(7), ..ordinary() },
                Obstacle::MaxUserNamespacesReached,
                "7 are allowed, and are in use by this user",
            ),
            (
                libc::ENOSPC,
                Surroundings { max_user_namespaces: Some(7), ..nested() },
                Obstacle::MaxUserNamespacesReached,
                "an outer",
            ),
            (
                libc::ENOSPC,
                Surroundings { max_user_namespaces: Some(2_147_483_647), ..nested() },
                Obstacle::OutsideLimit,
                "33 are nested",
            ),
            (libc::ENOSPC, nested(), Obstacle::OutsideLimit, "bwrap --disable-userns"),
            (
                libc::EPERM,
                Surroundings { unprivileged_userns_clone: Some(0), ..ordinary() },
                Obstacle::UnprivilegedUsernsClone,
                "sysctl -w kernel.unprivileged_userns_clone=1",
            ),
            (libc::EPERM, Surroundings { chroot: Some(true), ..ordinary() }, Obstacle::Chroot, "pivot_root"),
            (
                libc::EPERM,
                Surroundings { unmapped: Some("gid"), ..nested() },
                Obstacle::UnmappedIds,
                "/proc/self/gid_map",
            ),
            (
                libc::EACCES,
                Surroundings { apparmor_restricts: Some(1), ..ordinary() },
                Obstacle::AppArmor,
                "kernel.apparmor_restrict_unprivileged_userns=0",
            ),
            (libc::EACCES, Surroundings { selinux_enforces: true, ..ordinary() }, Obstacle::SeLinux, "ausearch"),
            (
                libc::EACCES,
                Surroundings { apparmor_profile: Some("web".into()), ..ordinary() },
                Obstacle::AppArmor,
                "profile \"web\"",
            ),
            (libc::EPERM, ordinary(), Obstacle::SecurityModule, "dmesg"),
            (libc::EPERM, Surroundings { chroot: None, ..ordinary() }, Obstacle::SecurityModule, "chroot"),
        ];
        for (errno, around, obstacle, word) in cases {
            let (found, fix) = of_clone(Errno(errno), &tried(), &around);
            assert_eq!(found, obstacle, "{errno}: {around:?}");
            assert!(fix.contains(word) && !fix.contains("  "), "{fix}");
            // A filter that answers before the kernel does is the reason, whatever else would be one; but it does not
            // say ENOSPC.
            let (found, _) = of_clone(Errno(errno), &Answers::invented(&[(Try::CloneFiltered, libc::EPERM)]), &around);
            assert_eq!(found == Obstacle::Seccomp, errno != libc::ENOSPC);
        }
    }

    #[test]
    fn the_machines_root_is_not_stopped_by_what_stops_the_unprivileged() {
        let root = Surroundings {
            unprivileged_userns_clone: Some(0),
            apparmor_restricts: Some(1),
            sys_admin: true,
            ..ordinary()
        };
        assert_eq!(of_clone(Errno(libc::EPERM), &tried(), &root).0, Obstacle::SecurityModule);
        // Root of a nested namespace is.
        let nested = Surroundings { initial: Some(false), ..root };
        assert_eq!(of_clone(Errno(libc::EPERM), &tried(), &nested).0, Obstacle::UnprivilegedUsernsClone);
    }
}
