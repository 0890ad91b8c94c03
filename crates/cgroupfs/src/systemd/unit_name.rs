//! Names of units.
#![forbid(unsafe_code)]

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::{Error, Result};

/// The name of a unit, such as `web.scope` or `machine-web.slice`.
///
/// It is at most 255 of `A-Z a-z 0-9 : - _ . \ @` with the ending of a kind of unit, and stands for one unit: a template
/// such as `user@.service` does not. [`escape`](super::escape) makes a part of it of any text.
///
/// ```
/// use cgroupfs::systemd::UnitName;
///
/// let slice: UnitName = "machine-web.slice".parse()?;
/// assert_eq!(slice.slice_path().as_deref(), Some("machine.slice/machine-web.slice".as_ref()));
/// for name in ["web", ".scope", "a/b.scope", "a b.scope", "web@.service", "a--b.slice", "web.exe"] {
///     assert!(UnitName::new(name).is_err());
/// }
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See systemd.unit(5): <https://man7.org/linux/man-pages/man5/systemd.unit.5.html>.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitName(String);

const KINDS: [&str; 11] =
    ["service", "socket", "target", "device", "mount", "automount", "swap", "timer", "path", "slice", "scope"];

impl UnitName {
    /// Checks a name.
    ///
    /// # Errors
    /// Invalid, naming what is wrong with it.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        match fault(&name) {
            None => Ok(Self(name)),
            Some(why) => Err(Error::invalid("name of a unit", why).on(Subject::Value(name))),
        }
    }

    /// The name, if it is of this kind.
    pub(super) fn of_kind(name: &str, kind: &'static str, why: &'static str) -> Result<Self> {
        let name = Self::new(name)?;
        if name.kind() == kind {
            Ok(name)
        } else {
            Err(Error::invalid("name of a unit", why).on(Subject::Value(name.0)))
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands behind the last dot.
    fn kind(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(_, kind)| kind)
    }

    /// The interface on the bus that has what is special about units of this kind: `org.freedesktop.systemd1.Scope`.
    pub(super) fn interface(&self) -> String {
        let mut kind = self.kind().to_owned();
        if let Some(first) = kind.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        format!("org.freedesktop.systemd1.{kind}")
    }

    /// For a slice, the group it is below systemd's root: each `-` is one level. `-.slice` is the root itself. `None` for
    /// a unit of another kind, whose slice its name does not tell.
    #[must_use]
    pub fn slice_path(&self) -> Option<PathBuf> {
        let stem = self.0.strip_suffix(".slice")?;
        if stem == "-" {
            return Some(PathBuf::new());
        }
        let ends = stem.match_indices('-').map(|(index, _)| index).chain([stem.len()]);
        Some(ends.filter_map(|end| stem.get(..end)).map(|above| format!("{above}.slice")).collect())
    }
}

fn fault(name: &str) -> Option<&'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    let Some((stem, kind)) = name.rsplit_once('.') else {
        return Some("it has no ending such as .scope or .slice");
    };
    match stem {
        _ if name.len() > 255 => Some("longer than 255 bytes"),
        _ if name.contains('/') => Some("this is a path: escape it"),
        _ if !name.bytes().all(allowed) => Some(r"a character that is none of A-Z a-z 0-9 : - _ . \ @: escape it"),
        _ if !KINDS.contains(&kind) => Some("it has no ending such as .scope or .slice"),
        "" => Some("nothing before the ending"),
        _ if stem.starts_with('@') => Some("nothing before the @"),
        _ if stem.ends_with('@') => Some("this is a template, not a unit"),
        "-" if kind == "slice" => None,
        _ if kind == "slice" && (stem.starts_with('-') || stem.ends_with('-') || stem.contains("--")) => {
            Some("each - of a slice stands between two names")
        }
        _ if kind == "slice" && stem.contains('@') => Some("a slice has no instances"),
        _ => None,
    }
}

impl AsRef<str> for UnitName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for UnitName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::systemd::escape;
    use proptest::prelude::*;
    use std::path::Path;

    #[test]
    fn names_that_are_refused() {
        let long = format!("{}.scope", "a".repeat(250));
        for (name, why) in [
            ("", "ending"),
            ("web", "ending"),
            ("web.", "ending"),
            ("web.exe", "ending"),
            (".scope", "nothing before"),
            ("@1.service", "before the @"),
            ("user@.service", "template"),
            ("a/b.scope", "path"),
            ("a b.scope", "character"),
            ("a\0.scope", "character"),
            ("é.scope", "character"),
            ("-a.slice", "between"),
            ("a-.slice", "between"),
            ("a--b.slice", "between"),
            ("a@b.slice", "instances"),
            (&long, "255"),
        ] {
            let error = UnitName::new(name).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(why), "{error}");
        }
        for name in ["a.scope", "-.slice", "-.mount", "user@1000.service", r"a\x2db.scope", &long[1..]] {
            assert_eq!(UnitName::new(name).expect(name).as_str(), name);
        }
    }

    #[test]
    fn where_a_slice_is() {
        for (name, path) in [
            ("-.slice", Some("")),
            ("a.slice", Some("a.slice")),
            ("a-b.slice", Some("a.slice/a-b.slice")),
            ("a-b-c.slice", Some("a.slice/a-b.slice/a-b-c.slice")),
            ("a-b.scope", None),
        ] {
            assert_eq!(UnitName::new(name).expect(name).slice_path().as_deref(), path.map(Path::new), "{name}");
        }
        assert_eq!(UnitName::new("a.scope").expect("name").interface(), "org.freedesktop.systemd1.Scope");
    }

    proptest! {
        #[test]
        fn what_is_escaped_is_a_name(text in "\\PC{1,20}") {
            let name = format!("x{}.scope", escape(text));
            prop_assert_eq!(UnitName::new(name.clone()).expect("name").to_string(), name);
        }

        #[test]
        fn each_level_of_a_slice_begins_with_the_one_above(parts in proptest::collection::vec("[a-z0-9_.:]{1,5}", 1..6)) {
            let name = UnitName::new(format!("{}.slice", parts.join("-"))).expect("name");
            let path = name.slice_path().expect("a slice");
            prop_assert_eq!(path.components().count(), parts.len());
            prop_assert_eq!(path.file_name().expect("last"), name.as_str());
        }

        #[test]
        fn no_text_panics(text in "[-@.a-z\\\\/é]{0,8}\\.?(scope|slice|service)?") {
            if let Ok(name) = UnitName::new(text) {
                let _ = (name.slice_path(), name.interface());
            }
        }
    }
}
