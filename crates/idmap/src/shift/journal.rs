//! What a shift writes down, so that it can be made again after it was killed.
//!
//! ```text
//!   cellkit shift 1 tree 254:1:4711 uids 0:100000:65536 gids 0:100000:65536 aside none none
//!   kept 254:1:4720 1700000000.5 4755 none
//!   kept 254:1:4733 1700000000.5 755 0100000300...
//!   step
//!   done
//! ```
//!
//! The first line says which shift this is; another one is refused. A `kept` line is written before the change of owner
//! that takes a file's setuid and setgid bits and its capabilities away, and says what the file has in the end. `step`
//! ends the first of two steps (see `renumbering.rs`), and `done` the last. A line counts when its end is there.
//!
//! What was written is in the kernel's hands, and outlives the process. Whoever wants it to outlive the machine opens the
//! file with O_DSYNC.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::Mutex;

use cellkit_core::{Error, Result, Subject};

use super::dir::locked;
use super::renumbering::Renumbering;
use crate::hint::HINTS;
use crate::sys::tree::{self, Inode};
use crate::{Extent, IdMap};

/// What a file has in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) mode: u32,
    /// The value of security.capability.
    pub(crate) capability: Option<Vec<u8>>,
}

/// How far an earlier run came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// It wrote nothing.
    Nowhere,
    /// So many steps ended. The shared ids of uids and gids are set aside as these.
    To { steps: usize, aside: [Vec<Extent>; 2] },
    /// To the end.
    Done,
}

/// The file, locked.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    /// Where the next line goes.
    end: Mutex<u64>,
    kept: HashMap<Inode, Kept>,
}

fn fail(operation: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::from_io(operation, &error).on(journal()).with_hints(&HINTS)
}

fn journal() -> Subject {
    Subject::Thing("the journal".into())
}

impl Journal {
    /// Reads what an earlier run of the same shift of the same tree left.
    pub(crate) fn open(fd: BorrowedFd<'_>, root: Inode, maps: [&Renumbering; 2]) -> Result<(Self, Came)> {
        let owned = fd.try_clone_to_owned().map_err(fail("fcntl F_DUPFD_CLOEXEC"))?;
        let file = File::from(owned);
        if !file.metadata().map_err(fail("fstat"))?.is_file() {
            return Err(Error::invalid("shift", "it is not a regular file").on(journal()));
        }
        tree::lock(file.as_fd()).map_err(|errno| match errno.0 {
            libc::EWOULDBLOCK => Error::from_errno("flock", libc::EBUSY).on(journal()).with_hints(&HINTS),
            other => Error::from_errno("flock", other).on(journal()),
        })?;
        // From here on, dropping it unlocks it.
        let mut journal = Self { file, end: Mutex::default(), kept: HashMap::new() };
        let content = journal.content()?;
        let whole = content.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let lines = content.get(..whole).unwrap_or_default();
        let text = std::str::from_utf8(lines).map_err(|_| not_ours("it is not text"))?;
        let came = journal.read(text, &head(root, maps))?;
        if whole < content.len() {
            journal.file.set_len(whole as u64).map_err(fail("ftruncate"))?;
        }
        *locked(&journal.end) = whole as u64;
        Ok((journal, came))
    }

    fn content(&self) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.file.read_at(&mut buffer, content.len() as u64).map_err(fail("read"))? {
                0 => return Ok(content),
                length => content.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            }
        }
    }

    fn read(&mut self, text: &str, head: &str) -> Result<Came> {
        let mut lines = text.lines();
        let Some(first) = lines.next() else { return Ok(Came::Nowhere) };
        if !first.starts_with(MAGIC) {
            return Err(not_ours("it was not written by a shift"));
        }
        let aside = first.strip_prefix(head).and_then(aside_of).ok_or_else(|| {
            let why = "it belongs to a shift of another tree or by other maps";
            Error::invalid("shift", why).on(journal()).with_hint("give each shift an empty file of its own")
        })?;
        let (mut steps, mut done) = (0, false);
        for (line, number) in lines.zip(2..) {
            match line {
                "step" => {
                    steps += 1;
                    self.kept.clear();
                }
                "done" => done = true,
                line => {
                    let (inode, kept) =
                        kept_of(line).ok_or_else(|| not_ours(format!("line {number} is not understood")))?;
                    self.kept.insert(inode, kept);
                }
            }
        }
        Ok(if done { Came::Done } else { Came::To { steps, aside } })
    }

    /// Begins.
    pub(crate) fn begin(&self, root: Inode, maps: [&Renumbering; 2], aside: [&[Extent]; 2]) -> Result<()> {
        let [uids, gids] = aside.map(extents_text);
        self.append(&format!("{}{uids} {gids}\n", head(root, maps)))
    }

    /// Writes down what a file has in the end.
    pub(crate) fn keep(&self, inode: Inode, mode: u32, capability: Option<&[u8]>) -> Result<()> {
        self.append(&kept_line(inode, mode, capability))
    }

    pub(crate) fn step_ended(&self) -> Result<()> {
        self.append("step\n")
    }

    pub(crate) fn done(&self) -> Result<()> {
        self.append("done\n")
    }

    /// What an earlier run wrote down in the step that it was in.
    pub(crate) fn kept(&self, inode: &Inode) -> Option<&Kept> {
        if self.kept.is_empty() { None } else { self.kept.get(inode) }
    }

    /// For the next step, in which nothing was kept yet.
    pub(crate) fn forget(&mut self) {
        self.kept.clear();
    }

    fn append(&self, line: &str) -> Result<()> {
        let mut end = locked(&self.end);
        self.file.write_all_at(line.as_bytes(), *end).map_err(fail("write journal"))?;
        *end += line.len() as u64;
        Ok(())
    }
}

