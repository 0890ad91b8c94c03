//! Numbers with bounds: tasks and weights.
#![forbid(unsafe_code)]

/// Declares a number with bounds; what comes last is the operation in its errors.
macro_rules! bounded {
    ($(#[$doc:meta])* $name:ident($inner:ty), $least:literal..=$most:literal, $parse:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($inner);

        impl $name {
            /// The least value.
            pub const LEAST: Self = Self($least);
            /// The greatest value.
            pub const MOST: Self = Self($most);

            /// The number.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl TryFrom<u64> for $name {
            type Error = $crate::Error;

            fn try_from(number: u64) -> $crate::Result<Self> {
                match <$inner>::try_from(number) {
                    Ok(number) if ($least..=$most).contains(&number) => Ok(Self(number)),
                    _ => Err($crate::Error::invalid($parse, concat!("not between ", $least, " and ", $most))
                        .on(cellkit_core::Subject::Value(number.to_string()))),
                }
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::Error;

            fn from_str(text: &str) -> $crate::Result<Self> {
                let invalid = |why| $crate::Error::invalid($parse, why).on(cellkit_core::Subject::Value(text.to_owned()));
                let number = text.trim();
                if !$crate::words::is_digits(number) {
                    return Err(invalid(concat!("not a whole number between ", $least, " and ", $most)));
                }
                let too_large = |_| invalid(concat!("not between ", $least, " and ", $most));
                Self::try_from(number.parse::<u64>().map_err(too_large)?)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }
    };
}
pub(crate) use bounded;

bounded! {
    /// How many tasks (processes and threads) a group may hold: `pids.max`.
    ///
    /// At least 1, since nothing can start in a group of none; at most 4194304, all that a kernel can number.
    ///
    /// ```
    /// use cgroupfs::PidsMax;
    ///
    /// assert_eq!(PidsMax::try_from(64)?.get(), 64);
    /// let error = PidsMax::try_from(0).unwrap_err();
    /// assert_eq!(error.to_string(), r#"parse pids.max "0": not between 1 and 4194304"#);
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#pid-interface-files>.
    PidsMax(u32), 1..=4194304, "parse pids.max"
}

bounded! {
    /// A group's share of what its siblings compete for: `cpu.weight`. The kernel's default is 100.
    ///
    /// ```
    /// use cgroupfs::Weight;
    ///
    /// assert_eq!("200".parse::<Weight>()?.get(), 200);
    /// assert!("0".parse::<Weight>().is_err());
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files>.
    Weight(u16), 1..=10000, "parse weight"
}

bounded! {
    /// A group's share of a disk that its siblings compete for: `io.weight`. The kernel's default is 100.
    ///
    /// It is felt where the io.cost controller is switched on for the disk: see [`IoCostQos`](crate::IoCostQos).
    ///
    /// ```
    /// use cgroupfs::IoWeight;
    ///
    /// assert_eq!("200".parse::<IoWeight>()?.get(), 200);
    /// assert!(IoWeight::try_from(0).is_err());
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#io-interface-files>.
    IoWeight(u16), 1..=10000, "parse io.weight"
}

bounded! {
    /// A group's share of a disk whose scheduler is BFQ: `io.bfq.weight`. The kernel's default is 100.
    ///
    /// ```
    /// use cgroupfs::BfqWeight;
    ///
    /// assert_eq!("1000".parse::<BfqWeight>()?, BfqWeight::MOST);
    /// assert_eq!(
    ///     BfqWeight::try_from(1001).unwrap_err().to_string(),
    ///     r#"parse io.bfq.weight "1001": not between 1 and 1000"#
    /// );
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/block/bfq-iosched.html>.
    BfqWeight(u16), 1..=1000, "parse io.bfq.weight"
}

bounded! {
    /// How many groups there may be below a group, at any depth: `cgroup.max.descendants`.
    ///
    /// ```
    /// use cgroupfs::{DescendantCount, Max};
    ///
    /// assert_eq!("max\n".parse::<Max<DescendantCount>>()?, Max::Max);
    /// assert_eq!("0".parse::<Max<DescendantCount>>()?, Max::Value(DescendantCount::LEAST));
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#core-interface-files>.
    DescendantCount(u32), 0..=2147483647, "parse cgroup.max.descendants"
}

bounded! {
    /// How many levels of groups there may be below a group: `cgroup.max.depth`.
    ///
    /// ```
    /// use cgroupfs::Depth;
    ///
    /// assert_eq!(Depth::try_from(3)?.to_string(), "3");
    /// assert!("-1".parse::<Depth>().is_err());
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#core-interface-files>.
    Depth(u32), 0..=2147483647, "parse cgroup.max.depth"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn out_of_bounds() {
        for text in ["", "0", "-1", "+1", "1.5", "4194305", "99999999999999999999", "max", "1 2", "0x1", "\0"] {
            assert_eq!(text.parse::<PidsMax>().expect_err(text).kind(), ErrorKind::Invalid);
        }
        for text in ["0", "10001", "65537", "-100"] {
            assert_eq!(text.parse::<Weight>().expect_err(text).kind(), ErrorKind::Invalid);
        }
        assert_eq!(PidsMax::try_from(4_194_304).expect("most"), PidsMax::MOST);
        assert!(PidsMax::try_from(u64::from(u32::MAX) + 2).is_err());
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(tasks in 1u64..=4_194_304, weight in 1u64..=10_000) {
            let (tasks, weight) = (PidsMax::try_from(tasks).unwrap(), Weight::try_from(weight).unwrap());
            prop_assert_eq!(tasks.to_string().parse::<PidsMax>().unwrap(), tasks);
            prop_assert_eq!(weight.to_string().parse::<Weight>().unwrap(), weight);
        }
    }
}
