//! The two things people mean by a limit on swap.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::{Bytes, Error, Max, Result};

/// How much swap alone a group may use: what the kernel's `memory.swap.max` holds.
///
/// Not to be mixed up with [`MemoryPlusSwap`], which is what command lines and OCI configurations give.
///
/// ```
/// use cgroupfs::{Bytes, Max, SwapOnly};
///
/// assert_eq!("max\n".parse::<SwapOnly>()?, SwapOnly(Max::Max));
/// assert_eq!(SwapOnly(Bytes::mib(64).into()).to_string(), "67108864");
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SwapOnly(pub Max<Bytes>);

/// How much memory and swap together a group may use: the `--memory-swap` of container engines, the `swap` of an OCI
/// configuration.
///
/// The kernel limits swap alone, so this has to be [converted](MemoryPlusSwap::swap_only), beside the limit on memory.
/// As text, `-1` and `max` are "no limit".
///
/// ```
/// use cgroupfs::{Bytes, Max, MemoryPlusSwap, SwapOnly};
///
/// let memory = Max::Value(Bytes::mib(512));
/// let total: MemoryPlusSwap = "1g".parse()?;
/// assert_eq!(total.swap_only(memory)?, SwapOnly(Max::Value(Bytes::mib(512))));
/// assert_eq!("-1".parse::<MemoryPlusSwap>()?.swap_only(memory)?, SwapOnly(Max::Max));
///
/// let less: MemoryPlusSwap = "256m".parse()?;
/// assert_eq!(
///     less.swap_only(memory).unwrap_err().to_string(),
///     "memory and swap together \"268435456\": less than the limit on memory, 536870912"
/// );
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemoryPlusSwap(pub Max<Bytes>);

impl MemoryPlusSwap {
    /// What is left for swap beside a limit on memory of `memory`.
    ///
    /// # Errors
    /// Invalid when `memory` is more than this total, or when this is a limit but `memory` is none.
    pub fn swap_only(self, memory: Max<Bytes>) -> Result<SwapOnly> {
        let invalid = |total: Bytes, why: String| {
            Error::invalid("memory and swap together", why).on(Subject::Value(total.to_string()))
        };
        match (self.0, memory) {
            (Max::Max, _) => Ok(SwapOnly(Max::Max)),
            (Max::Value(total), Max::Max) => {
                Err(invalid(total, "a limit on the sum needs a limit on memory beside it".to_owned()))
            }
            (Max::Value(total), Max::Value(memory)) => match total.0.checked_sub(memory.0) {
                Some(swap) => Ok(SwapOnly(Max::Value(Bytes(swap)))),
                None => Err(invalid(total, format!("less than the limit on memory, {memory}"))),
            },
        }
    }
}

impl FromStr for SwapOnly {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.parse().map(Self)
    }
}

impl FromStr for MemoryPlusSwap {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.trim() == "-1" { Ok(Self(Max::Max)) } else { text.parse().map(Self) }
    }
}

impl fmt::Display for SwapOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for MemoryPlusSwap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn a_total_without_a_limit_on_memory_is_refused() {
        let total = MemoryPlusSwap(Max::Value(Bytes::gib(1)));
        assert_eq!(total.swap_only(Max::Max).expect_err("no memory").kind(), ErrorKind::Invalid);
        assert_eq!(MemoryPlusSwap(Max::Max).swap_only(Max::Max).expect("none").0, Max::Max);
        for text in ["-2", "", "x"] {
            assert!(text.parse::<MemoryPlusSwap>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(bytes: u64) {
            for limit in [Max::Value(Bytes(bytes)), Max::Max] {
                prop_assert_eq!(SwapOnly(limit).to_string().parse::<SwapOnly>().unwrap(), SwapOnly(limit));
                let sum = MemoryPlusSwap(limit);
                prop_assert_eq!(sum.to_string().parse::<MemoryPlusSwap>().unwrap(), sum);
            }
        }

        #[test]
        fn memory_and_swap_add_up_to_the_total(memory: u64, total: u64) {
            match MemoryPlusSwap(Max::Value(Bytes(total))).swap_only(Max::Value(Bytes(memory))) {
                Ok(SwapOnly(Max::Value(swap))) => prop_assert_eq!(swap.0 + memory, total),
                Ok(SwapOnly(Max::Max)) => prop_assert!(false, "a limit became none"),
                Err(_) => prop_assert!(total < memory),
            }
        }
    }
}
