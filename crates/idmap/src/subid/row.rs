//! Rows of `/etc/subuid` and `/etc/subgid`, as the programs of the shadow package read them.
//!
//! Versions of those programs differ in what they make of odd rows: 4.13 reads `010` as eight and `-1` as a very large
//! number, and takes a fourth field; its successors do not; all up to 4.18 take `NAME:0:0` for every id there is. A row
//! that versions read differently gives nothing here, and the errors that follow from that name its line.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::{IdRange, decimal};

/// A row: of whom, and which ids.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) owner: &'a [u8],
    /// `None` for a row that is not `OWNER:START:COUNT`.
    pub(super) range: Option<IdRange>,
}

/// A row of this many bytes is not read by anybody.
const TOO_LONG: usize = 1024;

/// The rows of one file. What has no colon is no row, and neither is a comment, nor what belongs to the compat service.
pub(super) fn rows(content: &[u8]) -> impl Iterator<Item = Row<'_>> {
    content.split(|&byte| byte == b'\n').enumerate().filter_map(|(index, text)| {
        let colon = text.iter().position(|&byte| byte == b':')?;
        let (owner, rest) = text.split_at(colon);
        let plain = owner.first().is_some_and(|first| !b"#+-".contains(first));
        let range = if text.len() < TOO_LONG { numbers(rest) } else { None };
        plain.then_some(Row { line: index + 1, owner, range })
    })
}

/// The line of the first NUL byte: C reads on across it, into the next line, and nobody should rely on what comes out.
pub(super) fn nul_line(content: &[u8]) -> Option<usize> {
    let nul = content.iter().position(|&byte| byte == 0)?;
    Some(content.iter().take(nul).filter(|&&byte| byte == b'\n').count() + 1)
}

/// The two numbers of `:START:COUNT`, if they are a range.
fn numbers(rest: &[u8]) -> Option<IdRange> {
    let mut fields = std::str::from_utf8(rest).ok()?.strip_prefix(':')?.split(':');
    let (start, count, None) = (number(fields.next()?)?, number(fields.next()?)?, fields.next()) else { return None };
    range(start, count)
}

/// A number without leading zeros.
pub(super) fn number(text: &str) -> Option<u32> {
    if text.len() > 1 && text.starts_with('0') { None } else { decimal::parse(text) }
}

/// A range that may reach 4294967295, which is no id and so is left out.
pub(super) fn range(start: u32, count: u32) -> Option<IdRange> {
    match start.checked_add(count) {
        Some(end) => IdRange::between(start, end),
        // One past 4294967295 is the one sum that wraps to nothing.
        None if start.wrapping_add(count) == 0 => IdRange::between(start, u32::MAX),
        None => None,
    }
}

/// Ids that were given, each once.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// In the order in which they were given, none overlapping another.
    pub(super) ranges: Vec<IdRange>,
    /// The same: start -> end, not overlapping, not touching.
    taken: BTreeMap<u32, u32>,
}

impl Given {
    /// Adds what is new in `range`, lowest part first.
    pub(super) fn add(&mut self, range: IdRange) {
        let (mut start, mut end) = (range.start(), range.end());
        let mut next = range.start();
        // Entries do not overlap, so only the last that begins at or before the range can reach into it from below.
        let from = match self.taken.range(..=start).next_back() {
            Some((&low, &high)) if high >= start => low,
            _ => start,
        };
        let touching: Vec<(u32, u32)> = self.taken.range(from..=end).map(|(&low, &high)| (low, high)).collect();
        for (low, high) in touching {
            self.ranges.extend(IdRange::between(next, low));
            next = high;
            start = start.min(low);
            end = end.max(high);
            self.taken.remove(&low);
        }
        self.ranges.extend(IdRange::between(next, range.end()));
        self.taken.insert(start, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_id_there_is_and_the_one_that_is_none() {
        let shown = |start, count| range(start, count).map(|range| range.to_string());
        assert_eq!(shown(4_294_967_290, 5).as_deref(), Some("4294967290:5"));
        assert_eq!(shown(4_294_967_290, 6).as_deref(), Some("4294967290:5"));
        assert_eq!(shown(4_294_967_290, 7), None);
        assert_eq!(shown(0, u32::MAX).as_deref(), Some("0:4294967295"));
        assert_eq!(shown(1, u32::MAX).as_deref(), Some("1:4294967294"));
        assert_eq!(shown(2, u32::MAX), None);
        assert_eq!(shown(u32::MAX, 1), None);
        assert_eq!(shown(u32::MAX, 0), None);
        assert_eq!(shown(0, 0), None);
    }

    #[test]
    fn nul_bytes_are_found_with_their_line() {
        assert_eq!(nul_line(b"a:1:1\nb:2:2\n"), None);
        assert_eq!(nul_line(b"a:1:1\nb:2\0:2\n\0"), Some(2));
        assert_eq!(nul_line(b"\0"), Some(1));
    }
}
