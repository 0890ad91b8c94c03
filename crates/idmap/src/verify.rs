//! The verdict on a map before anything is done: what newuidmap and the kernel would say, in words that help.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result, Subject};

use crate::id_kind::IdKind;
use crate::newidmap::{Program, Search};
use crate::{Caller, Extent, IdMap, IdMaps, SubIds, missing, subid};

/// Lines proposed in one hint.
const MAX_LINES: usize = 4;

impl IdMaps {
    /// The verdict of newuidmap(1) and newgidmap(1) on these maps, before they are run: a pure function of the maps, the
    /// caller and the ranges.
    ///
    /// They refuse maps that are not for one write ([`check_writable`](Self::check_writable)); ids that do not exist in
    /// the caller's own namespace; a caller whose real ids are not its effective ones, who has no name, or whose gid is
    /// not that of the account (unless login.defs has `GRANT_AUX_GROUP_SUBIDS yes`); and extents that are neither the
    /// caller's own id, alone, nor within the caller's ranges, where ranges that touch count as one. With no_new_privs
    /// they have no privilege, and the own id alone is left.
    ///
    /// It is a verdict about the caller, who runs them: with another user's ranges, the extents in them are refused. Whether
    /// ids are within the ranges of somebody else, [`SubIds::uids`] and [`SubIds::gids`] tell.
    ///
    /// [`MapPlan::explicit`](crate::MapPlan::explicit) asks this where it would have to run them. Whether they are
    /// installed, and have their privilege, is not looked at. A row that versions of newuidmap read differently gives
    /// nothing here; a caller whom `/etc/passwd` does not have passes when a name service may know it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](cellkit_core::ErrorKind::Invalid) with the reason; the hint is the line that is missing and
    /// the file to add it to.
    ///
    /// ```
    /// use idmap::{Caller, IdMaps, SubIds};
    ///
    /// let caller = Caller::current()?;
    /// let subids = SubIds::parse(&caller, b"", b"");
    /// let maps: IdMaps = "4000000000:4000000000:10".parse()?;
    /// let error = maps.verify(&caller, &subids).expect_err("nobody was given these");
    /// println!("{error:#}"); // with the line to add
    /// # Ok::<(), idmap::Error>(())
    /// ```
    ///
    /// See newuidmap(1): <https://man7.org/linux/man-pages/man1/newuidmap.1.html>.
    #[doc(alias = "newuidmap")]
    #[doc(alias = "newgidmap")]
    pub fn verify(&self, caller: &Caller, subids: &SubIds) -> Result<()> {
        verdict(&IdKind::BOTH, self, caller, subids)
    }
}

/// The verdict of the programs of these kinds.
pub(crate) fn verdict(kinds: &[IdKind], maps: &IdMaps, caller: &Caller, subids: &SubIds) -> Result<()> {
    for &kind in kinds {
        kind.of(maps).check_writable_as(kind.map_file())?;
        exist_in(caller.own(kind), kind.of(maps), kind.map_file(), kind.plural())?;
    }
    account(caller)?;
    for &kind in kinds {
        has_file(kind, subids)?;
        if caller.no_new_privs && !needs_no_privilege(kind, maps, caller, subids) {
            return Err(no_new_privs());
        }
    }
    owns(kinds, maps, caller, subids)
}

/// Whether the map of `kind` is the caller's own id and nothing else.
pub(crate) fn is_own_id(kind: IdKind, maps: &IdMaps, caller: &Caller) -> bool {
    matches!(kind.of(maps).extents(), [one] if one.count() == 1 && one.outside() == caller.id(kind))
}

/// Whether the program gets by with what its caller may: the own id alone. Of the gids only if the caller's ranges do not
/// have it too, because then newgidmap leaves setgroups as it is, and the kernel wants it denied.
fn needs_no_privilege(kind: IdKind, maps: &IdMaps, caller: &Caller, subids: &SubIds) -> bool {
    let in_ranges = || subids.ranges(kind).iter().any(|range| range.contains(caller.id(kind)));
    is_own_id(kind, maps, caller) && (kind == IdKind::Uid || !in_ranges())
}

/// Refuses ids that the caller's own namespace lacks.
pub(crate) fn exist(maps: &IdMaps, caller: &Caller) -> Result<()> {
    for kind in IdKind::BOTH {
        exist_in(caller.own(kind), kind.of(maps), kind.map_file(), kind.plural())?;
    }
    match &maps.projid {
        // A namespace has project ids only if it was given a map of them, which few are.
        Some(projid) => exist_in(caller.own_projids.as_ref(), projid, "projid_map", "project ids"),
        None => Ok(()),
    }
}

