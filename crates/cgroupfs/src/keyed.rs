//! The two shapes of the kernel's keyed files.
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
