//! Resource limits: which there are, and values that cannot be wrong.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::{Error, Result, Subject};

macro_rules! resources {
    ($($(#[$doc:meta])* $name:ident = $number:literal $c_name:literal,)*) => {
        /// What a limit of [`Command::rlimit`](crate::Command::rlimit) is about, by the kernel's names.
        ///
        /// ```
        /// use ns_core::Resource;
        ///
        /// assert_eq!("nofile".parse::<Resource>()?, Resource::Nofile);
        /// assert_eq!(Resource::Nofile.to_string(), "RLIMIT_NOFILE");
        /// assert!("files".parse::<Resource>().is_err());
        /// # Ok::<(), ns_core::Error>(())
        /// ```
        ///
        /// See <https://man7.org/linux/man-pages/man2/getrlimit.2.html>.
        #[doc(alias("rlimit", "ulimit"))]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Resource { $($(#[$doc])* #[doc(alias = $c_name)] $name,)* }

        impl Resource {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The C name: `RLIMIT_NOFILE`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $c_name,)* }
            }

            /// The kernel's number, which on some processors differs from the usual one.
            pub(crate) fn number(self) -> u32 {
                #[cfg(any(target_arch = "mips", target_arch = "mips64", target_arch = "sparc", target_arch = "sparc64"))]
                match self {
                    Self::Nofile => return libc::RLIMIT_NOFILE as u32,
                    Self::As => return libc::RLIMIT_AS as u32,
                    Self::Rss => return libc::RLIMIT_RSS as u32,
                    Self::Nproc => return libc::RLIMIT_NPROC as u32,
                    Self::Memlock => return libc::RLIMIT_MEMLOCK as u32,
                    _ => {}
                }
                match self { $(Self::$name => $number,)* }
            }
        }
    };
}

resources! {
    /// Processor time, in seconds. At the soft limit the process gets SIGXCPU each second, at the hard one SIGKILL.
    Cpu = 0 "RLIMIT_CPU",
    /// The size of a file that it writes, in bytes.
    Fsize = 1 "RLIMIT_FSIZE",
    /// Its data segment and private writable mappings, in bytes.
    Data = 2 "RLIMIT_DATA",
    /// Its stack, in bytes; arguments and environment may take a quarter of it.
    Stack = 3 "RLIMIT_STACK",
    /// The size of its core dump, in bytes. 0 writes no core file, but a `kernel.core_pattern` that is a pipe to a program
    /// gets the dump all the same; 1 stops that too.
    Core = 4 "RLIMIT_CORE",
    /// Without effect since Linux 2.4.30.
    Rss = 5 "RLIMIT_RSS",
    /// How many threads its real user id has, in its user namespace; root and who has CAP_SYS_RESOURCE or CAP_SYS_ADMIN
    /// are not limited. When the payload's user has that many already, its execve fails with EAGAIN.
    Nproc = 6 "RLIMIT_NPROC",
    /// One more than the highest descriptor it may open. `fs.nr_open` is the most there can be.
    Nofile = 7 "RLIMIT_NOFILE",
    /// Memory that it locks into RAM, in bytes.
    Memlock = 8 "RLIMIT_MEMLOCK",
    /// Its address space, in bytes.
    As = 9 "RLIMIT_AS",
    /// Without effect since Linux 2.4.25.
    Locks = 10 "RLIMIT_LOCKS",
    /// How many signals can be queued for its real user id.
    Sigpending = 11 "RLIMIT_SIGPENDING",
    /// POSIX message queues of its real user id, in bytes.
    Msgqueue = 12 "RLIMIT_MSGQUEUE",
    /// How far it may lower its nice value: to 20 less this.
    Nice = 13 "RLIMIT_NICE",
    /// The highest real-time priority it may have without CAP_SYS_NICE.
    Rtprio = 14 "RLIMIT_RTPRIO",
    /// Processor time that it may use under a real-time policy without a blocking call, in microseconds.
    Rttime = 15 "RLIMIT_RTTIME",
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Resource {
    type Err = Error;

    /// Case and the prefix `RLIMIT_` do not matter: `nofile`.
    fn from_str(text: &str) -> Result<Self> {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("RLIMIT_").unwrap_or(&upper);
        let found = Self::ALL.iter().copied().find(|resource| resource.name().strip_prefix("RLIMIT_") == Some(bare));
        found.ok_or_else(|| {
            Error::invalid("prlimit64", "there is no such resource")
                .on(Subject::Value(text.to_owned()))
                .with_hint("getrlimit(2) lists them, such as NOFILE or RLIMIT_CORE")
        })
    }
}

/// One limit: a number of whatever the [`Resource`] is counted in, or none.
///
/// ```
/// use ns_core::Limit;
///
/// assert_eq!("1024".parse::<Limit>()?, Limit::Value(1024));
/// assert_eq!("unlimited".parse::<Limit>()?, Limit::Unlimited);
/// assert!(Limit::Value(u64::MAX - 1) < Limit::Unlimited);
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See getrlimit(2): <https://man7.org/linux/man-pages/man2/getrlimit.2.html>.
#[doc(alias = "rlim_t")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// This much.
    Value(u64),
    /// As much as there is.
    #[doc(alias = "RLIM_INFINITY")]
    Unlimited,
}

