//! The numbers of a file of events, read again and again by the same descriptor.
#![forbid(unsafe_code)]

use std::fs::File;
use std::os::unix::fs::FileExt;

use cellkit_core::Errno;

use super::event::{Counter, EventFile};

/// As many as the file with the most counters has.
pub(super) const MOST: usize = 7;

/// In the order of [`EventFile::counters`]; those that the kernel does not count are 0.
pub(super) type Counts = [u64; MOST];

/// pread(2) of the whole file, which also arms the poll: it answers to changes after it.
pub(super) fn read_text<'a>(file: &File, buffer: &'a mut [u8; 4096]) -> Result<&'a [u8], Errno> {
    loop {
        match file.read_at(buffer, 0) {
            Ok(length) => return Ok(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Errno(error.raw_os_error().unwrap_or(libc::EIO))),
        }
    }
}

pub(super) fn read_counts(file: &File, kind: EventFile, buffer: &mut [u8; 4096]) -> Result<Counts, Errno> {
    read_text(file, buffer).map(|text| parse_counts(text, kind))
}

/// A key that is not there counts nothing: older kernels have fewer.
fn parse_counts(text: &[u8], kind: EventFile) -> Counts {
    let mut counts = [0; MOST];
    for (key, value) in lines(text) {
        let known = kind.counters().iter().position(|counter| counter.key().as_bytes() == key);
        if let Some(count) = known.and_then(|index| counts.get_mut(index)) {
            *count = value;
        }
    }
    counts
}

/// `KEY NUMBER` of each line.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    text.split(|byte| *byte == b'\n').filter_map(|line| {
        let space = line.iter().position(|byte| *byte == b' ')?;
        let (key, value) = line.split_at_checked(space)?;
        Some((key, std::str::from_utf8(value).ok()?.trim().parse().ok()?))
    })
}

/// What a counter went up by. One that is smaller than before was started anew by the kernel (the controller was disabled
/// and enabled again), and all of it is new.
pub(super) fn risen(before: u64, now: u64) -> u64 {
    if now < before { now } else { now - before }
}

pub(super) fn each(kind: EventFile, counts: &Counts) -> impl Iterator<Item = (Counter, u64)> {
    kind.counters().iter().copied().zip(counts.iter().copied())
}

/// `op` of each pair.
pub(super) fn zip(a: &Counts, b: &Counts, op: impl Fn(u64, u64) -> u64) -> Counts {
    let mut all = *a;
    all.iter_mut().zip(b).for_each(|(a, b)| *a = op(*a, *b));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn older_and_newer_kernels() {
        let old = parse_counts(b"low 0\nhigh 1\nmax 7\noom 2\noom_kill 1\n", EventFile::MemoryEvents);
        assert_eq!(old, [0, 1, 7, 2, 1, 0, 0]);
        let new = parse_counts(
            b"low 0\nhigh 1\nmax 7\noom 2\noom_kill 1\noom_group_kill 4\nsock_throttled 5\nx 6\n",
            EventFile::MemoryEvents,
        );
        assert_eq!(new, [0, 1, 7, 2, 1, 4, 5]);
        assert_eq!(parse_counts(b"max 3\n", EventFile::PidsEvents), [3, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_counter_that_began_again() {
        assert_eq!((risen(3, 3), risen(3, 5), risen(5, 2), risen(5, 0)), (0, 2, 2, 0));
    }

    #[test]
    fn no_file_has_more_than_there_is_room_for() {
        assert!(EventFile::ALL.iter().all(|file| file.counters().len() <= MOST));
        assert!(EventFile::ALL.iter().all(|file| file.counters().iter().all(|counter| counter.file() == *file)));
    }

    proptest! {
        #[test]
        fn no_text_panics(text: Vec<u8>) {
            parse_counts(&text, EventFile::MemoryEvents);
        }
    }
}
