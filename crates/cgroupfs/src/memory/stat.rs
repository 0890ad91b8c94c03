//! What the group's memory is made of: `memory.stat`.
#![forbid(unsafe_code)]

use crate::keyed::flat_keyed;

flat_keyed! {
    /// `memory.stat`: what the memory of the group and those below it is made of, in bytes, and what has happened to it, as
    /// numbers of pages and events since the group was made.
    ///
    /// A key that kernels have by version or by configuration is an `Option`.
    ///
    /// ```no_run
    /// let group = cgroupfs::Hierarchy::detect()?.own_group()?;
    /// let stat = group.memory().stat()?;
    /// // What a limit would leave of it without swap: all but what is on disk as well.
    /// println!("{} bytes", stat.anon + stat.slab_unreclaimable + stat.file_dirty);
    /// // Every number there is, for a metrics exporter: so has each type of a flat-keyed file.
    /// for (key, number) in stat.iter() {
    ///     println!("memory_stat_{key} {number}");
    /// }
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
    MemoryStat of "memory.stat" {
        /// Anonymous memory: heaps, stacks, private mappings. Bytes, as all without a unit.
        anon: u64 = "anon",
        /// Page cache, tmpfs and shared memory included.
        file: u64 = "file",
        /// Memory of the kernel's in all. Linux 5.18.
        kernel: Option<u64> = "kernel",
        /// Stacks of tasks in the kernel.
        kernel_stack: u64 = "kernel_stack",
        /// Page tables.
        pagetables: u64 = "pagetables",
        /// Page tables of virtual machines and IOMMUs. Linux 6.1.
        sec_pagetables: Option<u64> = "sec_pagetables",
        /// The kernel's data for each processor.
        percpu: u64 = "percpu",
        /// Buffers of sockets.
        sock: u64 = "sock",
        /// The kernel's memory that is only virtually in one piece. Linux 5.18.
        vmalloc: Option<u64> = "vmalloc",
        /// Of `file`, what is backed by swap: tmpfs, shared memory.
        shmem: u64 = "shmem",
        /// Compressed memory that pages were swapped to. Linux 5.19, where zswap is built in.
        zswap: Option<u64> = "zswap",
        /// What those pages were before. Linux 5.19, where zswap is built in.
        zswapped: Option<u64> = "zswapped",
        /// Of `file`, what is mapped.
        file_mapped: u64 = "file_mapped",
        /// Of `file`, what is to be written to disk.
        file_dirty: u64 = "file_dirty",
        /// Of `file`, what is being written to disk.
        file_writeback: u64 = "file_writeback",
        /// What is both in memory and in swap. Where swap is built in.
        swapcached: Option<u64> = "swapcached",
        /// Of `anon`, transparent huge pages. Where they are built in.
        anon_thp: Option<u64> = "anon_thp",
        /// Of `file`, transparent huge pages. Where they are built in.
        file_thp: Option<u64> = "file_thp",
        /// Of `shmem`, transparent huge pages. Where they are built in.
        shmem_thp: Option<u64> = "shmem_thp",
        /// Backed by swap, not used lately.
        inactive_anon: u64 = "inactive_anon",
        /// Backed by swap, used lately.
        active_anon: u64 = "active_anon",
        /// Backed by files, not used lately.
        inactive_file: u64 = "inactive_file",
        /// Backed by files, used lately.
        active_file: u64 = "active_file",
        /// Cannot be reclaimed: locked, for one.
        unevictable: u64 = "unevictable",
        /// The kernel's objects that can be reclaimed: names and inodes.
        slab_reclaimable: u64 = "slab_reclaimable",
        /// The kernel's objects that cannot.
        slab_unreclaimable: u64 = "slab_unreclaimable",
        /// Both.
        slab: u64 = "slab",
        /// Huge pages, where cgroup2 is mounted with memory_hugetlb_accounting. Kernels newer than 6.12.
        hugetlb: Option<u64> = "hugetlb",
        /// Pages that were evicted and came back, of `anon`.
        workingset_refault_anon: u64 = "workingset_refault_anon",
        /// Pages that were evicted and came back, of `file`.
        workingset_refault_file: u64 = "workingset_refault_file",
        /// Of those, the ones that were taken for in use at once, of `anon`.
        workingset_activate_anon: u64 = "workingset_activate_anon",
        /// Of those, the ones that were taken for in use at once, of `file`.
        workingset_activate_file: u64 = "workingset_activate_file",
        /// Of those, the ones that had been in use before they were evicted, of `anon`.
        workingset_restore_anon: u64 = "workingset_restore_anon",
        /// Of those, the ones that had been in use before they were evicted, of `file`.
        workingset_restore_file: u64 = "workingset_restore_file",
        /// Times that a record of evictions was reclaimed itself.
        workingset_nodereclaim: u64 = "workingset_nodereclaim",
        /// Pages moved to slower memory by kswapd. Linux 6.12 or before: seen there.
        pgdemote_kswapd: Option<u64> = "pgdemote_kswapd",
        /// Pages moved to slower memory by who needed some. Linux 6.12 or before: seen there.
        pgdemote_direct: Option<u64> = "pgdemote_direct",
        /// Pages moved to slower memory by khugepaged. Linux 6.12 or before: seen there.
        pgdemote_khugepaged: Option<u64> = "pgdemote_khugepaged",
        /// Pages moved to slower memory on request. Kernels newer than 6.12.
        pgdemote_proactive: Option<u64> = "pgdemote_proactive",
        /// Pages moved to faster memory. Linux 6.12 or before, with NUMA balancing: seen there.
        pgpromote_success: Option<u64> = "pgpromote_success",
        /// Pages looked at by reclaim.
        pgscan: u64 = "pgscan",
        /// Pages reclaimed.
        pgsteal: u64 = "pgsteal",
        /// Pages looked at by kswapd. Linux 6.1 or before: seen there.
        pgscan_kswapd: Option<u64> = "pgscan_kswapd",
        /// Pages looked at by who needed some. Linux 6.1 or before: seen there.
        pgscan_direct: Option<u64> = "pgscan_direct",
        /// Pages looked at by khugepaged. Linux 6.12 or before: seen there.
        pgscan_khugepaged: Option<u64> = "pgscan_khugepaged",
        /// Pages looked at on request. Kernels newer than 6.12.
        pgscan_proactive: Option<u64> = "pgscan_proactive",
        /// Pages reclaimed by kswapd. Linux 6.1 or before: seen there.
        pgsteal_kswapd: Option<u64> = "pgsteal_kswapd",
        /// Pages reclaimed by who needed some. Linux 6.1 or before: seen there.
        pgsteal_direct: Option<u64> = "pgsteal_direct",
        /// Pages reclaimed by khugepaged. Linux 6.12 or before: seen there.
        pgsteal_khugepaged: Option<u64> = "pgsteal_khugepaged",
        /// Pages reclaimed on request. Kernels newer than 6.12.
        pgsteal_proactive: Option<u64> = "pgsteal_proactive",
        /// Page faults.
        pgfault: u64 = "pgfault",
        /// Of them, those that waited for a disk.
        pgmajfault: u64 = "pgmajfault",
        /// Pages looked at among those used lately.
        pgrefill: u64 = "pgrefill",
        /// Pages taken for used lately.
        pgactivate: u64 = "pgactivate",
        /// Pages no longer taken for used lately.
        pgdeactivate: u64 = "pgdeactivate",
        /// Pages that were freed lazily (MADV_FREE).
        pglazyfree: u64 = "pglazyfree",
        /// Of them, those reclaimed.
        pglazyfreed: u64 = "pglazyfreed",
        /// Pages of zeros that were swapped in without a read. Linux 6.12: seen there.
        swpin_zero: Option<u64> = "swpin_zero",
        /// Pages of zeros that were swapped out without a write. Linux 6.12: seen there.
        swpout_zero: Option<u64> = "swpout_zero",
        /// Pages that came back from compressed memory. Linux 5.19, where zswap is built in.
        zswpin: Option<u64> = "zswpin",
        /// Pages that went to compressed memory. Linux 5.19, where zswap is built in.
        zswpout: Option<u64> = "zswpout",
        /// Pages that went on from compressed memory to disk. Linux 6.8, where zswap is built in.
        zswpwb: Option<u64> = "zswpwb",
        /// Transparent huge pages made at a page fault. Where they are built in.
        thp_fault_alloc: Option<u64> = "thp_fault_alloc",
        /// Transparent huge pages made to take the place of small ones. Where they are built in.
        thp_collapse_alloc: Option<u64> = "thp_collapse_alloc",
        /// Transparent huge pages swapped out whole. Linux 6.12 or before: seen there.
        thp_swpout: Option<u64> = "thp_swpout",
        /// Transparent huge pages split before they were swapped out. Linux 6.12 or before: seen there.
        thp_swpout_fallback: Option<u64> = "thp_swpout_fallback",
        /// Pages moved to the node that uses them. Linux 6.12 or before, with NUMA balancing: seen there.
        numa_pages_migrated: Option<u64> = "numa_pages_migrated",
        /// Mappings taken away to see who uses a page. Linux 6.12 or before, with NUMA balancing: seen there.
        numa_pte_updates: Option<u64> = "numa_pte_updates",
        /// Page faults that told so. Linux 6.12 or before, with NUMA balancing: seen there.
        numa_hint_faults: Option<u64> = "numa_hint_faults",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::keyed::FlatKeyed;
    use proptest::prelude::*;

    #[test]
    fn older_kernels_and_newer_ones() {
        // Linux 5.15 without swap and huge pages: the least there is.
        let old: String = MemoryStat::KEYS.iter().filter(|key| key.1).map(|key| format!("{} 4096\n", key.0)).collect();
        let old: MemoryStat = old.parse().expect("5.15");
        assert_eq!((old.anon, old.pglazyfreed, old.kernel, old.zswap), (4096, 4096, None, None));
        assert!(old.other.is_empty());
        let all: String = MemoryStat::KEYS.iter().map(|key| format!("{} 1\n", key.0)).collect();
        let new: MemoryStat = format!("balloon 7\n{all}").parse().expect("newer");
        assert_eq!((new.kernel, new.numa_hint_faults, new.other["balloon"]), (Some(1), Some(1), 7));
        let short = all.replace("anon 1\n", "");
        let error = short.parse::<MemoryStat>().expect_err("no anon");
        assert_eq!((error.kind(), error.to_string().contains("\"anon\"")), (ErrorKind::Parse, true));
    }

    proptest! {
        /// Each key goes to the field of its name, in whatever order they come.
        #[test]
        fn order_does_not_matter(
            order in Just((0..MemoryStat::KEYS.len()).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let text: String = order.iter().map(|&key| format!("{} {}\n", MemoryStat::KEYS[key].0, key + 1)).collect();
            let stat: MemoryStat = text.parse().unwrap();
            let place = |name| MemoryStat::KEYS.iter().position(|key| key.0 == name).unwrap() as u64 + 1;
            prop_assert_eq!(stat.anon, place("anon"));
            prop_assert_eq!(stat.slab, place("slab"));
            prop_assert_eq!(stat.pgscan_khugepaged, Some(place("pgscan_khugepaged")));
            prop_assert_eq!(stat.numa_hint_faults, Some(place("numa_hint_faults")));
        }
    }
}