impl Limit {
    /// The kernel's number for it.
    pub(crate) fn bits(self) -> u64 {
        match self {
            Self::Value(value) => value,
            Self::Unlimited => u64::MAX,
        }
    }

    pub(crate) fn from_kernel(bits: u64) -> Self {
        if bits == u64::MAX { Self::Unlimited } else { Self::Value(bits) }
    }
}

impl From<u64> for Limit {
    fn from(value: u64) -> Self {
        Self::Value(value)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => value.fmt(f),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}

impl FromStr for Limit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "unlimited" {
            return Ok(Self::Unlimited);
        }
        text.parse().map(Self::Value).map_err(|_| {
            Error::invalid("prlimit64", "a limit is a number or unlimited").on(Subject::Value(text.to_owned()))
        })
    }
}

/// A soft limit and the hard one that it may be raised to, never above it.
///
/// ```
/// use ns_core::{Limit, Rlimit};
///
/// let limit = Rlimit::new(1024, 4096)?;
/// assert_eq!((limit.soft(), limit.hard()), (Limit::Value(1024), Limit::Value(4096)));
/// assert_eq!("1024:4096".parse::<Rlimit>()?, limit);
/// assert_eq!("unlimited".parse::<Rlimit>()?, Rlimit::new(Limit::Unlimited, Limit::Unlimited)?);
/// assert!(Rlimit::new(2, 1).is_err());
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See getrlimit(2): <https://man7.org/linux/man-pages/man2/getrlimit.2.html>.
#[doc(alias("setrlimit", "prlimit"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rlimit {
    soft: Limit,
    hard: Limit,
}

impl Rlimit {
    /// These two.
    ///
    /// # Errors
    /// Invalid when `soft` is above `hard`, and for 18446744073709551615, by which the kernel means
    /// [`Unlimited`](Limit::Unlimited).
    pub fn new(soft: impl Into<Limit>, hard: impl Into<Limit>) -> Result<Self> {
        let (soft, hard) = (soft.into(), hard.into());
        let refuse = |why| Err(Error::invalid("prlimit64", why).on(Subject::Value(format!("{soft}:{hard}"))));
        if [soft, hard].contains(&Limit::Value(u64::MAX)) {
            return refuse("this number means unlimited: say so");
        }
        // As the variants are ordered: any number is less than none.
        if soft > hard {
            return refuse("the soft limit is not above the hard one");
        }
        Ok(Self { soft, hard })
    }

    /// The limit that holds.
    #[must_use]
    pub fn soft(self) -> Limit {
        self.soft
    }

    /// The most that the soft limit may be raised to.
    #[must_use]
    pub fn hard(self) -> Limit {
        self.hard
    }
}

impl fmt::Display for Rlimit {
    /// `SOFT:HARD`, or one number when they are equal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.soft == self.hard {
            true => self.soft.fmt(f),
            false => write!(f, "{}:{}", self.soft, self.hard),
        }
    }
}

impl FromStr for Rlimit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            Some((soft, hard)) => Self::new(soft.parse::<Limit>()?, hard.parse::<Limit>()?),
            None => text.parse::<Limit>().and_then(|both| Self::new(both, both)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        for (resource, number) in [
            (Resource::Cpu, libc::RLIMIT_CPU),
            (Resource::Nofile, libc::RLIMIT_NOFILE),
            (Resource::As, libc::RLIMIT_AS),
            (Resource::Rss, libc::RLIMIT_RSS),
            (Resource::Nproc, libc::RLIMIT_NPROC),
            (Resource::Memlock, libc::RLIMIT_MEMLOCK),
            (Resource::Rttime, libc::RLIMIT_RTTIME),
        ] {
            assert_eq!(i64::from(resource.number()), i64::from(number), "{resource}");
        }
        assert_eq!(Resource::ALL.len(), 16);
    }

    #[test]
    fn names() {
        for resource in Resource::ALL {
            assert_eq!(resource.to_string().parse::<Resource>().expect("own name"), *resource);
        }
        assert_eq!("nofile".parse::<Resource>().expect("short"), Resource::Nofile);
        for wrong in ["", "RLIMIT_", "files", "RLIMIT_RLIMIT_CPU"] {
            assert!(wrong.parse::<Resource>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn limits_that_make_no_sense() {
        for wrong in ["", ":", "1:", ":1", "2:1", "unlimited:1", "-1", "18446744073709551615", "1:2:3", "1 "] {
            assert!(wrong.parse::<Rlimit>().is_err(), "{wrong}");
        }
        assert_eq!("1:unlimited".parse::<Rlimit>().expect("limit").to_string(), "1:unlimited");
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(soft: Option<u64>, hard: Option<u64>) {
            let limit = |value: Option<u64>| value.map_or(Limit::Unlimited, Limit::Value);
            if let Ok(limit) = Rlimit::new(limit(soft), limit(hard)) {
                proptest::prop_assert_eq!(limit.to_string().parse::<Rlimit>().expect("own text"), limit);
            }
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = (text.parse::<Rlimit>(), text.parse::<Resource>());
        }
    }
}