impl Drop for Journal {
    /// The lock belongs to the caller's open file, which lives on.
    fn drop(&mut self) {
        tree::unlock(self.file.as_fd());
    }
}

fn not_ours(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::parse("read journal", why).on(journal())
}

const MAGIC: &str = "cellkit shift 1 ";

fn head(root: Inode, [uids, gids]: [&Renumbering; 2]) -> String {
    let ((major, minor), number) = (root.device, root.number);
    format!("{MAGIC}tree {major}:{minor}:{number} uids {} gids {} aside ", uids.text(), gids.text())
}

fn extents_text(extents: &[Extent]) -> String {
    if extents.is_empty() {
        return "none".into();
    }
    extents.iter().map(|extent| extent.colons()).collect::<Vec<_>>().join(",")
}

fn aside_of(text: &str) -> Option<[Vec<Extent>; 2]> {
    let extents = |text: &str| match text {
        "none" => Some(Vec::new()),
        text => text.parse::<IdMap>().ok().map(|map| map.extents().to_vec()),
    };
    let (uids, gids) = text.split_once(' ')?;
    Some([extents(uids)?, extents(gids)?])
}

fn kept_line(inode: Inode, mode: u32, capability: Option<&[u8]>) -> String {
    let ((major, minor), number, (seconds, nanoseconds)) = (inode.device, inode.number, inode.born);
    let mut line = format!("kept {major}:{minor}:{number} {seconds}.{nanoseconds} {mode:o} ");
    match capability {
        None => line.push_str("none"),
        Some(value) => value.iter().for_each(|byte| line.push_str(&format!("{byte:02x}"))),
    }
    line.push('\n');
    line
}

fn kept_of(line: &str) -> Option<(Inode, Kept)> {
    let mut words = line.strip_prefix("kept ")?.split(' ');
    let mut file = words.next()?.split(':');
    let (major, minor, number) = (file.next()?, file.next()?, file.next()?);
    let (seconds, nanoseconds) = words.next()?.split_once('.')?;
    let (mode, capability) = (words.next()?, words.next()?);
    if file.next().is_some() || words.next().is_some() {
        return None;
    }
    let inode = Inode {
        device: (major.parse().ok()?, minor.parse().ok()?),
        number: number.parse().ok()?,
        born: (seconds.parse().ok()?, nanoseconds.parse().ok()?),
    };
    let mode = u32::from_str_radix(mode, 8).ok().filter(|mode| mode & !0o7777 == 0)?;
    let capability = match capability {
        "none" => None,
        hex => Some(bytes_of(hex)?),
    };
    Some((inode, Kept { mode, capability }))
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = hex.as_bytes().split_at(hex.len() / 2 * 2);
    if !rest.is_empty() {
        return None;
    }
    pairs
        .chunks_exact(2)
        .map(|pair| match pair {
            &[high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_that_are_not_ours() {
        for wrong in
            ["", "kept", "kept 1:2:3", "kept 1:2:3 4.5 755", "kept 1:2:3 4.5 17777 none", "kept 1:2:3 4.5 755 abc"]
        {
            assert_eq!(kept_of(wrong), None, "{wrong}");
        }
        assert_eq!(kept_of("kept 1:2:3:4 4.5 755 none"), None);
        assert_eq!(kept_of("kept 1:2:3 4.5 755 none more"), None);
        assert_eq!(aside_of("none"), None);
        assert_eq!(aside_of("none none"), Some([Vec::new(), Vec::new()]));
    }

    proptest! {
        #[test]
        fn what_was_kept_is_read(
            device in any::<(u32, u32)>(),
            number in any::<u64>(),
            born in any::<(i64, u32)>(),
            mode in 0u32..0o10000,
            capability in proptest::option::of(proptest::collection::vec(any::<u8>(), 20..24)),
        ) {
            let inode = Inode { device, number, born };
            let line = kept_line(inode, mode, capability.as_deref());
            prop_assert_eq!(kept_of(line.trim_end()), Some((inode, Kept { mode, capability })));
        }
    }
}
