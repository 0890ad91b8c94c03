//! A tar archive as a row of entries.
//!
//! # Theory of operation
//!
//! An archive is a row of blocks of 512 bytes. An entry is a header, of one block, and its content, padded to whole blocks.
//! Thirty years have added to that: names longer than 100 bytes (GNU `L` and `K`, PAX `path`), numbers larger than 11
//! octal digits (base 256, PAX `size`), attributes (PAX `SCHILY.xattr.`), and four ways to write a file with holes. Most are
//! an entry of their own before the one they are about.
//!
//! Where two places say the same thing and differ, programs differ in which they believe, and what one of them skips as
//! content is an entry to the other: so files have been smuggled past scanners. This reader follows POSIX where all readers
//! agree, and where they do not, **it refuses the archive** rather than choose:
//!
//! * a size in a PAX header and another in the entry's own header, unless that is 0 or cannot hold it;
//! * content announced for what has none (a link, a directory, a device);
//! * both a GNU and a PAX name, which differ; two headers of a sort before one entry; a header before no entry;
//! * a PAX header for all entries (`g`) that says anything which would change one;
//! * anything but zeros after the end, and an end without a block of zeros.
//!
//! Nothing is believed before it is checked: lengths against the limits before memory is taken for them, the map of a file
//! with holes against what is stored. Memory is one buffer, and what one entry's headers say.
#![forbid(unsafe_code)]

mod header;
mod pax;
mod sparse;

use std::ffi::{CString, OsStr};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cellkit_core::{Error, Result};

use self::header::{BLOCK, Header, Number};
use self::pax::Extended;
pub(crate) use self::sparse::Chunk;
use super::limits::Limits;

/// How much is read at once: large enough that a file of usual size is one write.
const BUFFER: usize = 128 << 10;

/// What an entry makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// Seconds and nanoseconds since 1970; before it the seconds are negative, the nanoseconds never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// One entry: all that its headers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// As the archive has it: absolute or not, with `.`, `..` and `//`, never with a NUL byte.
    pub(crate) path: Vec<u8>,
    /// What a link names, without a NUL byte.
    pub(crate) link: Vec<u8>,
    /// Permission bits and suid, sgid, sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) modified: Time,
    pub(crate) device: (u32, u32),
    /// The size of the file with its holes.
    pub(crate) size: u64,
    /// Where the content goes, in the order it is stored; `None` for a file without holes.
    pub(crate) chunks: Option<Vec<Chunk>>,
    /// Sorted by name, each name once.
    pub(crate) xattrs: Vec<(CString, Vec<u8>)>,
}

impl Entry {
    /// As errors show it.
    pub(crate) fn shown(&self) -> PathBuf {
        Path::new(OsStr::from_bytes(self.path.get(..512).unwrap_or(&self.path))).to_owned()
    }
}

/// The entries of an archive, one after the other.
#[derive(Debug)]
pub(crate) struct Archive<R> {
    reader: R,
    limits: Limits,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// What was taken from the reader, at most `limits.bytes`.
    read: u64,
    /// What is left of the entry's content, and of its padding.
    content: u64,
    padding: u64,
    entries: u64,
    sizes: u64,
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(reader: R, limits: Limits) -> Self {
        Self {
            reader,
            limits,
            buffer: vec![0; BUFFER].into(),
            start: 0,
            end: 0,
            read: 0,
            content: 0,
            padding: 0,
            entries: 0,
            sizes: 0,
        }
    }

    /// How far into the archive the reading is: after [`next`](Self::next), where the entry's content begins.
    pub(crate) fn position(&self) -> u64 {
        self.read.saturating_sub((self.end - self.start) as u64)
    }

    /// Entries so far.
    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    /// The next entry, into `entry`; false at the end of the archive, after which there is nothing but zeros. What is left
    /// of the content of the one before is skipped.
    pub(crate) fn next(&mut self, entry: &mut Entry) -> Result<bool> {
        self.skip(self.content.saturating_add(self.padding))?;
        (self.content, self.padding) = (0, 0);
        let mut extended = Extended::default();
        let mut seen = Seen::default();
        loop {
            let Some(block) = self.block("a header")? else {
                return Err(torn("the archive ends without its mark for the end"));
            };
            if block.iter().all(|&byte| byte == 0) {
                if seen != Seen::default() {
                    return Err(torn("the archive ends after a header that is for a next entry"));
                }
                self.rest_is_zeros()?;
                return Ok(false);
            }
            let header = Header::new(&block)?;
            match header.flag() {
                b'x' | b'X' => {
                    seen.mark(&mut |seen| &mut seen.pax, "two PAX headers")?;
                    let body = self.body(&header)?;
                    extended.parse(&body, &self.limits)?;
                }
                b'g' => {
                    let body = self.body(&header)?;
                    pax::refuse_global(&body)?;
                }
                b'L' => {
                    seen.mark(&mut |seen| &mut seen.long_name, "two long names")?;
                    extended.long_name = Some(text(self.body(&header)?, "a long name")?);
                }
                b'K' => {
                    seen.mark(&mut |seen| &mut seen.long_link, "two long link names")?;
                    extended.long_link = Some(text(self.body(&header)?, "a long link name")?);
                }
                // The label of a volume, which GNU tar puts first.
                b'V' => {
                    let size = header.size()?;
                    self.skip(padded(size))?;
                }
                _ => {
                    self.entry(&header, extended, entry)?;
                    return Ok(true);
                }
            }
        }
    }

