//! The name of a host.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::{Error, Result, Subject};
use serde::{Deserialize, Serialize};

/// The name of a host as /etc/hosts and the resolver take it, checked: `web`, `db.internal`.
///
/// * Up to 253 bytes in labels of 1 to 63 letters, digits, `-` and `_`, joined by dots; a label neither begins nor ends
///   with `-` (RFC 1123, 2.1; `_` for the sake of what is in use). Lower and upper case mean the same, and are kept.
/// * Refused beyond that: what reads as an IPv4 address, which the resolver would not look up, and `localhost` and what
///   ends in it, which has to mean the container itself (RFC 6761, 6.3).
///
/// See hostname(7): <https://man7.org/linux/man-pages/man7/hostname.7.html>.
///
/// ```
/// use vethnet::HostName;
///
/// assert_eq!(HostName::new("db.internal")?.as_str(), "db.internal");
/// let error = HostName::new("db internal").unwrap_err();
/// assert_eq!(error.to_string(), r#"host name "db internal": only letters, digits, '-', '_' and '.' are allowed"#);
/// # Ok::<(), vethnet::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

impl HostName {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the rule that is broken.
    pub fn new(name: &str) -> Result<Self> {
        match Self::fault(name) {
            None => Ok(Self(name.to_owned())),
            Some(why) => Err(Error::invalid("host name", why).on(Subject::Value(name.to_owned()))),
        }
    }

    fn fault(name: &str) -> Option<&'static str> {
        if name.is_empty() {
            Some("it is empty")
        } else if name.len() > 253 {
            Some("it is longer than 253 bytes")
        } else if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
            Some("only letters, digits, '-', '_' and '.' are allowed")
        } else if name.split('.').any(|label| label.is_empty() || label.len() > 63) {
            Some("between dots there have to be 1 to 63 letters")
        } else if name.split('.').any(|label| label.starts_with('-') || label.ends_with('-')) {
            Some("no part of it may begin or end with '-'")
        } else if name.split('.').all(|label| label.bytes().all(|byte| byte.is_ascii_digit())) {
            Some("it reads as an address")
        } else if name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost")) {
            Some("it has to mean the container itself")
        } else {
            None
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

impl TryFrom<String> for HostName {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        Self::new(&name)
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_refused_and_why() {
        for (name, why) in [
            ("", "empty"),
            (".", "1 to 63"),
            ("web.", "1 to 63"),
            ("a..b", "1 to 63"),
            (&"x".repeat(64), "1 to 63"),
            (&"x.".repeat(127), "longer than 253"),
            ("-web", "'-'"),
            ("web-", "'-'"),
            ("a.-b", "'-'"),
            ("web\n6.6.6.6 db", "only letters"),
            ("web#", "only letters"),
            ("w\u{e9}b", "only letters"),
            ("10.0.0.1", "address"),
            ("127", "address"),
            ("fd00::1", "only letters"),
            ("localhost", "itself"),
            ("db.LocalHost", "itself"),
        ] {
            let error = HostName::new(name).expect_err(name);
            assert!(error.to_string().contains(why), "{error}");
            assert_eq!(error.to_string().lines().count(), 1);
        }
        for name in ["a", "web-1", "_srv", "DB.internal", "3com", "localhost.example", &"x".repeat(63)] {
            assert_eq!(HostName::new(name).expect(name).to_string(), name);
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_one_word(name in "\\PC{0,20}|[a-z0-9._-]{0,20}") {
            if let Ok(good) = HostName::new(&name) {
                prop_assert!(good.as_str().bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'));
                prop_assert!(good.as_str().parse::<std::net::IpAddr>().is_err());
            }
        }
    }
}
