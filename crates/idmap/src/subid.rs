//! Subordinate ids: `/etc/subuid` and `/etc/subgid`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;

use cellkit_core::Result;

use crate::id_kind::IdKind;
use crate::{Caller, Extent, IdRange, decimal, etc_file};

/// The ranges of one file for one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges {
    /// In the order of the file, none overlapping another: what an earlier row gave is cut out of a later one.
    ranges: Vec<IdRange>,
    /// One past the highest id that the file gives to anybody.
    end: u32,
    /// The first row of this user that is not one.
    malformed: Option<usize>,
}

/// The ids that the administrator gave to a user in `/etc/subuid` and `/etc/subgid`.
///
/// A row is `OWNER:START:COUNT`, the owner a name or a number; every name of the caller's uid counts, as for newuidmap.
/// Rows that overlap are cut, and keep the order of the file: a row added at the end changes no id that was mapped
/// before. Numbers are decimal; a row with anything else in it gives nothing, and is named by the error that follows.
///
/// A subid module of the name service switch (`subid:` in nsswitch.conf) is not asked: with one, newuidmap does not
/// read these files either.
///
/// ```
/// use idmap::{Caller, SubIds};
///
/// let caller = Caller::current()?;
/// let subids = SubIds::of(&caller)?;
/// for range in subids.uids() {
///     println!("{range}");
/// }
/// # Ok::<(), idmap::Error>(())
/// ```
///
/// See subuid(5): <https://man7.org/linux/man-pages/man5/subuid.5.html>.
#[doc(alias = "subuid")]
#[doc(alias = "subgid")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubIds {
    uids: Ranges,
    gids: Ranges,
}

impl SubIds {
    /// Reads both files. One that is missing is empty.
    ///
    /// # Errors
    /// Those of open(2) and read(2); Parse for a file of more than 64 MiB.
    pub fn of(caller: &Caller) -> Result<Self> {
        let read = |kind: IdKind| etc_file::read(Path::new(kind.subid_file()));
        Ok(Self::parse(caller, &read(IdKind::Uid)?, &read(IdKind::Gid)?))
    }

    /// The same from the content of the two files.
    #[must_use]
    pub fn parse(caller: &Caller, subuid: &[u8], subgid: &[u8]) -> Self {
        let owners = Owners { names: &caller.account.names, number: caller.uid().to_string() };
        Self { uids: ranges(subuid, &owners), gids: ranges(subgid, &owners) }
    }

    /// The caller's subordinate uids.
    #[must_use]
    pub fn uids(&self) -> &[IdRange] {
        &self.uids.ranges
    }

    /// The caller's subordinate gids.
    #[must_use]
    pub fn gids(&self) -> &[IdRange] {
        &self.gids.ranges
    }

    fn file(&self, kind: IdKind) -> &Ranges {
        match kind {
            IdKind::Uid => &self.uids,
            IdKind::Gid => &self.gids,
        }
    }

    pub(crate) fn ranges(&self, kind: IdKind) -> &[IdRange] {
        &self.file(kind).ranges
    }

    /// The line of the caller's first row that could not be understood.
    pub(crate) fn malformed(&self, kind: IdKind) -> Option<usize> {
        self.file(kind).malformed
    }

    /// A range that nobody has in either file, to propose to the administrator.
    pub(crate) fn free_range(&self) -> Option<IdRange> {
        const COUNT: u32 = 65_536;
        // useradd starts here; below are the accounts themselves.
        const FIRST: u32 = 100_000;
        let start = self.uids.end.max(self.gids.end).max(FIRST);
        IdRange::between(start, start.checked_add(COUNT)?)
    }

    /// The parts of an extent's outside ids that the rows do not cover.
    pub(crate) fn missing(&self, kind: IdKind, extent: Extent) -> Vec<IdRange> {
        let mut rows = self.ranges(kind).to_vec();
        rows.sort_unstable_by_key(|range| range.start());
        let (mut next, end) = (extent.outside(), extent.outside() + extent.count());
        let mut missing = Vec::new();
        for row in rows.iter().filter(|row| row.end() > extent.outside() && row.start() < end) {
            missing.extend(IdRange::between(next, row.start()));
            next = row.end();
        }
        missing.extend(IdRange::between(next, end));
        missing
    }
}

struct Owners<'a> {
    names: &'a [String],
    number: String,
}

impl Owners<'_> {
    fn include(&self, owner: &[u8]) -> bool {
        owner == self.number.as_bytes() || self.names.iter().any(|name| owner == name.as_bytes())
    }
}

/// The ranges of `owners` in the content of one file.
fn ranges(content: &[u8], owners: &Owners<'_>) -> Ranges {
    let mut found = Ranges::default();
    // The ids taken so far: start -> end, not overlapping, not touching.
    let mut taken = BTreeMap::new();
    for (index, line) in content.split(|&byte| byte == b'\n').enumerate() {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (owner, rest) = line.split_at(colon);
        let range = numbers(rest);
        if let Some(range) = range {
            found.end = found.end.max(range.end());
        }
        if !owners.include(owner) {
            continue;
        }
        match range {
            Some(range) => take(&mut taken, range, &mut found.ranges),
            None => found.malformed = found.malformed.or(Some(index + 1)),
        }
    }
    found
}

/// The two numbers of `:START:COUNT`, if they are a range.
fn numbers(rest: &[u8]) -> Option<IdRange> {
    let mut fields = std::str::from_utf8(rest).ok()?.strip_prefix(':')?.split(':');
    let (start, count, None) = (number(fields.next()?)?, number(fields.next()?)?, fields.next()) else { return None };
    IdRange::between(start, start.checked_add(count)?)
}

/// A number without leading zeros: newuidmap of shadow 4.13 takes those for octal, its successors do not.
fn number(text: &str) -> Option<u32> {
    if text.len() > 1 && text.starts_with('0') { None } else { decimal::parse(text) }
}

/// Adds what `taken` lacks of `range` to `out`, lowest part first, and to `taken`.
fn take(taken: &mut BTreeMap<u32, u32>, range: IdRange, out: &mut Vec<IdRange>) {
    let (mut start, mut end) = (range.start(), range.end());
    let mut next = range.start();
    // Entries do not overlap, so only the last that begins at or before the range can reach into it from below.
    let from = match taken.range(..=start).next_back() {
        Some((&low, &high)) if high >= start => low,
        _ => start,
    };
    let touching: Vec<(u32, u32)> = taken.range(from..=end).map(|(&low, &high)| (low, high)).collect();
    for (low, high) in touching {
        out.extend(IdRange::between(next, low));
        next = high;
        start = start.min(low);
        end = end.max(high);
        taken.remove(&low);
    }
    out.extend(IdRange::between(next, range.end()));
    taken.insert(start, end);
}