    /// Puts together what the headers say.
    fn entry(&mut self, header: &Header<'_>, mut extended: Extended, entry: &mut Entry) -> Result<()> {
        entry.path = pick(extended.path.take(), extended.long_name.take(), "names")?.unwrap_or_else(|| header.path());
        entry.link = pick(extended.link.take(), extended.long_link.take(), "links")?.unwrap_or_else(|| header.link());
        self.fill_entry(header, extended, entry).map_err(|error| error.on(entry.shown()))
    }

    fn fill_entry(&mut self, header: &Header<'_>, mut extended: Extended, entry: &mut Entry) -> Result<()> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(limit(format!("the layer has more than {} entries", self.limits.entries)));
        }
        if entry.path.len().max(entry.link.len()) > self.limits.path {
            return Err(limit(format!("a path in the layer is longer than {} bytes", self.limits.path)));
        }
        entry.mode = header.mode()?;
        entry.uid = header.id(Number::UID, extended.uid)?;
        entry.gid = header.id(Number::GID, extended.gid)?;
        entry.modified = match extended.modified {
            Some(time) => time,
            None => header.modified()?,
        };
        entry.xattrs = std::mem::take(&mut extended.xattrs);
        entry.device = (0, 0);
        entry.chunks = None;
        let stored = stored_size(header.size()?, extended.size)?;
        entry.size = stored;
        entry.kind = match header.flag() {
            // Before POSIX, a directory was a file whose name ends so.
            0 | b'0' if entry.path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            flag => {
                let why = format!("an entry of a type that is not known here: {:?}", char::from(flag));
                return Err(Error::parse("tar", why));
            }
        };
        if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
            entry.device = header.device()?;
        }
        if entry.kind != Kind::File {
            if stored != 0 || extended.sparse.is_some() {
                let why =
                    format!("what can have no content is said to have {stored} bytes: readers disagree what follows");
                return Err(Error::parse("tar", why));
            }
            return Ok(());
        }
        self.check_size(stored)?;
        self.content = stored;
        self.padding = padded(stored) - stored;
        let map = match header.flag() {
            b'S' => Some(sparse::old_gnu(self, header)?),
            _ => extended.sparse.take().map(|map| map.read(self)).transpose()?,
        };
        if let Some((size, chunks)) = map {
            sparse::check(size, &chunks, self.content)?;
            entry.size = size;
            entry.chunks = Some(chunks);
        }
        self.sizes = self.sizes.saturating_add(entry.size);
        self.check_size(self.sizes)
    }

    fn check_size(&self, size: u64) -> Result<()> {
        if size > self.limits.bytes {
            return Err(limit(format!("the files of the layer have more than {} bytes", self.limits.bytes)));
        }
        Ok(())
    }

    /// What of the entry's content is at hand, never empty before its end; the padding follows by itself. [`used`](Self::used)
    /// says how much of it was.
    pub(crate) fn content(&mut self) -> Result<&[u8]> {
        if self.content == 0 {
            return Ok(&[]);
        }
        if self.start == self.end && self.fill()? == 0 {
            return Err(torn("the archive ends within a file"));
        }
        let there = self.buffer.get(self.start..self.end).unwrap_or_default();
        let most = usize::try_from(self.content).unwrap_or(usize::MAX).min(there.len());
        Ok(there.get(..most).unwrap_or_default())
    }

    /// So much of [`content`](Self::content) was used.
    pub(crate) fn used(&mut self, bytes: usize) {
        self.start += bytes;
        self.content = self.content.saturating_sub(bytes as u64);
    }

    /// The content of a header that is an entry of its own.
    fn body(&mut self, header: &Header<'_>) -> Result<Vec<u8>> {
        let size = header.size()?;
        let most = self.limits.header();
        let Some(length) = usize::try_from(size).ok().filter(|&length| length <= most) else {
            return Err(limit(format!("a header of the archive has {size} bytes, more than {most}")));
        };
        let mut body = Vec::with_capacity(length.min(BUFFER));
        while body.len() < length {
            if self.start == self.end && self.fill()? == 0 {
                return Err(torn("the archive ends within a header"));
            }
            let there = self.buffer.get(self.start..self.end).unwrap_or_default();
            let part = there.get(..there.len().min(length - body.len())).unwrap_or_default();
            body.extend_from_slice(part);
            self.start += part.len();
        }
        self.skip(padded(size) - size)?;
        Ok(body)
    }

    /// One block; `None` at the end of the stream.
    fn block(&mut self, of: &'static str) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut length = 0;
        while length < BLOCK {
            if self.start == self.end && self.fill()? == 0 {
                if length == 0 {
                    return Ok(None);
                }
                return Err(torn(format!("the archive ends within {of}")));
            }
            let there = self.buffer.get(self.start..self.end).unwrap_or_default();
            let part = there.get(..there.len().min(BLOCK - length)).unwrap_or_default();
            if let Some(place) = block.get_mut(length..length + part.len()) {
                place.copy_from_slice(part);
            }
            length += part.len();
            self.start += part.len();
        }
        Ok(Some(block))
    }

    /// A block of the entry's content that is about it, not in it.
    fn block_of_content(&mut self) -> Result<[u8; BLOCK]> {
        let block =
            self.block("the map of a file with holes")?.ok_or_else(|| torn("the archive ends within a file"))?;
        Ok(block)
    }

    fn skip(&mut self, mut bytes: u64) -> Result<()> {
        while bytes > 0 {
            if self.start == self.end && self.fill()? == 0 {
                return Err(torn("the archive ends within an entry"));
            }
            let there = self.end - self.start;
            let part = usize::try_from(bytes).unwrap_or(usize::MAX).min(there);
            self.start += part;
            bytes -= part as u64;
        }
        Ok(())
    }

    fn rest_is_zeros(&mut self) -> Result<()> {
        loop {
            let rest = self.buffer.get(self.start..self.end).unwrap_or_default();
            if rest.iter().any(|&byte| byte != 0) {
                return Err(Error::parse(
                    "tar",
                    "something follows the end of the archive: readers disagree whether it counts",
                ));
            }
            self.start = self.end;
            if self.fill()? == 0 {
                return Ok(());
            }
        }
    }

    /// Reads more; 0 at the end of the stream. Only when the buffer is used up.
    fn fill(&mut self) -> Result<usize> {
        loop {
            match self.reader.read(&mut self.buffer) {
                Ok(read) => {
                    self.read = self.read.saturating_add(read as u64);
                    if self.read > self.limits.bytes {
                        return Err(limit(format!("the layer unpacks to more than {} bytes", self.limits.bytes)));
                    }
                    (self.start, self.end) = (0, read);
                    return Ok(read);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(super::decompress::explain(error)),
            }
        }
    }
}

