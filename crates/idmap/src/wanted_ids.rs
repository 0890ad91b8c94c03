//! Which ids shall exist in a container.
#![forbid(unsafe_code)]

use std::ops::RangeInclusive;

use cellkit_core::{Error, Result, Subject};

use crate::id_kind::IdKind;
use crate::{IdRange, user};

/// The ids that shall exist in a container, for [`MapPlan::wanting`](crate::MapPlan::wanting) to find ids outside for.
///
/// A setter adds, and never fails; ranges that overlap count once. Ranges that are no ids are refused by the plan.
///
/// ```
/// use idmap::WantedIds;
///
/// // As most images want them.
/// let usual = WantedIds::new().ids(0..=65_535);
/// // No more than this image's own accounts, and I am 1000 among them.
/// let passwd = b"root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\n";
/// let frugal = WantedIds::new().passwd(passwd).group(b"root:x:0:\nwww-data:x:33:\n").caller(1_000, 1_000);
/// # let _ = (usual, frugal);
/// ```
///
/// See user_namespaces(7): <https://man7.org/linux/man-pages/man7/user_namespaces.7.html>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "this asks for nothing until a plan is made of it"]
pub struct WantedIds {
    uids: Vec<RangeInclusive<u32>>,
    gids: Vec<RangeInclusive<u32>>,
    caller: Option<(u32, u32)>,
}

impl WantedIds {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// These uids and gids.
    pub fn ids(self, ids: RangeInclusive<u32>) -> Self {
        self.uids(ids.clone()).gids(ids)
    }

    /// These uids.
    pub fn uids(mut self, uids: RangeInclusive<u32>) -> Self {
        self.uids.push(uids);
        self
    }

    /// These gids.
    pub fn gids(mut self, gids: RangeInclusive<u32>) -> Self {
        self.gids.push(gids);
        self
    }

    /// The uids and gids of an `/etc/passwd`, such as that of an image: read it through a descriptor of its root. Rows
    /// that are not rows are left out.
    pub fn passwd(mut self, content: &[u8]) -> Self {
        for row in user::rows(content) {
            push(&mut self.uids, row.uid);
            push(&mut self.gids, row.gid);
        }
        self
    }

    /// The gids of an `/etc/group`.
    pub fn group(mut self, content: &[u8]) -> Self {
        user::groups(content).for_each(|(_, gid)| push(&mut self.gids, gid));
        self
    }

    /// Who the caller is inside; these two ids need not be asked for beside. Otherwise the caller is 0 where 0 is
    /// wanted, and else the lowest that is.
    pub fn caller(mut self, uid: u32, gid: u32) -> Self {
        self.caller = Some((uid, gid));
        self
    }

    /// The runs of ids that are wanted, in order and apart, and which of the ids is the caller's.
    pub(crate) fn runs(&self, kind: IdKind) -> Result<(Vec<IdRange>, u32)> {
        let (wanted, caller) = match kind {
            IdKind::Uid => (&self.uids, self.caller.map(|(uid, _)| uid)),
            IdKind::Gid => (&self.gids, self.caller.map(|(_, gid)| gid)),
        };
        let mut ranges = Vec::with_capacity(wanted.len() + 1);
        for ids in wanted.iter().cloned().chain(caller.map(|id| id..=id)) {
            let (first, last) = (*ids.start(), *ids.end());
            let refuse = |why| Err(Error::invalid("id range", why).on(Subject::Value(format!("{first}..={last}"))));
            match last.checked_add(1).map(|end| IdRange::between(first, end)) {
                None => return refuse("4294967295 is no id: the last one is 4294967294"),
                Some(None) => return refuse("the range is reversed"),
                Some(Some(range)) => ranges.push(range),
            }
        }
        ranges.sort_unstable();
        let mut runs: Vec<IdRange> = Vec::new();
        for range in ranges {
            match runs.last_mut() {
                Some(run) if run.end() >= range.start() => {
                    let joined = IdRange::between(run.start(), run.end().max(range.end()));
                    *run = joined.unwrap_or(range);
                }
                _ => runs.push(range),
            }
        }
        match (caller, runs.first()) {
            (Some(id), _) => Ok((runs, id)),
            (None, Some(lowest)) => {
                let id = lowest.start();
                Ok((runs, id))
            }
            (None, None) => Err(Error::invalid(kind.map_file(), format!("no {} are wanted", kind.plural()))
                .with_hint("a namespace without a map has no ids at all: ask for one at least")),
        }
    }
}

/// Images have thousands of accounts with numbers in a row: those are one range.
fn push(ranges: &mut Vec<RangeInclusive<u32>>, id: u32) {
    match ranges.last_mut() {
        Some(last) if last.contains(&id) => {}
        Some(last) if last.end().checked_add(1) == Some(id) => *last = *last.start()..=id,
        _ => ranges.push(id..=id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellkit_core::ErrorKind;

    fn uids(wanted: &WantedIds) -> Result<(String, u32)> {
        let (runs, caller) = wanted.runs(IdKind::Uid)?;
        Ok((runs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), caller))
    }

    #[test]
    fn ranges_are_joined_and_the_caller_is_among_them() {
        let wanted = WantedIds::new().uids(10..=19).uids(0..=0).uids(20..=29).uids(15..=16).gids(5..=5);
        assert_eq!(uids(&wanted).expect("runs"), ("0:1 10:20".into(), 0));
        assert_eq!(uids(&wanted.clone().caller(1000, 7)).expect("runs"), ("0:1 10:20 1000:1".into(), 1000));
        assert_eq!(uids(&wanted.caller(12, 12)).expect("runs"), ("0:1 10:20".into(), 12));
        assert_eq!(uids(&WantedIds::new().uids(7..=9)).expect("runs"), ("7:3".into(), 7));
        let all = WantedIds::new().ids(0..=u32::MAX - 1).ids(3..=3);
        assert_eq!(uids(&all).expect("runs"), ("0:4294967295".into(), 0));
    }

    #[test]
    fn what_is_no_range_of_ids_is_refused() {
        for (wanted, part) in [
            (WantedIds::new().uids(0..=u32::MAX), "4294967295 is no id"),
            (WantedIds::new().uids(RangeInclusive::new(5, 4)), "reversed"),
            (WantedIds::new().ids(0..=5).caller(u32::MAX, 0), "4294967295 is no id"),
            (WantedIds::new().gids(0..=5), "no uids are wanted"),
        ] {
            let error = uids(&wanted).expect_err(part);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn the_accounts_of_an_image() {
        let passwd = b"root:x:0:0::/:\ndaemon:x:1:1::/:\nbin:x:2:2::/:\nnobody:x:65534:65534::/:\nodd:x:y:1\n";
        let wanted = WantedIds::new().passwd(passwd).group(b"root:x:0:\nadm:x:4:\nshadow:x:42:root");
        assert_eq!(uids(&wanted).expect("runs").0, "0:3 65534:1");
        let gids: Vec<_> = wanted.runs(IdKind::Gid).expect("runs").0.iter().map(ToString::to_string).collect();
        assert_eq!(gids, ["0:3", "4:1", "42:1", "65534:1"]);
    }
}
