//! The extended headers of POSIX: `LENGTH KEY=VALUE` and a newline, as many as wanted.
#![forbid(unsafe_code)]

use std::ffi::CString;

use cellkit_core::{Error, Result};

use super::sparse::{Chunk, SparseMap};
use super::{Time, limit};
use crate::layers::limits::Limits;

/// What the headers before an entry say about it.
#[derive(Debug, Default)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    /// By GNU's headers L and K.
    pub(super) long_name: Option<Vec<u8>>,
    pub(super) long_link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) modified: Option<Time>,
    pub(super) xattrs: Vec<(CString, Vec<u8>)>,
    pub(super) sparse: Option<SparseMap>,
}

impl Extended {
    /// Takes in the records of `body`. Of two with the same key the last one counts, as POSIX has it and all readers do.
    pub(super) fn parse(&mut self, body: &[u8], limits: &Limits) -> Result<()> {
        let mut xattr_bytes = 0;
        let mut sparse_name = None;
        for record in Records(body) {
            let (key, value) = record?;
            let refuse = || Error::parse("tar", format!("a PAX header's {} has no good value", shown(key)));
            match key {
                // An empty value takes back what another header said, and here there is none.
                b"path" => self.path = Some(value.to_vec()).filter(|path| !path.is_empty()),
                b"linkpath" => self.link = Some(value.to_vec()).filter(|path| !path.is_empty()),
                b"size" | b"uid" | b"gid" | b"mtime" if value.is_empty() => {}
                b"size" => self.size = Some(decimal(value).ok_or_else(refuse)?),
                b"uid" => self.uid = Some(decimal(value).ok_or_else(refuse)?),
                b"gid" => self.gid = Some(decimal(value).ok_or_else(refuse)?),
                b"mtime" => self.modified = Some(time(value).ok_or_else(refuse)?),
                b"GNU.sparse.name" => sparse_name = Some(value.to_vec()),
                _ => {
                    if let Some((name, value)) = xattr(key, value).transpose().map_err(|()| refuse())? {
                        xattr_bytes += name.len() + value.len();
                        if xattr_bytes > limits.xattrs {
                            let why = format!("the extended attributes have more than {} bytes", limits.xattrs);
                            return Err(limit(why));
                        }
                        let name = CString::new(name).ok().filter(|name| !name.is_empty()).ok_or_else(refuse)?;
                        self.xattrs.push((name, value));
                    } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                        self.sparse.get_or_insert_default().record(key, value)?;
                    }
                    // Times of access and of change, names of users, comments: not for a layer.
                }
            }
        }
        // The last one of a name, at the cost of a sort: a header has room for sixty thousand.
        self.xattrs.reverse();
        self.xattrs.sort_by(|(one, _), (other, _)| one.cmp(other));
        self.xattrs.dedup_by(|(one, _), (other, _)| one == other);
        // There `path` is a name for programs that know no holes.
        if let Some(name) = sparse_name.filter(|name| !name.is_empty()) {
            self.path = Some(name);
        }
        for name in [&self.path, &self.link].into_iter().flatten() {
            if name.contains(&0) {
                return Err(Error::parse("tar", "a PAX header has a path with a NUL byte in it"));
            }
        }
        Ok(())
    }
}

/// Refuses a header for all entries that follow, if it says more than programs agree to pass over.
pub(super) fn refuse_global(body: &[u8]) -> Result<()> {
    for record in Records(body) {
        let (key, _) = record?;
        let changes = [&b"path"[..], b"linkpath", b"size", b"uid", b"gid", b"mtime"].contains(&key)
            || [&b"GNU.sparse."[..], b"SCHILY.xattr.", b"LIBARCHIVE.xattr."].iter().any(|start| key.starts_with(start));
        if changes {
            let key = shown(key);
            let why =
                format!("a PAX header gives {key} to all entries that follow: readers disagree whether it counts");
            return Err(Error::parse("tar", why));
        }
    }
    Ok(())
}

/// A key as errors show it, with nothing in it that a terminal would act by.
fn shown(key: &[u8]) -> String {
    key.get(..64).unwrap_or(key).escape_ascii().to_string()
}

/// The records of a header.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a [u8], &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = self.split();
        if record.is_none() {
            self.0 = &[];
        }
        Some(record.ok_or_else(|| Error::parse("tar", "a PAX header is not made of records `LENGTH KEY=VALUE`")))
    }
}

impl<'a> Records<'a> {
    fn split(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        // The length counts its own digits. More than ten of them is no length.
        let space = self.0.iter().take(11).position(|&byte| byte == b' ')?;
        let length = usize::try_from(decimal(self.0.get(..space)?)?).ok()?;
        let record = self.0.get(space + 1..length)?.strip_suffix(b"\n")?;
        self.0 = self.0.get(length..)?;
        let equals = record.iter().position(|&byte| byte == b'=')?;
        let (key, value) = record.split_at_checked(equals)?;
        Some((key, value.get(1..)?)).filter(|(key, _)| !key.is_empty())
    }
}

