//! What a blob is asked for by, and must be.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::{Error, Result, Subject};
use sha2::Digest as _;

/// The digest of a blob: `sha256:` or `sha512:` and lower case hexadecimal, checked.
///
/// It is both the name of content and the proof that it is that content. Text that is not a digest in every letter does
/// not become one, so a digest may be made part of a file's name: it has no `/`, no `..` and no upper case.
///
/// See the [specification](https://github.com/opencontainers/image-spec/blob/main/descriptor.md#digests):
/// <https://github.com/opencontainers/image-spec/blob/main/descriptor.md>. Of the algorithms it registers, blake3 is not
/// known here.
///
/// ```
/// use mountkit::layers::Digest;
///
/// let digest: Digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".parse()?;
/// assert_eq!(digest, Digest::sha256_of(b""));
/// assert_eq!(digest.algorithm(), "sha256");
/// assert!("sha256:../../etc".parse::<Digest>().is_err());
/// # Ok::<(), mountkit::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Sum);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Sum {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

/// The algorithms that are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Sha256,
    Sha512,
}

impl Digest {
    /// The SHA-256 digest of `content`.
    #[must_use]
    pub fn sha256_of(content: &[u8]) -> Self {
        let mut digester = Digester::new(Algorithm::Sha256);
        digester.update(content);
        digester.finish()
    }

    /// `sha256` or `sha512`.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self.0 {
            Sum::Sha256(_) => "sha256",
            Sum::Sha512(_) => "sha512",
        }
    }

    pub(crate) fn kind(&self) -> Algorithm {
        match self.0 {
            Sum::Sha256(_) => Algorithm::Sha256,
            Sum::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The digest's bytes: 32 or 64.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Sum::Sha256(bytes) => bytes,
            Sum::Sha512(bytes) => bytes,
        }
    }

    /// The part after the colon, in lower case.
    #[must_use]
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(2 * self.as_bytes().len());
        for byte in self.as_bytes() {
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
        }
        text
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: &'static str| {
            let shown: String = text.chars().take(160).collect();
            Error::parse("digest", why).on(Subject::Value(shown))
        };
        let Some((algorithm, hex)) = text.split_once(':') else {
            return Err(refuse("a digest is an algorithm, a colon and hexadecimal"));
        };
        let sum = match algorithm {
            "sha256" => bytes_of(hex).map(Sum::Sha256),
            "sha512" => bytes_of(hex).map(Sum::Sha512),
            _ => return Err(refuse("of digests, sha256 and sha512 are known here")),
        };
        sum.map(Self)
            .ok_or_else(|| refuse("a digest's hexadecimal has 64 (sha256) or 128 (sha512) digits in lower case"))
    }
}

fn bytes_of<const N: usize>(hex: &str) -> Option<[u8; N]> {
    if hex.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        for digit in pair {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            *byte = *byte << 4 | value;
        }
    }
    Some(bytes)
}

/// A digest while its content goes by.
#[derive(Clone, Debug)]
pub(crate) enum Digester {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Digester {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(sha2::Sha512::new()),
        }
    }

    pub(crate) fn update(&mut self, content: &[u8]) {
        match self {
            Self::Sha256(sum) => sum.update(content),
            Self::Sha512(sum) => sum.update(content),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        Digest(match self {
            Self::Sha256(sum) => Sum::Sha256(sum.finalize().into()),
            Self::Sha512(sum) => Sum::Sha512(sum.finalize().into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_digests() {
        // `printf abc | sha256sum`, `sha512sum`.
        let short = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let long = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                    2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        assert_eq!(Digest::sha256_of(b"abc").to_string(), short);
        let mut digester = Digester::new(Algorithm::Sha512);
        digester.update(b"a");
        digester.update(b"bc");
        assert_eq!(digester.finish(), long.parse().unwrap());
    }

    #[test]
    fn what_is_no_digest() {
        let hex = "a".repeat(64);
        for text in [
            String::new(),
            hex.clone(),
            format!(":{hex}"),
            format!("md5:{hex}"),
            format!("SHA256:{hex}"),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256:{hex}a"),
            format!("sha256:{}", &hex[1..]),
            format!("sha256:{}/", &hex[1..]),
            format!("sha256: {}", &hex[1..]),
            format!("sha512:{hex}"),
            format!("sha256:{}\u{e9}", &hex[2..]),
        ] {
            let error = text.parse::<Digest>().expect_err(&text);
            assert_eq!(error.kind(), cellkit_core::ErrorKind::Parse, "{error}");
        }
    }

    proptest! {
        #[test]
        fn text_there_and_back(content: Vec<u8>) {
            let digest = Digest::sha256_of(&content);
            prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        }
    }
}
