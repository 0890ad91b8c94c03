//! Rows of `/etc/passwd`.
#![forbid(unsafe_code)]

use crate::decimal;

/// What `/etc/passwd` says of one uid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    /// Its names: the first is the one that newuidmap goes by, the others are accounts that share the uid.
    pub(crate) names: Vec<String>,
    /// The group of the first name.
    pub(crate) primary_gid: Option<u32>,
}

/// More names than this share a uid only in a file made to hurt.
const MAX_NAMES: usize = 64;

/// The account of `uid`. Rows that are not rows are left out, as the C library does.
pub(crate) fn account(content: &[u8], uid: u32) -> Account {
    let mut account = Account::default();
    for line in content.split(|&byte| byte == b'\n') {
        let Some((name, row_uid, gid)) = row(line) else { continue };
        if row_uid == uid && account.names.len() < MAX_NAMES {
            account.primary_gid.get_or_insert(gid);
            account.names.push(name.to_owned());
        }
    }
    account
}

fn row(line: &[u8]) -> Option<(&str, u32, u32)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.split(':');
    let (name, _password, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    // "+" and "-" rows belong to the compat service, not to accounts.
    let plain = !name.is_empty() && !name.starts_with(['+', '-', '#']);
    plain.then_some((name, decimal::parse(uid)?, decimal::parse(gid)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_uid_in_order() {
        let text = b"root:x:0:0::/root:/bin/sh\n# x:x:1:1\nbad\n:x:1:9::\nann:x:1000:1000::/:\n\xff:x:1000:1::\n\
                     +nis:x:1000:2::\nalso:x:1000:50::/:\nbob:x:1001:1001::/:";
        let account = account(text, 1000);
        assert_eq!(account.names, ["ann", "also"]);
        assert_eq!(account.primary_gid, Some(1000));
        assert_eq!(super::account(text, 7), Account::default());
        assert_eq!(super::account(text, 1001).names, ["bob"], "a last line without newline");
        assert_eq!(super::account(text, 1), Account::default(), "an empty name, a comment");
    }
}
