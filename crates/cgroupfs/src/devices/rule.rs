//! One rule: which devices, which accesses, and whether they are allowed.
#![forbid(unsafe_code)]

use std::fmt;
use std::ops::{BitOr, BitOrAssign};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::str::FromStr;

use cellkit_core::Subject;

use crate::words::number;
use crate::{DevNum, Error, Result};

/// The two kinds of device nodes.
///
/// ```
/// use cgroupfs::DeviceKind;
///
/// assert_eq!("b".parse::<DeviceKind>()?, DeviceKind::Block);
/// assert_eq!(DeviceKind::Char.to_string(), "c");
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See mknod(2): <https://man7.org/linux/man-pages/man2/mknod.2.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceKind {
    /// A character device, `c`.
    #[doc(alias = "S_IFCHR")]
    Char,
    /// A block device, `b`.
    #[doc(alias = "S_IFBLK")]
    Block,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Char => "c",
            Self::Block => "b",
        })
    }
}

impl FromStr for DeviceKind {
    type Err = Error;

    /// `c` or `b`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "c" => Ok(Self::Char),
            "b" => Ok(Self::Block),
            _ => Err(invalid("parse device kind", "neither c nor b", text)),
        }
    }
}

/// What is done to a device: a set of `r`, `w` and `m`, never empty.
///
/// ```
/// use cgroupfs::DeviceAccess;
///
/// let access: DeviceAccess = "rw".parse()?;
/// assert_eq!(access, DeviceAccess::READ | DeviceAccess::WRITE);
/// assert!(DeviceAccess::ALL.contains(access) && !access.contains(DeviceAccess::MKNOD));
/// assert_eq!(DeviceAccess::ALL.to_string(), "rwm");
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v1/devices.html>.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceAccess(u8);

impl DeviceAccess {
    /// `m`: make a node of the device, by mknod(2).
    #[doc(alias = "BPF_DEVCG_ACC_MKNOD")]
    pub const MKNOD: Self = Self(1);
    /// `r`: open it for reading.
    #[doc(alias = "BPF_DEVCG_ACC_READ")]
    pub const READ: Self = Self(2);
    /// `w`: open it for writing.
    #[doc(alias = "BPF_DEVCG_ACC_WRITE")]
    pub const WRITE: Self = Self(4);
    /// `rwm`.
    pub const ALL: Self = Self(7);

    const LETTERS: [(Self, char); 3] = [(Self::READ, 'r'), (Self::WRITE, 'w'), (Self::MKNOD, 'm')];

    /// Whether all of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits as a device program gets them.
    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    /// The set of these bits; `None` when it is empty.
    pub(crate) const fn from_bits(bits: u8) -> Option<Self> {
        match bits & Self::ALL.0 {
            0 => None,
            bits => Some(Self(bits)),
        }
    }
}

impl BitOr for DeviceAccess {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for DeviceAccess {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl fmt::Display for DeviceAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        Self::LETTERS
            .iter()
            .filter(|(access, _)| self.contains(*access))
            .try_for_each(|(_, letter)| f.write_char(*letter))
    }
}

impl fmt::Debug for DeviceAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceAccess({self})")
    }
}

impl FromStr for DeviceAccess {
    type Err = Error;

    /// Letters of `r`, `w` and `m`, at least one, in any order.
    fn from_str(text: &str) -> Result<Self> {
        let mut bits = 0;
        for letter in text.chars() {
            let known = Self::LETTERS.iter().find(|(_, known)| *known == letter);
            let (access, _) =
                known.ok_or_else(|| invalid("parse device access", "a letter is none of r, w, m", text))?;
            bits |= access.0;
        }
        Self::from_bits(bits)
            .ok_or_else(|| invalid("parse device access", "empty, but at least one of r, w, m is needed", text))
    }
}

