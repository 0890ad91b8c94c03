//! Capabilities: parts of root's power, as a set.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::{Error, Result, Subject};

use crate::sys;

macro_rules! capabilities {
    ($($(#[$doc:meta])* $name:ident = $number:literal $c_name:literal,)*) => {
        /// One capability: a part of root's power.
        ///
        /// ```
        /// use ns_core::Capability;
        ///
        /// assert_eq!("CAP_NET_ADMIN".parse::<Capability>()?, Capability::NET_ADMIN);
        /// assert_eq!(Capability::NET_ADMIN.name(), "NET_ADMIN");
        /// assert!("cap_everything".parse::<Capability>().is_err());
        /// # Ok::<(), ns_core::Error>(())
        /// ```
        ///
        /// See capabilities(7): <https://man7.org/linux/man-pages/man7/capabilities.7.html>.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(non_camel_case_types, reason = "the kernel's own names")]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Capability { $($(#[$doc])* #[doc(alias = $c_name)] $name = $number,)* }

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
    /// Change the owner and group of any file.
    CHOWN = 0 "CAP_CHOWN",
    /// Read and write any file, and execute any that somebody may execute, whatever its permissions.
    DAC_OVERRIDE = 1 "CAP_DAC_OVERRIDE",
    /// Read any file and search any directory; open_by_handle_at(2).
    DAC_READ_SEARCH = 2 "CAP_DAC_READ_SEARCH",
    /// Do what the owner of a file may do: chmod(2), utime(2), remove it from a sticky directory.
    FOWNER = 3 "CAP_FOWNER",
    /// Keep the set-user-ID and set-group-ID bits of a file that is written or given away.
    FSETID = 4 "CAP_FSETID",
    /// Send signals to any process.
    KILL = 5 "CAP_KILL",
    /// Change group ids and supplementary groups, and write gid maps.
    SETGID = 6 "CAP_SETGID",
    /// Change user ids, and write uid maps.
    SETUID = 7 "CAP_SETUID",
    /// Take capabilities out of the bounding set, put those in it into the inheritable set, and set secure bits.
    SETPCAP = 8 "CAP_SETPCAP",
    /// Set and clear the immutable and append-only attributes of files.
    LINUX_IMMUTABLE = 9 "CAP_LINUX_IMMUTABLE",
    /// Bind ports below 1024, or whatever `net.ipv4.ip_unprivileged_port_start` says.
    NET_BIND_SERVICE = 10 "CAP_NET_BIND_SERVICE",
    /// Nothing: the kernel does not ask for it.
    NET_BROADCAST = 11 "CAP_NET_BROADCAST",
    /// Configure networks: interfaces, addresses, routes, firewall, traffic control.
    NET_ADMIN = 12 "CAP_NET_ADMIN",
    /// Open raw and packet sockets, and bind any address for transparent proxies.
    NET_RAW = 13 "CAP_NET_RAW",
    /// Lock memory beyond the limit, and use huge pages of System V shared memory.
    IPC_LOCK = 14 "CAP_IPC_LOCK",
    /// Use any System V IPC object, whatever its permissions.
    IPC_OWNER = 15 "CAP_IPC_OWNER",
    /// Load and unload kernel modules.
    SYS_MODULE = 16 "CAP_SYS_MODULE",
    /// Reach I/O ports, `/dev/mem` and raw commands of devices.
    SYS_RAWIO = 17 "CAP_SYS_RAWIO",
    /// chroot(2), and setns(2) into a mount namespace.
    SYS_CHROOT = 18 "CAP_SYS_CHROOT",
    /// Trace any process, and read its memory and what is secret of it in /proc.
    SYS_PTRACE = 19 "CAP_SYS_PTRACE",
    /// Switch process accounting on and off: acct(2).
    SYS_PACCT = 20 "CAP_SYS_PACCT",
    /// All that has no capability of its own: mounts, namespaces, host names, quotas, and much more.
    SYS_ADMIN = 21 "CAP_SYS_ADMIN",
    /// reboot(2) and kexec_load(2).
    SYS_BOOT = 22 "CAP_SYS_BOOT",
    /// Raise priorities, use real-time policies, and set those and the affinity of any process.
    SYS_NICE = 23 "CAP_SYS_NICE",
    /// Raise hard limits, lower oom_score_adj, use reserved disk space, exceed quotas.
    SYS_RESOURCE = 24 "CAP_SYS_RESOURCE",
    /// Set the clocks.
    SYS_TIME = 25 "CAP_SYS_TIME",
    /// vhangup(2), and privileged ioctls of virtual terminals.
    SYS_TTY_CONFIG = 26 "CAP_SYS_TTY_CONFIG",
    /// Make device files.
    MKNOD = 27 "CAP_MKNOD",
    /// Take leases on any file: fcntl(2) F_SETLEASE.
    LEASE = 28 "CAP_LEASE",
    /// Write to the kernel's audit log.
    AUDIT_WRITE = 29 "CAP_AUDIT_WRITE",
    /// Switch auditing on and off, and change its rules.
    AUDIT_CONTROL = 30 "CAP_AUDIT_CONTROL",
    /// Give files capabilities, and map uid 0 of the parent into a user namespace (Linux 5.12).
    SETFCAP = 31 "CAP_SETFCAP",
    /// Pass over mandatory access control, with Smack.
    MAC_OVERRIDE = 32 "CAP_MAC_OVERRIDE",
    /// Change mandatory access control, with Smack and others.
    MAC_ADMIN = 33 "CAP_MAC_ADMIN",
    /// Read and clear the kernel's log, and see its addresses.
    SYSLOG = 34 "CAP_SYSLOG",
    /// Set timers that wake the machine.
    WAKE_ALARM = 35 "CAP_WAKE_ALARM",
    /// Keep the machine from being suspended.
    BLOCK_SUSPEND = 36 "CAP_BLOCK_SUSPEND",
    /// Read the audit log by netlink. Linux 3.16.
    AUDIT_READ = 37 "CAP_AUDIT_READ",
    /// Watch performance: perf_event_open(2), and with [`BPF`](Self::BPF) its programs. Linux 5.8.
    PERFMON = 38 "CAP_PERFMON",
    /// Load BPF programs and make maps of any sort. Linux 5.8.
    BPF = 39 "CAP_BPF",
    /// Choose process numbers, and read what a checkpoint needs. Linux 5.9.
    CHECKPOINT_RESTORE = 40 "CAP_CHECKPOINT_RESTORE",
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

/// A set of capabilities. [`Capabilities`](crate::Capabilities) are the five of them that a process has.
///
/// It is written as a list of names, `none` or `all`, and read back from what it writes. Names may be in either case and
/// may begin with `CAP_`; commas and white space separate them; a number from 0 to 63 stands for a capability that a newer
/// kernel knows and this crate does not.
///
/// ```
/// use ns_core::{Capability, CapabilitySet};
///
/// let set: CapabilitySet = "CAP_NET_ADMIN,chown".parse()?;
/// assert!(set.contains(Capability::NET_ADMIN));
/// assert_eq!(set, CapabilitySet::EMPTY.with(Capability::CHOWN).with(Capability::NET_ADMIN));
/// assert_eq!(set.to_string(), "CHOWN,NET_ADMIN");
/// assert_eq!("all".parse::<CapabilitySet>()?, CapabilitySet::FULL);
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See capabilities(7): <https://man7.org/linux/man-pages/man7/capabilities.7.html>.
#[doc(alias = "kernel_cap_t")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// No capability.
    pub const EMPTY: Self = Self(0);
    /// Every capability, those of newer kernels too. Asked for, it means all that the child has.
    pub const FULL: Self = Self(u64::MAX);

    /// The set with these bits, as `/proc/PID/status` shows them.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

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

    /// What is in this set and not in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether everything in this set is in `other` too.
    #[must_use]
    pub const fn is_subset(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether nothing is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The capabilities in the set that this crate knows by name, by number.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.iter().copied().filter(move |capability| self.contains(*capability))
    }

    /// Every capability that the running kernel knows.
    ///
    /// * C call: prctl(2) PR_CAPBSET_READ, which refuses the first number that is none. `/proc` is not read.
    ///
    /// ```
    /// use ns_core::{Capability, CapabilitySet};
    ///
    /// // Linux 5.9, older than the oldest kernel that is supported, brought the last one that has a name here.
    /// assert!(CapabilitySet::of_kernel().contains(Capability::CHECKPOINT_RESTORE));
    /// ```
    ///
    /// See <https://man7.org/linux/man-pages/man2/PR_CAPBSET_READ.2const.html>.
    #[doc(alias("cap_last_cap", "CAP_LAST_CAP"))]
    #[must_use]
    pub fn of_kernel() -> Self {
        Self(
            (0..64)
                .filter(|number| sys::bounding_contains(*number) != Ok(None))
                .fold(0, |bits, number| bits | 1 << number),
        )
    }

    /// The effective set of the calling thread.
    ///
    /// * C call: capget(2).
    ///
    /// # Errors
    /// None that a kernel of today gives; ENOSYS under a filter.
    ///
    /// See capget(2): <https://man7.org/linux/man-pages/man2/capget.2.html>.
    pub fn of_this_thread() -> Result<Self> {
        let [effective, ..] = sys::capget().map_err(|errno| Error::from_errno("capget", errno.0))?;
        Ok(Self::from_bits(effective))
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
                let name = |number: usize| match Capability::ALL.get(number) {
                    Some(capability) => capability.name().to_owned(),
                    None => number.to_string(),
                };
                let numbers = (0..64).filter(|number| set.0 & 1 << number != 0);
                f.write_str(&numbers.map(name).collect::<Vec<_>>().join(","))
            }
        }
    }
}

impl FromStr for CapabilitySet {
    type Err = Error;

    /// # Errors
    /// Invalid for an empty list and for a name or number that is no capability.
    fn from_str(text: &str) -> Result<Self> {
        let whole = text.trim();
        if whole.eq_ignore_ascii_case("all") {
            return Ok(Self::FULL);
        }
        if whole.eq_ignore_ascii_case("none") {
            return Ok(Self::EMPTY);
        }
        let mut names =
            whole.split(|letter: char| letter == ',' || letter.is_whitespace()).filter(|name| !name.is_empty());
        let set = names.try_fold(Self::EMPTY, |set, name| match name.parse::<u8>() {
            Ok(number) if number < 64 => Ok(Self(set.0 | 1 << number)),
            _ => name.parse().map(|capability| set.with(capability)),
        })?;
        match set {
            Self::EMPTY => Err(Error::invalid("capability", "the list is empty: say none if none is meant")
                .on(Subject::Value(text.to_owned()))),
            set => Ok(set),
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
    fn lists_are_read_in_every_spelling() {
        let set = CapabilitySet::EMPTY.with(Capability::CHOWN).with(Capability::NET_ADMIN);
        for spelling in ["CAP_NET_ADMIN,chown", " chown net_admin ", "0,12", "chown,,NET_ADMIN,"] {
            assert_eq!(spelling.parse::<CapabilitySet>().expect(spelling), set, "{spelling}");
        }
        assert_eq!("ALL".parse::<CapabilitySet>().expect("all"), CapabilitySet::FULL);
        assert_eq!("none".parse::<CapabilitySet>().expect("none"), CapabilitySet::EMPTY);
        for wrong in ["", ",", "all,chown", "64", "-1", "chown;kill", "chöwn"] {
            let error = wrong.parse::<CapabilitySet>().expect_err(wrong);
            assert_eq!(error.kind(), cellkit_core::ErrorKind::Invalid, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(bits: u64) {
            let set = CapabilitySet::from_bits(bits);
            proptest::prop_assert_eq!(set.to_string().parse::<CapabilitySet>().expect("own text"), set);
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<CapabilitySet>();
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
