//! Subordinate ids: `/etc/subuid` and `/etc/subgid`, or the service that stands in for them.
#![forbid(unsafe_code)]

pub(crate) mod getsubids;
mod row;
mod table;

use std::path::Path;

use cellkit_core::Result;

use crate::id_kind::IdKind;
use crate::user::{self, User};
use crate::{Extent, IdRange, etc_file, nsswitch};
use row::Given;

pub(crate) use getsubids::Getsubids;
pub use table::{SubIdConflict, SubIdRow, SubIdTable};

/// The ranges of one kind for one user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges {
    /// In the order of the file, none overlapping another: what an earlier row gave is cut out of a later one.
    ranges: Vec<IdRange>,
    /// One past the highest id that the file gives to anybody.
    end: u32,
    /// The first row of this user that is not one.
    malformed: Option<usize>,
    /// Whether there is no file, without which newuidmap does nothing at all.
    missing_file: bool,
}

/// The ids that the administrator gave to a user: its rows of `/etc/subuid` and `/etc/subgid`.
///
/// A row is `OWNER:START:COUNT`, the owner a name or a number; every name of the user's uid counts, as for newuidmap.
/// Rows that overlap are cut, and keep the order of the file: a row added at the end changes no id that was mapped
/// before. Numbers are decimal. A row that is anything else gives nothing, and is named by the error that follows: the
/// versions of newuidmap do not agree on such rows (all up to 4.18 take `NAME:0:0` for every id there is).
///
/// With another service than `files` after `subid:` in `/etc/nsswitch.conf`, newuidmap does not read these files. Then
/// getsubids(1) is run, which asks that service, and [`service`](Self::service) names it.
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
/// See subuid(5): <https://man7.org/linux/man-pages/man5/subuid.5.html>, and getsubids(1):
/// <https://man7.org/linux/man-pages/man1/getsubids.1.html>.
#[doc(alias = "subuid")]
#[doc(alias = "subgid")]
#[doc(alias = "getsubids")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubIds {
    /// `None` for nobody's.
    user: Option<User>,
    uids: Ranges,
    gids: Ranges,
    service: Option<String>,
    /// Why there may be less than there should be.
    note: Option<String>,
    /// One past the highest id of an account, as far as it matters for [`free_range`](Self::free_range).
    accounts_end: u32,
}

/// Accounts above this are not looked at when a free range is proposed: the highest ids are customary for nobody.
const HIGHEST_ACCOUNT: u32 = 1 << 31;

impl SubIds {
    /// Reads the ranges of a user: of the [`Caller`](crate::Caller), or of any other [`User`].
    ///
    /// Reads `/etc/nsswitch.conf`, and then both files, where one that is missing is empty; or runs getsubids(1) twice,
    /// by absolute path, with an empty environment, for at most ten seconds each. Needs no privilege. Blocks.
    ///
    /// # Errors
    /// * Those of open(2) and read(2); Parse for a file of more than 64 MiB, Invalid for one that is not a regular file.
    /// * NotFound when getsubids is needed and not installed; TimedOut; Other when it fails, with what it said in
    ///   [`Error::kernel_text`](crate::Error::kernel_text); Parse when its answer does not look as it should.
    pub fn of(user: &impl AsRef<User>) -> Result<Self> {
        Self::of_with(user.as_ref(), &Getsubids::default())
    }

    pub(crate) fn of_with(user: &User, getsubids: &Getsubids) -> Result<Self> {
        let nsswitch = etc_file::read(Path::new(nsswitch::NSSWITCH))?;
        let mut this = match nsswitch::subid_service(&nsswitch) {
            Some(service) => Self::from_service(user, service, getsubids)?,
            None => {
                let read = |kind: IdKind| etc_file::read_if_there(Path::new(kind.subid_file()));
                let (subuid, subgid) = (read(IdKind::Uid)?, read(IdKind::Gid)?);
                let (uids, gids) = (subuid.as_deref().unwrap_or_default(), subgid.as_deref().unwrap_or_default());
                let mut this = Self::parse(user, uids, gids);
                this.uids.missing_file = subuid.is_none();
                this.gids.missing_file = subgid.is_none();
                this
            }
        };
        let passwd = etc_file::read(Path::new(user::PASSWD))?;
        let ids = user::rows(&passwd).flat_map(|row| [row.uid, row.gid]).filter(|&id| id < HIGHEST_ACCOUNT);
        this.accounts_end = ids.max().map_or(0, |id| id + 1);
        Ok(this)
    }

