//! What a map means, in the plainest words: triples looked through from the first to the last, in 64 bits. Nothing here
//! sorts, cuts or searches, and nothing is the code under test.
#![forbid(unsafe_code)]

/// Inside, outside, count.
pub(crate) type Triple = (u32, u32, u32);

/// The id outside that `id` is.
pub(crate) fn outside(map: &[Triple], id: u32) -> Option<u32> {
    map.iter().find_map(|&(inside, outside, count)| other_side(id, inside, outside, count))
}

/// The id inside that `id` is.
pub(crate) fn inside(map: &[Triple], id: u32) -> Option<u32> {
    map.iter().find_map(|&(inside, outside, count)| other_side(id, outside, inside, count))
}

fn other_side(id: u32, from: u32, to: u32, count: u32) -> Option<u32> {
    let (id, from, to, count) = (u64::from(id), u64::from(from), u64::from(to), u64::from(count));
    (from <= id && id < from + count).then(|| u32::try_from(to + (id - from)).expect("an id"))
}

/// The rules that user_namespaces(7) states for the lines of a map, but for how many there may be: no line is empty or
/// reaches 4294967295 on a side, and no two overlap on a side.
pub(crate) fn is_a_map(raw: &[Triple]) -> bool {
    let ends = |first: u32, count: u32| u64::from(first) + u64::from(count);
    let whole = |&(inside, outside, count): &Triple| {
        count > 0 && ends(inside, count) <= u64::from(u32::MAX) && ends(outside, count) <= u64::from(u32::MAX)
    };
    let apart = |a: u32, a_count: u32, b: u32, b_count: u32| {
        ends(a, a_count) <= u64::from(b) || ends(b, b_count) <= u64::from(a)
    };
    let pair = |a: &Triple, b: &Triple| apart(a.0, a.2, b.0, b.2) && apart(a.1, a.2, b.1, b.2);
    raw.iter().all(whole) && raw.iter().enumerate().all(|(n, a)| raw[n + 1..].iter().all(|b| pair(a, b)))
}

/// The kernel's rule for a nested map: each line of `child` lies outside within one line of `parent` inside.
pub(crate) fn is_within(child: &[Triple], parent: &[Triple]) -> bool {
    child.iter().all(|&(_, first, count)| {
        parent.iter().any(|&(inside, _, ids)| {
            u64::from(inside) <= u64::from(first)
                && u64::from(first) + u64::from(count) <= u64::from(inside) + u64::from(ids)
        })
    })
}

/// The kernel's text.
pub(crate) fn text(map: &[Triple]) -> String {
    map.iter().map(|(inside, outside, count)| format!("{inside} {outside} {count}\n")).collect()
}
