//! Reading a file's content into a value that is there already.
#![forbid(unsafe_code)]

use super::unreadable;
use crate::keyed::{FlatKeyed, read_flat_keyed};
use crate::{Bytes, IoStat, PerDevice, Percent, Pressure, PressureStall, Result};

/// What a file can be read into. The former content is lost, its memory is used again.
pub(super) trait FromFile: Default {
    fn read_from(&mut self, text: &[u8]) -> Result<()>;
}

impl<T: FlatKeyed> FromFile for T {
    fn read_from(&mut self, text: &[u8]) -> Result<()> {
        read_flat_keyed(text, self)
    }
}

impl FromFile for u64 {
    fn read_from(&mut self, text: &[u8]) -> Result<()> {
        let (number, rest) = number(text).ok_or_else(|| unreadable("a number", text))?;
        if rest.iter().any(|byte| !b"\n\0".contains(byte)) {
            return Err(unreadable("a number", text));
        }
        *self = number;
        Ok(())
    }
}

impl FromFile for Bytes {
    fn read_from(&mut self, text: &[u8]) -> Result<()> {
        self.0.read_from(text)
    }
}

impl FromFile for PerDevice<IoStat> {
    fn read_from(&mut self, text: &[u8]) -> Result<()> {
        *self = std::str::from_utf8(text).map_err(|_| unreadable("text", text))?.parse()?;
        Ok(())
    }
}

impl FromFile for Pressure {
    /// As every kernel so far writes it; whatever else there is, as any text is read.
    fn read_from(&mut self, text: &[u8]) -> Result<()> {
        if self.other.is_empty() && known_pressure(text, self).is_some() {
            return Ok(());
        }
        *self = std::str::from_utf8(text).map_err(|_| unreadable("pressure", text))?.parse()?;
        Ok(())
    }
}

fn known_pressure(text: &[u8], pressure: &mut Pressure) -> Option<()> {
    let mut rest = text;
    let (mut has_some, mut has_full) = (false, false);
    while !rest.is_empty() {
        let stall = if let Some(line) = rest.strip_prefix(b"some ") {
            rest = line;
            has_some = true;
            pressure.some.get_or_insert_with(PressureStall::default)
        } else {
            rest = rest.strip_prefix(b"full ")?;
            has_full = true;
            pressure.full.get_or_insert_with(PressureStall::default)
        };
        stall.other.clear();
        (stall.avg10, rest) = average(rest, b"avg10=")?;
        (stall.avg60, rest) = average(rest, b"avg60=")?;
        (stall.avg300, rest) = average(rest, b"avg300=")?;
        (stall.total_usec, rest) = number(rest.strip_prefix(b"total=")?)?;
        rest = rest.strip_prefix(b"\n")?;
    }
    if !has_some {
        pressure.some = None;
    }
    if !has_full {
        pressure.full = None;
    }
    (has_some || has_full).then_some(())
}

/// `KEY=N.NN `
fn average<'a>(text: &'a [u8], key: &[u8]) -> Option<(Percent, &'a [u8])> {
    let (whole, rest) = number(text.strip_prefix(key)?)?;
    let [b'.', tens @ b'0'..=b'9', ones @ b'0'..=b'9', b' ', rest @ ..] = rest else { return None };
    let part = u64::from(tens - b'0') * 10 + u64::from(ones - b'0');
    let hundredths = whole.checked_mul(100)?.checked_add(part)?;
    Some((Percent::from_hundredths(u32::try_from(hundredths).ok()?), rest))
}

/// The digits that `text` begins with.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let (mut number, mut rest) = (0u64, text);
    while let [digit @ b'0'..=b'9', after @ ..] = rest {
        number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        rest = after;
    }
    (rest.len() < text.len()).then_some((number, rest))
}

/// Into a value that has had something in it, the same is read as into a new one.
#[cfg(fuzzing)]
pub(crate) fn laws(text: &str) {
    let mut pressure: Pressure = "some avg10=1.00 avg60=2.00 avg300=3.00 total=4\n".parse().unwrap_or_default();
    let read = pressure.read_from(text.as_bytes()).is_ok();
    assert_eq!(text.parse::<Pressure>().ok(), read.then_some(pressure));
    // The kernel writes no key twice: then a key of before would not be missed.
    let mut keys: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    let lines = keys.len();
    keys.sort_unstable();
    keys.dedup();
    if keys.len() < lines {
        return;
    }
    let mut stat = crate::MemoryStat { anon: 1, ..Default::default() };
    stat.other.insert("before".to_owned(), 1);
    let read = stat.read_from(text.as_bytes()).is_ok();
    assert_eq!(text.parse::<crate::MemoryStat>().ok(), read.then_some(stat));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers() {
        let read = |text: &str| {
            let mut number = 7u64;
            number.read_from(text.as_bytes()).map(|()| number)
        };
        assert_eq!((read("0\n").expect("0"), read("18446744073709551615\n").expect("most")), (0, u64::MAX));
        for text in ["", "\n", "-1\n", "+1\n", "max\n", "1 2\n", "18446744073709551616\n", "1.5\n"] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn pressure_is_what_the_public_parser_says(
            text in "((some|full|x) avg10=[0-9]{1,3}\\.[0-9]{2} avg60=[0-9]{1,2}\\.[0-9]{1,2} avg300=0\\.00 total=[0-9]{1,9}( new=1)?\n){0,3}",
            before in "(some avg10=1\\.00 avg60=2\\.00 avg300=3\\.00 total=4( k=5)?\n)?(y avg10=1\\.00 avg60=2\\.00 avg300=3\\.00 total=4\n)?full avg10=1\\.00 avg60=2\\.00 avg300=3\\.00 total=4\n",
        ) {
            let mut pressure: Pressure = before.parse().unwrap();
            match text.parse::<Pressure>() {
                Ok(parsed) => {
                    pressure.read_from(text.as_bytes()).unwrap();
                    prop_assert_eq!(pressure, parsed);
                }
                Err(_) => prop_assert!(pressure.read_from(text.as_bytes()).is_err()),
            }
        }

        #[test]
        fn no_text_panics(text: Vec<u8>) {
            let _ = (Pressure::default().read_from(&text), 0u64.read_from(&text));
        }
    }
}