/// One value, or any.
///
/// ```
/// use cgroupfs::OrAny;
///
/// assert!(OrAny::Any.covers(3) && OrAny::Only(3).covers(3) && !OrAny::Only(3).covers(4));
/// assert_eq!((OrAny::Only(3).to_string(), OrAny::<u32>::Any.to_string()), ("3".to_owned(), "*".to_owned()));
/// assert_eq!(OrAny::<u32>::from(None), OrAny::Any);
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v1/devices.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OrAny<T> {
    /// Any value: `*`, or `a` of a kind.
    Any,
    /// This value.
    Only(T),
}

impl<T: PartialEq> OrAny<T> {
    /// Whether `value` is meant.
    #[must_use]
    pub fn covers(&self, value: T) -> bool {
        match self {
            Self::Any => true,
            Self::Only(only) => *only == value,
        }
    }
}

impl<T> From<T> for OrAny<T> {
    fn from(value: T) -> Self {
        Self::Only(value)
    }
}

impl<T> From<Option<T>> for OrAny<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Any, Self::Only)
    }
}

impl<T: fmt::Display> fmt::Display for OrAny<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Only(value) => value.fmt(f),
        }
    }
}

/// Devices, and what is done to them: the left side of a rule, as a line of cgroup v1's `devices.allow` and
/// `devices.deny` has it.
///
/// A line is a kind (`c`, `b`, or `a` for both), the numbers with `*` for any, and letters of `r`, `w`, `m`. `a` alone is
/// [`ALL`](Self::ALL). Version 1 reads `a` with numbers as if it had none; here `a 1:3 r` means what it says: reading the
/// character device and the block device 1:3.
///
/// ```
/// use cgroupfs::{DeviceAccess, DeviceKind, DeviceMatch, OrAny};
///
/// let terminals: DeviceMatch = "c 136:* rw".parse()?;
/// assert_eq!(terminals, DeviceMatch::new(DeviceKind::Char, 136, OrAny::Any, DeviceAccess::READ | DeviceAccess::WRITE));
/// assert_eq!(DeviceMatch::ALL.to_string(), "a *:* rwm");
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v1/devices.html>.
// Not #[non_exhaustive]: a device has a kind and two numbers, and a program is told no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceMatch {
    /// Which kind of device.
    pub kind: OrAny<DeviceKind>,
    /// Which driver.
    pub major: OrAny<u32>,
    /// Which of its devices.
    pub minor: OrAny<u32>,
    /// What is done to it.
    pub access: DeviceAccess,
}

impl DeviceMatch {
    /// Every access to every device: `a *:* rwm`.
    pub const ALL: Self = Self { kind: OrAny::Any, major: OrAny::Any, minor: OrAny::Any, access: DeviceAccess::ALL };

    /// These devices and accesses.
    #[must_use]
    pub fn new(
        kind: impl Into<OrAny<DeviceKind>>,
        major: impl Into<OrAny<u32>>,
        minor: impl Into<OrAny<u32>>,
        access: DeviceAccess,
    ) -> Self {
        Self { kind: kind.into(), major: major.into(), minor: minor.into(), access }
    }

    /// stat(2): the device whose node is at `path`.
    ///
    /// ```
    /// use cgroupfs::{DeviceAccess, DeviceMatch};
    ///
    /// let null = DeviceMatch::of_path("/dev/null", DeviceAccess::READ)?;
    /// assert_eq!(null.to_string(), "c 1:3 r");
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    ///
    /// # Errors
    /// The errno of stat(2); Invalid when it is no device.
    pub fn of_path(path: impl AsRef<Path>, access: DeviceAccess) -> Result<Self> {
        let path = path.as_ref();
        let found = std::fs::metadata(path).map_err(|error| Error::from_io("stat", &error).on(path))?;
        let kind = match found.file_type() {
            kind if kind.is_char_device() => DeviceKind::Char,
            kind if kind.is_block_device() => DeviceKind::Block,
            _ => return Err(Error::invalid("stat", "this is not a device").on(path)),
        };
        Ok(Self::new(kind, libc::major(found.rdev()), libc::minor(found.rdev()), access))
    }

