//! Sets of processors and of memory nodes, as the kernel writes them: `0-3,8`.
#![forbid(unsafe_code)]

use std::fmt;

use cellkit_core::{Error, Result, Subject};

/// A set of small numbers: 64 to a word, no zero word at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Bitmap(Vec<u64>);

impl Bitmap {
    fn insert(&mut self, number: usize) {
        let word = number / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(place) = self.0.get_mut(word) {
            *place |= 1 << (number % 64);
        }
    }

    fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word & 1 << (number % 64) != 0)
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        (0..self.0.len() * 64).filter(|number| self.contains(*number))
    }

    /// Of the kernel's own words.
    fn from_words(words: &[u64]) -> Self {
        let used = words.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1);
        Self(words.iter().take(used).copied().collect())
    }

    /// Reads a list whose numbers are all below `end`, and says what is wrong with one that is not.
    fn parse(text: &str, end: usize) -> std::result::Result<Self, &'static str> {
        let mut set = Self::default();
        let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse::<usize>().map_err(|_| "this is a list of numbers and ranges, such as 0-3,8"),
            false => Err("this is a list of numbers and ranges, such as 0-3,8"),
        };
        for part in text.trim().split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err("a range goes from the lower number to the higher");
            }
            if last >= end {
                return Err("no kernel has that many");
            }
            (first..=last).for_each(|number| set.insert(number));
        }
        Ok(set)
    }
}

impl fmt::Display for Bitmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut numbers = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = numbers.next() {
            let mut last = first;
            while numbers.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            match last == first {
                true => write!(f, "{separator}{first}")?,
                false => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

macro_rules! sets {
    ($($(#[$doc:meta])* $name:ident: $end:literal $call:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name(Bitmap);

        impl $name {
            /// One more than the highest number there can be.
            pub const END: usize = $end;

            /// The empty set.
            #[must_use]
            pub fn new() -> Self {
                Self::default()
            }

            /// The set with `number` in it. One that no kernel can have, at or above [`END`](Self::END), is left out.
            #[must_use]
            pub fn with(mut self, number: usize) -> Self {
                if number < Self::END {
                    self.0.insert(number);
                }
                self
            }

            /// Whether `number` is in the set.
            #[must_use]
            pub fn contains(&self, number: usize) -> bool {
                self.0.contains(number)
            }

            /// The numbers in the set, ascending.
            pub fn iter(&self) -> impl Iterator<Item = usize> {
                self.0.iter()
            }

            /// How many numbers are in the set.
            #[must_use]
            pub fn len(&self) -> usize {
                self.iter().count()
            }

            /// Whether nothing is in the set.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.0.0.is_empty()
            }

            /// The words that the kernel reads.
            pub(crate) fn words(&self) -> &[u64] {
                &self.0.0
            }
        }

        impl FromIterator<usize> for $name {
            fn from_iter<I: IntoIterator<Item = usize>>(numbers: I) -> Self {
                numbers.into_iter().fold(Self::new(), Self::with)
            }
        }

        impl fmt::Display for $name {
            /// As the kernel writes it: `0-3,8`; nothing for the empty set.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;

            /// # Errors
            /// Invalid for an empty list, for what is no number or range, and for numbers that no kernel has.
            fn from_str(text: &str) -> Result<Self> {
                let set = Bitmap::parse(text, Self::END);
                set.map(Self).map_err(|why| Error::invalid($call, why).on(Subject::Value(text.to_owned())))
            }
        }
    )*};
}

sets! {
    /// A set of processors, for [`Command::cpu_affinity`](crate::Command::cpu_affinity).
    ///
    /// It is read and written as the kernel writes it in `cpuset.cpus` and `/sys/devices/system/cpu/online`:
    ///
    /// ```
    /// use ns_core::CpuSet;
    ///
    /// let set: CpuSet = "0-2,8".parse()?;
    /// assert_eq!(set.iter().collect::<Vec<_>>(), [0, 1, 2, 8]);
    /// assert_eq!(set, [8, 2, 1, 0].into_iter().collect());
    /// assert_eq!(set.to_string(), "0-2,8");
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See cpuset(7), formats: <https://man7.org/linux/man-pages/man7/cpuset.7.html>.
    #[doc(alias("cpu_set_t", "taskset"))]
    CpuSet: 8192 "sched_setaffinity";
    /// A set of memory nodes, for [`MemoryPolicy`](crate::MemoryPolicy), read and written like a [`CpuSet`].
    ///
    /// ```
    /// use ns_core::NodeSet;
    ///
    /// assert_eq!("0,2-3".parse::<NodeSet>()?, [0, 2, 3].into_iter().collect());
    /// assert!("0-1024".parse::<NodeSet>().is_err()); // no kernel has that many
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See numa(7): <https://man7.org/linux/man-pages/man7/numa.7.html>.
    #[doc(alias = "nodemask")]
    NodeSet: 1024 "set_mempolicy";
}

impl CpuSet {
    /// The processors that the calling thread may run on.
    ///
    /// * C call: sched_getaffinity(2).
    ///
    /// ```
    /// use ns_core::{Command, CpuSet};
    ///
    /// // The payload gets all processors unless it is told to stay on the caller's.
    /// let mine = CpuSet::of_this_thread()?;
    /// assert!(Command::new("true").cpu_affinity(mine).status()?.success());
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// See sched_setaffinity(2): <https://man7.org/linux/man-pages/man2/sched_setaffinity.2.html>.
    ///
    /// # Errors
    /// None that a kernel of today gives; ENOSYS under a filter.
    #[doc(alias = "sched_getaffinity")]
    pub fn of_this_thread() -> Result<Self> {
        let mut words = [0; Self::END / 64];
        crate::sys::affinity(&mut words).map_err(|errno| Error::from_errno("sched_getaffinity", errno.0))?;
        Ok(Self(Bitmap::from_words(&words)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists() {
        for (text, shown) in [("0", "0"), ("3,1,2", "1-3"), ("0-3,8\n", "0-3,8"), ("5-5,007", "5,7"), ("8191", "8191")]
        {
            assert_eq!(text.parse::<CpuSet>().expect(text).to_string(), shown);
        }
        for wrong in
            ["", ",", "1,", "-", "1-", "-1", "3-1", "8192", "0-99999999999999999999", "a", "+1", "1 2", "0-7:2/4"]
        {
            assert!(wrong.parse::<CpuSet>().is_err(), "{wrong}");
        }
        assert!("1024".parse::<NodeSet>().is_err());
        assert!(CpuSet::new().with(8192).is_empty());
    }

    #[test]
    fn of_this_thread_is_what_proc_says() {
        let status = std::fs::read_to_string("/proc/thread-self/status").expect("status");
        let listed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("list");
        assert_eq!(CpuSet::of_this_thread().expect("affinity").to_string(), listed.trim());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(numbers in prop::collection::btree_set(0usize..8192, 1..40)) {
            let set: CpuSet = numbers.iter().copied().collect();
            prop_assert!(set.iter().eq(numbers.iter().copied()));
            prop_assert_eq!(set.to_string().parse::<CpuSet>().expect("own text"), set);
        }

        #[test]
        fn no_text_panics(text in "[0-9,\\- a]{0,24}") {
            let _ = text.parse::<CpuSet>();
        }
    }
}
