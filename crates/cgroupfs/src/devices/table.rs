//! What rules come to: for every device the accesses that are allowed, as a table.
//!
//! # Theory of operation
//!
//! However many rules there are, they name few numbers, and to all numbers that none of them names the same happens. So
//! the rules are applied, one after the other, to a table that has each number they name, and "any other". A number that
//! is named for the first time begins as what any other has become by then:
//!
//! ```text
//!            kind c     minor 0   minor 3   any other      (of each kind there is one such table)
//!           major 1       -         rwm       m
//!           major 5       rwm       m         m
//!         any other       m         m         m
//! ```
//!
//! What equals "any other" of its row is left out, and so is a row that equals the row of any other major. What remains is
//! one and the same for all lists of rules that mean the same, which is what makes it worth having: the program is made
//! from it, and two lists are compared by it. Order has done its work by then; there is none in a table.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use crate::{DeviceAccess, DeviceKind, DeviceMatch, DeviceRule, DeviceRules, OrAny};

/// Bits of [`DeviceAccess`], none of them included.
pub(crate) type Bits = u8;

/// Both kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) char: KindTable,
    pub(crate) block: KindTable,
}

/// The devices of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KindTable {
    /// The majors whose row is another than that of any other.
    pub(crate) majors: BTreeMap<u32, Row>,
    pub(crate) other: Row,
}

/// The devices of one kind and major.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    /// The minors of which something else is allowed than of any other.
    pub(crate) minors: BTreeMap<u32, Bits>,
    pub(crate) other: Bits,
}

impl Table {
    pub(crate) fn new(rules: &DeviceRules) -> Self {
        Self { char: KindTable::new(rules, DeviceKind::Char), block: KindTable::new(rules, DeviceKind::Block) }
    }

    /// The rules of which this is the table, from the general to the particular, each only as far as it says something
    /// new.
    pub(crate) fn rules(&self) -> DeviceRules {
        let mut rules = Vec::new();
        let [char, block] = [&self.char, &self.block];
        let both = |of: &dyn Fn(&KindTable) -> Change| [of(char), of(block)];
        let mut add = |major, minor, changes| add_rules(&mut rules, major, minor, changes);

        add(OrAny::Any, OrAny::Any, both(&|kind| Change { from: 0, to: kind.other.other }));
        for minor in keys([&char.other.minors, &block.other.minors]) {
            let change = both(&|kind| Change { from: kind.other.other, to: kind.other.get(minor) });
            add(OrAny::Any, minor.into(), change);
        }
        for major in keys([&char.majors, &block.majors]) {
            let change = both(&|kind| Change { from: kind.other.other, to: kind.row(major).other });
            add(major.into(), OrAny::Any, change);
            let minors = [char, block].map(|kind| [&kind.row(major).minors, &kind.other.minors]);
            for minor in keys(minors.as_flattened().iter().copied()) {
                let change =
                    both(&|kind| Change { from: kind.inherited(major, minor), to: kind.row(major).get(minor) });
                add(major.into(), minor.into(), change);
            }
        }
        rules.into_iter().collect()
    }
}

impl KindTable {
    fn new(rules: &DeviceRules, kind: DeviceKind) -> Self {
        let mut table = Self::default();
        for rule in rules.rules().iter().filter(|rule| rule.devices().kind.covers(kind)) {
            match rule.devices().major {
                OrAny::Only(major) => table.majors.entry(major).or_insert_with(|| table.other.clone()).apply(rule),
                OrAny::Any => table.majors.values_mut().chain([&mut table.other]).for_each(|row| row.apply(rule)),
            }
        }
        table.other.prune();
        table.majors.values_mut().for_each(Row::prune);
        table.majors.retain(|_, row| *row != table.other);
        table
    }

    /// What is allowed of all devices of the kind, if it is one and the same.
    pub(crate) fn uniform(&self) -> Option<Bits> {
        (self.majors.is_empty() && self.other.minors.is_empty()).then_some(self.other.other)
    }

    fn row(&self, major: u32) -> &Row {
        self.majors.get(&major).unwrap_or(&self.other)
    }

    /// What a device has, when its minor has been decided for all majors, and then its major for all minors.
    fn inherited(&self, major: u32, minor: u32) -> Bits {
        let of_major = self.row(major).other;
        let changed = of_major ^ self.other.other;
        (of_major & changed) | (self.other.get(minor) & !changed)
    }
}

impl Row {
    fn apply(&mut self, rule: &DeviceRule) {
        match rule.devices().minor {
            OrAny::Only(minor) => decide(self.minors.entry(minor).or_insert(self.other), rule),
            OrAny::Any => self.minors.values_mut().chain([&mut self.other]).for_each(|bits| decide(bits, rule)),
        }
    }

    fn prune(&mut self) {
        self.minors.retain(|_, bits| *bits != self.other);
    }

    pub(crate) fn get(&self, minor: u32) -> Bits {
        self.minors.get(&minor).copied().unwrap_or(self.other)
    }
}

/// What a rule makes of what was allowed before, of a device that it is about.
pub(crate) fn decide(allowed: &mut Bits, rule: &DeviceRule) {
    match rule {
        DeviceRule::Allow(devices) => *allowed |= devices.access.bits(),
        DeviceRule::Deny(devices) => *allowed &= !devices.access.bits(),
    }
}

fn keys<'a, V: 'a>(maps: impl IntoIterator<Item = &'a BTreeMap<u32, V>>) -> BTreeSet<u32> {
    maps.into_iter().flat_map(|map| map.keys().copied()).collect()
}

