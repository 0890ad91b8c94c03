//! The five capability sets of a process.
//!
//! What each set is for shows at execve(2), which makes the sets of the program from those of the process (for a program
//! without capabilities of its own in its file):
//!
//! ```text
//!                 uid 0                              any other uid
//!   permitted     inheritable + bounding             ambient
//!   effective     the same, if the effective uid is  ambient
//!   inheritable   as it was                          as it was
//!   bounding      as it was                          as it was
//!   ambient       as it was                          as it was
//! ```
//!
//! With no_new_privs nothing is permitted after it that was not before. So a payload that runs as root is held by its
//! bounding set, or with no_new_privs by its permitted set, and one that does not run as root keeps what is ambient.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::fd::AsFd;
use std::path::Path;

use cellkit_core::{Errno, Error, ProcFd, ProcView, Result, Subject};

use crate::{CapabilitySet, Securebits, status, sys};

/// The five capability sets of a process, for [`Command::capabilities`](crate::Command::capabilities) or as read from one.
///
/// Sets are exact: what is not named is not there. A single [`CapabilitySet`] converts into the usual thing: that set
/// bounding, permitted and effective, nothing inheritable or ambient. A payload that is not root keeps nothing of that over
/// execve; [`keeping`](Self::keeping) does:
///
/// ```no_run
/// use ns_core::{Capabilities, Command};
///
/// // A web server without root that may use port 80.
/// let mut server = Command::new("/usr/sbin/httpd")
///     .user(1000, 1000)
///     .capabilities(Capabilities::keeping("net_bind_service".parse()?))
///     .spawn()?;
/// server.wait()?;
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See capabilities(7): <https://man7.org/linux/man-pages/man7/capabilities.7.html>.
#[doc(alias("capset", "cap_t"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Capabilities {
    /// The most that an execve can give.
    #[doc(alias = "CapBnd")]
    pub bounding: CapabilitySet,
    /// What the process may make effective.
    #[doc(alias = "CapPrm")]
    pub permitted: CapabilitySet,
    /// What it can do now.
    #[doc(alias = "CapEff")]
    pub effective: CapabilitySet,
    /// What a program whose file allows it, or root, keeps over execve.
    #[doc(alias = "CapInh")]
    pub inheritable: CapabilitySet,
    /// What any program keeps over execve. Linux 4.3.
    #[doc(alias = "CapAmb")]
    pub ambient: CapabilitySet,
}

impl From<CapabilitySet> for Capabilities {
    /// Bounding, permitted and effective are `set`; inheritable and ambient are empty.
    fn from(set: CapabilitySet) -> Self {
        Self { bounding: set, permitted: set, effective: set, ..Self::NONE }
    }
}

impl Capabilities {
    /// Nothing in any set.
    pub const NONE: Self = Self {
        bounding: CapabilitySet::EMPTY,
        permitted: CapabilitySet::EMPTY,
        effective: CapabilitySet::EMPTY,
        inheritable: CapabilitySet::EMPTY,
        ambient: CapabilitySet::EMPTY,
    };

    /// `set` in all five sets: the payload has it whatever its uid, and so have the programs that it starts.
    ///
    /// ```
    /// use ns_core::{Capabilities, Capability, CapabilitySet, Securebits};
    ///
    /// let sets = Capabilities::keeping(CapabilitySet::EMPTY.with(Capability::NET_BIND_SERVICE));
    /// assert!(sets.after_execve(33, Securebits::empty()).effective.contains(Capability::NET_BIND_SERVICE));
    /// ```
    #[must_use]
    pub const fn keeping(set: CapabilitySet) -> Self {
        Self { bounding: set, permitted: set, effective: set, inheritable: set, ambient: set }
    }

    /// The same, with this bounding set.
    #[must_use]
    pub const fn with_bounding(self, bounding: CapabilitySet) -> Self {
        Self { bounding, ..self }
    }

    /// The same, with this permitted set.
    #[must_use]
    pub const fn with_permitted(self, permitted: CapabilitySet) -> Self {
        Self { permitted, ..self }
    }

    /// The same, with this effective set.
    #[must_use]
    pub const fn with_effective(self, effective: CapabilitySet) -> Self {
        Self { effective, ..self }
    }

    /// The same, with this inheritable set.
    #[must_use]
    pub const fn with_inheritable(self, inheritable: CapabilitySet) -> Self {
        Self { inheritable, ..self }
    }

    /// The same, with this ambient set.
    #[must_use]
    pub const fn with_ambient(self, ambient: CapabilitySet) -> Self {
        Self { ambient, ..self }
    }

