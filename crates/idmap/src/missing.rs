//! What is missing, in words: which ids, and the line to add to which file.
#![forbid(unsafe_code)]

use cellkit_core::Error;

use crate::id_kind::IdKind;
use crate::user::User;
use crate::{IdRange, SubIds};

/// Ranges are given away by this many.
const STEP: u32 = 65_536;

/// `uids 100000 to 165535`.
pub(crate) fn span(ids: &str, start: u32, count: u32) -> String {
    match count {
        1 => format!("{ids} {start}"),
        _ => format!("{ids} {start} to {}", start + (count - 1)),
    }
}

/// `the line "ann:100000:65536" to /etc/subuid`.
pub(crate) fn line(kind: IdKind, user: &User, range: IdRange) -> String {
    format!("the line \"{}:{range}\" to {}", user.subid_owner(), kind.subid_file())
}

/// What to do, once it is known which lines are missing.
pub(crate) fn hint(lines: &str, subids: &SubIds) -> String {
    match subids.service() {
        // Where it keeps them, only its administrator knows.
        Some(service) => {
            format!("{service:?} (subid: in /etc/nsswitch.conf) decides, not the files{}", remarks(subids))
        }
        None => format!("as root, add {lines}{}", remarks(subids)),
    }
}

/// Says that there is no range for a user, and what to add. `nested`: in a namespace other than the machine's own.
pub(crate) fn no_range(user: &User, nested: bool, subids: &SubIds) -> Error {
    let bare = || IdKind::BOTH.into_iter().filter(|&kind| subids.ranges(kind).is_empty());
    let owner = user.subid_owner();
    let wanting: Vec<_> = bare().map(|kind| (kind, 1)).collect();
    if wanting.is_empty() {
        let why =
            format!("the ranges of {owner:?} hold no id, beside its own, that exists in the caller's user namespace");
        return Error::invalid("id map", why).with_hint("compare /etc/subuid with /proc/self/uid_map, and so the gids");
    }
    let place = match subids.service() {
        Some(service) => format!("{service:?}"),
        None => bare().map(IdKind::subid_file).collect::<Vec<_>>().join(" and "),
    };
    Error::invalid("id map", format!("{owner:?} has no range of ids in {place}"))
        .with_hint(proposal(&wanting, user, nested, subids))
}

/// Says how many more ids of which kinds are needed, and what to add.
pub(crate) fn too_few(wanting: &[(IdKind, u64)], user: &User, nested: bool, subids: &SubIds) -> Error {
    let counts: Vec<_> = wanting.iter().map(|(kind, count)| format!("{count} more {}", kind.plural())).collect();
    let why = format!("{:?} needs {} than there are to map", user.subid_owner(), counts.join(" and "));
    Error::invalid("id map", why).with_hint(proposal(wanting, user, nested, subids))
}

/// Lines that would give so many ids more of each kind, in whole steps.
fn proposal(wanting: &[(IdKind, u64)], user: &User, nested: bool, subids: &SubIds) -> String {
    let most = wanting.iter().map(|&(_, count)| count).max().unwrap_or_default();
    let in_steps = u32::try_from(most).ok().and_then(|count| count.checked_next_multiple_of(STEP));
    match in_steps.and_then(|count| subids.free_range(count)) {
        // In a nested namespace other ids are free, and which only its maker knows.
        Some(range) if !nested || subids.service().is_some() => {
            let lines: Vec<_> = wanting.iter().map(|&(kind, _)| line(kind, user, range)).collect();
            hint(&lines.join(" and "), subids)
        }
        _ => format!("give it more, from ids that are nobody's: subuid(5){}", remarks(subids)),
    }
}

/// What may explain it: rows that were left out because they make no sense, often the very rows that were meant; and what
/// the service said.
fn remarks(subids: &SubIds) -> String {
    let rows = IdKind::BOTH.into_iter().filter_map(|kind| {
        let line = subids.malformed(kind)?;
        Some(match subids.service() {
            Some(_) => format!("; line {line} of what it says of {} is no range", kind.plural()),
            None => format!("; line {line} of {} is not OWNER:START:COUNT", kind.subid_file()),
        })
    });
    let note = subids.note().map(|note| format!("; {note}"));
    rows.chain(note).collect()
}
