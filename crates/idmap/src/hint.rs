//! What to look at, for each error that this crate can meet.
#![forbid(unsafe_code)]

use cellkit_core::{HintRow, HintTable};

const NOT_INSTALLED: &str = "newuidmap and newgidmap are not installed: apt install uidmap (Debian, Ubuntu), \
                             dnf install shadow-utils (Fedora), pacman -S shadow (Arch)";
const MAP_REFUSED: &str = "an ordinary user may map only their own id, once, before anything else wrote the map; on \
                           Ubuntu, kernel.apparmor_restrict_unprivileged_userns=1 takes even that from a program \
                           without an AppArmor profile; for uid 0 outside, CAP_SETFCAP is needed";
const MAP_MALFORMED: &str = "the kernel takes at most 340 extents that do not overlap, and less than a page of text, \
                             in one write";

const TOO_MANY: &str = "as many user namespaces as may be: see /proc/sys/user/max_user_namespaces, here and in the user \
                        namespaces above; or this one would be more than 32 levels deep";
const READ_ONLY: &str = "the tree is on a read-only mount: mount -o remount,rw";

/// By the operation and the errno.
pub(crate) static HINTS: HintTable = HintTable(&[
    HintRow { operation: "write uid_map", errno: libc::EPERM, hint: MAP_REFUSED },
    HintRow {
        operation: "write gid_map",
        errno: libc::EPERM,
        hint: "an ordinary user may map only their own gid, once, and only after \"deny\" was written to setgroups; on \
               Ubuntu, kernel.apparmor_restrict_unprivileged_userns=1 takes even that from a program without an \
               AppArmor profile",
    },
    HintRow { operation: "write uid_map", errno: libc::EINVAL, hint: MAP_MALFORMED },
    HintRow { operation: "write gid_map", errno: libc::EINVAL, hint: MAP_MALFORMED },
    HintRow {
        operation: "write projid_map",
        errno: libc::EPERM,
        hint: "only project ids that exist in the namespace above can be mapped, once: a namespace has none unless it \
               was given a map of them, see /proc/self/projid_map",
    },
    HintRow { operation: "write projid_map", errno: libc::EINVAL, hint: MAP_MALFORMED },
    HintRow {
        operation: "write setgroups",
        errno: libc::EPERM,
        hint: "setgroups is settled before the gid map is written: this namespace has a gid map already",
    },
    HintRow {
        operation: "openat2",
        errno: libc::EACCES,
        hint: "the files of the child in /proc belong to root, because it changed its ids or ran a program that may \
               not be read: write the maps right after it was cloned",
    },
    HintRow {
        operation: "clone",
        errno: libc::EPERM,
        hint: "user namespaces are not allowed here: look at the sysctls kernel.unprivileged_userns_clone (Debian; 1 \
               allows) and kernel.apparmor_restrict_unprivileged_userns (Ubuntu; 0 allows); a container's seccomp filter \
               may refuse them, and the kernel does inside of a chroot, and for a uid or gid that is not mapped",
    },
    HintRow {
        operation: "clone",
        errno: libc::EACCES,
        hint: "a security module refused the user namespace: look for \"denied\" in the kernel's log",
    },
    HintRow { operation: "clone", errno: libc::ENOSPC, hint: TOO_MANY },
    HintRow { operation: "clone", errno: libc::EUSERS, hint: TOO_MANY },
    HintRow {
        operation: "clone",
        errno: libc::EAGAIN,
        hint: "no more processes: see ulimit -u, and pids.max of the control group",
    },
    HintRow {
        operation: "clone",
        errno: libc::EINVAL,
        hint: "this kernel was built without user namespaces (CONFIG_USER_NS)",
    },
    HintRow { operation: "execve new*", errno: libc::ENOENT, hint: NOT_INSTALLED },
    HintRow {
        operation: "execve getsubids",
        errno: libc::ENOENT,
        hint: "subid: in /etc/nsswitch.conf names a service, and the program that asks it is not installed: apt install \
               uidmap (Debian, Ubuntu), dnf install shadow-utils-subid (Fedora)",
    },
    HintRow {
        operation: "execve new*",
        errno: libc::EACCES,
        hint: "the program may not be executed: look at its mode, and at noexec in findmnt -T /usr/bin",
    },
    HintRow {
        operation: "fchownat",
        errno: libc::EPERM,
        hint: "only CAP_CHOWN changes owners, and only of files whose ids the user namespace has (others look as if they \
               were 65534's): be root, or root of a user namespace with all these ids, as in podman unshare",
    },
    HintRow {
        operation: "fchownat",
        errno: libc::EINVAL,
        hint: "the user namespace here does not have the new id: see /proc/self/uid_map and gid_map",
    },
    HintRow { operation: "fchownat", errno: libc::EROFS, hint: READ_ONLY },
    HintRow { operation: "setxattr*", errno: libc::EROFS, hint: READ_ONLY },
    HintRow {
        operation: "setxattr security.capability",
        errno: libc::EPERM,
        hint: "file capabilities need CAP_SETFCAP here, and a root that the user namespace has",
    },
    HintRow {
        operation: "unshare",
        errno: libc::EPERM,
        hint: "unshare(CLONE_FS) needs no privilege: a seccomp filter refuses it, as that of a container",
    },
    HintRow {
        operation: "flock",
        errno: libc::EBUSY,
        hint: "another shift uses this journal: wait for it, or give each shift a file of its own",
    },
]);

