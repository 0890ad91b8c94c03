//! How a process ended, and what it used.
#![forbid(unsafe_code)]

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use crate::sys::Ended;

/// How a process ended.
///
/// It converts into [`std::process::ExitStatus`].
///
/// ```
/// use ns_core::{Command, ExitStatus};
///
/// assert_eq!(Command::new("sh").args(["-c", "exit 3"]).status()?, ExitStatus::Exited(3));
/// let killed = Command::new("sh").args(["-c", "kill -TERM $$"]).status()?;
/// assert_eq!((killed.signal(), killed.shell_code()), (Some(15), 128 + 15));
/// assert_eq!(killed.to_string(), "signal 15");
/// let std: std::process::ExitStatus = killed.into();
/// assert!(!std.success());
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See waitid(2): <https://man7.org/linux/man-pages/man2/waitid.2.html>.
#[doc(alias("siginfo_t", "WIFEXITED", "WIFSIGNALED"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExitStatus {
    /// It called exit with this status.
    Exited(i32),
    /// This signal killed it.
    Signaled {
        /// The signal's number.
        signal: i32,
        /// Whether it dumped core.
        core_dumped: bool,
    },
}

impl ExitStatus {
    pub(crate) fn of(ended: &Ended) -> Self {
        match ended.code {
            libc::CLD_EXITED => Self::Exited(ended.status),
            code => Self::Signaled { signal: ended.status, core_dumped: code == libc::CLD_DUMPED },
        }
    }

    /// From the form that wait(2) has: the status in the second byte, or the signal in the first, with bit 7 for a core.
    pub(crate) fn from_raw(raw: i32) -> Self {
        match raw & 0x7f {
            0 => Self::Exited(raw >> 8 & 0xff),
            signal => Self::Signaled { signal, core_dumped: raw & 0x80 != 0 },
        }
    }

    /// Whether it exited with status 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }

    /// The status it exited with, if no signal killed it.
    #[doc(alias = "WEXITSTATUS")]
    #[must_use]
    pub fn code(self) -> Option<i32> {
        match self {
            Self::Exited(status) => Some(status),
            Self::Signaled { .. } => None,
        }
    }

    /// The signal that killed it, if one did.
    #[doc(alias = "WTERMSIG")]
    #[must_use]
    pub fn signal(self) -> Option<i32> {
        match self {
            Self::Exited(_) => None,
            Self::Signaled { signal, .. } => Some(signal),
        }
    }

    /// Whether it dumped core.
    #[doc(alias = "WCOREDUMP")]
    #[must_use]
    pub fn core_dumped(self) -> bool {
        matches!(self, Self::Signaled { core_dumped: true, .. })
    }

    /// As a shell's `$?` shows it: the status, or 128 and the signal.
    #[must_use]
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Exited(status) => status,
            Self::Signaled { signal, .. } => 128 + signal,
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exit status {status}"),
            Self::Signaled { signal, core_dumped: false } => write!(f, "signal {signal}"),
            Self::Signaled { signal, core_dumped: true } => write!(f, "signal {signal}, core dumped"),
        }
    }
}

impl From<ExitStatus> for std::process::ExitStatus {
    fn from(status: ExitStatus) -> Self {
        Self::from_raw(match status {
            ExitStatus::Exited(status) => (status & 0xff) << 8,
            ExitStatus::Signaled { signal, core_dumped } => signal & 0x7f | if core_dumped { 0x80 } else { 0 },
        })
    }
}

/// What a child used, with all its descendants that were waited for: [`Child::usage`](crate::Child::usage).
///
/// ```
/// use ns_core::Command;
///
/// let mut child = Command::new("true").spawn()?;
/// assert_eq!(child.usage(), None); // not yet
/// child.wait()?;
/// let usage = child.usage().expect("it was waited for here");
/// println!("{} KiB at most, {:?} of processor time", usage.max_resident >> 10, usage.user_time + usage.system_time);
/// assert!(usage.max_resident > 0);
/// # Ok::<(), ns_core::Error>(())
/// ```
///
/// See <https://man7.org/linux/man-pages/man2/getrusage.2.html>.
#[doc(alias = "rusage")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResourceUsage {
    /// Processor time in user mode.
    pub user_time: Duration,
    /// Processor time in the kernel.
    pub system_time: Duration,
    /// The most memory that was resident at once, in bytes, of the largest process of them.
    pub max_resident: u64,
    /// Page faults that needed no input.
    pub minor_faults: u64,
    /// Page faults that did.
    pub major_faults: u64,
    /// Switches to another process because this one waited.
    pub voluntary_switches: u64,
    /// Switches because its time was up, or a more important one could run.
    pub involuntary_switches: u64,
}

impl ResourceUsage {
    pub(crate) fn of(ended: &Ended) -> Self {
        let usage = &ended.usage;
        let count = |number: libc::c_long| u64::try_from(number).unwrap_or(0);
        let time = |time: libc::timeval| {
            Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0))
                + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
        };
        Self {
            user_time: time(usage.ru_utime),
            system_time: time(usage.ru_stime),
            max_resident: count(usage.ru_maxrss) << 10,
            minor_faults: count(usage.ru_minflt),
            major_faults: count(usage.ru_majflt),
            voluntary_switches: count(usage.ru_nvcsw),
            involuntary_switches: count(usage.ru_nivcsw),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_a_status() {
        for (raw, status) in [
            (0, ExitStatus::Exited(0)),
            (7 << 8, ExitStatus::Exited(7)),
            (255 << 8, ExitStatus::Exited(255)),
            (15, ExitStatus::Signaled { signal: 15, core_dumped: false }),
            (0x8b, ExitStatus::Signaled { signal: 11, core_dumped: true }),
        ] {
            assert_eq!(ExitStatus::from_raw(raw), status);
            let std = std::process::ExitStatus::from(status);
            assert_eq!(std.into_raw(), raw);
            assert_eq!(
                (std.code(), std.signal(), std.core_dumped()),
                (status.code(), status.signal(), status.core_dumped())
            );
        }
    }
}
