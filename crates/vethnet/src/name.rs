//! Names: of interfaces and of owners.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use cellkit_core::{Error, Result, Subject};
use serde::{Deserialize, Serialize};

/// The name of a network interface, checked.
///
/// * Kernel: `dev_valid_name` in `net/core/dev.c`: 1 to 15 bytes, not `.` or `..`, without `/`, `:` and whitespace.
/// * Refused beyond that: `all` and `default`, which would turn a sysctl of one interface into one of all; `%`, which
///   the kernel takes for a pattern to number; and what is not printable ASCII.
///
/// See netdevice(7): <https://man7.org/linux/man-pages/man7/netdevice.7.html>.
///
/// ```
/// use vethnet::IfName;
///
/// assert_eq!(IfName::new("eth0")?.as_str(), "eth0");
/// let error = IfName::new("all").unwrap_err();
/// assert_eq!(error.to_string(), r#"interface name "all": it means every interface in /proc/sys/net"#);
/// # Ok::<(), vethnet::Error>(())
/// ```
#[doc(alias = "IFNAMSIZ")]
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(String);

impl IfName {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the rule that is broken.
    pub fn new(name: &str) -> Result<Self> {
        match fault(name, 15) {
            None => Ok(Self(name.to_owned())),
            Some(why) => Err(Error::invalid("interface name", why).on(Subject::Value(name.to_owned()))),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host's end of the veth pair of `owner`: found again from the owner's id alone.
    pub(crate) fn of_owner(network: &Self, owner: &Owner) -> Self {
        Self::of("vh", network, owner)
    }

    /// The `ifb` interface that limits what `owner` sends.
    pub(crate) fn of_owner_ifb(network: &Self, owner: &Owner) -> Self {
        Self::of("vi", network, owner)
    }

    fn of(prefix: &str, network: &Self, owner: &Owner) -> Self {
        let mut hash = Fnv::default();
        hash.add(network.as_str().as_bytes());
        hash.add(&[0]);
        hash.add(owner.as_str().as_bytes());
        let mut name = String::from(prefix);
        let mut rest = hash.0;
        for _ in 0..13 {
            let digit = b"abcdefghijklmnopqrstuvwxyz234567".get((rest & 31) as usize).copied().unwrap_or(b'a');
            name.push(char::from(digit));
            rest >>= 5;
        }
        Self(name)
    }
}

/// What is wrong with a link's name of at most `longest` bytes (15 or 127).
pub(crate) fn fault(name: &str, longest: usize) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > longest {
        Some(if longest == 15 { "it is longer than 15 bytes" } else { "it is longer than 127 bytes" })
    } else if name == "." || name == ".." {
        Some("it is a directory's name")
    } else if name == "all" || name == "default" {
        Some("it means every interface in /proc/sys/net")
    } else if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        Some("only printable ASCII without spaces is allowed")
    } else if name.contains(['/', ':', '%']) {
        Some("it may not contain '/', ':' or '%'")
    } else {
        None
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for IfName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

impl TryFrom<String> for IfName {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        Self::new(&name)
    }
}

impl From<IfName> for String {
    fn from(name: IfName) -> Self {
        name.0
    }
}

/// Whose attachment it is: becomes a file name, a comment in nf_tables and, hashed, an interface name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Owner(String);

impl Owner {
    pub(crate) fn new(id: &str) -> Result<Self> {
        let fault = if id.is_empty() {
            "it is empty"
        } else if id.len() > 128 {
            "it is longer than 128 bytes"
        } else if !id.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_') {
            "it has to begin with a letter, a digit or '_'"
        } else if !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.+".contains(&byte)) {
            "only letters, digits and '_', '-', '.', '+' are allowed"
        } else {
            return Ok(Self(id.to_owned()));
        };
        Err(Error::invalid("owner id", fault).on(Subject::Value(id.to_owned())))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Owner {
    type Error = Error;

    fn try_from(id: String) -> Result<Self> {
        Self::new(&id)
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> Self {
        owner.0
    }
}

/// The 64-bit FNV-1a hash: the same on every machine and in every version, which the standard library's is not.
#[derive(Debug)]
pub(crate) struct Fnv(pub(crate) u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_refused_and_why() {
        for (name, why) in [
            ("", "it is empty"),
            ("abcdefghijklmnop", "longer than 15"),
            (".", "directory"),
            ("..", "directory"),
            ("all", "every interface"),
            ("default", "every interface"),
            ("veth%d", "'%'"),
            ("a/b", "'/'"),
            ("a:b", "':'"),
            ("a b", "printable"),
            ("a\tb", "printable"),
            ("a\0b", "printable"),
            ("\u{e9}th0", "printable"),
        ] {
            let error = IfName::new(name).expect_err(name);
            assert!(error.to_string().contains(why), "{error}");
            assert_eq!(error.to_string().lines().count(), 1);
        }
        for name in ["lo", "eth0", "abcdefghijklmno", "cellkit-0", "wg_1.2"] {
            assert_eq!(IfName::new(name).expect(name).to_string(), name);
        }
    }

    #[test]
    fn owners() {
        for id in ["", "-x", ".x", "a/b", "a b", "a\0", "\u{fc}", &"x".repeat(129)] {
            assert!(Owner::new(id).is_err(), "{id:?}");
        }
        for id in ["a", "0", "_", "web-1.2+x", &"x".repeat(128)] {
            assert_eq!(Owner::new(id).expect(id).as_str(), id);
        }
    }

    #[test]
    fn the_hash_is_the_published_one() {
        let mut hash = Fnv::default();
        hash.add(b"foobar");
        assert_eq!(hash.0, 0x8594_4171_f739_67e8);
    }

    proptest! {
        #[test]
        fn a_name_that_is_accepted_is_one_the_kernel_accepts(name in any::<String>()) {
            if let Ok(good) = IfName::new(&name) {
                prop_assert_eq!(good.as_str(), &name);
                prop_assert!(name.len() <= 15 && !name.is_empty());
                prop_assert!(!name.contains(|c: char| c.is_whitespace() || c == '/' || c == ':' || c == '\0'));
            }
        }

        #[test]
        fn the_name_from_an_owner_is_always_good(a in "[a-z0-9_][a-zA-Z0-9_-]{0,63}", b in "[a-z0-9_][a-zA-Z0-9_-]{0,63}") {
            let network = IfName::new("cellkit0").unwrap();
            let name = |id: &str| IfName::of_owner(&network, &Owner::new(id).unwrap());
            prop_assert!(IfName::new(name(&a).as_str()).is_ok());
            prop_assert_eq!(a == b, name(&a) == name(&b));
        }
    }
}
