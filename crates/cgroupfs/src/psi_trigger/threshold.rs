//! What a trigger is about: the resource, and how long who may stall.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use cellkit_core::Subject;

use crate::{Error, Result};

const WINDOW_LEAST: Duration = Duration::from_millis(500);
const WINDOW_MOST: Duration = Duration::from_secs(10);

/// On what processes wait, of which pressure stall information tells.
///
/// ```
/// use cgroupfs::PsiResource;
///
/// assert_eq!("memory".parse::<PsiResource>()?, PsiResource::Memory);
/// assert_eq!(PsiResource::Io.file(), "io.pressure");
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/accounting/psi.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PsiResource {
    /// A processor.
    Cpu,
    /// Memory: reclaim, swapping in, and pages that were just dropped.
    Memory,
    /// A disk.
    Io,
    /// A processor that serves interrupts. Linux 6.1, with CONFIG_IRQ_TIME_ACCOUNTING; `full` only.
    Irq,
}

impl PsiResource {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cpu, Self::Memory, Self::Io, Self::Irq];

    /// Its file in a group.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Cpu => "cpu.pressure",
            Self::Memory => "memory.pressure",
            Self::Io => "io.pressure",
            Self::Irq => "irq.pressure",
        }
    }

    pub(super) fn name(self) -> &'static str {
        self.file().strip_suffix(".pressure").unwrap_or_default()
    }
}

impl fmt::Display for PsiResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PsiResource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|resource| resource.name() == text).ok_or_else(|| {
            Error::invalid("parse resource of pressure", "it is none of cpu, memory, io, irq")
                .on(Subject::Value(text.to_owned()))
        })
    }
}

/// Of how many processes a stall counts.
///
/// ```
/// use cgroupfs::PsiShare;
///
/// assert_eq!(PsiShare::Full.to_string(), "full");
/// ```
///
/// See <https://docs.kernel.org/accounting/psi.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PsiShare {
    /// At least one process waits.
    Some,
    /// All processes that could run wait, so that nothing is done.
    Full,
}

impl fmt::Display for PsiShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Some => "some",
            Self::Full => "full",
        })
    }
}

/// When a [`PsiTrigger`](crate::PsiTrigger) fires: processes stalled for so long within a window of time.
///
/// It prints and reads as the kernel has it, in microseconds. What it holds is checked when a trigger is made of it.
///
/// ```
/// use cgroupfs::PsiThreshold;
/// use std::time::Duration;
///
/// let threshold = PsiThreshold::some(Duration::from_millis(150)).within(Duration::from_secs(2));
/// assert_eq!(threshold.to_string(), "some 150000 2000000");
/// assert_eq!("some 150000 2000000".parse::<PsiThreshold>()?, threshold);
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/accounting/psi.html#monitoring-for-pressure-thresholds>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct PsiThreshold {
    share: PsiShare,
    pub(super) stall_usec: u64,
    window_usec: u64,
}

impl PsiThreshold {
    /// At least one process waited for `stall`, in all, within two seconds.
    pub fn some(stall: Duration) -> Self {
        Self { share: PsiShare::Some, stall_usec: usec(stall), window_usec: 2_000_000 }
    }

    /// All processes that could run waited for `stall`, in all, within two seconds.
    pub fn full(stall: Duration) -> Self {
        Self { share: PsiShare::Full, ..Self::some(stall) }
    }

    /// Within `window` instead: half a second to 10 s. Without CAP_SYS_RESOURCE it must be a multiple of 2 s.
    pub fn within(self, window: Duration) -> Self {
        Self { window_usec: usec(window), ..self }
    }

    /// Whether one process that waits is enough.
    #[must_use]
    pub fn share(&self) -> PsiShare {
        self.share
    }

    /// How long a stall fires.
    #[must_use]
    pub fn stall(&self) -> Duration {
        Duration::from_micros(self.stall_usec)
    }

    /// Within how long.
    #[must_use]
    pub fn window(&self) -> Duration {
        Duration::from_micros(self.window_usec)
    }

    pub(super) fn check(&self, resource: PsiResource) -> Result<()> {
        let why = if self.window() < WINDOW_LEAST || self.window() > WINDOW_MOST {
            "the window must be 500 ms to 10 s"
        } else if self.stall_usec == 0 {
            "a stall of nothing would always be there"
        } else if self.stall_usec > self.window_usec {
            "the stall is longer than the window"
        } else if (resource, self.share) == (PsiResource::Irq, PsiShare::Some) {
            "of irq there is only full"
        } else {
            return Ok(());
        };
        let value = Subject::Value(self.to_string());
        Err(Error::invalid(format!("write {}", resource.file()), why).on(value))
    }
}

fn usec(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl fmt::Display for PsiThreshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.share, self.stall_usec, self.window_usec)
    }
}

impl FromStr for PsiThreshold {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.split_ascii_whitespace();
        let share = match words.next() {
            Some("some") => Some(PsiShare::Some),
            Some("full") => Some(PsiShare::Full),
            _ => None,
        };
        let mut number = || words.next().filter(|word| !word.starts_with('+'))?.parse().ok();
        match (share, number(), number(), words.next()) {
            (Some(share), Some(stall_usec), Some(window_usec), None) => Ok(Self { share, stall_usec, window_usec }),
            _ => Err(Error::invalid("parse threshold of pressure", "it is not some|full STALL_US WINDOW_US")
                .on(Subject::Value(text.to_owned()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn why(threshold: PsiThreshold, resource: PsiResource) -> String {
        threshold.check(resource).expect_err("refused").to_string()
    }

    #[test]
    fn limits_are_the_kernels() {
        let some =
            |stall, window| PsiThreshold::some(Duration::from_micros(stall)).within(Duration::from_micros(window));
        for (stall, window) in [(1, 500_000), (500_000, 500_000), (10_000_000, 10_000_000)] {
            some(stall, window).check(PsiResource::Memory).expect("good");
        }
        assert!(why(some(1, 499_999), PsiResource::Cpu).contains("window"));
        assert!(why(some(1, 10_000_001), PsiResource::Cpu).contains("window"));
        assert!(why(some(0, 2_000_000), PsiResource::Cpu).contains("nothing"));
        assert!(why(some(2_000_001, 2_000_000), PsiResource::Cpu).contains("longer"));
        let text = why(some(1, 2_000_000), PsiResource::Irq);
        assert_eq!(text, r#"write irq.pressure "some 1 2000000": of irq there is only full"#);
        PsiThreshold::full(Duration::from_micros(1)).check(PsiResource::Irq).expect("good");
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(full: bool, stall_usec: u64, window_usec: u64) {
            let share = if full { PsiShare::Full } else { PsiShare::Some };
            let threshold = PsiThreshold { share, stall_usec, window_usec };
            prop_assert_eq!(threshold.to_string().parse::<PsiThreshold>().unwrap(), threshold);
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = (text.parse::<PsiThreshold>(), text.parse::<PsiResource>());
        }
    }
}
