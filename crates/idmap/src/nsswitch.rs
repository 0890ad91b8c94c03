//! What the name service switch says of subordinate ids.
#![forbid(unsafe_code)]

/// Where it is said.
pub(crate) const NSSWITCH: &str = "/etc/nsswitch.conf";

/// The service that knows the subordinate ids, if it is not the files: the first word after `subid:`, as newuidmap takes
/// it. One service decides, and what follows it is not looked at.
pub(crate) fn subid_service(content: &[u8]) -> Option<&str> {
    let word = content.split(|&byte| byte == b'\n').find_map(|line| {
        let (key, rest) = line.split_at_checked(b"subid:".len())?;
        let rest = std::str::from_utf8(rest).ok()?;
        if key.eq_ignore_ascii_case(b"subid:") { rest.split_ascii_whitespace().next() } else { None }
    })?;
    // A longer name is taken for a mistake, and the files are read.
    (word != "files" && word.len() <= 50).then_some(word)
}

/// Whether a service may know users that `/etc/passwd` does not have.
pub(crate) fn other_accounts(content: &[u8]) -> bool {
    let line = content.split(|&byte| byte == b'\n').find_map(|line| {
        let (key, rest) = line.trim_ascii_start().split_at_checked(b"passwd:".len())?;
        key.eq_ignore_ascii_case(b"passwd:").then_some(rest)
    });
    // Without a line it is the files. What stands in brackets is about the service before it.
    let mut in_brackets = false;
    String::from_utf8_lossy(line.unwrap_or_default()).split_ascii_whitespace().any(|word| {
        let is_action = in_brackets || word.starts_with('[');
        in_brackets = is_action && !word.ends_with(']');
        !is_action && word != "files"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_of_the_first_line_decides() {
        for (text, service) in [
            ("", None),
            ("passwd: files sss\nsubid: files\n", None),
            ("subid: sss\n", Some("sss")),
            ("subid:\tsss files\n", Some("sss")),
            ("subid: files sss\n", None),
            ("# subid: sss\nSUBID:sss", Some("sss")),
            ("subid:\nsubid:  \nsubid: sss\nsubid: files\n", Some("sss")),
            (" subid: sss\n", None),
            ("subid sss\n", None),
            ("subids: sss\n", None),
            ("subid: this_name_is_longer_than_the_fifty_bytes_of_a_module\n", None),
        ] {
            assert_eq!(subid_service(text.as_bytes()), service, "{text:?}");
        }
        assert_eq!(subid_service(b"\xff\xff\nsubid: \xff\nsubid: sss"), Some("sss"));
    }

    #[test]
    fn only_files_means_that_nobody_else_is_known() {
        for (text, other) in [
            ("", false),
            ("passwd: files\n", false),
            ("passwd: files [NOTFOUND=return success = continue] \n", false),
            ("passwd:\tfiles systemd\n", true),
            ("group: files sss\n PASSWD: sss files", true),
            ("passwd: files [ !success=return ] ldap", true),
        ] {
            assert_eq!(other_accounts(text.as_bytes()), other, "{text:?}");
        }
    }
}
