//! Where a file has data, and where nothing but zeros that take no place.
#![forbid(unsafe_code)]

use std::fs::File;

use cellkit_core::Errno;

use crate::sys::upper;

/// A part of a file that is not a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// More parts than this are not told apart: the rest of the file is one.
const MOST: usize = 10_000;

/// The parts of `file` with data, by lseek(2) with SEEK_DATA and SEEK_HOLE; one of all of it where its file system knows
/// none.
pub(super) fn segments(file: &File, size: u64) -> Result<Vec<Segment>, Errno> {
    between(size, |from, whence| upper::seek(file, from, whence))
}

/// `seek` may answer anything: a file system in user space is who wrote it.
fn between(size: u64, seek: impl Fn(u64, i32) -> Result<Option<u64>, Errno>) -> Result<Vec<Segment>, Errno> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < size {
        let offset = match seek(at, libc::SEEK_DATA) {
            Ok(Some(offset)) => offset.max(at),
            Ok(None) => break,
            Err(Errno(libc::EINVAL)) => at,
            Err(errno) => return Err(errno),
        };
        let end = match seek(offset, libc::SEEK_HOLE) {
            Ok(end) => end.unwrap_or(size),
            Err(Errno(libc::EINVAL)) => size,
            Err(errno) => return Err(errno),
        };
        // It may have grown since its size was asked for.
        let end = if found.len() + 1 == MOST { size } else { end.min(size) };
        if offset >= end {
            break;
        }
        found.push(Segment { offset, length: end - offset });
        at = end;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_follow_one_another_whatever_is_answered(size in 0..1000_u64, answers: Vec<Option<u16>>) {
            let answers = std::cell::RefCell::new(answers);
            let seek = |_, _| match answers.borrow_mut().pop() {
                Some(answer) => Ok(answer.map(|at| u64::from(at) % 1100)),
                None => Err(Errno(libc::EIO)),
            };
            let mut end = 0;
            for part in between(size, seek).unwrap_or_default() {
                prop_assert!(part.offset >= end && part.length > 0 && part.offset + part.length <= size);
                end = part.offset + part.length;
            }
        }
    }
}
