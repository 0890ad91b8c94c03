//! All rows of `/etc/subuid` and `/etc/subgid`: who may map which ids of this machine.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use cellkit_core::Result;

use super::row;
use crate::id_kind::IdKind;
use crate::user::{self, PASSWD};
use crate::{IdRange, decimal, etc_file};

/// A row of `/etc/subuid` or `/etc/subgid`: `OWNER:START:COUNT`.
///
/// ```
/// use idmap::SubIdTable;
///
/// let table = SubIdTable::parse(b"# of the cluster\nann:100000:65536\n", b"", b"", b"");
/// let row = table.owners_of_uid(100_033).remove(0);
/// assert_eq!((row.owner.as_str(), row.range.start(), row.line), ("ann", 100_000, 2));
/// assert_eq!(row.to_string(), "ann:100000:65536");
/// ```
///
/// See subuid(5): <https://man7.org/linux/man-pages/man5/subuid.5.html>.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubIdRow {
    /// The name or number in its first field.
    pub owner: String,
    /// The ids.
    pub range: IdRange,
    /// Its line, counted from 1.
    pub line: usize,
}

impl fmt::Display for SubIdRow {
    /// As the file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.owner.escape_debug(), self.range)
    }
}

/// Ids that belong to two at once: each of them can become the other, from within a user namespace of their own.
///
/// Nothing keeps such rows out of the files. useradd gives ranges away from 100000 on without asking whether a directory
/// service has users there (CVE-2024-56433), and two machines that share a file system can disagree.
///
/// ```
/// use idmap::SubIdTable;
///
/// let passwd = b"ann:x:1000:1000::/:\ndave:x:165600:165600::/:\n";
/// let table = SubIdTable::parse(b"ann:100000:65536\n1000:100000:5\nbob:165535:100\n", b"", passwd, b"");
/// let conflicts: Vec<_> = table.conflicts().iter().map(ToString::to_string).collect();
/// assert_eq!(conflicts, [
///     "/etc/subuid: line 1 (ann:100000:65536) and line 3 (bob:165535:100) share ids from 165535 on",
///     "/etc/subuid: line 3 (bob:165535:100) has id 165600, which is dave",
/// ]);
/// ```
///
/// See subuid(5): <https://man7.org/linux/man-pages/man5/subuid.5.html>.
#[doc(alias = "CVE-2024-56433")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubIdConflict {
    /// Two rows, of different users, have ids in common.
    Rows {
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
        /// The one that begins lower.
        first: SubIdRow,
        /// The one that begins within it.
        second: SubIdRow,
    },
    /// A range has the id of an account, or of a group, that is not its owner's.
    Account {
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
        /// The row.
        row: SubIdRow,
        /// The lowest such id.
        id: u32,
        /// Whose it is.
        name: String,
    },
}

impl fmt::Display for SubIdConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows { file, first, second } => {
                let (low, high, id) = (first.line, second.line, second.range.start());
                write!(f, "{file}: line {low} ({first}) and line {high} ({second}) share ids from {id} on")
            }
            Self::Account { file, row, id, name } => {
                write!(f, "{file}: line {} ({row}) has id {id}, which is {}", row.line, name.escape_debug())
            }
        }
    }
}

/// All rows of `/etc/subuid` and `/etc/subgid`, for an administrator's questions: who has this id, who has the same.
///
/// Who wants the ranges of one user wants [`SubIds`](crate::SubIds), which also knows other services than the files.
/// Memory: the files and about 24 bytes a row.
///
/// ```
/// use idmap::SubIdTable;
///
/// let table = SubIdTable::read()?;
/// for row in table.owners_of_uid(100_000) {
///     println!("uid 100000 may be mapped by {}: line {} of /etc/subuid", row.owner, row.line);
/// }
/// for conflict in table.conflicts() {
///     eprintln!("{conflict}");
/// }
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// See subuid(5): <https://man7.org/linux/man-pages/man5/subuid.5.html>.
#[doc(alias = "subuid")]
#[doc(alias = "subgid")]
#[derive(Clone, Debug, Default)]
pub struct SubIdTable {
    uids: File,
    gids: File,
    /// The first row of a name counts.
    uid_of: HashMap<String, u32>,
    /// Sorted by the number.
    accounts: Vec<(u32, String)>,
    groups: Vec<(u32, String)>,
}

#[derive(Clone, Debug, Default)]
struct File {
    content: Vec<u8>,
    rows: Vec<Stored>,
}

#[derive(Clone, Debug)]
struct Stored {
    owner: Range<u32>,
    range: IdRange,
    line: u32,
}

