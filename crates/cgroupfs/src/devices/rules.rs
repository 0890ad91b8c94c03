//! Rules in order: the last one that says something wins.
#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use super::table::{Table, decide};
use crate::{DevNum, DeviceAccess, DeviceKind, DeviceMatch, DeviceRule, Error, OrAny, Result};

/// What a group may do to which devices: an ordered list, of which the last rule that says something wins. Where none
/// does, it is denied.
///
/// A rule speaks of the accesses that it names and of no others, so each of `r`, `w` and `m` is decided for itself. What
/// asks for several at once, as opening for reading and writing does, is allowed only if each of them is:
///
/// ```
/// use cgroupfs::{DevNum, DeviceAccess, DeviceKind, DeviceRules};
///
/// let rules = DeviceRules::deny_all().allow("b *:* rm".parse()?).allow("b 8:0 w".parse()?).deny("b 8:* r".parse()?);
/// let may = |text: &str, access: &str| -> cgroupfs::Result<bool> {
///     Ok(rules.allows(DeviceKind::Block, text.parse::<DevNum>()?, access.parse::<DeviceAccess>()?))
/// };
/// assert!(may("7:0", "r")? && may("7:0", "m")? && !may("7:0", "rw")?);
/// assert!(may("8:0", "w")? && !may("8:0", "rw")?);
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// That is how the OCI runtime specification has it: "the runtime MUST apply entries in the listed order". Runtimes differ
/// where a later rule names a part of an earlier one: version 1's kernel code, and runc after it, refuse some of such lists
/// or widen them to one default and its exceptions; and the programs of runc and crun skip a rule that does not name all
/// that is asked for, so that a denied `w` is no obstacle to `rw`. Where all agree, this agrees too.
///
/// It prints and reads as lines of [`DeviceRule`]s. [`Devices::attach`](crate::Devices::attach) puts it into effect.
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#device-controller> and
/// <https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#allowed-device-list>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct DeviceRules {
    rules: Vec<DeviceRule>,
}

impl DeviceRules {
    /// No rule: nothing is allowed.
    pub fn deny_all() -> Self {
        Self::default()
    }

    /// One rule, that everything is allowed. Add what is denied.
    pub fn allow_all() -> Self {
        Self::deny_all().allow(DeviceMatch::ALL)
    }

    /// What every container gets, as the OCI runtime specification and the runtimes have it: `null`, `zero`, `full`,
    /// `random`, `urandom`, `tty`, `console`, `ptmx` and the terminals below `pts`; and nodes of all devices may be made,
    /// though not opened.
    ///
    /// ```
    /// let text = cgroupfs::DeviceRules::oci_default().to_string();
    /// assert!(text.starts_with("allow c *:* m\nallow b *:* m\nallow c 1:3 rwm\n"));
    /// ```
    pub fn oci_default() -> Self {
        use DeviceKind::{Block, Char};
        let mut rules = Self::deny_all();
        for kind in [Char, Block] {
            rules = rules.allow(DeviceMatch::new(kind, OrAny::Any, OrAny::Any, DeviceAccess::MKNOD));
        }
        let memory = [3, 5, 7, 8, 9].map(|minor| (1, OrAny::Only(minor)));
        let terminals = [(5, OrAny::Only(0)), (5, OrAny::Only(1)), (5, OrAny::Only(2)), (136, OrAny::Any)];
        for (major, minor) in memory.into_iter().chain(terminals) {
            rules = rules.allow(DeviceMatch::new(Char, major, minor, DeviceAccess::ALL));
        }
        rules
    }

    /// Adds a rule that allows.
    pub fn allow(mut self, devices: DeviceMatch) -> Self {
        self.rules.push(DeviceRule::Allow(devices));
        self
    }

    /// Adds a rule that denies.
    pub fn deny(mut self, devices: DeviceMatch) -> Self {
        self.rules.push(DeviceRule::Deny(devices));
        self
    }

