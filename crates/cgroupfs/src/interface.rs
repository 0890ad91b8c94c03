//! The kernel's interface files: which controller each belongs to, and since when it is there. From this an absent file
//! becomes a sentence.
#![forbid(unsafe_code)]

use crate::Controller;

/// An interface file of cgroup v2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InterfaceFile {
    /// Its name; a `*` stands for the size of a huge page.
    pub name: &'static str,
    /// The controller that brings it; of the core files none.
    pub controller: Option<Controller>,
    /// The first kernel that has it in version 2.
    pub since: &'static str,
    /// In which groups it is.
    pub r#where: Where,
}

/// In which groups a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// In all but the root of the hierarchy.
    Below,
    /// In the root of the hierarchy only.
    Root,
    /// In all.
    Everywhere,
}

impl InterfaceFile {
    fn is_called(&self, name: &str) -> bool {
        match self.name.split_once('*') {
            None => self.name == name,
            Some((before, after)) => name
                .strip_prefix(before)
                .and_then(|rest| rest.strip_suffix(after))
                .is_some_and(|size| !size.is_empty() && !size.contains('.')),
        }
    }
}

/// The file called `name`, if it is known here.
pub(crate) fn find(name: &str) -> Option<&'static InterfaceFile> {
    FILES.iter().find(|file| file.is_called(name))
}

