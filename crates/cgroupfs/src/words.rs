//! What the kernel's files are made of: words and numbers.
#![forbid(unsafe_code)]

use std::str::FromStr;

/// Whether it is a number as the kernel writes it: digits, at least one, and no sign.
pub(crate) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A whole number. `str::parse` by itself would take a sign.
pub(crate) fn number<T: FromStr>(text: &str) -> Option<T> {
    if is_digits(text) { text.parse().ok() } else { None }
}

/// The first word of a line, and what is after it.
pub(crate) fn split(line: &str) -> (&str, &str) {
    let line = line.trim();
    let (key, value) = line.split_once(|space: char| space.is_ascii_whitespace()).unwrap_or((line, ""));
    (key, value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_first_words() {
        assert_eq!((number::<u8>("0255"), number::<u8>("256")), (Some(255), None));
        for text in ["", "+1", "-1", " 1", "1 ", "1.0", "0x1", "\u{0661}"] {
            assert_eq!(number::<u64>(text), None, "{text:?}");
        }
        assert_eq!((split(" a \t b c\n"), split("a"), split("")), (("a", "b c"), ("a", ""), ("", "")));
    }
}
