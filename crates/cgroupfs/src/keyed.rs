//! The two shapes of the kernel's keyed files.
//!
//! A file whose keys are known is declared once, by [`flat_keyed!`], as a struct. Reading one takes a pass over the text:
//! the kernel writes the keys in the same order each time, so the next key is nearly always the one that is looked at first.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::{Error, Result, words};

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
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#format>.
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
///
/// See <https://docs.kernel.org/admin-guide/cgroup-v2.html#format>.
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
    /// Forgets all numbers, but not the memory of `other`.
    fn reset(&mut self);
    fn set(&mut self, index: usize, number: u64);
    fn other(&mut self) -> &mut BTreeMap<String, u64>;
}

/// Reads `text` into `stat`, whose former content is lost. What was read into before is read into again without an
/// allocation, as long as the keys are the same.
pub(crate) fn read_flat_keyed<T: FlatKeyed>(text: &[u8], stat: &mut T) -> Result<()> {
    stat.reset();
    let (mut seen, mut next, mut others) = (0u128, 0, 0);
    let mut rest = text;
    while !rest.is_empty() {
        // The kernel writes the keys in the same order each time.
        let expected = T::KEYS.get(next).and_then(|known| after_key(rest, known.0.as_bytes())).and_then(number_line);
        if let Some((number, after)) = expected {
            stat.set(next, number);
            seen |= 1 << next;
            next += 1;
            rest = after;
            continue;
        }
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let (line, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        rest = after.get(1..).unwrap_or_default();
        if line.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0) {
            continue;
        }
        let Some((key, number)) = key_and_number(line) else {
            let line = String::from_utf8_lossy(line);
            return Err(Error::parse(T::PARSE, format!("{line:?} is not KEY NUMBER")));
        };
        match T::KEYS.iter().position(|known| known.0 == key) {
            Some(index) => {
                stat.set(index, number);
                seen |= 1 << index;
                next = index + 1;
            }
            None => {
                others += 1;
                match stat.other().get_mut(key) {
                    Some(known) => *known = number,
                    None => drop(stat.other().insert(key.to_owned(), number)),
                }
            }
        }
    }
    if stat.other().len() > others {
        // Some are of a former reading.
        forget_others(text, stat);
    }
    match T::KEYS.iter().enumerate().find(|(index, known)| known.1 && seen & (1 << index) == 0) {
        Some((_, (key, _))) => Err(Error::parse(T::PARSE, format!("there is no key {key:?}"))),
        None => Ok(()),
    }
}

/// Leaves in `other` what `text` has.
#[cold]
fn forget_others<T: FlatKeyed>(text: &[u8], stat: &mut T) {
    let lines = text.split(|byte| *byte == b'\n').filter_map(key_and_number);
    let keys: std::collections::BTreeSet<&str> = lines.map(|(key, _)| key).collect();
    stat.other().retain(|key, _| keys.contains(&**key));
}

/// What follows `KEY ` at the beginning of `text`.
fn after_key<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    text.strip_prefix(key)?.strip_prefix(b" ")
}

/// The number that is the rest of the line, and the lines after it.
fn number_line(text: &[u8]) -> Option<(u64, &[u8])> {
    let (mut number, mut rest) = (0u64, text);
    loop {
        match rest {
            [digit @ b'0'..=b'9', after @ ..] => {
                number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
                rest = after;
            }
            [b'\n', after @ ..] if rest.len() < text.len() => return Some((number, after)),
            [] if !text.is_empty() => return Some((number, rest)),
            _ => return None,
        }
    }
}

fn key_and_number(line: &[u8]) -> Option<(&str, u64)> {
    let (key, number) = std::str::from_utf8(line).ok()?.trim_end_matches('\0').split_once(' ')?;
    Some((key, words::number(number.trim())?))
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

        impl $name {
            /// The keys and numbers in the kernel's words and order, `other` last: for whoever passes all of them on. What
            /// the kernel did not write is left out.
            pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
                let declared = [$(($key, $crate::keyed::Count::number(&self.$field)),)+];
                let declared = declared.into_iter().filter_map(|(key, number)| Some((key, number?)));
                declared.chain(self.other.iter().map(|(key, number)| (key.as_str(), *number)))
            }
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

                fn reset(&mut self) {
                    $(self.$field = Default::default();)+
                }

                fn other(&mut self) -> &mut std::collections::BTreeMap<String, u64> {
                    &mut self.other
                }
            }

            /// Prints as the kernel's file: a line for each key, those that are not declared last.
            impl std::fmt::Display for $name {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    self.iter().try_for_each(|(key, number)| writeln!(f, "{key} {number}"))
                }
            }

            impl std::str::FromStr for $name {
                type Err = $crate::Error;

                /// Reads what the kernel's file holds. What is not `KEY NUMBER`, or lacks a key that every kernel since
                /// 5.15 writes, is an error of kind Parse.
                fn from_str(text: &str) -> $crate::Result<Self> {
                    let mut stat = Self::default();
                    $crate::keyed::read_flat_keyed(text.as_bytes(), &mut stat)?;
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

    flat_keyed! {
        /// Of no file.
        Sample of "sample" {
            /// Needed.
            a: u64 = "a",
            /// Newer.
            b: Option<u64> = "b",
            /// Needed.
            c: bool = "c",
        }
    }

    #[test]
    fn what_is_read_into_again_has_nothing_of_before() {
        let mut sample = Sample::default();
        read_flat_keyed(b"a 1\nb 2\nc 1\nx 3\ny 4\n", &mut sample).expect("full");
        assert_eq!((sample.a, sample.b, sample.c, sample.other.len()), (1, Some(2), true, 2));
        read_flat_keyed(b"y 5\nc 0\na 18446744073709551615", &mut sample).expect("another order");
        assert_eq!((sample.a, sample.b, sample.c), (u64::MAX, None, false));
        assert_eq!(sample.other, BTreeMap::from([("y".to_owned(), 5)]));
        for text in ["a 1\n", "a +1\nc 1\n", "a \nc 1\n", "a\nc 1\n", "a 18446744073709551616\nc 1", "a 1 2\nc 1"] {
            assert_eq!(read_flat_keyed(text.as_bytes(), &mut sample).expect_err(text).kind(), ErrorKind::Parse);
        }
        assert_eq!("a 1\nc 1\n\n\0".parse::<Sample>().expect("trailing").a, 1);
    }

    proptest! {
        #[test]
        fn a_declared_file_says_what_the_public_parser_says(text in "([abcxy] [0-9]{1,3}\n){0,8}") {
            let all = parse_flat_keyed(&text).unwrap();
            match text.parse::<Sample>() {
                Ok(sample) => {
                    prop_assert_eq!(sample.a, all["a"]);
                    prop_assert_eq!(sample.b, all.get("b").copied());
                    prop_assert_eq!(sample.c, all["c"] != 0);
                    let keys: Vec<&str> = sample.iter().map(|(key, _)| key).collect();
                    prop_assert!(keys.len() == all.len() && keys.iter().all(|key| all.contains_key(*key)));
                    let known = ["a", "b", "c"];
                    prop_assert!(sample.other.iter().all(|(key, value)| all[key] == *value));
                    prop_assert_eq!(sample.other.len(), all.keys().filter(|key| !known.contains(&&***key)).count());
                }
                Err(_) => prop_assert!(!all.contains_key("a") || !all.contains_key("c")),
            }
        }

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
            let _ = (parse_flat_keyed(&text), parse_nested_keyed(&text), text.parse::<Sample>());
        }
    }
}
