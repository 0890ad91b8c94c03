//! What the errnos of this crate's system calls mean, in words that can be followed.
#![forbid(unsafe_code)]

use cellkit_core::{HintRow, HintTable};

const fn row(operation: &'static str, errno: i32, hint: &'static str) -> HintRow {
    HintRow { operation, errno, hint }
}

pub(crate) static HINTS: HintTable = HintTable(&[
    row(
        "clone*",
        libc::EPERM,
        "namespaces need CAP_SYS_ADMIN: run as root, or ask for a user namespace too. If one was asked for, it is \
         switched off here: see user.max_user_namespaces, kernel.unprivileged_userns_clone, \
         kernel.apparmor_restrict_unprivileged_userns, or the seccomp profile of the container this runs in",
    ),
    row(
        "clone*",
        libc::ENOSPC,
        "a limit on namespaces is reached, or they are nested too deep (32): see /proc/sys/user/max_*_namespaces",
    ),
    row("clone*", libc::EUSERS, "user namespaces are nested too deep (32)"),
    row(
        "clone*",
        libc::EAGAIN,
        "a limit on processes is reached: see ulimit -u, pids.max of the cgroup, kernel.pid_max",
    ),
    row("clone*", libc::ENOMEM, "no memory, or the pid namespace this runs in has lost its PID 1"),
    row("clone3", libc::ENOSYS, "a seccomp filter hides clone3: allow it in the profile of the container this runs in"),
    row("clone*", libc::EINVAL, "this kernel lacks one of the kinds of namespace asked for: see /proc/self/ns"),
    row(
        "clone3",
        libc::EEXIST,
        "a process or a session has this number in that pid namespace: set_tid takes only a free one",
    ),
    row("clone3", libc::EACCES, "the caller may not move processes into that cgroup: see cgroups(7), delegation"),
    row("clone3", libc::EBUSY, "that cgroup has child groups with controllers: processes may live in leaves only"),
    row("clone3", libc::EOPNOTSUPP, "that cgroup is of an invalid domain: see its cgroup.type"),
    row("clone3", libc::EBADF, "what was given for a cgroup is no directory of a mounted cgroup2"),
    row("clone3", libc::ENODEV, "the cgroup has been removed"),
    row(
        "execve",
        libc::ENOENT,
        "there is no such program where the payload runs; if the file is there, the interpreter or loader it names is not",
    ),
    row(
        "execveat",
        libc::ENOENT,
        "a script cannot be run from a descriptor: it closes at execve, before the interpreter could open it. Give its \
         path, or run the interpreter; or the loader that the program names is not in the container",
    ),
    row("execveat", libc::EACCES, "the file is not executable, or its file system is mounted noexec"),
    row("execveat", libc::ENOEXEC, "neither a program for this machine nor a script that begins with #!"),
    row("execveat", libc::ETXTBSY, "somebody has the program open for writing"),
    row(
        "memfd_create",
        libc::EACCES,
        "programs in memory are switched off here: see vm.memfd_noexec, which must not be 2, or run as root, which needs \
         none",
    ),
    row(
        "fcntl F_ADD_SEALS",
        libc::EBUSY,
        "somebody has mapped the memory for writing, which seals it against being sealed",
    ),
    row("pread64", libc::EBADF, "the program must be open for reading, not with O_PATH"),
    row(
        "execve",
        libc::EACCES,
        "the file is not executable or is a directory, its file system is mounted noexec, or a landlock ruleset forbids it; \
         for a name without a slash also: it was not found, and a directory of PATH is not the payload's to search",
    ),
    row("execve", libc::ENOEXEC, "neither a program for this machine nor a script that begins with #!"),
    row("execve", libc::ELOOP, "symbolic links lead in a circle"),
    row("execve", libc::E2BIG, "arguments and environment are too long together: see execve(2)"),
    row(
        "setresuid",
        libc::EINVAL,
        "this user id is not mapped into the user namespace: see its uid_map, which is empty until the maps of the paused \
         child are written",
    ),
    row(
        "setresgid",
        libc::EINVAL,
        "this group id is not mapped into the user namespace: see its gid_map, which is empty until the maps of the paused \
         child are written",
    ),
    row("setgroups", libc::EINVAL, "a supplementary group is not mapped into the user namespace: see its gid_map"),
    row(
        "setgroups",
        libc::EPERM,
        "this needs CAP_SETGID. A new user namespace gives it once it has a gid_map (write the maps of the paused child \
         before it is resumed), but not where setgroups is denied, as without /etc/subgid ranges (ask for \
         Command::keep_groups), or a security module forbids it: see kernel.apparmor_restrict_unprivileged_userns",
    ),
    row("setresuid", libc::EPERM, "changing the user needs CAP_SETUID"),
    row("setresgid", libc::EPERM, "changing the group needs CAP_SETGID"),
    row("prctl PR_CAPBSET_DROP", libc::EPERM, "dropping from the bounding set needs CAP_SETPCAP"),
    row("capset", libc::EPERM, "a capability was asked for that the caller does not have itself"),
    row(
        "prctl PR_CAP_AMBIENT_RAISE",
        libc::EPERM,
        "the caller lacks one of these capabilities, or its secure bit NO_CAP_AMBIENT_RAISE is set: see setpriv --dump",
    ),
    row(
        "prctl PR_SET_SECUREBITS",
        libc::EPERM,
        "changing the secure bits needs CAP_SETPCAP, and none of the caller's may be locked: see setpriv --dump",
    ),
    row(
        "prctl PR_SET_SECUREBITS",
        libc::EINVAL,
        "this kernel lacks one of these bits: the EXEC_* ones are of Linux 6.14",
    ),
    row(
        "prlimit64",
        libc::EPERM,
        "raising a hard limit needs CAP_SYS_RESOURCE in the machine's own user namespace, and RLIMIT_NOFILE is at most \
         fs.nr_open: see ulimit -H",
    ),
    row("sched_setaffinity", libc::EINVAL, "none of these processors can be used here: see cpuset.cpus of the cgroup"),
    row(
        "sched_setattr",
        libc::EPERM,
        "real time needs CAP_SYS_NICE in the machine's own user namespace or ulimit -r, leaving SCHED_IDLE ulimit -e; a \
         deadline needs all processors of a cpuset; a cgroup v1 of cpu needs cpu.rt_runtime_us",
    ),
    row("sched_setattr", libc::EBUSY, "this deadline cannot be promised beside those of others: see sched(7)"),
    row("sched_setattr", libc::EINVAL, "the times are outside of kernel.sched_deadline_period_min_us and _max_us"),
    row(
        "setpriority",
        libc::EACCES,
        "a nice value below the caller's needs CAP_SYS_NICE in the machine's own user namespace: see ulimit -e",
    ),
    row(
        "ioprio_set",
        libc::EPERM,
        "the real-time class needs CAP_SYS_ADMIN or CAP_SYS_NICE in the machine's own user namespace",
    ),
    row("personality", libc::EPERM, "the seccomp filter of the container this runs in does not allow this personality"),
    row(
        "set_mempolicy",
        libc::EINVAL,
        "no memory node of this set can be used here (see cpuset.mems of the cgroup), or this kernel lacks the policy",
    ),
    row(
        "write oom_score_adj",
        libc::EACCES,
        "going below the lowest value the caller has had needs CAP_SYS_RESOURCE in the machine's own user namespace",
    ),
    row("execve", libc::EAGAIN, "the payload's user has as many processes as RLIMIT_NPROC allows: see ulimit -u"),
    row("seccomp", libc::EACCES, "a filter needs no_new_privs, or CAP_SYS_ADMIN in the payload's user namespace"),
    row("seccomp", libc::EBUSY, "the caller is under a filter that has a listener, and there can be one only"),
    row(
        "seccomp",
        libc::EINVAL,
        "this kernel lacks a flag of the filter: a listener is of Linux 5.0, wait_killable of 5.19",
    ),
    row("seccomp", libc::EMFILE, "the limit on open files leaves no descriptor for the listener: see Resource::Nofile"),
    row(
        "seccomp",
        libc::ENOMEM,
        "the filters that the caller is under and this one are too long together: see seccomp(2)",
    ),
    row("landlock_restrict_self", libc::EPERM, "this needs no_new_privs, or CAP_SYS_ADMIN in the child"),
    row(
        "landlock_restrict_self",
        libc::E2BIG,
        "16 landlock rulesets are in force already, which is the most there can be",
    ),
    row("chdir", libc::ENOENT, "the working directory does not exist in the payload's root"),
    row("chdir", libc::EACCES, "the payload's user may not enter the working directory"),
    row("getcwd", libc::ENOENT, "the working directory lies outside of the container's root"),
    row(
        "setns",
        libc::EPERM,
        "joining needs CAP_SYS_ADMIN in the user namespace that owns that namespace, and in one's own: run as root, or join \
         that user namespace too",
    ),
    row(
        "unshare",
        libc::EPERM,
        "namespaces need CAP_SYS_ADMIN: run as root, or ask for a user namespace too. If one was asked for, it is \
         switched off here (see user.max_user_namespaces, kernel.unprivileged_userns_clone, \
         kernel.apparmor_restrict_unprivileged_userns), or this process is in a chroot, or its ids are not mapped",
    ),
    row(
        "unshare",
        libc::ENOSPC,
        "a limit on namespaces is reached, or they are nested too deep (32): see /proc/sys/user/max_*_namespaces",
    ),
    row("unshare", libc::EUSERS, "user namespaces are nested too deep (32)"),
    row(
        "unshare",
        libc::EINVAL,
        "this kernel lacks one of the kinds asked for (see /proc/self/ns), or the pid namespace for children was \
         changed before: start a child first",
    ),
    row("unshare", libc::ENOMEM, "no memory, or the pid namespace for children has lost its PID 1"),
    row("setns", libc::EUSERS, "a time namespace is joined by a process with one thread only"),
    row("setns", libc::ESRCH, "the process has ended"),
    row("setns", libc::EINVAL, "this is not a namespace of that kind, or the process has threads"),
    row("keyctl", libc::EACCES, "a keyring of this name exists and the caller may not join it: see keyctl show"),
    row(
        "keyctl",
        libc::EDQUOT,
        "the limit on keyrings is reached: see kernel.keys.maxkeys, or keep the caller's with Keyring::Keep",
    ),
    row("write timens_offsets", libc::EPERM, "clock offsets need CAP_SYS_TIME in the user namespace"),
    row("write timens_offsets", libc::ERANGE, "the offset would make the clock negative or too large"),
    row(
        "mount",
        libc::EINVAL,
        "the root directory is not a mount point, as after chroot(2): bind it to itself first, or ask for \
         MountPropagation::Unchanged",
    ),
    row("openat", libc::ENOENT, "the caller's machine has no devpts to make a terminal in: see mount -t devpts"),
    row("openat", libc::EACCES, "the caller may not open it: its mode is 666 where a machine is as usual"),
    row("openat", libc::ENOSPC, "there are too many terminals: see kernel.pty.max"),
    row(
        "recvmsg",
        libc::EMFILE,
        "the limit on open files leaves no number for the terminal or listener that the child has sent: see ulimit -n",
    ),
    row("pidfd_open", libc::EINVAL, "this is no number of a process, or that of a thread which leads none"),
    row("openat2", libc::ENOENT, "the container has no /dev/pts of its own to make a terminal in"),
    row("pidfd_send_signal", libc::EINVAL, "there is no such signal: their numbers are 1 to 64"),
    row(
        "pidfd_send_signal",
        libc::EPERM,
        "signals go to processes of the same user, or need CAP_KILL in the process's user namespace",
    ),
    row(
        "waitid",
        libc::ECHILD,
        "somebody else reaped this child: the process ignores SIGCHLD, or another library waits for all; \
         and a sibling is its parent's to reap",
    ),
    row(
        "ioctl NS_GET_USERNS",
        libc::EPERM,
        "its owner is above the user namespace that this process is in, or it is the machine's first, which has none",
    ),
    row(
        "ioctl NS_GET_PARENT",
        libc::EPERM,
        "its parent is above the namespace that this process is in, and out of sight",
    ),
    row(
        "ioctl NS_MNT_GET_NEXT",
        libc::EPERM,
        "walking all mount namespaces needs CAP_SYS_ADMIN in the machine's first user namespace and its first pid namespace",
    ),
    row(
        "ioctl NS_MNT_GET_PREV",
        libc::EPERM,
        "walking all mount namespaces needs CAP_SYS_ADMIN in the machine's first user namespace and its first pid namespace",
    ),
    row(
        "ioctl NS_GET_PID_*",
        libc::ESRCH,
        "there is no such process, or it is not in that pid namespace or one below it, or cannot be seen from here",
    ),
    row(
        "ioctl NS_GET_TGID_*",
        libc::ESRCH,
        "there is no such process, or it is not in that pid namespace or one below it, or cannot be seen from here",
    ),
    row("umount2", libc::EPERM, "a pin is a mount: removing it needs CAP_SYS_ADMIN over this mount namespace"),
    row("umount2", libc::EINVAL, "this pin is of a more privileged mount namespace, and locked in this one"),
    row("unlink", libc::EBUSY, "there was one pin upon another: unpin once more"),
    row(
        "ioctl PIDFD_GET_*_NAMESPACE",
        libc::EACCES,
        "this needs ptrace access to the process: be its user, or root, and see ptrace(2) where that is not enough",
    ),
    row(
        "ioctl PIDFD_GET_*_NAMESPACE",
        libc::EPERM,
        "this needs ptrace access to the process: be its user, or root, and see ptrace(2) where that is not enough",
    ),
]);

#[cfg(test)]
mod tests {
    use super::HINTS;
    use cellkit_core::Error;

    #[test]
    fn every_row_is_found_and_reads_as_a_sentence() {
        for row in HINTS.0 {
            let error = Error::from_errno(row.operation, row.errno).with_hints(&HINTS);
            assert_eq!(error.hint(), Some(row.hint), "shadowed by an earlier row: {}", row.operation);
            assert!(row.hint.len() > 20 && !row.hint.ends_with('.'), "{}", row.hint);
        }
    }
}
