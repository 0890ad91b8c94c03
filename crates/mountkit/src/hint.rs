//! What to look at when a call of this crate fails.
#![forbid(unsafe_code)]

use cellkit_core::{HintRow, HintTable};

const SCRATCH_IS_FULL: &str =
    "the file system of the root is full; where the root is an overlay, that is the tmpfs for what it writes";

/// This crate's hints, by operation and errno: for whoever runs the steps and makes the error of the one that failed.
///
/// ```
/// use cellkit_core::Error;
///
/// let error = Error::from_errno("pivot_root", 22).with_hints(&mountkit::HINTS);
/// assert!(error.hint().is_some_and(|hint| hint.contains("initramfs")));
/// ```
pub static HINTS: HintTable = HintTable(&[
    HintRow {
        operation: "open",
        errno: libc::ENOENT,
        hint: "a root, a volume's source, and the lower and upper directory of an overlay must exist before: make it, or mend the path",
    },
    HintRow {
        operation: "open",
        errno: libc::ENOTDIR,
        hint: "a root or a layer is a directory: unpack an archive or mount an image first, and name the directory",
    },
    HintRow {
        operation: "open",
        errno: libc::EACCES,
        hint: "the caller may not read this, or may not pass a directory on the way: see the modes along the path",
    },
    HintRow {
        operation: "openat2",
        errno: libc::ELOOP,
        hint: "a symbolic link is in the way: /proc, /sys and /dev of a root must be real directories",
    },
    HintRow {
        operation: "openat2",
        errno: libc::EBUSY,
        hint: "a symbolic link on the way leads to the root itself, and nothing can be mounted there: mend it, or name \
               another target",
    },
    HintRow {
        operation: "openat2",
        errno: libc::ENOTDIR,
        hint: "a directory is wanted there, and the root has something else",
    },
    HintRow {
        operation: "openat2",
        errno: libc::EACCES,
        hint: "the directory belongs to an id that the child's user namespace does not map, or its mode is too strict",
    },
    HintRow {
        operation: "openat2",
        errno: libc::ENOENT,
        hint: "a part of the path, or what a symbolic link on the way leads to, does not exist in the root: make it before (mkdir_all, \
               ensure_file)",
    },
    HintRow {
        operation: "openat2",
        errno: libc::EROFS,
        hint: "the target is missing and cannot be made on a read-only mount: make it in the source",
    },
    HintRow { operation: "openat2", errno: libc::EAGAIN, hint: "somebody keeps renaming or mounting on the way to it" },
    HintRow {
        operation: "openat2",
        errno: libc::ENOSYS,
        hint: "Linux 5.6 or newer is needed, or a seccomp filter of an outer container hides the call",
    },
    HintRow {
        operation: "openat2",
        errno: libc::EXDEV,
        hint: "the path leads out of the directory that it must stay in, or to another mount",
    },
    HintRow {
        operation: "openat2",
        errno: libc::EPERM,
        hint: "a seccomp filter forbids it, or the file may not be opened so",
    },
    HintRow {
        operation: "chdir",
        errno: libc::EACCES,
        hint: "the caller may not pass that directory: its owner is not mapped, or its mode is too strict",
    },
    HintRow {
        operation: "fchdir",
        errno: libc::EACCES,
        hint: "the caller may not pass that directory: its owner is not mapped, or its mode is too strict",
    },
    HintRow { operation: "mkdirat", errno: libc::ENOSPC, hint: SCRATCH_IS_FULL },
    HintRow {
        operation: "mkdirat",
        errno: libc::EROFS,
        hint: "the mount or its file system is read-only: make the directory in the source before",
    },
    HintRow {
        operation: "mkdirat",
        errno: libc::EACCES,
        hint: "the caller may not write to the directory, or not pass one on the way: see the modes along the path",
    },
    HintRow { operation: "mkdirat", errno: libc::EDQUOT, hint: "a quota is used up: see quota(1)" },
    HintRow {
        operation: "mkdirat",
        errno: libc::EPERM,
        hint: "the directory is immutable (lsattr -d), or its file system has no directories",
    },
    HintRow {
        operation: "mkdirat",
        errno: libc::EOVERFLOW,
        hint: "the caller's id has no number on this mount: its id map, or the file system's user namespace, leaves it out",
    },
    HintRow { operation: "mknodat", errno: libc::ENOSPC, hint: SCRATCH_IS_FULL },
    HintRow {
        operation: "mknodat",
        errno: libc::EPERM,
        hint: "device nodes need CAP_MKNOD in the first user namespace: say `unprivileged()` and they are bind mounts",
    },
    HintRow {
        operation: "mknodat",
        errno: libc::EROFS,
        hint: "the mount or its file system is read-only: make the file in the source before",
    },
    HintRow {
        operation: "mknodat",
        errno: libc::EACCES,
        hint: "the caller may not write to the directory: see the modes along the path",
    },
    HintRow { operation: "mknodat", errno: libc::EDQUOT, hint: "a quota is used up: see quota(1)" },
    HintRow { operation: "symlinkat", errno: libc::ENOSPC, hint: SCRATCH_IS_FULL },
    HintRow {
        operation: "symlinkat",
        errno: libc::EROFS,
        hint: "the mount or its file system is read-only: make the link in the source before",
    },
    HintRow {
        operation: "symlinkat",
        errno: libc::EEXIST,
        hint: "the root has something of that name where a link is to be",
    },
    HintRow {
        operation: "fchownat",
        errno: libc::EPERM,
        hint: "CAP_CHOWN is missing, or the owner is an id that the user namespace does not map",
    },
    HintRow {
        operation: "fchownat",
        errno: libc::EINVAL,
        hint: "the owner is an id that the user namespace or the id map of the mount leaves out",
    },
    HintRow {
        operation: "setxattrat",
        errno: libc::EOPNOTSUPP,
        hint: "the file system keeps no such attributes: tmpfs has those of users (user.*) since Linux 6.6; take another file \
               system, or, as root, another form of whiteouts",
    },
    HintRow {
        operation: "setxattrat",
        errno: libc::EPERM,
        hint: "trusted attributes need CAP_SYS_ADMIN in the first user namespace (a layer: Whiteouts::OverlayUser does without), \
               and user ones are for files and directories only",
    },
    HintRow {
        operation: "setxattrat",
        errno: libc::ENOSPC,
        hint: "the file system is full, or ext4 has no room for more attributes of one file than a block",
    },
    HintRow {
        operation: "statx",
        errno: libc::ENODEV,
        hint: "the host's device node is not the device of that name: see `ls -l /dev/null` and its like",
    },
    HintRow {
        operation: "copy_up",
        errno: libc::ENOSPC,
        hint: "the tmpfs is smaller than what the directory holds: give tmpfs_copy_up a larger size",
    },
    HintRow {
        operation: "copy_up",
        errno: libc::ELOOP,
        hint: "there are more than 64 directories within one another: name one that is further down",
    },
    HintRow {
        operation: "copy_up",
        errno: libc::EAGAIN,
        hint: "a file was exchanged for something else while it was copied: somebody changes the root meanwhile",
    },
    HintRow {
        operation: "copy_up",
        errno: libc::ERANGE,
        hint: "something in it has an extended attribute of more than 4 KiB: give the container a copy or an overlay of it",
    },
    HintRow {
        operation: "copy_up",
        errno: libc::EACCES,
        hint: "something in it belongs to an id that the child's user namespace does not map, and its mode is strict",
    },
    HintRow {
        operation: "copy_up",
        errno: libc::EINVAL,
        hint: "something in it belongs to an id that the child's user namespace does not map, and a tmpfs of it cannot keep",
    },
    HintRow {
        operation: "fsopen",
        errno: libc::ENODEV,
        hint: "this kernel has no such file system: see /proc/filesystems, or load its module (`modprobe overlay`)",
    },
    HintRow {
        operation: "fsopen",
        errno: libc::EPERM,
        hint: "CAP_SYS_ADMIN in the user namespace of the mount namespace is missing, or in that of the network namespace for \
            sysfs; or a seccomp filter forbids it",
    },
    HintRow {
        operation: "fsopen",
        errno: libc::ENOSYS,
        hint: "Linux 5.2 or newer is needed, or a seccomp filter of an outer container hides the call",
    },
    HintRow {
        operation: "fsconfig",
        errno: libc::EINVAL,
        hint: "it has no such option, or takes no such value. overlay: in a user namespace say Rootfs::unprivileged(), and \
               the lower directory must have no mounts below it; overlays stack two deep at most; `dmesg | tail` may say \
               more. devpts: its gid must be mapped in the user namespace",
    },
    HintRow {
        operation: "fsconfig",
        errno: libc::ELOOP,
        hint: "overlay: the lower, upper and work directories overlap, or one is in use by another overlay",
    },
    HintRow {
        operation: "fsconfig",
        errno: libc::EBUSY,
        hint: "overlay: the upper or work directory is in use by another overlay mount",
    },
    HintRow {
        operation: "fsconfig",
        errno: libc::EPERM,
        hint: "the file system may not be mounted from this user namespace: proc needs an own pid namespace, sysfs an own \
               network namespace, mqueue an own ipc namespace, cgroup2 an own cgroup namespace; overlay needs \
               Linux 5.11",
    },
    HintRow {
        operation: "fsconfig",
        errno: libc::ENOENT,
        hint: "a directory or device that the file system is made of does not exist: make it before",
    },
    HintRow {
        operation: "fsconfig",
        errno: libc::ENODEV,
        hint: "the file system is built without what was asked for, or its device is gone",
    },
    HintRow {
        operation: "fsconfig",
        errno: libc::ENOSPC,
        hint: "the file system that it is made on is full, or the kernel has no more of what it is made of",
    },
    HintRow {
        operation: "fsmount",
        errno: libc::EPERM,
        hint: "a part of the host's own /proc or /sys is covered by another mount, as in a container: the kernel then \
               allows no fresh one in a user namespace; uncover it, or use a bind of the host's",
    },
    HintRow {
        operation: "fsmount",
        errno: libc::EBUSY,
        hint: "the file system context was mounted already, or has failed before: make a new one",
    },
    HintRow {
        operation: "fspick",
        errno: libc::EINVAL,
        hint: "a file system is named by the root of a mount of it, and this is another directory or file",
    },
    HintRow {
        operation: "mount",
        errno: libc::EINVAL,
        hint: "overlay: `dmesg | tail` has the kernel's reason; from Linux 6.8 on it is told here",
    },
    HintRow {
        operation: "open_tree",
        errno: libc::EINVAL,
        hint: "the source has mounts below it that a user namespace may not uncover, or is an unbindable mount: see \
               /proc/self/mountinfo",
    },
    HintRow {
        operation: "open_tree",
        errno: libc::ENOENT,
        hint: "the source does not exist: make it before, or mend the path",
    },
    HintRow {
        operation: "open_tree",
        errno: libc::ENOTDIR,
        hint: "something on the way to the source is not a directory",
    },
    HintRow {
        operation: "open_tree",
        errno: libc::EACCES,
        hint: "the caller may not pass a directory on the way to the source: see the modes along the path",
    },
    HintRow {
        operation: "open_tree",
        errno: libc::ELOOP,
        hint: "the path of the source has more than forty symbolic links, or they lead round in a circle",
    },
    HintRow {
        operation: "open_tree",
        errno: libc::EPERM,
        hint: "CAP_SYS_ADMIN in the user namespace of the mount namespace is missing, or in that of the network namespace for \
            sysfs; or a seccomp filter forbids it",
    },
    HintRow {
        operation: "open_tree",
        errno: libc::ENOSYS,
        hint: "Linux 5.2 or newer is needed, or a seccomp filter of an outer container hides the call",
    },
    HintRow {
        operation: "move_mount",
        errno: libc::EINVAL,
        hint: "the target is not in this mount namespace or is below a shared mount, a file was to be mounted on a \
               directory, or a detached mount was attached before: it serves one start",
    },
    HintRow {
        operation: "move_mount",
        errno: libc::ENOTDIR,
        hint: "a directory can only be mounted on a directory and a file only on a file: look at what the root has there",
    },
    HintRow {
        operation: "move_mount",
        errno: libc::EAGAIN,
        hint: "what is at the path afterwards is not the mask: somebody keeps renaming or mounting on the way to it",
    },
    HintRow {
        operation: "move_mount",
        errno: libc::ENOSPC,
        hint: "the mount namespace is full: see /proc/sys/fs/mount-max",
    },
    HintRow { operation: "move_mount", errno: libc::ELOOP, hint: "a mount cannot be moved to a place below itself" },
    HintRow {
        operation: "move_mount",
        errno: libc::EPERM,
        hint: "CAP_SYS_ADMIN in the user namespace of the mount namespace is missing, or in that of the network namespace for \
            sysfs; or a seccomp filter forbids it",
    },
    HintRow { operation: "move_mount", errno: libc::ENOENT, hint: "the target was removed after it was looked up" },
    HintRow { operation: "move_mount", errno: libc::EBUSY, hint: "the same is mounted there already" },
    HintRow {
        operation: "mount_setattr",
        errno: libc::EPERM,
        hint: "the mount's flags (ro, nosuid, nodev, noexec, propagation) are locked by the user namespace that made it, \
               or CAP_SYS_ADMIN is missing: ask for no fewer flags than the host's mount has",
    },
    HintRow {
        operation: "mount_setattr",
        errno: libc::EINVAL,
        hint: "\"/\" is not a mount point, as after chroot: start from a process whose root is a mount",
    },
    HintRow {
        operation: "mount_setattr",
        errno: libc::ENOSYS,
        hint: "Linux 5.12 or newer is needed, or a seccomp filter of an outer container hides the call",
    },
    HintRow {
        operation: "mount_setattr",
        errno: libc::EAGAIN,
        hint: "what is at the path afterwards is not read-only: somebody keeps renaming or mounting on the way to it",
    },
    HintRow {
        operation: "mount_setattr",
        errno: libc::EBUSY,
        hint: "the mount has files open for writing, so it cannot become read-only: end who has (fuser -vm)",
    },
    HintRow {
        operation: "mount_setattr",
        errno: libc::ENOSPC,
        hint: "the kernel has no more peer groups: make the mount private or a slave, not shared",
    },
    HintRow {
        operation: "pivot_root",
        errno: libc::EINVAL,
        hint: "the process's root is not a mount point (chroot), or is the initramfs, which cannot be left: start from a root \
               that was mounted, or accept what Rootfs::without_pivot_root says",
    },
    HintRow {
        operation: "pivot_root",
        errno: libc::EPERM,
        hint: "CAP_SYS_ADMIN in the user namespace of the mount namespace is missing",
    },
    HintRow {
        operation: "pivot_root",
        errno: libc::EBUSY,
        hint: "the new root is on the mount that is the root already: bind it onto itself first",
    },
    HintRow { operation: "pivot_root", errno: libc::ENOTDIR, hint: "a root is a directory" },
    HintRow {
        operation: "umount2",
        errno: libc::EBUSY,
        hint: "a file on it is open, it is somebody's working directory, or something is mounted below it: see `fuser -vm` \
               and `findmnt -R`; or detach it",
    },
    HintRow {
        operation: "umount2",
        errno: libc::EINVAL,
        hint: "the mount came from a more privileged mount namespace and is locked here: it can only be unmounted \
               together with what it is mounted on",
    },
    HintRow {
        operation: "umount2",
        errno: libc::EPERM,
        hint: "CAP_SYS_ADMIN in the user namespace of the mount namespace is missing",
    },
    HintRow {
        operation: "unshare",
        errno: libc::ENOSPC,
        hint: "an overlay of many layers needs a mount namespace for a moment before Linux 6.8, and there are too many: see \
               /proc/sys/user/max_mnt_namespaces",
    },
    HintRow { operation: "write", errno: libc::ENOSPC, hint: "the file system that is written to is full: see `df`" },
    HintRow { operation: "write", errno: libc::EDQUOT, hint: "the owner's disk quota is used up: see `quota -u USER`" },
    HintRow {
        operation: "linkat",
        errno: libc::EPERM,
        hint: "a directory can have one name only, and fs.protected_hardlinks keeps files of others from being linked",
    },
    HintRow {
        operation: "linkat",
        errno: libc::EMLINK,
        hint: "the file has as many names as its file system allows: 65,000 on ext4",
    },
    HintRow {
        operation: "linkat",
        errno: libc::EXDEV,
        hint: "a hard link stays in one mount: something is mounted between the two names, also when it is the same file system",
    },
]);

#[cfg(test)]
mod tests;