    /// The same from the content of the two files.
    ///
    /// ```
    /// use idmap::{SubIds, User};
    ///
    /// let root = User::with_uid(0)?;
    /// let subids = SubIds::parse(&root, b"root:100000:65536\nann:165536:65536\n0:100:10\n", b"");
    /// assert_eq!(subids.uids().len(), 2);
    /// assert_eq!(subids.gids(), []);
    /// # Ok::<(), idmap::Error>(())
    /// ```
    #[must_use]
    pub fn parse(user: &impl AsRef<User>, subuid: &[u8], subgid: &[u8]) -> Self {
        let user = user.as_ref();
        let owners = Owners { names: &user.names, number: user.uid().to_string() };
        Self {
            user: Some(user.clone()),
            uids: ranges(subuid, &owners),
            gids: ranges(subgid, &owners),
            ..Self::default()
        }
    }

    fn from_service(user: &User, service: &str, getsubids: &Getsubids) -> Result<Self> {
        let mut this = Self { user: Some(user.clone()), service: Some(service.into()), ..Self::default() };
        let Some(name) = user.name() else {
            this.note = Some(format!("uid {} has no name in /etc/passwd to ask {service:?} by", user.uid()));
            return Ok(this);
        };
        for kind in IdKind::BOTH {
            let answer = getsubids.ask(kind, name)?;
            let mut given = Given::default();
            answer.ranges.iter().for_each(|&range| given.add(range));
            let found = Ranges { ranges: given.ranges, malformed: answer.malformed, ..Ranges::default() };
            match kind {
                IdKind::Uid => this.uids = found,
                IdKind::Gid => this.gids = found,
            }
            if this.note.is_none() && !answer.said.is_empty() {
                this.note = Some(format!("getsubids said: {}", answer.said.escape_debug()));
            }
        }
        Ok(this)
    }

    /// Whose ranges they are; `None` for an empty value that is nobody's.
    #[must_use]
    pub fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// The user's subordinate uids.
    #[must_use]
    pub fn uids(&self) -> &[IdRange] {
        &self.uids.ranges
    }

    /// The user's subordinate gids.
    #[must_use]
    pub fn gids(&self) -> &[IdRange] {
        &self.gids.ranges
    }

    /// The service of `/etc/nsswitch.conf` that gave the ranges; `None` when it was the files.
    #[must_use]
    #[doc(alias = "nsswitch.conf")]
    pub fn service(&self) -> Option<&str> {
        self.service.as_deref()
    }

    fn of_kind(&self, kind: IdKind) -> &Ranges {
        match kind {
            IdKind::Uid => &self.uids,
            IdKind::Gid => &self.gids,
        }
    }

    pub(crate) fn ranges(&self, kind: IdKind) -> &[IdRange] {
        &self.of_kind(kind).ranges
    }

    /// Why there may be less than there should be.
    pub(crate) fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// The line of the user's first row that could not be understood.
    pub(crate) fn malformed(&self, kind: IdKind) -> Option<usize> {
        self.of_kind(kind).malformed
    }

    /// Whether newuidmap would look for a file that is not there.
    pub(crate) fn lacks_file(&self, kind: IdKind) -> bool {
        self.of_kind(kind).missing_file
    }

    /// A range of so many ids that nobody has in either file, to propose to the administrator.
    pub(crate) fn free_range(&self, count: u32) -> Option<IdRange> {
        // useradd starts here; below are the accounts themselves.
        const FIRST: u32 = 100_000;
        let start = self.uids.end.max(self.gids.end).max(self.accounts_end).max(FIRST);
        IdRange::between(start, start.checked_add(count)?)
    }

    /// The ranges, sorted.
    pub(crate) fn sorted(&self, kind: IdKind) -> Vec<IdRange> {
        let mut rows = self.ranges(kind).to_vec();
        rows.sort_unstable();
        rows
    }
}

/// The parts of an extent's outside ids that ranges, sorted and not overlapping, do not cover.
pub(crate) fn missing(sorted: &[IdRange], extent: Extent) -> Vec<IdRange> {
    let (mut next, end) = (extent.outside(), extent.outside() + extent.count());
    let from = sorted.partition_point(|range| range.end() <= next);
    let mut missing = Vec::new();
    for range in sorted.iter().skip(from).take_while(|range| range.start() < end) {
        missing.extend(IdRange::between(next, range.start()));
        next = range.end();
    }
    missing.extend(IdRange::between(next, end));
    missing
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
    if let Some(line) = row::nul_line(content) {
        return Ranges { malformed: Some(line), ..Ranges::default() };
    }
    let mut found = Ranges::default();
    let mut given = Given::default();
    for row in row::rows(content) {
        if let Some(range) = row.range {
            found.end = found.end.max(range.end());
        }
        if !owners.include(row.owner) {
            continue;
        }
        match row.range {
            Some(range) => given.add(range),
            None => found.malformed = found.malformed.or(Some(row.line)),
        }
    }
    found.ranges = given.ranges;
    found
}