fn exist_in(own: Option<&IdMap>, map: &IdMap, file: &'static str, ids: &str) -> Result<()> {
    let Some(own) = own else {
        return Err(Error::invalid(file, "the caller's own user namespace has no map yet")
            .with_hint(format!("write its map first: see /proc/self/{file}")));
    };
    for &extent in map.extents() {
        let holds = |outer: &Extent| {
            outer.inside() <= extent.outside() && extent.outside() + extent.count() <= outer.inside() + outer.count()
        };
        if !own.extents().iter().any(holds) {
            let why = format!(
                "{} do not all exist in the caller's own user namespace, in one extent of its map",
                missing::span(ids, extent.outside(), extent.count())
            );
            return Err(Error::invalid(file, why)
                .on(Subject::Value(extent.colons()))
                .with_hint(format!("choose from the ids that /proc/self/{file} begins its lines with")));
        }
    }
    Ok(())
}

/// Refuses where the program would end because there is no file for it to look into.
fn has_file(kind: IdKind, subids: &SubIds) -> Result<()> {
    if !subids.lacks_file(kind) {
        return Ok(());
    }
    let why = format!("{} does nothing without {}, which is missing", kind.program(), kind.subid_file());
    Err(Error::invalid(kind.map_file(), why).with_hint(format!("as root: touch {}", kind.subid_file())))
}

/// newuidmap's and newgidmap's rule: the own id alone, or within the ranges of the files.
fn owns(kinds: &[IdKind], maps: &IdMaps, caller: &Caller, subids: &SubIds) -> Result<()> {
    // Another user's ranges are not the caller's, whoever reads them.
    let theirs = subids.user().is_some_and(|user| user.uid() != caller.uid());
    let mut first = None;
    let (mut spans, mut lines, mut left_out) = (Vec::new(), Vec::new(), 0);
    for &kind in kinds {
        let sorted = if theirs { Vec::new() } else { subids.sorted(kind) };
        for &extent in kind.of(maps).extents() {
            if extent.count() == 1 && extent.outside() == caller.id(kind) {
                continue;
            }
            for range in subid::missing(&sorted, extent) {
                let _ = first.get_or_insert((kind, extent));
                if lines.len() == MAX_LINES {
                    left_out += 1;
                    continue;
                }
                spans.push(missing::span(kind.plural(), range.start(), range.count()));
                lines.push(missing::line(kind, &caller.user, range));
            }
        }
    }
    let Some((kind, extent)) = first else { return Ok(()) };
    let mut why = spans.join(" and ");
    if left_out > 0 {
        why.push_str(&format!(" (and {left_out} more runs)"));
    }
    why.push_str(" are not the caller's to map");
    let error = Error::invalid(kind.map_file(), why).on(Subject::Value(extent.colons()));
    Err(match subids.user().filter(|_| theirs) {
        Some(user) => error.with_hint(format!(
            "the ranges are those of {0:?}, and the verdict is about the caller: read the caller's ranges, or ask as {0:?}",
            user.subid_owner()
        )),
        None => error.with_hint(missing::hint(&lines.join(" and "), subids)),
    })
}

/// What newuidmap and newgidmap ask of whoever runs them.
fn account(caller: &Caller) -> Result<()> {
    let ids = caller.ids;
    if (ids.real_uid, ids.real_gid) != (ids.uid, ids.gid) {
        return Err(Error::invalid(
            "newuidmap",
            "it goes by the real ids of the caller, which are not the effective ones",
        )
        .with_hint("a setuid or setgid program settles on one id before it makes a container"));
    }
    if caller.name().is_none() && !caller.other_accounts {
        let why = format!("it serves only users who have a name, and /etc/passwd has none for uid {}", ids.uid);
        return Err(Error::invalid("newuidmap", why).with_hint("as root: useradd --uid UID NAME"));
    }
    if let Some(gid) = caller.user.gid().filter(|&gid| gid != ids.gid && !caller.any_group) {
        let why = format!("it wants the caller's gid to be that of the account, {gid}, and it is {}", ids.gid);
        return Err(Error::invalid("newuidmap", why).with_hint(
            "leave the shell of newgrp or sg; or, as root, set GRANT_AUX_GROUP_SUBIDS yes in /etc/login.defs",
        ));
    }
    Ok(())
}

fn no_new_privs() -> Error {
    Error::invalid("newuidmap", "no_new_privs is set, which takes its privilege away")
        .with_hint("see NoNewPrivs in /proc/self/status, NoNewPrivileges= of a systemd unit")
}

/// The two programs, if they would work for this caller.
pub(crate) fn programs(caller: &Caller, search: &Search) -> Result<(Program, Program)> {
    account(caller)?;
    if caller.no_new_privs {
        return Err(no_new_privs());
    }
    Ok((Program::find(IdKind::Uid, search)?, Program::find(IdKind::Gid, search)?))
}
