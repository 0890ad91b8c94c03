//! The two shapes of the kernel's keyed files.
//!
//! A file whose keys are known is declared once, by [`flat_keyed!`], as a struct. Reading one takes a pass over the text:
//! the kernel writes the keys in the same order each time, so the next key is nearly always the one that is looked at first.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::{Error, Result};

/// Reads a flat-keyed file: lines of `KEY VALUE`, such as `memory.events`.
///
/// ```
/// let events = cgroupfs::parse_flat_keyed("populated 1\nfrozen 0\n")?;
/// assert_eq!(events["populated"], 1);
/// # Ok::<(), cgroupfs::Error>(())
/// ```
///
/// # Errors
/// Parse, when a line is not a key and a number below 2^64.
pub fn parse_flat_keyed(text: &str) -> Result<BTreeMap<String, u64>> {
    lines(text)
        .map(|line| {
            let mut words = line.split_ascii_whitespace();
            match (words.next(), words.next().map(str::parse::<u64>), words.next()) {
                (Some(key), Some(Ok(value)), None) => Ok((key.to_owned(), value)),
                _ => Err(Error::parse("parse flat-keyed file", format!("{line:?} is not KEY NUMBER"))),
            }
        })
        .collect()
}

/// Reads a nested-keyed file: lines of `KEY NAME=VALUE NAME=VALUE`, such as `io.max` and `io.stat`.
///
/// The values are kept as text, for some are `max`, or a number with a fraction. A word without `=` (the kernel writes
/// `(unknown)` for a device that is gone) is the name of an empty value.
///
/// ```
/// let limits = cgroupfs::parse_nested_keyed("8:16 rbps=2097152 wbps=max\n");
/// assert_eq!(limits["8:16"]["wbps"], "max");
/// ```
#[must_use]
pub fn parse_nested_keyed(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut keys = BTreeMap::<_, BTreeMap<_, _>>::new();
    for line in lines(text) {
        let mut words = line.split_ascii_whitespace();
        if let Some(key) = words.next() {
            let pairs = words.map(|word| word.split_once('=').unwrap_or((word, "")));
            keys.entry(key.to_owned())
                .or_default()
                .extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
    }
    keys
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.trim_end_matches('\0')).filter(|line| !line.trim().is_empty())
}

/// A number of a flat-keyed file, as a field has it.
pub(crate) trait Count: Default {
    /// Whether every kernel since 5.15 writes the key.
    const NEEDED: bool;
    fn of(number: u64) -> Self;
    /// Nothing where the kernel wrote no such key.
    fn number(&self) -> Option<u64>;
}

impl Count for u64 {
    const NEEDED: bool = true;
    fn of(number: u64) -> Self {
        number
    }
    fn number(&self) -> Option<u64> {
        Some(*self)
    }
}

impl Count for Option<u64> {
    const NEEDED: bool = false;
    fn of(number: u64) -> Self {
        Some(number)
    }
    fn number(&self) -> Option<u64> {
        *self
    }
}

impl Count for bool {
    const NEEDED: bool = true;
    fn of(number: u64) -> Self {
        number != 0
    }
    fn number(&self) -> Option<u64> {
        Some(u64::from(*self))
    }
}

impl Count for Option<bool> {
    const NEEDED: bool = false;
    fn of(number: u64) -> Self {
        Some(number != 0)
    }
    fn number(&self) -> Option<u64> {
        self.map(u64::from)
    }
}

/// A struct that [`flat_keyed!`] declares.
pub(crate) trait FlatKeyed: Default {
    /// `parse memory.events`
    const PARSE: &'static str;
    /// The keys in the kernel's order, and whether each is needed.
    const KEYS: &'static [(&'static str, bool)];
    fn set(&mut self, index: usize, number: u64);
    fn keep(&mut self, key: &str, number: u64);
}

/// Reads `text` into `stat`, whose former content is lost.
pub(crate) fn read_flat_keyed<T: FlatKeyed>(text: &str, stat: &mut T) -> Result<()> {
    *stat = T::default();
    let mut seen = 0u128;
    let mut next = 0;
    for line in lines(text) {
        let entry = line.split_once(' ').and_then(|(key, number)| Some((key, number.trim().parse::<u64>().ok()?)));
        let Some((key, number)) = entry else {
            return Err(Error::parse(T::PARSE, format!("{line:?} is not KEY NUMBER")));
        };
        let (before, after) = T::KEYS.split_at_checked(next).unwrap_or((T::KEYS, &[]));
        let found = after.iter().position(|known| known.0 == key).map(|position| next + position);
        match found.or_else(|| before.iter().position(|known| known.0 == key)) {
            Some(index) => {
                stat.set(index, number);
                seen |= 1 << index;
                next = index + 1;
            }
            None => stat.keep(key, number),
        }
    }
    match T::KEYS.iter().enumerate().find(|(index, known)| known.1 && seen & (1 << index) == 0) {
        Some((_, (key, _))) => Err(Error::parse(T::PARSE, format!("there is no key {key:?}"))),
        None => Ok(()),
    }
}