/// Which headers came before this entry.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    pax: bool,
    long_name: bool,
    long_link: bool,
}

impl Seen {
    fn mark(&mut self, which: &mut dyn FnMut(&mut Self) -> &mut bool, twice: &str) -> Result<()> {
        if std::mem::replace(which(self), true) {
            return Err(Error::parse("tar", format!("{twice} before one entry: readers disagree which counts")));
        }
        Ok(())
    }
}

/// `size` with the bytes that fill its last block.
fn padded(size: u64) -> u64 {
    size.div_ceil(BLOCK as u64).saturating_mul(BLOCK as u64)
}

/// How many bytes of content follow a header.
fn stored_size(own: u64, pax: Option<u64>) -> Result<u64> {
    /// What eleven octal digits can say at most.
    const FULL: u64 = 0o77_777_777_777;
    match pax {
        None => Ok(own),
        Some(size) if own == size || own == 0 || (own == FULL && size > FULL) => Ok(size),
        Some(size) => {
            let why = format!("the header says {own} bytes and the PAX header {size}: readers disagree what follows");
            Err(Error::parse("tar", why))
        }
    }
}

/// A name by PAX or by GNU's own header.
fn pick(pax: Option<Vec<u8>>, gnu: Option<Vec<u8>>, what: &str) -> Result<Option<Vec<u8>>> {
    match (pax, gnu) {
        (Some(pax), Some(gnu)) if pax != gnu => Err(Error::parse(
            "tar",
            format!("a PAX and a GNU header with different {what}: readers disagree which counts"),
        )),
        (Some(name), _) | (None, Some(name)) => Ok(Some(name)),
        (None, None) => Ok(None),
    }
}

/// The text of a GNU header, which ends in NUL.
fn text(mut body: Vec<u8>, what: &str) -> Result<Vec<u8>> {
    let end = body.iter().position(|&byte| byte == 0).unwrap_or(body.len());
    if body.iter().skip(end).any(|&byte| byte != 0) {
        return Err(Error::parse("tar", format!("{what} has a NUL byte in it")));
    }
    body.truncate(end);
    Ok(body)
}

fn torn(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::parse("tar", why).with_hint("the layer is not whole: fetch it again")
}

pub(crate) fn limit(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::limit("apply", why).with_hint("a layer that is trusted may have more: see layers::Limits")
}

#[cfg(test)]
mod tests;
