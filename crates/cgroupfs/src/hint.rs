//! What this crate knows about the errnos of cgroup v2.
#![forbid(unsafe_code)]

use cellkit_core::{HintRow, HintTable};

/// What to do when there is no place for groups.
pub(crate) const DELEGATE: &str = "a group can be made only below one that is delegated to you: start from such a one \
    (systemd-run --user --scope -p Delegate=yes COMMAND), or have root make one, chown its directory, cgroup.procs and \
    cgroup.subtree_control to you, and move your shell into it";

const BPF_PRIVILEGES: &str = "a device program takes CAP_BPF and CAP_NET_ADMIN in the first user namespace. In another \
    one do without: the kernel lets nobody make device nodes there. (Before Linux 5.11 it may be RLIMIT_MEMLOCK: see \
    ulimit -l)";
const WINDOW: &str = "without CAP_SYS_RESOURCE the window of a trigger must be a multiple of 2 s (Linux 6.5)";
const TRIGGER: &str = "before Linux 6.5 a trigger needs CAP_SYS_RESOURCE";

pub(crate) static HINTS: HintTable = HintTable(&[
    row("faccessat", libc::EACCES, DELEGATE),
    row("faccessat", libc::EPERM, DELEGATE),
    row(
        "faccessat",
        libc::EROFS,
        "cgroup2 is mounted read-only here, as container engines do: mount it writable, or do without groups",
    ),
    row(
        "mkdirat",
        libc::EEXIST,
        "a group of this name exists: another container uses it, or it was left behind (see cgroup.procs in it)",
    ),
    row("mkdirat", libc::EACCES, DELEGATE),
    row("mkdirat", libc::EPERM, DELEGATE),
    row("mkdirat", libc::EROFS, "cgroup2 is mounted read-only here: mount it writable, or do without groups"),
    row(
        "mkdirat",
        libc::EAGAIN,
        "a limit of a group above is reached: see cgroup.max.descendants and cgroup.max.depth",
    ),
    row(
        "mkdirat",
        libc::ENOSPC,
        "the kernel is out of ids for groups: 65535 that account for memory, and removed ones count while pages of \
         theirs remain (nr_dying_descendants in cgroup.stat)",
    ),
    row(
        "write cgroup.subtree_control",
        libc::EBUSY,
        "a group that has processes of its own passes no controllers down: move what its cgroup.procs lists to a group \
         below it",
    ),
    row(
        "write cgroup.subtree_control",
        libc::ENOENT,
        "the group itself was not given the controller: compare its cgroup.controllers with cgroup.subtree_control of \
         the groups above",
    ),
    row(
        "write cgroup.subtree_control",
        libc::EOPNOTSUPP,
        "the group is threaded, or below one that is: see cgroup.type",
    ),
    row("write cgroup.subtree_control", libc::EINVAL, "this kernel does not know the controller: see /proc/cgroups"),
    row(
        "write memory.swap.max",
        libc::ENOENT,
        "swap is not accounted for: the memory controller is not enabled for this group, the kernel lacks CONFIG_SWAP, \
         or swapaccount=0 is on its command line",
    ),
    row(
        "write cpu.max",
        libc::EINVAL,
        "the quota must be 1 ms or more and not less than cpu.max.burst, the period between 1 ms and 1 s",
    ),
    row("write io.max", libc::EINVAL, "Linux 5.10 to 6.12 take no limit of 1: the least is 2, and max is none"),
    row(
        "write io.weight",
        libc::EOPNOTSUPP,
        "weights by disk are for disks that the io.cost controller is in charge of: write enable=1 for it to io.cost.qos of \
         the root first",
    ),
    row(
        "write io.bfq.weight",
        libc::EOPNOTSUPP,
        "the scheduler of this disk is not BFQ: see /sys/block/DISK/queue/scheduler",
    ),
    row(
        "write io.cost.*",
        libc::EOPNOTSUPP,
        "this disk is made from others, or its driver has no request queue: io.cost is for those it is made from",
    ),
    row(
        "write io.cost.qos",
        libc::EINVAL,
        "min may not be more than max, also where one of them was set before: see what io.cost.qos holds",
    ),
    row(
        "write io.cost.model",
        libc::EINVAL,
        "this kernel does not know the model, or a key: see what io.cost.model holds",
    ),
    row(
        "write io.prio.class",
        libc::EINVAL,
        "this kernel does not know the class: promote-to-rt is there since Linux 6.5",
    ),
    row(
        "write io.*",
        libc::ENODEV,
        "the io controller takes whole disks by MAJOR:MINOR: there is none of this number, or it is a partition (lsblk \
         shows both)",
    ),
    row("write io.max", libc::EOPNOTSUPP, "this disk does not take limits: its driver bypasses the block layer"),
    row("write io.max", libc::ERANGE, "a limit of 0 is not taken: max is none"),
    row(
        "write cgroup.procs",
        libc::EBUSY,
        "a group that passes controllers down holds no processes: move into a group below it (see \
         cgroup.subtree_control)",
    ),
    row("write cgroup.procs", libc::EOPNOTSUPP, "the group is threaded, or made invalid by one above: see cgroup.type"),
    row(
        "write cgroup.procs",
        libc::EACCES,
        "moving needs write access to cgroup.procs of both groups and of the nearest group above both",
    ),
    row(
        "write cgroup.procs",
        libc::ENOENT,
        "cgroup2 is mounted with nsdelegate, and one of the groups is outside of this cgroup namespace",
    ),
    row(
        "write cpu.max.burst",
        libc::EINVAL,
        "the burst is more than the quota of cpu.max: raise the quota first, or lower the burst",
    ),
    row(
        "write cpu.weight",
        libc::EINVAL,
        "the group is idle (cpu.idle is 1), and so has no weight: write 0 to cpu.idle first",
    ),
    row(
        "write cpu.weight.nice",
        libc::EINVAL,
        "the group is idle (cpu.idle is 1), and so has no weight: write 0 to cpu.idle first",
    ),
    row(
        "write cpuset.cpus*",
        libc::ERANGE,
        "there is a processor in the list that this machine cannot have: see /sys/devices/system/cpu/possible",
    ),
    row(
        "write cpuset.mems",
        libc::ERANGE,
        "there is a memory node in the list that this machine cannot have: see /sys/devices/system/node/possible",
    ),
    row("write cpuset.cpus.partition", libc::EINVAL, "this kernel knows member and root, and isolated since Linux 6.1"),
    row(
        "write cpuset.cpus.partition",
        libc::EBUSY,
        "a processor that the partition would take or give back is in use by a real-time task, or partitions are \
         below it: see cpuset.cpus.partition there",
    ),
    row(
        "write cpuset.cpus*",
        libc::EINVAL,
        "a processor in the list is not online, or a sibling has it for itself alone: compare \
         /sys/devices/system/cpu/online, and cpuset.cpus.exclusive and cpuset.cpus.partition of the siblings",
    ),
    row(
        "write cpuset.mems",
        libc::EINVAL,
        "a memory node in the list is not online: see /sys/devices/system/node/has_memory",
    ),
    row(
        "write cpuset.cpus*",
        libc::ENOSPC,
        "the group has processes, so it cannot be left without processors: move what its cgroup.procs lists elsewhere \
         first",
    ),
    row(
        "write cpuset.mems",
        libc::ENOSPC,
        "the group has processes, so it cannot be left without memory nodes: move what its cgroup.procs lists \
         elsewhere first",
    ),
    row(
        "write cpuset.*",
        libc::EBUSY,
        "a deadline task of the group would not get its time on what is left: see chrt -p of its tasks",
    ),
    row(
        "write cgroup.procs",
        libc::ENOSPC,
        "the group has no processor to run on: see its cpuset.cpus.effective, and cpuset.cpus.partition of the groups \
         below",
    ),
    row(
        "write hugetlb.*",
        libc::EBUSY,
        "more than the new limit is in use: see the file that ends in current beside it, and lower it when pages were \
         freed",
    ),
    row("write rdma.max", libc::ENODEV, "there is no RDMA device of this name: see /sys/class/infiniband"),
    row("write rdma.max", libc::EINVAL, "this kernel knows hca_handle and hca_object"),
    row("write misc.max", libc::EINVAL, "this machine has no such resource: see misc.capacity of the root"),
    row("write dmem.*", libc::EINVAL, "this machine has no such region: see dmem.capacity of the root"),
    row("unlinkat", libc::EBUSY, "processes or groups are still in it: see its cgroup.procs and the directories below"),
    row("unlinkat", libc::EACCES, "removing a group needs write access to the directory above it"),
    row("unlinkat", libc::EROFS, "cgroup2 is mounted read-only here"),
    row(
        "openat2",
        libc::EXDEV,
        "something is mounted over this part of the cgroup file system, so it cannot be trusted: look with findmnt",
    ),
    row("openat2", libc::ELOOP, "a link stands where a group should be: give the path without links"),
    row("openat2", libc::ENOSYS, "openat2 is missing: Linux 5.6 or newer, and no seccomp filter in the way"),
    row("BPF_PROG_LOAD", libc::EPERM, BPF_PRIVILEGES),
    row("BPF_PROG_ATTACH", libc::EPERM, BPF_PRIVILEGES),
    row("BPF_PROG_DETACH", libc::EPERM, BPF_PRIVILEGES),
    row("BPF_PROG_QUERY", libc::EPERM, BPF_PRIVILEGES),
    row(
        "BPF_PROG_GET_FD_BY_ID",
        libc::EPERM,
        "the group has a device program already, and seeing whose it is takes CAP_SYS_ADMIN",
    ),
    row("BPF_PROG_LOAD", libc::ENOSYS, "this kernel has no bpf(2) (CONFIG_BPF_SYSCALL), or a seccomp filter hides it"),
    row("BPF_PROG_ATTACH", libc::E2BIG, "64 device programs are attached to the group, and no more can be"),
    row("BPF_PROG_ATTACH", libc::ENOENT, "others change the device programs of the group all the time: try again"),
    row("BPF_PROG_DETACH", libc::ENOENT, "others change the device programs of the group all the time: try again"),
    row("BPF_PROG_QUERY", libc::EINVAL, "this kernel attaches no programs to groups: CONFIG_CGROUP_BPF"),
    row("write cpu.pressure", libc::EINVAL, WINDOW),
    row("write memory.pressure", libc::EINVAL, WINDOW),
    row("write io.pressure", libc::EINVAL, WINDOW),
    row("write irq.pressure", libc::EINVAL, WINDOW),
    row("write cpu.pressure", libc::EPERM, TRIGGER),
    row("write memory.pressure", libc::EPERM, TRIGGER),
    row("write io.pressure", libc::EPERM, TRIGGER),
    row("write irq.pressure", libc::EPERM, TRIGGER),
    row(
        "write *",
        libc::ENOENT,
        "the file's controller is not enabled for this group (see its cgroup.controllers), or this kernel has no such \
         file",
    ),
    row(
        "read *",
        libc::ENOENT,
        "the file's controller is not enabled for this group (see its cgroup.controllers), or this kernel has no such \
         file",
    ),
    row(
        "write *",
        libc::EACCES,
        "the file is not yours to write: of a delegated group, the limits belong to the giver",
    ),
    row("write *", libc::EPERM, "the file is not yours to write: of a delegated group, the limits belong to the giver"),
    row("write *", libc::EROFS, "cgroup2 is mounted read-only here: mount it writable, or do without groups"),
]);