    /// The five sets of the calling thread.
    ///
    /// * C calls: capget(2); prctl(2) PR_CAPBSET_READ and PR_CAP_AMBIENT_IS_SET for each number.
    ///
    /// ```
    /// use ns_core::{Capabilities, Capability};
    ///
    /// if !Capabilities::of_this_thread()?.effective.contains(Capability::SYS_ADMIN) {
    ///     println!("namespaces take a user namespace here");
    /// }
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// None that a kernel of today gives; ENOSYS under a filter.
    ///
    /// See capget(2), capabilities(7): <https://man7.org/linux/man-pages/man2/capget.2.html>.
    pub fn of_this_thread() -> Result<Self> {
        let [effective, permitted, inheritable] =
            sys::capget().map_err(|errno| Error::from_errno("capget", errno.0))?.map(CapabilitySet::from_bits);
        let collect = |operation: &'static str, has: fn(u8) -> Result<Option<bool>, Errno>| {
            let mut bits = 0;
            for number in 0..64 {
                match has(number).map_err(|errno| Error::from_errno(operation, errno.0))? {
                    Some(contains) => bits |= u64::from(contains) << number,
                    // Past the last capability that this kernel knows.
                    None => break,
                }
            }
            Ok::<_, Error>(CapabilitySet::from_bits(bits))
        };
        let bounding = collect("prctl PR_CAPBSET_READ", sys::bounding_contains)?;
        let ambient = collect("prctl PR_CAP_AMBIENT_IS_SET", sys::ambient_contains)?;
        Ok(Self { bounding, permitted, effective, inheritable, ambient })
    }

    /// The five sets of the process that `pidfd` refers to, such as a [`Child`](crate::Child).
    ///
    /// * File: `/proc/PID/status`, through a [`ProcFd`].
    ///
    /// ```
    /// use ns_core::{Capabilities, Command};
    ///
    /// let mut child = Command::new("sleep").arg("100").spawn()?;
    /// assert!(Capabilities::of_process(&child)?.effective.is_empty()); // whoever started it
    /// child.kill()?;
    /// child.wait()?;
    /// # Ok::<(), ns_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Gone`](crate::ErrorKind::Gone) when it has been reaped; Invalid when `pidfd` is none.
    ///
    /// See proc_pid_status(5): <https://man7.org/linux/man-pages/man5/proc_pid_status.5.html>.
    pub fn of_process(pidfd: impl AsFd) -> Result<Self> {
        let process = ProcFd::open(ProcView::Processes)?.process(pidfd)?;
        let text = process.read(Path::new("status"))?;
        Self::from_status(&String::from_utf8_lossy(&text)).map_err(|error| error.on(Subject::Pid(process.pid())))
    }

    /// The five sets in the text of a `/proc/PID/status`.
    ///
    /// # Errors
    /// Parse when one of the five lines is missing or is no hexadecimal number.
    ///
    /// See proc_pid_status(5): <https://man7.org/linux/man-pages/man5/proc_pid_status.5.html>.
    pub fn from_status(text: &str) -> Result<Self> {
        let set = |name: &'static str| {
            let bits = status::field(text.as_bytes(), name).and_then(|value| u64::from_str_radix(value, 16).ok());
            bits.map(CapabilitySet::from_bits).ok_or_else(|| {
                Error::parse("read status", "it has no such set of capabilities").on(Subject::Value(name.to_owned()))
            })
        };
        Ok(Self {
            bounding: set("CapBnd")?,
            permitted: set("CapPrm")?,
            effective: set("CapEff")?,
            inheritable: set("CapInh")?,
            ambient: set("CapAmb")?,
        })
    }

    /// What a process with these sets has after execve(2) of a program whose file has no capabilities and is not
    /// set-user-id, when all its user ids are `uid`.
    ///
    /// ```
    /// use ns_core::{Capabilities, Capability, CapabilitySet, Securebits};
    ///
    /// let chown = CapabilitySet::EMPTY.with(Capability::CHOWN);
    /// let asked = Capabilities::from(chown);
    /// assert_eq!(asked.after_execve(0, Securebits::empty()).effective, chown);
    /// assert_eq!(asked.after_execve(1000, Securebits::empty()).effective, CapabilitySet::EMPTY);
    /// assert_eq!(Capabilities::keeping(chown).after_execve(1000, Securebits::empty()).effective, chown);
    /// ```
    #[must_use]
    pub fn after_execve(self, uid: u32, securebits: Securebits) -> Self {
        let permitted = match uid {
            0 if !securebits.contains(Securebits::NOROOT) => self.inheritable.union(self.bounding),
            _ => self.ambient,
        };
        Self { permitted, effective: permitted, ..self }
    }

    /// As [`after_execve`](Self::after_execve) of a process with
    /// [`no_new_privs`](crate::Command::no_new_privs): it has no more than was permitted before.
    #[must_use]
    pub fn after_execve_without_gain(self, uid: u32, securebits: Securebits) -> Self {
        let permitted = self.after_execve(uid, securebits).permitted.intersection(self.permitted);
        Self { permitted, effective: permitted, ..self }
    }

    /// What the kernel would refuse, found before anything is done.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |call, why, extra: CapabilitySet| match extra.is_empty() {
            true => Ok(()),
            false => Err(Error::invalid(call, why).on(Subject::Thing(extra.to_string()))),
        };
        let Self { bounding, permitted, effective, inheritable, ambient } = *self;
        refuse("capset", "effective capabilities are permitted ones", effective.difference(permitted))?;
        refuse("capset", "inheritable capabilities are in the bounding set", inheritable.difference(bounding))?;
        let both = permitted.intersection(inheritable);
        refuse(
            "prctl PR_CAP_AMBIENT_RAISE",
            "ambient capabilities are permitted and inheritable too",
            ambient.difference(both),
        )
        .map_err(|error| error.with_hint("Capabilities::keeping(set) puts a set in all five"))
    }
}

