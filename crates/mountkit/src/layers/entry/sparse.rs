//! Files with holes: where the stored content goes.
//!
//! GNU tar has written them in four ways: in the header and blocks after it (`S`), and as PAX records: one for each number
//! (0.0), all in one (0.1), or in the first blocks of the content (1.0).
#![forbid(unsafe_code)]

use std::io::Read;

use cellkit_core::{Error, Result};

use super::header::{BLOCK, Header, Number, natural};
use super::{Archive, limit, pax};

/// The most parts a file may have: the map is kept in memory.
const MOST: usize = 1 << 17;

/// A part of a file that is not a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// What the PAX records of a file with holes say.
#[derive(Debug, Default)]
pub(super) struct SparseMap {
    major: Option<u64>,
    minor: Option<u64>,
    size: Option<u64>,
    chunks: Vec<Chunk>,
    /// Of 0.0: an offset that waits for its length.
    offset: Option<u64>,
}

impl SparseMap {
    /// One record `GNU.sparse.KEY`.
    pub(super) fn record(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let number = || pax::decimal(value).ok_or_else(|| refuse("a number in it is none"));
        match key {
            b"major" => self.major = Some(number()?),
            b"minor" => self.minor = Some(number()?),
            b"size" | b"realsize" => self.size = Some(number()?),
            b"offset" => {
                let waiting = self.offset.replace(number()?);
                if waiting.is_some() {
                    return Err(refuse("an offset without a length"));
                }
            }
            b"numbytes" => {
                let offset = self.offset.take().ok_or_else(|| refuse("a length without an offset"))?;
                push(&mut self.chunks, Chunk { offset, length: number()? })?;
            }
            b"map" => {
                self.chunks = pax::pairs(value).ok_or_else(|| refuse("its map is not made of pairs"))?;
                if self.chunks.len() > MOST {
                    return Err(too_many());
                }
            }
            // `numblocks`, which the map itself tells.
            _ => {}
        }
        Ok(())
    }

    /// The file's size and its parts; of 1.0 they are read from the content.
    pub(super) fn read<R: Read>(self, archive: &mut Archive<R>) -> Result<(u64, Vec<Chunk>)> {
        let size = self.size.ok_or_else(|| refuse("its size is missing"))?;
        match (self.major, self.minor) {
            (None | Some(0), None | Some(0 | 1)) if self.offset.is_none() => Ok((size, self.chunks)),
            (Some(1), Some(0)) if self.chunks.is_empty() => Ok((size, from_content(archive)?)),
            _ => Err(refuse("a version that is not known here")),
        }
    }
}

/// A map at the beginning of the content: numbers in lines, the count of pairs first, padded to a block.
fn from_content<R: Read>(archive: &mut Archive<R>) -> Result<Vec<Chunk>> {
    let mut numbers = Numbers { archive, block: [0; BLOCK], at: BLOCK };
    let count = usize::try_from(numbers.next()?).ok().filter(|&count| count <= MOST).ok_or_else(too_many)?;
    let mut chunks = Vec::new();
    for _ in 0..count {
        chunks.push(Chunk { offset: numbers.next()?, length: numbers.next()? });
    }
    Ok(chunks)
}

struct Numbers<'a, R> {
    archive: &'a mut Archive<R>,
    block: [u8; BLOCK],
    at: usize,
}

impl<R: Read> Numbers<'_, R> {
    fn next(&mut self) -> Result<u64> {
        let mut digits = Vec::new();
        loop {
            let Some(&byte) = self.block.get(self.at) else {
                self.archive.content = self
                    .archive
                    .content
                    .checked_sub(BLOCK as u64)
                    .ok_or_else(|| refuse("its map is longer than its content"))?;
                self.block = self.archive.block_of_content()?;
                self.at = 0;
                continue;
            };
            self.at += 1;
            match byte {
                b'\n' => return pax::decimal(&digits).ok_or_else(|| refuse("a number in it is none")),
                digit if digits.len() < 20 => digits.push(digit),
                _ => return Err(refuse("a number in it is none")),
            }
        }
    }
}

/// As GNU tar first wrote it: four parts in the header, and 21 in each block after it that the one before announces.
pub(super) fn old_gnu<R: Read>(archive: &mut Archive<R>, header: &Header<'_>) -> Result<(u64, Vec<Chunk>)> {
    let size = header.natural(Number::REAL_SIZE)?;
    let mut chunks = Vec::new();
    let mut more = table(header.block(), 386, 4, &mut chunks)?;
    while more {
        // These blocks are beside the content, which the header's size does not count them to.
        let block = archive.block_of_content()?;
        more = table(&block, 0, 21, &mut chunks)?;
    }
    Ok((size, chunks))
}

/// The parts in one block, and whether another block follows.
fn table(block: &[u8; BLOCK], start: usize, count: usize, chunks: &mut Vec<Chunk>) -> Result<bool> {
    for at in (start..).step_by(24).take(count) {
        // The first unused one ends the table.
        if block.get(at + 12..at + 24).is_none_or(|length| length.iter().all(|&byte| byte == 0)) {
            break;
        }
        let (offset, length) = (natural(block, Number::at(at))?, natural(block, Number::at(at + 12))?);
        push(chunks, Chunk { offset, length })?;
    }
    Ok(block.get(start + 24 * count).is_some_and(|&byte| byte != 0))
}

fn push(chunks: &mut Vec<Chunk>, chunk: Chunk) -> Result<()> {
    if chunks.len() == MOST {
        return Err(too_many());
    }
    chunks.push(chunk);
    Ok(())
}

/// The parts follow one another, end within the file, and hold exactly what is stored.
pub(super) fn check(size: u64, chunks: &[Chunk], stored: u64) -> Result<()> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for chunk in chunks {
        if chunk.offset < end {
            return Err(refuse("its parts overlap or are out of order"));
        }
        end = chunk.offset.checked_add(chunk.length).ok_or_else(|| refuse("a part of it ends nowhere"))?;
        sum = sum.saturating_add(chunk.length);
    }
    if end > size {
        return Err(refuse("a part of it is behind its end"));
    }
    if sum != stored {
        return Err(refuse("its parts are not as long as what is stored of it"));
    }
    Ok(())
}

fn refuse(why: &str) -> Error {
    Error::parse("tar", format!("a file with holes: {why}"))
}

fn too_many() -> Error {
    limit(format!("a file with holes has more than {MOST} parts"))
}