/// What was allowed, and what is to be.
#[derive(Clone, Copy)]
struct Change {
    from: Bits,
    to: Bits,
}

/// The rules that make these changes to character and block devices. What changes for both is one rule.
fn add_rules(rules: &mut Vec<DeviceRule>, major: OrAny<u32>, minor: OrAny<u32>, [char, block]: [Change; 2]) {
    let allowed = [char.to & !char.from, block.to & !block.from];
    let denied = [char.from & !char.to, block.from & !block.to];
    for (rule, [char, block]) in [(DeviceRule::Allow as fn(_) -> _, allowed), (DeviceRule::Deny as fn(_) -> _, denied)]
    {
        let both = char & block;
        let kinds =
            [(OrAny::Any, both), (DeviceKind::Char.into(), char & !both), (DeviceKind::Block.into(), block & !both)];
        for (kind, bits) in kinds {
            let access = DeviceAccess::from_bits(bits);
            rules.extend(access.map(|access| rule(DeviceMatch { kind, major, minor, access })));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DevNum;
    use crate::devices::rules::tests::any_rules;
    use proptest::prelude::*;

    fn normal(text: &str) -> String {
        text.parse::<DeviceRules>().expect("rules").normalised().to_string()
    }

    #[test]
    fn rules_that_say_nothing_new_go() {
        for (rules, wanted) in [
            ("", ""),
            ("deny a *:* rwm", ""),
            ("allow c 1:3 rwm\ndeny a *:* rwm", ""),
            ("deny c 1:3 r\nallow a *:* rwm", "allow a *:* rwm\n"),
            ("allow c 1:3 r\nallow c 1:3 w", "allow c 1:3 rw\n"),
            ("allow c 1:3 rw\ndeny c 1:3 w", "allow c 1:3 r\n"),
            ("allow c 8:0 r\nallow b 8:0 r", "allow a 8:0 r\n"),
            ("allow c 8:0 rw\nallow b 8:0 r", "allow a 8:0 r\nallow c 8:0 w\n"),
            ("allow c 1:* r\nallow c 1:3 r", "allow c 1:* r\n"),
            ("deny c 1:3 w\nallow c 1:* r", "allow c 1:* r\n"),
            ("allow c *:3 r\ndeny c 1:* r", "allow c *:3 r\ndeny c 1:3 r\n"),
            ("deny c 1:* r\nallow c *:3 r", "allow c *:3 r\n"),
            ("allow c 1:* rw\ndeny c *:3 w", "allow c 1:* rw\ndeny c 1:3 w\n"),
        ] {
            assert_eq!(normal(rules), wanted, "{rules:?}");
        }
        let default = DeviceRules::oci_default();
        assert_eq!(default.normalised().rules().len(), default.rules().len() - 1, "c and b of mknod are one");
        assert!(default.normalised().same_meaning(&default));
        assert!(!default.same_meaning(&DeviceRules::deny_all()));
    }

    /// Each number that the rules name, and one that they do not.
    fn numbers(rules: &DeviceRules, number: fn(&DeviceMatch) -> OrAny<u32>) -> Vec<u32> {
        let only = |rule: &DeviceRule| match number(rule.devices()) {
            OrAny::Any => None,
            OrAny::Only(number) => Some(number),
        };
        let mut numbers: BTreeSet<u32> = rules.rules().iter().filter_map(only).collect();
        numbers.insert((0..).find(|number| !numbers.contains(number)).expect("a free number"));
        numbers.into_iter().collect()
    }

    /// What is allowed of all devices between which the rules can tell.
    fn meaning(rules: &DeviceRules, others: &DeviceRules) -> Vec<bool> {
        let all: DeviceRules = rules.rules().iter().chain(others.rules()).copied().collect();
        let mut meaning = Vec::new();
        for kind in [DeviceKind::Char, DeviceKind::Block] {
            for major in numbers(&all, |devices| devices.major) {
                for minor in numbers(&all, |devices| devices.minor) {
                    for access in (1..8).filter_map(DeviceAccess::from_bits) {
                        meaning.push(rules.allows(kind, DevNum { major, minor }, access));
                    }
                }
            }
        }
        meaning
    }

    proptest! {
        #[test]
        fn the_meaning_stays(rules in any_rules(30)) {
            let normal = rules.normalised();
            prop_assert_eq!(meaning(&rules, &normal), meaning(&normal, &rules));
            prop_assert_eq!(normal.normalised(), normal);
        }

        #[test]
        fn what_means_the_same_is_the_same(rules in any_rules(6), others in any_rules(6)) {
            let same = meaning(&rules, &others) == meaning(&others, &rules);
            prop_assert_eq!(rules.same_meaning(&others), same);
            prop_assert_eq!(rules.normalised() == others.normalised(), same);
        }

        /// Such as often mean the same, for random ones seldom do.
        #[test]
        fn what_differs_little_is_told_apart(rules in any_rules(8), swap in any::<prop::sample::Index>()) {
            if rules.rules().len() > 1 {
                let mut swapped = rules.rules().to_vec();
                let at = swap.index(swapped.len() - 1);
                swapped.swap(at, at + 1);
                let swapped: DeviceRules = swapped.into_iter().collect();
                let same = meaning(&rules, &swapped) == meaning(&swapped, &rules);
                prop_assert_eq!(rules.normalised() == swapped.normalised(), same);
            }
        }
    }
}
