//! Rows of `/etc/passwd`.
#![forbid(unsafe_code)]

use std::path::Path;

use cellkit_core::{Error, Result, Subject};

use crate::{decimal, etc_file};

/// A user of this machine: whom `/etc/subuid` gives ranges to.
///
/// For a program that makes containers for others; for oneself there is [`Caller`](crate::Caller), which is a user too.
/// It comes from `/etc/passwd` alone: users that only a name service knows (LDAP, sssd, systemd-homed) are found by
/// [`with_uid`](Self::with_uid), and have no name then.
///
/// ```
/// use idmap::{SubIds, User};
///
/// let root = User::find("root")?;
/// assert_eq!((root.uid(), root.gid(), root.name()), (0, Some(0), Some("root")));
/// println!("root may give away {:?}", SubIds::of(&root)?.uids());
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// See passwd(5): <https://man7.org/linux/man-pages/man5/passwd.5.html>.
#[doc(alias = "passwd")]
#[doc(alias = "getpwnam")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub(crate) uid: u32,
    /// The group of the first name.
    pub(crate) gid: Option<u32>,
    /// Its names: the first is the one that newuidmap goes by, the others are accounts that share the uid.
    pub(crate) names: Vec<String>,
}

/// More names than this share a uid only in a file made to hurt.
const MAX_NAMES: usize = 64;

impl User {
    /// The user of this name, or else of this number, as chown(1) takes it: a name may be a number.
    ///
    /// # Errors
    /// NotFound when `/etc/passwd` has neither; those of open(2) and read(2); Parse for a file of more than 64 MiB, and
    /// Invalid for one that is not a regular file.
    ///
    /// ```
    /// use idmap::{ErrorKind, User};
    ///
    /// assert_eq!(User::find("0")?.name(), Some("root"));
    /// assert_eq!(User::find("no such user").map_err(|error| error.kind()), Err(ErrorKind::NotFound));
    /// # Ok::<(), idmap::Error>(())
    /// ```
    pub fn find(name_or_number: &str) -> Result<Self> {
        let passwd = etc_file::read(Path::new(PASSWD))?;
        let by_name = rows(&passwd).find(|row| row.name == name_or_number).map(|row| row.uid);
        let by_number = || decimal::parse(name_or_number).filter(|&uid| rows(&passwd).any(|row| row.uid == uid));
        let Some(uid) = by_name.or_else(by_number) else {
            let shown: String = name_or_number.chars().take(80).collect();
            return Err(Error::from_errno("look up user", libc::ENOENT).on(Subject::Value(shown)).with_hint(
                "/etc/passwd has no row of it; a user that only a name service knows goes by its number: id -u NAME",
            ));
        };
        let mut user = Self::from_passwd(&passwd, uid);
        // The name that was asked for is the one to go by.
        if let Some(index) = user.names.iter().position(|name| name == name_or_number) {
            user.names.swap(0, index);
        }
        Ok(user)
    }

    /// The user of this number, with the names and the group that `/etc/passwd` has for it, if any.
    ///
    /// # Errors
    /// As [`find`](Self::find), but a number without a row is no error.
    pub fn with_uid(uid: u32) -> Result<Self> {
        Ok(Self::from_passwd(&etc_file::read(Path::new(PASSWD))?, uid))
    }

    /// The user of `uid` by the content of `/etc/passwd`. Rows that are not rows are left out, as the C library does.
    pub(crate) fn from_passwd(content: &[u8], uid: u32) -> Self {
        let mut user = Self { uid, gid: None, names: Vec::new() };
        for row in rows(content).filter(|row| row.uid == uid) {
            user.gid.get_or_insert(row.gid);
            if user.names.len() < MAX_NAMES && !user.names.iter().any(|name| name == row.name) {
                user.names.push(row.name.to_owned());
            }
        }
        if user.names.len() > 1 {
            // A name stands for the uid of its first row; newuidmap's own lookup is by uid, which the first name is of.
            let (first, mut others) = (user.names.swap_remove(0), std::mem::take(&mut user.names));
            others.retain(|name| rows(content).find(|row| row.name == name).is_some_and(|row| row.uid == uid));
            user.names = std::iter::once(first).chain(others).collect();
        }
        user
    }

    /// The number.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The group of the account, if there is one.
    #[must_use]
    pub fn gid(&self) -> Option<u32> {
        self.gid
    }

    /// The name, if there is one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.names.first().map(String::as_str)
    }

    /// The first field of a row of `/etc/subuid` for this user: the name, or else the number.
    pub(crate) fn subid_owner(&self) -> String {
        self.name().map_or_else(|| self.uid.to_string(), str::to_owned)
    }
}

impl AsRef<Self> for User {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// Where the accounts of the machine are.
pub(crate) const PASSWD: &str = "/etc/passwd";

/// A row of `/etc/passwd`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The rows of `/etc/passwd` that name an account.
pub(crate) fn rows(content: &[u8]) -> impl Iterator<Item = Row<'_>> {
    lines(content).filter_map(|(name, mut rest)| {
        let _password = rest.next()?;
        Some(Row { name, uid: decimal::parse(rest.next()?)?, gid: decimal::parse(rest.next()?)? })
    })
}

/// The names and gids of `/etc/group`.
pub(crate) fn groups(content: &[u8]) -> impl Iterator<Item = (&str, u32)> {
    lines(content).filter_map(|(name, mut rest)| {
        let _password = rest.next()?;
        Some((name, decimal::parse(rest.next()?)?))
    })
}

/// The first field of each line, a name, and the others.
fn lines(content: &[u8]) -> impl Iterator<Item = (&str, std::str::Split<'_, char>)> {
    content.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut fields = std::str::from_utf8(line).ok()?.split(':');
        let name = fields.next()?;
        // "+" and "-" rows belong to the compat service, not to accounts.
        let plain = !name.is_empty() && !name.starts_with(['+', '-', '#']);
        plain.then_some((name, fields))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_uid_in_order() {
        let text = b"root:x:0:0::/root:/bin/sh\n# x:x:1:1\nbad\n:x:1:9::\nann:x:1000:1000::/:\n\xff:x:1000:1::\n\
                     +nis:x:1000:2::\nalso:x:1000:50::/:\nbob:x:1001:1001::/:";
        let user = User::from_passwd(text, 1000);
        assert_eq!((user.names.as_slice(), user.gid()), (["ann".to_owned(), "also".to_owned()].as_slice(), Some(1000)));
        assert_eq!(User::from_passwd(text, 7), User { uid: 7, gid: None, names: vec![] });
        assert_eq!(User::from_passwd(text, 1001).names, ["bob"], "a last line without newline");
        assert_eq!(User::from_passwd(text, 1).name(), None, "an empty name, a comment");
    }

    #[test]
    fn a_name_is_that_of_its_first_row() {
        let text =
            b"ann:x:1000:1000::/:\nbob:x:1001:1001::/:\nbob:x:1000:1000::/:\nann:x:1000:7::/:\neve:x:1000:7::/:\n";
        assert_eq!(User::from_passwd(text, 1000).names, ["ann", "eve"]);
        assert_eq!(User::from_passwd(text, 1001).names, ["bob"]);
    }

    #[test]
    fn groups_have_their_number_in_the_third_field() {
        let text = b"root:x:0:\nann:x:1000:bob,eve\nbad:x\n#x:x:1:\nlast:x:7";
        assert_eq!(groups(text).collect::<Vec<_>>(), [("root", 0), ("ann", 1000), ("last", 7)]);
    }
}
