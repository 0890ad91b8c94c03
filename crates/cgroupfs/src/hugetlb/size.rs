//! The sizes of huge pages, as `hugetlb` files have them in their names.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::words::number;
use crate::{Bytes, Error, Result};

const PARSE: &str = "parse size of huge pages";
const NOT_A_SIZE: &str = "not a power of two of 1 KiB or more, such as 64KB, 2MB or 1GB";

/// A size of huge pages, in the kernel's text: `2MB`, `1GB`.
///
/// A power of two of at least 1 KiB. Which ones a machine has depends on its processor and kernel.
///
/// ```
/// use cgroupfs::{Bytes, HugePageSize};
///
/// let size: HugePageSize = "2MB".parse()?;
/// assert_eq!((size, size.bytes()), (HugePageSize::try_from(Bytes::mib(2))?, Bytes::mib(2)));
/// assert_eq!(HugePageSize::try_from(Bytes::gib(16))?.to_string(), "16GB");
/// assert!("3MB".parse::<HugePageSize>().is_err());
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#hugetlb-interface-files>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HugePageSize {
    shift: u8,
}

impl HugePageSize {
    /// The bytes of one page.
    #[must_use]
    pub const fn bytes(self) -> Bytes {
        Bytes(1 << self.shift)
    }
}

impl TryFrom<Bytes> for HugePageSize {
    type Error = Error;

    fn try_from(bytes: Bytes) -> Result<Self> {
        let shift = u8::try_from(bytes.0.trailing_zeros()).unwrap_or(0);
        if bytes.0.is_power_of_two() && shift >= 10 {
            Ok(Self { shift })
        } else {
            Err(Error::invalid(PARSE, NOT_A_SIZE).on(Subject::Value(bytes.to_string())))
        }
    }
}

impl fmt::Display for HugePageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The kernel knows no greater unit than this.
        let (shift, unit) = match self.shift {
            30.. => (30, "GB"),
            20.. => (20, "MB"),
            _ => (10, "KB"),
        };
        write!(f, "{}{unit}", 1u64 << (self.shift - shift))
    }
}

impl FromStr for HugePageSize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || Error::invalid(PARSE, NOT_A_SIZE).on(Subject::Value(text.to_owned()));
        let trimmed = text.trim();
        let units = [("KB", 10), ("MB", 20), ("GB", 30)];
        let found = units.into_iter().find_map(|(unit, shift)| Some((trimmed.strip_suffix(unit)?, shift)));
        let (digits, shift) = found.ok_or_else(invalid)?;
        // The kernel writes no zero in front, and a name with one is another file.
        let number = number::<u64>(digits).filter(|_| !digits.starts_with('0'));
        let bytes = number.and_then(|number| number.checked_mul(1 << shift)).ok_or_else(invalid)?;
        let size = Self::try_from(Bytes(bytes)).map_err(|_| invalid())?;
        // So that one size has one text: 1024KB is no file's name.
        if size.to_string() == trimmed { Ok(size) } else { Err(invalid()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn every_size_has_one_text() {
        for shift in 10u32..64 {
            let size = HugePageSize::try_from(Bytes(1 << shift)).expect("size");
            assert_eq!(size.to_string().parse::<HugePageSize>().expect("own text"), size);
        }
        for text in ["", "MB", "2", "2M", "2mb", "2 MB", "0MB", "02MB", "+2MB", "3MB", "1024KB", "2048MB", "2MB.max"] {
            assert_eq!(text.parse::<HugePageSize>().expect_err(text).kind(), ErrorKind::Invalid);
        }
        for bytes in [0, 1, 512, 4097, u64::MAX] {
            assert_eq!(HugePageSize::try_from(Bytes(bytes)).expect_err("no size").kind(), ErrorKind::Invalid);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*", number in "[0-9.+-]{0,30}[KMG]?B?") {
            let _ = (text.parse::<HugePageSize>(), number.parse::<HugePageSize>());
        }
    }
}
