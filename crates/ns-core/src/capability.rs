//! Capabilities: parts of root's power, as a set.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::{Error, Result, Subject};

use crate::sys;

macro_rules! capabilities {
    ($($name:ident = $number:literal,)*) => {
        /// One capability: a part of root's power.
        ///
        /// See capabilities(7): <https://man7.org/linux/man-pages/man7/capabilities.7.html>.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "the kernel's own names, told in capabilities(7)")]
        #[allow(non_camel_case_types, reason = "the kernel's own names")]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Capability { $($name = $number,)* }

        impl Capability {
            /// Every capability that this crate knows by name.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name without its prefix, in capitals: `NET_ADMIN`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

capabilities! {
    CHOWN = 0, DAC_OVERRIDE = 1, DAC_READ_SEARCH = 2, FOWNER = 3, FSETID = 4, KILL = 5, SETGID = 6, SETUID = 7,
    SETPCAP = 8, LINUX_IMMUTABLE = 9, NET_BIND_SERVICE = 10, NET_BROADCAST = 11, NET_ADMIN = 12, NET_RAW = 13,
    IPC_LOCK = 14, IPC_OWNER = 15, SYS_MODULE = 16, SYS_RAWIO = 17, SYS_CHROOT = 18, SYS_PTRACE = 19, SYS_PACCT = 20,
    SYS_ADMIN = 21, SYS_BOOT = 22, SYS_NICE = 23, SYS_RESOURCE = 24, SYS_TIME = 25, SYS_TTY_CONFIG = 26, MKNOD = 27,
    LEASE = 28, AUDIT_WRITE = 29, AUDIT_CONTROL = 30, SETFCAP = 31, MAC_OVERRIDE = 32, MAC_ADMIN = 33, SYSLOG = 34,
    WAKE_ALARM = 35, BLOCK_SUSPEND = 36, AUDIT_READ = 37, PERFMON = 38, BPF = 39, CHECKPOINT_RESTORE = 40,
}

impl FromStr for Capability {
    type Err = Error;

    /// Case and the prefix `CAP_` do not matter.
    fn from_str(text: &str) -> Result<Self> {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        Self::ALL.iter().copied().find(|capability| capability.name() == bare).ok_or_else(|| {
            Error::invalid("capability", "there is no such capability")
                .on(Subject::Value(text.to_owned()))
                .with_hint("capabilities(7) lists them, such as NET_ADMIN or CAP_SYS_PTRACE")
        })
    }
}

/// A set of capabilities.
///
/// ```
/// use ns_core::{Capability, CapabilitySet};
///
/// let set = CapabilitySet::EMPTY.with(Capability::CHOWN).with("cap_net_admin".parse()?);
/// assert!(set.contains(Capability::NET_ADMIN));
/// assert_eq!(set.to_string(), "CHOWN,NET_ADMIN");
/// # Ok::<(), ns_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// No capability.
    pub const EMPTY: Self = Self(0);
    /// Every capability, those of newer kernels too.
    pub const FULL: Self = Self(u64::MAX);

    /// The set with `capability` in it.
    #[must_use]
    pub const fn with(self, capability: Capability) -> Self {
        Self(self.0 | 1 << capability as u8)
    }

    /// The set without `capability`.
    #[must_use]
    pub const fn without(self, capability: Capability) -> Self {
        Self(self.0 & !(1 << capability as u8))
    }

    /// Whether `capability` is in the set.
    #[must_use]
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & 1 << capability as u8 != 0
    }

    /// The bits, as `/proc/PID/status` shows them in hexadecimal.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// What is in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The effective set of the calling thread.
    ///
    /// * C call: capget(2).
    ///
    /// # Errors
    /// None that a kernel of today gives; ENOSYS under a filter.
    pub fn of_this_thread() -> Result<Self> {
        sys::effective_capabilities().map(Self).map_err(|errno| Error::from_errno("capget", errno.0))
    }
}

impl FromIterator<Capability> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        capabilities.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Display for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::EMPTY => f.write_str("none"),
            Self::FULL => f.write_str("all"),
            set => {
                let names = Capability::ALL.iter().filter(|capability| set.contains(**capability));
                f.write_str(&names.map(|capability| capability.name()).collect::<Vec<_>>().join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        // Of linux/capability.h: the first, one in the middle, the last.
        assert_eq!(Capability::CHOWN as u8, 0);
        assert_eq!(Capability::SYS_ADMIN as u8, 21);
        assert_eq!(Capability::CHECKPOINT_RESTORE as u8, 40);
        assert_eq!(Capability::ALL.len(), 41);
        for (number, capability) in Capability::ALL.iter().enumerate() {
            assert_eq!(*capability as usize, number);
        }
    }

    #[test]
    fn names_are_read_in_every_spelling() {
        for spelling in ["net_admin", "CAP_NET_ADMIN", "cap_net_admin", "NET_ADMIN"] {
            assert_eq!(spelling.parse::<Capability>().expect(spelling), Capability::NET_ADMIN);
        }
        for wrong in ["", "CAP_", "NETADMIN", "CAP_CAP_CHOWN", "ALL"] {
            assert!(wrong.parse::<Capability>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn adding_and_removing() {
        let set: CapabilitySet = [Capability::KILL, Capability::BPF].into_iter().collect();
        assert_eq!(set.without(Capability::KILL).to_string(), "BPF");
        assert_eq!(set.bits(), 1 << 5 | 1 << 39);
        assert_eq!((CapabilitySet::EMPTY.to_string(), CapabilitySet::FULL.to_string()), ("none".into(), "all".into()));
    }
}
