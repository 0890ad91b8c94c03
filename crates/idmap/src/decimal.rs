//! Decimal numbers as the kernel and the files of /etc write them.
#![forbid(unsafe_code)]

/// A number of decimal digits only: no sign, no blank, nothing beyond a u32. (`str::parse` takes `+1`.)
pub(crate) fn parse(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_digits_that_fit() {
        assert_eq!(super::parse("0"), Some(0));
        assert_eq!(super::parse("4294967295"), Some(u32::MAX));
        for wrong in ["", "+1", "-1", " 1", "1 ", "0x10", "4294967296", "99999999999999999999", "\u{0663}"] {
            assert_eq!(super::parse(wrong), None, "{wrong:?}");
        }
    }
}