impl File {
    fn new(content: &[u8]) -> Self {
        if row::nul_line(content).is_some() {
            return Self::default();
        }
        let mut this = Self { content: Vec::new(), rows: Vec::new() };
        for row in row::rows(content) {
            let Some(range) = row.range else { continue };
            // No file is larger than 64 MiB, so that these numbers fit.
            let begin = this.content.len() as u32;
            this.content.extend_from_slice(row.owner);
            this.rows.push(Stored { owner: begin..this.content.len() as u32, range, line: row.line as u32 });
        }
        this
    }

    fn owner(&self, row: &Stored) -> &[u8] {
        self.content.get(row.owner.start as usize..row.owner.end as usize).unwrap_or_default()
    }

    fn row(&self, row: &Stored) -> SubIdRow {
        let owner = String::from_utf8_lossy(self.owner(row)).into_owned();
        SubIdRow { owner, range: row.range, line: row.line as usize }
    }

    fn owners_of(&self, id: u32) -> Vec<SubIdRow> {
        self.rows.iter().filter(|row| row.range.contains(id)).map(|row| self.row(row)).collect()
    }
}

/// Whose a row is: two rows with one name and its number are one user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose<'a> {
    Uid(u32),
    Unknown(&'a [u8]),
}

impl SubIdTable {
    /// Reads `/etc/subuid`, `/etc/subgid`, `/etc/passwd` and `/etc/group`. One that is missing is empty. Needs no
    /// privilege.
    ///
    /// # Errors
    /// Those of open(2) and read(2); Parse for a file of more than 64 MiB, Invalid for one that is not a regular file.
    pub fn read() -> Result<Self> {
        let read = |path: &str| etc_file::read(Path::new(path));
        let (subuid, subgid) = (read(IdKind::Uid.subid_file())?, read(IdKind::Gid.subid_file())?);
        Ok(Self::parse(&subuid, &subgid, &read(PASSWD)?, &read("/etc/group")?))
    }

    /// The same from the content of the files. A file with a NUL byte in it is damaged, and has no rows.
    #[must_use]
    pub fn parse(subuid: &[u8], subgid: &[u8], passwd: &[u8], group: &[u8]) -> Self {
        let mut uid_of = HashMap::new();
        for row in user::rows(passwd) {
            uid_of.entry(row.name.to_owned()).or_insert(row.uid);
        }
        let mut accounts: Vec<_> = user::rows(passwd).map(|row| (row.uid, row.name.to_owned())).collect();
        let mut groups: Vec<_> = user::groups(group).map(|(name, gid)| (gid, name.to_owned())).collect();
        accounts.sort();
        groups.sort();
        Self { uids: File::new(subuid), gids: File::new(subgid), uid_of, accounts, groups }
    }

    /// The rows that give `uid` to somebody, in the order of the file: more than one is seldom meant. O(rows).
    #[must_use]
    pub fn owners_of_uid(&self, uid: u32) -> Vec<SubIdRow> {
        self.uids.owners_of(uid)
    }

    /// The rows that give `gid` to somebody.
    #[must_use]
    pub fn owners_of_gid(&self, gid: u32) -> Vec<SubIdRow> {
        self.gids.owners_of(gid)
    }

    /// What the rows give to two at once: at most one conflict with another row and one with an account for each row.
    /// O(n log n).
    #[must_use]
    pub fn conflicts(&self) -> Vec<SubIdConflict> {
        IdKind::BOTH.into_iter().flat_map(|kind| self.conflicts_of(kind)).collect()
    }

