//! Which files a snapshot is made of.
#![forbid(unsafe_code)]

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// Parts of [`Stats`](crate::Stats): a set, joined by `|`.
///
/// ```
/// use cgroupfs::StatsParts;
///
/// let parts = StatsParts::CPU | StatsParts::MEMORY;
/// assert!(parts.contains(StatsParts::CPU) && !parts.contains(StatsParts::MEMORY_STAT));
/// assert_eq!(parts.to_string(), "cpu memory");
/// assert!(StatsParts::ALL.without(StatsParts::IO).contains(parts));
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#controllers>.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatsParts(u16);

impl StatsParts {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// `cgroup.events`.
    pub const GROUP: Self = Self(1);
    /// `cpu.stat`.
    pub const CPU: Self = Self(1 << 1);
    /// `memory.current`, `memory.peak`, `memory.swap.current`, `memory.events`,
    /// `memory.swap.events`.
    pub const MEMORY: Self = Self(1 << 2);
    /// `memory.stat`, which costs more than all the others together.
    pub const MEMORY_STAT: Self = Self(1 << 3);
    /// `io.stat`.
    pub const IO: Self = Self(1 << 4);
    /// `pids.current`, `pids.peak`, `pids.events`.
    pub const PIDS: Self = Self(1 << 5);
    /// `cpu.pressure`, `memory.pressure`, `io.pressure`, `irq.pressure`.
    pub const PRESSURE: Self = Self(1 << 6);
    /// `hugetlb.*.current`.
    pub const HUGETLB: Self = Self(1 << 7);
    /// Everything.
    pub const ALL: Self = Self((1 << 8) - 1);

    const NAMES: [(Self, &'static str); 8] = [
        (Self::GROUP, "group"),
        (Self::CPU, "cpu"),
        (Self::MEMORY, "memory"),
        (Self::MEMORY_STAT, "memory.stat"),
        (Self::IO, "io"),
        (Self::PIDS, "pids"),
        (Self::PRESSURE, "pressure"),
        (Self::HUGETLB, "hugetlb"),
    ];

    /// Whether all of `parts` are in it.
    #[must_use]
    pub const fn contains(self, parts: Self) -> bool {
        self.0 & parts.0 == parts.0
    }

    /// It without `parts`.
    #[must_use]
    pub const fn without(self, parts: Self) -> Self {
        Self(self.0 & !parts.0)
    }
}

impl BitOr for StatsParts {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for StatsParts {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Display for StatsParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> =
            Self::NAMES.iter().filter(|(part, _)| self.contains(*part)).map(|(_, name)| *name).collect();
        f.write_str(&names.join(" "))
    }
}

impl fmt::Debug for StatsParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StatsParts({self})")
    }
}
