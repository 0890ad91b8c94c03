//! The block of 512 bytes that an entry begins with.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result};

use super::Time;

pub(super) const BLOCK: usize = 512;

/// A field that holds a number: where it begins and how long it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number(usize, usize, &'static str);

impl Number {
    const MODE: Self = Self(100, 8, "mode");
    pub(super) const UID: Self = Self(108, 8, "uid");
    pub(super) const GID: Self = Self(116, 8, "gid");
    const SIZE: Self = Self(124, 12, "size");
    const MODIFIED: Self = Self(136, 12, "mtime");
    const CHECKSUM: Self = Self(148, 8, "checksum");
    const MAJOR: Self = Self(329, 8, "devmajor");
    const MINOR: Self = Self(337, 8, "devminor");
    /// Of a file with holes, as GNU tar first wrote it.
    pub(super) const REAL_SIZE: Self = Self(483, 12, "realsize");

    pub(super) const fn at(offset: usize) -> Self {
        Self(offset, 12, "sparse map")
    }
}

/// A header whose checksum is right.
#[derive(Debug)]
pub(super) struct Header<'a> {
    block: &'a [u8; BLOCK],
}

impl<'a> Header<'a> {
    pub(super) fn new(block: &'a [u8; BLOCK]) -> Result<Self> {
        let header = Self { block };
        let said = header.number(Number::CHECKSUM)?;
        let counted = |byte: &u8, at: usize| if (148..156).contains(&at) { b' ' } else { *byte };
        let unsigned: i64 = block.iter().enumerate().map(|(at, byte)| i64::from(counted(byte, at))).sum();
        // Some old programs took the bytes as signed.
        let signed = |byte: u8| i64::from(i8::from_ne_bytes([byte]));
        let signed: i64 = block.iter().enumerate().map(|(at, byte)| signed(counted(byte, at))).sum();
        if said != unsigned && said != signed {
            return Err(Error::parse("tar", "a header's checksum is wrong: this is no tar archive, or a damaged one"));
        }
        Ok(header)
    }

    fn bytes(&self, start: usize, length: usize) -> &'a [u8] {
        self.block.get(start..start + length).unwrap_or_default()
    }

    /// A field of text, which ends with a NUL byte if it is not full.
    fn text(&self, start: usize, length: usize) -> &'a [u8] {
        let field = self.bytes(start, length);
        field.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    pub(super) fn flag(&self) -> u8 {
        self.bytes(156, 1).first().copied().unwrap_or_default()
    }

    pub(super) fn path(&self) -> Vec<u8> {
        let name = self.text(0, 100);
        // GNU's own format ("ustar  ") has other things where POSIX has the prefix.
        let prefix = if self.bytes(257, 6) == b"ustar\0" { self.text(345, 155) } else { &[] };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        self.text(157, 100).to_vec()
    }

    pub(super) fn size(&self) -> Result<u64> {
        self.natural(Number::SIZE)
    }

    pub(super) fn mode(&self) -> Result<u32> {
        // Old programs put the type there too.
        Ok((self.natural(Number::MODE)? & 0o7777) as u32)
    }

    /// A uid or gid, unless PAX says one.
    pub(super) fn id(&self, field: Number, pax: Option<u64>) -> Result<u64> {
        pax.map_or_else(|| self.natural(field), Ok)
    }

    pub(super) fn modified(&self) -> Result<Time> {
        Ok(Time { seconds: self.number(Number::MODIFIED)?, nanoseconds: 0 })
    }

    pub(super) fn device(&self) -> Result<(u32, u32)> {
        let part = |field: Number| {
            let number = self.natural(field)?;
            u32::try_from(number).map_err(|_| Error::parse("tar", format!("{} {number} is too large", field.2)))
        };
        Ok((part(Number::MAJOR)?, part(Number::MINOR)?))
    }

    pub(super) fn natural(&self, field: Number) -> Result<u64> {
        natural(self.block, field)
    }

    fn number(&self, field: Number) -> Result<i64> {
        number(self.block, field)
    }

    pub(super) fn block(&self) -> &'a [u8; BLOCK] {
        self.block
    }
}

/// A number that is not negative.
pub(super) fn natural(block: &[u8; BLOCK], field: Number) -> Result<u64> {
    let number = number(block, field)?;
    u64::try_from(number).map_err(|_| Error::parse("tar", format!("{} {number} is negative", field.2)))
}

/// A number in octal digits, or in base 256 when its first bit is set.
fn number(block: &[u8; BLOCK], Number(start, length, what): Number) -> Result<i64> {
    let field = block.get(start..start + length).unwrap_or_default();
    let refuse = || Error::parse("tar", format!("{what} is no number: \"{}\"", field.escape_ascii()));
    if let Some((&first, rest)) = field.split_first().filter(|(first, _)| **first & 0x80 != 0) {
        let start = match first {
            // Two's complement, of which the second bit is the sign.
            0xc0.. => i128::from(first) - 0x100,
            _ => i128::from(first & 0x7f),
        };
        let wide = rest.iter().try_fold(start, |sum, &byte| sum.checked_mul(256)?.checked_add(i128::from(byte)));
        return wide.and_then(|wide| i64::try_from(wide).ok()).ok_or_else(refuse);
    }
    let digits = field.split(|&byte| byte == 0).next().unwrap_or_default().trim_ascii();
    digits.iter().try_fold(0_i64, |sum, &digit| match digit {
        b'0'..=b'7' => Ok(sum * 8 + i64::from(digit - b'0')),
        _ => Err(refuse()),
    })
}