    /// Whether this is about the device at all, whatever the access.
    #[must_use]
    pub fn covers(&self, kind: DeviceKind, device: DevNum) -> bool {
        self.kind.covers(kind) && self.major.covers(device.major) && self.minor.covers(device.minor)
    }
}

impl fmt::Display for DeviceMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            OrAny::Any => f.write_str("a")?,
            OrAny::Only(kind) => kind.fmt(f)?,
        }
        write!(f, " {}:{} {}", self.major, self.minor, self.access)
    }
}

impl FromStr for DeviceMatch {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why| invalid("parse devices", why, text);
        let mut words = text.split_ascii_whitespace();
        let kind = match words.next() {
            Some("a") => OrAny::Any,
            Some(kind) => OrAny::Only(kind.parse().map_err(|_| refuse("the kind is none of a, c, b"))?),
            None => return Err(refuse("empty, but a line such as c 1:3 rwm is needed")),
        };
        let (numbers, access) = match (words.next(), words.next(), words.next()) {
            (None, ..) if kind == OrAny::Any => return Ok(Self::ALL),
            (Some(numbers), Some(access), None) => (numbers, access),
            _ => return Err(refuse("not three words: a kind, MAJOR:MINOR and letters of rwm")),
        };
        let (major, minor) = numbers.split_once(':').ok_or_else(|| refuse("the numbers are not MAJOR:MINOR"))?;
        let number = |word| parse_number(word).ok_or_else(|| refuse("a number is neither * nor below 2^32"));
        let access = access.parse().map_err(|_| refuse("the access is not made of r, w and m"))?;
        Ok(Self { kind, major: number(major)?, minor: number(minor)?, access })
    }
}

fn parse_number(word: &str) -> Option<OrAny<u32>> {
    match word {
        "*" => Some(OrAny::Any),
        word => number(word).map(OrAny::Only),
    }
}

/// Whether something is allowed: a line of [`DeviceRules`](crate::DeviceRules).
///
/// It prints and reads as `allow` or `deny` and a [`DeviceMatch`].
///
/// ```
/// use cgroupfs::{DeviceMatch, DeviceRule};
///
/// let rule: DeviceRule = "deny b *:* m".parse()?;
/// assert_eq!(rule, DeviceRule::Deny("b *:* m".parse()?));
/// assert_eq!(DeviceRule::Allow(DeviceMatch::ALL).to_string(), "allow a *:* rwm");
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#device-controller>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceRule {
    /// These accesses are allowed.
    Allow(DeviceMatch),
    /// These accesses are denied.
    Deny(DeviceMatch),
}

impl DeviceRule {
    /// What it is about.
    #[must_use]
    pub const fn devices(&self) -> &DeviceMatch {
        match self {
            Self::Allow(devices) | Self::Deny(devices) => devices,
        }
    }
}

impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow(devices) => write!(f, "allow {devices}"),
            Self::Deny(devices) => write!(f, "deny {devices}"),
        }
    }
}

impl FromStr for DeviceRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let trimmed = text.trim_ascii();
        let (verdict, devices) =
            trimmed.split_once(|letter: char| letter.is_ascii_whitespace()).unwrap_or((trimmed, ""));
        match verdict {
            "allow" => devices.parse().map(Self::Allow),
            "deny" => devices.parse().map(Self::Deny),
            _ => Err(invalid("parse device rule", "it begins with neither allow nor deny", text)),
        }
    }
}

