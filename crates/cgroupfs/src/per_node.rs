//! A number for each node of the machine's memory.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::{Error, Result, words};

/// A number for each NUMA node, as `memory.numa_stat` has it: `N0=4096 N1=0`.
///
/// ```
/// use cgroupfs::PerNode;
///
/// let anon: PerNode = "N0=4096 N1=8192".parse()?;
/// assert_eq!((anon.get(1), anon.total()), (Some(8192), 12288));
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PerNode(BTreeMap<u32, u64>);

impl PerNode {
    /// Of one node; `None` when the kernel does not list it.
    #[must_use]
    pub fn get(&self, node: u32) -> Option<u64> {
        self.0.get(&node).copied()
    }

    /// Of all nodes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().fold(0, |total, number| total.saturating_add(*number))
    }

    /// The nodes with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u64)> {
        self.0.iter().map(|(node, number)| (*node, *number))
    }
}

impl FromIterator<(u32, u64)> for PerNode {
    fn from_iter<I: IntoIterator<Item = (u32, u64)>>(nodes: I) -> Self {
        Self(nodes.into_iter().collect())
    }
}

impl FromStr for PerNode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let node = |word: &str| {
            let (node, number) = word.strip_prefix('N')?.split_once('=')?;
            Some((words::number(node)?, words::number(number)?))
        };
        text.split_ascii_whitespace()
            .map(|word| node(word).ok_or_else(|| Error::parse("parse nodes", format!("{word:?} is not N0=NUMBER"))))
            .collect()
    }
}

impl fmt::Display for PerNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gap = "";
        for (node, number) in self.iter() {
            write!(f, "{gap}N{node}={number}")?;
            gap = " ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_node() {
        for text in ["N0", "0=1", "N=1", "N0=", "N0=-1", "N+0=1", "N0=1 x", "n0=1", "N4294967296=1"] {
            assert_eq!(text.parse::<PerNode>().expect_err(text).kind(), ErrorKind::Parse, "{text}");
        }
        assert_eq!("".parse::<PerNode>().expect("none").total(), 0);
        assert_eq!(format!("N0={} N1=1", u64::MAX).parse::<PerNode>().expect("two").total(), u64::MAX);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(nodes in proptest::collection::btree_map(any::<u32>(), any::<u64>(), 0..6)) {
            let nodes: PerNode = nodes.into_iter().collect();
            prop_assert_eq!(nodes.to_string().parse::<PerNode>().unwrap(), nodes);
        }

        #[test]
        fn no_text_panics(text in "\\PC*", near in "(N?[0-9=]{0,6} ?){0,4}") {
            let _ = (text.parse::<PerNode>(), near.parse::<PerNode>());
        }
    }
}
