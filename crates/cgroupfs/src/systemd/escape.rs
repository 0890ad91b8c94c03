//! Any text as a part of a unit's name, by systemd's own rules.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

use cellkit_core::Subject;

use crate::{Error, Result};

/// `text` as a part of a unit's name, as systemd-escape(1) prints it: `/` becomes `-`, and what a name may not have, and
/// `-` itself, becomes `\xNN`.
///
/// ```
/// use cgroupfs::systemd::{UnitName, escape, unescape};
///
/// let name = UnitName::new(format!("run-{}.scope", escape("web/eu-1")))?;
/// assert_eq!(name.as_str(), r"run-web-eu\x2d1.scope");
/// assert_eq!(unescape(r"web-eu\x2d1")?, "web/eu-1");
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See systemd-escape(1): <https://man7.org/linux/man-pages/man1/systemd-escape.1.html>.
#[must_use]
pub fn escape(text: impl AsRef<OsStr>) -> String {
    let mut escaped = String::new();
    for (index, &byte) in text.as_ref().as_bytes().iter().enumerate() {
        match byte {
            b'/' => escaped.push('-'),
            b'.' if index > 0 => escaped.push('.'),
            b':' | b'_' => escaped.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => escaped.push(char::from(byte)),
            // Writing to a String does not fail.
            _ => drop(write!(escaped, "\\x{byte:02x}")),
        }
    }
    escaped
}

/// What [`escape`] was given.
///
/// # Errors
/// Parse when there is a `\` that begins no `\xNN`, or one that stands for NUL.
///
/// ```
/// assert_eq!(cgroupfs::systemd::unescape(r"\x2ehidden-file")?, ".hidden/file");
/// assert!(cgroupfs::systemd::unescape(r"a\n").is_err());
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See systemd-escape(1): <https://man7.org/linux/man-pages/man1/systemd-escape.1.html>.
pub fn unescape(name: &str) -> Result<OsString> {
    let mut bytes = Vec::new();
    let mut rest = name.as_bytes();
    loop {
        rest = match rest {
            [] => return Ok(OsString::from_vec(bytes)),
            [b'-', rest @ ..] => {
                bytes.push(b'/');
                rest
            }
            [b'\\', b'x', high, low, rest @ ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                match (digit(high), digit(low)) {
                    (Some(high), Some(low)) if high | low != 0 => bytes.push(high << 4 | low),
                    _ => return Err(malformed(name)),
                }
                rest
            }
            [b'\\', ..] => return Err(malformed(name)),
            [byte, rest @ ..] => {
                bytes.push(*byte);
                rest
            }
        };
    }
}

fn malformed(name: &str) -> Error {
    Error::parse("unescape unit name", r"a \ that begins no \xNN").on(Subject::Value(name.to_owned()))
}

/// A path as a part of a unit's name, as `systemd-escape --path` prints it: without the slashes at both ends and doubled
/// ones; the root itself is `-`.
///
/// # Errors
/// Invalid when there is `..` in the path.
///
/// ```
/// use std::path::Path;
///
/// assert_eq!(cgroupfs::systemd::escape_path(Path::new("/srv//web-1/"))?, r"srv-web\x2d1");
/// assert_eq!(cgroupfs::systemd::escape_path(Path::new("/"))?, "-");
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See systemd-escape(1): <https://man7.org/linux/man-pages/man1/systemd-escape.1.html>.
pub fn escape_path(path: &Path) -> Result<String> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part.as_bytes()),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::invalid("escape unit name", "this path has a .. in it").on(path));
            }
        }
    }
    Ok(if parts.is_empty() { "-".to_owned() } else { escape(OsStr::from_bytes(&parts.join(&b'/'))) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Each pair as systemd-escape(1) of systemd 252 printed it.
    #[test]
    fn what_systemd_escape_prints() {
        for (text, name) in [
            ("a/b c-d.é", r"a-b\x20c\x2dd.\xc3\xa9"),
            (".hid", r"\x2ehid"),
            ("", ""),
            (r"back\slash", r"back\x5cslash"),
            ("a@b:c_d", r"a\x40b:c_d"),
        ] {
            assert_eq!(escape(text), name, "{text}");
            assert_eq!(unescape(name).expect(name), text, "{name}");
        }
        for (path, name) in [("/foo//bar/baz/", "foo-bar-baz"), ("/", "-"), ("/.x", r"\x2ex"), ("a/./b", "a-b")] {
            assert_eq!(escape_path(Path::new(path)).expect(path), name);
        }
        assert!(escape_path(Path::new("/a/../b")).is_err());
        for name in [r"\", r"\x", r"\x2", r"\xzz", r"\x00", r"a\y20"] {
            assert!(unescape(name).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn what_is_escaped_comes_back(bytes in proptest::collection::vec(1u8.., 0..60)) {
            let name = escape(OsStr::from_bytes(&bytes));
            prop_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_.\\-".contains(&byte)));
            prop_assert!(!name.starts_with('.'));
            prop_assert_eq!(unescape(&name).expect("unescape").into_vec(), bytes);
        }

        #[test]
        fn no_name_panics(name in "[-a-z0-9\\\\x/.@é]{0,20}") {
            if let Ok(text) = unescape(&name) {
                prop_assert_eq!(unescape(&escape(&text)).expect("again"), text);
            }
        }
    }
}
