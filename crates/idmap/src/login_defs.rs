//! `/etc/login.defs`, as far as newuidmap goes by it.
#![forbid(unsafe_code)]

/// The settings of the shadow package.
pub(crate) const LOGIN_DEFS: &str = "/etc/login.defs";

/// Whether newuidmap lets a caller map whose gid is not that of the account: GRANT_AUX_GROUP_SUBIDS. The last line counts.
pub(crate) fn grants_any_group(content: &[u8]) -> bool {
    let value = content.split(|&byte| byte == b'\n').rev().find_map(|line| {
        let line = std::str::from_utf8(line).ok()?.trim_start();
        let rest = line.strip_prefix("GRANT_AUX_GROUP_SUBIDS")?;
        rest.starts_with([' ', '\t']).then(|| rest.trim_start_matches([' ', '\t', '"']))
    });
    value.is_some_and(|value| value.split('"').next().is_some_and(|word| word.trim_end().eq_ignore_ascii_case("yes")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_last_line_says() {
        for (text, granted) in [
            ("", false),
            ("GRANT_AUX_GROUP_SUBIDS yes\n", true),
            ("  GRANT_AUX_GROUP_SUBIDS\t\"Yes\" # why\n", true),
            ("#GRANT_AUX_GROUP_SUBIDS yes\n", false),
            ("GRANT_AUX_GROUP_SUBIDS no\n", false),
            ("GRANT_AUX_GROUP_SUBIDSyes\n", false),
            ("GRANT_AUX_GROUP_SUBIDS yes\nGRANT_AUX_GROUP_SUBIDS no", false),
        ] {
            assert_eq!(super::grants_any_group(text.as_bytes()), granted, "{text:?}");
        }
    }
}