/// By what newuidmap or newgidmap wrote to its standard error; they have no errno. Earlier rows win.
static SAID: &[(&str, &str)] = &[
    ("not allowed", "a range is not in /etc/subuid or /etc/subgid, or a subid module of nsswitch.conf decides instead"),
    (
        "owned by a different user",
        "newuidmap wants the child, the caller's real ids and the account's primary group to agree: leave newgrp or sg",
    ),
    ("Cannot determine your user name", "newuidmap knows only users of the account database: look with getent passwd"),
    ("cannot open /etc/sub", "newuidmap and newgidmap need both /etc/subuid and /etc/subgid to exist and be readable"),
    (
        "Operation not permitted",
        "newuidmap lacks privilege: it must be setuid root or have the file capability cap_setuid (newgidmap: \
         cap_setgid), not be on a nosuid mount, and not be run under no_new_privs; or the map was already written",
    ),
    ("Could not set caps", "newuidmap has no CAP_SETUID (newgidmap: CAP_SETGID): the bounding set here lacks it"),
    ("Could not seteuid", "newuidmap could not go back to the caller's id: run it in the caller's own user namespace"),
];

/// Versions before 4.14 end without a word when they cannot open a file.
const SAID_NOTHING: &str = "it said nothing: are both /etc/subuid and /etc/subgid there and readable?";

/// What to do about a message of newuidmap or newgidmap.
pub(crate) fn of_program(said: &str) -> Option<&'static str> {
    if said.is_empty() {
        return Some(SAID_NOTHING);
    }
    SAID.iter().find(|(part, _)| said.contains(part)).map(|&(_, hint)| hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellkit_core::{Error, HintRow};

    #[test]
    fn every_row_is_found_and_names_what_to_look_at() {
        let words = [
            ("write uid_map", libc::EPERM, "apparmor_restrict_unprivileged_userns"),
            ("write gid_map", libc::EPERM, "\"deny\" was written to setgroups"),
            ("write uid_map", libc::EINVAL, "340 extents"),
            ("write gid_map", libc::EINVAL, "340 extents"),
            ("write projid_map", libc::EPERM, "/proc/self/projid_map"),
            ("write projid_map", libc::EINVAL, "340 extents"),
            ("write setgroups", libc::EPERM, "gid map already"),
            ("openat2", libc::EACCES, "right after it was cloned"),
            ("clone", libc::EPERM, "unprivileged_userns_clone"),
            ("clone", libc::EACCES, "security module"),
            ("clone", libc::ENOSPC, "max_user_namespaces"),
            ("clone", libc::EUSERS, "32 levels"),
            ("clone", libc::EAGAIN, "pids.max"),
            ("clone", libc::EINVAL, "CONFIG_USER_NS"),
            ("execve newuidmap", libc::ENOENT, "apt install uidmap"),
            ("execve getsubids", libc::ENOENT, "nsswitch.conf"),
            ("execve newgidmap", libc::EACCES, "findmnt"),
            ("fchownat", libc::EPERM, "podman unshare"),
            ("fchownat", libc::EINVAL, "does not have the new id"),
            ("fchownat", libc::EROFS, "read-only"),
            ("setxattr posix_acl_access", libc::EROFS, "read-only"),
            ("setxattr security.capability", libc::EPERM, "CAP_SETFCAP"),
            ("unshare", libc::EPERM, "seccomp"),
            ("flock", libc::EBUSY, "file of its own"),
        ];
        assert_eq!(words.len(), HINTS.0.len(), "a test for each row");
        for (row, (operation, errno, word)) in HINTS.0.iter().zip(words) {
            let HintRow { operation: named, errno: number, .. } = *row;
            assert!(operation.starts_with(named.trim_end_matches('*')) && number == errno, "{named}, {operation}");
            let error = Error::from_errno(operation, errno).with_hints(&HINTS);
            let hint = error.hint().unwrap_or_default();
            assert!(hint.contains(word) && !hint.contains('\n'), "{operation}: {hint}");
        }
    }

    #[test]
    fn what_newuidmap_says_is_understood() {
        let said = [
            ("newuidmap: uid range [0-1) -> [5-6) not allowed", "/etc/subuid"),
            ("newuidmap: Target process 7 is owned by a different user: uid:1 ...", "newgrp"),
            ("newuidmap: Cannot determine your user name.", "getent passwd"),
            ("newuidmap: cannot open /etc/subuid: No such file or directory", "/etc/subgid"),
            ("newuidmap: write to uid_map failed: Operation not permitted", "nosuid"),
            ("newuidmap: Could not set caps", "bounding set"),
            ("newuidmap: Could not seteuid to 7", "user namespace"),
        ];
        assert_eq!(said.len(), SAID.len(), "a test for each row");
        for ((part, _), (text, word)) in SAID.iter().zip(said) {
            assert!(text.contains(part), "{text}");
            assert!(of_program(text).is_some_and(|hint| hint.contains(word)), "{text}");
        }
        assert_eq!(of_program("out of memory"), None);
        assert!(of_program("").is_some_and(|hint| hint.contains("/etc/subgid")));
    }
}
