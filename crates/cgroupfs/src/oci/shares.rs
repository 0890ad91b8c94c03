//! `cpu.shares` of cgroup v1 as `cpu.weight` of v2.
#![forbid(unsafe_code)]

use crate::Weight;

/// How CPU shares of version 1 (2 to 262144, by default 1024) become a weight of version 2 (1 to 10000, by default 100).
///
/// ```
/// use cgroupfs::oci::SharesFormula::{Linear, Quadratic};
///
/// assert_eq!(Quadratic.weight(1024).map(|weight| weight.get()), Some(100));
/// assert_eq!(Linear.weight(1024).map(|weight| weight.get()), Some(39));
/// assert_eq!(Quadratic.weight(0), None);
/// ```
///
/// See <https://github.com/opencontainers/cgroups/pull/20>.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SharesFormula {
    /// A curve through the least, the default and the greatest value of both: what runc since 1.3.2 and crun since 1.23
    /// use.
    #[default]
    Quadratic,
    /// A line from the least to the greatest, on which the default becomes 39: what they used before.
    Linear,
}

impl SharesFormula {
    /// The weight. Of 0 there is none: engines write it for "not set". What is beyond the bounds counts as the bound.
    #[must_use]
    pub fn weight(self, shares: u64) -> Option<Weight> {
        if shares == 0 {
            return None;
        }
        let shares = shares.clamp(2, 262_144);
        let weight = match self {
            Self::Linear => 1 + (shares - 2) * 9_999 / 262_142,
            // The bounds themselves, which the curve meets but for rounding.
            Self::Quadratic if shares == 2 => 1,
            Self::Quadratic if shares == 262_144 => 10_000,
            Self::Quadratic => {
                let log = (shares as f64).log2();
                10f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil() as u64
            }
        };
        Weight::try_from(weight.clamp(1, 10_000)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn weights(formula: SharesFormula, shares: &[u64]) -> Vec<u16> {
        shares.iter().map(|&shares| formula.weight(shares).expect("weight").get()).collect()
    }

    #[test]
    fn known_points() {
        let shares = [1, 2, 3, 512, 1024, 2048, 102_400, 261_144, 262_144, 262_145, u64::MAX];
        let quadratic = weights(SharesFormula::Quadratic, &shares);
        assert_eq!((quadratic[0], quadratic[1], quadratic[4]), (1, 1, 100));
        assert_eq!(quadratic[8..], [10_000, 10_000, 10_000]);
        assert_eq!(weights(SharesFormula::Linear, &[2, 1024, 262_144]), [1, 39, 10_000]);
    }

    proptest! {
        #[test]
        fn more_shares_are_never_less_weight(one: u64, other: u64, small in 1u64..300_000) {
            for formula in [SharesFormula::Quadratic, SharesFormula::Linear] {
                let (less, more) = (one.min(other), one.max(other));
                prop_assert!(formula.weight(less) <= formula.weight(more));
                prop_assert!(formula.weight(small) <= formula.weight(small + 1));
            }
        }
    }
}
