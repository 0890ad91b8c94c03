//! On which memory nodes huge pages are: `hugetlb.SIZE.numa_stat`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::{Bytes, Error, Result};

const PARSE: &str = "parse hugetlb numa_stat";

/// How much of a size of huge pages is in use, in all and on each memory node: `hugetlb.SIZE.numa_stat`. Linux 5.17.
///
/// ```
/// use cgroupfs::{Bytes, HugetlbNumaStat};
///
/// let stat: HugetlbNumaStat = "total=4194304 N0=2097152 N1=2097152\n".parse()?;
/// assert_eq!((stat.total, stat.nodes[&1]), (Bytes::mib(4), Bytes::mib(2)));
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#hugetlb-interface-files>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HugetlbNumaStat {
    /// In all, in the group and below it.
    pub total: Bytes,
    /// By the number of the node.
    pub nodes: BTreeMap<u32, Bytes>,
    /// Keys that this version of the library does not know.
    pub other: BTreeMap<String, u64>,
}

impl FromStr for HugetlbNumaStat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut stat = Self::default();
        let mut total = None;
        for word in text.split_ascii_whitespace() {
            let entry = word.split_once('=').and_then(|(key, number)| Some((key, number.parse::<u64>().ok()?)));
            let (key, number) = entry.ok_or_else(|| Error::parse(PARSE, format!("{word:?} is not KEY=NUMBER")))?;
            match (key, key.strip_prefix('N').map(str::parse::<u32>)) {
                ("total", _) => total = Some(Bytes(number)),
                (_, Some(Ok(node))) => drop(stat.nodes.insert(node, Bytes(number))),
                (key, _) => drop(stat.other.insert(key.to_owned(), number)),
            }
        }
        stat.total = total.ok_or_else(|| Error::parse(PARSE, "there is no key total"))?;
        Ok(stat)
    }
}

impl fmt::Display for HugetlbNumaStat {
    /// As the file has it: one line, without its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "total={}", self.total)?;
        self.nodes.iter().try_for_each(|(node, bytes)| write!(f, " N{node}={bytes}"))?;
        self.other.iter().try_for_each(|(key, number)| write!(f, " {key}={number}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::collection::btree_map;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_such_file() {
        for text in ["", "N0=1", "total", "total=", "total=x", "total=1 N0", "total=-1"] {
            assert_eq!(text.parse::<HugetlbNumaStat>().expect_err(text).kind(), ErrorKind::Parse);
        }
        let next: HugetlbNumaStat = "total=1 N0=1 Nx=2 far=3".parse().expect("a newer kernel");
        assert_eq!((next.other["Nx"], next.other["far"], next.nodes.len()), (2, 3, 1));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(total: u64, nodes in btree_map(any::<u32>(), any::<u64>().prop_map(Bytes), 0..5)) {
            let stat = HugetlbNumaStat { total: Bytes(total), nodes, other: BTreeMap::new() };
            prop_assert_eq!(stat.to_string().parse::<HugetlbNumaStat>().unwrap(), stat);
        }

        #[test]
        fn no_text_panics(text in "\\PC*", near in "((total|N[0-9]{0,2})=?[0-9]{0,3} ?){0,4}") {
            let _ = (text.parse::<HugetlbNumaStat>(), near.parse::<HugetlbNumaStat>());
        }
    }
}