/// In the order of names; the core files first.
pub(crate) static FILES: &[InterfaceFile] = &[
    core("cgroup.controllers", "4.5", Where::Everywhere),
    core("cgroup.events", "4.5", Where::Below),
    core("cgroup.freeze", "5.2", Where::Below),
    core("cgroup.kill", "5.14", Where::Below),
    core("cgroup.max.depth", "4.14", Where::Everywhere),
    core("cgroup.max.descendants", "4.14", Where::Everywhere),
    core("cgroup.pressure", "6.1", Where::Everywhere),
    core("cgroup.procs", "4.5", Where::Everywhere),
    core("cgroup.stat", "4.14", Where::Everywhere),
    core("cgroup.stat.local", "6.17", Where::Below),
    core("cgroup.subtree_control", "4.5", Where::Everywhere),
    core("cgroup.threads", "4.14", Where::Everywhere),
    core("cgroup.type", "4.14", Where::Below),
    core("cpu.pressure", "4.20", Where::Everywhere),
    core("cpu.stat", "4.15", Where::Everywhere),
    core("cpu.stat.local", "6.6", Where::Everywhere),
    core("io.pressure", "4.20", Where::Everywhere),
    core("irq.pressure", "6.1", Where::Everywhere),
    core("memory.pressure", "4.20", Where::Everywhere),
    file("cpu.idle", Controller::Cpu, "5.15", Where::Below),
    file("cpu.max", Controller::Cpu, "4.15", Where::Below),
    file("cpu.max.burst", Controller::Cpu, "5.14", Where::Below),
    file("cpu.uclamp.max", Controller::Cpu, "5.4", Where::Below),
    file("cpu.uclamp.min", Controller::Cpu, "5.4", Where::Below),
    file("cpu.weight", Controller::Cpu, "4.15", Where::Below),
    file("cpu.weight.nice", Controller::Cpu, "4.15", Where::Below),
    file("cpuset.cpus", Controller::Cpuset, "5.0", Where::Below),
    file("cpuset.cpus.effective", Controller::Cpuset, "5.0", Where::Everywhere),
    file("cpuset.cpus.exclusive", Controller::Cpuset, "6.7", Where::Below),
    file("cpuset.cpus.exclusive.effective", Controller::Cpuset, "6.7", Where::Below),
    file("cpuset.cpus.isolated", Controller::Cpuset, "6.8", Where::Root),
    file("cpuset.cpus.partition", Controller::Cpuset, "5.0", Where::Below),
    file("cpuset.mems", Controller::Cpuset, "5.0", Where::Below),
    file("cpuset.mems.effective", Controller::Cpuset, "5.0", Where::Everywhere),
    file("dmem.capacity", Controller::Dmem, "6.14", Where::Root),
    file("dmem.current", Controller::Dmem, "6.14", Where::Below),
    file("dmem.low", Controller::Dmem, "6.14", Where::Below),
    file("dmem.max", Controller::Dmem, "6.14", Where::Below),
    file("dmem.min", Controller::Dmem, "6.14", Where::Below),
    file("hugetlb.*.current", Controller::Hugetlb, "5.6", Where::Below),
    file("hugetlb.*.events", Controller::Hugetlb, "5.6", Where::Below),
    file("hugetlb.*.events.local", Controller::Hugetlb, "5.6", Where::Below),
    file("hugetlb.*.max", Controller::Hugetlb, "5.6", Where::Below),
    file("hugetlb.*.numa_stat", Controller::Hugetlb, "5.17", Where::Below),
    file("hugetlb.*.rsvd.current", Controller::Hugetlb, "5.7", Where::Below),
    file("hugetlb.*.rsvd.max", Controller::Hugetlb, "5.7", Where::Below),
    file("io.bfq.weight", Controller::Io, "5.0", Where::Below),
    file("io.cost.model", Controller::Io, "5.4", Where::Root),
    file("io.cost.qos", Controller::Io, "5.4", Where::Root),
    file("io.latency", Controller::Io, "4.19", Where::Below),
    file("io.max", Controller::Io, "4.5", Where::Below),
    file("io.prio.class", Controller::Io, "5.14", Where::Everywhere),
    file("io.stat", Controller::Io, "4.5", Where::Everywhere),
    file("io.weight", Controller::Io, "5.4", Where::Below),
    file("memory.current", Controller::Memory, "4.5", Where::Below),
    file("memory.events", Controller::Memory, "4.5", Where::Below),
    file("memory.events.local", Controller::Memory, "5.2", Where::Below),
    file("memory.high", Controller::Memory, "4.5", Where::Below),
    file("memory.low", Controller::Memory, "4.5", Where::Below),
    file("memory.max", Controller::Memory, "4.5", Where::Below),
    file("memory.min", Controller::Memory, "4.18", Where::Below),
    file("memory.numa_stat", Controller::Memory, "5.10", Where::Everywhere),
    file("memory.oom.group", Controller::Memory, "4.19", Where::Below),
    file("memory.peak", Controller::Memory, "5.19", Where::Below),
    file("memory.reclaim", Controller::Memory, "5.19", Where::Everywhere),
    file("memory.stat", Controller::Memory, "4.5", Where::Everywhere),
    file("memory.swap.current", Controller::Memory, "4.5", Where::Below),
    file("memory.swap.events", Controller::Memory, "4.18", Where::Below),
    file("memory.swap.high", Controller::Memory, "5.8", Where::Below),
    file("memory.swap.max", Controller::Memory, "4.5", Where::Below),
    file("memory.swap.peak", Controller::Memory, "6.5", Where::Below),
    file("memory.zswap.current", Controller::Memory, "5.19", Where::Below),
    file("memory.zswap.max", Controller::Memory, "5.19", Where::Below),
    file("memory.zswap.writeback", Controller::Memory, "6.8", Where::Everywhere),
    file("misc.capacity", Controller::Misc, "5.13", Where::Root),
    file("misc.current", Controller::Misc, "5.13", Where::Everywhere),
    file("misc.events", Controller::Misc, "5.17", Where::Below),
    file("misc.events.local", Controller::Misc, "6.11", Where::Below),
    file("misc.max", Controller::Misc, "5.13", Where::Below),
    file("misc.peak", Controller::Misc, "6.11", Where::Everywhere),
    file("pids.current", Controller::Pids, "4.5", Where::Below),
    file("pids.events", Controller::Pids, "4.8", Where::Below),
    file("pids.events.local", Controller::Pids, "6.11", Where::Below),
    file("pids.max", Controller::Pids, "4.5", Where::Below),
    file("pids.peak", Controller::Pids, "6.1", Where::Below),
    file("rdma.current", Controller::Rdma, "4.11", Where::Below),
    file("rdma.max", Controller::Rdma, "4.11", Where::Below),
];

const fn core(name: &'static str, since: &'static str, r#where: Where) -> InterfaceFile {
    InterfaceFile { name, controller: None, since, r#where }
}

const fn file(name: &'static str, controller: Controller, since: &'static str, r#where: Where) -> InterfaceFile {
    InterfaceFile { name, controller: Some(controller), since, r#where }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_sizes() {
        assert_eq!(find("hugetlb.2MB.max").expect("known").name, "hugetlb.*.max");
        for name in ["hugetlb..max", "hugetlb.max", "hugetlb.2MB.x.max", "hugetlb.2MB.max.", "memory.maximum"] {
            assert!(find(name).is_none(), "{name}");
        }
    }

    #[test]
    fn every_name_is_there_once() {
        let names: std::collections::BTreeSet<_> = FILES.iter().map(|file| file.name).collect();
        assert_eq!(names.len(), FILES.len());
    }
}