impl fmt::Display for Capabilities {
    /// The sets that hold something, as `bounding=CHOWN permitted=CHOWN effective=CHOWN`, or `none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sets = [
            ("bounding", self.bounding),
            ("permitted", self.permitted),
            ("effective", self.effective),
            ("inheritable", self.inheritable),
            ("ambient", self.ambient),
        ];
        let held = sets.iter().filter(|(_, set)| !set.is_empty()).map(|(name, set)| format!("{name}={set}"));
        match held.collect::<Vec<_>>().join(" ").as_str() {
            "" => f.write_str("none"),
            text => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Capability;

    const CHOWN: CapabilitySet = CapabilitySet::EMPTY.with(Capability::CHOWN);
    const KILL: CapabilitySet = CapabilitySet::EMPTY.with(Capability::KILL);

    #[test]
    fn what_the_kernel_would_refuse_is_refused() {
        for good in [Capabilities::NONE, CHOWN.into(), Capabilities::keeping(CHOWN), CapabilitySet::FULL.into()] {
            assert!(good.check().is_ok(), "{good}");
        }
        for (wrong, said) in [
            (Capabilities::NONE.with_effective(CHOWN), "effective capabilities are permitted"),
            (Capabilities::from(KILL).with_inheritable(CHOWN), "in the bounding set"),
            (Capabilities::from(CHOWN).with_ambient(CHOWN), "permitted and inheritable"),
            (Capabilities::keeping(CHOWN).with_permitted(KILL).with_effective(KILL), "permitted and inheritable"),
        ] {
            let error = wrong.check().expect_err(said);
            assert!(error.to_string().contains(said) && error.to_string().contains("CHOWN"), "{error}");
        }
    }

    #[test]
    fn status_files() {
        let text = "Name:\tx\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000001\nCapEff:\t0000000000000001\n\
                    CapBnd:\t0000000000000021\nCapAmb:\t0000000000000000\n";
        let expected = Capabilities::from(CHOWN).with_bounding(CHOWN.union(KILL));
        assert_eq!(Capabilities::from_status(text).expect("status"), expected);
        assert_eq!(expected.to_string(), "bounding=CHOWN,KILL permitted=CHOWN effective=CHOWN");
        for wrong in ["", "CapInh: 0", &text.replace("0021", "xyz"), &text.replace("CapAmb", "CapAmp")] {
            assert!(Capabilities::from_status(wrong).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = Capabilities::from_status(&text);
        }
    }

    #[test]
    fn the_calling_threads_are_those_of_its_status() {
        let text = std::fs::read_to_string("/proc/thread-self/status").expect("status");
        let here = Capabilities::of_this_thread().expect("capget");
        assert_eq!(Capabilities::from_status(&text).expect("status"), here);
        assert!(here.bounding.is_subset(CapabilitySet::of_kernel()));
        let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").expect("cap_last_cap");
        assert_eq!(CapabilitySet::of_kernel().bits().ilog2().to_string(), last.trim());
    }
}
