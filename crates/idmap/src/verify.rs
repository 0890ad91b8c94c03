//! The verdict on a map before anything is done: what newuidmap and the kernel would say, in words that help.
#![forbid(unsafe_code)]

use cellkit_core::{Error, Result, Subject};

use crate::id_kind::IdKind;
use crate::newidmap::{Program, Search};
use crate::{Caller, Extent, IdMap, IdMaps, IdRange, SubIds};

/// Lines proposed in one hint.
const MAX_LINES: usize = 4;

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
                span(ids, extent.outside(), extent.count())
            );
            return Err(Error::invalid(file, why)
                .on(Subject::Value(extent.colons()))
                .with_hint(format!("choose from the ids that /proc/self/{file} begins its lines with")));
        }
    }
    Ok(())
}

/// newuidmap's and newgidmap's rule: the own id alone, or within the ranges of the files.
pub(crate) fn owns(maps: &IdMaps, caller: &Caller, subids: &SubIds) -> Result<()> {
    let mut first = None;
    let (mut spans, mut lines, mut left_out) = (Vec::new(), Vec::new(), 0);
    for kind in IdKind::BOTH {
        for &extent in kind.of(maps).extents() {
            if extent.count() == 1 && extent.outside() == caller.id(kind) {
                continue;
            }
            for range in subids.missing(kind, extent) {
                let _ = first.get_or_insert((kind, extent));
                if lines.len() == MAX_LINES {
                    left_out += 1;
                    continue;
                }
                spans.push(span(kind.plural(), range.start(), range.count()));
                lines.push(line(kind, caller, range));
            }
        }
    }
    let Some((kind, extent)) = first else { return Ok(()) };
    let mut why = spans.join(" and ");
    if left_out > 0 {
        why.push_str(&format!(" (and {left_out} more runs)"));
    }
    why.push_str(" are not the caller's to map");
    let hint = format!("as root, add {}{}", lines.join(" and "), malformed(subids));
    Err(Error::invalid(kind.map_file(), why).on(Subject::Value(extent.colons())).with_hint(hint))
}

/// Says that the files give the caller nothing, and what to add.
pub(crate) fn no_range(caller: &Caller, subids: &SubIds) -> Error {
    let bare = || IdKind::BOTH.into_iter().filter(|&kind| subids.ranges(kind).is_empty());
    let files = bare().map(IdKind::subid_file).collect::<Vec<_>>().join(" and ");
    let owner = caller.subid_owner();
    if files.is_empty() {
        let why =
            format!("the ranges of {owner:?} hold no id, beside its own, that exists in the caller's user namespace");
        return Error::invalid("id map", why).with_hint("compare /etc/subuid with /proc/self/uid_map, and so the gids");
    }
    let error = Error::invalid("id map", format!("{owner:?} has no range of ids in {files}"));
    match subids.free_range() {
        // In a nested namespace other ids are free, and which only its maker knows.
        Some(range) if caller.initial => {
            let lines = bare().map(|kind| line(kind, caller, range)).collect::<Vec<_>>().join(" and ");
            error.with_hint(format!("as root, add {lines}{}", malformed(subids)))
        }
        _ => error.with_hint(format!("give it one: subuid(5){}", malformed(subids))),
    }
}

/// The two programs, if they would work for this caller.
pub(crate) fn programs(caller: &Caller, search: &Search) -> Result<(Program, Program)> {
    let ids = caller.ids;
    if (ids.real_uid, ids.real_gid) != (ids.uid, ids.gid) {
        return Err(Error::invalid(
            "newuidmap",
            "it goes by the real ids of the caller, which are not the effective ones",
        )
        .with_hint("a setuid or setgid program settles on one id before it makes a container"));
    }
    if let Some(primary) = caller.account.primary_gid.filter(|&primary| primary != ids.gid) {
        let why = format!("it wants the caller's gid to be that of the account, {primary}, and it is {}", ids.gid);
        return Err(Error::invalid("newuidmap", why).with_hint("leave the shell of newgrp or sg"));
    }
    if caller.no_new_privs {
        return Err(Error::invalid("newuidmap", "no_new_privs is set, which takes its privilege away")
            .with_hint("see NoNewPrivs in /proc/self/status, NoNewPrivileges= of a systemd unit"));
    }
    Ok((Program::find(IdKind::Uid, search)?, Program::find(IdKind::Gid, search)?))
}

/// `uids 100000 to 165535`.
fn span(ids: &str, start: u32, count: u32) -> String {
    match count {
        1 => format!("{ids} {start}"),
        _ => format!("{ids} {start} to {}", start + (count - 1)),
    }
}

/// `the line "ann:100000:65536" to /etc/subuid`.
fn line(kind: IdKind, caller: &Caller, range: IdRange) -> String {
    format!("the line \"{}:{range}\" to {}", caller.subid_owner(), kind.subid_file())
}

/// Rows of the caller that were left out because they make no sense: often the very rows that were meant.
fn malformed(subids: &SubIds) -> String {
    IdKind::BOTH
        .into_iter()
        .filter_map(|kind| {
            let line = subids.malformed(kind)?;
            Some(format!("; line {line} of {} is not OWNER:START:COUNT", kind.subid_file()))
        })
        .collect()
}