/// Digits only: no sign, no space.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, digit| match digit {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Seconds with a fraction, of which nine digits count.
fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = match text.iter().position(|&byte| byte == b'.') {
        Some(point) => (text.get(..point)?, text.get(point + 1..)?),
        None => (text, &[][..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0_u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanoseconds) {
        (false, nanoseconds) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds: 0 },
        (true, nanoseconds) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

/// A name and a value.
type Attribute = (Vec<u8>, Vec<u8>);

/// An extended attribute, if the record is one: as star and GNU tar write it, or as libarchive does.
fn xattr(key: &[u8], value: &[u8]) -> Option<Result<Attribute, ()>> {
    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
        return Some(Ok((name.to_vec(), value.to_vec())));
    }
    let name = key.strip_prefix(b"LIBARCHIVE.xattr.")?;
    Some(percent_decoded(name).zip(base64_decoded(value)).ok_or(()))
}

fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = text.iter();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(&byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(*bytes.next()?).to_digit(16);
        decoded.push(u8::try_from(digit()? << 4 | digit()?).ok()?);
    }
    Some(decoded)
}

/// RFC 4648, with or without the `=` at the end.
fn base64_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().rposition(|&byte| byte != b'=').map_or(0, |last| last + 1);
    let mut decoded = Vec::with_capacity(end * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.get(..end)? {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            decoded.push((bits >> count & 0xff) as u8);
        }
    }
    Some(decoded)
}

/// `OFFSET,LENGTH,OFFSET,LENGTH`.
pub(super) fn pairs(text: &[u8]) -> Option<Vec<Chunk>> {
    let mut chunks = Vec::new();
    if text.is_empty() {
        return Some(chunks);
    }
    let mut numbers = text.split(|&byte| byte == b',').map(decimal);
    while let Some(offset) = numbers.next() {
        chunks.push(Chunk { offset: offset?, length: numbers.next()?? });
    }
    Some(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times() {
        for (text, seconds, nanoseconds) in [
            ("0", 0, 0),
            ("1.5", 1, 500_000_000),
            ("1.", 1, 0),
            ("1.0000000019", 1, 1),
            ("-1", -1, 0),
            ("-1.25", -2, 750_000_000),
            ("-0.1", -1, 900_000_000),
        ] {
            assert_eq!(time(text.as_bytes()), Some(Time { seconds, nanoseconds }), "{text}");
        }
        for text in ["", "-", ".5", "1.x", "1,5", "+1", "--1", "99999999999999999999"] {
            assert_eq!(time(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn encoded_attributes() {
        assert_eq!(base64_decoded(b""), Some(vec![]));
        assert_eq!(base64_decoded(b"AQI="), Some(vec![1, 2]));
        assert_eq!(base64_decoded(b"AQI"), Some(vec![1, 2]));
        assert_eq!(base64_decoded(b"A Q"), None);
        assert_eq!(percent_decoded(b"user.a%3Db"), Some(b"user.a=b".to_vec()));
        assert_eq!(percent_decoded(b"user.%3"), None);
        assert_eq!(percent_decoded(b"user.%zz"), None);
    }

    #[test]
    fn records_that_are_none() {
        for body in [
            "x",
            "3 a",
            "4 a=\n",
            "6 a=b\n\n",
            "6 a=bx",
            "99 a=b\n",
            "5 a b\n",
            "0 a=b\n",
            "-6 a=b\n",
            "5 =b\n",
            "00000000006 a=b\n",
        ] {
            assert!(Records(body.as_bytes()).any(|record| record.is_err()), "{body:?}");
        }
        assert!(Records(b"5 a=\n6 a=b\n").all(|record| record.is_ok()));
    }

    proptest! {
        #[test]
        fn any_bytes_end(body: Vec<u8>) {
            let _ = Extended::default().parse(&body, &Limits::new());
            let _ = refuse_global(&body);
        }

        #[test]
        fn records_as_written(records in proptest::collection::vec(("[a-z.]{1,20}", any::<Vec<u8>>()), 0..8)) {
            let body: Vec<u8> = records.iter().flat_map(|(key, value)| crate::layers::tests::record(key.as_bytes(), value)).collect();
            let read: Vec<_> = Records(&body).map(|record| record.unwrap()).collect();
            let wanted: Vec<_> = records.iter().map(|(key, value)| (key.as_bytes(), value.as_slice())).collect();
            prop_assert_eq!(read, wanted);
        }
    }
}