    fn conflicts_of(&self, kind: IdKind) -> Vec<SubIdConflict> {
        let (table, accounts) = match kind {
            IdKind::Uid => (&self.uids, &self.accounts),
            IdKind::Gid => (&self.gids, &self.groups),
        };
        let file = kind.subid_file();
        let mut sorted: Vec<&Stored> = table.rows.iter().collect();
        sorted.sort_by_key(|row| (row.range.start(), row.line));
        let mut found = Vec::new();
        // The rows so far that reach furthest: of anybody, and of anybody but that one's owner.
        let mut furthest: [Option<(&Stored, Whose<'_>)>; 2] = [None, None];
        for row in sorted {
            let owner = self.owner(table.owner(row));
            let other = furthest.iter().flatten().find(|(_, theirs)| *theirs != owner);
            if let Some((first, _)) = other.filter(|(first, _)| first.range.end() > row.range.start()) {
                found.push(SubIdConflict::Rows { file, first: table.row(first), second: table.row(row) });
            }
            let from = accounts.partition_point(|(id, _)| *id < row.range.start());
            let within = accounts.iter().skip(from).take_while(|(id, _)| row.range.contains(*id));
            let foreign = within.take(MAX_LOOKED_AT).find(|(id, name)| !self.is_own(kind, owner, *id, name));
            if let Some((id, name)) = foreign {
                found.push(SubIdConflict::Account { file, row: table.row(row), id: *id, name: name.clone() });
            }
            let reaches = |place: &Option<(&Stored, Whose<'_>)>| place.map_or(0, |(other, _)| other.range.end());
            let [first, second] = &mut furthest;
            if row.range.end() > reaches(first) {
                if first.is_some_and(|(_, theirs)| theirs != owner) {
                    *second = *first;
                }
                *first = Some((row, owner));
            } else if first.is_some_and(|(_, theirs)| theirs != owner) && row.range.end() > reaches(second) {
                *second = Some((row, owner));
            }
        }
        found
    }

    fn owner<'a>(&self, text: &'a [u8]) -> Whose<'a> {
        let text_as_str = std::str::from_utf8(text).ok();
        let by_name = text_as_str.and_then(|name| self.uid_of.get(name).copied());
        let uid = by_name.or_else(|| text_as_str.and_then(decimal::parse));
        uid.map_or(Whose::Unknown(text), Whose::Uid)
    }

    /// Whether an account is the owner's own: the user, or the group of the same name.
    fn is_own(&self, kind: IdKind, owner: Whose<'_>, id: u32, name: &str) -> bool {
        match (kind, owner) {
            (_, Whose::Unknown(text)) => text == name.as_bytes(),
            (IdKind::Uid, Whose::Uid(uid)) => uid == id,
            (IdKind::Gid, Whose::Uid(uid)) => self.uid_of.get(name) == Some(&uid),
        }
    }
}

/// Accounts of one number that are looked at, so that no file makes this quadratic.
const MAX_LOOKED_AT: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn owners_in_the_order_of_the_file() {
        let text = b"ann:100:10\n\nbob:105:10\nann:200\n\xff:105:1\n";
        let table = SubIdTable::parse(text, b"root:0:5\n", b"", b"");
        let owners = |id| table.owners_of_uid(id).iter().map(|row| (row.owner.clone(), row.line)).collect::<Vec<_>>();
        assert_eq!(owners(105), [("ann".into(), 1), ("bob".into(), 3), ("\u{fffd}".into(), 5)]);
        assert_eq!(owners(114), [("bob".into(), 3)]);
        assert_eq!(owners(115), []);
        assert_eq!(table.owners_of_gid(4).len(), 1);
        let damaged = SubIdTable::parse(b"ann:1:1\nbob\0:1:1\n", b"", b"", b"");
        assert_eq!(damaged.owners_of_uid(1), []);
    }

    #[test]
    fn an_account_within_a_range_is_named_unless_it_is_the_owner() {
        let passwd = b"ann:x:1000:1000::/:\nbob:x:1001:1001::/:\n";
        let group = b"ann:x:1000:\nbob:x:1001:\nwheel:x:2000:\n";
        let rows = b"ann:1000:1\nann:999:3\n1001:2000:1\nnew:3000:1\n";
        let shown = SubIdTable::parse(rows, rows, passwd, group).conflicts();
        assert_eq!(
            shown.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "/etc/subuid: line 2 (ann:999:3) has id 1001, which is bob",
                "/etc/subgid: line 2 (ann:999:3) has id 1001, which is bob",
                "/etc/subgid: line 3 (1001:2000:1) has id 2000, which is wheel",
            ]
        );
    }

    proptest! {
        #[test]
        fn a_row_is_in_conflict_when_some_id_of_it_is_anothers(
            raw in proptest::collection::vec((0..4_usize, 0..60_u32, 1..20_u32), 0..12)
        ) {
            let names = ["ann", "1000", "bob", "eve"];
            let text: String = raw.iter().map(|(who, start, count)| format!("{}:{start}:{count}\n", names[*who])).collect();
            let table = SubIdTable::parse(text.as_bytes(), b"", b"ann:x:1000:1000::/:\n", b"");
            let person = |who: usize| if who == 1 { 0 } else { who };
            let overlap = |a: &(usize, u32, u32), b: &(usize, u32, u32)| {
                person(a.0) != person(b.0) && a.1 < b.1 + b.2 && b.1 < a.1 + a.2
            };
            let any = raw.iter().enumerate().any(|(i, a)| raw.iter().skip(i + 1).any(|b| overlap(a, b)));
            let found = table.conflicts();
            prop_assert_eq!(!found.is_empty(), any, "{}", text);
            // The later of two, by its start, is always named.
            for (line, row) in raw.iter().enumerate() {
                let key = |line: usize, row: &(usize, u32, u32)| (row.1, line);
                let hit = raw.iter().enumerate().any(|(at, other)| {
                    key(at, other) < key(line, row) && overlap(other, row)
                });
                let named = found.iter().any(|conflict| {
                    matches!(conflict, SubIdConflict::Rows { second, .. } if second.line == line + 1)
                });
                prop_assert_eq!(named, hit, "line {} of {}", line + 1, text);
            }
        }
    }
}
