//! What a pressure file says.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::{Error, Percent, Result};

const PARSE: &str = "parse pressure";

/// How much time was lost for want of a resource: `cpu.pressure`, `memory.pressure`, `io.pressure`, `irq.pressure`.
///
/// A line is `None` where the kernel writes none: `irq.pressure` has `full` only, and before Linux 5.13 `cpu.pressure` had
/// `some` only. It reads and prints as the file does.
///
/// ```
/// use cgroupfs::{Percent, Pressure};
///
/// let pressure: Pressure = "some avg10=3.07 avg60=0.50 avg300=0.00 total=12345\n".parse()?;
/// let some = pressure.some.expect("some");
/// assert_eq!((some.avg10, some.total_usec), (Percent::from_hundredths(307), 12345));
/// assert!(pressure.full.is_none());
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/accounting/psi.html#pressure-interface>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pressure {
    /// Time in which at least one task was stalled.
    pub some: Option<PressureStall>,
    /// Time in which all tasks that were not idle were stalled at once.
    pub full: Option<PressureStall>,
    /// Lines that this version of the library does not know.
    pub other: BTreeMap<String, PressureStall>,
}

/// One line of a [`Pressure`]: averages over the last 10, 60 and 300 seconds, and the sum since the group was made.
///
/// ```
/// use cgroupfs::PressureStall;
///
/// let stall: PressureStall = "avg10=0.00 avg60=1.25 avg300=99.99 total=7".parse()?;
/// assert_eq!(stall.avg300.to_string(), "99.99");
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/accounting/psi.html#pressure-interface>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PressureStall {
    /// The share of the last 10 seconds.
    pub avg10: Percent,
    /// The share of the last minute.
    pub avg60: Percent,
    /// The share of the last five minutes.
    pub avg300: Percent,
    /// The time in all, in microseconds: the kernel's `total`. Two readings tell of stalls too short for an average.
    #[doc(alias = "total")]
    pub total_usec: u64,
    /// Keys that this version of the library does not know.
    pub other: BTreeMap<String, String>,
}

impl FromStr for Pressure {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut pressure = Self::default();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (word, stall) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
            let stall = stall.parse()?;
            match word {
                "some" => pressure.some = Some(stall),
                "full" => pressure.full = Some(stall),
                word => drop(pressure.other.insert(word.to_owned(), stall)),
            }
        }
        match pressure {
            Self { some: None, full: None, .. } => Err(Error::parse(PARSE, "there is neither a line some nor full")),
            pressure => Ok(pressure),
        }
    }
}

impl fmt::Display for Pressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = [("some", &self.some), ("full", &self.full)];
        for (word, stall) in known.into_iter().filter_map(|(word, stall)| Some((word, stall.as_ref()?))) {
            writeln!(f, "{word} {stall}")?;
        }
        self.other.iter().try_for_each(|(word, stall)| writeln!(f, "{word} {stall}"))
    }
}

impl FromStr for PressureStall {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut stall = Self::default();
        let mut missing = vec!["avg10", "avg60", "avg300", "total"];
        for word in text.split_ascii_whitespace() {
            let unreadable = || Error::parse(PARSE, format!("{word:?} is not KEY=NUMBER"));
            let (key, value) = word.split_once('=').ok_or_else(unreadable)?;
            missing.retain(|needed| *needed != key);
            let average = || value.parse::<Percent>().map_err(|_| unreadable());
            match key {
                "avg10" => stall.avg10 = average()?,
                "avg60" => stall.avg60 = average()?,
                "avg300" => stall.avg300 = average()?,
                "total" => stall.total_usec = value.parse().map_err(|_| unreadable())?,
                key => drop(stall.other.insert(key.to_owned(), value.to_owned())),
            }
        }
        match missing.first() {
            None => Ok(stall),
            Some(key) => Err(Error::parse(PARSE, format!("there is no {key} in {text:?}"))),
        }
    }
}

impl fmt::Display for PressureStall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "avg10={} avg60={} avg300={} total={}", self.avg10, self.avg60, self.avg300, self.total_usec)?;
        self.other.iter().try_for_each(|(key, value)| write!(f, " {key}={value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn every_kernels_form() {
        let cpu = "some avg10=11.33 avg60=6.28 avg300=3.38 total=6666529353\n\
                   full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        let irq = "full avg10=0.02 avg60=0.00 avg300=0.00 total=17\n";
        let next = "some avg10=0.00 avg60=0.00 avg300=0.00 total=5 worst=9.5\n\
                    none avg10=0.00 avg60=0.00 avg300=0.00 total=1\n";
        for text in [cpu, irq, next] {
            assert_eq!(text.parse::<Pressure>().expect(text).to_string(), text);
        }
        let irq: Pressure = irq.parse().expect("irq");
        assert_eq!((irq.some, irq.full.map(|full| full.total_usec)), (None, Some(17)));
        let next: Pressure = next.parse().expect("a newer kernel");
        assert_eq!(next.some.expect("some").other["worst"], "9.5");
        assert_eq!(next.other["none"].total_usec, 1);
    }

    #[test]
    fn what_is_no_pressure() {
        for text in [
            "",
            "\n",
            "some",
            "some avg10=0.00",
            "some avg10=x avg60=0.00 avg300=0.00 total=5",
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=-5",
            "some avg10=0.00 avg60=0.00 avg300=0.00 total",
            "none avg10=0.00 avg60=0.00 avg300=0.00 total=1",
        ] {
            assert_eq!(text.parse::<Pressure>().expect_err(text).kind(), ErrorKind::Parse, "{text}");
        }
    }

    prop_compose! {
        fn stall()(averages: [u32; 3], total_usec: u64) -> PressureStall {
            let [avg10, avg60, avg300] = averages.map(Percent::from_hundredths);
            PressureStall { avg10, avg60, avg300, total_usec, other: BTreeMap::new() }
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(some in stall(), full in proptest::option::of(stall())) {
            let pressure = Pressure { some: Some(some), full, other: BTreeMap::new() };
            prop_assert_eq!(pressure.to_string().parse::<Pressure>().unwrap(), pressure);
        }

        #[test]
        fn no_text_panics(text in "\\PC*", near in "(some|full)?( (avg10|avg60|avg300|total)=?[0-9.]{0,4}){0,5}") {
            let _ = (text.parse::<Pressure>(), near.parse::<Pressure>());
        }
    }
}
