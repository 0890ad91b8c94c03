//! What machine an image is for.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::{Error, Result, Subject};

/// An operating system and a processor, in the words of images: `linux/amd64`, `linux/arm/v7`.
///
/// ```
/// use mountkit::layers::Platform;
///
/// let platform: Platform = "linux/arm/v7".parse()?;
/// assert_eq!((platform.os(), platform.architecture(), platform.variant()), ("linux", "arm", Some("v7")));
/// assert_eq!(Platform::here().os(), "linux");
/// assert!("linux".parse::<Platform>().is_err());
/// # Ok::<(), mountkit::Error>(())
/// ```
///
/// <https://github.com/opencontainers/image-spec/blob/main/image-index.md>
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// That of this program.
    #[must_use]
    pub fn here() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", Some("v7")),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            "powerpc64" => ("ppc64", None),
            "loongarch64" => ("loong64", None),
            same => (same, None),
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: variant.map(str::to_owned) }
    }

    pub(super) fn new(os: &str, architecture: &str, variant: Option<&str>) -> Result<Self> {
        let is_word = |text: &str| {
            (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        let variant = variant.filter(|variant| !variant.is_empty());
        if !is_word(os) || !is_word(architecture) || !variant.is_none_or(is_word) {
            let shown: String = format!("{os}/{architecture}").chars().take(100).collect();
            let why = "a platform is OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, of letters, digits, `.`, `_` and `-`";
            return Err(Error::parse("platform", why).on(Subject::Value(shown)));
        }
        let [os, architecture] = [os, architecture].map(str::to_owned);
        Ok(Self { os, architecture, variant: variant.map(str::to_owned) })
    }

    /// Such as `linux`.
    #[must_use]
    pub fn os(&self) -> &str {
        &self.os
    }

    /// In Go's words: `amd64`, `arm64`, `riscv64`.
    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Such as `v7` of `arm`.
    #[must_use]
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// Whether an image for `offered` is what is wanted: where one of the two names no variant, any will do.
    pub(super) fn takes(&self, offered: &Self) -> bool {
        let variants_agree = match (&self.variant, &offered.variant) {
            (Some(wanted), Some(offered)) => wanted == offered,
            _ => true,
        };
        self.os == offered.os && self.architecture == offered.architecture && variants_agree
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.split('/');
        let (os, architecture, variant) = (words.next(), words.next(), words.next());
        // A fourth word goes where it is refused.
        let variant = if words.next().is_some() { Some("/") } else { variant };
        Self::new(os.unwrap_or_default(), architecture.unwrap_or_default(), variant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_there_and_back() {
        for text in ["linux/amd64", "linux/arm/v7", "windows/amd64", "linux/s390x"] {
            assert_eq!(text.parse::<Platform>().expect(text).to_string(), text);
        }
        for text in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux/a b", "linux/\u{1b}[1m", "li..nux//"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_will_do() {
        let platform = |text: &str| text.parse::<Platform>().expect(text);
        for (wanted, offered, will_do) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm/v7", "linux/arm/v6", false),
            ("linux/amd64", "windows/amd64", false),
            ("linux/amd64", "linux/386", false),
        ] {
            assert_eq!(platform(wanted).takes(&platform(offered)), will_do, "{wanted} {offered}");
        }
        assert!(Platform::here().takes(&Platform::here()));
    }
}
