//! The options of a kind of link as netlink attributes: collected by setters, compared with what there is.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use netlink_packet_core::Nla;

use crate::attr::{self, Writer};

/// The two upper bits of an attribute's type are flags.
const TYPE_MASK: u16 = 0x3fff;

/// Whether what was asked for (first) is what there is, for an attribute of this type.
pub(crate) type Same = fn(u16, &[u8], &[u8]) -> bool;

/// Equal to the byte: right for all that the kernel answers as it was given.
pub(crate) fn equal(_: u16, asked: &[u8], found: &[u8]) -> bool {
    asked == found
}

/// What was asked for, by the attribute's type: of each the last one counts, and nothing else is ever sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options(BTreeMap<u16, Vec<u8>>);

impl Options {
    pub(crate) fn set(&mut self, option: &impl Nla) {
        let mut value = vec![0; option.value_len()];
        option.emit_value(&mut value);
        self.put(option.kind(), value);
    }

    /// For an attribute that netlink-packet-route does not have, or has wrong.
    pub(crate) fn put(&mut self, kind: u16, value: Vec<u8>) {
        self.0.insert(kind & TYPE_MASK, value);
    }

    pub(crate) fn remove(&mut self, kind: u16) {
        self.0.remove(&kind);
    }

    pub(crate) fn get(&self, kind: u16) -> Option<&[u8]> {
        self.0.get(&kind).map(Vec::as_slice)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        for (kind, value) in &self.0 {
            writer.put(*kind, value);
        }
    }

    /// Those that are not what the kernel's list has already. What it does not tell counts as different.
    pub(crate) fn differing(&self, found: &[u8], same: Same) -> Self {
        let differs = |(kind, asked): &(&u16, &Vec<u8>)| match attr::find(found, **kind) {
            Some(value) => !same(**kind, asked, value),
            None => true,
        };
        Self(self.0.iter().filter(differs).map(|(kind, value)| (*kind, value.clone())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::DefaultNla;
    use proptest::prelude::*;

    proptest! {
        /// What was written is read back, the last of each type; and it does not differ from itself.
        #[test]
        fn the_last_of_each_type_is_sent(list in prop::collection::vec((1u16..9, prop::collection::vec(any::<u8>(), 0..20)), 0..20)) {
            let mut options = Options::default();
            for (kind, value) in &list {
                options.set(&DefaultNla::new(*kind, value.clone()));
            }
            let mut writer = Writer::new(&[]);
            options.write(&mut writer);
            let bytes = writer.finish().unwrap();
            for (kind, _) in &list {
                let last = list.iter().rev().find(|(other, _)| other == kind).map(|(_, value)| value.as_slice());
                prop_assert_eq!(attr::find(&bytes, *kind), last);
            }
            prop_assert!(options.differing(&bytes, equal).is_empty());
            prop_assert_eq!(&options.differing(&[], equal), &options);
        }
    }
}