fn invalid(operation: &'static str, why: &'static str, text: &str) -> Error {
    Error::invalid(operation, why).on(Subject::Value(text.to_owned()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    /// Few numbers, so that rules meet.
    pub(crate) fn any_match() -> impl Strategy<Value = DeviceMatch> {
        let kind = prop_oneof![Just(OrAny::Any), Just(DeviceKind::Char.into()), Just(DeviceKind::Block.into())];
        let number = || prop_oneof![2 => Just(OrAny::Any), 8 => (0u32..8).prop_map(OrAny::Only), 1 => any::<u32>().prop_map(OrAny::Only)];
        (kind, number(), number(), 1u8..8).prop_map(|(kind, major, minor, bits)| DeviceMatch {
            kind,
            major,
            minor,
            access: DeviceAccess(bits),
        })
    }

    pub(crate) fn any_rule() -> impl Strategy<Value = DeviceRule> {
        (any::<bool>(), any_match())
            .prop_map(|(allow, devices)| if allow { DeviceRule::Allow(devices) } else { DeviceRule::Deny(devices) })
    }

    #[test]
    fn lines_of_version_1() {
        for (text, printed) in [
            ("a", "a *:* rwm"),
            ("a *:* rwm", "a *:* rwm"),
            ("c 1:3 rwm\n", "c 1:3 rwm"),
            ("  b\t8:* mr ", "b 8:* rm"),
            ("c *:5 w", "c *:5 w"),
            ("a 1:3 rr", "a 1:3 r"),
            ("c 4294967295:007 m", "c 4294967295:7 m"),
        ] {
            assert_eq!(text.parse::<DeviceMatch>().expect(text).to_string(), printed);
        }
    }

    #[test]
    fn what_is_refused_and_why() {
        for (text, why) in [
            ("", "empty"),
            (" \n", "empty"),
            ("c", "three words"),
            ("c 1:3", "three words"),
            ("a *:*", "three words"),
            ("c 1:3 r w", "three words"),
            ("x 1:3 r", "none of a, c, b"),
            ("C 1:3 r", "none of a, c, b"),
            ("c 13 r", "MAJOR:MINOR"),
            ("c 1:3:4 r", "a number"),
            ("c : r", "a number"),
            ("c +1:3 r", "a number"),
            ("c -1:3 r", "a number"),
            ("c 4294967296:3 r", "a number"),
            ("c **:3 r", "a number"),
            ("c 1:3 rwx", "r, w and m"),
            ("c 1:3 *", "r, w and m"),
            ("c 1:3 r\0", "r, w and m"),
        ] {
            let error = text.parse::<DeviceMatch>().expect_err(text);
            assert_eq!((error.kind(), error.to_string().lines().count()), (ErrorKind::Invalid, 1));
            assert!(error.to_string().contains(why), "{error}");
        }
        for text in ["", "c 1:3 r", "allow", "allowed c 1:3 r", "Allow c 1:3 r", "deny c 1:3", "allow\0c 1:3 r"] {
            assert_eq!(text.parse::<DeviceRule>().expect_err(text).kind(), ErrorKind::Invalid);
        }
        let error = DeviceMatch::of_path("/proc/version", DeviceAccess::ALL).expect_err("a file");
        assert_eq!(error.to_string(), r#"stat "/proc/version": this is not a device"#);
        assert_eq!(DeviceMatch::of_path("/no/such", DeviceAccess::ALL).expect_err("none").kind(), ErrorKind::NotFound);
        assert!("".parse::<DeviceAccess>().expect_err("empty").to_string().contains("at least one"));
        assert!("rx".parse::<DeviceAccess>().is_err() && "a".parse::<DeviceKind>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(rule in any_rule()) {
            prop_assert_eq!(rule.to_string().parse::<DeviceRule>().unwrap(), rule);
            prop_assert_eq!(rule.devices().to_string().parse::<DeviceMatch>().unwrap(), *rule.devices());
            let access = rule.devices().access;
            prop_assert_eq!(access.to_string().parse::<DeviceAccess>().unwrap(), access);
        }

        #[test]
        fn no_text_panics(text in "\\PC*", likely in "(allow |deny )?[abc] ?[0-9*:]{0,12} [rwm]{0,4}") {
            let _ = (text.parse::<DeviceRule>(), text.parse::<DeviceMatch>());
            let _ = (likely.parse::<DeviceRule>(), likely.parse::<DeviceMatch>());
        }
    }
}
