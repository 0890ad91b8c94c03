//! `--user`: names and numbers, looked up in the container's own `/etc/passwd` and `/etc/group`.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Read};

use cellkit_core::{Error, Result, Subject};
use mountkit::RootFd;

/// Whom the payload runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Supplementary groups inside.
    pub groups: Vec<u32>,
    /// Home directory, if the user is known.
    pub home: Option<String>,
}

impl User {
    /// Root, where no file needs to be read.
    #[must_use]
    pub fn root() -> Self {
        Self { uid: 0, gid: 0, groups: Vec::new(), home: Some("/root".into()) }
    }

    /// Reads `NAME|UID[:GROUP|GID]`. The files of `root` are hostile: never more than 1 MiB of them is read, and only from
    /// regular files.
    ///
    /// # Errors
    /// Invalid for a name that the files do not have, or a number that is no id.
    pub fn parse(text: &str, root: &RootFd) -> Result<Self> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let fail = |why: &'static str| Error::invalid("--user", why).on(Subject::Value(text.to_owned()));
        if user.is_empty() || group == Some("") {
            return Err(fail("write NAME, UID, NAME:GROUP or UID:GID"));
        }
        let entry = Entry::find(&lines(root, "etc/passwd"), user);
        let number = id(user).map_err(fail)?;
        let uid = match (number, &entry) {
            (Some(uid), _) => uid,
            (None, Some(entry)) => entry.number(2).ok_or_else(|| fail("its line in /etc/passwd has no user id"))?,
            (None, None) => return Err(fail("there is no such user in the container's /etc/passwd")),
        };
        let primary = entry.as_ref().and_then(|entry| entry.number(3));
        let groups = lines(root, "etc/group");
        let gid = match group {
            None => primary.unwrap_or(0),
            Some(group) => match id(group).map_err(fail)? {
                Some(gid) => gid,
                None => Entry::find(&groups, group)
                    .and_then(|entry| entry.number(2))
                    .ok_or_else(|| fail("there is no such group in the container's /etc/group"))?,
            },
        };
        let name = entry.as_ref().map_or(user, |entry| entry.field(0));
        let member = |entry: &Entry| entry.field(3).split(',').any(|member| member == name);
        // As login does, and only when no group was named.
        let groups = match group {
            Some(_) => Vec::new(),
            None => groups.iter().filter(|entry| member(entry)).filter_map(|entry| entry.number(2)).collect(),
        };
        let home = entry.map(|entry| entry.field(5).to_owned()).filter(|home| home.starts_with('/'));
        Ok(Self { uid, gid, groups, home })
    }
}

/// A number as an id: `None` for a name; an error for a number that is no id.
fn id(text: &str) -> std::result::Result<Option<u32>, &'static str> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return if text.starts_with(['-', '+']) { Err("an id is a number from 0 to 4294967294") } else { Ok(None) };
    }
    match text.parse::<u32>() {
        Ok(id) if id != u32::MAX => Ok(Some(id)),
        _ => Err("an id is a number from 0 to 4294967294"),
    }
}

/// A line of passwd(5) or group(5), split at its colons.
#[derive(Clone, Debug)]
struct Entry(Vec<String>);

impl Entry {
    fn field(&self, index: usize) -> &str {
        self.0.get(index).map_or("", String::as_str)
    }

    fn number(&self, index: usize) -> Option<u32> {
        self.field(index).parse().ok().filter(|id| *id != u32::MAX)
    }

    /// By name; by number where no name matches.
    fn find(entries: &[Self], key: &str) -> Option<Self> {
        let by = |index: usize| entries.iter().find(|entry| entry.field(index) == key && !key.is_empty());
        by(0).or_else(|| by(2)).cloned()
    }
}

/// The entries of a file of the root, which need not have it.
fn lines(root: &RootFd, path: &str) -> Vec<Entry> {
    const MOST: u64 = 1 << 20;
    let Ok(file) = root.open_file(path) else { return Vec::new() };
    BufReader::new(file.take(MOST))
        .split(b'\n')
        .map_while(std::result::Result::ok)
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .filter(|line| !line.starts_with('#') && line.contains(':'))
        .map(|line| Entry(line.split(':').map(str::to_owned).collect()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use faultkit::TempDir;

    fn root(passwd: &str, group: &str) -> (TempDir, RootFd) {
        let dir = TempDir::new();
        std::fs::create_dir(dir.path().join("etc")).expect("etc");
        std::fs::write(dir.path().join("etc/passwd"), passwd).expect("passwd");
        std::fs::write(dir.path().join("etc/group"), group).expect("group");
        let root = RootFd::open(dir.path()).expect("root");
        (dir, root)
    }

    #[test]
    fn names_numbers_and_groups() {
        let (_dir, root) = root(
            "root:x:0:0::/root:/bin/sh\nweb:x:33:34:a b:/srv/web:/bin/sh\n",
            "root:x:0:\nwww:x:34:\nlog:x:4:root,web\nadm:x:5:webber\n",
        );
        let user = |text| User::parse(text, &root);
        let web = User { uid: 33, gid: 34, groups: vec![4], home: Some("/srv/web".into()) };
        assert_eq!(user("web").expect("web"), web);
        assert_eq!(user("33").expect("33"), web);
        assert_eq!(user("web:log").expect("web:log"), User { gid: 4, groups: vec![], ..web.clone() });
        assert_eq!(user("web:7").expect("web:7").gid, 7);
        assert_eq!(user("1000").expect("1000"), User { uid: 1000, gid: 0, groups: vec![], home: None });
        assert_eq!(user("1000:1001").expect("1000:1001").gid, 1001);
        assert_eq!(user("0").expect("0").home.as_deref(), Some("/root"));
    }

    #[test]
    fn what_is_no_user_is_never_root() {
        let (_dir, root) = root("bad:x:-1:0::/:\nmax:x:4294967295:0::/:\n:x:0:0::/:\n", "");
        for text in
            ["", ":", "1:", ":1", "-1", "+1", "4294967295", "4294967296", "1:2:3", "nobody", "bad", "max", "1 ", "1:x"]
        {
            let error = User::parse(text, &root).expect_err(text);
            assert_eq!(error.operation(), "--user", "{text}");
        }
    }

    #[test]
    fn files_that_are_not_files_are_not_read() {
        let (dir, root) = root("", "");
        let passwd = dir.path().join("etc/passwd");
        std::fs::remove_file(&passwd).expect("remove");
        nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
        assert_eq!(User::parse("5", &root).expect("a number needs no file").uid, 5);
        assert!(User::parse("web", &root).is_err());
    }
}