/// Declares the struct of a flat-keyed file, at most 128 keys. A field is a `u64` or `bool`, which every kernel since 5.15
/// writes, or an `Option` of one. Keys that are not declared are kept in `other`.
macro_rules! flat_keyed {
    (
        $(#[$doc:meta])*
        $name:ident of $file:literal {
            $($(#[$field_doc:meta])* $field:ident: $kind:ty = $key:literal,)+
        }
    ) => {
        $(#[$doc])*
        #[doc(alias = $file)]
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $kind,)+
            /// Keys that this version of the library does not know.
            pub other: std::collections::BTreeMap<String, u64>,
        }

        const _: () = {
            #[allow(non_camel_case_types)]
            enum Index {
                $($field,)+
            }

            impl $crate::keyed::FlatKeyed for $name {
                const PARSE: &'static str = concat!("parse ", $file);
                const KEYS: &'static [(&'static str, bool)] =
                    &[$(($key, <$kind as $crate::keyed::Count>::NEEDED),)+];

                fn set(&mut self, index: usize, number: u64) {
                    match index {
                        $(index if index == Index::$field as usize => {
                            self.$field = $crate::keyed::Count::of(number);
                        })+
                        _ => {}
                    }
                }

                fn keep(&mut self, key: &str, number: u64) {
                    self.other.insert(key.to_owned(), number);
                }
            }

            /// Prints as the kernel's file: a line for each key, those that are not declared last.
            impl std::fmt::Display for $name {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    $(if let Some(number) = $crate::keyed::Count::number(&self.$field) {
                        writeln!(f, concat!($key, " {}"), number)?;
                    })+
                    self.other.iter().try_for_each(|(key, number)| writeln!(f, "{key} {number}"))
                }
            }

            impl std::str::FromStr for $name {
                type Err = $crate::Error;

                /// Reads what the kernel's file holds. What is not `KEY NUMBER`, or lacks a key that every kernel since
                /// 5.15 writes, is an error of kind Parse.
                fn from_str(text: &str) -> $crate::Result<Self> {
                    let mut stat = Self::default();
                    $crate::keyed::read_flat_keyed(text, &mut stat)?;
                    Ok(stat)
                }
            }
        };
    };
}
pub(crate) use flat_keyed;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::collection::btree_map;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_flat_keyed_file() {
        for text in ["populated", "populated 1 2", "populated -1", "populated x", "a 18446744073709551616"] {
            assert_eq!(parse_flat_keyed(text).expect_err(text).kind(), ErrorKind::Parse);
        }
        assert_eq!(parse_flat_keyed("").expect("empty").len(), 0);
        assert_eq!(parse_flat_keyed("a 1\n\n\0").expect("trailing").len(), 1);
    }

    #[test]
    fn a_device_that_is_gone() {
        let stat = parse_nested_keyed("(unknown) rbytes=1\n8:0 rbytes=2 cost.usage=1.5\n8:16 \n");
        assert_eq!(stat["(unknown)"]["rbytes"], "1");
        assert_eq!(stat["8:0"]["cost.usage"], "1.5");
        assert!(stat["8:16"].is_empty());
        assert_eq!(parse_nested_keyed("8:0 (unknown)")["8:0"]["(unknown)"], "");
    }

    proptest! {
        #[test]
        fn flat_files_round_trip(keys in btree_map("[a-z_.]{1,12}", any::<u64>(), 0..12)) {
            let text: String = keys.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
            prop_assert_eq!(parse_flat_keyed(&text).unwrap(), keys);
        }

        #[test]
        fn nested_files_round_trip(
            keys in btree_map("[0-9]{1,3}:[0-9]{1,3}", btree_map("[a-z.]{1,8}", "[0-9]{1,8}|max", 0..5), 0..6),
        ) {
            let mut text = String::new();
            for (key, pairs) in &keys {
                text += key;
                pairs.iter().for_each(|(name, value)| text += &format!(" {name}={value}"));
                text += "\n";
            }
            prop_assert_eq!(parse_nested_keyed(&text), keys);
        }

        #[test]
        fn no_text_panics(text in "[ -~\n\0]*") {
            let _ = (parse_flat_keyed(&text), parse_nested_keyed(&text));
        }
    }
}