    /// The rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[DeviceRule] {
        &self.rules
    }

    /// Whether `access`, all of it, to this device is allowed.
    #[must_use]
    pub fn allows(&self, kind: DeviceKind, device: DevNum, access: DeviceAccess) -> bool {
        let mut allowed = 0;
        self.rules
            .iter()
            .filter(|rule| rule.devices().covers(kind, device))
            .for_each(|rule| decide(&mut allowed, rule));
        access.bits() & !allowed == 0
    }

    /// The same in other words: as few rules as are needed, from the general to the particular. Two lists that mean the
    /// same become equal.
    ///
    /// ```
    /// use cgroupfs::DeviceRules;
    ///
    /// let rules: DeviceRules = "allow c 1:3 r\nallow b 8:0 r\ndeny b *:* rwm\nallow c 1:3 w".parse()?;
    /// assert_eq!(rules.normalised().to_string(), "allow c 1:3 rw\n");
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    pub fn normalised(&self) -> Self {
        Table::new(self).rules()
    }

    /// Whether both allow the same, whatever the device.
    ///
    /// ```
    /// use cgroupfs::DeviceRules;
    ///
    /// let [a, b] = ["allow c 1:* r\nallow c 2:* r", "allow c 2:* r\nallow c 1:* r\nallow c 1:3 r"];
    /// assert!(a.parse::<DeviceRules>()?.same_meaning(&b.parse()?));
    /// # Ok::<(), cgroupfs::Error>(())
    /// ```
    #[must_use]
    pub fn same_meaning(&self, other: &Self) -> bool {
        Table::new(self) == Table::new(other)
    }
}

impl FromIterator<DeviceRule> for DeviceRules {
    fn from_iter<I: IntoIterator<Item = DeviceRule>>(rules: I) -> Self {
        Self { rules: rules.into_iter().collect() }
    }
}

impl Extend<DeviceRule> for DeviceRules {
    fn extend<I: IntoIterator<Item = DeviceRule>>(&mut self, rules: I) {
        self.rules.extend(rules);
    }
}

impl fmt::Display for DeviceRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules.iter().try_for_each(|rule| writeln!(f, "{rule}"))
    }
}

impl FromStr for DeviceRules {
    type Err = Error;

    /// A rule a line; blank lines are passed over.
    fn from_str(text: &str) -> Result<Self> {
        text.lines().filter(|line| !line.trim_ascii().is_empty()).map(str::parse).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::devices::rule::tests::any_rule;
    use proptest::prelude::*;

    pub(crate) fn any_rules(most: usize) -> impl Strategy<Value = DeviceRules> {
        proptest::collection::vec(any_rule(), 0..most).prop_map(|rules| rules.into_iter().collect())
    }

    fn may(rules: &str, kind: DeviceKind, device: &str, access: &str) -> bool {
        let rules: DeviceRules = rules.parse().expect("rules");
        rules.allows(kind, device.parse().expect("device"), access.parse().expect("access"))
    }

    #[test]
    fn the_last_rule_that_says_something_wins() {
        use DeviceKind::{Block, Char};
        assert!(!may("", Char, "1:3", "r"));
        assert!(may("allow a", Block, "1:3", "rwm"));
        assert!(!may("allow a\ndeny c 1:3 w", Char, "1:3", "rw"), "a denied part is enough");
        assert!(may("allow a\ndeny c 1:3 w", Char, "1:3", "rm"));
        assert!(may("allow a\ndeny c 1:3 w", Block, "1:3", "w"));
        assert!(may("allow c 1:3 r\nallow c 1:3 w", Char, "1:3", "rw"), "two rules together");
        assert!(may("deny c 1:3 rwm\nallow c 1:* r", Char, "1:3", "r"), "a wider rule, but later");
        assert!(!may("allow c *:3 r\ndeny a *:* rwm", Char, "1:3", "r"));
        assert!(may("allow c *:3 r", Char, "77:3", "r") && !may("allow c *:3 r", Char, "77:4", "r"));
    }

    #[test]
    fn what_every_container_gets() {
        let rules = DeviceRules::oci_default().to_string();
        for device in ["1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:1", "5:2", "136:0", "136:1048575"] {
            assert!(may(&rules, DeviceKind::Char, device, "rwm"), "{device}");
            assert!(!may(&rules, DeviceKind::Block, device, "r"), "{device}");
        }
        for device in ["1:1", "1:2", "1:4", "1:11", "4:1", "5:3", "10:200", "10:229", "137:0", "0:0"] {
            assert!(!may(&rules, DeviceKind::Char, device, "r"), "{device}");
            assert!(may(&rules, DeviceKind::Char, device, "m") && may(&rules, DeviceKind::Block, device, "m"));
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(rules in any_rules(20)) {
            prop_assert_eq!(rules.to_string().parse::<DeviceRules>().unwrap(), rules);
        }
    }
}
