//! On which nodes the group's memory is: `memory.numa_stat`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::words::split;
use crate::{Error, PerNode, Result};

const PARSE: &str = "parse memory.numa_stat";

/// Declares the struct. A field is a [`PerNode`], which every kernel since 5.15 writes, or an `Option` of one.
macro_rules! node_keyed {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $kind,)+
            /// Keys that this version of the library does not know.
            pub other: BTreeMap<String, PerNode>,
        }

        /// Prints as the kernel's file: a line for each key, those that are not declared last.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(if let Some(nodes) = Field::nodes(&self.$field) {
                    writeln!(f, concat!(stringify!($field), " {}"), nodes)?;
                })+
                self.other.iter().try_for_each(|(key, nodes)| writeln!(f, "{key} {nodes}"))
            }
        }

        impl FromStr for $name {
            type Err = Error;

            /// Reads what the kernel's file holds. A line that is not `KEY N0=NUMBER N1=NUMBER …`, or the lack of a key that
            /// every kernel since 5.15 writes, is an error of kind Parse.
            fn from_str(text: &str) -> Result<Self> {
                let mut keys = BTreeMap::new();
                for line in text.lines().filter(|line| !line.trim().is_empty()) {
                    let (key, nodes) = split(line);
                    keys.insert(key.to_owned(), nodes.parse::<PerNode>()?);
                }
                Ok(Self { $($field: Field::of(keys.remove(stringify!($field)), stringify!($field))?,)+ other: keys })
            }
        }
    };
}

trait Field: Sized {
    fn of(found: Option<PerNode>, key: &str) -> Result<Self>;
    fn nodes(&self) -> Option<&PerNode>;
}

impl Field for PerNode {
    fn of(found: Option<PerNode>, key: &str) -> Result<Self> {
        found.ok_or_else(|| Error::parse(PARSE, format!("there is no key {key:?}")))
    }

    fn nodes(&self) -> Option<&PerNode> {
        Some(self)
    }
}

impl Field for Option<PerNode> {
    fn of(found: Option<PerNode>, _key: &str) -> Result<Self> {
        Ok(found)
    }

    fn nodes(&self) -> Option<&PerNode> {
        self.as_ref()
    }
}

