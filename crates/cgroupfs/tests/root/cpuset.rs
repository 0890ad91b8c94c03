#![forbid(unsafe_code)]

use std::fs;

use cgroupfs::{Cgroup, CpuList, InvalidReason, Partition};

use super::{LIMIT, cat, group, killed, place, start_in};

fn list(text: &str) -> CpuList {
    text.parse().expect(text)
}

/// Where the kernel lets a process run.
fn allowed(pid: u32, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    status.lines().find_map(|line| line.strip_prefix(key)).expect(key).trim().to_owned()
}

fn reason(group: &Cgroup) -> Option<InvalidReason> {
    let state = group.cpuset().cpus_partition().expect("partition");
    assert_eq!(cat(group.path(), "cpuset.cpus.partition"), state.to_string());
    state.invalid().map(|invalid| invalid.reason())
}

#[test]
fn confines_processes_and_refuses_what_is_not_there() {
    faultkit::require!(root, cgroup2("cpuset"));
    faultkit::isolated!(|| {
        let group = group(&place(), "confined");
        let cpuset = group.cpuset();
        let child = start_in(group.path(), "exec sleep 1000");
        let all = list(&allowed(child.id(), "Cpus_allowed_list:"));
        assert_eq!(cpuset.cpus_effective().expect("effective"), all);
        let last = CpuList::from_iter(all.iter().last());
        cpuset.set_cpus(&last).expect("set");
        assert_eq!(cat(group.path(), "cpuset.cpus"), last.to_string());
        assert_eq!(allowed(child.id(), "Cpus_allowed_list:"), last.to_string());
        cpuset.set_mems(&"0".parse().expect("nodes")).expect("nodes");
        assert_eq!(allowed(child.id(), "Mems_allowed_list:"), "0");
        assert_eq!(cpuset.mems_effective().expect("nodes").to_string(), "0");

        let error = cpuset.set_cpus(&list("100000")).expect_err("no such processor");
        assert_eq!((error.operation(), error.raw_os_error()), ("write cpuset.cpus", Some(libc::ERANGE)));
        assert!(error.hint().expect("hint").contains("possible"), "{error:#}");
        // It is as it was; and with processes in it, it cannot be left without any.
        assert_eq!(cpuset.cpus().expect("cpus"), last);
        let error = cpuset.set_cpus(&CpuList::new()).expect_err("processes");
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        assert!(error.hint().expect("hint").contains("cgroup.procs"), "{error:#}");
        group.raw("cgroup.kill").write("1").expect("kill");
        assert!(killed(child));
        cpuset.set_cpus(&CpuList::new()).expect("nothing");
        assert_eq!(cat(group.path(), "cpuset.cpus"), "");
        assert_eq!(cpuset.cpus_effective().expect("effective"), all);
        group.remove(LIMIT).expect("remove");
    });
}

#[test]
fn partitions_and_why_they_are_none() {
    faultkit::require!(root, cgroup2("cpuset"));
    faultkit::isolated!(|| {
        let place = place();
        // The root that is seen here is not the kernel's: a partition below it needs it to be one too.
        let (top, one, other) = (place.group(), group(&place, "one"), group(&place, "other"));
        one.cpuset().set_cpus_partition(Partition::Root).expect("the word is taken");
        let none = reason(&one).expect("no processors, and no partition above");
        assert!([InvalidReason::NoCpus, InvalidReason::ParentNotPartition].contains(&none), "{none:?}");
        one.cpuset().set_cpus_partition(Partition::Member).expect("member");
        assert_eq!(reason(&one), None);

        // One processor for the partition, the others stay with the rest of the machine.
        let all = top.cpuset().cpus_effective().expect("effective");
        let last = CpuList::from_iter(all.iter().last());
        assert!(all.len() > 1, "a machine with one processor cannot be divided");
        top.cpuset().set_cpus(&last).expect("cpus");
        for partition in [Partition::Isolated, Partition::Root] {
            top.cpuset().set_cpus_partition(partition).expect("partition");
            assert_eq!((cat(top.path(), "cpuset.cpus.partition"), reason(top)), (partition.to_string(), None));
            assert_eq!(top.cpuset().cpus_effective().expect("effective"), last);
        }
        // This test's process is below the partition, which so cannot give its only processor away.
        one.cpuset().set_cpus(&last).expect("cpus");
        for partition in [Partition::Root, Partition::Isolated] {
            one.cpuset().set_cpus_partition(partition).expect("the word is taken");
            let state = one.cpuset().cpus_partition().expect("partition");
            assert_eq!((state.asked(), state.effective()), (partition, Partition::Member));
            assert_eq!(reason(&one), Some(InvalidReason::ParentNeedsCpus));
        }
        // When the partition above ends, the reason is another.
        top.cpuset().set_cpus_partition(Partition::Member).expect("member");
        let above = reason(&one).expect("still asked for");
        assert_ne!(above, InvalidReason::Other, "{:?}", one.cpuset().cpus_partition());
        println!("{above:?}");
        top.cpuset().set_cpus(&all).expect("cpus");
        for group in [one, other] {
            group.remove(LIMIT).expect("remove");
        }
    });
}
