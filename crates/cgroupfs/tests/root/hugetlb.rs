#![forbid(unsafe_code)]

use std::fs;

use cgroupfs::{Bytes, Cgroup, ErrorKind, HugePageSize, Max};

use super::{LIMIT, cat, command_in, group, place};

fn size(text: &str) -> HugePageSize {
    text.parse().expect(text)
}

#[test]
fn the_sizes_are_the_machines() {
    faultkit::require!(root, cgroup2("hugetlb"));
    faultkit::isolated!(|| {
        let group = group(&place(), "sizes");
        let mut machine: Vec<HugePageSize> = fs::read_dir("/sys/kernel/mm/hugepages")
            .expect("hugepages")
            .map(|entry| {
                let name = entry.expect("entry").file_name().into_string().expect("text");
                let kib = name.strip_prefix("hugepages-").and_then(|name| name.strip_suffix("kB")).expect("name");
                HugePageSize::try_from(Bytes::kib(kib.parse().expect("number"))).expect("size")
            })
            .collect();
        machine.sort();
        assert_eq!(group.hugetlb_sizes().expect("sizes"), machine);
        let error = group.hugetlb(size("512GB")).max().expect_err("no such size");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        group.remove(LIMIT).expect("remove");
    });
}

#[test]
fn limits_are_written_and_rounded_down() {
    faultkit::require!(root, cgroup2("hugetlb"));
    faultkit::isolated!(|| {
        let group = group(&place(), "limits");
        for size in group.hugetlb_sizes().expect("sizes") {
            let (files, page) = (group.hugetlb(size), size.bytes().0);
            files.set_max(Bytes(page * 3 + 1)).expect("max");
            assert_eq!(cat(group.path(), &format!("hugetlb.{size}.max")), (page * 3).to_string());
            files.set_rsvd_max(Bytes(page)).expect("rsvd.max");
            assert_eq!(files.rsvd_max().expect("rsvd.max"), Max::Value(Bytes(page)));
            assert_eq!(cat(group.path(), &format!("hugetlb.{size}.rsvd.max")), page.to_string());
            files.set_max(Max::Max).expect("max");
            assert_eq!(cat(group.path(), &format!("hugetlb.{size}.max")), "max");
        }
        group.remove(LIMIT).expect("remove");
    });
}

/// Maps so many huge pages and touches them, in the group.
fn map(group: &Cgroup, pages: usize) -> std::process::Output {
    // MAP_HUGETLB with MAP_ANONYMOUS and MAP_PRIVATE, and then a byte of each page.
    let script = format!(
        "exec python3 -c 'import mmap\nm = mmap.mmap(-1, {pages} << 21, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)\n\
         for n in range({pages}): m[n << 21] = 1\nprint(open(\"/proc/self/smaps\").read().count(\"KernelPageSize:     2048 kB\"))'"
    );
    command_in(group.path(), &script).output().expect("python3")
}

#[test]
fn a_mapping_beyond_the_reservation_is_refused_and_counted() {
    faultkit::require!(root, cgroup2("hugetlb"), program("python3"));
    faultkit::isolated!(|| {
        let group = group(&place(), "refused");
        let files = group.hugetlb(size("2MB"));
        // Without a limit none is felt, whether the machine has such pages or not.
        map(&group, 1);
        assert_eq!(files.events().expect("events").max, 0);
        files.set_rsvd_max(Bytes(0)).expect("rsvd.max");
        // The reservation is refused before the machine is asked whether it has such pages.
        let output = map(&group, 1);
        assert!(String::from_utf8_lossy(&output.stderr).contains("Cannot allocate memory"), "{output:?}");
        assert_eq!(files.rsvd_current().expect("current"), Bytes(0));
        let events = files.events().expect("events");
        assert!(events.max > 0);
        assert_eq!(cat(group.path(), "hugetlb.2MB.events"), events.to_string().trim_end());
        group.remove(LIMIT).expect("remove");
    });
}