node_keyed! {
    /// `memory.numa_stat`: those keys of [`MemoryStat`](crate::MemoryStat) that the kernel counts for each node of the machine,
    /// in the same units.
    ///
    /// ```no_run
    /// let group = cgroupfs::Hierarchy::detect()?.own_group()?;
    /// for (node, bytes) in group.memory().numa_stat()?.anon.iter() {
    ///     println!("node {node}: {bytes} bytes");
    /// }
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
    #[doc(alias = "memory.numa_stat")]
    MemoryNumaStat {
        /// Anonymous memory: heaps, stacks, private mappings. Bytes, as all without a unit.
        anon: PerNode,
        /// Page cache, tmpfs and shared memory included.
        file: PerNode,
        /// Stacks of tasks in the kernel.
        kernel_stack: PerNode,
        /// Page tables.
        pagetables: PerNode,
        /// Page tables of virtual machines and IOMMUs. Linux 6.1.
        sec_pagetables: Option<PerNode>,
        /// Of `file`, what is backed by swap: tmpfs, shared memory.
        shmem: PerNode,
        /// Of `file`, what is mapped.
        file_mapped: PerNode,
        /// Of `file`, what is to be written to disk.
        file_dirty: PerNode,
        /// Of `file`, what is being written to disk.
        file_writeback: PerNode,
        /// What is both in memory and in swap. Where swap is built in.
        swapcached: Option<PerNode>,
        /// Of `anon`, transparent huge pages. Where they are built in.
        anon_thp: Option<PerNode>,
        /// Of `file`, transparent huge pages. Where they are built in.
        file_thp: Option<PerNode>,
        /// Of `shmem`, transparent huge pages. Where they are built in.
        shmem_thp: Option<PerNode>,
        /// Backed by swap, not used lately.
        inactive_anon: PerNode,
        /// Backed by swap, used lately.
        active_anon: PerNode,
        /// Backed by files, not used lately.
        inactive_file: PerNode,
        /// Backed by files, used lately.
        active_file: PerNode,
        /// Cannot be reclaimed: locked, for one.
        unevictable: PerNode,
        /// The kernel's objects that can be reclaimed: names and inodes.
        slab_reclaimable: PerNode,
        /// The kernel's objects that cannot.
        slab_unreclaimable: PerNode,
        /// Huge pages, where cgroup2 is mounted with memory_hugetlb_accounting. Kernels newer than 6.12.
        hugetlb: Option<PerNode>,
        /// Pages that were evicted and came back, of `anon`.
        workingset_refault_anon: PerNode,
        /// Pages that were evicted and came back, of `file`.
        workingset_refault_file: PerNode,
        /// Of those, the ones that were taken for in use at once, of `anon`.
        workingset_activate_anon: PerNode,
        /// Of those, the ones that were taken for in use at once, of `file`.
        workingset_activate_file: PerNode,
        /// Of those, the ones that had been in use before they were evicted, of `anon`.
        workingset_restore_anon: PerNode,
        /// Of those, the ones that had been in use before they were evicted, of `file`.
        workingset_restore_file: PerNode,
        /// Times that a record of evictions was reclaimed itself.
        workingset_nodereclaim: PerNode,
        /// Pages moved to slower memory by kswapd. Linux 6.12 or before: seen there.
        pgdemote_kswapd: Option<PerNode>,
        /// Pages moved to slower memory by who needed some. Linux 6.12 or before: seen there.
        pgdemote_direct: Option<PerNode>,
        /// Pages moved to slower memory by khugepaged. Linux 6.12 or before: seen there.
        pgdemote_khugepaged: Option<PerNode>,
        /// Pages moved to slower memory on request. Kernels newer than 6.12.
        pgdemote_proactive: Option<PerNode>,
        /// Pages moved to faster memory. Linux 6.12 or before, with NUMA balancing: seen there.
        pgpromote_success: Option<PerNode>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    /// As Linux 6.1 has it on a machine with two nodes.
    fn file() -> String {
        let mut text = String::new();
        for key in [
            "anon",
            "file",
            "kernel_stack",
            "pagetables",
            "sec_pagetables",
            "shmem",
            "file_mapped",
            "file_dirty",
            "file_writeback",
            "swapcached",
            "anon_thp",
            "file_thp",
            "shmem_thp",
            "inactive_anon",
            "active_anon",
            "inactive_file",
            "active_file",
            "unevictable",
            "slab_reclaimable",
            "slab_unreclaimable",
            "workingset_refault_anon",
            "workingset_refault_file",
            "workingset_activate_anon",
            "workingset_activate_file",
            "workingset_restore_anon",
            "workingset_restore_file",
            "workingset_nodereclaim",
        ] {
            text += &format!("{key} N0=4096 N1=8192\n");
        }
        text
    }

    #[test]
    fn each_key_on_each_node() {
        let stat: MemoryNumaStat = file().parse().expect("6.1");
        assert_eq!(stat.to_string(), file());
        assert_eq!((stat.anon.get(0), stat.anon.get(1), stat.anon.get(2)), (Some(4096), Some(8192), None));
        assert_eq!(stat.workingset_nodereclaim.total(), 12288);
        assert_eq!((stat.sec_pagetables.is_some(), stat.pgdemote_direct), (true, None));
        let newer: MemoryNumaStat = format!("{}later N0=1\n", file()).parse().expect("newer");
        assert_eq!(newer.other["later"].total(), 1);
    }

    #[test]
    fn a_file_of_something_else() {
        for text in ["", "anon N0=1\n", &file().replace("N1=8192", "N1=x"), &file().replace("N0=", "M0=")] {
            assert_eq!(text.parse::<MemoryNumaStat>().expect_err(text).kind(), ErrorKind::Parse);
        }
    }
}