const fn row(operation: &'static str, errno: i32, hint: &'static str) -> HintRow {
    HintRow { operation, errno, hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn every_row_is_found_by_an_error() {
        // A row that an earlier one hides would be found with the earlier one's words.
        let words = [
            ("faccessat", libc::EACCES, "Delegate=yes"),
            ("faccessat", libc::EPERM, "Delegate=yes"),
            ("faccessat", libc::EROFS, "read-only"),
            ("mkdirat", libc::EEXIST, "left behind"),
            ("mkdirat", libc::EACCES, "Delegate=yes"),
            ("mkdirat", libc::EPERM, "Delegate=yes"),
            ("mkdirat", libc::EROFS, "read-only"),
            ("mkdirat", libc::EAGAIN, "cgroup.max.descendants"),
            ("mkdirat", libc::ENOSPC, "nr_dying_descendants"),
            ("write cgroup.subtree_control", libc::EBUSY, "processes of its own"),
            ("write cgroup.subtree_control", libc::ENOENT, "cgroup.controllers"),
            ("write cgroup.subtree_control", libc::EOPNOTSUPP, "threaded"),
            ("write cgroup.subtree_control", libc::EINVAL, "/proc/cgroups"),
            ("write memory.swap.max", libc::ENOENT, "swapaccount=0"),
            ("write cpu.max", libc::EINVAL, "period"),
            ("write io.max", libc::EINVAL, "the least is 2"),
            ("write io.weight", libc::EOPNOTSUPP, "io.cost.qos"),
            ("write io.bfq.weight", libc::EOPNOTSUPP, "scheduler"),
            ("write io.cost.qos", libc::EOPNOTSUPP, "made from others"),
            ("write io.cost.qos", libc::EINVAL, "min"),
            ("write io.cost.model", libc::EINVAL, "model"),
            ("write io.prio.class", libc::EINVAL, "6.5"),
            ("write io.max", libc::ENODEV, "partition"),
            ("write io.max", libc::EOPNOTSUPP, "driver"),
            ("write io.max", libc::ERANGE, "max is none"),
            ("write cgroup.procs", libc::EBUSY, "passes controllers down"),
            ("write cgroup.procs", libc::EOPNOTSUPP, "cgroup.type"),
            ("write cgroup.procs", libc::EACCES, "nearest group above"),
            ("write cgroup.procs", libc::ENOENT, "nsdelegate"),
            ("write cpu.max.burst", libc::EINVAL, "more than the quota"),
            ("write cpu.weight", libc::EINVAL, "cpu.idle"),
            ("write cpu.weight.nice", libc::EINVAL, "cpu.idle"),
            ("write cpuset.cpus", libc::ERANGE, "cpu/possible"),
            ("write cpuset.mems", libc::ERANGE, "node/possible"),
            ("write cpuset.cpus.partition", libc::EINVAL, "6.1"),
            ("write cpuset.cpus.partition", libc::EBUSY, "real-time"),
            ("write cpuset.cpus", libc::EINVAL, "siblings"),
            ("write cpuset.mems", libc::EINVAL, "has_memory"),
            ("write cpuset.cpus", libc::ENOSPC, "without processors"),
            ("write cpuset.mems", libc::ENOSPC, "without memory nodes"),
            ("write cpuset.mems", libc::EBUSY, "deadline"),
            ("write cgroup.procs", libc::ENOSPC, "cpuset.cpus.effective"),
            ("write hugetlb.2MB.max", libc::EBUSY, "current"),
            ("write rdma.max", libc::ENODEV, "infiniband"),
            ("write rdma.max", libc::EINVAL, "hca_object"),
            ("write misc.max", libc::EINVAL, "misc.capacity"),
            ("write dmem.low", libc::EINVAL, "dmem.capacity"),
            ("unlinkat", libc::EBUSY, "still in it"),
            ("unlinkat", libc::EACCES, "directory above"),
            ("unlinkat", libc::EROFS, "read-only"),
            ("openat2", libc::EXDEV, "findmnt"),
            ("openat2", libc::ELOOP, "without links"),
            ("openat2", libc::ENOSYS, "5.6"),
            ("BPF_PROG_LOAD", libc::EPERM, "CAP_BPF"),
            ("BPF_PROG_ATTACH", libc::EPERM, "CAP_NET_ADMIN"),
            ("BPF_PROG_DETACH", libc::EPERM, "CAP_NET_ADMIN"),
            ("BPF_PROG_QUERY", libc::EPERM, "CAP_NET_ADMIN"),
            ("BPF_PROG_GET_FD_BY_ID", libc::EPERM, "CAP_SYS_ADMIN"),
            ("BPF_PROG_LOAD", libc::ENOSYS, "CONFIG_BPF_SYSCALL"),
            ("BPF_PROG_ATTACH", libc::E2BIG, "64"),
            ("BPF_PROG_ATTACH", libc::ENOENT, "try again"),
            ("BPF_PROG_DETACH", libc::ENOENT, "try again"),
            ("BPF_PROG_QUERY", libc::EINVAL, "CONFIG_CGROUP_BPF"),
            ("write cpu.pressure", libc::EINVAL, "2 s"),
            ("write memory.pressure", libc::EINVAL, "2 s"),
            ("write io.pressure", libc::EINVAL, "2 s"),
            ("write irq.pressure", libc::EINVAL, "2 s"),
            ("write cpu.pressure", libc::EPERM, "6.5"),
            ("write memory.pressure", libc::EPERM, "6.5"),
            ("write io.pressure", libc::EPERM, "6.5"),
            ("write irq.pressure", libc::EPERM, "6.5"),
            ("write pids.max", libc::ENOENT, "not enabled"),
            ("read memory.events", libc::ENOENT, "not enabled"),
            ("write memory.max", libc::EACCES, "the giver"),
            ("write memory.max", libc::EPERM, "the giver"),
            ("write memory.max", libc::EROFS, "read-only"),
        ];
        assert_eq!(words.len(), HINTS.0.len());
        for (operation, errno, word) in words {
            let error = Error::from_errno(operation, errno).with_hints(&HINTS);
            let hint = error.hint().unwrap_or_default();
            assert!(hint.contains(word), "{operation} {errno}: {hint:?}");
            assert!(!hint.contains("  "), "{hint:?}");
        }
    }
}
